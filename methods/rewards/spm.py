"""The step-aware text-motion reward of EasyTune (its code calls it SPM): a dual encoder with a timestep token.

Motion and text are encoded to Gaussians over one 256-wide latent; the reward is the cosine similarity of a sample of
each. Given a timestep, the motion encoder sees one more token, so that a noisy motion can be scored. State-dict names
are the published ones.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods import transformer
from methods.entries import RewardEntry
from methods.errors import InputError
from methods.interface import Batch
from methods.transformer import (
    PUBLISHED,
    DecoderLayer,
    EncoderLayer,
    LearnedPositions,
    SkipTransformer,
    TimestepEmbedding,
    TransformerSize,
)

TEXT_TOKENS = 24
"""Token embeddings a prompt of an example batch (as in the reference figures)."""
MOST_FRAMES = 499
"""Of the 500 learned positions of the motion encoder the motion token takes one."""


@dataclass(frozen=True)
class SpmConfig:
    """Sizes of the reward; the defaults are the published HumanML3D model."""

    features: int = 263
    token_width: int = 1024
    """Width of the text encoder's token embeddings (sentence-t5-large)."""
    time_features: int = 512
    """Of the time embedding; 0: a reward without one, which scores clean motions alone."""
    transformer: TransformerSize = PUBLISHED


TINY = SpmConfig(features=11, token_width=10, time_features=8, transformer=transformer.TINY)
"""A few thousand parameters, for tests."""

Gaussian = tuple[Tensor, Tensor]
"""Mean and standard deviation, each `[B, width]`."""


class SpmError(InputError):
    """The reward cannot score what it was given; the message is one sentence that names it and the mend."""


class DualEncoder(nn.Module):
    """What the reward computes with its parts; a class that derives from it makes them, under these names."""

    global_motion_token: Tensor
    global_text_token: Tensor
    """`[1, width]` each: where the distributions are read."""
    query_motion_pos_encoder: LearnedPositions
    query_text_pos_encoder: LearnedPositions
    motion_encoder: SkipTransformer
    text_encoder: SkipTransformer
    dist_motion_layer: nn.Linear
    dist_text_layer: nn.Linear
    skel_embedding: nn.Linear
    text_embedding: nn.Linear
    time_embedding: TimestepEmbedding | None
    query_pos_decoder: LearnedPositions
    decoder: SkipTransformer
    final_layer: nn.Linear
    """The last three are for `decode` alone."""
    means = False
    """Whether motion and text are compared by the means of their distributions, not by a sample of each (as released):
    the same score every time."""

    @property
    def noise_aware(self) -> bool:
        """Whether a timestep can be given: whether there is a time embedding.

        Of the published checkpoints all have one, those too that were trained with mode M0T0, which leaves it as it was
        drawn: only their file's name says so.
        """
        return self.time_embedding is not None

    def encode_motion(self, motion: Tensor, frame_mask: Tensor, timestep: Tensor | None = None) -> Gaussian:
        """Posterior of features `[B, F, D]`; `timestep` `[B]` says how noisy they are (None: clean).

        SpmError for a timestep where the reward is not noise-aware.
        """
        token = self.global_motion_token
        frames = self.skel_embedding(motion).transpose(0, 1)
        encoded = self._encode(frames, frame_mask, timestep, token, self.query_motion_pos_encoder, self.motion_encoder)
        return gaussian(*self.dist_motion_layer(encoded).chunk(2, dim=-1))

    def encode_text(self, tokens: Tensor, token_mask: Tensor, timestep: Tensor | None = None) -> Gaussian:
        """Posterior of token embeddings `[B, N, token_width]`; `timestep` as in `encode_motion`."""
        words = self.text_embedding(tokens).transpose(0, 1)
        token = self.global_text_token
        encoded = self._encode(words, token_mask, timestep, token, self.query_text_pos_encoder, self.text_encoder)
        return gaussian(*self.dist_text_layer(encoded).chunk(2, dim=-1))

    def _encode(self, sequence, mask, timestep, token, positions, encoder) -> Tensor:
        """The encoder's output at the distribution token, over [token, (timestep,) sequence]."""
        prefix = [token[:, None].expand(-1, len(mask), -1)]
        if timestep is not None:
            if self.time_embedding is None:
                raise SpmError(
                    f"this {type(self).__name__} has no time embedding, so it cannot score a noisy motion: "
                    "give no timestep, or load a checkpoint that was trained with one"
                )
            prefix.append(self.time_embedding(timestep)[None])
        padding = ~F.pad(mask, (len(prefix), 0), value=True)
        return encoder(positions(torch.cat([*prefix, sequence])), padding, read=1)[0]

    def decode(self, latent: Tensor, frame_mask: Tensor) -> Tensor:
        """Features `[B, F, D]` of a latent `[B, width]`; padded frames are 0."""
        batch, frames = frame_mask.shape
        queries = self.query_pos_decoder(latent.new_zeros(frames, batch, latent.shape[-1]))
        motion = self.final_layer(self.decoder(queries, ~frame_mask, memory=latent[None])).transpose(0, 1)
        return motion.masked_fill_(~frame_mask[..., None], 0.0)

    def forward(
        self, motion: Tensor, batch: Batch, timestep: float | None = None, prompts: Tensor | None = None
    ) -> Tensor:
        """Cosine similarity `[B]` of a text and a motion sample, text drawn first (as released) where `prompts`, what
        encode_prompts gave, are not given."""
        times = None if timestep is None else torch.full((len(batch),), timestep, device=motion.device)
        text = self.encode_prompts(batch) if prompts is None else prompts
        return F.cosine_similarity(text, self._point(*self.encode_motion(motion, batch.frame_mask, times)), dim=-1)

    def encode_prompts(self, batch: Batch) -> Tensor:
        """The batch's texts, `[B, width]` each: a sample, or the mean."""
        return self._point(*self.encode_text(batch.tokens, batch.token_mask))

    def _point(self, mean: Tensor, std: Tensor) -> Tensor:
        return mean if self.means else sample(mean, std)

    def networks(self) -> dict[str, nn.Module]:
        return {"reward": self}


