"""What a fine-tuning run and its measurement ask of a world, and the worlds by where they are: one file, or a folder of
published models and data, written `published:FOLDER`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bench import identity
from bench.cases import PUBLISHED, is_published
from bench.world import published, world
from bench.world.world import WEIGHTS, Prompts
from methods.interface import Backbone, Batch, Reward
from methods.samplers import Sampler


class AnyWorld(Protocol):
    """A pre-trained backbone, its reward, an independent evaluator, and prompts. Motions are features `[N, F, D]`,
    normalised as the backbone knows them, padded with zeros."""

    @property
    def backbone(self) -> Backbone: ...

    @property
    def reward(self) -> Reward: ...

    @property
    def device(self) -> torch.device:
        """Where motions, batches and embeddings are."""
        ...

    def to(self, device: torch.device) -> "AnyWorld":
        """The same world, moved there."""
        ...

    @property
    def longest(self) -> int:
        """The most frames of a motion."""
        ...

    @property
    def training_prompts(self) -> int:
        """How many prompts of the training split a run draws from."""
        ...

    def networks(self) -> dict[str, nn.Module]: ...

    def batch(self, texts: Sequence[str], lengths: Tensor | Sequence[int]) -> Batch:
        """The inputs of one trajectory; F is the longest length."""
        ...

    def sampler(self, steps: int = 50) -> Sampler: ...

    def size(self, split: str) -> int:
        """How many clips a split has."""
        ...

    def prompts(self, split: str, count: int = 512) -> Prompts:
        """The first `count` clips of a split, each with its first caption."""
        ...

    def real(self, split: str, count: int, seed: int) -> tuple[Tensor, Prompts]:
        """Motions of `count` random clips of a split, and a caption of each."""
        ...

    def real_features(self, split: str, index: int) -> NDArray[np.float32]:
        """`[F, D]` of one of `prompts`, not normalised."""
        ...

    def joints(self, motion: Tensor) -> NDArray[np.float32]:
        """`[N, F, J, 3]` in metres."""
        ...

    def embed_motions(self, motion: Tensor, lengths: Tensor) -> Tensor:
        """The evaluator's `[N, E]`."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """The evaluator's `[N, E]`."""
        ...

    def judged(self, texts: Sequence[str], motion: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor] | None:
        """Texts and motions as a second judge embeds them, `[N, W]` each, compared by cosine; None if there is none."""
        ...


def load(path: Path | str = WEIGHTS, say: Callable[[str], None] = lambda line: None) -> AnyWorld:
    """The world in a file (world.load) or in a folder (published.load, which says what it leaves out)."""
    folder = folder_of(path)
    return world.load(path) if folder is None else published.load(folder, say)


def name_of(path: Path | str) -> str:
    """What the motion of a world is called; in records, and where it was judged."""
    folder = folder_of(path)
    return world.name_of(path) if folder is None else published.name_of(folder)


def inputs(path: Path | str) -> dict[str, str | None]:
    """Digests of all that a world is made of."""
    folder = folder_of(path)
    return world.inputs(path) if folder is None else published.inputs(folder)


def digest(path: Path | str) -> str | None:
    """Of a world's file, or of all files that make one; None where there is none."""
    return identity.file(path) if folder_of(path) is None else identity.key(inputs(path))


def folder_of(path: Path | str) -> Path | None:
    """Of a world that is written `published:FOLDER`; None for one in a file."""
    return Path(str(path).removeprefix(PUBLISHED)) if is_published(str(path)) else None
