"""A world of published models and data: what bench.world.manifest finds in a folder, as AnyWorld."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from bench import identity
from bench.cases import PUBLISHED
from bench.motion.clip import MAX_FRAMES, DataError, check_split, crop
from bench.motion.encoders import TextTable
from bench.motion.evaluator import Evaluator
from bench.motion.glove import Vocabulary
from bench.motion.representation import joints_from_features
from bench.motion.skeleton import KIT, T2M
from bench.world.content import cut, cut_length
from bench.world.data import Statistics
from bench.world.manifest import MANIFEST, Folder, captions
from bench.world.world import Prompts, frame_mask
from methods.interface import Backbone, Batch, Reward
from methods.rewards.tmr import Tmr
from methods.samplers import Sampler

CHUNK = 256
"""Motions that the evaluator and the judge embed at once: a test split has thousands."""


@dataclass
class PublishedWorld:
    """See AnyWorld. Null text is the encoder's vector of the empty caption, as MLD was trained."""

    folder: Folder
    backbone: Backbone
    reward: Reward
    evaluator: Evaluator
    judge: Tmr | None
    vocabulary: Vocabulary
    statistics: Statistics
    evaluator_statistics: Statistics
    sentences: TextTable
    """What the backbone reads."""
    tokens: TextTable
    """What the reward reads."""
    judges_tokens: TextTable | None

    def networks(self) -> dict[str, nn.Module]:
        judge = {"judge": self.judge} if self.judge else {}
        return {**self.backbone.networks(), **self.reward.networks(), "evaluator": self.evaluator, **judge}

    longest = MAX_FRAMES

    @property
    def training_prompts(self) -> int:
        """All, as published."""
        return self.size("train")

    @property
    def device(self) -> torch.device:
        return self.statistics.mean.device

    def to(self, device: torch.device) -> "PublishedWorld":
        """The same world, moved there; tables of text stay on the CPU."""
        for network in self.networks().values():
            network.to(device)
        self.statistics, self.evaluator_statistics = (
            Statistics(of.mean.to(device), of.std.to(device)) for of in (self.statistics, self.evaluator_statistics)
        )
        return self

    def batch(self, texts: Sequence[str], lengths: Tensor | Sequence[int]) -> Batch:
        """As AnyWorld; DataError for a text that is no caption of the data set."""
        lengths = torch.as_tensor(lengths)
        tokens, mask = self.tokens.tokens(texts)
        return Batch(
            text=self.sentences.encode(texts)[:, None],
            null_text=self.sentences.encode([""])[:, None],
            tokens=tokens,
            token_mask=mask,
            frame_mask=frame_mask(lengths, int(lengths.max())),
        ).to(self.device)

    def sampler(self, steps: int = 50) -> Sampler:
        """As AnyWorld; the backbone is told the number of steps where it asks for it."""
        if hasattr(self.backbone, "denoising_steps"):
            self.backbone.denoising_steps = steps
        return self.folder.entry.sampler(steps)

    def size(self, split: str) -> int:
        check_split(split)
        return len(self.folder.splits[split])

    def prompts(self, split: str, count: int = 512) -> Prompts:
        """As AnyWorld. No two prompts mean the same, even in the same words: only the own motion is right, as the field
        counts."""
        check_split(split)
        entries = self.folder.splits[split].entries[:count]
        return Prompts(
            tuple(entry.captions[0].text for entry in entries),
            tuple(entry.id for entry in entries),
            torch.tensor([cut_length(entry.frames) for entry in entries]),
        )

    def real(self, split: str, count: int, seed: int) -> tuple[Tensor, Prompts]:
        """As AnyWorld; cropped at random and under a random caption each, as the published loaders do."""
        check_split(split)
        clips, rng = self.folder.splits[split], np.random.default_rng(seed)
        chosen = [crop(clips[int(number)], rng) for number in rng.permutation(len(clips))[:count]]
        captions = [clip.captions[rng.integers(len(clip.captions))] for clip in chosen]
        motions = [self.statistics.normalise(torch.from_numpy(clip.motion).to(self.device)) for clip in chosen]
        return pad_sequence(motions, batch_first=True), Prompts(
            tuple(caption.text for caption in captions),
            tuple(clip.id for clip in chosen),
            torch.tensor([clip.frames for clip in chosen]),
        )

    def real_features(self, split: str, index: int) -> NDArray[np.float32]:
        return cut(self.folder.splits[split][index].motion)

    def joints(self, motion: Tensor) -> NDArray[np.float32]:
        features = self.statistics.restore(motion.detach()).cpu().numpy()
        return joints_from_features(features, T2M if features.shape[-1] == T2M.width else KIT).astype(np.float32)

    def embed_motions(self, motion: Tensor, lengths: Tensor) -> Tensor:
        """As AnyWorld; the evaluator sees past a motion's end: zeros there, and one length for every batch."""
        return torch.cat([self._embed(*of) for of in zip(motion.split(CHUNK), lengths.split(CHUNK), strict=True)])

    def _embed(self, motion: Tensor, lengths: Tensor) -> Tensor:
        motion = self.evaluator_statistics.normalise(self.statistics.restore(motion))
        motion = motion * frame_mask(lengths, motion.shape[1]).to(self.device)[..., None]
        return self.evaluator.embed_motions(F.pad(motion, (0, 0, 0, MAX_FRAMES - motion.shape[1])), lengths)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        words, tags, lengths = self.vocabulary.read([self._words[text] for text in texts])
        return self.evaluator.embed_texts(words.to(self.device), tags.to(self.device), lengths)

    @cached_property
    def _words(self) -> dict[str, tuple[str, ...]]:
        """Of each caption its `word/POS`."""
        return {caption.text: caption.tokens for clips in self.folder.splits.values() for caption in captions(clips)}

    def judged(self, texts: Sequence[str], motion: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor] | None:
        if self.judge is None or self.judges_tokens is None:
            return None
        tokens, mask = (part.to(self.device).split(CHUNK) for part in self.judges_tokens.tokens(texts))
        frames = frame_mask(lengths, motion.shape[1]).to(self.device).split(CHUNK)
        of_texts = [self.judge.encode_text(*of)[0] for of in zip(tokens, mask, strict=True)]
        of_motions = [self.judge.encode_motion(*of)[0] for of in zip(motion.split(CHUNK), frames, strict=True)]
        return torch.cat(of_texts), torch.cat(of_motions)


