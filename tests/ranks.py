"""What the ranks of tests/test_parallel.py do: `torchrun --nproc-per-node N tests/ranks.py FOLDER [--die]`.

Every method fine-tunes the toy model in float64; the first rank writes what each rank ended with.
"""

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch
from test_finetune import ToyReward, toy, toy_batch
from toys import FRAMES

from bench import setup
from bench.cases import Case
from bench.memory import measure
from methods import Batch, ddim
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


def run(method: str, ranks: Ranks = ALONE, folder: Path | None = None, **options) -> Run:
    """Uneven shares: five prompts. An SDE, so that every step draws noise."""
    backbone, reward, batch, _ = toy()

    def draw(size: int, generator: torch.Generator) -> Batch:
        text = torch.randn(size, *batch.text.shape[1:], generator=generator, dtype=torch.float64)
        return toy_batch(text, batch.null_text, [FRAMES] * size)

    settings = FinetuneConfig(method=method, lr=1e-3, batch=BATCH, trajectories=TRAJECTORIES, pull=0.1)
    config = replace(settings, **{name: options.pop(name) for name in ("trajectories", "seed") if name in options})
    sampler = ddim(STEPS, eta=1.0)
    given = {"prompts": 8}
    return finetune(
        config, backbone, ToyReward(reward.w, reward.q), sampler, draw,
        folder=folder, given=given, checkpoint_seconds=0, ranks=ranks, **options,
    )  # fmt: skip


def ended(made: Run) -> dict:
    """Weights, and the means of the curve."""
    weights = torch.cat([weight.detach().flatten() for weight in made.denoiser.parameters()])
    means = torch.tensor([[point["reward"], point["norm"]] for point in made.curve.trajectories], dtype=torch.float64)
    return {"weights": weights, "means": means}


def main(folder: Path, *asked: str) -> int:
    try:
        with joined(torch.device("cpu")) as ranks:
            if "--die" in asked:
                return _die(folder, ranks)
            if "--bytes" in asked:
                return _count(folder, ranks)
            if "--disagree" in asked:
                run("easytune", ranks, seed=ranks.rank)
                return 0
            made = {method: ended(run(method, ranks)) for method in METHODS}
            torch.save(made, folder / f"rank{ranks.rank}.pt")
    except InputError as error:
        print(error, flush=True)
        return 2
    return 0


def _die(folder: Path, ranks: Ranks) -> int:
    """The last rank is killed in its second trajectory, where there is no checkpoint of it yet."""

    def killed(record: dict) -> None:
        if ranks.rank == ranks.size - 1 and record["trajectories"] == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    run("draft", ranks, folder, on_trajectory=killed, trajectories=6)
    return 0


def _count(folder: Path, ranks: Ranks) -> int:
    """Live bytes of one rank of a real update, under the tracker that simulates."""
    setup.share_of = lambda case: Share(ranks, case.batch * case.ranks)
    reading = measure(replace(ALIKE, ranks=ranks.size, meter="host")).reading
    assert reading is not None
    sizes = {"peak": reading.peak, "resident": reading.resident, "phases": reading.phases}
    (folder / f"rank{ranks.rank}.json").write_text(json.dumps(sizes))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
