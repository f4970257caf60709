"""Kills runs at seeded moments, lets them go on, and holds the end against a run that nobody touched.

    python tests/kills.py 100 --seed 0 [--kind NAME ...] [--at-once 2] [--keep DIR]

A trial starts a small run of its kind, sends SIGKILL or SIGTERM to it or presses Ctrl-C (SIGINT to its whole group, as
a terminal does) at a moment between its beginning and its end, and looks at what is left: what was measured, which
processes, what was said. Then the same command (of pytest with --resume) runs to its end. In the table:

early      of the trials, those whose signal came before the suite's first line, when Python has its own answer
twice      results that were on the disk at the kill, or were there before, and were measured again
lost       results that were on the disk at the kill and are not part of the end
left       processes of the run that were alive 5 s after the signal
slow       ends later than 2 s after SIGTERM or Ctrl-C
said       ends with a traceback, with another exit code than 143 or 130 (2 of pytest), or without a word on going on
unequal    ends that differ from the untouched run's by a byte (of all that is no time)

The row "again and again" of each kind is one run that is killed over and over, each time soon after it has kept
something new, until it ends.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import ClassVar

import psutil

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from bench_command import ALWAYS, heed_interrupts  # noqa: E402

from bench import identity  # noqa: E402
from methods import checkpoint  # noqa: E402
from methods.errors import InputError  # noqa: E402

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
REACH = 1.05
"""Moments are drawn up to this share of an untouched run's duration."""
GONE_SECONDS, ORDER_SECONDS, WAIT_SECONDS = 5.0, 2.0, 600.0
MOST_KILLS = 60
"""Of a run that is killed again and again."""
OF_ONE_RUN = (
    *("seconds", "cpu_seconds", "per_update", "per_optimiser_step", "per_sample", "seconds_per_update"),
    "process",
)
"""Fields of records that no two runs have alike: times, and the pages that the system gave the process."""

Facts = Mapping[str, object]
"""What was measured, by name, with its times: a thing that is measured again has others."""


