"""For every test here: one torch thread. The models are small, and on a busy machine threads only wait for others."""

import pytest
import torch

from bench.cases import Case
from bench.memory import measure
from bench.records import MemoryRecord, decode
from bench.records.make import to_json


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def clean():
    """case -> its memory row, measured from the unchanged code, once for all tests."""
    rows: dict[Case, MemoryRecord] = {}

    def row(case: Case) -> MemoryRecord:
        if case not in rows:
            rows[case] = decode(to_json(measure(case)))
            assert rows[case].ok, rows[case].reason
        return rows[case]

    return row
