"""The clips of a world as tensors: normalised features, what they are normalised by, and what describes them."""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bench import identity
from bench.motion.skeleton import T2M
from bench.world.content import CLIPS, LONGEST, SEED, SHORTEST, Content, Example, clip_features
from methods import checkpoint
from methods.checkpoint import CheckpointError

PART = 1000
"""Clips whose features are kept while those of further ones are made."""
WEIGHTS = {"turn": 4.0, "glide": 4.0, "height": 2.0}
"""How much more the root's path counts than the rest: its errors add up over time."""

STILL = 1e-5
"""The least deviation of a block: one that never changes (nobody turns) is not divided by its rounding errors."""


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

    def to(self, device: torch.device) -> "Statistics":
        return Statistics(self.mean.to(device), self.std.to(device))


def statistics(rows: NDArray[np.float32]) -> Statistics:
    """Of the frames `[N, 263]` of the training split."""
    mean, measured = rows.mean(0, dtype=np.float64), rows.std(0, dtype=np.float64)
    std = np.empty_like(measured)
    for name, block in T2M.blocks.items():
        std[block] = max(measured[block].mean(), STILL) / WEIGHTS.get(name, 1.0)
    return Statistics(torch.from_numpy(mean).float(), torch.from_numpy(std).float())


@dataclass(frozen=True)
class WorldData:
    """Clips 0 to N-1 of a world, one after the other."""

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
    def digest(self) -> str:
        """Of all of it."""
        return checkpoint.digest(*self.stored())

    def stored(self) -> tuple[dict[str, Tensor], dict]:
        """As tensors and JSON."""
        tensors = {
            "frames": self.frames,
            "lengths": self.lengths,
            "mean": self.statistics.mean,
            "std": self.statistics.std,
        }
        return tensors, {"texts": self.texts, "meanings": self.meanings, "splits": self.splits}

    @classmethod
    def restored(cls, tensors: dict[str, Tensor], about: dict) -> "WorldData":
        """What `stored` gave."""
        return cls(
            tensors["frames"],
            tensors["lengths"],
            Statistics(tensors["mean"], tensors["std"]),
            tuple(map(tuple, about["texts"])),
            tuple(about["meanings"]),
            tuple(about["splits"]),
        )

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *self.lengths.cumsum(0).tolist()]

    def to(self, device: torch.device) -> "WorldData":
        """The same clips there, where batches are then cut out of them: nothing is copied later."""
        return replace(
            self, frames=self.frames.to(device), lengths=self.lengths.to(device), statistics=self.statistics.to(device)
        )

    def indices(self, split: str) -> Tensor:
        """The clips of a split."""
        numbers = [number for number, clip_split in enumerate(self.splits) if clip_split == split]
        return torch.tensor(numbers, device=self.lengths.device)

    def motions(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised features `[B, F, 263]`, padded with zeros to the longest, and lengths `[B]`."""
        parts = [self.frames[self._starts[n] : self._starts[n + 1]] for n in clips.tolist()]
        return pad_sequence(parts, batch_first=True).float(), self.lengths[clips]


Clip = tuple[NDArray[np.float32], tuple[str, ...], str, str]
"""Features `[F, 263]` of a clip, its captions' texts, what they mean, and its split."""


def generate(content: Content) -> WorldData:
    """Every clip's features; some 2 ms a procedural clip."""
    return _joined([_clip(content.example(number)) for number in range(len(content))])


def _clip(example: Example, row: NDArray[np.float32] | None = None) -> Clip:
    """What is kept of a clip; `row` where its features are there already."""
    texts = tuple(caption.text for caption in example.captions)
    return example.features() if row is None else row, texts, example.captions[0].meaning, example.split


def _joined(clips: Sequence[Clip]) -> WorldData:
    rows, texts, meanings, splits = zip(*clips, strict=True)
    of_train = statistics(np.concatenate([row for row, split in zip(rows, splits, strict=True) if split == "train"]))
    frames = of_train.normalise(torch.from_numpy(np.concatenate(rows))).half()
    return WorldData(frames, torch.tensor([len(row) for row in rows]), of_train, texts, meanings, splits)


def cached(path: Path, content: Content) -> WorldData:
    """As `generate`, kept in a file: made again where the file is of other clips, of files that have changed since, of
    another text encoder or of other code. While it is made, parts of it lie beside it, with which a run that was
    killed goes on. CheckpointError for a file that is damaged."""
    key = identity.key(content.fingerprint, content.source(), identity.code())
    if path.is_file():
        tensors, metadata = checkpoint.read_tensors(path)
        try:
            about = json.loads(metadata["clips"])
            if about["of"] == key:
                return WorldData.restored(tensors, about)
        except (KeyError, TypeError, ValueError, RecursionError):
            pass  # of an earlier version
    clips: list[Clip] = []
    for first in range(0, len(content), PART):
        numbers = range(first, min(first + PART, len(content)))
        clips += _part(path.with_name(f"{path.stem}.{first}.part"), content, numbers, key)
    made = _joined(clips)
    tensors, about = made.stored()
    checkpoint.save_tensors(tensors, path, "clips", {**about, "of": key})
    for part in path.parent.glob(f"{path.stem}.*.part"):
        part.unlink(missing_ok=True)
    return made


def _part(path: Path, content: Content, numbers: range, key: str) -> list[Clip]:
    """Some clips, whose features are kept in a file; they are made again where that is damaged or of another key."""
    with contextlib.suppress(CheckpointError, KeyError, TypeError, ValueError, RecursionError):
        tensors, metadata = checkpoint.read_tensors(path)
        if json.loads(metadata["features"])["of"] == key:
            rows = tensors["frames"].split(tensors["lengths"].tolist())
            return [_clip(content.example(number), row.numpy()) for number, row in zip(numbers, rows, strict=True)]
    made = [_clip(content.example(number)) for number in numbers]
    frames, lengths = np.concatenate([row for row, *_ in made]), torch.tensor([len(row) for row, *_ in made])
    checkpoint.save_tensors({"frames": torch.from_numpy(frames), "lengths": lengths}, path, "features", {"of": key})
    return made


__all__ = ["CLIPS", "LONGEST", "SEED", "SHORTEST", "Statistics", "WorldData", "cached", "clip_features"]
