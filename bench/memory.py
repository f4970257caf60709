"""Memory of one update, case by case. Whatever happens becomes a record: a sweep never dies of one case."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from bench import flops
from bench.cases import Case
from bench.lane import Desk, Lane, WorkerDiedError
from bench.meters import METERS, MeterUnavailableError
from bench.records import MemoryRecord, RewardMemoryRecord, make
from bench.reward_cases import RewardCase
from bench.setup import draw_plan, others
from bench.units import gib
from methods.errors import one_sentence


@dataclass(frozen=True)
class MemoryJob:
    """Reads the memory of one case."""

    case: Case | RewardCase
    count_flops: bool = True
    """Whether a simulated update's FLOPs are counted, too."""

    kind: ClassVar[str] = "memory"
    result: ClassVar = MemoryRecord | RewardMemoryRecord
    inputs: ClassVar[Mapping[str, str | None]] = {}

    @property
    def id(self) -> str:
        return self.case.id

    @property
    def alone(self) -> bool:
        return METERS[self.case.meter].alone

    @property
    def card(self) -> bool:
        return METERS[self.case.meter].device == "cuda"

    def run(self, desk: Desk) -> MemoryRecord | RewardMemoryRecord:
        return measure(self.case, desk.enter, self.count_flops)


class MemoryRuns:
    """The memory records of cases, measured by worker processes ahead of being asked for; count_flops: as MemoryJob."""

    def __init__(self, lane: Lane, cases: Sequence[Case | RewardCase] = (), *, count_flops: bool = True) -> None:
        self._lane, self._count_flops = lane, count_flops
        self.add(cases)

    def add(self, cases: Sequence[Case | RewardCase]) -> None:
        """Begins with the longest, so that no core is left alone with a long case at the end."""
        self._lane.submit_all([self._job(case) for case in sorted(cases, key=_scores, reverse=True)])

    def record(self, case: Case | RewardCase) -> MemoryRecord | RewardMemoryRecord:
        """Waits for a case."""
        try:
            return self._lane.wait(self._lane.submit(self._job(case)))
        except WorkerDiedError as error:
            if error.killed:
                return make.memory(case, "oom", f"{case.id}: {error}, most likely for memory: lower --batch")
            return make.memory(case, "failed", f"{case.id}: {error}")

    def _job(self, case: Case | RewardCase) -> MemoryJob:
        return MemoryJob(case, self._count_flops)


def _scores(case: Case | RewardCase) -> int:
    """What takes time. A step of the reward's training takes as long as a score."""
    return draw_plan(case).scores if isinstance(case, Case) else 1


def measure(
    case: Case | RewardCase, enter: Callable[[str], None] = lambda _: None, count_flops: bool = True
) -> MemoryRecord | RewardMemoryRecord:
    """The memory record of one case, read in this process. `enter` is given the name of each phase that begins;
    count_flops as MemoryJob. Never raises but for an interrupt."""
    phase = "loading"

    def begin(name: str) -> None:
        nonlocal phase
        phase = name
        enter(name)

    try:
        with others(case):
            reading = METERS[case.meter].measure(case, begin)
    except MeterUnavailableError as error:
        return make.memory(case, "unavailable", str(error))
    except (Exception, SystemExit) as error:
        if out_of_memory(error):
            return make.memory(case, "oom", f"{case.id} does not fit in the phase {phase}{_reached(case)}")
        return make.memory(case, "failed", f"{one_sentence(error)} (in the phase {phase})")
    return make.memory(case, "ok", reading=reading, flops=_flops(case) if count_flops else None)


def _flops(case: Case | RewardCase) -> int | None:
    """FLOPs of a simulated update; None for others, and where they cannot be counted: the memory read stands."""
    if not METERS[case.meter].simulated or isinstance(case, RewardCase):
        return None
    try:
        return flops.count(case)
    except Exception:
        return None


def out_of_memory(error: BaseException) -> bool:
    """Whether a device or this machine had no memory left. The CPU's allocator has no error of its own."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )


def _reached(case: Case | RewardCase) -> str:
    """What is known of a device that was too small, and the mend."""
    if METERS[case.meter].device != "cuda" or not torch.cuda.is_available():
        return ": lower --batch, or simulate to see what it would need"
    _, total = torch.cuda.mem_get_info()
    return (
        f": {gib(torch.cuda.max_memory_allocated())} were allocated when the next request failed, on a device of "
        f"{gib(total)} (lower --batch, or simulate to see what it would need)"
    )
