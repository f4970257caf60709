"""MDM, the human motion diffusion model (Tevet et al., ICLR 2023), in its `trans_enc` layout: a transformer over the
frames themselves, without a latent space.

The state is the motion, `[B, F, D]`, padded frames too. The model predicts x_0, and is sampled by DDPM's ancestral
sampler on the cosine schedule. State-dict names are the published ones, which have no prefix.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods import transformer
from methods.entries import BackboneEntry
from methods.interface import Batch
from methods.samplers import MDM_STEPS, Sampler, ddpm
from methods.transformer import EncoderLayer, Layers, TransformerSize, sinusoids

POSITIONS = 5000
"""Fixed positions, of which the text and time take one."""
PUBLISHED = TransformerSize(width=512, layers=8)


@dataclass(frozen=True)
class MdmConfig:
    """Sizes of MDM; the defaults are the published HumanML3D model."""

    features: int = 263
    """Motion features a frame: 263 for HumanML3D, 251 for KIT-ML."""
    text_width: int = 512
    """Width of the text embedding (CLIP ViT-B/32)."""
    transformer: TransformerSize = PUBLISHED
    guidance: float = 2.5
    """Guidance scale: x_0 = x_0 without text + guidance · (x_0 with it - x_0 without)."""
    mask_frames: bool = False
    """Whether padded frames are hidden from the others. In the published checkpoints they are not."""


TINY = MdmConfig(features=11, text_width=12, transformer=transformer.TINY)
"""A few thousand parameters, for tests."""


class Positions(nn.Module):
    """Adds fixed sinusoidal positions, sines and cosines in turn, to a sequence `[S, B, d]`."""

    pe: Tensor

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("pe", sinusoids(POSITIONS, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(x + self.pe[: len(x)])


class TimeEmbedding(nn.Module):
    """`[B]` integer timesteps to `[B, width]`: their positions, through a two-layer SiLU network."""

    def __init__(self, positions: Positions, width: int):
        super().__init__()
        self.sequence_pos_encoder = positions
        self.time_embed = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, timestep: Tensor) -> Tensor:
        return self.time_embed(self.sequence_pos_encoder.pe[timestep, 0])


class MdmDenoiser(nn.Module):
    """Predicts x_0: one transformer over [text + time, frames]."""

    def __init__(self, config: MdmConfig):
        super().__init__()
        size = config.transformer
        self.input_process = nn.ModuleDict({"poseEmbedding": nn.Linear(config.features, size.width)})
        self.sequence_pos_encoder = Positions(size.width, size.dropout)
        self.seqTransEncoder = Layers(EncoderLayer, size)
        self.embed_timestep: nn.Module = TimeEmbedding(self.sequence_pos_encoder, size.width)
        self.embed_text = nn.Linear(config.text_width, size.width)
        self.output_process = nn.ModuleDict({"poseFinal": nn.Linear(size.width, config.features)})

    def forward(self, sample: Tensor, timestep: Tensor, text: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """`sample` `[B, F, D]`, `timestep` `[B]`, `text` `[B, 1, text_width]`; returns `[B, F, D]`. `frame_mask`
        `[B, F]`, true where valid (None: no frame is hidden)."""
        token = self.embed_text(text).transpose(0, 1) + self.embed_timestep(timestep)
        frames = self.input_process["poseEmbedding"](sample).transpose(0, 1)
        x = self.sequence_pos_encoder(torch.cat([token, frames]))
        padding = None if frame_mask is None else ~F.pad(frame_mask, (1, 0), value=True)
        return self.output_process["poseFinal"](self.seqTransEncoder(x, padding)[1:]).transpose(0, 1)


class Mdm(nn.Module):
    """MDM as a methods.interface.Backbone."""

    def __init__(self, config: MdmConfig | None = None, denoiser: nn.Module | None = None) -> None:
        """denoiser: in place of the published one."""
        super().__init__()
        self.config = config or MdmConfig()
        self.denoiser: nn.Module = MdmDenoiser(self.config) if denoiser is None else denoiser

    def predict(self, x: Tensor, timestep: float, batch: Batch) -> Tensor:
        """The output with classifier-free guidance, from one call on the doubled batch [text, none].

        Without text is a condition of zeros, of which embed_text leaves its bias: `batch.null_text` is not read.
        """
        text = torch.cat([batch.text, torch.zeros_like(batch.text)])
        timesteps = torch.full((len(text),), timestep, device=x.device)
        mask = batch.frame_mask.repeat(2, 1) if self.config.mask_frames else None
        with_text, without = self.denoiser(torch.cat([x, x]), timesteps, text, mask).chunk(2)
        return without + self.config.guidance * (with_text - without)

    def decode(self, x0: Tensor, batch: Batch) -> Tensor:
        """The state is the motion: its frames of the batch's length, padded ones 0."""
        return x0[:, : batch.frame_mask.shape[1]].masked_fill(~batch.frame_mask[..., None], 0.0)

    def initial_state(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        shape = (*batch.frame_mask.shape, self.config.features)
        return torch.randn(shape, generator=generator, dtype=batch.text.dtype, device=batch.text.device)

    def guide(self, scale: float) -> None:
        """Sets the guidance scale of the calls that follow."""
        self.config = replace(self.config, guidance=scale)

    def networks(self) -> dict[str, nn.Module]:
        return {"denoiser": self.denoiser}


def entry(
    config: MdmConfig,
    reward: str,
    label: str = "",
    denoiser: Callable[[MdmConfig], nn.Module] = MdmDenoiser,
    sampler: Callable[[int], Sampler] = ddpm,
    steps: int = MDM_STEPS,
) -> BackboneEntry:
    """MDM of these sizes, for the registry; `reward` names the one that it is fine-tuned with. label: the entry's;
    denoiser, sampler: in place of the published ones."""
    return BackboneEntry(
        build=lambda: Mdm(config, denoiser(config)),
        text=(1, config.text_width),
        features=config.features,
        most_frames=POSITIONS - 1,
        frozen=(),
        reward=reward,
        label=label,
        sampler=sampler,
        steps=steps,
    )
