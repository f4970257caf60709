"""Workers of a dask cluster in place of this machine's processes: the lane's other engine (extra `cluster`).

Jobs need what is theirs where a worker runs: this code, the same packages, and files under the same paths. A worker
that dies costs its jobs, which dask begins again on another.
"""

import importlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Any

import torch

from bench import identity
from methods.errors import InputError
from methods.registry import third_party_modules

SECONDS = 10
"""For a scheduler to answer."""


@contextmanager
def connected(address: str) -> Iterator[Executor]:
    """The workers of the scheduler at `tcp://host:8786`, while open.

    InputError where dask is not installed, nobody answers, there is no worker, or one is not as this process: another
    version of the code or of a package, or several threads, which would draw from one generator.
    """
    try:
        from distributed import Client
    except ImportError:
        raise InputError("--workers needs dask: pip install -e '.[cluster]'") from None
    try:
        client = Client(address, timeout=SECONDS)
    except (OSError, ValueError) as error:
        raise InputError(
            f"no dask scheduler answers at {address} ({type(error).__name__}): start one by `dask scheduler`, and "
            "workers by `dask worker HOST:8786 --nthreads 1`"
        ) from None
    with client:
        modules = tuple(third_party_modules())
        _check(client, modules)
        yield _Cluster(client.get_executor(pure=False), modules)


def _check(client: Any, modules: Sequence[str]) -> None:
    threads = {name: worker["nthreads"] for name, worker in client.scheduler_info(n_workers=-1)["workers"].items()}
    if not threads:
        raise InputError("the dask scheduler has no workers: start some by `dask worker HOST:8786 --nthreads 1`")
    ours = _about(modules)
    for worker, theirs in client.run(_about, modules).items():
        for name, value in ours.items():
            if theirs[name] != value:
                raise InputError(f"{worker} has another {name} ({theirs[name]}, here {value}): update it")
        if threads[worker] != 1:
            raise InputError(f"{worker} has {threads[worker]} threads: start it with --nthreads 1, one for each core")


def _about(modules: Sequence[str]) -> dict[str, str]:
    for name in modules:
        importlib.import_module(name)
    return {"code": identity.code(tuple(modules)), **identity.versions()}


class _Cluster(Executor):
    """What dask gives as an executor, each job under the conditions of a process of bench.lane.workers."""

    def __init__(self, executor: Executor, modules: Sequence[str]) -> None:
        self._executor, self._modules = executor, modules

    def submit(self, function: Callable, /, *arguments: Any, **_: Any) -> Future:
        return self._executor.submit(_do, self._modules, function, arguments)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._executor.shutdown(wait=wait and not cancel_futures)


def _do(modules: Sequence[str], function: Callable, arguments: Sequence[Any]) -> Any:
    """In a worker, which may have joined since the check; `function` is bench.lane.job.do, which refuses other code."""
    for name in modules:
        importlib.import_module(name)
    torch.set_num_threads(1)
    return function(*arguments)
