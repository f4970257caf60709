"""Step time: real updates, on this machine's device, in a pass for themselves.

Methods are interleaved: every round runs one update of each, so that a slow minute of a noisy machine falls on all of
them alike. Nothing is observed while the clock runs.
"""

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import msgspec
import torch

from bench.cases import Case
from bench.lane import Desk, Job, Lane, WorkerDiedError
from bench.memory import out_of_memory
from bench.meters import METERS
from bench.records import RewardStepTimeRecord, StepTimeRecord, make
from bench.records.types import Elapsed, Spread, Status, Timing
from bench.reward_cases import RewardCase
from bench.reward_setup import RewardRun, prepare
from bench.setup import Run, draw_plan
from bench.strict_json import parse
from methods.errors import one_sentence
from methods.files import write_atomically

ROUNDS, OF_LONG, LONG = 3, 2, 10.0
"""Rounds where no other number is asked for: two of updates that take LONG seconds, which are a mean of many steps."""

Records = list[StepTimeRecord | RewardStepTimeRecord]


def default_scale(quick: bool = False, backbone: str = "mld") -> Case:
    """What a machine without a GPU can time: the published model and length, a batch of 2. With one: the paper's."""
    steps = 10 if quick else Case(backbone=backbone).steps
    if torch.cuda.is_available():
        return Case(backbone=backbone, steps=steps, batch=64 if quick else 256, meter="cuda")
    return Case(backbone=backbone, steps=steps, batch=1 if quick else 2, meter="host")


@dataclass(frozen=True)
class StepTimeJob:
    """Times the updates of some cases, round by round."""

    cases: tuple[Case | RewardCase, ...]
    rounds: int | None = None
    """None: ROUNDS, or OF_LONG."""

    kind: ClassVar[str] = "step_time"
    result: ClassVar = Records
    inputs: ClassVar[Mapping[str, str | None]] = {}
    alone: ClassVar[bool] = True
    card: ClassVar[bool] = False

    @property
    def id(self) -> str:
        return f"step time of {len(self.cases)} cases"

    def run(self, desk: Desk) -> Records:
        return measure(self.cases, self.rounds, desk)


class TimingJob(Job, Protocol):
    """A job that gives a step-time record of each of its cases, in their order."""

    @property
    def cases(self) -> tuple[Case | RewardCase, ...]: ...


class StepTimeRuns:
    """The step-time records of cases: all are measured together before the first is shown."""

    def __init__(self, lane: Lane, job: TimingJob) -> None:
        self._lane, self._job = lane, job

    def record(self, case: Case | RewardCase) -> StepTimeRecord | RewardStepTimeRecord:
        """Waits for all. Never raises but for an interrupt."""
        status: Status = "failed"
        try:
            return self._lane.wait(self._lane.submit(self._job))[self._job.cases.index(case)]
        except WorkerDiedError as error:
            status, reason = ("oom" if error.killed else "failed"), f"{error}: lower --time-batch"
        except Exception as error:
            reason = one_sentence(error)
        return make.step_time(case, status, f"{case.id}: {reason}")


@dataclass
class _Clocked:
    case: Case | RewardCase
    run: Run | RewardRun
    seconds: list[float]


def measure(cases: Sequence[Case | RewardCase], rounds: int | None, desk: Desk) -> Records:
    """The step-time records of `cases`, in their order, timed round by round; `rounds` as of StepTimeJob. Never raises
    but for an interrupt.

    Each time is on the disk as soon as it was taken: after a kill the next try takes those that lack.
    """
    kept = desk.folder / "seconds.json"
    seconds = _read(kept)
    records: dict[Case | RewardCase, StepTimeRecord | RewardStepTimeRecord] = {}
    clocked: list[_Clocked] = []
    for case in cases:
        taken = seconds.setdefault(case.id, [])
        if _enough(taken, rounds):
            continue
        desk.enter(f"building {case.id}")
        try:
            run = prepare(case, METERS[case.meter].device or "cpu")
            run.warm_up()
            clocked.append(_Clocked(case, run, taken))
        except Exception as error:
            records[case] = _failed(case, error)
    for number in range(rounds or ROUNDS):
        for item in list(clocked):
            if len(item.seconds) > number or _enough(item.seconds, rounds):
                continue
            desk.say(f"round {number + 1} of {rounds or ROUNDS}: {item.case.id}")
            desk.enter(f"timing {item.case.id}")
            try:
                item.seconds.append(_timed(item.run))
                write_atomically(kept, json.dumps(seconds))
            except Exception as error:
                records[item.case] = _failed(item.case, error)
                clocked.remove(item)
    done = {
        case: make.step_time(case, "ok", timing=summary(case, seconds[case.id]))
        for case in cases
        if case not in records
    }
    return [(records | done)[case] for case in cases]


def _enough(seconds: Sequence[float], rounds: int | None) -> bool:
    """Whether a case was timed often enough."""
    usual = OF_LONG if seconds and min(seconds) >= LONG else ROUNDS
    return len(seconds) >= (rounds or usual)


def _read(path: Path) -> dict[str, list[float]]:
    """Seconds by case that an earlier try took; none where there is no file, or one that was damaged."""
    try:
        return msgspec.convert(parse(path.read_text()), dict[str, list[Elapsed]])
    except (OSError, ValueError, msgspec.ValidationError):
        return {}


def _failed(case: Case | RewardCase, error: Exception) -> StepTimeRecord | RewardStepTimeRecord:
    return make.step_time(case, "oom" if out_of_memory(error) else "failed", one_sentence(error))


def _timed(run: Run | RewardRun) -> float:
    cuda = METERS[run.case.meter].device == "cuda"
    if cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    run.update()
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def summary(case: Case | RewardCase, seconds: list[float]) -> Timing:
    """Seconds per update, per optimiser step and per sample (one motion of one trajectory), with median and spread."""
    steps = draw_plan(case).updates if isinstance(case, Case) else 1
    return Timing(
        rounds=len(seconds),
        interleaved=True,
        seconds_per_update=seconds,
        per_update=spread(seconds),
        per_optimiser_step=spread([s / steps for s in seconds]),
        per_sample=spread([s / case.batch for s in seconds]),
    )


def spread(values: list[float]) -> Spread:
    """Median, least, most and the quartiles' distance."""
    quartiles = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return Spread(statistics.median(values), min(values), max(values), quartiles[2] - quartiles[0])
