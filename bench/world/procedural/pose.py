"""From curves to joints: legs bent to reach the feet, trunk and arms by forward kinematics."""

import numpy as np
from numpy.typing import NDArray

from bench.world.procedural.body import (
    ANKLE,
    ARM,
    AT_REST,
    BODY,
    COLLAR,
    FOREARM,
    HEAD,
    HIP,
    LEFT_RIGHT,
    NECK,
    PELVIS,
    REACH,
    SHIN,
    SHOULDER,
    SPINE,
    THIGH,
    UPPER_ARM,
)
from bench.world.procedural.part import Curve, Draw, Part

SWAY = {"tilt": 0.02, "bend": 0.03, "lean": 0.02, "twist": 0.04, "nod": 0.05, "look": 0.08}
ARM_SWAY = {"flex": 0.05, "abduct": 0.03, "across": 0.02, "roll": 0.06, "elbow": 0.06}
"""How far small movements go, in radians."""
SOFT = 100.0
"""1/metre."""


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
