"""Stepping along a path: where each foot stands and swings, and how the pelvis, the trunk and the arms go with it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.world.procedural.body import AHEAD, LEFT_RIGHT
from bench.world.procedural.part import Curve, Draw, Part, bump, smooth

LONGEST = 108
"""Frames of a walk."""
RAMP = 2.0
"""Steps that it takes to reach the full length, and to stop."""
Path = Callable[[NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]]
"""x, z and heading at shares of the way."""


@dataclass(frozen=True)
class Gait:
    """How one steps. Lengths in metres, angles in radians."""

    frames: float
    """Of a step."""
    duty: float = 0.62
    """The share of a cycle that a foot stands; below a half there is flight."""
    lift: float = 0.07
    heel: float = 0.6
    """Heel up at push-off."""
    arms: float = 0.4
    """How far they swing, forward and back."""
    elbows: float = 0.1
    """How much more they are bent than in standing."""
    bob: float = 0.015
    """Half of the pelvis's way up and down."""
    lean: float = 0.03
    sway: float = 0.02
    """Of the pelvis, towards the standing foot."""
    sink: float = 0.0
    """How much lower the pelvis is while walking: long steps need bent knees."""
    widen: float = 0.0
    """Between the first and the last step the feet are that much further apart, each."""


def gait(draw: Draw, step: Gait, steps: int, path: Path, first: int) -> Part:
    """Steps along a path from standing to standing; `first`: the foot that steps first (0: left)."""
    frames = min(round(steps * step.frames) + 4, LONGEST)
    part = Part(frames, draw.stance)
    at = np.linspace(0, 1, frames)
    going = smooth(np.minimum(at, 1 - at) * frames / 7)
    # Time in steps: the first foot is in mid-swing at 1/2, the other at 3/2, and so on.
    stepped = np.cumsum(going + 1e-3)
    stepped = steps * (stepped - stepped[0]) / (stepped[-1] - stepped[0])

    for foot in (first, 1 - first):
        _swing(part, foot, step, stepped, np.arange(0.5 if foot == first else 1.5, steps, 2.0), path)
    part.x, part.z, part.yaw = path(_progress(stepped, steps))
    # 1 when the left foot is furthest ahead, -1 for the right.
    ahead = -LEFT_RIGHT[first] * np.cos(np.pi * stepped) * going
    aside = -LEFT_RIGHT[first] * np.sin(np.pi * stepped) * going * step.sway
    part.x += aside * np.cos(part.yaw)
    part.z -= aside * np.sin(part.yaw)
    turning = min(2 * step.arms, 1)
    part.yaw = part.yaw - 0.10 * ahead * turning
    # Walking is highest over the standing leg, running between two steps.
    highest = 1 if step.duty < 0.5 else -1
    part.rise = going * (step.bob * (highest * np.cos(2 * np.pi * stepped) - 1) - step.sink)
    part.body["twist"] += 0.22 * ahead * turning
    part.body["bend"] += step.lean * going
    for side in (0, 1):
        forward = -LEFT_RIGHT[side] * ahead
        swing = step.arms * draw.arm_swing
        part.arms["flex"][side] += swing * forward + 0.25 * step.elbows * going
        part.arms["elbow"][side] += step.elbows * going + 0.25 * swing * (going + forward)
    return part


def _progress(stepped: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """The share of the path at which the pelvis is after so many steps; the first and the last ones are shorter."""
    ramp = min(RAMP, steps / 2)
    begun = np.minimum(stepped, ramp) ** 2 / (2 * ramp) + np.maximum(stepped - ramp, 0)
    ended = np.maximum(stepped - steps + ramp, 0) ** 2 / (2 * ramp)
    return (begun - ended) / (steps - ramp)


def _swing(part: Part, foot: int, step: Gait, stepped: Curve, centres: NDArray[np.float64], path: Path) -> None:
    """Moves one foot of a part along its placements: a swing around each centre, standing in between."""
    steps = round(float(stepped[-1]))
    lifts = np.maximum(centres - (1 - step.duty), 0)
    lands = np.minimum(centres + (1 - step.duty), steps)
    # A foot is put where the pelvis will be in the middle of its stance; the last time, where the pelvis stops.
    x, z, yaw = path(_progress(np.array([0.0, *(centres[:-1] + 1), steps]), steps))
    out = np.full(len(x), part.stance + step.widen)
    out[[0, -1]] = part.stance
    out = out * LEFT_RIGHT[foot]
    x, z = x + out * np.cos(yaw) + AHEAD * np.sin(yaw), z - out * np.sin(yaw) + AHEAD * np.cos(yaw)
    swing = (stepped - lifts[:, None]) / (lands - lifts)[:, None]
    moved = smooth(swing)
    part.toes[foot, :, 0] = x[0] + np.diff(x) @ moved
    part.toes[foot, :, 2] = z[0] + np.diff(z) @ moved
    part.toes[foot, :, 1] = step.lift * (bump(swing) ** 0.75).sum(axis=0)  # off the floor before it moves far
    part.toe_yaw[foot] = yaw[0] + np.diff(yaw) @ moved
    # The heel leaves first, and comes down while the foot swings.
    part.heel[foot] = step.heel * bump(stepped - lifts[:, None] + 0.32).sum(axis=0)


def stretch(length: float, steps: int) -> float:
    """How far so many steps lead when the full ones have this length."""
    return length * (steps - min(RAMP, steps / 2))


def straight(x: float, z: float, turn: float = 0.0) -> Path:
    """Ahead by z and to the left by x, while the heading drifts by `turn`."""
    return lambda share: (x * share, z * share, turn * share)


def circle(radius: float, angle: float) -> Path:
    """An arc ahead, to the left for a positive angle."""
    side = np.sign(angle) * radius

    def path(share):
        yaw = angle * share
        return side * (1 - np.cos(yaw)), abs(side) * np.sin(np.abs(yaw)), yaw

    return path
