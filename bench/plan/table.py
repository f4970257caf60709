"""Answers for a terminal."""

from collections.abc import Sequence

import torch

from bench.cases import Case
from bench.plan.headroom import Budget
from bench.plan.planner import Answer
from bench.plan.search import Limit
from bench.units import GIB, gib
from methods.rollout import PHASES


def text(answers: Sequence[Answer], budget: Budget, *, quick: bool, simulations: int) -> str:
    """The table, then what stands behind it."""
    case = answers[0].case
    unit, word = (GIB, "GiB") if budget.size >= GIB else (2**20, "MiB")
    head = ["method", "batch", "peak", *PHASES, f"K at B{case.batch}", f"frames at B{case.batch}", "to fit it", "note"]
    models = f"{case.backbone}, reward {case.reward}" if case.reward else case.backbone
    return "\n".join(
        [
            f"What fits in {gib(budget.size)} ({models}, T = {case.steps}, {case.frames} frames, "
            f"profile {case.profile}); peaks in {word}",
            "",
            *_aligned([head, *(_row(answer, unit) for answer in answers)]),
            "",
            *_headroom(budget),
            "",
            _provenance(case, quick, simulations),
        ]
    )


def _row(answer: Answer, unit: int) -> list[str]:
    method = answer.case.method
    if not answer.limits:
        return [method, *["-"] * (len(PHASES) + 4), "", f"no figure: {answer.reason}"]
    batch = answer.limits["batch"]
    peaks = [batch.peak or 0, *(batch.phases.get(phase, 0) for phase in PHASES)]
    figures = [f"{peak / unit:.2f}" if batch.value else "-" for peak in peaks]
    k, frames = (_limit(answer.limits.get(name)) for name in ("k", "frames"))
    notes = [answer.note, f"no lever: {answer.reason}" if answer.reason else "", _most(answer.limits["frames"])]
    return [method, _limit(batch), *figures, k, frames, _lever(answer), "; ".join(filter(None, notes))]


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
        return f"{answer.lever.text} ({gib(answer.lever.peak)})"
    return f"nothing fits; needs {gib(answer.least)}" if answer.least else ""


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of figures to the right, words to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    words = (0, len(widths) - 2, len(widths) - 1)
    return [
        "  ".join(
            cell.ljust(width) if number in words else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _headroom(budget: Budget) -> list[str]:
    if not budget.headroom:
        return ["Headroom: none (--headroom 0); the whole budget is the simulated peak's."]
    sizes = [gib(item.size) if item.size else f"{item.share:.0%}" for item in budget.headroom]
    lines = ["Headroom, kept free for what the simulator cannot see:"]
    return lines + [
        f"  {item.name:<18} {size:>10}  {item.source}" for item, size in zip(budget.headroom, sizes, strict=True)
    ]


def _provenance(case: Case, quick: bool, simulations: int) -> str:
    how = (
        f"FORECAST from {simulations} small simulations, not confirmed (without --quick every answer is, and bf16 "
        "is tried)."
        if quick
        else f"Confirmed: every limit was simulated and fits, one more was and does not ({simulations} simulations; "
        "a profile to fit it, at fewer steps where they hold as many calls)."
    )
    return f"{how} Simulated for CUDA, no device was used; torch {torch.__version__}."
