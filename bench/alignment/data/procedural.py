"""The embedded default world: motion made from a grammar of actions, so that anyone can train and measure without data.

A clip is one action or two in sequence. Each action gives curves: the path of the pelvis, where the feet stand and
swing, and the angles of trunk and arms. Legs are then bent to reach the feet (so planted feet stay where they are),
trunk and arms follow by forward kinematics, all on one skeleton of fixed size. What a caption leaves open is drawn at
random: strength, pace, posture, small movements of the body, drift of the heading.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bench.alignment.data import grammar
from bench.alignment.data.clip import UNIT, Caption, Clip
from bench.alignment.data.grammar import Action, Meaning

Curve = NDArray[np.float64]
"""[F]: one value a frame."""

MIN_LENGTH, MAX_LENGTH = 44, 120
"""Frames of a clip; with one lost to velocities, the shortest still passes the published length filter."""
LONGEST = 108
"""Frames of a walk."""
SINGLES = 0.55
"""The share of clips with one action."""
CAPTIONS = 3
"""How many of its meaning's captions a clip carries."""

THIGH, SHIN = 0.39, 0.40
HIP, PELVIS = np.array([0.07, -0.08, 0.0]), 0.935
"""The left hip from the pelvis, and the pelvis's height in standing; metres, as all here."""
ANKLE = np.array([0.0, 0.065, -0.13])
"""From the ball of the foot, flat on the floor."""
AHEAD = 0.09
"""How far before the pelvis the balls of the feet stand."""
REACH = 0.998 * (THIGH + SHIN)
"""Legs are never quite straight."""
SPINE = np.array([[0.0, 0.11, -0.015], [0.0, 0.13, 0.0], [0.0, 0.06, 0.01]])
NECK, HEAD = np.array([0.0, 0.21, -0.02]), np.array([0.0, 0.09, 0.04])
COLLAR, SHOULDER = np.array([0.07, 0.12, -0.01]), np.array([0.11, 0.03, 0.0])
"""The left ones, from the chest and from the collar."""
UPPER_ARM, FOREARM = np.array([0.0, -0.27, 0.0]), np.array([0.0, -0.25, 0.0])
LEFT_RIGHT = np.array([1.0, -1.0])

BODY = ("tilt", "bend", "lean", "twist", "nod", "look")
"""Radians: of the pelvis forward; of the spine forward, to the left and turned to the left; of the head down and to the
left."""
ARM = ("flex", "abduct", "across", "roll", "elbow")
"""Radians: raised forward, raised sideways, brought before the chest, turned outwards, bent."""
AT_REST = {"flex": 0.05, "abduct": 0.14, "across": 0.0, "roll": -0.25, "elbow": 0.3}
SWAY = {"tilt": 0.02, "bend": 0.03, "lean": 0.02, "twist": 0.04, "nod": 0.05, "look": 0.08}
ARM_SWAY = {"flex": 0.05, "abduct": 0.03, "across": 0.02, "roll": 0.06, "elbow": 0.06}
"""How far small movements go, in radians."""


@dataclass
class Part:
    """The curves of one action over F frames, in the frame where it starts: at the origin, facing +z, feet together."""

    frames: int
    stance: float
    """Half the distance between the feet."""
    x: Curve = field(init=False)
    z: Curve = field(init=False)
    yaw: Curve = field(init=False)
    """Heading, to the left positive."""
    rise: Curve = field(init=False)
    """Of the pelvis over its height in standing."""
    toes: NDArray[np.float64] = field(init=False)
    """[2, F, 3]: the balls of the left and the right foot."""
    toe_yaw: NDArray[np.float64] = field(init=False)
    """[2, F]: where the feet point."""
    heel: NDArray[np.float64] = field(init=False)
    """[2, F]: angles of the feet, heel up positive."""
    body: dict[str, Curve] = field(init=False)
    arms: dict[str, NDArray[np.float64]] = field(init=False)
    """[2, F] each, beyond the arms at rest."""

    def __post_init__(self) -> None:
        self.x, self.z, self.yaw, self.rise = np.zeros((4, self.frames))
        self.toes = np.zeros((2, self.frames, 3))
        self.toes[..., 0] = self.stance * LEFT_RIGHT[:, None]
        self.toes[..., 2] = AHEAD
        self.toe_yaw, self.heel = np.zeros((2, 2, self.frames))
        self.body = dict(zip(BODY, np.zeros((len(BODY), self.frames)), strict=True))
        self.arms = dict(zip(ARM, np.zeros((len(ARM), 2, self.frames)), strict=True))


