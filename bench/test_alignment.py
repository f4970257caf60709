"""Who aligns best for given trajectories, time and memory: every method on the embedded world, row by row."""

import pytest

from bench.alignment.evaluate import METRICS
from bench.alignment.motions import unpack

pytestmark = [pytest.mark.alignment, pytest.mark.benchmark(group="seconds to wait for a method's runs (not step time)")]


def test_alignment(alignment_case, benchmark, alignment_record, keep):
    row = benchmark.pedantic(alignment_record, args=(alignment_case,), rounds=1, iterations=1)
    keep(row)
    found = row["alignment"]
    assert found["lr"] in found["grid"]
    assert len(found["curves"]) == len(found["finals"]) == len(found["bases"]) == alignment_case.seeds
    assert set(found["final"]) == set(found["base"]) == set(METRICS)
    assert found["memory"]["peak"] >= found["memory"]["sampling"] > found["memory"]["resident"] > 0
    for motion in found["motions"]:
        assert motion["text"]
        assert unpack(motion["real"]).shape == unpack(motion["base"]).shape == unpack(motion["tuned"]).shape
