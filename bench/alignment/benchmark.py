"""The alignment benchmark: every method fine-tunes the same base on the same prompts, for as many trajectories.

A method's learning rate is chosen on validation prompts from one grid; its runs are then measured on test prompts that
nothing was chosen on. Runs are independent and go through worker processes of one thread each, so that a run's seconds
are those of one core. Trajectories are counted, not timed: the same seed gives the same table, all but the seconds.
"""

import contextlib
import copy
import functools
import hashlib
import math
import multiprocessing
import os
import queue
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing.synchronize import Event
from pathlib import Path

import torch

from bench import record, runner
from bench.alignment import reading, world
from bench.alignment.evaluate import evaluate, evaluate_real, reference
from bench.alignment.finetune import FinetuneConfig, FinetuneError, finetune, make_updater
from bench.alignment.metrics import Array, Interval
from bench.alignment.prompts import training_prompts
from bench.alignment.world.data import LONGEST
from bench.cases import Case
from bench.meters.tracker import Tracker
from bench.profiles import profile
from bench.setup import draw_plan
from methods import MethodError, Plan, parse, rollout, sample, spec

METHODS = ("draft", "draft:k=10", "alignprop", "drtune:k=4", "refl", "easytune")
"""The published table's, and DRaFT-10. Two are not as in the memory table: at 20 steps AlignProp fixed at half of them
is DRaFT-10, so it draws as published; DRTune trains a fifth of the steps, as there."""
GRID = (3e-6, 1e-5, 3e-5, 1e-4, 3e-4)
"""Learning rates, the published one among them; the same for all."""
SEEDS = 3
SELECTION_SEED = 100
"""Of the runs that a learning rate is chosen by: not one of those that are reported."""
VALIDATION_NOISE = 0
TARGET = "draft"
"""Whose last reward is the one to reach (DRaFT-T): what a comparison of costs at equal alignment needs."""
NEWS_SECONDS = 0.2
PROFILE = "frozen+train_mode=false"
CLOCK = "CPU seconds of one thread, updates only, on this machine: wall seconds where a core is free"
MEMORY = "live tensor bytes of one update on the CPU at this world's scale: no allocator, no GPU"


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
    trajectories: int = 32
    measured: tuple[int, ...] = (2, 4, 8, 16, 24)
    """Trajectories after which the validation prompts are sampled, beside the first and the last."""
    selection: int = 10
    """Trajectories of the runs that a learning rate is chosen by."""
    grid: tuple[float, ...] = GRID
    validation: int = 64
    """Prompts of the curve, and of the choice."""
    test: int = 256
    """Prompts of the final metrics."""
    repeats: int = 2
    """Noise seeds of the final metrics, for each seed of training."""


