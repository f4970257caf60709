"""What is run: the methods, the sizes, and one case a row."""

import random
from dataclasses import dataclass

from bench.cases import EMBEDDED, SEEDS, alignment_id
from bench.records.types import MOST_SEEDS
from methods import parse, spec
from methods.errors import InputError

METHODS = ("draft", "easytune:score=noisy", "easytune", "draft:k=10", "alignprop", "drtune:k=4", "refl")
"""The published table's, DRaFT-10, and EasyTune with the noise-aware reward, in the order of their start: the searches
that take longest begin early, so that no core waits at the end. Two are not as in the memory table: at 20 steps
AlignProp fixed at half of them is DRaFT-10, so it draws as published; DRTune trains a fifth of the steps, as there."""
GRID = (1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4)
"""Learning rates, the same for all. The choice begins at the published one, see bench.alignment.reading.untried."""
PUBLISHED_LR = 1e-5
TARGET = "draft"
"""Whose last reward is the one to reach (DRaFT-T): what a comparison of costs at equal alignment needs."""


@dataclass(frozen=True)
class Size:
    """How long the benchmark takes."""

    steps: int = 20
    """Denoising steps, in training and in measuring."""
    batch: int = 16
    """Prompts a trajectory."""
    prompts: int = 1024
    """Training prompts that these are drawn from."""
    warm_up: int = 5
    """Optimiser steps."""
    trajectories: int = 20
    measured: tuple[int, ...] = (2, 5, 10, 15)
    """Trajectories after which the validation prompts are sampled, beside the first and the last."""
    selection: int = 20
    """Trajectories of the runs that a learning rate is chosen by: as long as those that are measured, since which rate
    is best depends on it."""
    grid: tuple[float, ...] = GRID
    validation: int = 64
    """Prompts of the curve, and of the choice, which is by MM-Dist."""
    test: int = 256
    """Prompts of the final metrics."""
    repeats: int = 2
    """Noise seeds of the final metrics, for each seed of training."""


SIZES = {
    "reference": Size(
        trajectories=40,
        measured=(2, 5, 10, 15, 20, 30),
        selection=40,
        validation=128,
        test=1024,
        repeats=1,
    ),
    "full": Size(),
    "quick": Size(
        prompts=256,
        warm_up=2,
        trajectories=4,
        measured=(2,),
        selection=2,
        grid=(1e-5, 3e-5, 3e-4),
        validation=32,
        test=64,
    ),
    "tiny": Size(
        steps=10,
        batch=2,
        prompts=32,
        trajectories=2,
        measured=(1,),
        selection=1,
        grid=(1e-5, 1e-3),
        validation=32,
        test=32,
    ),
}
"""reference: what conclusions rest on. full: the same in less time. quick: a look, and part of plain `pytest bench/`.
tiny: whether it runs; ranks nothing."""


REFERENCE_SEEDS = 10
"""Of the size `reference`, chosen beforehand: at the size `full`, of 256 test prompts, a paired gain in R@1 deviates by
0.007 to 0.024 from seed to seed. Ten seeds then give a 95% half-width of 0.005 to 0.017; four times the prompts should
make it less."""


def seeds_of(size: str) -> int:
    """Training seeds of each method where no other number is asked for."""
    return REFERENCE_SEEDS if size == "reference" else SEEDS


@dataclass(frozen=True)
class AlignmentCase:
    """One row: a method at a size, over seeds 0 to `seeds` - 1."""

    method: str
    size: str = "quick"
    seeds: int = SEEDS
    world: str = EMBEDDED
    """What its motion is called, see bench.world.name_of."""
    device: str = "cpu"
    """Type of the device that it runs on."""

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise InputError(f"unknown alignment size {self.size!r}: choose one of {', '.join(SIZES)}")
        if not 1 <= self.seeds <= MOST_SEEDS:
            raise InputError(f"alignment seeds must be between 1 and {MOST_SEEDS}, not {self.seeds}")
        method = parse(self.method)
        method.plan(SIZES[self.size].steps, random.Random(0))  # InputError now if the options do not fit
        object.__setattr__(self, "method", spec(method))  # written in one form, so that ids are stable

    @property
    def scale(self) -> Size:
        return SIZES[self.size]

    @property
    def id(self) -> str:
        return alignment_id(
            self.method, self.world, self.scale.steps, self.scale.batch, self.size, self.seeds, self.device
        )
