"""Answers as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from msgspec import to_builtins

from bench.cases import Case
from bench.plan import draws
from bench.plan.check import Check
from bench.plan.headroom import Budget
from bench.plan.levers import Lever
from bench.plan.planner import Answer
from bench.plan.search import Limit
from bench.records import make

SCHEMA = 1


def build(
    answers: Sequence[Answer], budget: Budget, checks: Sequence[Check], *, quick: bool, simulations: int
) -> bytes:
    """The whole plan as JSON text."""
    case = answers[0].case
    document = {
        "schema": SCHEMA,
        "kind": "plan",
        "simulated": True,
        "status": "forecast" if quick else "confirmed",
        "simulations": simulations,
        "budget": budget.record(),
        "setting": {
            name: getattr(case, name) for name in ("backbone", "reward", "steps", "batch", "frames", "profile")
        },
        "answers": [_answer(answer, budget) for answer in answers],
        "checks": [asdict(check) for check in checks],
        "settings": to_builtins(make.settings(case)),
        "environment": to_builtins(make.environment(with_gpu=bool(checks))),
    }
    return (json.dumps(document, indent=1) + "\n").encode()


def _answer(answer: Answer, budget: Budget) -> dict:
    return {
        "method": answer.case.method,
        "seed": answer.case.seed,
        "held": draws.held(answer.case),
        "random": draws.is_random(answer.case.method, answer.case.steps),
        "fits": answer.fits,
        "limits": {name: _limit(limit, budget) for name, limit in answer.limits.items()},
        "lever": answer.lever and _lever(answer.lever, budget),
        "least_budget": answer.least,
        "region": [{"held": held, "batch": batch} for held, batch in answer.region],
        "reason": answer.reason,
    }


def _limit(limit: Limit, budget: Budget) -> dict:
    return {
        "value": limit.value,
        "most": limit.most,
        "status": "confirmed" if limit.confirmed else "forecast",
        "case": limit.case and _case(limit.case),
        "peak": limit.peak,
        "needs": None if limit.peak is None else budget.needs(limit.peak),
        "phases": limit.phases,
        "next_peak": limit.next_peak,
        "next_needs": None if limit.next_peak is None else budget.needs(limit.next_peak),
    }


def _lever(lever: Lever, budget: Budget) -> dict:
    return {
        "text": lever.text,
        "status": "confirmed" if lever.confirmed else "forecast",
        "case": _case(lever.case),
        "simulated_steps": lever.simulated_steps,
        "peak": lever.peak,
        "needs": budget.needs(lever.peak),
    }


def _case(case: Case) -> dict:
    return {**asdict(case), "id": case.id}
