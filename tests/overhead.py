"""Times what engines add to the work itself, on this machine.

    python tests/overhead.py [--jobs 1000] [--rounds 5] [--batch 16]

Jobs that do nothing: seconds from the first submission to the last result, a job, by this machine's processes and by a
dask cluster on it (extra `cluster`; left out without it). Workers have begun before the clock runs. Then one
fine-tuning run by `torchrun --nproc-per-node 1` and by the plain command, in turn: the medians of the seconds that its
trajectories took. Exit status 1 if torchrun's are more than 3% above.

At last two ranks, each of one thread, against what is expected of them: the seconds of one with half the batch, and an
exchange of gradients, timed by itself, at each optimiser step.
"""

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path

ROOT = Path(__file__).parent.parent
PATHS = [str(ROOT), str(ROOT / "tests")]
sys.path[:0] = PATHS
os.environ["PYTHONPATH"] = os.pathsep.join([*PATHS, os.environ.get("PYTHONPATH", "")])

from bench.lane import Lane, cluster  # noqa: E402
from tests.lane_jobs import Small  # noqa: E402

MOST = 1.03


def a_job(jobs: int, engine: Executor | None) -> float:
    """Seconds."""
    lane = Lane(engine=engine)
    try:
        for future in lane.submit_all([Small(f"first {number}") for number in range(4 * (os.cpu_count() or 1))]):
            lane.wait(future)
        start = time.perf_counter()
        for future in lane.submit_all([Small(str(number)) for number in range(jobs)]):
            lane.wait(future)
        return (time.perf_counter() - start) / jobs
    finally:
        lane.close()


@contextlib.contextmanager
def dask(folder: str) -> Iterator[Executor]:
    """As many workers as there are cores."""
    from distributed import LocalCluster

    options = {"n_workers": os.cpu_count(), "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**options, local_directory=folder) as made, cluster.connected(made.scheduler_address) as engine:
        yield engine


def torchrun(ranks: int) -> list[str]:
    return ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]


def run(launcher: list[str], folder: Path, *options: str) -> list[dict]:
    """The trajectories of a run."""
    sizes = ["--trajectories", "6", "--measure-every", "6", "--prompts", "32", "--out", str(folder)]
    command = [sys.executable, *launcher, "-m", "bench.alignment.finetune", *options, *sizes]
    subprocess.run(command, check=True, capture_output=True)
    return json.loads((folder / "curve.json").read_text())["trajectories"]


def seconds(launcher: list[str], folder: Path, *options: str) -> float:
    """Of a trajectory: the median, without the first, which makes what persists."""
    ends = [point["seconds"] for point in run(launcher, folder, *options)]
    return statistics.median(end - before for before, end in itertools.pairwise(ends))


def exchange(file: Path) -> float:
    """Seconds in which two ranks exchange as many bytes as a file has."""
    command = [sys.executable, *torchrun(2), str(ROOT / "tests" / "ranks.py"), str(file), "--exchange"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def scaling(folder: Path, batch: int) -> None:
    """EasyTune's trajectories, which have most optimiser steps."""
    options = ["--method", "easytune", "--steps", "5", "--batch"]
    whole = seconds([], folder / "whole", *options, str(batch))
    half = seconds([], folder / "half", *options, str(batch // 2))
    two = seconds(torchrun(2), folder / "two", *options, str(batch))
    parts = seconds(torchrun(2), folder / "parts", *options, str(batch), "--sharding", "fsdp2")
    gradients = folder / "whole" / "denoiser.safetensors"
    once, updates = exchange(gradients), run([], folder / "half", *options, str(batch // 2))[0]["updates"]
    print(f"seconds of a trajectory of {batch} prompts, {updates} optimiser steps")
    print(f"  one rank: {whole:.3f}; with half of them: {half:.3f}")
    print(f"  an exchange of {gradients.stat().st_size / 2**20:.1f} MiB of gradients: {once:.4f}")
    print(f"  two ranks, expected: {half + updates * once:.3f}; seen: {two:.3f}; by fsdp2: {parts:.3f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000, help="that do nothing (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="of the two commands (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=16, help="prompts of two ranks (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(f"local: {1e3 * a_job(options.jobs, None):.2f} ms a job", flush=True)
        try:
            with dask(folder) as engine:
                print(f"dask: {1e3 * a_job(options.jobs, engine):.2f} ms a job", flush=True)
        except ImportError:
            print("dask: not installed")
        times: dict[str, list[float]] = {"plain": [], "torchrun": []}
        for number in range(options.rounds):
            both = [("plain", []), ("torchrun", torchrun(1))]
            for name, launcher in both[:: 1 if number % 2 else -1]:
                times[name].append(seconds(launcher, Path(folder, f"{name}{number}"), "--method", "draft"))
        plain, by_torchrun = map(statistics.median, times.values())
        ratio = by_torchrun / plain
        print(f"torchrun / plain: {ratio:.3f} ({by_torchrun:.3f} and {plain:.3f} s a trajectory; at most {MOST})")
        scaling(Path(folder), options.batch)
    return 1 if ratio > MOST else 0


if __name__ == "__main__":
    sys.exit(main())
