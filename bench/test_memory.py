"""Memory of one update, case by case. What is timed here is the measuring, not the update: see test_step_time."""

import pytest

from bench.meters import CATEGORIES
from methods.rollout import PHASES

pytestmark = [pytest.mark.memory, pytest.mark.benchmark(group="seconds to measure memory (not step time)")]


def test_memory(case, benchmark, record, keep):
    row = benchmark.pedantic(record, args=(case,), rounds=1, iterations=1)
    keep(row)
    reading = row.reading
    assert reading.peak >= reading.resident > 0
    assert reading.peak >= reading.sampling > 0
    assert set(reading.phases) == set(PHASES)
    assert set(reading.categories) == set(CATEGORIES)
