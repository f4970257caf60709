"""Transformer parts that the MLD modules and the text-motion reward are both made of.

Layouts follow the published modules (MLD, MotionLCM-v1, EasyTune), so their state-dict names are kept. All sequences
are time-first, `[S, B, d]`.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ATTENTION_KERNELS = ("explicit", "fused")
"""`explicit` materialises the attention weights, as the released code does (nn.MultiheadAttention, need_weights=True);
`fused` is scaled_dot_product_attention."""


class Attention(nn.MultiheadAttention):
    """nn.MultiheadAttention with the kernel as an attribute; returns the output alone.

    `kernel` is one of ATTENTION_KERNELS and costs memory, never a different result: `explicit` keeps
    `[B * heads, S, S]` weights (three times over with dropout) for the backward pass, `fused` none of them.
    """

    kernel = "explicit"

    def forward(  # type: ignore[override]  # returns the output alone, and takes only what is used here
        self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None = None
    ) -> Tensor:
        explicit = self.kernel == "explicit"
        return super().forward(query, key, value, key_padding_mask=key_padding_mask, need_weights=explicit)[0]

    def of_one_key(self, value: Tensor) -> Tensor:
        """The output, the same for every query, where there is one key, `[1, B, d]`: its weight is 1 whatever it is
        asked, so queries and keys get no gradient. Without dropout."""
        _, _, weight = self.in_proj_weight.chunk(3)
        _, _, bias = self.in_proj_bias.chunk(3)
        return self.out_proj(F.linear(value, weight, bias))


def set_attention_kernel(module: nn.Module, kernel: str) -> None:
    """Chooses the attention kernel of every `Attention` inside `module`; ValueError for an unknown one."""
    if kernel not in ATTENTION_KERNELS:
        raise ValueError(f"unknown attention kernel {kernel!r}: choose one of {', '.join(ATTENTION_KERNELS)}")
    for part in module.modules():
        if isinstance(part, Attention):
            part.kernel = kernel


def skip_unused(module: nn.Module, skip: bool) -> None:
    """Whether the transformers inside `module` leave out work that changes no result: attention to a single key, and
    the last layer of positions that nobody reads. Costs nothing; the same numbers but for rounding."""
    for part in module.modules():
        if isinstance(part, DecoderLayer | SkipTransformer):
            part.skips_unused = skip


@dataclass(frozen=True)
class TransformerSize:
    """Sizes of a transformer."""

    width: int = 256
    feedforward: int = 1024
    layers: int = 9
    heads: int = 4
    dropout: float = 0.1


PUBLISHED = TransformerSize()
"""The sizes of every published network here."""

TINY = TransformerSize(width=16, feedforward=32, layers=3, heads=2)
"""For tests."""


class EncoderLayer(nn.Module):
    """Post-norm transformer encoder layer with GELU; `[S, B, d]` to `[S, B, d]`."""

    def __init__(self, size: TransformerSize):
        super().__init__()
        self.self_attn = Attention(size.width, size.heads, dropout=size.dropout)
        self.linear1 = nn.Linear(size.width, size.feedforward)
        self.linear2 = nn.Linear(size.feedforward, size.width)
        self.norm1 = nn.LayerNorm(size.width)
        self.norm2 = nn.LayerNorm(size.width)
        self.dropout = nn.Dropout(size.dropout)

    def feed_forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.linear2(self.dropout(F.gelu(self.linear1(x)))))

    def forward(self, x: Tensor, padding: Tensor | None = None, read: int | None = None) -> Tensor:
        """`padding`: `[B, S]` bool, true where a position is to be ignored; `read`: how many positions, the first, are
        computed (None: all)."""
        x = self._attend_to_itself(x, padding, read)
        return self.norm2(x + self.feed_forward(x))

    def _attend_to_itself(self, x: Tensor, padding: Tensor | None, read: int | None) -> Tensor:
        queries = x if read is None else x[:read]  # the same object where all are read: one projection, not three
        return self.norm1(queries + self.dropout(self.self_attn(queries, x, x, padding)))


class DecoderLayer(EncoderLayer):
    """Post-norm transformer decoder layer: self-attention, attention to a memory, feed-forward."""

    skips_unused = False

    def __init__(self, size: TransformerSize):
        super().__init__(size)
        self.multihead_attn = Attention(size.width, size.heads, dropout=size.dropout)
        self.norm3 = nn.LayerNorm(size.width)

    def forward(  # type: ignore[override]  # has a memory, too
        self, x: Tensor, padding: Tensor | None = None, read: int | None = None, *, memory: Tensor
    ) -> Tensor:
        """`memory`: `[M, B, d]`, what is attended to."""
        x = self._attend_to_itself(x, padding, read)
        x = self.norm2(x + self.dropout(self._attend_to_memory(x, memory)))
        return self.norm3(x + self.feed_forward(x))

    def _attend_to_memory(self, x: Tensor, memory: Tensor) -> Tensor:
        if self.skips_unused and len(memory) == 1 and not self.training:
            return self.multihead_attn.of_one_key(memory)
        return self.multihead_attn(x, memory, memory)


class Layers(nn.Module):
    """Transformer layers one after the other, without a norm at their end (MDM, TMR)."""

    def __init__(self, layer: type[EncoderLayer], size: TransformerSize):
        super().__init__()
        self.layers = nn.ModuleList(layer(size) for _ in range(size.layers))

    def forward(self, x: Tensor, padding: Tensor | None = None, **memory: Tensor) -> Tensor:
        """As the layer."""
        for layer in self.layers:
            x = layer(x, padding, **memory)
        return x


class SkipTransformer(nn.Module):
    """U-shaped stack of an odd number of transformer layers: the outputs of the first half are concatenated, last in
    first out, to the inputs of the second half and projected back (MLD, section 3.1)."""

    skips_unused = False

    def __init__(self, layer: type[EncoderLayer], size: TransformerSize):
        super().__init__()
        if size.layers % 2 == 0:
            raise ValueError(f"a skip transformer needs an odd number of layers, not {size.layers}")
        half = range(size.layers // 2)
        self.norm = nn.LayerNorm(size.width)
        self.input_blocks = nn.ModuleList(layer(size) for _ in half)
        self.middle_block = layer(size)
        self.output_blocks = nn.ModuleList(layer(size) for _ in half)
        self.linear_blocks = nn.ModuleList(nn.Linear(2 * size.width, size.width) for _ in half)

    def forward(self, x: Tensor, padding: Tensor | None = None, read: int | None = None, **kwargs: Tensor) -> Tensor:
        """`[S, B, d]` to `[S, B, d]`; `padding` and the keywords go to every layer. `read`: how many positions, the
        first, the caller reads (None: all); the others may be missing then (skip_unused)."""
        skips = []
        for block in self.input_blocks:
            x = block(x, padding, **kwargs)
            skips.append(x)
        x = self.middle_block(x, padding, **kwargs)
        for block, linear in zip(self.output_blocks, self.linear_blocks, strict=True):
            wanted = read if self.skips_unused and len(skips) == 1 else None
            x = block(linear(torch.cat([x, skips.pop()], dim=-1)), padding, wanted, **kwargs)
        return self.norm(x)


class LearnedPositions(nn.Module):
    """Adds a learned position to every element of a sequence of at most `length`."""

    def __init__(self, width: int, length: int = 500):
        super().__init__()
        self.pe = nn.Parameter(torch.empty(length, 1, width))
        nn.init.uniform_(self.pe)

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > len(self.pe):
            raise ValueError(f"a sequence of {len(x)} is longer than the {len(self.pe)} learned positions")
        return x + self.pe[: len(x)]


def sinusoids(length: int, width: int, device: torch.device | None = None) -> Tensor:
    """Fixed positions `[length, 1, width]`, sines and cosines in turn (Vaswani et al. 2017)."""
    frequency = torch.exp(torch.arange(0, width, 2, device=device).float() * (-math.log(10000) / width))
    angle = torch.arange(length, device=device)[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=-1).view(length, 1, width)


def timestep_features(timestep: Tensor, width: int) -> Tensor:
    """Sinusoidal features of `timestep` `[B]`: `[B, width]`, cosines first (flip_sin_to_cos, freq_shift 0)."""
    half = width // 2
    frequency = torch.exp(-math.log(10000) / half * torch.arange(half, device=timestep.device, dtype=torch.float32))
    angle = timestep[:, None].float() * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def guidance_features(scale: float, width: int, device: torch.device | None = None) -> Tensor:
    """Sinusoidal features of a guidance scale: `[1, width]`, sines first, of 1000 (scale - 1), as latent consistency
    models have them (Luo et al. 2023, arXiv 2310.04378)."""
    half = width // 2
    exponent = -math.log(10000) / (half - 1) * torch.arange(half, device=device, dtype=torch.float32)
    # Angles reach thousands: where machines round an exponential of float32 differently, a feature differs by 5e-4.
    angle = 1000 * (scale - 1) * exponent.double().exp().float()
    return torch.cat([angle.sin(), angle.cos()])[None]


class TimestepEmbedding(nn.Module):
    """`[B]` timesteps to `[B, width]`: sinusoidal features of size `features`, then a two-layer SiLU network.

    `guidance`: size of the features of a guidance scale, projected and added to the timestep's; 0 for none.
    """

    def __init__(self, features: int, width: int, guidance: int = 0):
        super().__init__()
        self.linear_1 = nn.Linear(features, width)
        if guidance:
            self.cond_proj = nn.Linear(guidance, features, bias=False)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, timestep: Tensor, guidance: float | None = None) -> Tensor:
        features = timestep_features(timestep, self.linear_1.in_features).to(self.linear_1.weight.dtype)
        if guidance is not None:
            scale = guidance_features(guidance, self.cond_proj.in_features, timestep.device)
            features = features + self.cond_proj(scale.to(features.dtype))
        return self.linear_2(F.silu(self.linear_1(features)))
