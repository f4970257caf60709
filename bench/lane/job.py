"""What a job is, and what it has at hand while it runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench import identity
from methods.errors import InputError
from methods.registry import third_party_modules


@dataclass(frozen=True)
class Desk:
    """What a job has at hand while it runs."""

    folder: Path
    """The job's own. It outlives a kill, so that the next try goes on from what is there, and goes once the result is
    kept."""
    say: Callable[[str], None]
    """Progress, for whoever waits."""
    enter: Callable[[str], None]
    """Names the phase that begins, so that a report of a worker's death can name it."""


class Job(Protocol):
    """A piece of work that a worker process can do: a frozen dataclass, whose fields decide what it does."""

    @property
    def kind(self) -> str: ...

    @property
    def result(self) -> Any:
        """Type of what `run` gives: what msgspec can write as JSON and read back."""
        ...

    @property
    def alone(self) -> bool:
        """It needs the machine to itself: a fresh process with all threads, while no other job runs. Others have one
        thread each, as many at a time as there are cores."""
        ...

    @property
    def card(self) -> bool:
        """It needs a GPU to itself: a fresh process that sees one alone, at most one such job on each at a time."""
        ...

    @property
    def id(self) -> str:
        """Readable, for people."""
        ...

    @property
    def inputs(self) -> Mapping[str, str | None]:
        """What decides the result beside the fields and the code: digests of files, by name (bench.identity)."""
        ...

    def run(self, desk: Desk) -> Any:
        """The result."""
        ...


def do(job: Job, desk: Desk, code: str) -> Any:
    """What a worker process is sent, with the digest of the code that it is to run.

    InputError where the code was changed since: the result would be of neither.
    """
    if identity.code(tuple(third_party_modules())) != code:
        raise InputError("the code was changed while the run went on: run it again")
    desk.folder.mkdir(parents=True, exist_ok=True)
    return job.run(desk)
