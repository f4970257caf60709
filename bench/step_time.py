"""Step time: real updates, on this machine's device, in a pass of their own.

Methods are interleaved: every round runs one update of each, so that a slow minute of a noisy machine falls on all of
them alike. Nothing is observed while the clock runs.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from bench import record
from bench.cases import Case
from bench.reward_cases import RewardCase
from bench.reward_setup import RewardRun, prepare
from bench.runner import one_sentence
from bench.setup import Run, draw_plan

ROUNDS = 3


def default_scale(quick: bool = False) -> Case:
    """What a machine without a GPU can time: the published model and length, a batch of 2. With one: the paper's."""
    if torch.cuda.is_available():
        return Case(steps=10 if quick else 50, batch=64 if quick else 256, meter="cuda")
    return Case(steps=10 if quick else 50, batch=1 if quick else 2, meter="host")


@dataclass
class _Clocked:
    case: Case | RewardCase
    run: Run | RewardRun
    seconds: list[float]


def measure(
    cases: Sequence[Case | RewardCase], rounds: int = ROUNDS, progress: Callable[[str], None] = lambda _: None
) -> list[dict]:
    """The step-time records of `cases`, in their order, timed round by round. Never raises but for an interrupt."""
    records: dict[Case | RewardCase, dict] = {}
    clocked: list[_Clocked] = []
    for case in cases:
        try:
            run = prepare(case, "cuda" if case.meter == "cuda" else "cpu")
            run.warm_up()
            clocked.append(_Clocked(case, run, []))
        except Exception as error:
            records[case] = record.make("step_time", case, _status(error), one_sentence(error))
    for number in range(rounds):
        for item in list(clocked):
            progress(f"round {number + 1} of {rounds}: {item.case.id}")
            try:
                item.seconds.append(_timed(item.run))
            except Exception as error:
                records[item.case] = record.make("step_time", item.case, _status(error), one_sentence(error))
                clocked.remove(item)
    for item in clocked:
        records[item.case] = record.make("step_time", item.case, "ok", timing=summary(item.case, item.seconds))
    return [records[case] for case in cases]


def _status(error: Exception) -> str:
    return "oom" if isinstance(error, torch.OutOfMemoryError | MemoryError) else "failed"


def _timed(run: Run | RewardRun) -> float:
    cuda = run.case.meter == "cuda"
    if cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    run.update()
    if cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def summary(case: Case | RewardCase, seconds: list[float]) -> dict:
    """Seconds per update, per optimiser step and per sample (one motion of one trajectory), with median and spread."""
    steps = draw_plan(case).updates if isinstance(case, Case) else 1
    per = {"update": 1, "optimiser_step": steps, "sample": case.batch}
    return {
        "rounds": len(seconds),
        "interleaved": True,
        "seconds_per_update": seconds,
        **{f"per_{unit}": spread([s / count for s in seconds]) for unit, count in per.items()},
    }


def spread(values: list[float]) -> dict[str, float]:
    """Median, least, most and the quartiles' distance."""
    quartiles = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "iqr": quartiles[2] - quartiles[0],
    }
