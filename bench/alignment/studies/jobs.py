"""What the studies that train are made of: rewards and fine-tuning runs, in worker processes, each result kept.

A job is a frozen dataclass; its result is JSON, in a file of the work folder named by all that decides it. A study that
was interrupted finds what it had and goes on; studies that ask for the same job share it.
"""

import functools
import hashlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from bench import runner, world
from bench.alignment import rewards
from bench.alignment.benchmark import digest
from bench.alignment.evaluate import evaluate, generate, means, reference
from bench.alignment.prompts import training_prompts
from bench.alignment.rewards import RewardConfig
from bench.alignment.rewards.config import STATES
from bench.motion.metrics import Array
from bench.world import data
from methods.finetune import FinetuneConfig, FinetuneError, finetune
from methods.interface import Reward

VALIDATION_NOISE = 0


@dataclass(frozen=True)
class Training:
    """A reward trained on the world's motion, or the world's own. Its result: `retrieval` on the test split, and
    `levels` where asked."""

    reward: RewardConfig | None
    """None: the world's own, which is not trained."""
    levels: tuple[int, ...] = ()
    """Timesteps at which noised motions are retrieved too, with the time token if the reward has learned it."""
    noised: str = STATES
    """What is noised there, of rewards.config.NOISED."""

    @property
    def label(self) -> str:
        own = self.reward
        if own is None:
            return "the world's own reward"
        noisy = f", noise-aware of {own.noised}" if own.noise else ""
        return f"reward on {own.share:.0%} of the clips{', SPL' if own.spl else ''}{noisy}, seed {own.seed}"


@dataclass(frozen=True)
class Tuning:
    """A fine-tuning run of the base, or the base itself where `method` is empty. Its result: `curve` on validation
    prompts where `measured` names trajectories, and `final` test metrics."""

    method: str = ""
    lr: float = 1e-5
    trajectories: int = 1
    seed: int = 0
    reward: RewardConfig | None = None
    """Whose reward; None: the world's own."""
    second: RewardConfig | None = None
    """Another reward that looks on: its validation score is in the curve as `second`."""
    pull: float = 0.0
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


Job = Training | Tuning


class Jobs:
    """Runs jobs of one world. `folder` keeps results and rewards; `say` is told of progress."""

    def __init__(
        self, folder: Path, weights: Path = world.WEIGHTS, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self.folder, self.weights, self.say = folder, weights, say
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, jobs: Sequence[Job]) -> dict[Job, dict]:
        """The result of every job; rewards are trained before what needs them. Each process has one thread.

        FinetuneError, by the job's label, for a run that its numbers stopped, after all others: their results are kept.
        """
        jobs = list(dict.fromkeys(jobs))
        needed = [Training(own) for job in jobs if isinstance(job, Tuning) for own in (job.reward, job.second) if own]
        first = list(dict.fromkeys([*needed, *(job for job in jobs if isinstance(job, Training))]))
        found: dict[Job, dict] = {}
        if first:
            data.cached(self.folder / "data.safetensors", world.load(self.weights).content)
        # Recipes that differ in stage two alone share the files of stage one: one of them makes these ahead.
        ahead = {str(job.reward.stage_one()): job for job in reversed(first) if job.reward}
        for part in ([*ahead.values()], first, [job for job in jobs if isinstance(job, Tuning)]):
            found |= self._in_parallel(part)
        for job, result in found.items():
            if reason := result.get("reason"):
                raise FinetuneError(f"{job.label}: {reason}")
        return found

    def _in_parallel(self, jobs: Sequence[Job]) -> dict[Job, dict]:
        kept = {job: result for job in jobs if (result := read(self.folder, self.weights, job)) is not None}
        left = [job for job in jobs if job not in kept]
        if not left:
            return kept
        began = time.monotonic()
        context = multiprocessing.get_context("spawn")
        workers = ProcessPoolExecutor(
            min(os.cpu_count() or 1, len(left)),
            context,
            initializer=runner.start_worker,
            initargs=(runner.third_party_modules(), 1),
        )
        try:
            futures = {workers.submit(do, job, self.folder, self.weights): job for job in left}
            for done, future in enumerate(as_completed(futures), start=1):
                kept[futures[future]] = future.result()
                gone = time.monotonic() - began
                more = gone / done * (len(left) - done)
                self.say(f"{done} of {len(left)}, {gone:.0f} s, about {more:.0f} s left: {futures[future].label}")
        finally:
            workers.shutdown(wait=True, cancel_futures=True)
        return {job: kept[job] for job in jobs}


