"""Answers as JSON."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict

from msgspec import to_builtins

from bench.cases import Case
from bench.plan import axes, draws
from bench.plan.check import Check
from bench.plan.frontier import Curve, Point
from bench.plan.headroom import Budget
from bench.plan.levers import Lever
from bench.plan.memory import Memory
from bench.plan.planner import Answer
from bench.plan.search import Limit
from bench.records import make

SCHEMA = 1


def build(
    answers: Sequence[Answer], budget: Budget, checks: Sequence[Check], *, quick: bool, simulations: int
) -> bytes:
    """The whole plan as JSON text."""
    case = answers[0].case
    body = {
        "status": "forecast" if quick else "confirmed",
        "budget": budget.record(case),
        "answers": [_answer(answer, budget) for answer in answers],
        "checks": [asdict(check) for check in checks],
    }
    return _text("plan", case, simulations, body, "cuda" if checks else "simulated")


def frontier(curves: Sequence[Curve], simulations: int) -> bytes:
    """The curves as JSON text."""
    body = {"curves": [_curve(curve) for curve in curves]}
    return _text("frontier", curves[0].case, simulations, body, "simulated")


def _text(kind: str, case: Case, simulations: int, body: dict, meter: str) -> bytes:
    document = {
        "schema": SCHEMA,
        "kind": kind,
        "simulated": True,
        "simulations": simulations,
        "setting": {
            name: getattr(case, name)
            for name in ("backbone", "reward", "steps", "batch", "frames", "profile", "ranks", "sharding")
        },
        **body,
        "settings": to_builtins(make.settings(case)),
        "environment": to_builtins(make.environment(meter)),
    }
    return (json.dumps(document, indent=1) + "\n").encode()


def _curve(curve: Curve) -> dict:
    return {
        "method": curve.case.method,
        "seed": curve.case.seed,
        "held": draws.held(curve.case),
        "points": [_point(point) for point in curve.points],
        "reason": curve.reason,
    }


def _point(point: Point) -> dict:
    return {
        "case": _case(point.case),
        "savings": asdict(point.savings),
        "simulated_steps": point.simulated_steps,
        "peak": point.memory.peak,
        "reserved": point.memory.reserved,
        "phases": point.memory.phases,
        "flops_per_optimiser_step": point.flops,
    }


def _answer(answer: Answer, budget: Budget) -> dict:
    along = axes.of(answer.case)
    return {
        "method": answer.case.method,
        "seed": answer.case.seed,
        "held": draws.held(answer.case),
        "random": draws.is_random(answer.case.method, answer.case.steps),
        "fits": answer.fits,
        "limits": {name: _limit(limit, budget, along[name].at) for name, limit in answer.limits.items()},
        "lever": answer.lever and _lever(answer.lever, budget),
        "least_budget": answer.least,
        "region": [{"held": held, "batch": batch} for held, batch in answer.region],
        "reason": answer.reason,
    }


def _limit(limit: Limit, budget: Budget, at: Callable[[int], Case]) -> dict:
    return {
        "value": limit.value,
        "most": limit.most,
        "status": "confirmed" if limit.confirmed else "forecast",
        "case": limit.case and _case(limit.case),
        **_memory(limit.memory, limit.value, budget, at),
        "phases": limit.memory.phases if limit.memory else {},
        **{f"next_{name}": size for name, size in _memory(limit.beyond, limit.value + 1, budget, at).items()},
    }


def _memory(memory: Memory | None, value: int, budget: Budget, at: Callable[[int], Case]) -> dict[str, int | None]:
    if memory is None:
        return dict.fromkeys(("peak", "reserved", "needs"))
    return {"peak": memory.peak, "reserved": memory.reserved, "needs": budget.needs(at(value), memory.reserved)}


def _lever(lever: Lever, budget: Budget) -> dict:
    return {
        "text": lever.text,
        "status": "confirmed" if lever.confirmed else "forecast",
        "case": _case(lever.case),
        "simulated_steps": lever.simulated_steps,
        "peak": lever.peak,
        "reserved": lever.reserved,
        "needs": budget.needs(lever.case, lever.reserved),
    }


def _case(case: Case) -> dict:
    return {**asdict(case), "id": case.id}
