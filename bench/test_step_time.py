"""Time of real updates on this machine: methods interleaved, the measured rounds replayed to pytest-benchmark."""

import pytest

from bench.conftest import ReplayClock

pytestmark = [pytest.mark.step_time, pytest.mark.benchmark(group="seconds per update")]


def test_step_time(case, benchmark, record, keep, request):
    row = record(case)
    clock = request.node.stash[ReplayClock.KEY]
    seconds = iter(row.timing.seconds_per_update if row.ok else [0.0])

    def replay() -> None:
        clock.now += next(seconds)

    benchmark.pedantic(replay, rounds=row.timing.rounds if row.ok else 1, iterations=1)
    keep(row)
    assert row.timing.per_update.median > 0
