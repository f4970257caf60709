"""What the reward is trained on, as one call: a batch to a loss. Optimiser, data and loop are the caller's."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from methods.errors import InputError
from methods.interface import Reward
from methods.rewards.losses import (
    CAPTION_THRESHOLD,
    RELEASED,
    TEMPERATURE,
    Decoding,
    Encoding,
    LossWeights,
    cosines,
    equal_captions,
    pretraining,
)
from methods.rewards.noise import NoiseConfig, Noised, noise
from methods.rewards.preference import SplConfig, preference
from methods.rewards.spm import Gaussian, sample
from methods.rollout import Phases, unobserved


class Trainable(Reward, Protocol):
    """A reward that RewardObjective trains: a dual encoder, as rewards.spm.Spm is."""

    def encode_motion(self, motion: Tensor, frame_mask: Tensor, timestep: Tensor | None = None) -> Gaussian:
        """Of features `[N, F, D]`; `timestep` `[N]` says how noisy they are."""
        ...

    def encode_text(self, tokens: Tensor, token_mask: Tensor, timestep: Tensor | None = None) -> Gaussian:
        """Of token embeddings `[B, S, E]`."""
        ...

    def decode(self, latent: Tensor, frame_mask: Tensor) -> Tensor:
        """Features `[B, F, D]`; asked for only where the reward has a `decoder`."""
        ...


@dataclass(frozen=True)
class RewardBatch:
    """`B` texts with their motions, and any further motions of a pool after these: `N` in all, of at most `F` frames.

    InputError for fewer motions than texts, or for parts of other lengths.
    """

    motion: Tensor
    """Clean features `[N, F, D]`; motion i belongs to text i."""
    frame_mask: Tensor
    """`[N, F]` bool, true where a frame is valid."""
    tokens: Tensor
    """Token embeddings of the texts, `[B, S, E]`."""
    token_mask: Tensor
    """`[B, S]` bool, true where a token is valid."""
    sentences: Tensor | None = None
    """Sentence embeddings of all motions' captions, `[N, W]`, of any length; None: ids alone tell equal captions."""
    caption_ids: Tensor | None = None
    """`[N]` integers, equal for equal captions; None: sentences alone tell them."""
    noisy: Noised | None = None
    """What the encoders get in place of the motion, `[N, F, D]`, with its timesteps: for noise that is not added to
    features, such as that of a backbone's latents. None: the objective noises, or does not."""

    def __post_init__(self) -> None:
        motions, texts = len(self.motion), len(self.tokens)
        if not 1 <= texts <= motions:
            raise InputError(
                f"a batch of {texts} texts has {motions} motions: give one text or more, and each its motion"
            )
        for name, size in (
            ("frame_mask", motions),
            ("token_mask", texts),
            ("sentences", motions),
            ("caption_ids", motions),
        ):
            part = getattr(self, name)
            if part is not None and len(part) != size:
                raise InputError(f"batch.{name} has {len(part)} rows, not {size}: give one for each")
        if self.noisy and self.noisy.values.shape != self.motion.shape:
            raise InputError(
                f"batch.noisy is {list(self.noisy.values.shape)}, the motion {list(self.motion.shape)}: make both alike"
            )

    def equal(self, threshold: float) -> Tensor:
        """Which captions say the same, `[N, N]` bool: close as sentences, or of one id."""
        size = len(self.motion)
        equal = torch.eye(size, dtype=torch.bool, device=self.motion.device)
        if self.sentences is not None:
            equal = equal | equal_captions(self.sentences, threshold)
        if self.caption_ids is not None:
            equal = equal | (self.caption_ids[:, None] == self.caption_ids)
        return equal


@dataclass(frozen=True)
class RewardObjective:
    """The loss of the reward: pre-training alone, with SPL (EasyTune's fine-tuning of it), with noisy motions."""

    weights: LossWeights = RELEASED
    temperature: float = TEMPERATURE
    """Of the contrast; SPL has its own."""
    caption_threshold: float = CAPTION_THRESHOLD
    spl: SplConfig | None = None
    noise: NoiseConfig | None = None

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise InputError(f"temperature must be above 0, not {self.temperature}")
        if not 0 <= self.caption_threshold <= 1:
            raise InputError(f"caption_threshold must be between 0 and 1, not {self.caption_threshold}")

    def __call__(
        self, reward: Trainable, batch: RewardBatch, phases: Phases = unobserved
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and its parts by name (as in losses.pretraining, and spl, mined, skipped); all scalars.

        A reward without decoder (the embedded world's) has no reconstruction, and neither is one made where its weight
        is 0; it is of the clean motion, also from a noisy one. A pool's further motions count in SPL alone.
        Draws from torch's global generator: the noise (noise.noise), then dropout of the texts and their samples, then
        those of the motions, then dropout of the decoder, texts first. `phases` is told of encoders and losses as
        "reward", and of the decoder as "decode".
        SpmError for a time token where the reward has no time embedding; InputError for a pool without SPL, for a
        batch that is noisy already where there is noise here too, and as preference.mine.
        """
        texts, motions = len(batch.tokens), len(batch.motion)
        if self.spl is None and motions > texts:
            raise InputError(
                f"the batch has {motions} motions for {texts} texts, and no SPL to use the others: "
                "give each motion its text, or set spl"
            )
        if self.noise and batch.noisy:
            raise InputError("the batch is noisy already: leave noise out of the objective, or noisy out of the batch")
        given = noise(batch.motion, self.noise) if self.noise else batch.noisy or Noised(batch.motion, None, None)
        text_timestep = None if given.text_timestep is None else given.text_timestep[:texts]
        with phases("reward"):
            text = _drawn(*reward.encode_text(batch.tokens, batch.token_mask, text_timestep))
            pool = _drawn(*reward.encode_motion(given.values, batch.frame_mask, given.motion_timestep))
        motion = Encoding(*(part[:texts] for part in pool))
        with phases("decode"):
            decoding = self._decoding(reward, batch, text.latent, motion.latent)
        with phases("reward"):
            equal = batch.equal(self.caption_threshold)[:texts]
            total, parts = pretraining(text, motion, decoding, equal[:, :texts], self.weights, self.temperature)
            if self.spl is not None:
                preferred = preference(cosines(text.latent, pool.latent), self.spl, equal)
                total = total + self.spl.weight * preferred.loss
                parts |= {"spl": preferred.loss.detach(), "mined": preferred.mined, "skipped": preferred.skipped}
        return total, parts

    def _decoding(self, reward: Trainable, batch: RewardBatch, text: Tensor, motion: Tensor) -> Decoding | None:
        if not hasattr(reward, "decoder") or not self.weights.reconstruction:
            return None
        mask = batch.frame_mask[: len(text)]
        clean = batch.motion[: len(text)].masked_fill(~mask[..., None], 0.0)
        return Decoding(reward.decode(text, mask), reward.decode(motion, mask), clean)


def _drawn(mean: Tensor, std: Tensor) -> Encoding:
    return Encoding(mean, std, sample(mean, std))
