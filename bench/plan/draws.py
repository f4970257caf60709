"""Plans under their worst draw, and the smaller cases that hold as many denoiser calls."""

import functools
import random
from collections.abc import Iterator
from dataclasses import fields, replace

from bench.cases import Case
from bench.records.make import held_in_draws
from bench.setup import draw_plan
from methods.registry import METHODS, parse, spec

LEAST_STEPS = 2
"""Surrogates have two steps or more: with one, no state is left behind by an earlier step."""


def held(case: Case) -> int:
    """Denoiser calls whose graphs are alive at once under the case's draw."""
    return draw_plan(case).held


@functools.cache
def is_random(method: str, steps: int) -> bool:
    """Whether draws of the method's plan differ in the calls that they hold."""
    return _extremes(method, steps)[1]


def worst(case: Case) -> Case:
    """The case with the seed whose plan holds the most calls, so that what fits here fits in any draw."""
    return replace(case, seed=_extremes(case.method, case.steps)[0])


@functools.cache
def _extremes(method: str, steps: int) -> tuple[int, bool]:
    """(The first seed whose plan holds the most, whether another seed's holds less.)"""
    counts = held_in_draws(parse(method), steps)
    return counts.index(max(counts)), min(counts) < max(counts)


def with_k(case: Case, k: int) -> Case:
    """The case with K = `k`, under its worst draw."""
    return worst(replace(case, method=_with_k(case.method, k)))


def _with_k(method: str, k: int) -> str:
    return spec(replace(parse(method), k=k))  # type: ignore[type-var,call-arg]


@functools.cache
def has_k(method: str, steps: int) -> bool:
    """Whether the method has an option `k` that changes how many calls are held."""
    cls = METHODS[method.partition(":")[0]]
    options = {field.name: type(field.default) for field in fields(cls)}
    return options.get("k") is int and steps > 1 and _most_held(method, steps, 1) != _most_held(method, steps, steps)


def _most_held(method: str, steps: int, k: int) -> int:
    """Calls held with K = `k` under the worst draw."""
    spec_of_k = _with_k(method, k)
    seed, _ = _extremes(spec_of_k, steps)
    return parse(spec_of_k).plan(steps, random.Random(seed)).held


def stand_in(case: Case) -> Case:
    """The case with the fewest steps that holds as many calls; the case itself if no smaller one does.

    The peak does not depend on the steps beyond the calls held, and the time to simulate it does.
    """
    goal = held(case)
    alike = with_k(case, goal) if has_k(case.method, case.steps) else case  # AlignProp's K is half the steps by default
    return next((small for small in _smaller(alike) if held(small) == goal), case)


def surrogate(case: Case) -> Case:
    """The smallest case of the method, whatever it holds: few steps, and for a method with K a small K."""
    if has_k(case.method, case.steps):
        case = with_k(case, LEAST_STEPS)
    return next(_smaller(case), case)


def _smaller(case: Case) -> Iterator[Case]:
    for steps in range(LEAST_STEPS, case.steps):
        try:
            yield worst(replace(case, steps=steps))
        except Exception:  # a method, a third party's too, may refuse few steps in any way it likes
            continue
