"""The two skeletons of the field, and where each quantity lies in their feature vectors."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np


@dataclass(frozen=True)
class Skeleton:
    """A tree of joints in the convention of Guo et al. 2022 (HumanML3D): y up, facing +z, left at +x.

    Joint indices everywhere; joint 0 is the root.
    """

    name: str
    joints: tuple[str, ...]
    chains: tuple[tuple[int, ...], ...]
    """Paths down the tree. Rotations are relative along a chain, and start anew from the root's at its first joint."""
    directions: tuple[tuple[int, int, int], ...]
    """Of the bone from each joint's parent to it, in the rest pose (0 for the root). Published as raw offsets."""
    facing: tuple[int, int, int, int]
    """Right hip, left hip, right shoulder, left shoulder: they show where the body faces."""
    leg: tuple[int, int]
    """The joints at the ends of one thigh and shin: their bones' lengths scale a body to another."""
    feet: tuple[int, int, int, int]
    """Left ankle and toe, right ankle and toe."""
    still: float
    """A foot touches the floor when its squared displacement in one frame is below this."""
    fps: float
    """Frames per second of the published data."""

    @cached_property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """Every joint but the root with its parent, parents first."""
        return tuple((joint, parent) for chain in self.chains for parent, joint in pairwise(chain))

    @cached_property
    def parents(self) -> tuple[int, ...]:
        """Of each joint; -1 for the root."""
        return (-1, *(parent for _, parent in sorted(self.bones)))

    @cached_property
    def turned_by(self) -> tuple[int, ...]:
        """The joint whose rotation each joint's own is relative to: its parent, or the root where a chain starts."""
        starts = {chain[1] for chain in self.chains}
        return tuple(0 if joint in starts else parent for joint, parent in enumerate(self.parents))

    @cached_property
    def blocks(self) -> dict[str, slice]:
        """Where each part lies in a feature vector; with J joints:

        `turn` 1, `glide` 2 and `height` 1 of the root, `positions` (J-1)·3, `rotations` (J-1)·6, `velocities` J·3,
        `contacts` 4. See representation.features.
        """
        total = len(self.joints)
        widths = {
            "turn": 1,
            "glide": 2,
            "height": 1,
            "positions": 3 * (total - 1),
            "rotations": 6 * (total - 1),
            "velocities": 3 * total,
            "contacts": 4,
        }
        ends = np.cumsum(list(widths.values())).tolist()
        return {name: slice(end - width, end) for (name, width), end in zip(widths.items(), ends, strict=True)}

    @property
    def width(self) -> int:
        """Length of a feature vector: 263 for T2M, 251 for KIT."""
        return self.blocks["contacts"].stop


UP, DOWN, LEFT, RIGHT, AHEAD = (0, 1, 0), (0, -1, 0), (1, 0, 0), (-1, 0, 0), (0, 0, 1)

T2M = Skeleton(
    name="t2m",
    joints=(
        *("pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee"),
        *("spine2", "left_ankle", "right_ankle", "spine3", "left_foot", "right_foot"),
        *("neck", "left_collar", "right_collar", "head", "left_shoulder", "right_shoulder"),
        *("left_elbow", "right_elbow", "left_wrist", "right_wrist"),
    ),
    chains=((0, 2, 5, 8, 11), (0, 1, 4, 7, 10), (0, 3, 6, 9, 12, 15), (9, 14, 17, 19, 21), (9, 13, 16, 18, 20)),
    directions=(
        *((0, 0, 0), LEFT, RIGHT, UP, DOWN, DOWN, UP, DOWN, DOWN, UP, AHEAD),
        *(AHEAD, UP, LEFT, RIGHT, AHEAD, DOWN, DOWN, DOWN, DOWN, DOWN, DOWN),
    ),
    facing=(2, 1, 17, 16),
    leg=(5, 8),
    feet=(7, 10, 8, 11),
    still=0.002,
    fps=20.0,
)
"""HumanML3D: the 22 body joints of SMPL, in metres."""

KIT = Skeleton(
    name="kit",
    joints=(
        *("root", "BP", "BT", "BLN", "BUN", "LS", "LE", "LW", "RS", "RE", "RW"),
        *("LH", "LK", "LA", "LMrot", "LF", "RH", "RK", "RA", "RMrot", "RF"),
    ),
    chains=((0, 11, 12, 13, 14, 15), (0, 16, 17, 18, 19, 20), (0, 1, 2, 3, 4), (3, 5, 6, 7), (3, 8, 9, 10)),
    directions=(
        *((0, 0, 0), UP, UP, UP, UP, LEFT, DOWN, DOWN, RIGHT, DOWN, DOWN),
        *(LEFT, DOWN, DOWN, AHEAD, AHEAD, RIGHT, DOWN, DOWN, AHEAD, AHEAD),
    ),
    facing=(11, 16, 5, 8),
    leg=(17, 18),
    feet=(19, 20, 14, 15),
    still=0.05,
    fps=12.5,
)
"""KIT-ML: 21 joints of the MMM reference model, with MMM's names.

The numbers are those of the published code. Unlike T2M's they were not checked against its outputs. It takes what MMM
calls left for right (`facing`, `feet`), and KIT-ML's files are in a unit of their own, not metres: so is `still`.
"""
