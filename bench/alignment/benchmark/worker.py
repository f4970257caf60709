"""What a worker process does: trains and measures one run, measures the base and real motions, counts memory."""

import copy
import functools
import math
import random
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path

import torch

from bench import record, runner, world
from bench.alignment import motions
from bench.alignment.benchmark.cases import Size
from bench.alignment.evaluate import evaluate, evaluate_real, means, reference
from bench.alignment.prompts import training_prompts
from bench.meters.tracker import Tracker
from bench.motion.metrics import Array, OverRepeats
from methods import Plan, parse, rollout, sample
from methods.finetune import FinetuneConfig, FinetuneError, finetune, make_updater

VALIDATION_NOISE = 0
SHOWN_SEED = 0
"""Of the run whose motions are kept."""


@dataclass(frozen=True)
class Job:
    """One run of one worker."""

    method: str
    lr: float
    seed: int
    size: Size
    chooses: bool
    """It only tells how good a learning rate is: `size.selection` trajectories, then validation prompts."""

    @property
    def label(self) -> str:
        return f"{self.method}, lr {self.lr:g}, {'choosing the lr' if self.chooses else f'seed {self.seed}'}"


_stop: Event | None = None
_weights = world.WEIGHTS


def initialise(modules: list[str], stop: Event, weights: Path) -> None:
    """Before a worker's first task: one thread, the methods' modules, the world's weights, and how to be stopped."""
    global _stop, _weights
    _stop, _weights = stop, weights
    runner.start_worker(modules, threads=1)


def _go_on(_: object = None) -> None:
    """Asked often: InterruptedError once the benchmark was stopped, so that nobody waits for the rest of a run."""
    if _stop is not None and _stop.is_set():
        raise InterruptedError("the benchmark was stopped")


@functools.cache
def _world() -> world.World:
    return world.load(_weights)


@functools.cache
def _base_weights() -> dict[str, torch.Tensor]:
    return copy.deepcopy(_world().backbone.denoiser.state_dict())


def train(job: Job) -> dict:
    """Runs one job: the validation metrics it ends with where it chooses a learning rate, else its validation `curve`
    and `final` test metrics, and the `motions` to show where its seed is SHOWN_SEED. A run that its numbers stop (a
    reward that is not finite) has a `reason` instead."""
    own, size = _world(), job.size
    own.backbone.denoiser.load_state_dict(_base_weights())
    config = FinetuneConfig(
        method=job.method,
        lr=job.lr,
        warm_up=size.warm_up,
        batch=size.batch,
        trajectories=size.selection if job.chooses else size.trajectories,
        seed=job.seed,
    )
    draw = training_prompts(own, size.prompts)
    start = functools.partial(
        finetune, config, own.backbone, own.reward, own.sampler(size.steps), draw, on_trajectory=_go_on
    )
    try:
        if job.chooses:
            start()
            return _on_validation(size)
        known = [_base_on_validation(size)]  # of the first point, where every run is at the base
        run = start(measure=lambda: known.pop() if known else _on_validation(size), measure_at=size.measured)
    except FinetuneError as error:
        return {"reason": str(error)}
    result = {"curve": run.curve.evaluations, "final": _on_test(size, job.seed)}
    return result | ({"motions": motions.sampled(own, size.steps)} if job.seed == SHOWN_SEED else {})


def base(size: Size, seed: int) -> dict:
    """Test metrics of the base, under the noise that a run of this seed is measured under."""
    _world().backbone.denoiser.load_state_dict(_base_weights())
    return _on_test(size, seed)


def real(size: Size) -> dict:
    """Test metrics of real motions."""
    return _means_or_none(evaluate_real(_world(), "test", size.test))


def shown(size: Size) -> list[dict]:
    """Of each prompt that is shown (see bench.alignment.motions) the real motion, and the base's."""
    _world().backbone.denoiser.load_state_dict(_base_weights())
    made = motions.sampled(_world(), size.steps)
    return [about | {"base": own} for about, own in zip(motions.described(_world()), made, strict=True)]


def _on_validation(size: Size) -> dict:
    _go_on()
    return means(evaluate(_world(), "val", size.validation, 1, VALIDATION_NOISE, size.steps, real=_reference("val")))


@functools.cache
def _base_on_validation(size: Size) -> dict:
    """Where every run begins: measured once a worker."""
    _world().backbone.denoiser.load_state_dict(_base_weights())
    return _on_validation(size)


def _on_test(size: Size, seed: int) -> dict:
    _go_on()
    found = evaluate(_world(), "test", size.test, size.repeats, seed, size.steps, real=_reference("test"))
    return _means_or_none(found)


@functools.cache
def _reference(split: str) -> Array:
    return reference(_world(), split)


def _means_or_none(found: dict[str, OverRepeats]) -> dict[str, float | None]:
    """As JSON has it: None for what one repeat cannot tell."""
    return {name: None if math.isnan(value.mean) else value.mean for name, value in found.items()}


def memory(method: str, size: Size) -> dict:
    """Live bytes of one update of a method, beside those of a trajectory without gradients, as the host meter counts
    them: weights, optimiser state and inputs are in them. Of a random plan's draws, the one that holds most."""
    own, sampler = _world(), _world().sampler(size.steps)
    own.backbone.denoiser.load_state_dict(_base_weights())
    prompts = own.prompts("train", size.batch)
    tracker = Tracker()
    with tracker:
        # Copies: what was made before the tracker was on is not counted.
        backbone, reward = copy.deepcopy(own.backbone), copy.deepcopy(own.reward)
        batch = own.batch(prompts.texts, torch.full((size.batch,), own.content.longest))
        state = backbone.initial_state(batch)
        updater = make_updater(backbone.denoiser, FinetuneConfig(method=method))
        warm_up = parse("draft:k=1").plan(size.steps, random.Random(0))  # makes the optimiser's state
        rollout(warm_up, backbone, sampler, reward, batch, state, updater)
        tracker.restart()
        resident = tracker.live
        sample(backbone, sampler, batch, state)
        sampling = tracker.peak
        tracker.restart()
        rollout(_largest_plan(method, size.steps), backbone, sampler, reward, batch, state, updater)
    return {"peak": tracker.peak, "resident": resident, "sampling": sampling}


def _largest_plan(method: str, steps: int) -> Plan:
    plans = (parse(method).plan(steps, random.Random(draw)) for draw in range(record.PLAN_DRAWS))
    return max(plans, key=lambda plan: plan.held)
