"""`pytest bench/` as a user runs it: in a process of its own, or in this one, which takes a tenth of the time."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from unittest import mock

import pytest

from bench.cases import Case
from bench.memory import measure
from bench.records import MemoryRecord

ROOT = Path(__file__).parent.parent
SCALE = ["--backbone", "mld-tiny", "--steps", "4", "--batch", "2", "--frames", "5"]
TIME_SCALE = ["--time-steps", "4", "--time-batch", "2", "--time-frames", "5"]
# Hypothesis takes a second to import, and nothing in bench/ uses it.
ALWAYS = ["bench/", "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"]


def heed_interrupts() -> None:
    """For the preexec_fn of a process that is to be interrupted: whoever runs the tests in the background hands down
    an ignored SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def bench(*arguments: object, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    """In a process of its own, workers and all; `folder` is searched for modules."""
    command = [sys.executable, "-m", "pytest", *ALWAYS, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(folder), **environment}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


class InThisProcess(Executor):
    """Stands in for bench.lane.Workers where what they do is of interest, and not that they do it elsewhere. One job at
    a time, as in a worker, whichever threads submit them."""

    LOCK = threading.Lock()

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def submit(self, function, /, *arguments, **_) -> Future:
        future: Future = Future()
        try:
            with self.LOCK:
                result = function(*arguments)
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(result)
        return future


def bench_here(*arguments: object, record: Callable[[Case], MemoryRecord] = measure) -> subprocess.CompletedProcess:
    """In this process: the same options, tests, output and exit status, but jobs are done here and now, and memory
    cases are measured by `record` (case -> its record)."""

    # Capturing and fault handling of the outer run stay as they are.
    command = [*ALWAYS, "--capture=sys", "-p", "no:faulthandler", *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(ROOT),
        mock.patch("bench.lane.lane.Workers", InThisProcess),
        mock.patch("bench.memory.measure", lambda case, *_: record(case)),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        status = pytest.main(command)
    return subprocess.CompletedProcess(command, int(status), out.getvalue(), err.getvalue())
