"""Holds answers against a real card: runs each method at its largest batch, and says by how much the plan was off."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from bench import devices
from bench.cases import Case
from bench.lane import Lane
from bench.memory import MemoryRuns
from bench.plan.headroom import Budget
from bench.plan.planner import Answer
from bench.plan.size import parse
from bench.records import MemoryRecord, RewardMemoryRecord
from bench.units import gib


@dataclass(frozen=True)
class Check:
    """One answer on the card."""

    method: str
    batch: int
    planned: int
    """Reserved by the plan, bytes."""
    measured: int | None
    """Reserved by the card's allocator, cuBLAS workspaces apart; None if the run gave no figure."""
    process: int | None
    """What the process took of the card (NVML), context and workspaces included; None where the driver does not say."""
    good: bool
    """The run gave a figure, and the process stayed within the budget."""
    reason: str | None
    """Why there is no figure."""


def budget_size(text: str) -> int:
    """Bytes of a budget as it was given; `auto`: all that the first card has."""
    if text != "auto":
        return parse(text)
    devices.require_gpu("--budget auto")
    return devices.memory(torch.device("cuda", 0))


def run(answers: Sequence[Answer], budget: Budget) -> list[Check]:
    """Measures every answer that has a batch, one on each card at a time, each in a fresh process."""
    cases = {
        replace(limit.case, meter="cuda"): limit.memory.reserved
        for answer in answers
        if (limit := answer.limits.get("batch")) and limit.case and limit.memory
    }
    lane = Lane()
    try:
        runs = MemoryRuns(lane, list(cases))
        return [_check(case, planned, runs.record(case), budget) for case, planned in cases.items()]
    finally:
        lane.close()


def _check(case: Case, planned: int, record: MemoryRecord | RewardMemoryRecord, budget: Budget) -> Check:
    reading = record.reading
    process = reading.process if reading else None
    measured = None
    if reading is not None and reading.reserved is not None:
        measured = reading.reserved - (reading.workspace or 0)
    good = record.ok and (process is None or process <= budget.size)
    return Check(case.method, case.batch, planned, measured, process, good, record.reason)


def text(checks: Sequence[Check], budget: Budget) -> str:
    """A line for each."""
    return "\n".join(["On this card:", *(f"  {_line(check, budget)}" for check in checks)])


def _line(check: Check, budget: Budget) -> str:
    name = f"{check.method} at batch {check.batch}:"
    if check.measured is None:
        return f"{name} {check.reason}"
    off = check.planned / check.measured - 1
    process = f"the process took {gib(check.process)}" if check.process is not None else "NVML names no process memory"
    verdict = "" if check.process is None else ", within the budget" if check.good else f", over {gib(budget.size)}"
    return f"{name} reserved {gib(check.measured)}, planned {gib(check.planned)} ({off:+.2%}); {process}{verdict}"
