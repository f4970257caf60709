"""Who aligns best for given trajectories, time and memory: every method on the embedded world, row by row."""

import pytest

from bench.alignment.motions import unpack
from bench.motion.metrics import METRICS

pytestmark = [pytest.mark.alignment, pytest.mark.benchmark(group="seconds to wait for a method's runs (not step time)")]


def test_alignment(case, benchmark, record, keep):
    row = benchmark.pedantic(record, args=(case,), rounds=1, iterations=1)
    keep(row)
    result = row.alignment
    assert result.lr in result.grid
    assert len(result.curves) == len(result.finals) == len(result.bases) == case.seeds
    assert set(result.final) == set(result.base) == set(METRICS)
    assert result.memory.peak >= result.memory.sampling > result.memory.resident > 0
    for motion in result.motions:
        assert motion.text
        assert unpack(motion.real).shape == unpack(motion.base).shape == unpack(motion.tuned).shape
