"""What the ranks of tests/test_parallel.py do: `torchrun --nproc-per-node N tests/ranks.py FOLDER [fsdp2] [--die]`.

Every method fine-tunes the toy model in float64; the first rank writes what each rank ended with.
"""

import contextlib
import json
import os
import signal
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from test_finetune import ToyReward, toy, toy_batch
from toys import FRAMES

from bench import memory, setup
from bench.cases import Case
from methods import Batch, Savings, ddim
from methods.errors import InputError
from methods.finetune import FinetuneConfig, Run, finetune
from methods.parallel import ALONE, Ranks, Share, joined

STEPS, BATCH, TRAJECTORIES = 4, 5, 10
ALIKE = Case("draft:k=2", "mld-tiny", steps=4, batch=3, frames=9, profile="paper+train_mode=false")
"""What is simulated beside a real rank: without dropout, which a CPU composes otherwise than CUDA."""
METHODS = (
    "easytune",
    "easytune:score=noisy",
    "easytune:mode=chain",
    "draft",
    "draft-lv:n=2",
    "alignprop",
    "alignprop:truncation=bernoulli",
    "drtune:k=2,m=2",
    "refl:m=3",
)
RUNS = {
    **{method: {"method": method} for method in METHODS},
    "a delayed plan": {"method": "easytune:mode=chain-released"},
    "averaged": {"method": "draft", "ema": 0.9},
    "computed again": {"method": "draft", "savings": Savings(recompute=True)},
}
"""Configs by what is said of them."""


def run(ranks: Ranks = ALONE, folder: Path | None = None, on_trajectory=lambda record: None, **config) -> Run:
    """Uneven shares: five prompts. An SDE, so that every step draws noise."""
    backbone, reward, batch, _ = toy()

    def draw(size: int, generator: torch.Generator) -> Batch:
        text = torch.randn(size, *batch.text.shape[1:], generator=generator, dtype=torch.float64)
        return toy_batch(text, batch.null_text, [FRAMES] * size)

    def measure(done: int) -> dict:
        return {"sum": float(sum(weight.detach().sum() for weight in backbone.denoiser.parameters()))}

    settings = {"lr": 1e-3, "batch": BATCH, "trajectories": TRAJECTORIES, "pull": 0.1, **config}
    return finetune(
        FinetuneConfig(**settings), backbone, ToyReward(reward.w, reward.q), ddim(STEPS, eta=1.0), draw,
        folder=folder, given={"prompts": 8}, measure=measure, measure_at=(2,), on_trajectory=on_trajectory,
        checkpoint_seconds=0, ranks=ranks,
    )  # fmt: skip


def ended(made: Run) -> dict:
    """Weights of the result, means of the curve, and of the first rank what was measured."""
    weights = torch.cat([weight.detach().flatten() for weight in made.result().parameters()])
    means = torch.tensor([[point["reward"], point["norm"]] for point in made.curve.trajectories], dtype=torch.float64)
    measured = [point["sum"] for point in made.curve.evaluations if "sum" in point]
    return {"weights": weights, "means": means, "measured": torch.tensor(measured, dtype=torch.float64)}


def main(folder: Path, *asked: str) -> int:
    try:
        with joined(torch.device("cpu"), "fsdp2" if "fsdp2" in asked else "none") as ranks:
            if "--die" in asked:
                return _die(folder, ranks)
            if "--bytes" in asked:
                return _count(folder, ranks)
            if "--exchange" in asked:
                return _exchange(folder, ranks)
            if "--disagree" in asked:
                run(ranks, seed=ranks.rank)
                return 0
            made = {name: ended(run(ranks, **config)) for name, config in RUNS.items()}
            torch.save(made, folder / f"rank{ranks.rank}.pt")
    except InputError as error:
        print(error, flush=True)
        return 2
    return 0


def _die(folder: Path, ranks: Ranks) -> int:
    """The last rank is killed in its second trajectory, where there is no checkpoint of it yet. Torchrun then ends the
    others, often before they notice: here they go on until they do."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def killed(record: dict) -> None:
        if ranks.rank == ranks.size - 1 and record["trajectories"] == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    run(ranks, folder, killed, method="draft", trajectories=6)
    return 0


def _count(folder: Path, ranks: Ranks) -> int:
    """Live bytes of one rank of a real update, under the tracker that simulates."""
    setup.share_of = lambda case: Share(ranks, case.batch * case.ranks)
    memory.others = lambda case: contextlib.nullcontext()
    record = memory.measure(replace(ALIKE, ranks=ranks.size, sharding=ranks.sharding, meter="host"))
    reading = record.reading
    assert reading is not None, record.reason
    sizes = {"peak": reading.peak, "resident": reading.resident, "phases": reading.phases}
    (folder / f"rank{ranks.rank}.json").write_text(json.dumps(sizes))
    return 0


def _exchange(folder: Path, ranks: Ranks) -> int:
    """Times one exchange of as many bytes as a file has."""
    share, numbers = Share(ranks, ranks.size), torch.ones(folder.stat().st_size // 4)
    seconds = []
    for _ in range(50):
        start = time.perf_counter()
        share.average(numbers)
        seconds.append(time.perf_counter() - start)
    if ranks.first:
        print(statistics.median(seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
