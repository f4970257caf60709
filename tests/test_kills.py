"""One kill of each signal of two kinds of run. The others, at any number of moments: `python tests/kills.py 100`."""

from concurrent.futures import ThreadPoolExecutor

import kills
import pytest
from kills import SIGNALS, Found, ready, table, trial, untouched

pytestmark = pytest.mark.slow

SHARES = (0.4, 0.6, 0.8)
"""Moments of the kills, in the run's duration."""


@pytest.mark.parametrize("name", ["gate update", "planner"])
def test_a_run_that_is_killed_goes_on_to_the_same_end(name, tmp_path, monkeypatch):
    monkeypatch.setattr(kills, "GONE_SECONDS", 30.0)  # on a machine that is busy with other tests
    kind = ready(name, tmp_path)
    reference = untouched(kind, tmp_path / "untouched")
    with ThreadPoolExecutor(len(SIGNALS)) as threads:
        folders = [tmp_path / str(number) for number in range(len(SIGNALS))]
        of = (folders, SIGNALS, SHARES)
        found = sum(threads.map(lambda *one: trial(kind, *one, reference), *of), Found())
    found.slow = 0  # likewise
    assert not found.wrong, "\n".join([table({(name, ""): found}), *found.words])
