"""Every method's row: its jobs, and the record that they amount to."""

import contextlib
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from msgspec import structs

from bench import devices, world
from bench.alignment import reading
from bench.alignment.benchmark.cases import PUBLISHED_LR, TARGET, AlignmentCase
from bench.alignment.benchmark.jobs import SHOWN_SEED, Base, Cost, CountCost, Real, Run, Shown, Train, TryRate
from bench.cases import Case
from bench.lane import Lane, WorkerDiedError
from bench.profiles import profile
from bench.records import AlignmentRecord, make, types
from bench.records.types import Alignment, AlignmentSettings, Metrics, ShownMotion, Status, TriedRate
from methods.errors import one_sentence
from methods.finetune import FinetuneError

PROFILE = "frozen+train_mode=false"
CLOCK_OF_GPU = "CPU seconds of the process that feeds {device}, while it waits too; updates only, one run at a time"
CLOCK = "CPU seconds of one thread, updates only, on this machine: wall seconds where a core is free"


@dataclass(frozen=True)
class _Trained:
    """Everything about one method that is not relative to another."""

    tried: Sequence[TriedRate]
    lr: float
    runs: Sequence[Run]
    cost: Cost


class AlignmentRuns:
    """Runs some cases, all of one size and as many seeds and on one device, ahead of being asked for a row."""

    def __init__(
        self,
        lane: Lane,
        cases: Sequence[AlignmentCase],
        weights: Path = world.WEIGHTS,
        device: torch.device = devices.CPU,
    ) -> None:
        self._lane, self._weights, self._device = lane, weights, device
        self._trained: dict[AlignmentCase, Future[_Trained]] = {}
        if not cases:
            return
        size, seeds = cases[0].scale, cases[0].seeds
        lane.expected += len(cases) * (seeds + 1) + seeds + 2
        at = str(device)
        self._bases = [lane.submit(Base(weights, size, seed, device=at)) for seed in range(seeds)]
        self._real = lane.submit(Real(weights, size, device=at))
        self._shown = lane.submit(Shown(weights, size, device=at))
        # A thread waits for each method's runs; methods overlap, so that no core idles at one's last run.
        self._threads = ThreadPoolExecutor(min(3, len(cases)))
        for case in sorted(cases, key=lambda case: case.method != TARGET):
            self._trained[case] = self._threads.submit(self._train, case)
        self._threads.shutdown(wait=False)

    def _train(self, case: AlignmentCase) -> _Trained:
        weights, size, at = self._weights, case.scale, str(self._device)
        counted = self._lane.submit(CountCost(weights, size, case.method, device=at))
        tried = self._try_rates(case)
        lr = reading.choose({lr: rate.metrics for lr, rate in tried.items()})
        if lr is None:
            raise FinetuneError(
                f"no learning rate trains {case.method}, {min(tried):g} either: {tried[min(tried)].reason}"
            )
        jobs = [Train(weights, size, case.method, lr, seed, device=at) for seed in range(case.seeds)]
        runs: list[Run] = [future.result() for future in self._lane.submit_all(jobs)]
        if stopped := [run.reason for run in runs if run.reason]:
            raise FinetuneError(f"{case.method} at lr {lr:g}: {stopped[0]}")
        return _Trained([tried[rate] for rate in sorted(tried)], lr, runs, counted.result())

    def _try_rates(self, case: AlignmentCase) -> dict[float, TriedRate]:
        """What runs ended with that a learning rate is chosen by, by rate."""
        tried: dict[float, TriedRate] = {}
        metrics: dict[float, Metrics] = {}
        while rates := reading.untried(metrics, case.scale.grid, PUBLISHED_LR):
            self._lane.expected += len(rates)
            jobs = [TryRate(self._weights, case.scale, case.method, lr, device=str(self._device)) for lr in rates]
            futures = self._lane.submit_all(jobs)
            tried |= zip(rates, (future.result() for future in futures), strict=True)
            metrics = {lr: rate.metrics for lr, rate in tried.items()}
        return tried

    def record(self, case: AlignmentCase) -> AlignmentRecord:
        """Waits for a case's row. Never raises but for an interrupt."""
        try:
            return made(case, self._weights, "ok", alignment=self._alignment(case), device=self._device)
        except WorkerDiedError as error:
            reason = f"{case.id}: {error}: run it alone, with --method"
        except Exception as error:
            reason = one_sentence(error)
        return made(case, self._weights, "failed", reason, device=self._device)

    def _alignment(self, case: AlignmentCase) -> Alignment:
        trained: _Trained = self._lane.wait(self._trained[case])
        bases: list[Metrics] = [self._lane.wait(future) for future in self._bases]
        beside = zip(self._lane.wait(self._shown), trained.runs[SHOWN_SEED].motions, strict=True)
        rates = {rate.lr: rate.metrics for rate in trained.tried}
        finals, curves = [run.final for run in trained.runs], [run.curve for run in trained.runs]
        return Alignment(
            method=case.method,
            lr=trained.lr,
            grid=list(case.scale.grid),
            at_edge=reading.edge(trained.lr, case.scale.grid),
            lr_by_reward=reading.choose(rates, "reward"),
            selection=list(trained.tried),
            seeds=list(range(case.seeds)),
            curves=curves,
            finals=finals,
            bases=bases,
            real=self._lane.wait(self._real),
            motions=[ShownMotion(**structs.asdict(prompt), tuned=tuned) for prompt, tuned in beside],
            memory=trained.cost.memory,
            flops=trained.cost.flops,
            clock=CLOCK if self._device == devices.CPU else CLOCK_OF_GPU.format(device=devices.name(self._device)),
            **compared(finals, bases),
            to_reach=to_reach(curves, trained.cost.memory.peak, self._target()),
        )

    def _target(self) -> float | None:
        """The mean reward that TARGET ends with on the validation prompts; None if it was not run, or failed."""
        for case, future in self._trained.items():
            if case.method == TARGET:
                with contextlib.suppress(Exception):  # the case's row says what happened
                    curves = [run.curve for run in self._lane.wait(future).runs]
                    return reading.mean_curve(curves)[-1].metrics["reward"]
        return None