def without_times(value: object) -> object:
    if isinstance(value, dict):
        return {name: without_times(own) for name, own in value.items() if name not in OF_ONE_RUN}
    return [without_times(own) for own in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class Row:
    """A line of a file of kept results."""

    key: str
    kind: str
    id: str
    result: object


def rows(text: str) -> list[Row]:
    """The whole lines of a file of kept results."""
    found = []
    for line in text.split("\n"):
        try:
            row = json.loads(line)
            whole = row["sum"] == identity.key(row["result"])
        except (ValueError, KeyError, TypeError):
            continue
        if whole:
            found.append(Row(row["key"], row["kind"], row["id"], row["result"]))
    return found


def read(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""


class Kind:
    """A kind of run. `shared`: what all its runs read, made once."""

    name: str
    codes: Mapping[int, tuple[int, ...]] = {signal.SIGTERM: (143,), signal.SIGINT: (130,)}
    words: Mapping[int, tuple[str, ...]] = {signal.SIGTERM: ("terminated",), signal.SIGINT: ("interrupted",)}
    """One of them is in what it says then."""
    done: tuple[int, ...] = (0,)
    """Exit codes of a run that comes to its end."""

    def __init__(self, shared: Path) -> None:
        self.shared = shared

    def make(self) -> None:
        """What is in the shared folder."""

    def begin(self, folder: Path) -> None:
        """What is in a run's folder before it."""

    def command(self, folder: Path, again: bool = False) -> list[str]:
        raise NotImplementedError

    def journal(self, folder: Path) -> Path | None:
        """Where results are kept, if the run has such a file."""
        return None

    def end(self, folder: Path) -> object:
        """What must be equal; None while it is not there."""
        raise NotImplementedError

    def measured(self, folder: Path) -> Facts:
        """What is kept at this moment, beside the journal's rows."""
        return {}

    def used(self, folder: Path, log: Sequence[Row]) -> Facts:
        """The same, of the end; `log`: all rows that the journal had."""
        return self.measured(folder)

    def torn(self, folder: Path, reference: object) -> bool:
        """Whether there is an end, and it is not the one that it should be."""
        end = self.end(folder)
        return end is not None and end != reference


class Pytest(Kind):
    """`pytest bench/` with a result file."""

    codes: ClassVar = {signal.SIGTERM: (143,), signal.SIGINT: (2, 130)}
    words: ClassVar = {signal.SIGTERM: ("terminated",), signal.SIGINT: ("interrupted", "KeyboardInterrupt")}
    chosen: tuple[str, ...]

    def command(self, folder: Path, again: bool = False) -> list[str]:
        given = [*ALWAYS, *self.chosen, *self.given(folder), f"--benchmark-json={folder / 'run.json'}"]
        return [sys.executable, "-m", "pytest", *given, *(["--resume"] if again else [])]

    def given(self, folder: Path) -> list[str]:
        return []

    def journal(self, folder: Path) -> Path | None:
        return folder / "run.json.partial"

    def records(self, folder: Path) -> list[dict]:
        text = read(folder / "run.json")
        return [row["extra_info"] for row in json.loads(text)["benchmarks"]] if text else []

    def end(self, folder: Path) -> object:
        text = read(folder / "run.json")
        return json.dumps(without_times(self.records(folder)), indent=1) if text else None

    def torn(self, folder: Path, reference: object) -> bool:
        return False  # a run that was interrupted writes the rows that it has

    def measured(self, folder: Path) -> Facts:
        """Of jobs that are not finished: the measurements of fine-tuning, with their seconds, by the job's key."""
        facts = {}
        for path in folder.rglob("*.work/*/checkpoint.pt"):
            with contextlib.suppress(InputError):
                state = checkpoint.read_torch(path)
                facts[path.parent.name] = [point["seconds"] for point in state["curve"]["evaluations"]]
        return {key: seconds for key, seconds in facts.items() if seconds}

    def used(self, folder: Path, log: Sequence[Row]) -> Facts:
        curves = {row.key: row.result.get("curve") for row in log if isinstance(row.result, dict)}
        return {key: [point["seconds"] for point in curve] for key, curve in curves.items() if curve}


class Memory(Pytest):
    name = "memory"
    chosen = (
        *("-m", "memory", "--backbone", "mld-tiny", "--steps", "4", "--batch", "2", "--frames", "5"),
        *("--meter", "simulated", "--meter", "host", "--method", "easytune", "--method", "draft:k=1"),
        *("--method", "alignprop:k=2", "--method", "drtune:k=2,m=1", "--method", "refl:m=2"),
    )


class Gate(Pytest):
    name = "gate update"
    chosen = (
        *("-m", "memory", "--backbone", "mld-tiny", "--steps", "4", "--batch", "2", "--frames", "5"),
        *("--method", "easytune", "--method", "draft:k=1", "--method", "alignprop:k=2", "--method", "refl:m=2"),
    )

    def given(self, folder: Path) -> list[str]:
        return ["--memory-baseline", str(folder / "baseline.json"), "--memory-baseline-update"]

    def end(self, folder: Path) -> object:
        return read(folder / "baseline.json") or None

    def torn(self, folder: Path, reference: object) -> bool:
        return Kind.torn(self, folder, reference)


class StepTime(Pytest):
    name = "step time"
    chosen = (
        *("-m", "step_time", "--backbone", "mld-tiny", "--time-steps", "4", "--time-batch", "2", "--time-frames", "5"),
        *("--rounds", "4", "--method", "easytune", "--method", "draft:k=1", "--method", "refl:m=2"),
    )

    def measured(self, folder: Path) -> Facts:
        """The seconds of each case's updates."""
        facts: dict[str, list] = {}
        for path in folder.rglob("seconds.json"):
            facts |= json.loads(path.read_text())
        return {case: seconds for case, seconds in facts.items() if seconds}

    def used(self, folder: Path, log: Sequence[Row]) -> Facts:
        return {row["case"]["id"]: row["timing"]["seconds_per_update"] for row in self.records(folder)}


class Alignment(Pytest):
    name = "alignment"
    chosen = ("-m", "alignment", "-k", "test_alignment", "--align", "tiny", "--align-seeds", "1", "--method", "draft")

    def make(self) -> None:
        from alignment_worlds import untrained_world

        untrained_world().save(self.shared / "world.safetensors")

    def given(self, folder: Path) -> list[str]:
        return ["--align-world", str(self.shared / "world.safetensors")]


class Study(Pytest):
    name = "study"
    chosen = ("-m", "study", "--study", "retrieval", "--study-scale", "tiny")

    def make(self) -> None:
        from test_trained_studies import few_clips

        few_clips(self.shared)

    def begin(self, folder: Path) -> None:
        """With the features of the clips, which take longer than the study."""
        from bench.alignment.studies.jobs import Shelf

        data = Shelf(folder / "work", self.shared / "world.safetensors").data
        data.parent.mkdir(parents=True)
        shutil.copy(self.shared / "data.safetensors", data)

    def given(self, folder: Path) -> list[str]:
        return ["--align-world", str(self.shared / "world.safetensors"), "--study-work", str(folder / "work")]

    def journal(self, folder: Path) -> Path | None:
        return folder / "work" / "results.jsonl"

    def measured(self, folder: Path) -> Facts:
        return stages(folder)

    def used(self, folder: Path, log: Sequence[Row]) -> Facts:
        return stages(folder)


def stages(folder: Path) -> Facts:
    """Finished stages of training, by their files: what is trained again is written again."""
    facts: dict[str, object] = {}
    for path in sorted(folder.rglob("*.checkpoint")):
        with contextlib.suppress(InputError):
            facts[str(path.relative_to(folder))] = [checkpoint.read_torch(path)["seconds"], path.stat().st_mtime_ns]
    return facts


class FineTuning(Kind):
    name = "fine-tuning"

    make = Alignment.make

    def command(self, folder: Path, again: bool = False) -> list[str]:
        chosen = ["--steps", "3", "--batch", "2", "--prompts", "32", "--lr", "1e-3", "--measure-every", "10"]
        chosen += ["--trajectories", "40", "--world", str(self.shared / "world.safetensors"), "--out", str(folder)]
        return [sys.executable, "-m", "bench.alignment.finetune", *chosen]

    def end(self, folder: Path) -> object:
        if not read(folder / "curve.json"):
            return None
        curve = without_times(json.loads(read(folder / "curve.json")))
        return [curve, *((folder / name).read_bytes() for name in ("denoiser.safetensors", "mld.safetensors"))]

    def torn(self, folder: Path, reference: object) -> bool:
        assert isinstance(reference, list)
        names = ("denoiser.safetensors", "mld.safetensors")
        there = [(folder / name, whole) for name, whole in zip(names, reference[1:], strict=True)]
        return any(path.exists() and path.read_bytes() != whole for path, whole in there)

    def measured(self, folder: Path) -> Facts:
        """The records of trajectories and measurements, with their seconds."""
        path = folder / "checkpoint.pt"
        return checkpoint.read_torch(path)["curve"] if path.is_file() else {}

    def used(self, folder: Path, log: Sequence[Row]) -> Facts:
        curve = json.loads(read(folder / "curve.json"))
        return {name: curve[name] for name in ("trajectories", "evaluations")}


class PreTraining(Kind):
    name = "pre-training"

    def make(self) -> None:
        from test_user_data import Letters, write

        from bench.motion.text import build_table
        from bench.world import user_data

        folder = write(self.shared / "motion")
        build_table(Letters(), self.shared / "table", user_data.read("arrays", folder).texts)

    def command(self, folder: Path, again: bool = False) -> list[str]:
        small = (
            f"import sys; sys.path.append({str(ROOT / 'tests')!r})\n"
            "from bench.alignment import pretrain\n"
            "from test_world import TINY, TINY_PLAN\n"
            "from dataclasses import replace\n"
            "pretrain.QUICK = replace(TINY_PLAN, vae=20, reward=20, evaluator=20, denoiser=20)\n"
            "pretrain.WorldConfig = lambda: TINY\n"
            "sys.exit(pretrain.main())"
        )
        of = ["--data", f"arrays:{self.shared / 'motion'}", "--text-encoder", str(self.shared / "table"), "--quick"]
        return [sys.executable, "-c", small, *of, "--work", str(folder / "work"), "--out", str(folder / "world")]

    def end(self, folder: Path) -> object:
        if not (folder / "world").is_file():
            return None
        tensors, about = checkpoint.read_tensors(folder / "world")
        told = without_times(json.loads(about["world"]))
        assert isinstance(told, dict)
        del told["digest"]  # of the seconds, too
        return [json.dumps(told), {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}]

    def measured(self, folder: Path) -> Facts:
        return stages(folder)


class Planner(Kind):
    name = "planner"

    def command(self, folder: Path, again: bool = False) -> list[str]:
        chosen = ["--backbone", "mld-tiny", "--steps", "4", "--batch", "2", "--frames", "5", "--quick"]
        chosen += ["--method", "easytune", "--method", "draft", "--method", "refl:m=2"]
        return [sys.executable, "-m", "bench.plan", "--budget", "2GiB", *chosen, "--json", str(folder / "plan.json")]

    def journal(self, folder: Path) -> Path | None:
        return folder / "plan.json.partial"

    def end(self, folder: Path) -> object:
        return read(folder / "plan.json") or None


KINDS: Mapping[str, type[Kind]] = {
    kind.name: kind for kind in (Memory, StepTime, Alignment, Study, FineTuning, PreTraining, Planner, Gate)
}


class Process:
    """A run as a process, with everything that it starts in a session of its own; its output is in the folder."""

    def __init__(self, kind: Kind, folder: Path, again: bool = False) -> None:
        self.output = folder / "output"
        self._journal = kind.journal(folder)
        self._before = self._inode()
        self._log = None
        # One thread: many small runs on few cores wait for each other's threads otherwise.
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                kind.command(folder, again),
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=heed_interrupts,
            )
        self.began = time.monotonic()

    def _inode(self) -> int | None:
        with contextlib.suppress(OSError):
            return self._journal.stat().st_ino if self._journal else None
        return None

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def running(self) -> bool:
        """Whether it is. The journal of this run is opened as soon as it is there: it is read when it is gone."""
        if self._log is None and self._inode() not in (None, self._before):
            with contextlib.suppress(FileNotFoundError):
                self._log = self._journal.open(errors="replace") if self._journal else None
        return self.process.poll() is None

    def wait(self, seconds: float) -> bool:
        """Until it ends, or is so old; whether it ended."""
        while self.running() and self.seconds < seconds:
            time.sleep(0.01)
        return self.process.poll() is not None

    def log(self) -> list[Row]:
        """Every row that this run's journal had, those that it took over among them."""
        if self._log is None:
            return rows(read(self._journal)) if self._journal else []
        self._log.seek(0)
        return rows(self._log.read())

    def of_the_run(self) -> list[psutil.Process]:
        """All processes of the session that are alive."""
        found = []
        for number in psutil.pids():
            with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
                if os.getsid(number) == self.process.pid:
                    process = psutil.Process(number)
                    if process.status() != psutil.STATUS_ZOMBIE:
                        found.append(process)
        return found

    def heeds(self) -> bool:
        """Whether it has an answer of its own to SIGTERM yet, or still."""
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
                if line.startswith(("SigCgt", "SigIgn")) and int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
                    return True
        return False

    def send(self, number: int) -> None:
        if number == signal.SIGINT:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)


