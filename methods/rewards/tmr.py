"""TMR (Petrovich et al., ICCV 2023), text-to-motion retrieval: a reward that shares no weight with EasyTune's, and a
judge.

Two transformer encoders map motion and text to Gaussians over one 256-wide latent; the score compares their means, so
that it is the same every time. State-dict names are the published ones. Motions are features normalised by TMR's own
mean and standard deviation, texts the token embeddings of distilbert-base-uncased.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods import transformer
from methods.entries import RewardEntry
from methods.errors import InputError
from methods.interface import Batch
from methods.rewards.spm import Gaussian, gaussian
from methods.transformer import PUBLISHED, DecoderLayer, EncoderLayer, Layers, TransformerSize, sinusoids

TEXT_TOKENS = 24
"""Token embeddings a prompt of an example batch, as the other reward's."""
MOST_FRAMES = 4998
"""Of the 5000 positions that the published table holds the two distribution tokens take two."""
SENTENCES = 768
"""Width of the sentence embeddings (all-mpnet-base-v2) by which its training tells equal captions."""

SIX_LAYERS = replace(PUBLISHED, layers=6)


@dataclass(frozen=True)
class TmrConfig:
    """Sizes of TMR; the defaults are the published HumanML3D model."""

    features: int = 263
    token_width: int = 768
    """Width of the text encoder's token embeddings (distilbert-base-uncased)."""
    transformer: TransformerSize = SIX_LAYERS


TINY = TmrConfig(features=11, token_width=10, transformer=replace(transformer.TINY, layers=2))
"""A few thousand parameters, for tests."""


class ActorEncoder(nn.Module):
    """A sequence `[B, S, features]` to its Gaussian, read at two learned tokens before it (ACTOR, Petrovich 2021)."""

    def __init__(self, features: int, size: TransformerSize):
        super().__init__()
        self.tokens = nn.Parameter(torch.randn(2, size.width))
        self.projection = nn.Linear(features, size.width)
        self.dropout = nn.Dropout(size.dropout)
        self.seqTransEncoder = Layers(EncoderLayer, size)

    def forward(self, sequence: Tensor, mask: Tensor) -> Gaussian:
        """`mask` `[B, S]`, true where valid."""
        tokens = self.tokens[:, None].expand(-1, len(sequence), -1)
        x = torch.cat([tokens, self.projection(sequence).transpose(0, 1)])
        padding = ~F.pad(mask, (len(tokens), 0), value=True)
        return gaussian(
            *self.seqTransEncoder(self.dropout(x + sinusoids(len(x), x.shape[-1], x.device)), padding)[: len(tokens)]
        )


class ActorDecoder(nn.Module):
    """A latent `[B, width]` to a motion; for training alone."""

    def __init__(self, features: int, size: TransformerSize):
        super().__init__()
        self.dropout = nn.Dropout(size.dropout)
        self.seqTransDecoder = Layers(DecoderLayer, size)
        self.final_layer = nn.Linear(size.width, features)

    def forward(self, latent: Tensor, mask: Tensor) -> Tensor:
        """Features `[B, F, D]`; padded frames, where `mask` `[B, F]` is false, are 0."""
        queries = latent.new_zeros(mask.shape[1], *latent.shape)
        queries = self.dropout(queries + sinusoids(len(queries), latent.shape[1], latent.device))
        decoded = self.seqTransDecoder(queries, ~mask, memory=latent[None])
        return self.final_layer(decoded).transpose(0, 1).masked_fill_(~mask[..., None], 0.0)


class Tmr(nn.Module):
    """The published networks; as methods.interface.Reward, and as rewards.training.Trainable."""

    def __init__(self, config: TmrConfig | None = None):
        super().__init__()
        self.config = config = config or TmrConfig()
        self.motion_encoder = ActorEncoder(config.features, config.transformer)
        self.text_encoder = ActorEncoder(config.token_width, config.transformer)
        self.motion_decoder = ActorDecoder(config.features, config.transformer)

    def encode_motion(self, motion: Tensor, frame_mask: Tensor, timestep: Tensor | None = None) -> Gaussian:
        """Posterior of features `[B, F, D]`; InputError for a timestep: TMR knows clean motions alone."""
        _refuse(timestep)
        return self.motion_encoder(motion, frame_mask)

    def encode_text(self, tokens: Tensor, token_mask: Tensor, timestep: Tensor | None = None) -> Gaussian:
        """Posterior of token embeddings `[B, N, token_width]`; `timestep` as in `encode_motion`."""
        _refuse(timestep)
        return self.text_encoder(tokens, token_mask)

    def decode(self, latent: Tensor, frame_mask: Tensor) -> Tensor:
        """Features `[B, F, D]` of a latent `[B, width]`; padded frames are 0."""
        return self.motion_decoder(latent, frame_mask)

    def forward(
        self, motion: Tensor, batch: Batch, timestep: int | None = None, prompts: Tensor | None = None
    ) -> Tensor:
        """The published score `[B]`, from 0 to 1: half the cosine similarity of both means, plus a half.

        `prompts`: what encode_prompts gave, to save doing so again. InputError for a timestep.
        """
        _refuse(timestep)
        text = self.encode_prompts(batch) if prompts is None else prompts
        return F.cosine_similarity(text, self.motion_encoder(motion, batch.frame_mask)[0], dim=-1) / 2 + 0.5

    def encode_prompts(self, batch: Batch) -> Tensor:
        """The means of the batch's texts, `[B, width]`."""
        return self.text_encoder(batch.tokens, batch.token_mask)[0]

    @torch.no_grad()
    def read_normalised_by(self, mean: Tensor, std: Tensor, own_mean: Tensor, own_std: Tensor) -> None:
        """From now on motions come normalised by `mean` and `std` `[D]`, not by those that it was trained with.

        The change of units is folded into the first layer, so that it costs neither memory nor time; what is decoded
        stays in TMR's own.
        """
        projection = self.motion_encoder.projection
        projection.bias.add_(projection.weight @ ((mean - own_mean) / own_std))
        projection.weight.mul_(std / own_std)

    def networks(self) -> dict[str, nn.Module]:
        return {"reward": self}


def entry(config: TmrConfig) -> RewardEntry:
    """TMR of these sizes, for the registry."""
    return RewardEntry(
        build=lambda: Tmr(config),
        tokens=(TEXT_TOKENS, config.token_width),
        features=config.features,
        most_frames=MOST_FRAMES,
        sentences=SENTENCES,
        unused=("reward.motion_decoder",),
    )


def _refuse(timestep: Tensor | int | None) -> None:
    if timestep is not None:
        raise InputError(
            "TMR scores clean motions alone, and was given a timestep: score the one-step prediction (score=x0-hat), "
            "or choose a noise-aware reward"
        )
