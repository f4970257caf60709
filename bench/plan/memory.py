"""What a case takes of a card, as the planner judges it."""

from dataclasses import dataclass

from bench.meters import Reading


@dataclass(frozen=True)
class Memory:
    """One update of a case, in bytes, simulated or predicted by the forecast."""

    phases: dict[str, int]
    """Peak of live bytes of each phase (methods.rollout.PHASES)."""
    reserved: int
    """What the allocator takes from the driver for them: what fits is judged on this, and headroom comes on top. By
    live or allocated bytes a case could seem to fit whose free memory lies in pieces that are too small."""

    @property
    def peak(self) -> int:
        """The most live bytes at any moment."""
        return max(self.phases.values())

    @classmethod
    def of(cls, reading: Reading) -> "Memory":
        """From the reading of a simulated row, whose allocator was replayed."""
        assert reading.reserved is not None
        return cls(reading.phases, reading.reserved)
