"""What worker processes do: train and measure one run, measure the base and real motions, count memory."""

import copy
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from msgspec import Struct

from bench import devices, world
from bench.alignment import budget, motions
from bench.alignment.benchmark.cases import Size
from bench.alignment.evaluate import evaluate, evaluate_real, means, reference
from bench.alignment.prompts import training_prompts
from bench.alignment.reading import TOTALS
from bench.lane import Desk
from bench.motion.metrics import Array, OverRepeats
from bench.records.types import AlignmentMemory, Metrics, Point, TriedRate
from methods import Savings
from methods.finetune import FinetuneConfig, FinetuneError, finetune

VALIDATION_NOISE = 0
SELECTION_SEED = 100
"""Of the runs that a learning rate is chosen by: not one of those that are reported."""
SHOWN_SEED = 0
"""Of the run whose motions are kept."""
MEMORY = "live tensor bytes of one update on the CPU at this world's scale: no allocator, no GPU"
MEASURED = "bytes that the allocator of {device} handed out for one update at this world's scale, libraries' apart"


@dataclass(frozen=True)
class _OnWorld:
    """A job on the world in a file, at a size, on a device."""

    weights: Path
    size: Size
    device: str = field(default=str(devices.CPU), kw_only=True)

    alone: ClassVar[bool] = False
    card: ClassVar[bool] = False

    @property
    def inputs(self) -> Mapping[str, str | None]:
        return world.inputs(self.weights)

    def load(self) -> world.AnyWorld:
        """The world, with the base's weights in its denoiser: the job before may have left others."""
        loaded = _world(*self._place)
        loaded.backbone.denoiser.load_state_dict(_base_weights(*self._place))
        return loaded

    @property
    def _place(self) -> tuple[Path, str | None, str]:
        return self.weights, world.digest(self.weights), self.device

    def reference(self, split: str) -> Array:
        return _reference(*self._place, split)

    def on_validation(self, loaded: world.AnyWorld) -> Metrics:
        real = self.reference("val")
        measured = evaluate(loaded, "val", self.size.validation, 1, VALIDATION_NOISE, self.size.steps, real=real)
        return {**means(measured)}

    def on_test(self, loaded: world.AnyWorld, seed: int) -> Metrics:
        real, size = self.reference("test"), self.size
        return _means_or_none(evaluate(loaded, "test", size.test, size.repeats, seed, size.steps, real=real))


@dataclass(frozen=True)
class Base(_OnWorld):
    """Test metrics of the base, under the noise that a run of this seed is measured under."""

    seed: int

    kind: ClassVar[str] = "base"
    result: ClassVar = Metrics

    @property
    def id(self) -> str:
        return f"base, noise {self.seed}"

    def run(self, desk: Desk) -> Metrics:
        return self.on_test(self.load(), self.seed)


@dataclass(frozen=True)
class Real(_OnWorld):
    """Test metrics of real motions."""

    kind: ClassVar[str] = "real"
    result: ClassVar = Metrics
    id: ClassVar[str] = "real data"

    def run(self, desk: Desk) -> Metrics:
        return _means_or_none(evaluate_real(self.load(), "test", self.size.test))


class BesideReal(Struct, frozen=True):
    """A prompt that is shown (see bench.alignment.motions), with its real motion and the base's, packed."""

    kind: str
    text: str
    fps: int
    real: str
    base: str


@dataclass(frozen=True)
class Shown(_OnWorld):
    """The motions of the base for the prompts that are shown."""

    kind: ClassVar[str] = "shown"
    result: ClassVar = list[BesideReal]
    id: ClassVar[str] = "motions of the base"

    def run(self, desk: Desk) -> list[BesideReal]:
        loaded = self.load()
        made = motions.sampled(loaded, self.size.steps)
        return [BesideReal(**about, base=base) for about, base in zip(motions.described(loaded), made, strict=True)]


@dataclass(frozen=True)
class TryRate(_OnWorld):
    """A run that measures a learning rate: validation metrics after `size.selection` trajectories."""

    method: str
    lr: float

    kind: ClassVar[str] = "rate"
    result: ClassVar = TriedRate

    @property
    def id(self) -> str:
        return f"{self.method}, lr {self.lr:g}, choosing the lr"

    def run(self, desk: Desk) -> TriedRate:
        loaded = self.load()
        config = _config(self.method, self.lr, SELECTION_SEED, self.size, self.size.selection)
        try:
            draw = training_prompts(loaded, self.size.prompts)
            sampler = loaded.sampler(self.size.steps)
            finetune(config, loaded.backbone, loaded.reward, sampler, draw, folder=desk.folder)
        except FinetuneError as error:
            return TriedRate(self.lr, {}, str(error))
        return TriedRate(self.lr, self.on_validation(loaded))


