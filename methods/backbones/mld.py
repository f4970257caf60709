"""MLD, motion latent diffusion (Chen et al., CVPR 2023), in the MotionLCM-v1 layout that EasyTune fine-tunes.

A VAE maps a motion to one latent token `[1, 256]`; a transformer denoises that token given a sentence embedding and the
timestep. State-dict names are the published ones (`vae.*`, `denoiser.*`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods import transformer
from methods.entries import BackboneEntry
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

MOST_FRAMES = 500
"""Learned positions of the VAE's decoder, one a frame."""


@dataclass(frozen=True)
class MldConfig:
    """Sizes of MLD; the defaults are the published HumanML3D model."""

    features: int = 263
    """Motion features a frame: 263 for HumanML3D, 251 for KIT-ML."""
    tokens: int = 1
    """Latent tokens a motion; each is as wide as the transformer."""
    text_width: int = 768
    """Width of the sentence embedding; also of the sinusoidal timestep features."""
    transformer: TransformerSize = PUBLISHED
    guidance: float = 7.5
    """Guidance scale: ε = ε_null + guidance · (ε_text - ε_null)."""


TINY = MldConfig(features=11, text_width=12, transformer=transformer.TINY)
"""A few thousand parameters, for tests."""


class MldDenoiser(nn.Module):
    """Predicts the noise in a latent: one transformer over [latents, timestep, text]."""

    def __init__(self, config: MldConfig):
        super().__init__()
        width = config.transformer.width
        self.time_embedding = TimestepEmbedding(config.text_width, width)
        self.emb_proj = nn.Sequential(nn.ReLU(), nn.Linear(config.text_width, width))
        self.query_pos = LearnedPositions(width)
        self.encoder = SkipTransformer(EncoderLayer, config.transformer)

    def forward(self, sample: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        """`sample` `[B, n, d]`, `timestep` `[B]` integers, `text` `[B, S, text_width]`; returns `[B, n, d]`."""
        latents = sample.transpose(0, 1)
        time = self.time_embedding(timestep)[None]
        sequence = torch.cat([latents, time, self.emb_proj(text.transpose(0, 1))])
        return self.encoder(self.query_pos(sequence))[: len(latents)].transpose(0, 1)


class MldVae(nn.Module):
    """The motion VAE: features `[B, F, D]` to latents `[B, n, d]` and back."""

    def __init__(self, config: MldConfig):
        super().__init__()
        width = config.transformer.width
        self.global_motion_token = nn.Parameter(torch.randn(2 * config.tokens, width))
        self.query_pos_encoder = LearnedPositions(width)
        self.encoder = SkipTransformer(EncoderLayer, config.transformer)
        self.query_pos_decoder = LearnedPositions(width)
        self.decoder = SkipTransformer(DecoderLayer, config.transformer)
        self.skel_embedding = nn.Linear(config.features, width)
        self.final_layer = nn.Linear(width, config.features)

    def encode(self, motion: Tensor, frame_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation `[B, n, d]` of the posterior; `frame_mask` `[B, F]`, true where valid."""
        frames = self.skel_embedding(motion).transpose(0, 1)
        tokens = self.global_motion_token[:, None].expand(-1, len(motion), -1)
        padding = ~F.pad(frame_mask, (len(tokens), 0), value=True)
        encoded = self.encoder(self.query_pos_encoder(torch.cat([tokens, frames])), padding)[: len(tokens)]
        mean, logvar = encoded.transpose(0, 1).chunk(2, dim=1)
        return mean, torch.exp(0.5 * logvar)

    def decode(self, latent: Tensor, frame_mask: Tensor) -> Tensor:
        """Features `[B, F, D]` of latents `[B, n, d]`; padded frames are 0."""
        batch, frames = frame_mask.shape
        queries = self.query_pos_decoder(latent.new_zeros(frames, batch, latent.shape[-1]))
        decoded = self.decoder(queries, ~frame_mask, memory=latent.transpose(0, 1))
        motion = self.final_layer(decoded).transpose(0, 1)
        return motion.masked_fill_(~frame_mask[..., None], 0.0)


class Mld(nn.Module):
    """MLD as a methods.interface.Backbone; `state_dict()` has the published names."""

    def __init__(
        self, config: MldConfig | None = None, vae: MldVae | None = None, denoiser: nn.Module | None = None
    ) -> None:
        """vae, denoiser: in place of the published ones."""
        super().__init__()
        self.config = config or MldConfig()
        self.vae = MldVae(self.config) if vae is None else vae
        self.denoiser: nn.Module = MldDenoiser(self.config) if denoiser is None else denoiser

    def predict(self, x: Tensor, timestep: float, batch: Batch) -> Tensor:
        """ε with classifier-free guidance, from one call on the doubled batch [text, null]."""
        text = torch.cat([batch.text, batch.null_text.expand_as(batch.text)])
        timesteps = torch.full((len(text),), timestep, device=x.device)
        with_text, without = self.denoiser(torch.cat([x, x]), timesteps, text).chunk(2)
        return without + self.config.guidance * (with_text - without)

    def decode(self, x0: Tensor, batch: Batch) -> Tensor:
        return self.vae.decode(x0, batch.frame_mask)

    def initial_state(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        shape = (len(batch), self.config.tokens, self.config.transformer.width)
        return torch.randn(shape, generator=generator, dtype=batch.text.dtype, device=batch.text.device)

    def networks(self) -> dict[str, nn.Module]:
        return {"denoiser": self.denoiser, "vae": self.vae}


def entry(config: MldConfig, reward: str) -> BackboneEntry:
    """MLD of these sizes, for the registry; `reward` names the one that it is fine-tuned with."""
    return BackboneEntry(
        build=lambda: Mld(config),
        text=(1, config.text_width),
        features=config.features,
        most_frames=MOST_FRAMES,
        frozen=("vae",),
        reward=reward,
        unused=("vae.encoder", "vae.query_pos_encoder", "vae.skel_embedding"),
    )
