"""The embedded world as tensors: normalised features of procedural motions, and its captions as vectors."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bench.alignment.data import grammar, procedural
from bench.alignment.data.clip import SPLITS, UNIT, Clip
from bench.alignment.data.text import CachedTable
from bench.alignment.representation import features
from bench.alignment.skeleton import T2M

SEED = 0
"""Of the procedural world. A clip of the embedded world is its number under this seed."""
CLIPS = 10_000
SHORTEST = procedural.MIN_LENGTH - UNIT
LONGEST = procedural.MAX_LENGTH - UNIT
"""Frames of a motion's features: the last frame of a clip gives velocities only, and lengths are multiples of UNIT."""
WEIGHTS = {"turn": 4.0, "glide": 4.0, "height": 2.0}
"""How much more the root's path counts than the rest: its errors add up over time."""


@dataclass(frozen=True)
class Statistics:
    """How features are normalised: (features - mean) / std, each `[263]`."""

    mean: Tensor
    std: Tensor
    """One number a block (HumanML3D does so too), divided by its weight: features that hardly move, as on a skeleton of
    fixed size many do, are not blown up to unit noise, and a block keeps the proportions of its metres or radians."""

    def normalise(self, motion: Tensor) -> Tensor:
        return (motion - self.mean) / self.std

    def restore(self, motion: Tensor) -> Tensor:
        return motion * self.std + self.mean


def statistics(rows: NDArray[np.float32]) -> Statistics:
    """Of the frames `[N, 263]` of the training split."""
    mean, own = rows.mean(0, dtype=np.float64), rows.std(0, dtype=np.float64)
    std = np.empty_like(own)
    for name, block in T2M.blocks.items():
        std[block] = own[block].mean() / WEIGHTS.get(name, 1.0)
    return Statistics(torch.from_numpy(mean).float(), torch.from_numpy(std).float())


def clip_features(clip: Clip) -> NDArray[np.float32]:
    """Features `[F, 263]` of a clip, cut at its end (where the figure stands) to a multiple of UNIT frames."""
    every = features(clip.joints)  # type: ignore[arg-type]  # procedural clips have joints
    return every[: len(every) // UNIT * UNIT].astype(np.float32)


@dataclass(frozen=True)
class WorldData:
    """Clips 0 to N-1 of the world, one after the other."""

    frames: Tensor
    """`[sum of lengths, 263]` normalised features, in half precision."""
    lengths: Tensor
    """`[N]`, in frames."""
    statistics: Statistics
    texts: tuple[tuple[str, ...], ...]
    """Of each clip: several captions of one meaning."""
    meanings: tuple[str, ...]
    splits: tuple[str, ...]

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *self.lengths.cumsum(0).tolist()]

    def indices(self, split: str) -> Tensor:
        """The clips of a split."""
        return torch.tensor([n for n, own in enumerate(self.splits) if own == split])

    def motions(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised features `[B, F, 263]`, padded with zeros to the longest, and lengths `[B]`."""
        parts = [self.frames[self._starts[n] : self._starts[n + 1]] for n in clips.tolist()]
        return pad_sequence(parts, batch_first=True).float(), self.lengths[clips]


def generate(count: int = CLIPS) -> WorldData:
    """Clips 0 to `count` - 1 and their features; some 6 ms a clip."""
    rows: list[NDArray[np.float32]] = []
    texts, meanings, splits = [], [], []
    for number in range(count):
        clip = procedural.clip(SEED, number)
        rows.append(clip_features(clip))
        texts.append(tuple(caption.text for caption in clip.captions))
        meanings.append(clip.captions[0].meaning)
        splits.append(clip.split)
    own = statistics(np.concatenate([row for row, split in zip(rows, splits, strict=True) if split == "train"]))
    frames = own.normalise(torch.from_numpy(np.concatenate(rows))).half()
    lengths = torch.tensor([len(row) for row in rows])
    return WorldData(frames, lengths, own, tuple(texts), tuple(meanings), tuple(splits))


def cached(path: Path, count: int = CLIPS) -> WorldData:
    """As `generate`, kept in a file: made and written if it is not there."""
    if not path.is_file():
        made = generate(count)
        tensors = {
            "frames": made.frames,
            "lengths": made.lengths,
            "mean": made.statistics.mean,
            "std": made.statistics.std,
        }
        about = {"clips": json.dumps({"texts": made.texts, "meanings": made.meanings, "splits": made.splits})}
        temporary = path.with_name(path.name + ".tmp")
        save_file(tensors, temporary, about)
        temporary.replace(path)
    with safe_open(path, "pt") as file:
        read = json.loads(file.metadata()["clips"])
        tensors = {name: file.get_tensor(name) for name in ("frames", "lengths", "mean", "std")}
    return WorldData(
        tensors["frames"],
        tensors["lengths"],
        Statistics(tensors["mean"], tensors["std"]),
        tuple(map(tuple, read["texts"])),
        tuple(read["meanings"]),
        tuple(read["splits"]),
    )


class Captions:
    """The cached table's vectors, standardised to zero mean and unit deviation a dimension.

    As the encoder gives them, sentences that differ in one word have a cosine of 0.98: the mean outweighs what tells
    them apart. The statistics are the table's own, over every caption of the grammar.
    """

    def __init__(self) -> None:
        self._table = CachedTable()
        self.width = self._table.width
        every = grammar.captions()
        sentences = self._table.encode(every)
        tokens, mask = self._table.tokens(every)
        self._sentence, self._word = _spread(sentences), _spread(tokens[mask])

    def sentences(self, texts: Sequence[str]) -> Tensor:
        """`[N, D]`; DataError for a text that is no caption of the world."""
        mean, std = self._sentence
        return (self._table.encode(texts) - mean) / std

    def words(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """`[N, L, D]`, padded with zeros to the longest text, and a mask `[N, L]`, true where a word is."""
        tokens, mask = self._table.tokens(texts)
        mean, std = self._word
        return (tokens - mean) / std * mask[..., None], mask


def _spread(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each dimension of `[N, D]`; where all are equal, the deviation is not left at 0."""
    std = vectors.std(0)
    return vectors.mean(0), std.clamp(min=0.1 * float(std.mean()))


__all__ = ["CLIPS", "LONGEST", "SEED", "SHORTEST", "SPLITS", "Captions", "Statistics", "WorldData", "cached"]
