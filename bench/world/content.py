"""What a world is made of: clips by number, and their captions as vectors.

`Embedded` is the procedural one, made anew from a clip's number; `user_data.UserData` is a folder of the user's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bench.motion.clip import MAX_FRAMES, UNIT, Caption, Clip
from bench.motion.representation import features
from bench.motion.text import CachedTable
from bench.world import procedural

TABLE = Path(__file__).with_name("captions.safetensors")
"""The embedded world's captions, by all-MiniLM-L6-v2 (384 wide, unit length), in half precision."""
SEED = 0
"""Of the procedural world. A clip of the embedded world is its number under this seed."""
CLIPS = 10_000
SHORTEST = procedural.MIN_LENGTH - UNIT
LONGEST = procedural.MAX_LENGTH - UNIT
"""Frames of a procedural motion's features: the last frame of a clip gives velocities only, and lengths are multiples
of UNIT."""
WORDS = 20
"""The networks read a caption's first words, as many as the published loaders do; the sentence vector tells all."""


class Captions:
    """A table's vectors, standardised to zero mean and unit deviation a dimension.

    As the encoder gives them, sentences that differ in one word have a cosine of 0.98: the mean outweighs what tells
    them apart. The statistics are the table's own, over every text in it.
    """

    def __init__(self, table: CachedTable) -> None:
        self.table = table
        self.width = table.width
        tokens, mask = self._tokens(table.texts)
        self._sentence, self._word = _spread(table.encode(table.texts)), _spread(tokens[mask])

    def sentences(self, texts: Sequence[str]) -> Tensor:
        """`[N, D]`; DataError for a text that is no caption of the world."""
        mean, std = self._sentence
        return (self.table.encode(texts) - mean) / std

    def words(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """`[N, L, D]`, L at most WORDS, padded with zeros to the longest text, and a mask `[N, L]`, true where a word
        is."""
        tokens, mask = self._tokens(texts)
        mean, std = self._word
        return (tokens - mean) / std * mask[..., None], mask

    def _tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        tokens, mask = self.table.tokens(texts)
        return tokens[:, :WORDS], mask[:, :WORDS]


def _spread(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each dimension of `[N, D]`; where all are equal, the deviation is not left at 0."""
    std = vectors.std(0)
    return vectors.mean(0), std.clamp(min=0.1 * float(std.mean()))


@dataclass(frozen=True)
class Example:
    """A clip as the world's networks see it."""

    split: str
    captions: tuple[Caption, ...]
    """Each with its meaning."""
    length: int
    """Frames of its features, a multiple of UNIT."""
    features: Callable[[], NDArray[np.float32]]
    """`[length, 263]`, not normalised."""


class Content(Protocol):
    """Clips 0 to N-1 with their captions."""

    @property
    def captions(self) -> Captions: ...

    @property
    def shortest(self) -> int:
        """The fewest frames of an example."""
        ...

    @property
    def longest(self) -> int:
        """The most frames of an example."""
        ...

    @property
    def fingerprint(self) -> str:
        """Other for other clips, or other vectors of their captions."""
        ...

    def source(self) -> str | None:
        """Other where a file has changed that clips are read from; None if there are none."""
        ...

    def __len__(self) -> int: ...

    def example(self, number: int) -> Example: ...

    def stored(self) -> tuple[dict[str, Tensor], dict | None]:
        """What a world's file keeps of it: tensors, and a JSON object; None if it needs nothing."""
        ...


@dataclass(frozen=True)
class Embedded:
    """The first `count` clips of the procedural world."""

    count: int = CLIPS
    shortest, longest = SHORTEST, LONGEST

    @property
    def captions(self) -> Captions:
        """Of every caption of the grammar."""
        return _captions()

    @property
    def fingerprint(self) -> str:
        return f"procedural, seed {SEED}, {self.count} clips"

    def source(self) -> None:
        """Clips are made, not read."""

    def __len__(self) -> int:
        return self.count

    def example(self, number: int) -> Example:
        clip = _clip(number)
        return Example(clip.split, clip.captions, clip.frames - UNIT, partial(clip_features, clip))

    def stored(self) -> tuple[dict[str, Tensor], None]:
        """Numbers tell all."""
        return {}, None


def clip_features(clip: Clip) -> NDArray[np.float32]:
    """Features `[F, 263]` of a clip's joints, cut at its end (where the figure stands) to a multiple of UNIT frames."""
    return cut(features(clip.joints))  # type: ignore[arg-type]  # procedural clips have joints


def cut(every: NDArray[np.floating]) -> NDArray[np.float32]:
    """The first frames of `[F, D]`: a multiple of UNIT, at most MAX_FRAMES."""
    return every[: cut_length(len(every))].astype(np.float32)


def cut_length(frames: int) -> int:
    """How many of them `cut` leaves."""
    return min(frames, MAX_FRAMES) // UNIT * UNIT


@cache
def _captions() -> Captions:
    """Read once."""
    return Captions(CachedTable(TABLE))


@lru_cache(maxsize=4096)
def _clip(number: int) -> Clip:
    """Kept: a run asks for the same prompts again and again."""
    return procedural.clip(SEED, number)