def load(path: Path | str, say: Callable[[str], None] = lambda line: None) -> PublishedWorld:
    """The world of a folder: in eval mode, all but the denoiser frozen. `say` is told how many clips there are
    and were left out, and when captions are encoded, which is done once.

    DataError or CheckpointError, one sentence, for a manifest of no use, a file that is absent, a checkpoint of another
    model, a text encoder of other widths, a vocabulary that builds objects, or a split without usable clips.
    """
    folder = Folder(path)
    for part in folder.parts():
        if part.missing:
            raise DataError(f"there is no {part.missing[0]}, the {part.name} of {MANIFEST}: fetch it ({part.source})")
    for note in folder.notes():
        say(f"data: {note}")
    made = PublishedWorld(
        folder,
        folder.backbone,
        folder.reward,
        folder.evaluator,
        folder.judge,
        folder.vocabulary,
        folder.statistics,
        folder.evaluator_statistics,
        folder.text("backbone", say),
        folder.text("reward", say),
        folder.text("judge", say) if folder.judge else None,
    )
    for network in made.networks().values():
        network.eval().requires_grad_(False)
    made.backbone.denoiser.requires_grad_(True)
    return made


def name_of(path: Path | str) -> str:
    """What a world is called: by its data set's folder, and the backbone; "unknown" where there is no manifest of use,
    which `load` refuses."""
    try:
        manifest = Folder(path).manifest
    except DataError:
        return "unknown"
    return f"{PUBLISHED}{Path(manifest.data).name}-{manifest.backbone.name}"


def inputs(path: Path | str) -> dict[str, str | None]:
    """Digests of the manifest and of every file that it names; of a folder the names, sizes and times of its files."""
    try:
        folder = Folder(path)
    except DataError:
        return {"world": None}
    files = {MANIFEST: folder.path / MANIFEST} | {str(path): path for part in folder.parts() for path in part.paths}
    return {name: identity.folder(file) if file.is_dir() else identity.file(file) for name, file in files.items()}
