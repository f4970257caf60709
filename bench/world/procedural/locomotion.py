"""Actions of many steps, each a gait along a path: walk, run, march, sidestep, turn.

Each is made from a clip's draw, what the caption says, and whether it has to be short because another action follows.
"""

from dataclasses import replace

import numpy as np

from bench.world.procedural.body import LEFT_RIGHT
from bench.world.procedural.gait import Gait, Path, circle, gait, straight, stretch
from bench.world.procedural.grammar import Action
from bench.world.procedural.part import Draw, Part, keys


def walk(draw: Draw, action: Action, short: bool) -> Part:
    """Ahead, backward, or around a circle, at three speeds."""
    frames = {"": 10.5, "slow": 15.0, "quick": 7.8}[action.speed] / draw.pace
    length = {"": 0.56, "slow": 0.42, "quick": 0.64}[action.speed] * draw.strength
    step = Gait(
        frames, arms={"": 0.38, "slow": 0.2, "quick": 0.55}[action.speed], lean=0.1 * length, sink=0.08 * length**2
    )
    if action.direction.startswith("circle"):
        return gait(draw, step, *_round(draw, action, length, 7 if action.speed == "slow" else 9), draw.side())
    steps = 4 + int(draw.rng.integers(2)) if short else max(round(draw.around(58, 0.15) / frames), 4)
    drift = draw.rng.normal() * 0.08
    if action.direction == "backward":
        step = replace(step, lift=0.06, heel=0.2, arms=0.5 * step.arms, lean=0.0)
        return gait(draw, step, steps, straight(0, stretch(-0.65 * length, steps), drift), draw.side())
    return gait(draw, step, steps, straight(0, stretch(length, steps), drift), draw.side())


def run(draw: Draw, action: Action, short: bool) -> Part:
    """Ahead, in place, or around a circle."""
    step = Gait(6.8 / draw.pace, 0.36, 0.16, 1.0, 0.65, 1.0, 0.03, 0.18, 0.01)
    length = 0.84 * draw.strength
    if action.direction.startswith("circle"):
        return gait(draw, step, *_round(draw, action, length, 9), draw.side())
    steps = int(draw.rng.integers(5, 7)) if short else int(draw.rng.integers(7, 11))
    ahead = 0.0 if action.direction == "place" else stretch(length, steps)
    return gait(draw, step, steps, straight(0, ahead, draw.rng.normal() * 0.08), draw.side())


def _round(draw: Draw, action: Action, length: float, steps: int) -> tuple[int, Path]:
    """About so many steps, and a circle that they nearly close, to the side that the action names."""
    steps = int(draw.rng.integers(steps, steps + 3))
    angle = draw.around(6.0, 0.04)
    return steps, circle(stretch(length, steps) / angle, angle if action.direction.endswith("left") else -angle)


def march(draw: Draw, action: Action, short: bool) -> Part:
    """Ahead or in place, with high knees."""
    step = Gait(9.5 / draw.pace, 0.55, 0.27 * draw.strength, 0.35, 0.5, 0.4, 0.01, 0.0, 0.02)
    steps = 4 if short else int(draw.rng.integers(5, 8))
    ahead = stretch(0.5 * draw.strength, steps) if action.direction == "forward" else 0.0
    return gait(draw, step, steps, straight(0, ahead, draw.rng.normal() * 0.05), draw.side())


def sidestep(draw: Draw, action: Action, short: bool) -> Part:
    """To the left or the right, looking ahead."""
    side = ("left", "right").index(action.direction)
    steps = 4 if short else 2 * int(draw.rng.integers(2, 4))
    frames = {"": 9.0, "slow": 13.0, "quick": 6.0}[action.speed] / draw.pace
    step = Gait(frames, 0.6, 0.06, 0.12, 0.06, 0.1, 0.01, 0.02, 0.0, widen=0.04)
    path = straight(LEFT_RIGHT[side] * stretch(0.22 * draw.strength, steps), 0, draw.rng.normal() * 0.05)
    part = gait(draw, step, steps, path, side)
    for arm in (0, 1):
        part.arms["abduct"][arm] += 0.15 * keys(part.frames, (0.3, 1), (0.7, 1))
    return part


def turn(draw: Draw, action: Action, short: bool) -> Part:
    """On the spot: a quarter to a side, or half a turn to either."""
    around = action.direction == "around"
    side = draw.side() if around else ("left", "right").index(action.direction)
    angle = LEFT_RIGHT[side] * draw.around(np.pi if around else np.pi / 2, 0.06)
    steps = 4 if around else 3
    frames = {"": 9.0, "slow": 14.0, "quick": 6.0}[action.speed] / draw.pace
    part = gait(draw, Gait(frames, 0.6, 0.05, 0.25, 0.08, 0.1, 0.008, 0.0, 0.02), steps, straight(0, 0, angle), side)
    ahead = LEFT_RIGHT[side] * keys(part.frames, (0.35, 1.0))
    part.body["twist"] += 0.25 * ahead
    part.body["look"] += 0.4 * ahead
    return part
