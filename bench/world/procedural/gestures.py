"""Actions of the arms while standing: wave, raise, punch, throw, clap, spread.

Each is made from a clip's draw and what the caption says; `short` is for actions of many steps, and changes nothing.
"""

import numpy as np

from bench.world.procedural.body import AT_REST, LEFT_RIGHT
from bench.world.procedural.grammar import Action
from bench.world.procedural.part import Draw, Part, bump, keys, smooth


def wave(draw: Draw, action: Action, short: bool) -> Part:
    """With a raised forearm, or both, at three speeds."""
    waves = int(draw.rng.integers(2, 4))
    usual = {"": 9.0, "slow": 15.0, "quick": 5.5}[action.speed] / draw.pace
    frames = round(18 + waves * usual)
    part = Part(frames, draw.stance)
    edge = 9 / frames
    up = keys(frames, (edge, 1.0), (1 - edge, 1.0))
    at = np.clip((np.linspace(0, 1, frames) - edge) / (1 - 2 * edge), 0, 1)
    beat = np.sin(2 * np.pi * waves * at) * smooth(np.minimum(at, 1 - at) * 6)
    high = draw.around(1.35, 0.12)
    for arm in {"left": (0,), "right": (1,), "both": (0, 1)}[action.direction]:
        part.arms["abduct"][arm] += (high - AT_REST["abduct"]) * up
        part.arms["flex"][arm] += 0.2 * up
        part.arms["roll"][arm] += 1.75 * up
        part.arms["elbow"][arm] += draw.around(1.25, 0.08) * up + draw.around(0.45, 0.1) * beat
    part.body["lean"] += {"left": -0.05, "right": 0.05, "both": 0.0}[action.direction] * up
    return part


def raise_arms(draw: Draw, action: Action, short: bool) -> Part:
    """One arm or both up beside the head, at three speeds."""
    frames = draw.frames(40, action.speed)
    part = Part(frames, draw.stance)
    up = keys(frames, (0.36, 1.0), (0.62, 1.0))
    high = draw.around(2.75, 0.05)
    for arm in {"left": (0,), "right": (1,), "both": (0, 1)}[action.direction]:
        part.arms["flex"][arm] += high * up
        part.arms["abduct"][arm] -= 0.25 * up
        part.arms["elbow"][arm] -= 0.12 * up
    part.body["bend"] -= 0.08 * up
    part.body["nod"] -= 0.15 * up
    return part


def punch(draw: Draw, action: Action, short: bool) -> Part:
    """With one arm from a guard, as often as said."""
    side = ("left", "right").index(action.direction)
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


def throw(draw: Draw, action: Action, short: bool) -> Part:
    """With one arm, from behind the shoulder."""
    side = ("left", "right").index(action.direction)
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


def clap(draw: Draw, action: Action, short: bool) -> Part:
    """Before the chest, as often as said."""
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


def spread(draw: Draw, action: Action, short: bool) -> Part:
    """Both arms to the sides, at three speeds."""
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
