"""What the base model and its reward say on claims (C6, C7, C8), without any training."""

import pytest

from bench.alignment import studies
from bench.world import WEIGHTS

pytestmark = [pytest.mark.alignment, pytest.mark.benchmark(group="seconds to measure a study (not step time)")]


@pytest.mark.parametrize("name", studies.BASE_MODEL)
def test_study(name, benchmark, keep, pytestconfig):
    weights = pytestconfig.getoption("align_world") or WEIGHTS
    row = benchmark.pedantic(studies.measure, args=(name, weights), rounds=1, iterations=1)
    keep(row)
    assert {len(values) for values in row["study"].values()} == {row["case"]["steps"]}
