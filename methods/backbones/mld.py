"""MLD, motion latent diffusion (Chen et al., CVPR 2023), in its three published layouts.

A VAE maps a motion to latent tokens; a transformer denoises these given a sentence embedding and the timestep.
State-dict names are the published ones (`vae.*`, `denoiser.*`). MLD's latent is one token `[1, 256]`: in MotionLCM-v1's
layout, which EasyTune fine-tunes, and in the authors' own. MLD++ (MotionLCM-v2's) has `[16, 32]`.
"""

from dataclasses import dataclass, replace

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
    """Sizes of MLD; the defaults are the HumanML3D model that EasyTune fine-tunes."""

    features: int = 263
    """Motion features a frame: 263 for HumanML3D, 251 for KIT-ML."""
    tokens: int = 1
    """Latent tokens a motion."""
    text_width: int = 768
    """Width of the sentence embedding; also of the sinusoidal timestep features."""
    transformer: TransformerSize = PUBLISHED
    guidance: float = 7.5
    """Guidance scale: ε = ε_null + guidance · (ε_text - ε_null)."""
    latent_width: int = 0
    """Width of a latent token, projected to the transformer's and back; 0: as wide as that, and not projected."""
    text_relu: bool = True
    """A ReLU before the text's projection."""
    guidance_features: int = 0
    """Width of the guidance scale's features, where the denoiser embeds it with the timestep (MotionLCM); 0: it knows
    of none."""
    memory_positions: bool = False
    """A table of positions in the denoiser, `mem_pos`, that is never read: the authors' own layout has one."""

    @property
    def latent(self) -> tuple[int, int]:
        """`(n, d)`: tokens a motion, and their width."""
        return self.tokens, self.latent_width or self.transformer.width


TINY = MldConfig(features=11, text_width=12, transformer=transformer.TINY)
"""A few thousand parameters, for tests; as the next two."""
ORIGINAL, ORIGINAL_TINY = (replace(config, memory_positions=True) for config in (MldConfig(), TINY))
"""The authors' own layout. Its text encoder is CLIP's ViT-L/14, of the same width as sentence-t5-large."""
PLUS = MldConfig(tokens=16, latent_width=32, text_relu=False)
"""MLD++."""
PLUS_TINY = replace(TINY, tokens=3, latent_width=4, text_relu=False)


class MldDenoiser(nn.Module):
    """Predicts the noise in a latent: one transformer over [latents, timestep, text]."""

    def __init__(self, config: MldConfig):
        super().__init__()
        width = config.transformer.width
        self.latent_pre, self.latent_post = projections(config.latent_width, width)
        self.time_embedding = TimestepEmbedding(config.text_width, width, config.guidance_features)
        text_activation = nn.ReLU() if config.text_relu else nn.Identity()
        self.emb_proj = nn.Sequential(text_activation, nn.Linear(config.text_width, width))
        self.query_pos = LearnedPositions(width)
        if config.memory_positions:
            self.mem_pos = LearnedPositions(width).requires_grad_(False)
        self.encoder = SkipTransformer(EncoderLayer, config.transformer)

    def forward(self, sample: Tensor, timestep: Tensor, text: Tensor, guidance: float | None = None) -> Tensor:
        """`sample` `[B, n, d]`, `timestep` `[B]` integers, `text` `[B, S, text_width]`; returns `[B, n, d]`.

        `guidance`: the scale to embed, where there are guidance_features.
        """
        latents = self.latent_pre(sample.transpose(0, 1))
        time = self.time_embedding(timestep, guidance)[None]
        sequence = torch.cat([latents, time, self.emb_proj(text.transpose(0, 1))])
        return self.latent_post(self.encoder(self.query_pos(sequence))[: len(latents)]).transpose(0, 1)


def projections(narrow: int, wide: int) -> tuple[nn.Module, nn.Module]:
    """From `narrow` to `wide` and back; nothing, where `narrow` is 0."""
    return (nn.Linear(narrow, wide), nn.Linear(wide, narrow)) if narrow else (nn.Identity(), nn.Identity())


class MldVae(nn.Module):
    """The motion VAE: features `[B, F, D]` to latents `[B, n, d]` and back."""

    def __init__(self, config: MldConfig):
        super().__init__()
        width = config.transformer.width
        self.global_motion_token = nn.Parameter(torch.randn(2 * config.tokens, width))
        self.latent_post, self.latent_pre = projections(config.latent_width, width)
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
        mean, logvar = self.latent_pre(encoded).transpose(0, 1).chunk(2, dim=1)
        return mean, torch.exp(0.5 * logvar)

    def decode(self, latent: Tensor, frame_mask: Tensor) -> Tensor:
        """Features `[B, F, D]` of latents `[B, n, d]`; padded frames are 0."""
        batch, frames = frame_mask.shape
        memory = self.latent_post(latent.transpose(0, 1))
        queries = self.query_pos_decoder(latent.new_zeros(frames, batch, memory.shape[-1]))
        decoded = self.decoder(queries, ~frame_mask, memory=memory)
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
        shape = (len(batch), *self.config.latent)
        return torch.randn(shape, generator=generator, dtype=batch.text.dtype, device=batch.text.device)

    def guide(self, scale: float) -> None:
        """Sets the guidance scale of the calls that follow."""
        self.config = replace(self.config, guidance=scale)

    def networks(self) -> dict[str, nn.Module]:
        return {"denoiser": self.denoiser, "vae": self.vae}


def entry(config: MldConfig, reward: str, label: str = "") -> BackboneEntry:
    """MLD of these sizes, for the registry; `reward` names the one that it is fine-tuned with. label: the entry's."""
    encoding = ("vae.encoder", "vae.query_pos_encoder", "vae.skel_embedding", "vae.latent_pre")
    return BackboneEntry(
        build=lambda: Mld(config),
        text=(1, config.text_width),
        features=config.features,
        most_frames=MOST_FRAMES,
        frozen=("vae",),
        reward=reward,
        label=label,
        unused=(*encoding, "denoiser.mem_pos") if config.memory_positions else encoding,
    )
