"""Studies that train rewards and fine-tune under them: minutes each, and only where they are asked for."""

import pytest

pytestmark = [pytest.mark.study, pytest.mark.benchmark(group="seconds to run a study (not step time)")]


def test_study(case, benchmark, record, keep):
    row = benchmark.pedantic(record, args=(case,), rounds=1, iterations=1)
    keep(row)
    assert row.study
