"""Motions kept in a row, so that what fine-tuning did can be seen: of a few test prompts, as text.

The prompts are the first of the test split of each of KINDS, whatever was made of them. A motion is its joints in whole
millimetres at FPS, little-endian 16-bit numbers in base64: 176 characters a frame, on one line of JSON.
"""

import base64
import binascii
import math
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from bench.alignment.evaluate import generate
from bench.motion.clip import DataError
from bench.motion.representation import Array, joints_from_features, root_path
from bench.motion.skeleton import T2M
from bench.records.types import MotionKind
from bench.world import AnyWorld, Prompts

FPS = 10
_EVERY = round(T2M.fps / FPS)
NOISE = 0
"""Seed of the initial noise: the same for the base and for every method."""
KINDS: tuple[MotionKind, ...] = get_args(MotionKind)
"""By the real motion: it stays where it is; its root gets farther than TRAVELS; the body turns by more than TURNS."""
TRAVELS = 0.5
"""Metres."""
TURNS = math.radians(60)
_SEARCHED = 64
"""Test prompts among which one of each kind is looked for."""
_MILLIMETRE = 1e-3
_SHAPE = (len(T2M.joints), 3)

Joints = NDArray[np.float32]
"""`[F, 22, 3]` metres, y up; the body begins above the origin and faces +z."""


def chosen(world: AnyWorld) -> dict[str, int]:
    """Of each of KINDS the first test prompt whose real motion is of it, by its index in `world.prompts("test")`; a
    kind that is not among the first _SEARCHED is left out."""
    first: dict[str, int] = {}
    for index in range(min(_SEARCHED, world.size("test"))):
        first.setdefault(kind(world.real_features("test", index)), index)
        if len(first) == len(KINDS):
            break
    return {name: first[name] for name in KINDS if name in first}


def kind(features: Array) -> str:
    """Which of KINDS a motion is, by its features `[F, 263]`, not normalised."""
    heading, root = root_path(features)
    if np.abs(heading).max() > TURNS:
        return "turn"
    return "way" if np.linalg.norm((root - root[0])[:, [0, 2]], axis=-1).max() > TRAVELS else "place"


def described(world: AnyWorld) -> list[dict]:
    """Of each chosen prompt its `kind`, its `text`, the `fps`, and the `real` motion of that caption, packed."""
    indices = chosen(world)
    texts = world.prompts("test", _SEARCHED).texts
    return [
        {
            "kind": name,
            "text": texts[index],
            "fps": FPS,
            "real": pack(joints_from_features(world.real_features("test", index))[::_EVERY]),
        }
        for name, index in indices.items()
    ]


def sampled(world: AnyWorld, steps: int) -> list[str]:
    """What the world's denoiser makes of each chosen prompt from NOISE in `steps` denoising steps, packed."""
    indices = list(chosen(world).values())
    every = world.prompts("test", _SEARCHED)
    prompts = Prompts(
        tuple(every.texts[index] for index in indices),
        tuple(every.meanings[index] for index in indices),
        every.lengths[indices],
    )
    motions, _ = generate(world, prompts, NOISE, steps)
    joints = world.joints(motions)
    return [pack(motion[:length:_EVERY]) for motion, length in zip(joints, prompts.lengths.tolist(), strict=True)]


def pack(joints: Joints) -> str:
    """Joints `[F, 22, 3]` in metres as text; what is farther than 32.767 m from the origin is drawn in to there."""
    limits = np.iinfo(np.int16)
    whole = np.clip(np.rint(joints / _MILLIMETRE), limits.min, limits.max).astype("<i2")
    return base64.b64encode(whole.tobytes()).decode()


def unpack(text: str) -> Joints:
    """Joints `[F, 22, 3]` in metres, to half a millimetre; DataError for text that `pack` did not write."""
    try:
        numbers = np.frombuffer(base64.b64decode(text, validate=True), "<i2").reshape(-1, *_SHAPE)
    except (binascii.Error, ValueError) as error:
        raise DataError(f"a motion in the row cannot be read ({error}): the file was edited, run it again") from None
    return (numbers * _MILLIMETRE).astype(np.float32)