class Spm(DualEncoder):
    """The published networks: the dual encoder, and its decoder (used in pre-training only).

    The released module shares one LayerNorm between both encoders' ends by accident; here they are two, and a released
    checkpoint (which stores both, equal) loads unchanged.
    """

    def __init__(self, config: SpmConfig | None = None):
        super().__init__()
        self.config = config = config or SpmConfig()
        width = config.transformer.width
        self.global_motion_token = nn.Parameter(torch.randn(1, width))
        self.global_text_token = nn.Parameter(torch.randn(1, width))
        self.query_motion_pos_encoder = LearnedPositions(width)
        self.query_text_pos_encoder = LearnedPositions(width)
        self.query_pos_decoder = LearnedPositions(width)
        self.motion_encoder = SkipTransformer(EncoderLayer, config.transformer)
        self.text_encoder = SkipTransformer(EncoderLayer, config.transformer)
        self.decoder = SkipTransformer(DecoderLayer, config.transformer)
        self.dist_motion_layer = nn.Linear(width, 2 * width)
        self.dist_text_layer = nn.Linear(width, 2 * width)
        self.skel_embedding = nn.Linear(config.features, width)
        self.text_embedding = nn.Linear(config.token_width, width)
        self.final_layer = nn.Linear(width, config.features)
        # None is no entry of the state dict: a checkpoint without a time embedding says so by its keys.
        self.time_embedding = TimestepEmbedding(config.time_features, width) if config.time_features else None


def entry(config: SpmConfig, sentences: int) -> RewardEntry:
    """The reward of these sizes, for the registry; `sentences` as of RewardEntry."""
    return RewardEntry(
        build=lambda: Spm(config),
        tokens=(TEXT_TOKENS, config.token_width),
        features=config.features,
        most_frames=MOST_FRAMES,
        sentences=sentences,
        unused=("reward.decoder", "reward.query_pos_decoder", "reward.final_layer"),
    )


def sample(mean: Tensor, std: Tensor) -> Tensor:
    """One reparameterised draw."""
    return mean + std * torch.randn_like(mean)


def gaussian(mean: Tensor, logvar: Tensor) -> Gaussian:
    """Of what an encoder gives: mean and logarithm of the variance."""
    return mean, torch.exp(0.5 * logvar)