@dataclass
class Found:
    """What trials showed: numbers of the table, and in words what was wrong."""

    trials: int = 0
    early: int = 0
    twice: int = 0
    lost: int = 0
    left: int = 0
    slow: int = 0
    said: int = 0
    unequal: int = 0
    slowest: float = 0.0
    """Seconds to the end after SIGTERM or Ctrl-C, at most."""
    words: list[str] = field(default_factory=list)

    def __add__(self, other: "Found") -> "Found":
        both = {own.name: getattr(self, own.name) + getattr(other, own.name) for own in fields(self)}
        return Found(**{**both, "slowest": max(self.slowest, other.slowest)})

    @property
    def wrong(self) -> int:
        return self.twice + self.lost + self.left + self.slow + self.said + self.unequal


@dataclass(frozen=True)
class Reference:
    """A run that nobody touched."""

    end: object
    seconds: float
    first: float
    """Seconds until something was kept."""
    done: Counter
    """Kind and id of the rows that it kept."""


def untouched(kind: Kind, folder: Path) -> Reference:
    folder.mkdir(parents=True)
    kind.begin(folder)
    run, first = Process(kind, folder), None
    while run.running():
        if first is None and (run.log() or kind.measured(folder)):
            first = run.seconds
        time.sleep(0.02)
    seconds, end = run.seconds, kind.end(folder)
    if run.process.returncode not in kind.done or end is None:
        raise RuntimeError(f"{kind.name} does not run: {read(run.output)[-3000:]}")
    return Reference(end, seconds, first or seconds, Counter((row.kind, row.id) for row in run.log()))


