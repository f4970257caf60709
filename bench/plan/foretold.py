"""The largest batch that fits, foretold from the allocations of one simulation.

Another batch makes the same allocations in the same order, larger or smaller. What the allocator would reserve for them
is replayed, in a tenth of the time of a simulation, and to a segment or two: pieces that are left over differ.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from bench.cases import Case
from bench.lane import Desk
from bench.meters import allocator, simulated
from bench.setup import others


@dataclass(frozen=True)
class ForetellJob:
    """Simulates a case whose batch is near the limit, and says where the limit is."""

    case: Case
    room: int
    """Bytes that the allocator may reserve."""

    kind: ClassVar[str] = "foretold"
    result: ClassVar = int
    alone: ClassVar[bool] = False
    card: ClassVar[bool] = False
    inputs: ClassVar[Mapping[str, str | None]] = {}

    @property
    def id(self) -> str:
        return self.case.id

    def run(self, desk: Desk) -> int:
        """A batch that fits, while one more does not: the nearest on the way to where the bytes left would be used
        up. 0 where not even 1 fits."""
        stretches: list[allocator.Events] = []

        def replay(events: Sequence[allocator.Events], settings: allocator.Settings) -> allocator.Replay:
            stretches.extend(events)
            return allocator.replay(events, settings)

        with others(self.case):
            simulated.measure(self.case, desk.enter, replay)
        batch, settings = self.case.batch, allocator.settings()

        def reserved(other: int) -> int:
            return allocator.replay(allocator.of_batch(stretches, batch, other), settings).reserved

        left = self.room - reserved(batch)
        near, step = batch, round(left * batch / reserved(batch)) or (1 if left >= 0 else -1)
        while (far := near + step) > 0 and (reserved(far) <= self.room) == (left >= 0):
            near, step = far, 2 * step
        low, high = sorted((near, max(far, 0)))
        return low + bisect_right(range(low + 1, high + 1), self.room, key=reserved)