class Draw:
    """The random choices of one clip: its style, and variation around given values."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.strength = self.around(1.0, 0.10)
        self.pace = self.around(1.0, 0.07)
        self.stance = self.around(0.10, 0.10)
        self.arm_swing = self.around(1.0, 0.2)

    def around(self, value: float, spread: float = 0.08) -> float:
        """A value near the given one, at most by one and a half of `spread` as a share of it."""
        return value * (1 + spread * float(np.clip(self.rng.normal(), -1.5, 1.5)))

    def side(self) -> int:
        return int(self.rng.integers(2))

    def frames(self, usual: float, speed: str = "") -> int:
        """A duration in frames for a usual one, by speed and the clip's pace."""
        return round(usual * {"": 1.0, "slow": 1.6, "quick": 0.65}[speed] / self.pace * self.around(1.0, 0.05))


def smooth(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """From 0 to 1, at rest at both ends; flat outside."""
    s = np.clip(share, 0, 1)
    return s * s * (3 - 2 * s)


def bump(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """From 0 up to 1 at the middle, and back to 0; 0 outside."""
    s = np.clip(share, 0, 1)
    return 16 * (s * (1 - s)) ** 2


def keys(frames: int, *points: tuple[float, float]) -> Curve:
    """A smooth curve from 0 to 0 through points (share of the duration, value), at rest at each."""
    times, values = np.array([(0.0, 0.0), *points, (1.0, 0.0)]).T
    at = np.linspace(0, 1, frames)
    piece = np.clip(np.searchsorted(times, at, side="right") - 1, 0, len(times) - 2)
    span = np.maximum(times[piece + 1] - times[piece], 1e-9)
    return values[piece] + (values[piece + 1] - values[piece]) * smooth((at - times[piece]) / span)


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
    part.x, part.z, part.yaw = path(_way(stepped, steps))
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


def _way(stepped: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """The share of the path at which the pelvis is after so many steps; the first and the last ones are shorter."""
    ramp = min(RAMP, steps / 2)
    begun = np.minimum(stepped, ramp) ** 2 / (2 * ramp) + np.maximum(stepped - ramp, 0)
    ended = np.maximum(stepped - steps + ramp, 0) ** 2 / (2 * ramp)
    return (begun - ended) / (steps - ramp)


RAMP = 2.0
"""Steps that it takes to reach the full length, and to stop."""


def _swing(part: Part, foot: int, step: Gait, stepped: Curve, centres: NDArray[np.float64], path: Path) -> None:
    """Moves one foot of a part along its placements: a swing around each centre, standing in between."""
    steps = round(float(stepped[-1]))
    lifts = np.maximum(centres - (1 - step.duty), 0)
    lands = np.minimum(centres + (1 - step.duty), steps)
    # A foot is put where the pelvis will be in the middle of its stance; the last time, where the pelvis stops.
    x, z, yaw = path(_way(np.array([0.0, *(centres[:-1] + 1), steps]), steps))
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


def _walk(draw: Draw, action: Action, short: bool) -> Part:
    frames = {"": 10.5, "slow": 15.0, "quick": 7.8}[action.speed] / draw.pace
    length = {"": 0.56, "slow": 0.42, "quick": 0.64}[action.speed] * draw.strength
    step = Gait(
        frames, arms={"": 0.38, "slow": 0.2, "quick": 0.55}[action.speed], lean=0.1 * length, sink=0.08 * length**2
    )
    if action.way.startswith("circle"):
        return gait(draw, step, *_round(draw, action, length, 7 if action.speed == "slow" else 9), draw.side())
    steps = 4 + int(draw.rng.integers(2)) if short else max(round(draw.around(58, 0.15) / frames), 4)
    drift = draw.rng.normal() * 0.08
    if action.way == "backward":
        step = replace(step, lift=0.06, heel=0.2, arms=0.5 * step.arms, lean=0.0)
        return gait(draw, step, steps, straight(0, stretch(-0.65 * length, steps), drift), draw.side())
    return gait(draw, step, steps, straight(0, stretch(length, steps), drift), draw.side())


def _round(draw: Draw, action: Action, length: float, steps: int) -> tuple[int, Path]:
    """About so many steps, and a circle that they nearly close, to the side that the action names."""
    steps = int(draw.rng.integers(steps, steps + 3))
    angle = draw.around(6.0, 0.04)
    return steps, circle(stretch(length, steps) / angle, angle if action.way.endswith("left") else -angle)


def _run(draw: Draw, action: Action, short: bool) -> Part:
    step = Gait(6.8 / draw.pace, 0.36, 0.16, 1.0, 0.65, 1.0, 0.03, 0.18, 0.01)
    length = 0.84 * draw.strength
    if action.way.startswith("circle"):
        return gait(draw, step, *_round(draw, action, length, 9), draw.side())
    steps = int(draw.rng.integers(5, 7)) if short else int(draw.rng.integers(7, 11))
    ahead = 0.0 if action.way == "place" else stretch(length, steps)
    return gait(draw, step, steps, straight(0, ahead, draw.rng.normal() * 0.08), draw.side())


def _march(draw: Draw, action: Action, short: bool) -> Part:
    step = Gait(9.5 / draw.pace, 0.55, 0.27 * draw.strength, 0.35, 0.5, 0.4, 0.01, 0.0, 0.02)
    steps = 4 if short else int(draw.rng.integers(5, 8))
    ahead = stretch(0.5 * draw.strength, steps) if action.way == "forward" else 0.0
    return gait(draw, step, steps, straight(0, ahead, draw.rng.normal() * 0.05), draw.side())


def _sidestep(draw: Draw, action: Action, short: bool) -> Part:
    side = ("left", "right").index(action.way)
    steps = 4 if short else 2 * int(draw.rng.integers(2, 4))
    frames = {"": 9.0, "slow": 13.0, "quick": 6.0}[action.speed] / draw.pace
    step = Gait(frames, 0.6, 0.06, 0.12, 0.06, 0.1, 0.01, 0.02, 0.0, widen=0.04)
    way = straight(LEFT_RIGHT[side] * stretch(0.22 * draw.strength, steps), 0, draw.rng.normal() * 0.05)
    part = gait(draw, step, steps, way, side)
    for arm in (0, 1):
        part.arms["abduct"][arm] += 0.15 * keys(part.frames, (0.3, 1), (0.7, 1))
    return part


def _turn(draw: Draw, action: Action, short: bool) -> Part:
    around = action.way == "around"
    side = draw.side() if around else ("left", "right").index(action.way)
    angle = LEFT_RIGHT[side] * draw.around(np.pi if around else np.pi / 2, 0.06)
    steps = 4 if around else 3
    frames = {"": 9.0, "slow": 14.0, "quick": 6.0}[action.speed] / draw.pace
    part = gait(draw, Gait(frames, 0.6, 0.05, 0.25, 0.08, 0.1, 0.008, 0.0, 0.02), steps, straight(0, 0, angle), side)
    ahead = LEFT_RIGHT[side] * keys(part.frames, (0.35, 1.0))
    part.body["twist"] += 0.25 * ahead
    part.body["look"] += 0.4 * ahead
    return part


def _jump(draw: Draw, action: Action, short: bool) -> Part:
    way = {"up": 0.0, "forward": 0.55, "backward": -0.32}[action.way] * draw.strength
    return repeat(action, partial(_leap, draw, way))


def _leap(draw: Draw, way: float) -> Part:
    frames = draw.frames(25)
    part = Part(frames, draw.stance)
    at = np.linspace(0, 1, frames)
    height = draw.around(0.24, 0.15) * draw.strength
    flight = np.clip((at - 0.42) / 0.34, 0, 1)
    part.rise = 4 * height * flight * (1 - flight)
    depth = 0.2 * draw.strength
    part.rise += keys(frames, (0.26, -depth), (0.42, 0.0), (0.76, 0.0), (0.86, -0.7 * depth))
    part.z = way * smooth((at - 0.30) / 0.50)
    landed = way * smooth((at - 0.40) / 0.38)
    for foot in (0, 1):
        part.toes[foot, :, 1] = 0.85 * 4 * height * flight * (1 - flight)
        part.toes[foot, :, 2] += landed
        part.heel[foot] = keys(frames, (0.3, 0.0), (0.43, 0.8), (0.74, 0.25), (0.8, 0.0))
    part.body["bend"] += keys(frames, (0.26, 0.5), (0.45, 0.0), (0.75, 0.05), (0.86, 0.35))
    up = draw.around(1.3, 0.25)
    for arm in (0, 1):
        part.arms["flex"][arm] += keys(frames, (0.20, -0.5), (0.52, up), (0.66, 0.8 * up), (0.88, 0.1))
        part.arms["elbow"][arm] += keys(frames, (0.48, 0.3), (0.8, 0.2))
    return part


def _jack(draw: Draw, action: Action, short: bool) -> Part:
    return repeat(action, partial(_jack_once, draw))


def _jack_once(draw: Draw) -> Part:
    frames = draw.frames(22)
    part = Part(frames, draw.stance)
    at = np.linspace(0, 1, frames)
    wide = keys(frames, (0.08, 0.0), (0.40, 1.0), (0.55, 1.0), (0.92, 0.0))
    height = 0.07 * draw.strength
    hop = bump((at - 0.10) / 0.28) + bump((at - 0.58) / 0.30)
    part.rise = height * hop - 0.07 * (bump(at / 0.16) + bump((at - 0.36) / 0.22) + bump((at - 0.84) / 0.16))
    for foot in (0, 1):
        part.toes[foot, :, 0] += LEFT_RIGHT[foot] * 0.27 * draw.strength * wide
        part.toes[foot, :, 1] = 0.9 * height * hop
        part.heel[foot] = 0.35 * hop
        part.arms["abduct"][foot] += draw.around(2.55, 0.03) * wide
        part.arms["roll"][foot] += 0.4 * wide
    return part


def _kick(draw: Draw, action: Action, short: bool) -> Part:
    side = ("left", "right").index(action.way)
    return repeat(action, partial(_kick_once, draw, side))


def _kick_once(draw: Draw, side: int) -> Part:
    frames = draw.frames(24)
    part = Part(frames, draw.stance)
    high = draw.around(1.25, 0.12) * draw.strength
    thigh = keys(frames, (0.20, -0.25), (0.42, 0.85 * high), (0.52, high), (0.62, 0.7 * high), (0.9, 0.0))
    knee = keys(frames, (0.24, 0.7), (0.36, 1.3), (0.52, 0.12), (0.66, 0.9), (0.9, 0.0))
    off = np.minimum(1.0, 1.6 * bump(np.linspace(-0.04, 1.04, frames)))
    # From the hip down to the ankle, by the angles; then the foot in line with the shin.
    hip = PELVIS + HIP[1]
    leg = np.stack(
        [THIGH * np.sin(thigh) + SHIN * np.sin(thigh - knee), THIGH * np.cos(thigh) + SHIN * np.cos(thigh - knee)]
    )
    pitch = -(thigh - knee) * 0.9 * off
    ball = ANKLE[1] * np.cos(pitch) - ANKLE[2] * np.sin(pitch), ANKLE[1] * np.sin(pitch) + ANKLE[2] * np.cos(pitch)
    part.toes[side, :, 1] = off * np.maximum(hip - 0.97 * leg[1] - ball[0], 0)
    part.toes[side, :, 2] += off * (leg[0] - ball[1] - AHEAD)
    part.heel[side] = pitch
    part.x -= LEFT_RIGHT[side] * 0.75 * draw.stance * keys(frames, (0.2, 1.0), (0.8, 1.0))
    part.toes[side, :, 0] -= LEFT_RIGHT[side] * 0.5 * draw.stance * off
    back = keys(frames, (0.2, 0.15), (0.52, -0.55), (0.75, -0.1))
    part.body["bend"] += 0.45 * back
    part.body["tilt"] += 0.35 * back
    part.arms["flex"][1 - side] += keys(frames, (0.5, 0.7))
    part.arms["flex"][side] += keys(frames, (0.5, -0.4))
    for arm in (0, 1):
        part.arms["abduct"][arm] += keys(frames, (0.45, 0.35))
        part.arms["elbow"][arm] += keys(frames, (0.45, 0.5))
    return part


def _squat(draw: Draw, action: Action, short: bool) -> Part:
    return repeat(action, partial(_squat_once, draw))


def _squat_once(draw: Draw) -> Part:
    frames = draw.frames(27)
    part = Part(frames, draw.stance)
    down = keys(frames, (0.42, 1.0), (0.56, 1.0))
    deep = min(draw.around(0.40, 0.12), 0.48)
    part.rise = -deep * down
    part.z -= 0.35 * deep * down
    part.body["tilt"] += 0.75 * deep * down
    part.body["bend"] += 1.1 * deep * down
    part.body["nod"] -= 0.8 * deep * down
    reach = draw.around(1.9, 0.1)
    for arm in (0, 1):
        part.arms["flex"][arm] += reach * down
        part.arms["elbow"][arm] -= 0.15 * down
        part.arms["across"][arm] += 0.1 * down
    return part


def _bow(draw: Draw, action: Action, short: bool) -> Part:
    frames = draw.frames(40, action.speed)
    part = Part(frames, draw.stance)
    down = keys(frames, (0.40, 1.0), (0.58, 1.0))
    deep = draw.around(1.0, 0.15)
    part.body["tilt"] += 0.45 * deep * down
    part.body["bend"] += 0.6 * deep * down
    part.body["nod"] += 0.25 * down
    part.z -= 0.12 * deep * down
    part.rise = -0.02 * down
    for arm in (0, 1):
        part.arms["flex"][arm] += 0.7 * deep * down
    return part


def _wave(draw: Draw, action: Action, short: bool) -> Part:
    waves = int(draw.rng.integers(2, 4))
    usual = {"": 9.0, "slow": 15.0, "quick": 5.5}[action.speed] / draw.pace
    frames = round(18 + waves * usual)
    part = Part(frames, draw.stance)
    edge = 9 / frames
    up = keys(frames, (edge, 1.0), (1 - edge, 1.0))
    at = np.clip((np.linspace(0, 1, frames) - edge) / (1 - 2 * edge), 0, 1)
    beat = np.sin(2 * np.pi * waves * at) * smooth(np.minimum(at, 1 - at) * 6)
    high = draw.around(1.35, 0.12)
    for arm in {"left": (0,), "right": (1,), "both": (0, 1)}[action.way]:
        part.arms["abduct"][arm] += (high - AT_REST["abduct"]) * up
        part.arms["flex"][arm] += 0.2 * up
        part.arms["roll"][arm] += 1.75 * up
        part.arms["elbow"][arm] += draw.around(1.25, 0.08) * up + draw.around(0.45, 0.1) * beat
    part.body["lean"] += {"left": -0.05, "right": 0.05, "both": 0.0}[action.way] * up
    return part


def _raise(draw: Draw, action: Action, short: bool) -> Part:
    frames = draw.frames(40, action.speed)
    part = Part(frames, draw.stance)
    up = keys(frames, (0.36, 1.0), (0.62, 1.0))
    high = draw.around(2.75, 0.05)
    for arm in {"left": (0,), "right": (1,), "both": (0, 1)}[action.way]:
        part.arms["flex"][arm] += high * up
        part.arms["abduct"][arm] -= 0.25 * up
        part.arms["elbow"][arm] -= 0.12 * up
    part.body["bend"] -= 0.08 * up
    part.body["nod"] -= 0.15 * up
    return part


def _punch(draw: Draw, action: Action, short: bool) -> Part:
    side = ("left", "right").index(action.way)
    reps = max(action.times, 1)
    every = draw.frames(15)
    frames = 16 + reps * every
    part = Part(frames, draw.stance)
    edge = 8 / frames
    guard = keys(frames, (edge, 1.0), (1 - edge, 1.0))
    at = np.linspace(0, 1, frames)
    out = sum(bump((at - edge - n * every / frames) * frames / every) for n in range(reps))
    for arm in (0, 1):
        part.arms["flex"][arm] += 0.55 * guard
        part.arms["elbow"][arm] += 1.65 * guard
        part.arms["abduct"][arm] += 0.1 * guard
    reach = draw.around(0.95, 0.05)
    part.arms["flex"][side] += reach * out
    part.arms["elbow"][side] -= 1.75 * out
    part.arms["across"][side] += 0.25 * out
    part.body["twist"] -= LEFT_RIGHT[side] * 0.55 * draw.strength * out
    part.body["bend"] += 0.12 * out
    part.z += 0.04 * draw.strength * out
    return part


def _throw(draw: Draw, action: Action, short: bool) -> Part:
    side = ("left", "right").index(action.way)
    frames = draw.frames(38)
    part = Part(frames, draw.stance)
    part.arms["flex"][side] += keys(frames, (0.40, 1.2), (0.56, 1.7), (0.72, 0.4))
    part.arms["abduct"][side] += keys(frames, (0.38, 0.9), (0.56, 0.2), (0.72, -0.05))
    part.arms["roll"][side] += keys(frames, (0.38, 1.5), (0.50, 0.6), (0.62, -0.1))
    part.arms["elbow"][side] += keys(frames, (0.40, 1.5), (0.56, 0.0), (0.72, 0.1))
    part.arms["across"][side] += keys(frames, (0.38, -0.4), (0.58, 0.25), (0.72, 0.5))
    part.arms["flex"][1 - side] += keys(frames, (0.38, 0.9), (0.58, -0.2))
    turned = LEFT_RIGHT[side] * draw.strength
    part.body["twist"] += turned * keys(frames, (0.38, 0.6), (0.60, -0.6), (0.74, -0.5))
    part.body["bend"] += keys(frames, (0.36, -0.15), (0.62, 0.35))
    part.z += 0.06 * keys(frames, (0.36, -0.7), (0.62, 1.0))
    part.heel[side] = 0.5 * keys(frames, (0.45, 0.0), (0.64, 1.0), (0.8, 0.4))
    return part


def _clap(draw: Draw, action: Action, short: bool) -> Part:
    reps = max(action.times, 1)
    every = draw.frames(11)
    frames = 16 + reps * every
    part = Part(frames, draw.stance)
    edge = 8 / frames
    up = keys(frames, (edge, 1.0), (1 - edge, 1.0))
    at = np.linspace(0, 1, frames)
    shut = sum(bump((at - edge - n * every / frames) * frames / every) for n in range(reps))
    wide = draw.around(0.25, 0.2)
    for arm in (0, 1):
        part.arms["flex"][arm] += 0.65 * up
        part.arms["elbow"][arm] += 0.85 * up
        part.arms["roll"][arm] += (wide - AT_REST["roll"]) * up - (wide + 0.56) * shut
        part.arms["across"][arm] += 0.18 * shut
    return part


def _spread(draw: Draw, action: Action, short: bool) -> Part:
    frames = draw.frames(38, action.speed)
    part = Part(frames, draw.stance)
    out = keys(frames, (0.38, 1.0), (0.62, 1.0))
    wide = draw.around(1.4, 0.06)
    for arm in (0, 1):
        part.arms["abduct"][arm] += (wide - AT_REST["abduct"]) * out
        part.arms["elbow"][arm] -= 0.2 * out
        part.arms["across"][arm] -= 0.1 * out
    part.body["bend"] -= 0.1 * out
    return part


def repeat(action: Action, once: Callable[[], Part]) -> Part:
    """An action as often as it says, each time a little different."""
    return chain([once() for _ in range(max(action.times, 1))])


ACTIONS: dict[str, Callable[[Draw, Action, bool], Part]] = {
    "walk": _walk,
    "run": _run,
    "march": _march,
    "sidestep": _sidestep,
    "turn": _turn,
    "jump": _jump,
    "jumping jack": _jack,
    "kick": _kick,
    "squat": _squat,
    "bow": _bow,
    "wave": _wave,
    "raise": _raise,
    "punch": _punch,
    "throw": _throw,
    "clap": _clap,
    "spread": _spread,
}
"""Of each verb: its curves, from standing to standing, short ones where there are two actions. The numbers in them were
set by eye, on drawn figures."""


def chain(parts: list[Part]) -> Part:
    """Parts one after another, each beginning where the one before ended."""
    whole = Part(sum(part.frames for part in parts), parts[0].stance)
    begin, x, z, yaw = 0, 0.0, 0.0, 0.0
    for part in parts:
        own = slice(begin, begin + part.frames)
        cos, sin = np.cos(yaw), np.sin(yaw)
        whole.x[own], whole.z[own] = x + cos * part.x + sin * part.z, z - sin * part.x + cos * part.z
        whole.toes[:, own, 0] = x + cos * part.toes[..., 0] + sin * part.toes[..., 2]
        whole.toes[:, own, 2] = z - sin * part.toes[..., 0] + cos * part.toes[..., 2]
        whole.toes[:, own, 1] = part.toes[..., 1]
        whole.yaw[own], whole.toe_yaw[:, own] = yaw + part.yaw, yaw + part.toe_yaw
        whole.rise[own], whole.heel[:, own] = part.rise, part.heel
        for name in BODY:
            whole.body[name][own] = part.body[name]
        for name in ARM:
            whole.arms[name][:, own] = part.arms[name]
        begin, x, z, yaw = own.stop, whole.x[own][-1], whole.z[own][-1], whole.yaw[own][-1]
    return whole


def pose(part: Part, draw: Draw) -> NDArray[np.float32]:
    """The joints [F, 22, 3] of a figure that follows the curves, with its small movements."""
    body, arms = _with_sway(part, draw)
    frames = part.frames
    joints = np.empty((22, frames, 3))
    pelvis = _turned(part.yaw, 1) @ _turned(body["tilt"], 0) @ _turned(-0.3 * body["lean"], 2)
    mirrored = np.stack([HIP, HIP * [-1, 1, 1]])
    hips = np.einsum("fij,sj->sfi", pelvis, mirrored)
    ankles = part.toes + (_turned(part.toe_yaw, 1) @ _turned(part.heel, 0) @ ANKLE)
    joints[0] = np.stack([part.x, _height(part, hips, ankles), part.z], axis=-1)
    joints[[1, 2]] = joints[0] + hips
    joints[[7, 8]], joints[[10, 11]] = ankles, part.toes
    joints[[4, 5]] = _knees(joints[[1, 2]], ankles, (part.yaw + part.toe_yaw) / 2)

    third = _turned(body["twist"] / 3, 1) @ _turned(body["bend"] / 3, 0) @ _turned(-body["lean"] / 3, 2)
    below, chest = 0, pelvis
    for joint, offset in zip((3, 6, 9), SPINE, strict=True):
        joints[joint] = joints[below] + chest @ offset
        below, chest = joint, chest @ third
    joints[12] = joints[9] + chest @ NECK
    joints[15] = joints[12] + chest @ _turned(body["look"], 1) @ _turned(body["nod"], 0) @ HEAD

    outwards = LEFT_RIGHT[:, None]
    upper = (
        chest
        @ _turned(-outwards * arms["across"], 1)
        @ _turned(outwards * arms["abduct"], 2)
        @ _turned(-arms["flex"], 0)
        @ _turned(outwards * arms["roll"], 1)
    )
    sides = np.array([[1, 1, 1], [-1, 1, 1]])
    joints[[13, 14]] = joints[9] + np.einsum("fij,sj->sfi", chest, COLLAR * sides)
    joints[[16, 17]] = joints[[13, 14]] + np.einsum("fij,sj->sfi", chest, SHOULDER * sides)
    joints[[18, 19]] = joints[[16, 17]] + upper @ UPPER_ARM
    joints[[20, 21]] = joints[[18, 19]] + upper @ _turned(-np.maximum(arms["elbow"], 0.04), 0) @ FOREARM
    return joints.transpose(1, 0, 2).astype(np.float32)


def _turned(angle: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Rotations [..., 3, 3] by angles [...] about a coordinate axis."""
    one, two = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.zeros((*angle.shape, 3, 3))
    matrix[..., axis, axis] = 1
    matrix[..., one, one] = matrix[..., two, two] = np.cos(angle)
    matrix[..., two, one] = np.sin(angle)
    matrix[..., one, two] = -matrix[..., two, one]
    return matrix


def _with_sway(part: Part, draw: Draw) -> tuple[dict[str, Curve], dict[str, NDArray[np.float64]]]:
    """The angles of trunk and arms with posture and slow small movements added."""
    count = len(BODY) + 2 * len(ARM)
    seconds = np.arange(part.frames) / 20
    hertz, phase = draw.rng.uniform(0.15, 0.7, (count, 2, 1)), draw.rng.uniform(0, 2 * np.pi, (count, 2, 1))
    posture = draw.rng.normal(0, 0.5, (count, 1)).clip(-1, 1)
    moves = posture + 0.5 * np.sin(2 * np.pi * hertz * seconds + phase).sum(axis=1)
    body = {name: part.body[name] + SWAY[name] * moves[n] for n, name in enumerate(BODY)}
    of_arms = moves[len(BODY) :].reshape(len(ARM), 2, -1)
    arms = {name: AT_REST[name] + part.arms[name] + ARM_SWAY[name] * of_arms[n] for n, name in enumerate(ARM)}
    return body, arms


def _height(part: Part, hips: NDArray[np.float64], ankles: NDArray[np.float64]) -> Curve:
    """The pelvis's height: the wanted one, or as low as it takes for both legs to reach their feet."""
    apart = part.x + hips[..., 0] - ankles[..., 0], part.z + hips[..., 2] - ankles[..., 2]
    reach = np.sqrt(np.maximum(REACH**2 - apart[0] ** 2 - apart[1] ** 2, 0.04))
    limits = np.stack([PELVIS + part.rise, *(ankles[..., 1] + reach - hips[..., 1])])
    least = limits.min(axis=0)
    # A soft minimum, at most 11 mm lower than the least: the pelvis does not jerk where another limit takes over.
    return least - np.log(np.exp(-SOFT * (limits - least)).sum(axis=0)) / SOFT


SOFT = 100.0
"""1/metre."""


def _knees(hips: NDArray[np.float64], ankles: NDArray[np.float64], facing: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the knees are, bent forward (and, where the leg points forward, up), a little outwards."""
    leg = ankles - hips
    length = np.linalg.norm(leg, axis=-1, keepdims=True)
    along = leg / length
    out = 0.12 * LEFT_RIGHT[:, None]
    bend = np.stack(
        [
            np.sin(facing) + out * np.cos(facing),
            np.full_like(facing, 0.3),
            np.cos(facing) - out * np.sin(facing),
        ],
        axis=-1,
    )
    bend -= (bend * along).sum(axis=-1, keepdims=True) * along
    bend /= np.linalg.norm(bend, axis=-1, keepdims=True)
    far = (THIGH**2 - SHIN**2 + length**2) / (2 * length)
    return hips + far * along + np.sqrt(np.maximum(THIGH**2 - far**2, 0)) * bend


def generate(count: int, seed: int) -> list[Clip]:
    """Clips 0 to count - 1 of the world with this seed; clip i is the same whatever the count."""
    return [clip(seed, i) for i in range(count)]


def clip(seed: int, i: int) -> Clip:
    """Clip i of the world with this seed: joints at 20 frames per second, and CAPTIONS captions of one meaning.

    Its split is set by a hash of both numbers (8 of 10 train, 1 val, 1 test). Meanings that are held out are drawn for
    the test split alone.
    """
    split = {0: "val", 1: "test"}.get(grammar.number(f"split of {seed}-{i}") % 10, "train")
    rng = np.random.default_rng([seed, i])
    meaning = _meaning(rng, split)
    chosen = rng.permutation(len(meaning.captions))[:CAPTIONS]
    captions = tuple(Caption(meaning.captions[n], meaning=meaning.id) for n in chosen)
    return Clip(f"{seed}-{i:06d}", split, captions, joints=perform(meaning, rng))


def _meaning(rng: np.random.Generator, split: str) -> Meaning:
    if rng.random() < SINGLES:
        return grammar.singles()[rng.integers(len(grammar.singles()))]
    while True:
        meaning = grammar.pairs()[rng.integers(len(grammar.pairs()))]
        if split == "test" or not meaning.held_out:
            return meaning


def perform(meaning: Meaning, rng: np.random.Generator) -> NDArray[np.float32]:
    """One performance of a meaning: joints [F, 22, 3] with MIN_LENGTH <= F <= MAX_LENGTH, a multiple of UNIT."""
    draw = Draw(rng)
    before = Part(int(rng.integers(2, 5)), draw.stance)
    short = len(meaning.actions) > 1
    parts = [before, *(ACTIONS[action.verb](draw, action, short) for action in meaning.actions)]
    length = sum(part.frames for part in parts)
    least = max(length + 2, MIN_LENGTH)
    parts.append(Part(least + -least % UNIT - length, draw.stance))
    return pose(chain(parts), draw)