@dataclass
class Broken:
    """A run that was killed."""

    kept: list[Row]
    measured: Facts
    over: bool
    """It had come to its end."""


def break_off(kind: Kind, run: Process, folder: Path, number: int, reference: Reference, found: Found) -> Broken:
    """Sends the signal to a run that is going on, and looks at what it leaves."""
    heeds = run.heeds()
    moment = run.seconds
    run.send(number)
    while run.running() and run.seconds - moment < 60:
        time.sleep(0.005)
    seconds, output = run.seconds - moment, read(run.output)
    code = run.process.poll()
    at = f"{kind.name}, {signal.Signals(number).name} at {moment:.2f} s in {folder}"
    left = run.of_the_run()
    while left and run.seconds - moment < GONE_SECONDS:
        time.sleep(0.05)
        left = run.of_the_run()
    if left:
        found.left += len(left)
        found.words.append(f"{at}: {len(left)} processes stayed: {[process.cmdline()[-1:] for process in left]}")
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    run.process.wait()
    over = code in kind.done and kind.end(folder) == reference.end
    found.early += not heeds and not over
    if number != signal.SIGKILL and heeds and not over:
        found.slowest = max(found.slowest, seconds)
        if seconds > ORDER_SECONDS:
            found.slow += 1
            found.words.append(f"{at}: it took {seconds:.1f} s to end")
        wrong = code not in kind.codes[number] or "Traceback" in output or "INTERNALERROR" in output
        if wrong or not any(word in output for word in kind.words[number]):
            found.said += 1
            found.words.append(f"{at}: exit code {code}, after {output[-1500:]!r}")
    journal = kind.journal(folder)
    kept = rows(read(journal)) if journal else []
    if not over and kind.torn(folder, reference.end):
        found.unequal += 1
        found.words.append(f"{at}: half an end")
    return Broken(kept, kind.measured(folder), over)


