"""Runs cases and turns whatever happens into records: a sweep never dies of one case."""

import contextlib
import gc
import importlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import torch

from bench import record
from bench.cases import Case
from bench.meters import METERS, MeterUnavailableError
from bench.reward_cases import RewardCase
from bench.setup import draw_plan
from bench.units import gib
from methods.registry import third_party_modules


def measure(case: Case | RewardCase) -> dict:
    """The memory record of one case, read in this process. Never raises but for an interrupt."""
    try:
        reading = METERS[case.meter](case)
    except MeterUnavailableError as error:
        return record.make("memory", case, "unavailable", str(error))
    except torch.OutOfMemoryError:
        return record.make("memory", case, "oom", out_of_memory(case))
    except MemoryError:
        return record.make("memory", case, "oom", f"{case.id} does not fit in this machine's memory: lower the batch")
    except Exception as error:
        return record.make("memory", case, "failed", one_sentence(error))
    return record.make("memory", case, "ok", reading=reading.record())


def out_of_memory(case: Case | RewardCase) -> str:
    _, total = torch.cuda.mem_get_info()
    reached = torch.cuda.max_memory_allocated()
    return (
        f"{case.id} does not fit: {gib(reached)} were allocated when the next request failed, "
        f"on a device of {gib(total)} (lower --batch, or simulate to see what it would need)"
    )


def one_sentence(error: BaseException) -> str:
    """The first line of an exception, with its type where the message alone would not say what happened."""
    text = str(error).strip().split("\n")[0]
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}"


class Pool:
    """Measures cases in worker processes, ahead of being asked for them.

    Simulated cases share the machine's cores. Host and cuda cases run one at a time, each in a fresh process, so that
    no case sees another's allocator, caches or peak resident set.
    """

    def __init__(self, cases: Sequence[Case | RewardCase] = ()) -> None:
        self._stack = contextlib.ExitStack()
        self._pools: dict[str, ProcessPoolExecutor] = {}
        self._futures: dict[Case | RewardCase, Future] = {}
        self.add(cases)

    def add(self, cases: Iterable[Case | RewardCase]) -> None:
        """Queues cases that are not queued yet."""
        new = [case for case in dict.fromkeys(cases) if case not in self._futures]
        # The longest first: no worker is left alone with a long case at the end. Scores are what takes time.
        new.sort(key=_scores, reverse=True)
        for case in new:
            self._futures[case] = self._pool(case.meter).submit(measure, case)

    def _pool(self, meter: str) -> ProcessPoolExecutor:
        together = meter == "simulated"
        name = "together" if together else "alone"
        if name not in self._pools:
            # A pool starts its workers as work arrives, so a few cases do not pay for every core.
            pool = (
                _workers(os.cpu_count() or 1, threads=1)
                if together
                else _workers(1, torch.get_num_threads(), max_tasks_per_child=1)
            )
            self._stack.callback(pool.shutdown, wait=True, cancel_futures=True)
            self._pools[name] = pool
        return self._pools[name]

    def record(self, case: Case | RewardCase) -> dict:
        """Waits for a case."""
        try:
            return self._futures[case].result()
        except BrokenProcessPool:
            # The worker died (killed for memory, most likely) and took the queue with it: the case runs alone.
            return self._in_fresh_process(case)

    def _in_fresh_process(self, case: Case | RewardCase) -> dict:
        try:
            with _workers(1, torch.get_num_threads()) as pool:
                return pool.submit(measure, case).result()
        except BrokenProcessPool:
            return record.make(
                "memory", case, "oom", f"the process of {case.id} was killed, most likely for memory: lower --batch"
            )

    def close(self) -> None:
        """Stops the workers; cases not begun are dropped."""
        self._stack.close()


def _scores(case: Case | RewardCase) -> int:
    """A step of the reward's training takes as long as a score."""
    return draw_plan(case).scores if isinstance(case, Case) else 1


def _workers(count: int, threads: int, max_tasks_per_child: int | None = None) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        count,
        multiprocessing.get_context("spawn"),
        initializer=start_worker,
        initargs=(third_party_modules(), threads),
        max_tasks_per_child=max_tasks_per_child,
    )


def start_worker(modules: list[str], threads: int) -> None:
    # Workers leave an interrupt to the parent, which stops them in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    for name in modules:
        if name not in sys.modules:
            importlib.import_module(name)
    gc.freeze()  # torch's many objects need not be scanned again and again
