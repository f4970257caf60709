"""Meters: each turns a case into a Reading. `simulated` needs nothing, `host` a CPU, `cuda` a GPU."""

from collections.abc import Callable

from bench.cases import Case
from bench.meters import cuda, host, simulated
from bench.meters.errors import MeterUnavailableError
from bench.meters.reading import CATEGORIES, Reading
from bench.reward_cases import RewardCase

METERS: dict[str, Callable[[Case | RewardCase, Callable[[str], None]], Reading]] = {
    "simulated": simulated.measure,
    "host": host.measure,
    "cuda": cuda.measure,
}

__all__ = ["CATEGORIES", "METERS", "MeterUnavailableError", "Reading"]
