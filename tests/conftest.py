"""How the tests are run: folders of them over all cores and without the slow ones, single files as they are; with equal
examples every time; with one thread of torch and of numpy: the models are small, and on a busy machine threads only
wait for others."""

import gc
import os
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read as numpy is imported

import hypothesis
import pytest
import torch

from bench.cases import Case
from bench.memory import measure
from bench.records import MemoryRecord, decode
from bench.records.make import to_json

hypothesis.settings.register_profile("tests", derandomize=True, deadline=None)
hypothesis.settings.load_profile("tests")

MOST_PROCESSES = 8
"""Each loads torch: half a gigabyte."""


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist's, which reads these options
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Defaults for a folder; options that are given go before them. They are not pyproject.toml's: `pytest bench/` has
    processes of its own."""
    options = config.option
    if not all(Path(argument).is_dir() for argument in config.args):
        return
    options.markexpr = options.markexpr or "not slow"
    if hasattr(config, "workerinput") or not config.pluginmanager.hasplugin("xdist"):
        return
    if options.numprocesses is None and options.dist == "no":
        options.numprocesses, options.maxprocesses, options.dist = "auto", MOST_PROCESSES, "worksteal"


def pytest_collection_finish() -> None:
    gc.freeze()  # the many objects of torch and of the tests need not be scanned again and again


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def clean():
    """case -> its memory row without FLOPs, measured from the unchanged code, once for all tests."""
    rows: dict[Case, MemoryRecord] = {}

    def row(case: Case) -> MemoryRecord:
        if case not in rows:
            rows[case] = decode(to_json(measure(case, count_flops=False)))
            assert rows[case].ok, rows[case].reason
        return rows[case]

    return row
