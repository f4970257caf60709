"""The process that was asked: jobs go to worker processes, ahead of being asked for a row, and come back as rows."""

import contextlib
import functools
import multiprocessing
import os
import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from bench import runner, world
from bench.alignment import reading
from bench.alignment.benchmark import worker
from bench.alignment.benchmark.cases import PUBLISHED_LR, TARGET, AlignmentCase, Size
from bench.alignment.benchmark.row import compared, make_record
from bench.alignment.benchmark.worker import Job
from methods.finetune import FinetuneError

SELECTION_SEED = 100
"""Of the runs that a learning rate is chosen by: not one of those that are reported."""
NEWS_SECONDS = 0.2
CLOCK = "CPU seconds of one thread, updates only, on this machine: wall seconds where a core is free"
MEMORY = "live tensor bytes of one update on the CPU at this world's scale: no allocator, no GPU"


class Benchmark:
    """Runs some cases, all of one size and as many seeds, in worker processes, ahead of being asked for a row.

    say: told of progress, by whoever waits for a row. kept: rows of an aborted run, from which the base's metrics and
    the reward to reach are taken.
    """

    def __init__(
        self,
        cases: Sequence[AlignmentCase],
        weights: Path = world.WEIGHTS,
        say: Callable[[str], None] = lambda _: None,
        kept: Sequence[dict] = (),
    ) -> None:
        self._weights = weights
        self._say = say
        self._news: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._began = time.monotonic()
        self._finished = self._total = 0
        self._kept = [row["alignment"] for row in kept]
        self._stack = contextlib.ExitStack()
        self._found: dict[AlignmentCase, Future] = {}
        if cases:
            self._start(cases)

    def _start(self, cases: Sequence[AlignmentCase]) -> None:
        size, seeds = cases[0].scale, cases[0].seeds
        cores = os.cpu_count() or 1
        context = multiprocessing.get_context("spawn")
        stop = context.Event()
        self._workers = ProcessPoolExecutor(
            cores, context, initializer=worker.initialise, initargs=(runner.third_party_modules(), stop, self._weights)
        )
        # A thread waits for each method's runs; methods overlap, so that no core idles at one's last run.
        threads = ThreadPoolExecutor(min(cores + 1, len(cases)))
        self._stack.callback(threads.shutdown, wait=True)
        self._stack.callback(self._workers.shutdown, wait=True, cancel_futures=True)
        self._stack.callback(stop.set)
        self._total = len(cases) * (seeds + 1) + (0 if self._kept else seeds + 2)
        if not self._kept:
            self._bases = [self._submit(f"base, noise {seed}", worker.base, size, seed) for seed in range(seeds)]
            self._real = self._submit("real data", worker.real, size)
            self._shown = self._submit("motions of the base", worker.shown, size)
        for case in sorted(cases, key=lambda case: case.method != TARGET):
            self._found[case] = threads.submit(self._run, case)

    def _submit(self, label: str, task: Callable, *arguments) -> Future:
        future = self._workers.submit(task, *arguments)
        future.add_done_callback(functools.partial(self._tell, label))
        return future

    def _tell(self, label: str, future: Future) -> None:
        if future.cancelled():
            return
        self._finished += 1
        gone = time.monotonic() - self._began
        left = gone / self._finished * (self._total - self._finished)
        self._news.put(f"{self._finished} of {self._total} runs, {gone:.0f} s, about {left:.0f} s left: {label}")

    def _wait(self, future: Future):
        """The future's result. News is told by the thread that waits, and not by that of the workers, because a
        terminal belongs to one thread."""
        while not future.done():
            with contextlib.suppress(queue.Empty):
                self._say(self._news.get(timeout=NEWS_SECONDS))
        return future.result()

    def _train(self, jobs: Sequence[Job]) -> list[dict]:
        return [future.result() for future in [self._submit(job.label, worker.train, job) for job in jobs]]

    def _run(self, case: AlignmentCase) -> dict:
        """Everything about one method that is not relative to another."""
        size = case.scale
        counted = self._submit(f"{case.method}, memory", worker.memory, case.method, size)
        tried = self._try_rates(case.method, size)
        lr = reading.choose(tried)
        if lr is None:
            raise FinetuneError(
                f"no learning rate trains {case.method}, {min(tried):g} either: {tried[min(tried)]['reason']}"
            )
        runs = self._train([Job(case.method, lr, seed, size, chooses=False) for seed in range(case.seeds)])
        if stopped := [run["reason"] for run in runs if "reason" in run]:
            raise FinetuneError(f"{case.method} at lr {lr:g}: {stopped[0]}")
        return {
            "method": case.method,
            "lr": lr,
            "grid": list(size.grid),
            "at_edge": reading.edge(lr, size.grid),
            "lr_by_reward": reading.choose(tried, "reward"),
            "selection": [{"lr": rate, **result} for rate, result in sorted(tried.items())],
            "seeds": list(range(case.seeds)),
            "curves": [run["curve"] for run in runs],
            "finals": [run["final"] for run in runs],
            "motions": runs[worker.SHOWN_SEED]["motions"],
            "memory": counted.result() | {"what": MEMORY},
            "clock": CLOCK,
        }

    def _try_rates(self, method: str, size: Size) -> dict[float, dict]:
        """What runs end with that a learning rate is chosen by, by rate."""
        tried: dict[float, dict] = {}
        while rates := reading.untried(tried, size.grid, PUBLISHED_LR):
            self._total += len(rates)
            jobs = [Job(method, lr, SELECTION_SEED, size, chooses=True) for lr in rates]
            tried |= zip(rates, self._train(jobs), strict=True)
        return tried

    def record(self, case: AlignmentCase) -> dict:
        """Waits for a case's row. Never raises but for an interrupt."""
        try:
            own, reference = self._wait(self._found[case]), self._reference()
            motions = zip(reference["motions"], own["motions"], strict=True)
            found = own | reference | {"motions": [beside | {"tuned": tuned} for beside, tuned in motions]}
        except BrokenProcessPool:
            reason = f"a worker died while {case.id} ran, most likely for memory: run it alone, with --method"
            return make_record(case, self._weights, "failed", reason)
        except Exception as error:
            return make_record(case, self._weights, "failed", runner.one_sentence(error))
        return make_record(case, self._weights, "ok", alignment=found | compared(found, self._target()))

    def _reference(self) -> dict:
        """What every row compares with: of the base a result a seed, real data, and motions of both."""
        if self._kept:
            return {name: self._kept[0][name] for name in ("bases", "real", "motions")}
        return {
            "bases": [self._wait(future) for future in self._bases],
            "real": self._wait(self._real),
            "motions": self._wait(self._shown),
        }

    def _target(self) -> float | None:
        """The mean reward that TARGET ends with on the validation prompts; None if it was not run, or failed."""
        found = [row["curves"] for row in self._kept if row["method"] == TARGET]
        for case, future in self._found.items():
            if case.method == TARGET:
                with contextlib.suppress(Exception):  # its own row says what happened
                    found.append(self._wait(future)["curves"])
        return reading.mean_curve(found[0])[-1]["reward"] if found else None

    def close(self) -> None:
        """Stops the workers at their next trajectory; what has not begun is dropped."""
        self._stack.close()
