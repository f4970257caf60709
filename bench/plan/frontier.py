"""Memory against FLOPs: what an update of a method needs and computes as the levers of its rollout are pulled."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from bench import flops
from bench.cases import Case
from bench.plan import draws
from bench.plan.memory import Memory
from bench.plan.simulator import SimulationError, Simulator
from bench.profiles import profile
from bench.setup import draw_plan
from methods.errors import one_sentence
from methods.memory import Savings

PARTS = 4
"""A curve has pieces of the batch's quarter, of a quarter of that, and so on, and quarters of the calls kept."""


def piece_sizes(motions: int, parts: int = 2) -> list[int]:
    """Motions that may be scored at once: the whole batch (0), its half (with two `parts`), that one's, down to one."""
    sizes = [0]
    while motions > 1:
        motions = -(-motions // parts)
        sizes.append(motions)
    return sizes


def choices(sizes: Sequence[int], kept: Sequence[int]) -> list[Savings]:
    """Levers, each choice dearer and leaner than the one before. Smaller pieces cost no operation, they only keep a
    processor less busy; a call that is not kept costs its forward once more, and comes when pieces are smallest."""
    pieces = [Savings(score=size) for size in sizes]
    return pieces + [Savings(sizes[-1], recompute=True, kept=calls) for calls in kept]


@dataclass(frozen=True)
class Point:
    """A method with some of the levers pulled."""

    savings: Savings
    case: Case
    memory: Memory
    """Simulated."""
    simulated_steps: int
    """Denoising steps of the simulation, fewer than the case's where they hold as many calls."""
    flops: float
    """Of an optimiser step: the mean of the update's."""


@dataclass(frozen=True)
class Curve:
    """One method's points, from no lever to all. Each needs less memory than those before it."""

    case: Case
    """The method in the setting that was asked for, under its worst draw."""
    points: list[Point] = field(default_factory=list)
    reason: str | None = None
    """Why there are none."""


def curves(cases: Sequence[Case], simulator: Simulator) -> list[Curve]:
    """One for each case, in order."""
    simulator.add(draws.stand_in(at) for case in cases for _, at in _along(case))
    return [_curve(case, simulator) for case in cases]


def _along(case: Case) -> list[tuple[Savings, Case]]:
    """The levers of a curve, and the case with each."""
    held = draws.held(case)
    kept = sorted({held * part // PARTS for part in range(PARTS)}, reverse=True)
    return [(savings, _with(case, savings)) for savings in choices(piece_sizes(case.batch, PARTS), kept)]


def _with(case: Case, savings: Savings) -> Case:
    """The case with these levers in place of its profile's; what is as the profile has it is not written out."""
    now = profile(case.profile).savings
    changed = [name for name in ("score", "recompute", "kept") if getattr(savings, name) != getattr(now, name)]
    switches = [f"{name}={str(getattr(savings, name)).lower()}" for name in changed]
    return replace(case, profile="+".join([case.profile, *switches]))


def _curve(case: Case, simulator: Simulator) -> Curve:
    points: list[Point] = []
    updates = draw_plan(case).updates
    for savings, at in _along(case):
        small = draws.stand_in(at)
        try:
            memory = Memory.of(simulator.reading(small))
            if not points or memory.peak < points[-1].memory.peak:
                # Matrix products are as many in pieces of any size, and take time to count.
                work = flops.count(_with(case, replace(savings, score=0)))
                points.append(Point(savings, at, memory, small.steps, work / updates))
        except SimulationError as error:
            return Curve(case, reason=str(error))
        except Exception as error:  # whatever a model of anybody's does without data
            return Curve(case, reason=f"its FLOPs cannot be counted: {one_sentence(error)}")
    return Curve(case, points)
