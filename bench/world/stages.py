"""The stages of pre-training, in order; each changes only the networks that it trains."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from bench.motion import metrics
from bench.motion.skeleton import T2M
from bench.world import losses
from bench.world.check import pools
from bench.world.content import Captions
from bench.world.data import WorldData
from bench.world.model import LATENT, RAW, WINDOW, FrameDenoiser, WorldDenoiser, WorldVae, windows
from bench.world.training import Stage, train
from bench.world.world import World, frame_mask
from methods import checkpoint, generators
from methods.checkpoint import CheckpointError
from methods.rewards.spm import sample
from methods.transformer import set_attention_kernel, timestep_features

TEMPERATURE = 0.1
"""Of the reward's cosine in the contrast."""
ASCENT = 0.5
"""How far a state is moved at most for the reward's negatives, in lengths of unit noise, which real latents have."""
DROPPED = 0.1
"""The share of captions that the denoiser does not see, for guidance."""
VALIDATION = 256
"""Clips of the validation split behind a progress line's figure."""
TRAINING_CLIPS = 7988
"""Of the embedded world."""
COMPONENT_CLIPS = 4000
"""Clips behind the principal components."""
RAW_STEPS = 1500
"""Of a denoiser of frames, at the embedded world's size."""
LEAST_SCALE = 1e-3
"""Of a component's deviation, in the largest's: few clips, or clips alike, leave directions in which nothing moves."""


@dataclass(frozen=True)
class Plan:
    """Steps and batch sizes of the stages."""

    vae: int = 1500
    reward: int = 500
    evaluator: int = 400
    denoiser: int = 700
    batch: int = 64
    contrast_batch: int = 96

    @classmethod
    def of(cls, backbone: str) -> "Plan":
        """That of a kind of backbone: without a VAE there is more to learn for the denoiser."""
        return {LATENT: cls(), RAW: cls(vae=0, denoiser=RAW_STEPS, batch=32)}[backbone]

    def scaled(self, clips: int) -> "Plan":
        """For so many training clips: steps grow with their root, so that a quarter of the data is seen twice as often.

        Never below a quarter nor above twice of the embedded world's, whose steps these are.
        """
        share = min(max((clips / TRAINING_CLIPS) ** 0.5, 0.25), 2.0)
        steps = {name: round(share * getattr(self, name)) for name in ("vae", "reward", "evaluator", "denoiser")}
        return replace(self, **steps)


