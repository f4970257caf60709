"""Meters: each turns a case into a Reading. `simulated` needs nothing, `host` a CPU, `cuda` a GPU.

All that others need to know of a meter is its row here; the module that measures is imported when it is asked to.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.meters.errors import MeterUnavailableError
from bench.meters.reading import CATEGORIES, Reading

if TYPE_CHECKING:
    from bench.cases import Case
    from bench.reward_cases import RewardCase


@dataclass(frozen=True)
class Meter:
    """What is known of a meter without measuring; its module is named as it is, and has its `measure`."""

    name: str
    """In ids and records."""
    device: str
    """Type of the torch device that its cases run on; empty: none, and its rows are the same on every machine."""
    trust: int
    """1 is the most: rows of which meter settle a claim where there are several."""
    margin: float
    """How far a row may differ from the baseline's, as a share of it, before the gate fails."""
    alone: bool
    """A case needs the machine to itself, as bench.lane.Job says."""
    origin: str
    """How a record came about, with `{device}` for the device's name."""

    @property
    def simulated(self) -> bool:
        """Nothing is computed."""
        return not self.device

    @property
    def module(self) -> str:
        return f"{__name__}.{self.name}"

    def measure(self, case: "Case | RewardCase", enter: Callable[[str], None]) -> Reading:
        """Reads one update of a case; `enter` is called with the name of each phase that begins.

        MeterUnavailableError where the machine lacks what the meter needs; InputError if the case's options do not fit.
        """
        return importlib.import_module(self.module).measure(case, enter)


METERS = {
    meter.name: meter
    for meter in (
        Meter("simulated", device="", trust=2, margin=0.0, alone=False, origin="simulated"),
        # Measured rows carry the allocator's rounding and memory inside kernels.
        Meter("host", device="cpu", trust=3, margin=0.001, alone=True, origin="CPU: {device}"),
        # Its counters are its process's own, and its card is no other's.
        Meter("cuda", device="cuda", trust=1, margin=0.01, alone=False, origin="measured on {device}"),
    )
}

__all__ = ["CATEGORIES", "METERS", "Meter", "MeterUnavailableError", "Reading"]
