"""A method's row: what its runs amount to beside the base, and the record that holds it."""

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench import record
from bench.alignment import reading
from bench.alignment.benchmark.cases import TARGET, AlignmentCase
from bench.cases import EMBEDDED, Case
from bench.profiles import profile
from bench.setup import draw_plan
from bench.world.data import LONGEST

PROFILE = "frozen+train_mode=false"


def compared(found: dict, target: float | None) -> dict:
    """What a method's runs amount to, beside the base and the reward to reach.

    `final`, `base` and `gain` are means over seeds with 95% intervals. A gain is that of each seed's run over the base
    under the same noise, so that what the noise does to both is not in its interval.
    """
    runs, bases = found["finals"], found["bases"]
    final = {name: reading.over_seeds([run[name] for run in runs]) for name in runs[0]}
    of_base = {name: reading.over_seeds([own[name] for own in bases]) for name in runs[0]}
    gain = {
        name: reading.over_seeds([_difference(run[name], own[name]) for run, own in zip(runs, bases, strict=True)])
        for name in runs[0]
    }
    return {
        "final": final,
        "base": of_base,
        "gain": gain,
        "to_reach": to_reach(found["curves"], found["memory"]["peak"], target),
    }


def _difference(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def to_reach(curves: Sequence[reading.Curve], peak: int, target: float | None) -> dict:
    """What a method needs to reach the target, on the mean of its validation curves; None for what it never does, and
    why in `note`."""
    curve = reading.mean_curve(curves)
    best = max(point["reward"] for point in curve)
    trajectories = None if target is None else reading.reach(curve, target, "trajectories")
    note = None
    if target is None:
        note = f"there is no reward to reach: {TARGET} was not run, or failed"
    elif trajectories is None:
        note = f"never reached in {curve[-1]['trajectories']:.0f} trajectories: {best:.3f} at best"
    return {
        "of": TARGET,
        "reward": target,
        "trajectories": trajectories,
        "seconds": None if target is None else reading.reach(curve, target, "cpu_seconds"),
        "peak_bytes": None if trajectories is None else peak,
        "note": note,
    }


def make_record(case: AlignmentCase, weights: Path, status: str, reason: str | None = None, **measured) -> dict:
    """As bench.record.make, for a case of a world; `measured`: `alignment`, as JSON types."""
    size = case.scale
    planned = Case(case.method, steps=size.steps, batch=size.batch)
    return {
        "schema": record.SCHEMA,
        "kind": "alignment",
        "case": {
            "method": case.method,
            "backbone": case.world,
            "steps": size.steps,
            "batch": size.batch,
            "frames": LONGEST if case.world == EMBEDDED else None,
            "profile": PROFILE,
            "meter": "host",
            "seed": 0,
            "size": case.size,
            "seeds": case.seeds,
            "id": case.id,
        },
        "status": status,
        "reason": reason,
        "simulated": False,
        "plan": record.describe_plan(planned, draw_plan(planned)),
        "settings": {
            **asdict(profile(PROFILE)),
            **asdict(size),
            "optimizer": "AdamW",
            "threads": 1,
            "world": digest(weights),
        },
        "environment": record.environment(with_gpu=False),
        **measured,
    }


@functools.cache
def digest(path: Path) -> str | None:
    """Of the weights that everything began from: rows of two worlds do not compare. None if there are none."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else None
