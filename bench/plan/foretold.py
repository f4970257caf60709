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

NEAR = 0.05
"""Share of a batch within which the limit is looked for."""


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
        """The largest batch that fits, or an end of what is NEAR."""
        stretches: list[allocator.Events] = []

        def replay(events: Sequence[allocator.Events], settings: allocator.Settings) -> allocator.Replay:
            stretches.extend(events)
            return allocator.replay(events, settings)

        with others(self.case):
            simulated.measure(self.case, desk.enter, replay)
        batch, settings = self.case.batch, allocator.settings()

        def reserved(other: int) -> int:
            return allocator.replay(allocator.of_batch(stretches, batch, other), settings).reserved

        near = range(max(1, int(batch * (1 - NEAR))), int(batch * (1 + NEAR)) + 2)
        return near.start - 1 + bisect_right(near, self.room, key=reserved)