def read(folder: Path, weights: Path, job: Job) -> dict | None:
    """The kept result of a job, as `do` returned it, if there is one."""
    path = _result_file(folder, weights, job)
    if not path.is_file():
        return None
    kept = json.loads(path.read_text())
    del kept["job"]  # for whoever opens the file
    return kept


def do(job: Job, folder: Path, weights: Path) -> dict:
    """Runs a job and keeps its result."""
    result = _train(job, folder, weights) if isinstance(job, Training) else _tune(job, folder, weights)
    path = _result_file(folder, weights, job)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps({"job": asdict(job), **result}) + "\n")
    temporary.replace(path)
    return result


def _result_file(folder: Path, weights: Path, job: Job) -> Path:
    return folder / f"{_key(job, weights)}.json"


def _key(job: object, weights: Path) -> str:
    """Of everything that decides a result."""
    said = json.dumps([type(job).__name__, asdict(job), digest(weights)])  # type: ignore[call-overload]  # a dataclass
    return hashlib.sha256(said.encode()).hexdigest()[:20]


def _train(job: Training, folder: Path, weights: Path) -> dict:
    own = world.load(weights)
    if job.reward is None:
        return {"retrieval": rewards.retrieval(own, own.reward, "test"), "levels": [], "training": {}}
    path = _reward_file(folder, weights, job.reward)
    if not path.is_file():
        content = data.cached(folder / "data.safetensors", own.content)
        rewards.save(rewards.train(job.reward, own, folder / "rewards", _quiet, content), path)
    trained = rewards.load(path, own)
    aware = job.reward.noise > 0
    return {
        "retrieval": rewards.retrieval(own, trained, "test"),
        "levels": [rewards.retrieval(own, trained, "test", at, aware=aware, noised=job.noised) for at in job.levels],
        "training": trained.metrics,
    }


def _quiet(_: str) -> None:
    """A worker has no terminal."""


def _reward_file(folder: Path, weights: Path, config: RewardConfig) -> Path:
    return folder / f"reward-{_key(config, weights)}.safetensors"


def _tune(job: Tuning, folder: Path, weights: Path) -> dict:
    own = world.load(weights)
    if job.reward is not None:
        own.reward = rewards.load(_reward_file(folder, weights, job.reward), own)
    second = rewards.load(_reward_file(folder, weights, job.second), own) if job.second else None
    real = {split: _reference(weights, digest(weights), split) for split in ("val", "test")}

    def on_validation() -> dict:
        found = means(evaluate(own, "val", job.validation, 1, VALIDATION_NOISE, job.steps, real=real["val"]))
        return found | ({} if second is None else {"second": _held_out(own, second, job)})

    if not job.method:
        return {"curve": [], "final": _on_test(own, job, real["test"])}
    config = FinetuneConfig(
        method=job.method,
        lr=job.lr,
        warm_up=job.warm_up,
        batch=job.batch,
        trajectories=job.trajectories,
        pull=job.pull,
        seed=job.seed,
    )
    try:
        run = finetune(
            config,
            own.backbone,
            own.reward,
            own.sampler(job.steps),
            training_prompts(own, job.prompts),
            measure=on_validation if job.measured else None,
            measure_at=job.measured,
        )
    except FinetuneError as error:
        return {"reason": str(error)}
    return {"curve": run.curve.evaluations, "final": _on_test(own, job, real["test"])}


@functools.cache
def _reference(weights: Path, _: str, split: str) -> Array:
    """Made once a process, for a file's path and digest: every run of a world compares with the same."""
    return reference(world.load(weights), split)


def _on_test(own: world.World, job: Tuning, real: Array) -> dict:
    return means(evaluate(own, "test", job.test, job.repeats, job.seed, job.steps, real=real))


def _held_out(own: world.World, reward: Reward, job: Tuning) -> float:
    """The mean validation score of a reward that nothing was trained on; of the same motions that evaluate makes."""
    trained = own.reward
    own.reward = reward  # type: ignore[assignment]  # any reward scores
    try:
        with torch.no_grad():
            return float(generate(own, own.prompts("val", job.validation), VALIDATION_NOISE, job.steps)[1].mean())
    finally:
        own.reward = trained
