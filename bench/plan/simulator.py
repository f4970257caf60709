"""Simulations in worker processes, each plan and scale once, with progress on stderr."""

import contextlib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from bench.cases import Case
from bench.lane import Kept, Lane
from bench.memory import MemoryRuns
from bench.meters import Reading
from bench.plan.estimate import EstimateJob
from bench.setup import draw_plan
from bench.units import gib


class SimulationError(RuntimeError):
    """A simulation gave no figure; the message is the record's reason."""


class Simulator:
    """Answers cases with their readings. Cases that run the same plan at the same scale are simulated once: the bytes
    are a matter of the plan, not of the method's name.

    kept: a file that keeps the readings until `close`, so that a plan which was killed goes on from them.
    """

    def __init__(self, kept: Path | None = None) -> None:
        self._kept = Kept(kept)
        self._lane = Lane(self._kept)
        self._runs = MemoryRuns(self._lane, count_flops=False)
        self._same: dict[tuple, Case] = {}
        self._readings: dict[Case, Reading | str] = {}
        self._estimated = 0

    def add(self, cases: Iterable[Case]) -> None:
        """Begins to simulate, in parallel, those that were not simulated yet."""
        self._runs.add(list(map(self._stand_for, cases)))

    def read(self, cases: Iterable[Case]) -> None:
        """Simulates those that were not simulated yet, in parallel, and waits for them."""
        new = [case for case in dict.fromkeys(map(self._stand_for, cases)) if case not in self._readings]
        self.add(new)
        for case in sorted(new, key=lambda case: -draw_plan(case).scores):  # as they began, so that lines flow
            record = self._runs.record(case)
            self._readings[case] = record.reading or f"{case.id}: {record.reason}"
            figure = gib(record.reading.peak) if record.reading else record.status
            print(f"  [{self.count}] {case.id}: {figure}", file=sys.stderr, flush=True)

    def reading(self, case: Case) -> Reading:
        """The reading of one case, simulated now if need be; SimulationError with the reason if there is none."""
        self.read([case])
        reading = self._readings[self._stand_for(case)]
        if isinstance(reading, str):
            raise SimulationError(reading)
        return reading

    def estimate(self, cases: Mapping[Case, int]) -> dict[Case, int]:
        """For cases whose batch is near the limit, each with the bytes that may be reserved, the limit as one
        simulation estimates it; those that cannot be simulated are left out."""
        jobs = {case: EstimateJob(self._stand_for(case), room) for case, room in cases.items()}
        limits = {}
        for case, future in zip(jobs, self._lane.submit_all([*jobs.values()]), strict=True):
            with contextlib.suppress(Exception):  # its simulation says why, when it is asked for
                limits[case] = self._lane.wait(future)
        self._estimated += len(set(jobs.values()))
        return limits

    @property
    def count(self) -> int:
        """Simulations so far."""
        return len(self._readings) + self._estimated

    def close(self, done: bool = True) -> None:
        """Ends the workers, whatever they are doing; `done`: the readings need not be kept any longer."""
        self._lane.close()
        if done:
            self._kept.remove()
        self._kept.close()

    def _stand_for(self, case: Case) -> Case:
        scale = (case.backbone, case.reward, case.batch, case.frames, case.profile, case.ranks, case.sharding)
        return self._same.setdefault((draw_plan(case), *scale), case)
