"""The three axes that a case can grow along, and how far the model lets it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from bench.cases import Case
from bench.plan import draws

MOST_BATCH = 2**20
"""Where the search for a batch ends: a million prompts."""


@dataclass(frozen=True)
class Axis:
    """One question: how large may this be, all else as in the case."""

    name: str
    """`batch`, `k` or `frames`."""
    most: int
    """The largest value there is."""
    asked: int
    """Its value in the case that was asked for."""
    at: Callable[[int], Case]
    """The case with this value."""


def of(case: Case) -> dict[str, Axis]:
    """The axes of a case by name; `k` for methods alone that have it."""
    axes = [
        Axis("batch", MOST_BATCH, case.batch, lambda n: replace(case, batch=n)),
        Axis("frames", case.most_frames, case.frames, lambda n: replace(case, frames=n)),
    ]
    if draws.has_k(case.method, case.steps):
        axes.insert(1, Axis("k", case.steps, draws.held(case), lambda n: draws.with_k(case, n)))
    return {axis.name: axis for axis in axes}
