"""Answers for a terminal."""

from collections.abc import Sequence

import torch

from bench.cases import Case
from bench.meters import allocator
from bench.plan import draws
from bench.plan.frontier import Curve
from bench.plan.headroom import Budget
from bench.plan.planner import Answer
from bench.plan.search import Limit
from bench.setup import caveat
from bench.units import GIB, gib
from methods.rollout import PHASES


def text(answers: Sequence[Answer], budget: Budget, *, quick: bool, simulations: int) -> str:
    """The table, then what stands behind it."""
    case = answers[0].case
    unit, word = (GIB, "GiB") if budget.size >= GIB else (2**20, "MiB")
    batches = ["batch"] if case.ranks == 1 else ["batch a rank", f"of {case.ranks} ranks"]
    figures = [*batches, "reserved", "peak", *PHASES, f"K at B{case.batch}", f"frames at B{case.batch}"]
    head = ["method", *figures, "to fit it", "note"]
    return "\n".join(
        [
            f"What fits in {gib(budget.size)} ({_models(case)}, T = {case.steps}, {case.frames} frames, "
            f"profile {case.profile}{'' if case.sharding == 'none' else f', {case.sharding}'}); {word}",
            "",
            *_aligned([head, *(_row(answer, unit) for answer in answers)], words=(0, len(head) - 2, len(head) - 1)),
            "",
            *filter(None, (caveat(answer.case) for answer in answers)),
            *_headroom(budget, case),
            "",
            _provenance(case, quick, simulations),
        ]
    )


def frontier(curves: Sequence[Curve], simulations: int) -> str:
    """The curves as a table; a ratio is to the same method with no lever pulled."""
    case = curves[0].case
    head = ["method", "scored at once", "calls kept", "peak", "reserved", "ratio", "TFLOPs a step", "their ratio"]
    rows = [row for curve in curves for row in _points(curve)]
    return "\n".join(
        [
            f"Memory against FLOPs an optimiser step ({_models(case)}, T = {case.steps}, batch {case.batch}, "
            f"{case.frames} frames, profile {case.profile})",
            "",
            *_aligned([head, *rows], words=(0,)),
            *(f"{curve.case.method}: no figure: {curve.reason}" for curve in curves if curve.reason),
            "",
            "Fewer motions scored at once cost no FLOPs, they only keep a GPU less busy; a call that is not kept is "
            f"computed again. FLOPs of matrix products. Simulated for CUDA ({simulations} simulations, at fewer steps "
            f"where they hold as many calls), no device was used; torch {torch.__version__}.",
        ]
    )


def _points(curve: Curve) -> list[list[str]]:
    held = draws.held(curve.case)
    return [
        [
            curve.case.method,
            str(point.savings.score or curve.case.batch),
            f"{point.savings.kept if point.savings.recompute else held} of {held}",
            gib(point.memory.peak),
            gib(point.memory.reserved),
            f"{point.memory.peak / curve.points[0].memory.peak:.3f}",
            f"{point.flops / 1e12:.4g}",
            f"{point.flops / curve.points[0].flops:.3f}",
        ]
        for point in curve.points
    ]


def _models(case: Case) -> str:
    return f"{case.backbone}, reward {case.reward}" if case.reward else case.backbone


def _row(answer: Answer, unit: int) -> list[str]:
    method = answer.case.method
    if not answer.limits:
        dashes = len(PHASES) + 5 + (answer.case.ranks > 1)
        return [method, *["-"] * dashes, "", f"no figure: {answer.reason}"]
    batch = answer.limits["batch"]
    of_all = [str(batch.value * answer.case.ranks)] if answer.case.ranks > 1 else []
    figures = ["-"] * (len(PHASES) + 2)
    if memory := batch.memory:
        sizes = [memory.reserved, memory.peak, *(memory.phases[phase] for phase in PHASES)]
        figures = [f"{size / unit:.2f}" for size in sizes]
    k, frames = (_limit(answer.limits.get(name)) for name in ("k", "frames"))
    notes = [answer.note, _most(answer.limits["frames"])]
    return [method, _limit(batch), *of_all, *figures, k, frames, _lever(answer), "; ".join(filter(None, notes))]


def _limit(limit: Limit | None) -> str:
    if limit is None:
        return ""
    if limit.axis == "k" and limit.most:
        return f"{limit.value} (all)"
    return str(limit.value) if limit.value else "none"


def _most(frames: Limit) -> str:
    return f"{frames.value} frames are the most the model takes" if frames.most else ""


def _lever(answer: Answer) -> str:
    if answer.fits:
        return "fits"
    if answer.lever:
        return f"{answer.lever.text} ({gib(answer.lever.reserved)})"
    return f"nothing fits; needs {gib(answer.least)}" if answer.least else ""


def _aligned(rows: Sequence[Sequence[str]], words: Sequence[int]) -> list[str]:
    """Columns of figures to the right, those of words to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if number in words else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _headroom(budget: Budget, case: Case) -> list[str]:
    judged = "Judged on what PyTorch's allocator reserves of the card (its rules are replayed"
    settings = ", ".join(f"{name} {value}" for name, value in allocator.settings().record().items())
    if not budget.headroom:
        return [f"{judged}; {settings}), without headroom (--headroom 0)."]
    lines = [f"{judged}; {settings}). Headroom, kept free for what the simulator cannot see:"]
    return lines + [f"  {item.name:<18} {gib(item.of(case)):>10}  {item.source}" for item in budget.headroom]


def _provenance(case: Case, quick: bool, simulations: int) -> str:
    how = (
        f"FORECAST from {simulations} small simulations, not confirmed (without --quick every answer is, and bf16 "
        "is tried); reserved is the peak and the share beyond theirs that those nearest in size reserved."
        if quick
        else f"Confirmed: every limit was simulated and fits, one more was and does not ({simulations} simulations; "
        "one more, and a profile to fit it, at fewer steps where they hold as many calls)."
    )
    return f"{how} Simulated for CUDA, no device was used; torch {torch.__version__}."
