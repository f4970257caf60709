"""What the studies are made of: measurements of the base, rewards, and fine-tuning runs, in worker processes.

Studies that ask for the same job share it, and what is kept of an earlier run is not done again (bench.lane).
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from msgspec import Struct, convert

from bench import devices, identity, world
from bench.alignment import rewards
from bench.alignment.benchmark.jobs import VALIDATION_NOISE, points
from bench.alignment.evaluate import evaluate, generate, means, reference
from bench.alignment.prompts import training_prompts
from bench.alignment.rewards import RewardConfig
from bench.alignment.rewards.config import STATES
from bench.alignment.studies import base_model
from bench.lane import Desk, Job, Lane
from bench.motion.metrics import Array
from bench.records.types import Chain, Metrics, Noise, Point, Retrieval, RewardTraining, Similarity, TrainedReward
from bench.world import data
from bench.world.model import WorldReward
from methods.finetune import FinetuneConfig, FinetuneError, finetune
from methods.interface import Reward
from methods.registry import third_party_modules

OF_BASE: Mapping[str, Callable[..., Chain | Similarity | Noise]] = {
    "chain": base_model.chain,
    "similarity": base_model.similarity,
    "noise": base_model.noise,
}


@dataclass(frozen=True)
class OfBase:
    """A study of the base model, without training."""

    weights: Path
    name: str
    """One of OF_BASE."""
    steps: int
    """Denoising steps."""
    device: str = str(devices.CPU)

    kind: ClassVar[str] = "study of the base"
    result: ClassVar = Chain | Similarity | Noise
    alone: ClassVar[bool] = False
    card: ClassVar[bool] = False

    @property
    def id(self) -> str:
        return self.name

    @property
    def inputs(self) -> Mapping[str, str | None]:
        return world.inputs(self.weights)

    def run(self, desk: Desk) -> Chain | Similarity | Noise:
        return OF_BASE[self.name](world.pretrained(self.weights).to(devices.parse(self.device)), steps=self.steps)


@dataclass(frozen=True)
class Training:
    """A reward trained on the world's motion, or the one that the world comes with, and what it retrieves on the test
    split."""

    reward: RewardConfig | None
    """None: the one that the world comes with, which is not trained."""
    levels: tuple[int, ...] = ()
    """Timesteps at which noised motions are retrieved too, with the time token if the reward has learned it."""
    noised: str = STATES
    """What is noised there, of rewards.config.NOISED."""

    @property
    def label(self) -> str:
        if self.reward is None:
            return "the world's reward"
        recipe = self.reward
        noisy = f", noise-aware of {recipe.noised}" if recipe.noise else ""
        return f"reward on {recipe.share:.0%} of the clips{', SPL' if recipe.spl else ''}{noisy}, seed {recipe.seed}"

    @property
    def needs(self) -> tuple[RewardConfig, ...]:
        """Rewards that are trained before it."""
        return ()

    def run(self, shelf: "Shelf", desk: Desk) -> TrainedReward:
        loaded = shelf.load()
        if self.reward is None:
            return TrainedReward(_retrieved(loaded, loaded.reward), [], None)
        path = shelf.reward(self.reward)
        if not path.is_file():
            content = data.cached(shelf.data, loaded.content)
            rewards.save(rewards.train(self.reward, loaded, shelf.stages, desk.say, content), path)
        trained = rewards.load(path, loaded)
        aware = self.reward.noise > 0
        levels = [_retrieved(loaded, trained, level, aware=aware, noised=self.noised) for level in self.levels]
        training = convert(trained.metrics, RewardTraining)
        return TrainedReward(_retrieved(loaded, trained), levels, training)


def _retrieved(loaded: world.World, reward: WorldReward, *level: int, **how: Any) -> Retrieval:
    """What a reward retrieves on the test split."""
    return convert(rewards.retrieval(loaded, reward, "test", *level, **how), Retrieval)


class Tuned(Struct, frozen=True):
    """A run's validation curve and test metrics; a reason where its numbers stopped it."""

    curve: list[Point]
    final: Metrics
    reason: str | None = None