def held(before: object, after: object) -> bool:
    """Whether what was measured is part of what came of it: lists may have grown."""
    if isinstance(before, list) and isinstance(after, list):
        return after[: len(before)] == before
    return before == after


def hold_against(kind: Kind, folder: Path, broken: Broken, log: Sequence[Row], ref: Reference, found: Found) -> None:
    """What a run that was killed kept, against what the journal of the next one had."""
    after = {row.key: row.result for row in log}
    for row in broken.kept:
        if after.get(row.key) != row.result:
            found.lost += 1
            found.words.append(f"{kind.name} in {folder}: lost {row.kind} {row.id}")
    for name, times in (Counter((row.kind, row.id) for row in log) - ref.done).items():
        found.twice += times
        found.words.append(f"{kind.name} in {folder}: {name} was done again")


def finish(kind: Kind, folder: Path, broken: Broken, ref: Reference, found: Found) -> None:
    """Lets a run that was killed go on to its end."""
    log: list[Row] = []
    if not broken.over:
        run = Process(kind, folder, again=True)
        if not run.wait(WAIT_SECONDS):
            run.process.kill()
            run.process.wait()
        log = run.log()
        hold_against(kind, folder, broken, log, ref, found)
        if run.process.returncode not in kind.done:
            found.words.append(
                f"{kind.name} in {folder}: ended with {run.process.returncode}: {read(run.output)[-1500:]}"
            )
    if kind.end(folder) != ref.end:
        found.unequal += 1
        found.words.append(f"{kind.name} in {folder}: another end than the untouched run's")
        return
    used = kind.used(folder, log)
    for name, before in broken.measured.items():
        # What was finished and kept in the journal meanwhile was held against it above.
        if name in used and not held(before, used[name]):
            found.twice += 1
            found.words.append(f"{kind.name} in {folder}: {name} was measured again")
        elif name not in used and not kind.journal(folder):
            found.lost += 1
            found.words.append(f"{kind.name} in {folder}: {name} is not in the end")


def trial(kind: Kind, folder: Path, number: int, share: float, reference: Reference) -> Found:
    """One kill, `share` of the way through the run."""
    found = Found(trials=1)
    seconds = reference.seconds
    while True:
        folder.mkdir(parents=True)
        kind.begin(folder)
        run = Process(kind, folder)
        if not run.wait(share * seconds):
            break
        seconds = min(seconds, run.seconds) * 0.95  # it was over before: the machine is faster than it was
        shutil.rmtree(folder)
    finish(kind, folder, break_off(kind, run, folder, number, reference, found), reference, found)
    return found


