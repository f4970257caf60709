"""Whether motion is of people in metres, y up, at the frame rate it is read at, or which option would make it so.

Sizes, axes and rates that are wrong train as well as right ones, and nothing shows it later. So a few clips are
looked at before any are used: how tall the bodies are, whether heads are above feet, how fast motion changes its
course. What the user has stated is not doubted.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.motion.clip import FPS, UPWARD, Conventions, DataError
from bench.motion.skeleton import T2M

UNITS = {
    "metres": 1.0,
    "decimetres": 0.1,
    "centimetres": 0.01,
    "millimetres": 0.001,
    "feet": 0.3048,
    "inches": 0.0254,
    "units of 1/0.45 inch, as cgspeed's CMU files": 0.0254 / 0.45,
}
"""Metres in each."""
SHORTEST, TYPICAL, TALLEST = 0.8, 1.4, 2.2
"""Metres from the hip to an ankle and from the pelvis to the head, along the bones: 1.28 to 1.56 in CMU's and
Bandai-Namco's recordings."""
UPRIGHT = 0.5
"""Of that length, how far the head is above the feet in most clips; about 1 where people stand."""
SLOW, TEMPO, FAST = 0.19, 0.33, 0.55
"""Change of a frame's displacement to the next one, as a share of it, at 20 frames per second: medians of 32 clips are
0.25 to 0.44 in CMU's and Bandai-Namco's recordings, and 0.10 to 0.19 where files at 60 or 120 are read as at 20. What
is wrong by less than a factor of about two passes."""
GROUND = 0.1
"""Metres between the lowest joint and 0 that are worth a note."""
FEATURES = (
    f"compute the features again from joints in metres, y up, at {FPS:g} frames per second; if they are right, say"
)
"""What mends a folder of features, which no option can change."""


def check(
    clips: Sequence[NDArray[np.floating]],
    folder: Path,
    given: Conventions,
    unit: float,
    rate: float,
    made: bool = False,
) -> str:
    """A note on where the ground is, if it is not at 0; empty otherwise. The clips are joints `[F, 22, 3]`, as read.

    `unit` and `rate`: metres in the files' unit and their frames per second, as they were read; `made`: the clips were
    made from features. DataError, with the option that mends it, where bodies are too small or too tall, where they lie
    or stand on their heads in most clips, or where motion is at another rate; for each of them unless it is given.
    """
    size = float(np.median([_size(joints) for joints in clips]))
    if given.scale is None and not SHORTEST <= size <= TALLEST:
        mend = f"{FEATURES} --scale 1" if made else _scale(size, unit)
        raise DataError(f"{folder}: bodies are {size:.3g} m from ankle to head along their bones: {mend}")
    above = {axis: float(np.median([_above(joints, axis) for joints in clips])) for axis in UPWARD}
    if given.up is None and above["y"] < UPRIGHT:
        mend = f"{FEATURES} --up=y" if made else _up(above)
        raise DataError(f"{folder}: heads are not above feet along y in most clips: {mend}")
    tempo = float(np.median([_tempo(joints) for joints in clips]))
    if given.fps is None and not SLOW <= tempo <= FAST and tempo > 0:
        mend = f"{FEATURES} --fps {rate:g}" if made else _fps(tempo, rate)
        times = f"{TEMPO / tempo:.2g} times as slowly" if tempo < TEMPO else f"{tempo / TEMPO:.2g} times as fast"
        raise DataError(
            f"{folder}: read at {rate:.4g} frames per second, bodies change their course {times} as people do: {mend}"
        )
    ground = float(np.median([joints[..., 1].min() for joints in clips]))
    if abs(ground) > GROUND:
        return f"the ground (lowest point of a clip) is at {ground:.2f} m in the median: brought to 0, clip by clip"
    return ""


LEG, SPINE = T2M.chains[0][1:-1], T2M.chains[2]
"""Hip to ankle, and pelvis to head."""


def _size(joints: NDArray[np.floating]) -> float:
    """Length along the bones of LEG and SPINE, in the first frame."""
    bones = [*pairwise(LEG), *pairwise(SPINE)]
    return float(sum(np.linalg.norm(joints[0, one] - joints[0, other]) for one, other in bones))


def _scale(size: float, unit: float) -> str:
    """The option that brings bodies of `size` metres, as read with `unit` metres to a unit, to a person's size."""
    length = max(size / unit, 1e-300)
    name = min(UNITS, key=lambda name: abs(np.log(length * UNITS[name] / TYPICAL)))
    if SHORTEST <= length * UNITS[name] <= TALLEST:
        return f"the files seem to be in {name}: add --scale {UNITS[name]:.4g}, or the metres in their unit"
    return "give the metres in the files' unit with --scale, or check that they are bodies"


def _up(above: Mapping[str, float]) -> str:
    """The option that brings bodies, whose heads are `above` their feet by axis, to stand."""
    best = max(above, key=above.__getitem__)
    if above[best] >= UPRIGHT:
        return f"they are along {best}, so add --up={best}"
    return "nor along another axis; if y is up, say so with --up=y"


def _fps(tempo: float, rate: float) -> str:
    """The option that brings motion read at `rate` to people's tempo, which noise in fast recordings hides in part."""
    return (
        f"people would at about {rate * TEMPO / tempo:.0f}, so add --fps with the files' true rate; if {rate:.4g} is "
        f"right, --fps {rate:.4g}"
    )


def _above(joints: NDArray[np.floating], axis: str) -> float:
    """How far the head is above the feet along the axis, in the mean over time, as a share of the size."""
    head, feet = joints[:, SPINE[-1]], joints[:, [T2M.feet[1], T2M.feet[3]]].mean(axis=1)
    return float(((head - feet) @ np.array(UPWARD[axis][1])).mean()) / max(_size(joints), 1e-300)


def _tempo(joints: NDArray[np.floating]) -> float:
    """Root mean square of the change of displacement over that of the displacement; 0 where nothing moves.

    It does not depend on the body's size, nor on how far it moves.
    """
    step = np.diff(joints.astype(float), axis=0)
    moved = np.square(step).sum()
    return float(np.sqrt(np.square(np.diff(step, axis=0)).sum() / moved)) if moved > 0 else 0.0
