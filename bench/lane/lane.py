"""Jobs in, futures out: each job is done once, its result kept, and whoever waits sees how far the work is."""

import contextlib
import dataclasses
import functools
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, InvalidStateError
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch

from bench import identity
from bench.lane import workers
from bench.lane.job import Desk, Job, do
from bench.lane.kept import Kept
from bench.lane.workers import WorkerDiedError, Workers
from methods.registry import third_party_modules

NEWS_SECONDS = 0.1


class Lane:
    """Does jobs in worker processes and keeps what they give.

    kept: where results are kept, and taken from where all that decides them is equal. say: given lines on progress, by
    whoever waits, in that thread. together: how many jobs run at a time, as many as there are cores if None. engine:
    does the jobs in place of this machine's processes (bench.lane.cluster), but for those that need a GPU to
    themselves, or the machine; the latter wait until no other is left.
    """

    def __init__(
        self,
        kept: Kept | None = None,
        say: Callable[[str], None] = lambda _: None,
        together: int | None = None,
        engine: Executor | None = None,
    ) -> None:
        self._stack = contextlib.ExitStack()
        self._kept = kept or Kept(None)
        if kept is None:
            self._stack.callback(self._kept.close)
        self._say = say
        self._news: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._futures: dict[Job, Future] = {}
        self._lock = threading.Lock()
        self._together = engine or self._workers(together or os.cpu_count() or 1, threads=1)
        threads = torch.get_num_threads()
        self._alone: Executor = self._workers(1, threads, fresh=True)
        self._cards: Executor = self._workers(max(1, torch.cuda.device_count()), threads, fresh=True, cards=True)
        self._waiting: list[_Task] = []
        self._closed = False
        self._began = time.monotonic()
        self._running = self._finished = self._begun = 0
        self.expected = 0
        """How many jobs there will be, as far as is known; more than were submitted where some follow from others."""

    def _workers(self, count: int, threads: int, **options: bool) -> Workers:
        made = Workers(count, threads, modules=third_party_modules(), on_message=self._news.put, **options)
        self._stack.callback(made.shutdown, cancel_futures=True)
        return made

    def submit(self, job: Job) -> Future:
        """The future of a job's result; the same one where it was submitted before.

        It raises what the job raised; WorkerDiedError where its process died, alone and on a second try too.
        """
        with self._lock:
            if job in self._futures:
                return self._futures[job]
            future = self._futures[job] = Future()
        task = _Task(job, self.key(job), future, job.alone)
        kept = self._kept.get(task.key)
        if kept is not None:
            with contextlib.suppress(msgspec.ValidationError):  # of another shape: done again
                future.set_result(msgspec.convert(kept, job.result))
                return future
        with self._lock:
            self._begun += 1
        self._begin(task)
        return future

    def submit_all(self, jobs: Sequence[Job]) -> list[Future]:
        """As `submit`, in the order in which they are to begin; those that run alone after the others."""
        for job in sorted(jobs, key=lambda job: job.alone):
            self.submit(job)
        return [self.submit(job) for job in jobs]

    def key(self, job: Job) -> str:
        """Of everything that decides a job's result. Where files lie does not, what is in them does (Job.inputs)."""
        threads = torch.get_num_threads() if job.alone or job.card else 1
        code = identity.code(tuple(third_party_modules()))
        return identity.key(
            type(job).__qualname__,
            asdict(job, dict_factory=_without_paths),  # type: ignore[call-overload]  # a job is a dataclass
            dict(job.inputs),
            {"code": code, "threads": threads, **identity.versions(), **identity.machine()},
        )

    def _begin(self, task: "_Task") -> None:
        with self._lock:
            if self._closed:
                task.future.cancel()
                return
            if task.alone and self._running:
                self._waiting.append(task)
                return
            self._running += not task.alone
        desk = Desk(self._kept.folder(task.key), workers.say, workers.enter)
        engine = self._alone if task.alone else self._cards if task.job.card else self._together
        try:
            inner = engine.submit(do, task.job, desk, identity.code(tuple(third_party_modules())))
        except RuntimeError:  # closed just now
            task.future.cancel()
            return
        inner.add_done_callback(functools.partial(self._end, task))

    def _end(self, task: "_Task", inner: Future) -> None:
        """Keeps what a job gave before anybody sees it: what was seen once is never lost."""
        error = None if inner.cancelled() else inner.exception()
        if inner.cancelled() or self._closed:
            task.future.cancel()
        elif isinstance(error, WorkerDiedError) and error.killed and not task.alone:
            # Killed beside others, most likely for memory: once more, with the machine to itself.
            with self._lock:
                self._waiting.append(dataclasses.replace(task, alone=True))
        else:
            try:
                if error is not None:
                    raise error
                kept = msgspec.to_builtins(inner.result())
                self._kept.add(task.key, task.job.kind, task.job.id, kept)
                self._tell(task.job)
                # As it is read back (0 as 0.0, where a float is meant), so that a run that was resumed has equal bytes.
                _settle(task.future.set_result, msgspec.convert(kept, task.job.result))
            except Exception as problem:
                self._tell(task.job)
                _settle(task.future.set_exception, problem)
        with self._lock:
            self._running -= not task.alone
            ready, self._waiting = (self._waiting, []) if not self._running else ([], self._waiting)
        for waiting in ready:
            self._begin(waiting)

    def _tell(self, job: Job) -> None:
        self._finished += 1
        gone = time.monotonic() - self._began
        total = max(self.expected, self._begun)
        left = gone / self._finished * (total - self._finished)
        self._news.put(f"{self._finished} of {total}, {gone:.0f} s, about {left:.0f} s left: {job.id}")

    def wait(self, future: Future) -> Any:
        """A future's result. News is shown here, by the thread that waits, because a terminal belongs to one thread."""
        while not future.done():
            with contextlib.suppress(queue.Empty):
                self._say(self._news.get(timeout=NEWS_SECONDS))
        while not self._news.empty():
            self._say(self._news.get())
        return future.result()

    def close(self) -> None:
        """Ends the workers, whatever they are doing: results so far are kept, and futures without one are cancelled."""
        with self._lock:
            self._closed = True
            self._waiting.clear()
            futures = [*self._futures.values()]
        self._stack.close()
        for future in futures:
            future.cancel()  # does nothing to those that have a result


def _settle(how: Callable[[Any], None], what: Any) -> None:
    with contextlib.suppress(InvalidStateError):  # cancelled: the lane was closed just now
        how(what)


def _without_paths(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in fields if not isinstance(value, Path)}


@dataclass(frozen=True)
class _Task:
    job: Job
    key: str
    future: Future
    alone: bool
    """It waits until no other is left."""