def again_and_again(kind: Kind, folder: Path, reference: Reference) -> tuple[Found, int]:
    """Kills a run until it ends, each time soon after it has kept something new; how many kills that took."""
    found = Found(trials=1)
    folder.mkdir(parents=True)
    kind.begin(folder)
    broken, kills = Broken([], {}, over=False), 0
    seconds = reference.first + 0.1 * (reference.seconds - reference.first)
    while kills < MOST_KILLS:
        run = Process(kind, folder, again=kills > 0)
        if run.wait(seconds):
            break
        before = broken
        broken = break_off(kind, run, folder, SIGNALS[kills % 3], reference, found)
        kills += 1
        hold_against(kind, folder, before, run.log(), reference, found)
        if broken.over:
            break
        if len(broken.kept) == len(before.kept) and broken.measured == before.measured:
            seconds *= 1.3  # nothing new: the machine is slower than it was
    else:
        found.words.append(f"{kind.name}: not at its end after {kills} kills")
        found.unequal += 1
        return found, kills
    broken.over = True
    finish(kind, folder, broken, reference, found)
    return found, kills


@contextlib.contextmanager
def place(keep: Path | None) -> Iterator[Path]:
    """A folder for it all."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()
    else:
        with tempfile.TemporaryDirectory() as made:
            yield Path(made)


def ready(name: str, folder: Path) -> Kind:
    """A kind, with its shared files made."""
    shared = folder / name / "shared"
    shared.mkdir(parents=True)
    kind = KINDS[name](shared)
    kind.make()
    return kind


def table(found: Mapping[tuple[str, str], Found]) -> str:
    columns = [own.name for own in fields(Found) if own.name not in ("slowest", "words")]
    lines = [f"{'':14}{'':16}" + "".join(f"{name:>9}" for name in columns) + "   slowest"]
    everything = sum(found.values(), Found())
    for (name, sent), row in [*found.items(), (("all", ""), everything)]:
        numbers = asdict(row)
        lines.append(f"{name:14}{sent:16}" + "".join(f"{numbers[own]:9}" for own in columns) + f"{row.slowest:8.2f} s")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("trials", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append", choices=[*KINDS])
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the folders of all runs there")
    parser.add_argument("--series", action="store_true", help="and one run of each kind that is killed again and again")
    options = parser.parse_args()
    names, draw = options.kind or [*KINDS], random.Random(options.seed)
    drawn = [(names[n % len(names)], SIGNALS[n % 3], draw.uniform(0, REACH)) for n in range(options.trials)]
    found: dict[tuple[str, str], Found] = {}
    with place(options.keep) as folder, ThreadPoolExecutor(options.at_once) as threads:
        kinds = [ready(name, folder) for name in names]
        references = threads.map(lambda kind: untouched(kind, folder / kind.name / "untouched"), kinds)
        made = dict(zip(names, zip(kinds, references, strict=True), strict=True))
        for name, (_, reference) in made.items():
            print(f"{name}: {reference.seconds:.1f} s, {sum(reference.done.values())} rows kept", flush=True)

        def one(n: int) -> tuple[tuple[str, str], Found]:
            name, number, share = drawn[n]
            kind, reference = made[name]
            result = trial(kind, folder / name / str(n), number, share, reference)
            for line in result.words:
                print(f"  {n}: {line}", flush=True)
            if not options.keep:
                shutil.rmtree(folder / name / str(n), ignore_errors=True)
            return (name, signal.Signals(number).name), result

        futures = [threads.submit(one, n) for n in range(options.trials)]
        try:
            for future in futures:
                key, result = future.result()
                found[key] = found.get(key, Found()) + result
        except KeyboardInterrupt:
            threads.shutdown(wait=False, cancel_futures=True)
            options.series = False

        def series(name: str) -> tuple[str, Found, int]:
            return name, *again_and_again(made[name][0], folder / name / "series", made[name][1])

        for name, result, kills in threads.map(series, names if options.series else []):
            found[name, f"{kills} kills"] = result
            for line in result.words:
                print(f"  {name}, again and again: {line}", flush=True)
    print(table(dict(sorted(found.items()))))
    return 1 if any(row.wrong for row in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