@dataclass(frozen=True)
class Texts:
    """The captions of the data as vectors, each distinct caption once."""

    sentences: Tensor
    words: Tensor
    mask: Tensor
    of_clip: Tensor
    """`[N, most captions of a clip]`: rows of the tensors above, as many as the clip has captions."""
    counts: Tensor
    """`[N]`: captions of each clip."""
    meaning: Tensor
    """`[N]`, equal for clips that mean the same."""

    @classmethod
    def of(cls, data: WorldData, captions: Captions) -> "Texts":
        rows: dict[str, int] = {}
        of_clip = pad_sequence(
            [torch.tensor([rows.setdefault(text, len(rows)) for text in texts]) for texts in data.texts],
            batch_first=True,
        )
        counts = torch.tensor([len(texts) for texts in data.texts])
        known: dict[str, int] = {}
        meaning = torch.tensor([known.setdefault(meaning, len(known)) for meaning in data.meanings])
        words, mask = captions.words(list(rows))
        return cls(captions.sentences(list(rows)), words, mask, of_clip, counts, meaning)

    def to(self, device: torch.device) -> "Texts":
        return Texts(**{name: value.to(device) for name, value in vars(self).items()})

    def draw(self, clips: Tensor) -> Tensor:
        """One random caption of each clip."""
        # A multiple of all their numbers, so that every caption of a clip is as likely as its others.
        drawn = torch.randint(math.lcm(*self.counts.unique().tolist()), (len(clips),), device=clips.device)
        return self.of_clip[clips, drawn % self.counts[clips]]

    def tokens(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Word vectors and mask of captions, trimmed to the longest."""
        mask = self.mask[rows]
        longest = int(mask.sum(dim=1).max())
        return self.words[rows, :longest], mask[:, :longest]

    def condition(self, rows: Tensor, lengths: Tensor) -> Tensor:
        """As World.batch gives the denoiser."""
        words, _ = self.tokens(rows)
        length = timestep_features(lengths, words.shape[-1])
        return torch.cat([self.sentences[rows][:, None], length[:, None], words], dim=1)


@dataclass
class Training:
    """What the stages share; world, data and texts are on one device."""

    world: World
    data: WorldData
    texts: Texts
    folder: Path
    plan: Plan
    seed: int
    say: Callable[[str], None]
    _mean: Tensor = field(init=False)
    _std: Tensor = field(init=False)
    """Normalised posteriors `[N, n, d]` of every clip, once the VAE is trained."""

    def run(self) -> dict[str, float]:
        """All stages; the seconds that each took."""
        seconds = {}
        for number, stage in enumerate((self.vae, self.reward, self.evaluator, self.denoiser)):
            if stage != self.vae or self.world.config.backbone == LATENT:
                seconds[stage.__name__] = stage(self.seed + 1000 * number)
        return seconds

    def _states(self, clips: Tensor, frames: int) -> Tensor:
        """Clean states of clips, which are noised: latents `[B, n, d]`, drawn, or motions `[B, frames, 263]`."""
        if self.world.config.backbone == LATENT:
            return sample(self._mean[clips], self._std[clips])
        motion, _ = self.data.motions(clips)
        return F.pad(motion, (0, 0, 0, frames - motion.shape[1]))

    def _noise(self, count: int, frames: int) -> Tensor:
        """Unit noise in the shape of so many states."""
        shape = self._mean.shape[1:] if self.world.config.backbone == LATENT else (frames, T2M.width)
        return torch.randn(count, *shape, device=self.world.device)

    def vae(self, seed: int) -> float:
        network = self.world.backbone.vae
        assert isinstance(network, WorldVae)
        codes = self._components(network)
        train_clips, val = self.data.indices("train"), self.data.indices("val")[:VALIDATION]

        def loss() -> Tensor:
            chosen = _some(train_clips, self.plan.batch)
            return losses.vae(network, codes[chosen], self.data.lengths[chosen], self.data.statistics)

        def check() -> str:
            motion, lengths = self.data.motions(val)
            mask = frame_mask(lengths, motion.shape[1])
            again = network.decode(network.encode(motion, mask)[0], mask)
            return f"joint error {1000 * losses.joint_error(again, motion, mask, self.data.statistics):.1f} mm"

        spent = train(
            Stage("vae", network, network.parameters(), loss, check, self.plan.vae, lr=2e-3, seed=seed),
            self.folder,
            self.say,
        )
        with torch.no_grad():
            mean, std = (torch.cat(part) for part in zip(*map(network.encode_codes, codes.split(500)), strict=True))
        self._mean, self._std = _normalise(network, mean, std, train_clips)
        denoiser = self.world.backbone.own_denoiser
        assert isinstance(denoiser, WorldDenoiser)
        denoiser.fit(self._mean[train_clips], self._std[train_clips])
        return spent

    def _components(self, network: WorldVae) -> Tensor:
        """Sets the VAE's principal components; codes `[N, n, components]` of every clip. Kept in a file."""
        path = self.folder / "components.safetensors"
        if not path.is_file():
            torch.manual_seed(self.seed)
            every = torch.arange(len(self.data.splits), device=self.world.device).split(250)
            seen = []
            for clips in self.data.indices("train")[:COMPONENT_CLIPS].split(250):
                cut = self._windows(clips)
                begins = torch.arange(cut.shape[1], device=cut.device) * WINDOW
                seen.append(cut[begins < self.data.lengths[clips][:, None]])
            rows = torch.cat(seen)
            _, size, basis = torch.pca_lowrank(rows, q=network.size.components, niter=2)
            components = {
                "basis": basis.T.contiguous(),
                "centre": rows.mean(dim=0),
                "scale": size.clamp(min=LEAST_SCALE * size[0]) / len(rows) ** 0.5,
            }
            coded = [(self._windows(clips) - components["centre"]) @ basis / components["scale"] for clips in every]
            checkpoint.save_tensors({**components, "codes": torch.cat(coded)}, path, "components")
        tensors = checkpoint.read_tensors(path)[0]
        try:
            for name in ("basis", "centre", "scale"):
                getattr(network, name).copy_(tensors[name])
            return tensors["codes"].to(self.world.device)
        except (KeyError, RuntimeError):
            raise CheckpointError(f"{path} holds no principal components: remove it, and they are made again") from None

    def _windows(self, clips: Tensor) -> Tensor:
        motion, lengths = self.data.motions(clips)
        return windows(motion, frame_mask(lengths, motion.shape[1]), self.world.config.vae.tokens)

    def reward(self, seed: int) -> float:
        """A dual encoder that must name the right motion for a text, and is shown what an optimiser would try on it."""
        network, vae = self.world.reward, self.world.backbone.vae
        signal = self.world.backbone.own_denoiser.signal
        set_attention_kernel(network, "fused")
        draw = _OfOneLength(self.data)
        device = self.world.device

        def shares(count: int) -> Tensor:
            """Uniform between 0 and 1, one a motion or latent."""
            return torch.rand(count, 1, 1, device=device)

        def embed(motion: Tensor, mask: Tensor, timestep: Tensor | None = None) -> Tensor:
            return F.normalize(sample(*network.encode_motion(motion, mask, timestep)), dim=-1)

        def junk(clips: Tensor, text: Tensor, mask: Tensor) -> Tensor:
            """Embeddings of nobody's motions, as an optimiser would find them: between a clip and noise, some of them
            too large, then moved in the latent to where the reward of a text rises fastest."""
            count = len(clips) // 3
            text, mask = text[:count], mask[:count]
            share = 0.7 * shares(count)
            noise = self._noise(count, mask.shape[1])
            others = clips[torch.randperm(len(clips), device=device)[:count]]
            mixed = share * self._states(others, mask.shape[1]) + (1 - share**2).sqrt() * noise
            state = ((1 + 0.5 * shares(count)) * mixed).requires_grad_()
            rewards = (embed(vae.decode(state, mask), mask) * text).sum()
            (gradient,) = torch.autograd.grad(rewards, state)
            norm = gradient.flatten(1).norm(dim=1)[:, None, None].clamp(min=1e-8)
            reach = ASCENT * state[0].numel() ** 0.5
            with torch.no_grad():
                moved = vae.decode(state + reach * shares(count) * gradient / norm, mask)
            return embed(moved, mask)

        def loss() -> Tensor:
            clips = draw(self.plan.contrast_batch)
            lengths = self.data.lengths[clips]
            mask = frame_mask(lengths, int(lengths.max()))
            timestep = None
            kind = torch.rand(()).item()
            with torch.no_grad():
                if kind < 0.35:
                    motion = self.data.motions(clips)[0]
                    motion = motion + 0.2 * shares(len(motion)) * torch.randn_like(motion)
                elif kind < 0.7:
                    state = self._states(clips, mask.shape[1])
                    motion = vae.decode(state + 0.5 * shares(len(state)) * torch.randn_like(state), mask)
                else:
                    timestep = torch.randint(len(signal), (len(clips),), device=device)
                    motion = vae.decode(losses.noised(signal, self._states(clips, mask.shape[1]), timestep)[0], mask)
            rows = self.texts.draw(clips)
            text = F.normalize(sample(*network.encode_text(*self.texts.tokens(rows))), dim=-1)
            moved = embed(motion, mask, timestep)
            others = None
            if timestep is None:
                others = text @ junk(clips, text.detach(), mask).T / TEMPERATURE
            return losses.contrast(text @ moved.T / TEMPERATURE, self.texts.meaning[clips], others)

        val = self.data.indices("val")[:VALIDATION]

        def check() -> str:
            motion, lengths = self.data.motions(val)
            rows = self.texts.of_clip[val, 0]
            text = F.normalize(network.encode_text(*self.texts.tokens(rows))[0], dim=-1)
            moved = F.normalize(network.encode_motion(motion, frame_mask(lengths, motion.shape[1]))[0], dim=-1)
            return _precision(text, moved, self.texts.meaning[val])

        return train(
            Stage("reward", network, network.parameters(), loss, check, self.plan.reward, seed=seed),
            self.folder,
            self.say,
        )

    def evaluator(self, seed: int) -> float:
        """Distances of texts and motions, learned from real motions alone."""
        network = self.world.evaluator
        draw = _OfOneLength(self.data)

        def embed(clips: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            words, mask = self.texts.tokens(rows)
            texts = network.embed_texts(words, words.new_zeros(*mask.shape, 1), mask.sum(dim=1))
            return texts, self.world.embed_motions(*self.data.motions(clips))

        def loss() -> Tensor:
            clips = draw(self.plan.contrast_batch)
            texts, motions = embed(clips, self.texts.draw(clips))
            return losses.contrast(-torch.cdist(texts, motions), self.texts.meaning[clips])

        val = self.data.indices("val")[:VALIDATION]

        def check() -> str:
            return _precision(*embed(val, self.texts.of_clip[val, 0]), self.texts.meaning[val])

        return train(
            Stage("evaluator", network, network.parameters(), loss, check, self.plan.evaluator, seed=seed),
            self.folder,
            self.say,
        )

    def denoiser(self, seed: int) -> float:
        network = self.world.backbone.own_denoiser
        set_attention_kernel(network, "fused")
        clips_of = {split: self.data.indices(split) for split in ("train", "val")}
        draw: Callable[[int], Tensor] = partial(_some, clips_of["train"])
        trivial = "the linear predictor"
        if isinstance(network, FrameDenoiser):
            draw, trivial = _OfOneLength(self.data), "the mean clip"

        def of(clips: Tensor) -> Tensor:
            rows, lengths = self.texts.draw(clips), self.data.lengths[clips]
            text = self.texts.condition(rows, lengths)
            text = text * (torch.rand(len(clips), 1, 1, device=clips.device) >= DROPPED)
            frames = int(lengths.max())
            states = self._states(clips, frames)
            if isinstance(network, FrameDenoiser):
                return losses.frames(network, states, text, frame_mask(lengths, frames))
            return losses.denoiser(network, states, text)

        def check() -> str:
            with generators.forked(self.world.device):
                torch.manual_seed(0)
                return f"val error {of(clips_of['val'][:VALIDATION]):.4f} of {trivial}'s"

        return train(
            Stage(
                "denoiser",
                network,
                network.parameters(),
                lambda: of(draw(self.plan.batch)),
                check,
                self.plan.denoiser,
                seed=seed,
            ),
            self.folder,
            self.say,
        )


class _OfOneLength:
    """Draws batches of training clips of about one length: little padding, and length alone tells nothing apart."""

    def __init__(self, data: WorldData):
        clips = data.indices("train")
        self.sorted = clips[data.lengths[clips].argsort(stable=True)]

    def __call__(self, count: int) -> Tensor:
        reach = min(4 * count, len(self.sorted))
        start = (torch.randint(len(self.sorted), ()) - reach // 2).clamp(0, len(self.sorted) - reach)
        return self.sorted[start.to(self.sorted.device) + torch.randperm(reach, device=self.sorted.device)[:count]]


def _some(clips: Tensor, count: int) -> Tensor:
    return clips[torch.randint(len(clips), (count,), device=clips.device)]


def _normalise(network: WorldVae, mean: Tensor, std: Tensor, train_clips: Tensor) -> tuple[Tensor, Tensor]:
    """Sets the VAE's latent statistics from the posteriors of the training clips; the normalised posteriors of all."""
    centre = mean[train_clips].mean(dim=0)
    spread = (mean[train_clips].var(dim=0) + std[train_clips].square().mean(dim=0)).sqrt()
    network.latent_mean.copy_(centre)
    network.latent_std.copy_(spread)
    return (mean - centre) / spread, std / spread


def _precision(texts: Tensor, motions: Tensor, meanings: Tensor) -> str:
    shares = metrics.r_precision(texts, motions, pools(len(texts)), meanings.tolist())
    return "R-precision " + " ".join(f"{value:.3f}" for value in shares)