def compared(finals: Sequence[Metrics], bases: Sequence[Metrics]) -> dict[str, dict[str, types.Interval]]:
    """`final`, `base` and `gain` by metric, means over seeds with 95% intervals (Student's t). A gain is that of each
    seed's run over the base under the same noise, so that what the noise does to both is not in its interval."""
    names = finals[0]
    return {
        "final": {name: reading.of_seeds(finals, name) for name in names},
        "base": {name: reading.of_seeds(bases, name) for name in names},
        "gain": {name: reading.paired(finals, bases, name) for name in names},
    }


def to_reach(curves: Sequence[reading.Curve], peak: int, target: float | None) -> types.ToReach:
    """What a method needs to reach the target, on the mean of its validation curves; None for what it never does, and
    why in `note`."""
    curve = reading.mean_curve(curves)
    best = max(point.metrics["reward"] or 0.0 for point in curve)
    trajectories = None if target is None else reading.reach(curve, target, "trajectories")
    note = None
    if target is None:
        note = f"there is no reward to reach: {TARGET} was not run, or failed"
    elif trajectories is None:
        note = f"never reached in {curve[-1].trajectories:.0f} trajectories: {best:.3f} at best"
    return types.ToReach(
        of=TARGET,
        reward=target,
        trajectories=trajectories,
        seconds=None if target is None else reading.reach(curve, target, "cpu_seconds"),
        peak_bytes=None if trajectories is None else peak,
        note=note,
    )


def made(
    case: AlignmentCase,
    weights: Path,
    status: Status,
    reason: str | None = None,
    alignment: Alignment | None = None,
    device: torch.device = devices.CPU,
) -> AlignmentRecord:
    """The record of a case, on the world in `weights`, run on a device of the case's type."""
    size, switches = case.scale, profile(PROFILE)
    return AlignmentRecord(
        status=status,
        reason=reason,
        case=types.AlignmentCase(
            case.method, case.world, size.steps, size.batch, case.size, case.seeds, case.id, case.device
        ),
        plan=make.plan_of(Case(case.method, steps=size.steps, batch=size.batch)),
        settings=AlignmentSettings(
            reward_frozen=switches.reward_frozen,
            train_mode=switches.train_mode,
            attention=switches.attention,
            precision=switches.precision,
            **asdict(size),
            optimizer="AdamW",
            threads=1,
            world=world.digest(weights),
        ),
        environment=make.environment(device=device),
        alignment=alignment,
    )
