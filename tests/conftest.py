"""For every test here: one torch thread. The models are small, and on a busy machine threads only wait for others."""

import json

import pytest
import torch

from bench.cases import Case
from bench.runner import measure


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def clean():
    """case -> its memory row, measured from the unchanged code, once for all tests."""
    rows: dict[Case, dict] = {}

    def row(case: Case) -> dict:
        if case not in rows:
            rows[case] = json.loads(json.dumps(measure(case)))
            assert rows[case]["status"] == "ok", rows[case]["reason"]
        return rows[case]

    return row
