"""Clips of the procedural world: which meaning is drawn, and its performance from standing to standing."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bench.motion.clip import UNIT, Caption, Clip
from bench.world.procedural import grammar
from bench.world.procedural.exercises import bow, jack, jump, kick, squat
from bench.world.procedural.gestures import clap, punch, raise_arms, spread, throw, wave
from bench.world.procedural.grammar import Action, Meaning
from bench.world.procedural.locomotion import march, run, sidestep, turn, walk
from bench.world.procedural.part import Draw, Part, chain
from bench.world.procedural.pose import pose

MIN_LENGTH, MAX_LENGTH = 44, 120
"""Frames of a clip; with one lost to velocities, the shortest still passes the published length filter."""
SINGLES = 0.55
"""The share of clips with one action."""
CAPTIONS = 3
"""How many of its meaning's captions a clip carries."""
ACTIONS: dict[str, Callable[[Draw, Action, bool], Part]] = {
    "walk": walk,
    "run": run,
    "march": march,
    "sidestep": sidestep,
    "turn": turn,
    "jump": jump,
    "jumping jack": jack,
    "kick": kick,
    "squat": squat,
    "bow": bow,
    "wave": wave,
    "raise": raise_arms,
    "punch": punch,
    "throw": throw,
    "clap": clap,
    "spread": spread,
}
"""Of each verb: its curves, from standing to standing, short ones where there are two actions. The numbers in them were
set by eye, on drawn figures."""


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
    meaning = draw_meaning(rng, split)
    chosen = rng.permutation(len(meaning.captions))[:CAPTIONS]
    captions = tuple(Caption(meaning.captions[n], meaning=meaning.id) for n in chosen)
    return Clip(f"{seed}-{i:06d}", split, captions, joints=perform(meaning, rng))


def draw_meaning(rng: np.random.Generator, split: str) -> Meaning:
    """A meaning that clips of this split may have: SINGLES of them are one action, the others two."""
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
