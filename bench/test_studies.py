"""What the base model and its reward say on claims (C6, C7, C8), without any training."""

import pytest
from msgspec import structs

pytestmark = [pytest.mark.alignment, pytest.mark.benchmark(group="seconds to measure a study (not step time)")]


def test_study(case, benchmark, record, keep):
    row = benchmark.pedantic(record, args=(case,), rounds=1, iterations=1)
    keep(row)
    assert {len(values) for values in structs.astuple(row.study)} == {row.case.steps}