class Run(Struct, frozen=True):
    """A run's validation curve and test metrics, and the motions to show where its seed is SHOWN_SEED. One that its
    numbers stopped (a reward that is not finite) has a reason instead."""

    curve: list[Point]
    final: Metrics
    motions: list[str]
    reason: str | None = None


@dataclass(frozen=True)
class Train(_OnWorld):
    """A run that is reported."""

    method: str
    lr: float
    seed: int

    kind: ClassVar[str] = "run"
    result: ClassVar = Run

    @property
    def id(self) -> str:
        return f"{self.method}, lr {self.lr:g}, seed {self.seed}"

    def run(self, desk: Desk) -> Run:
        loaded, size = self.load(), self.size
        # Where every run is at the base, it is measured once a worker.
        base = _base_on_validation(*self._place, size)
        loaded.backbone.denoiser.load_state_dict(_base_weights(*self._place))
        try:
            run = finetune(
                _config(self.method, self.lr, self.seed, size, size.trajectories),
                loaded.backbone,
                loaded.reward,
                loaded.sampler(size.steps),
                training_prompts(loaded, size.prompts),
                folder=desk.folder,
                measure=lambda done: dict(self.on_validation(loaded) if done else base),
                measure_at=size.measured,
            )
        except FinetuneError as error:
            return Run([], {}, [], str(error))
        shown = motions.sampled(loaded, size.steps) if self.seed == SHOWN_SEED else []
        return Run(points(run.curve.evaluations), self.on_test(loaded, self.seed), shown)


def points(evaluations: list[dict]) -> list[Point]:
    """A curve as it stands in a record; see methods.finetune.Curve.evaluations."""
    return [
        Point(
            **{name: value for name, value in evaluation.items() if name in TOTALS},
            metrics={name: value for name, value in evaluation.items() if name not in TOTALS},
        )
        for evaluation in evaluations
    ]


class Cost(Struct, frozen=True):
    """Of one update of a method, on motions as long as the world's longest."""

    memory: AlignmentMemory
    flops: float
    """The mean over draws of a random plan; counted on tensors without data, whatever the device."""


@dataclass(frozen=True)
class CountCost(_OnWorld):
    """Live bytes of one update of a method, beside those of a trajectory without gradients: weights, optimiser state
    and inputs are in them. Counted on tensors without data; on a GPU, of a real update, by its allocator. Of a random
    plan's draws, the one that holds most. And its FLOPs."""

    method: str

    kind: ClassVar[str] = "cost"
    result: ClassVar = Cost

    @property
    def id(self) -> str:
        return f"{self.method}, memory and FLOPs"

    def run(self, desk: Desk) -> Cost:
        loaded, size = self.load(), self.size
        device, what = budget.META, MEMORY
        if loaded.device != devices.CPU:
            device, what = loaded.device, MEASURED.format(device=devices.name(loaded.device))
        config, plan = FinetuneConfig(method=self.method), budget.largest_plan(self.method, size.steps)
        inputs = (loaded.backbone, loaded.reward, loaded.sampler(size.steps), budget.longest(loaded, size.batch))
        need = budget.count(Savings(), plan, config, *inputs, device)
        memory = AlignmentMemory(need.peak, need.resident, need.sampling, what)
        return Cost(memory, budget.operations(config, *inputs))


def _config(method: str, lr: float, seed: int, size: Size, trajectories: int) -> FinetuneConfig:
    return FinetuneConfig(
        method=method, lr=lr, warm_up=size.warm_up, batch=size.batch, trajectories=trajectories, seed=seed
    )


def _means_or_none(measured: dict[str, OverRepeats]) -> Metrics:
    """As JSON has it: None for what one repeat does not give."""
    return {name: None if math.isnan(value.mean) else value.mean for name, value in measured.items()}


# Made once a worker process, for a file's path and digest, and a device.


@functools.lru_cache(maxsize=1)
def _world(weights: Path, _digest: str | None, device: str) -> world.AnyWorld:
    return world.load(weights).to(devices.parse(device))


@functools.lru_cache(maxsize=1)
def _base_weights(weights: Path, digest: str | None, device: str) -> dict[str, torch.Tensor]:
    return copy.deepcopy(_world(weights, digest, device).backbone.denoiser.state_dict())


@functools.lru_cache(maxsize=4)
def _reference(weights: Path, digest: str | None, device: str, split: str) -> Array:
    return reference(_world(weights, digest, device), split)


@functools.lru_cache(maxsize=4)
def _base_on_validation(weights: Path, _digest: str | None, device: str, size: Size) -> Metrics:
    base = _OnWorld(weights, size, device=device)
    return base.on_validation(base.load())