SIZES = {
    "full": Size(),
    "quick": Size(
        prompts=256,
        warm_up=2,
        trajectories=5,
        measured=(2,),
        selection=3,
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
"""full: what is reported. quick: a look, and part of plain `pytest bench/`. tiny: whether it runs; ranks nothing."""


@dataclass(frozen=True)
class AlignmentCase:
    """One row: a method at a size, over seeds 0 to `seeds` - 1."""

    method: str
    size: str = "quick"
    seeds: int = SEEDS

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise MethodError(f"unknown alignment size {self.size!r}: choose one of {', '.join(SIZES)}")
        if not 1 <= self.seeds <= reading.MOST_SEEDS:
            raise MethodError(f"alignment seeds must be between 1 and {reading.MOST_SEEDS}, not {self.seeds}")
        method = parse(self.method)
        method.plan(SIZES[self.size].steps, random.Random(0))  # MethodError now if the options do not fit
        object.__setattr__(self, "method", spec(method))  # one way to write it, so that ids are stable

    @property
    def scale(self) -> Size:
        return SIZES[self.size]

    @property
    def id(self) -> str:
        words = [self.method, "embedded", f"T{self.scale.steps}", f"B{self.scale.batch}", self.size]
        if self.seeds != SEEDS:
            words.append(f"{self.seeds}seeds")
        return "-".join(words).replace(":", "-").replace(",", "-").replace("=", "")


@dataclass(frozen=True)
class Job:
    """One run of one worker."""

    method: str
    lr: float
    seed: int
    size: Size
    chooses: bool
    """It only tells how good a learning rate is: fewer trajectories, measured on validation prompts at the end."""

    @property
    def label(self) -> str:
        return f"{self.method}, lr {self.lr:g}, {'choosing the lr' if self.chooses else f'seed {self.seed}'}"


# In a worker.

_stop: Event | None = None
_weights = world.WEIGHTS


def _start_worker(modules: list[str], stop: Event, weights: Path) -> None:
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
    """Runs one job: the validation `reward` it ends with where it chooses a learning rate, else its validation `curve`
    and `final` test metrics. A run that its numbers stop (a reward that is not finite) has a `reason` instead."""
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
            return {"reward": _on_validation(size)["reward"]}
        run = start(measure=lambda: _on_validation(size), measure_at=size.measured)
    except FinetuneError as error:
        return {"reason": str(error)}
    return {"curve": run.curve.evaluations, "final": _on_test(size, job.seed)}


def base(size: Size, seed: int) -> dict:
    """Test metrics of the base, under the noise that a run of this seed is measured under."""
    _world().backbone.denoiser.load_state_dict(_base_weights())
    return _on_test(size, seed)


def real(size: Size) -> dict:
    """Test metrics of real motions."""
    return _means(evaluate_real(_world(), "test", size.test))


def _on_validation(size: Size) -> dict:
    _go_on()
    found = _measured("val", size.validation, 1, VALIDATION_NOISE, size.steps)
    return {name: value for name, value in found.items() if value is not None}


def _on_test(size: Size, seed: int) -> dict:
    _go_on()
    return _measured("test", size.test, size.repeats, seed, size.steps)


def _measured(split: str, count: int, repeats: int, seed: int, steps: int) -> dict[str, float | None]:
    return _means(evaluate(_world(), split, count, repeats, seed, steps, real=_reference(split)))


@functools.cache
def _reference(split: str) -> Array:
    return reference(_world(), split)


def _means(found: dict[str, Interval]) -> dict[str, float | None]:
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
        batch = own.batch(prompts.texts, torch.full((size.batch,), LONGEST))
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


# In the process that was asked.


class Benchmark:
    """Runs some cases, all of one size and as many seeds, in worker processes, ahead of being asked for a row.

    say: told of progress, by whoever waits for a row. kept: rows of an aborted run, from which the base's metrics and
    the reward to reach are taken.
    """

    def __init__(
        self,
        cases: Sequence[AlignmentCase],
        weights: Path = world.WEIGHTS,
        say: Callable[[str], None] = lambda _: None,
        kept: Sequence[dict] = (),
    ) -> None:
        self._weights = weights
        self._say = say
        self._news: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._began = time.monotonic()
        self._finished = self._total = 0
        self._kept = [row["alignment"] for row in kept]
        self._stack = contextlib.ExitStack()
        self._found: dict[AlignmentCase, Future] = {}
        if cases:
            self._start(cases)

    def _start(self, cases: Sequence[AlignmentCase]) -> None:
        size, seeds = cases[0].scale, cases[0].seeds
        cores = os.cpu_count() or 1
        context = multiprocessing.get_context("spawn")
        stop = context.Event()
        self._workers = ProcessPoolExecutor(
            cores, context, initializer=_start_worker, initargs=(runner.third_party_modules(), stop, self._weights)
        )
        # A thread waits for each method's runs; two methods or more overlap, so that no core idles at one's last run.
        threads = ThreadPoolExecutor(min(max(2, cores), len(cases)))
        self._stack.callback(threads.shutdown, wait=True)
        self._stack.callback(self._workers.shutdown, wait=True, cancel_futures=True)
        self._stack.callback(stop.set)
        self._total = len(cases) * (len(size.grid) + seeds + 1) + (0 if self._kept else seeds + 1)
        if not self._kept:
            self._bases = [self._submit(f"base, noise {seed}", base, size, seed) for seed in range(seeds)]
            self._real = self._submit("real data", real, size)
        for case in sorted(cases, key=lambda case: case.method != TARGET):
            self._found[case] = threads.submit(self._run, case)

    def _submit(self, label: str, task: Callable, *arguments) -> Future:
        future = self._workers.submit(task, *arguments)
        future.add_done_callback(functools.partial(self._tell, label))
        return future

    def _tell(self, label: str, future: Future) -> None:
        if future.cancelled():
            return
        self._finished += 1
        gone = time.monotonic() - self._began
        left = gone / self._finished * (self._total - self._finished)
        self._news.put(f"{self._finished} of {self._total} runs, {gone:.0f} s, about {left:.0f} s left: {label}")

    def _wait(self, future: Future):
        """The future's result. News is told by the thread that waits, and not by that of the workers, because a
        terminal belongs to one thread."""
        while not future.done():
            with contextlib.suppress(queue.Empty):
                self._say(self._news.get(timeout=NEWS_SECONDS))
        return future.result()

    def _train(self, jobs: Sequence[Job]) -> list[dict]:
        return [future.result() for future in [self._submit(job.label, train, job) for job in jobs]]

    def _run(self, case: AlignmentCase) -> dict:
        """Everything about one method that is not relative to another."""
        size = case.scale
        counted = self._submit(f"{case.method}, memory", memory, case.method, size)
        tried = self._train([Job(case.method, lr, SELECTION_SEED, size, chooses=True) for lr in size.grid])
        lr = reading.choose({lr: result.get("reward") for lr, result in zip(size.grid, tried, strict=True)})
        if lr is None:
            raise FinetuneError(f"no learning rate of the grid trains {case.method}: {tried[0]['reason']}")
        runs = self._train([Job(case.method, lr, seed, size, chooses=False) for seed in range(case.seeds)])
        if stopped := [run["reason"] for run in runs if "reason" in run]:
            raise FinetuneError(f"{case.method} at lr {lr:g}: {stopped[0]}")
        return {
            "method": case.method,
            "lr": lr,
            "grid": list(size.grid),
            "at_edge": reading.edge(lr, size.grid),
            "selection": [{"lr": rate, **result} for rate, result in zip(size.grid, tried, strict=True)],
            "seeds": list(range(case.seeds)),
            "curves": [run["curve"] for run in runs],
            "finals": [run["final"] for run in runs],
            "memory": counted.result() | {"what": MEMORY},
            "clock": CLOCK,
        }

    def record(self, case: AlignmentCase) -> dict:
        """Waits for a case's row. Never raises but for an interrupt."""
        try:
            found = self._wait(self._found[case]) | self._reference()
        except BrokenProcessPool:
            reason = f"a worker died while {case.id} ran, most likely for memory: run it alone, with --method"
            return make_record(case, self._weights, "failed", reason)
        except Exception as error:
            return make_record(case, self._weights, "failed", runner.one_sentence(error))
        return make_record(case, self._weights, "ok", alignment=found | compared(found, self._target()))

    def _reference(self) -> dict:
        """What every row compares with: of the base a result a seed, and real data."""
        if self._kept:
            return {name: self._kept[0][name] for name in ("bases", "real")}
        return {"bases": [self._wait(future) for future in self._bases], "real": self._wait(self._real)}

    def _target(self) -> float | None:
        """The mean reward that TARGET ends with on the validation prompts; None if it was not run, or failed."""
        found = [row["curves"] for row in self._kept if row["method"] == TARGET]
        for case, future in self._found.items():
            if case.method == TARGET:
                with contextlib.suppress(Exception):  # its own row says what happened
                    found.append(self._wait(future)["curves"])
        return reading.mean_curve(found[0])[-1]["reward"] if found else None

    def close(self) -> None:
        """Stops the workers at their next trajectory; what has not begun is dropped."""
        self._stack.close()


def compared(found: dict, target: float | None) -> dict:
    """What a method's runs amount to, beside the base and the reward to reach.

    `final`, `base` and `gain` are means over seeds with 95% intervals. A gain is that of each seed's run over the base
    under the same noise, so that what the noise does to both is not in its interval.
    """
    runs, bases = found["finals"], found["bases"]
    final = {name: reading.over_seeds([run[name] for run in runs]) for name in runs[0]}
    of_base = {name: reading.over_seeds([own[name] for own in bases]) for name in runs[0]}
    gain = {
        name: reading.over_seeds([_difference(run[name], own[name]) for run, own in zip(runs, bases, strict=True)])
        for name in runs[0]
    }
    return {
        "final": final,
        "base": of_base,
        "gain": gain,
        "to_reach": to_reach(found["curves"], found["memory"]["peak"], target),
        "hacked": reading.hacked(final, of_base),
    }


def _difference(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def to_reach(curves: Sequence[reading.Curve], peak: int, target: float | None) -> dict:
    """What a method needs to reach the target, on the mean of its validation curves; None for what it never does, and
    why in `note`."""
    curve = reading.mean_curve(curves)
    best = max(point["reward"] for point in curve)
    trajectories = None if target is None else reading.reach(curve, target, "trajectories")
    note = None
    if target is None:
        note = f"there is no reward to reach: {TARGET} was not run, or failed"
    elif trajectories is None:
        note = f"never reached in {curve[-1]['trajectories']:.0f} trajectories: {best:.3f} at best"
    return {
        "of": TARGET,
        "reward": target,
        "trajectories": trajectories,
        "seconds": None if target is None else reading.reach(curve, target, "cpu_seconds"),
        "peak_bytes": None if trajectories is None else peak,
        "note": note,
    }


def make_record(case: AlignmentCase, weights: Path, status: str, reason: str | None = None, **measured) -> dict:
    """As bench.record.make, for a case of the embedded world; `measured`: `alignment`, as JSON types."""
    size = case.scale
    planned = Case(case.method, steps=size.steps, batch=size.batch)
    return {
        "schema": record.SCHEMA,
        "kind": "alignment",
        "case": {
            "method": case.method,
            "backbone": "embedded",
            "steps": size.steps,
            "batch": size.batch,
            "frames": LONGEST,
            "profile": PROFILE,
            "meter": "host",
            "seed": 0,
            "size": case.size,
            "seeds": case.seeds,
            "id": case.id,
        },
        "status": status,
        "reason": reason,
        "simulated": False,
        "plan": record.describe_plan(planned, draw_plan(planned)),
        "settings": {
            **asdict(profile(PROFILE)),
            **asdict(size),
            "optimizer": "AdamW",
            "threads": 1,
            "world": digest(weights),
        },
        "environment": record.environment(with_gpu=False),
        **measured,
    }


@functools.cache
def digest(path: Path) -> str | None:
    """Of the weights that everything began from: rows of two worlds do not compare. None if there are none."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else None
