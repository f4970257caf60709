"""Stick figures: whose motions are shown, in which colours, and from where they are seen; strip and animation agree."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.alignment.motions import Joints, unpack
from bench.claims.measured import alignment_of
from bench.motion.skeleton import T2M
from bench.records import AlignmentRecord
from bench.report.style import INK

_YAW, _PITCH = math.radians(40), math.radians(14)
RIGHT = (math.cos(_YAW), 0.0, math.sin(_YAW))
UP = (math.sin(_PITCH) * math.sin(_YAW), math.cos(_PITCH), -math.sin(_PITCH) * math.cos(_YAW))
"""Directions of the picture in the world: a parallel view from the body's front and its left, a little from above."""

SIDES = {"left": "#C8362D", "right": "#2E5FA3", "middle": INK}
"""Colours of the body's left and right, and of spine and head."""


def _side(chain: Sequence[int]) -> str:
    word = T2M.joints[chain[-1]].partition("_")[0]
    return word if word in SIDES else "middle"


HEAD = T2M.joints.index("head")
LIMBS = tuple((_side(chain), chain) for chain in T2M.chains)
"""Side and joints of legs, spine and arms."""


@dataclass(frozen=True)
class Shown:
    """One prompt, and what was made of it."""

    text: str
    fps: int
    packed: dict[str, str]
    """Real motion, base and methods by name, as bench.alignment.motions packs them."""

    @property
    def motions(self) -> dict[str, Joints]:
        """`[F, 22, 3]` metres by the same names."""
        return {name: unpack(text) for name, text in self.packed.items()}


def shown(rows: Sequence[AlignmentRecord], kind: str) -> Shown | None:
    """The prompt of a kind in alignment rows of one run; None if they keep no motion of it."""
    kept = [(row, motion) for row in rows for motion in alignment_of(row).motions if motion.kind == kind]
    if not kept:
        return None
    first = kept[0][1]
    packed = {"real motion": first.real, "base": first.base}
    return Shown(first.text, first.fps, packed | {row.case.label: motion.tuned for row, motion in kept})


def project(points: NDArray[np.floating]) -> NDArray[np.floating]:
    """Points `[..., 3]` of the world as `[..., 2]` of the picture: metres to the right and up."""
    return points @ np.array([RIGHT, UP]).T


def from_above(points: NDArray[np.floating]) -> NDArray[np.floating]:
    """Points `[..., 3]` as `[..., 2]` of a map whose right is the picture's, with the viewer at its lower edge."""
    return points @ np.array([RIGHT, (math.sin(_YAW), 0.0, -math.cos(_YAW))]).T
