"""Actions of the whole body around one place: jump, jumping jack, kick, squat, bow.

Each is made from a clip's draw and what the caption says; `short` is for actions of many steps, and changes nothing.
"""

from functools import partial

import numpy as np

from bench.world.procedural.body import AHEAD, ANKLE, HIP, LEFT_RIGHT, PELVIS, SHIN, THIGH
from bench.world.procedural.grammar import Action
from bench.world.procedural.part import Draw, Part, bump, keys, repeat, smooth


def jump(draw: Draw, action: Action, short: bool) -> Part:
    """With both feet, up, forward or backward, as often as said."""
    distance = {"up": 0.0, "forward": 0.55, "backward": -0.32}[action.direction] * draw.strength
    return repeat(action, partial(_leap, draw, distance))


def _leap(draw: Draw, distance: float) -> Part:
    frames = draw.frames(25)
    part = Part(frames, draw.stance)
    at = np.linspace(0, 1, frames)
    height = draw.around(0.24, 0.15) * draw.strength
    flight = np.clip((at - 0.42) / 0.34, 0, 1)
    part.rise = 4 * height * flight * (1 - flight)
    depth = 0.2 * draw.strength
    part.rise += keys(frames, (0.26, -depth), (0.42, 0.0), (0.76, 0.0), (0.86, -0.7 * depth))
    part.z = distance * smooth((at - 0.30) / 0.50)
    landed = distance * smooth((at - 0.40) / 0.38)
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


def jack(draw: Draw, action: Action, short: bool) -> Part:
    """Jumping jacks, as often as said."""
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


def kick(draw: Draw, action: Action, short: bool) -> Part:
    """With the left or the right leg, as often as said."""
    side = ("left", "right").index(action.direction)
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


def squat(draw: Draw, action: Action, short: bool) -> Part:
    """Down and up with the arms ahead, as often as said."""
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


def bow(draw: Draw, action: Action, short: bool) -> Part:
    """From the hips, once, at three speeds."""
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