@dataclass(frozen=True)
class Tuning:
    """A fine-tuning run of the base, or the base itself where `method` is empty: `curve` on validation prompts where
    `measured` names trajectories, and `final` test metrics."""

    method: str = ""
    lr: float = 1e-5
    trajectories: int = 1
    seed: int = 0
    reward: RewardConfig | None = None
    """The reward's recipe; None: the reward that the world comes with."""
    second: RewardConfig | None = None
    """Another reward that looks on: its validation score is in the curve as `second`."""
    pull: float = 0.0
    guidance: float | None = None
    """Of the base, in training and in measuring; None: the world's."""
    measured: tuple[int, ...] = ()
    steps: int = 20
    """Denoising steps, in training and in measuring."""
    batch: int = 16
    prompts: int = 1024
    warm_up: int = 5
    validation: int = 64
    test: int = 256
    repeats: int = 1

    @property
    def label(self) -> str:
        return f"{self.method or 'base'}, lr {self.lr:g}, seed {self.seed}"

    @property
    def needs(self) -> tuple[RewardConfig, ...]:
        """Rewards that are trained before it."""
        return tuple(config for config in (self.reward, self.second) if config)

    def run(self, shelf: "Shelf", desk: Desk) -> Tuned:
        loaded = shelf.load()
        if self.guidance is not None:
            loaded.backbone.guide(self.guidance)
        if self.reward is not None:
            loaded.reward = rewards.load(shelf.reward(self.reward), loaded)
        second = rewards.load(shelf.reward(self.second), loaded) if self.second else None
        real = {split: _reference(shelf, identity.file(shelf.weights), split) for split in ("val", "test")}

        def on_validation(_done: int) -> dict:
            measured = means(
                evaluate(loaded, "val", self.validation, 1, VALIDATION_NOISE, self.steps, real=real["val"])
            )
            return measured | ({} if second is None else {"second": self._held_out(loaded, second)})

        def on_test() -> Metrics:
            return {
                **means(evaluate(loaded, "test", self.test, self.repeats, self.seed, self.steps, real=real["test"]))
            }

        if not self.method:
            return Tuned([], on_test())
        config = FinetuneConfig(
            method=self.method,
            lr=self.lr,
            warm_up=self.warm_up,
            batch=self.batch,
            trajectories=self.trajectories,
            pull=self.pull,
            seed=self.seed,
        )
        try:
            run = finetune(
                config,
                loaded.backbone,
                loaded.reward,
                loaded.sampler(self.steps),
                training_prompts(loaded, self.prompts),
                folder=desk.folder,
                measure=on_validation if self.measured else None,
                measure_at=self.measured,
            )
        except FinetuneError as error:
            return Tuned([], {}, str(error))
        return Tuned(points(run.curve.evaluations), on_test())

    def _held_out(self, loaded: world.World, reward: Reward) -> float:
        """The mean validation score of a reward that nothing was trained on; of the motions that evaluate makes."""
        trained = loaded.reward
        loaded.reward = reward  # type: ignore[assignment]  # any reward scores
        try:
            with torch.no_grad():
                prompts = loaded.prompts("val", self.validation)
                return float(generate(loaded, prompts, VALIDATION_NOISE, self.steps)[1].mean())
        finally:
            loaded.reward = trained


Work = Training | Tuning


@dataclass(frozen=True)
class Shelf:
    """A world on a device, and where rewards that were trained on it are kept: apart for every state of the code and of
    the world, and every type of device, so that none is taken for another's."""

    folder: Path
    weights: Path
    device: str = str(devices.CPU)

    def load(self) -> world.World:
        return world.pretrained(self.weights).to(devices.parse(self.device))

    @property
    def _place(self) -> Path:
        code = identity.code(tuple(third_party_modules()))
        device = devices.decides(torch.device(self.device).type)
        return self.folder / identity.key(code, identity.versions(), world.inputs(self.weights), *device)

    @property
    def data(self) -> Path:
        return self._place / "data.safetensors"

    @property
    def stages(self) -> Path:
        """Of the checkpoints of rewards' training, which recipes share."""
        return self._place / "rewards"

    def reward(self, config: RewardConfig) -> Path:
        return self._place / f"reward-{identity.key(asdict(config))}.safetensors"


@dataclass(frozen=True)
class StudyJob:
    """A piece of work of a study that trains."""

    shelf: Shelf
    work: Work

    alone: ClassVar[bool] = False
    card: ClassVar[bool] = False

    @property
    def kind(self) -> str:
        return type(self.work).__name__.lower()

    @property
    def result(self):
        return TrainedReward if isinstance(self.work, Training) else Tuned

    @property
    def id(self) -> str:
        return self.work.label

    @property
    def inputs(self) -> Mapping[str, str | None]:
        return world.inputs(self.shelf.weights)

    def run(self, desk: Desk) -> TrainedReward | Tuned:
        return self.work.run(self.shelf, desk)


class Jobs:
    """Runs the work of studies on one world. `folder` keeps the rewards."""

    def __init__(self, lane: Lane, folder: Path, weights: Path = world.WEIGHTS, device: str = str(devices.CPU)) -> None:
        self._lane, self._shelf = lane, Shelf(folder, weights, device)

    def run(self, work: Sequence[Work], *, stopped: bool = False) -> "Results":
        """The result of everything; rewards are trained before what needs them.

        FinetuneError, by its label, for a run that its numbers stopped, after all others: their results are kept. Where
        `stopped` is asked for, its result is returned with the others.
        """
        work = list(dict.fromkeys(work))
        needed = [Training(config) for one in work for config in one.needs]
        first = list(dict.fromkeys([*needed, *(one for one in work if isinstance(one, Training))]))
        if first:
            data.cached(self._shelf.data, world.pretrained(self._shelf.weights).content)
        # Recipes that differ in stage two alone share the files of stage one: one of them makes these ahead.
        ahead = {str(one.reward.stage_one()): one for one in reversed(first) if one.reward}
        trained = self._all([*ahead.values()]) | self._all(first)
        tuned = self._all([one for one in work if isinstance(one, Tuning)])
        for one, result in tuned.items():
            if result.reason and not stopped:
                raise FinetuneError(f"{one.label}: {result.reason}")
        return Results(trained, tuned)

    def _all(self, work: Sequence) -> dict:
        jobs: list[Job] = [StudyJob(self._shelf, one) for one in work]
        return dict(zip(work, [self._lane.wait(future) for future in self._lane.submit_all(jobs)], strict=True))


@dataclass(frozen=True)
class Results:
    """What came of a study's work."""

    trained: Mapping[Training, TrainedReward]
    tuned: Mapping[Tuning, Tuned]

    def final(self, work: Sequence[Tuning]) -> list[Metrics]:
        """Test metrics of runs, in their order."""
        return [self.tuned[one].final for one in work]

    def rewards(self, work: Sequence[Training]) -> list[TrainedReward]:
        return [self.trained[one] for one in work]


@functools.lru_cache(maxsize=4)
def _reference(shelf: Shelf, _digest: str | None, split: str) -> Array:
    """Made once a process, for a shelf and its world's digest: every run of a world compares with the same."""
    return reference(shelf.load(), split)
