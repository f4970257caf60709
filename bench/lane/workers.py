"""Processes that do what they are sent, one thing at a time each, as a concurrent.futures.Executor.

Unlike the standard library's pool, a worker's death ends one future and not all of them, and names the phase that the
work was in; a worker that has lost its parent ends at once; and closing does not wait for what is running.
"""

import concurrent.futures
import gc
import importlib
import multiprocessing
import os
import pickle
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

CLOSING_SECONDS = 2.0
"""For a worker without work to end by itself."""
ENDING_SECONDS = 0.2
"""For those that were killed."""
PRELOADED = ["bench.lane.server"]
VISIBLE = "CUDA_VISIBLE_DEVICES"


def _context() -> Any:
    """Workers fork off a server that has imported torch and done nothing else: they begin in no time, and have nothing
    of this process. Where there is no such server they begin from nothing."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


_CONTEXT = _context()


class WorkerDiedError(RuntimeError):
    """A worker process ended in the middle of its work."""

    def __init__(self, exit_code: int | None, phase: str) -> None:
        super().__init__(exit_code, phase)
        self.exit_code = exit_code
        """Negative: the signal that ended it."""
        self.phase = phase
        """As the work named it last; empty if it named none."""

    @property
    def killed(self) -> bool:
        """Ended by SIGKILL, as systems do that run out of memory."""
        return self.exit_code == -signal.SIGKILL

    def __str__(self) -> str:
        if self.exit_code is not None and self.exit_code < 0:
            how = f"was ended by {signal.Signals(-self.exit_code).name}"
        else:
            how = f"ended with exit code {self.exit_code}"
        return f"its process {how}" + (f" in the phase {self.phase}" if self.phase else "")


@dataclass
class _Task:
    future: Future
    function: Callable
    arguments: tuple


class Workers(concurrent.futures.Executor):
    """`count` processes of `threads` torch threads each, begun as work arrives.

    fresh: a process does one thing and ends, so that nothing sees another's allocator, caches or peak resident set.
    cards: each process sees one GPU alone, the first of them the first of those that this process sees.
    modules: imported in every worker, so that what they register is known there. on_message: given what work says
    (see `say`), in a thread of this process.
    """

    def __init__(
        self,
        count: int,
        threads: int,
        *,
        fresh: bool = False,
        cards: bool = False,
        modules: Sequence[str] = (),
        on_message: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._count, self._threads, self._fresh, self._cards, self._modules = count, threads, fresh, cards, modules
        self._on_message = on_message
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._slots: list[threading.Thread] = []
        self._processes: set[BaseProcess] = set()
        self._waiting = 0
        self._lock = threading.Lock()
        self._closed = False

    def submit(self, function: Callable, /, *arguments: Any, **_: Any) -> Future:
        """Begins `function(*arguments)` in a worker as soon as one is free; both are sent by pickle.

        The future raises what the function raised, or WorkerDiedError.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("the workers were closed")
            future: Future = Future()
            self._tasks.put(_Task(future, function, arguments))
            self._waiting += 1
            if len(self._slots) < min(self._count, self._waiting):
                self._slots.append(threading.Thread(target=self._serve, args=(len(self._slots),), daemon=True))
                self._slots[-1].start()
        return future

    def _serve(self, number: int) -> None:
        """One slot: a worker process, and a thread of this one that sends it work."""
        card = _card(number) if self._cards else None
        worker: tuple[BaseProcess, Connection] | None = None
        while (task := self._tasks.get()) is not None:
            if self._closed or not task.future.set_running_or_notify_cancel():
                task.future.cancel()
            else:
                try:
                    worker = worker or self._begin(card)
                except Exception as error:  # there is no process for it, or no run any longer
                    task.future.set_exception(error)
                else:
                    whole = self._do(task, *worker)
                    if self._fresh or not whole:
                        self._end(*worker)
                        worker = None
            with self._lock:
                self._waiting -= 1
        if worker:
            self._end(*worker)

    def _begin(self, card: str | None) -> tuple[BaseProcess, Connection]:
        ours, theirs = _CONTEXT.Pipe()
        arguments = (theirs, tuple(self._modules), self._threads, card)
        process = _CONTEXT.Process(target=_work, args=arguments, daemon=True)
        os.environ["BENCH_RUN"] = str(os.getpid())  # for bench.lane.server, which is not imported here
        # Ctrl-C goes to all processes of a terminal, and the server has no answer to it while it imports torch: what
        # begins with the signal blocked is not ended by it. The tracker comes first, since its start unblocks it.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        process.start()  # the first waits until the server has imported torch, and nothing is to wait for that
        with self._lock:
            self._processes.add(process)
            if self._closed:
                process.kill()
        theirs.close()  # so that the worker's end is the only one, and its death is heard
        return process, ours

    def _do(self, task: _Task, process: BaseProcess, pipe: Connection) -> bool:
        """Has a worker do a task; whether it can do another."""
        phase = ""
        try:
            pipe.send((task.function, task.arguments))
            while True:
                what, value = pipe.recv()
                if what == "say":
                    self._on_message(value)
                elif what == "phase":
                    phase = value
                elif what == "result":
                    task.future.set_result(value)
                    return True
                else:
                    task.future.set_exception(value)
                    return True
        except (EOFError, OSError):
            process.join()
            task.future.set_exception(WorkerDiedError(process.exitcode, phase))
            return False
        except Exception as error:  # what cannot be sent, or not be read here
            task.future.set_exception(error)
            return False

    def _end(self, process: BaseProcess, pipe: Connection) -> None:
        pipe.close()  # a worker that waits for work ends then
        process.join(CLOSING_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
        with self._lock:
            self._processes.discard(process)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends the workers; `cancel_futures`: those in the middle of something too, and one that is only beginning is
        not waited for: it ends as soon as it has begun, or with this process."""
        with self._lock:
            self._closed = self._closed or cancel_futures
            for process in self._processes if cancel_futures else ():
                process.kill()
            for _ in self._slots:
                self._tasks.put(None)
        until = time.monotonic() + ENDING_SECONDS
        for slot in self._slots if wait else ():
            slot.join(max(0.0, until - time.monotonic()) if cancel_futures else None)


def _card(number: int) -> str:
    """How CUDA names a GPU, by its number among those that this process sees."""
    seen = os.environ.get(VISIBLE)
    return str(number) if seen is None else seen.split(",")[number].strip()


# In the worker.

_pipe: Connection | None = None


def say(line: str) -> None:
    """Reports to whoever waits how far the work is; nothing outside a worker."""
    if _pipe is not None:
        _pipe.send(("say", line))


def enter(phase: str) -> None:
    """Names the phase that begins; nothing outside a worker."""
    if _pipe is not None:
        _pipe.send(("phase", phase))


def _work(pipe: Connection, modules: Sequence[str], threads: int, card: str | None) -> None:
    """A worker's life: it does what comes through the pipe until that is closed."""
    global _pipe
    _pipe = pipe
    if card is not None:
        os.environ[VISIBLE] = card  # nothing has asked CUDA yet
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers itself, in order
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    sys.stdin = open(os.devnull)  # noqa: SIM115  # for the process's life
    problem: BaseException | None = None
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:
            problem = error
    gc.freeze()  # torch's many objects need not be scanned again and again
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:
            return
        try:
            if problem is not None:
                raise problem
            answer = ("result", function(*arguments))
        except BaseException as error:  # SystemExit too: it is the work's, and not this process's
            answer = ("error", _sendable(error))
        try:
            pipe.send(answer)
        except (OSError, ValueError):
            return


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # a worker has one
    wait([parent.sentinel])
    os._exit(1)


def _sendable(error: BaseException) -> Exception:
    """The error, or one that says the same, where it does not travel, or would end whoever hears of it."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error if isinstance(error, Exception) else RuntimeError(f"{type(error).__name__}: {error}")
