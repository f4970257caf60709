"""The three words that everything else speaks: Backbone, Reward, Method; and what they pass around: Batch.

A backbone denoises and decodes, a reward scores what was decoded, a method says (as a plan) where gradients flow. The
rollout (rollout.py) is the only place where they meet.
"""

import random
from dataclasses import dataclass, fields, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from methods.errors import InputError
from methods.plan import Plan


@dataclass(frozen=True)
class Batch:
    """The inputs of one trajectory: `B` prompts, motions of at most `F` frames. Text comes in as embeddings."""

    text: Tensor
    """Condition of the denoiser, `[B, S, D]`."""
    null_text: Tensor
    """Embedding of the empty prompt for guidance, `[1, S, D]`."""
    tokens: Tensor
    """Token embeddings of the same prompts for the reward, `[B, N, E]`."""
    token_mask: Tensor
    """`[B, N]` bool, true where a token is valid."""
    frame_mask: Tensor
    """`[B, F]` bool, true where a frame is valid."""

    def __post_init__(self) -> None:
        size = len(self.text)
        if size < 1:
            raise InputError("a batch needs at least one prompt")
        for name in ("tokens", "token_mask", "frame_mask"):
            if len(getattr(self, name)) != size:
                raise InputError(f"batch.{name} has {len(getattr(self, name))} rows, but batch.text has {size}")

    def __len__(self) -> int:
        return len(self.text)

    def rows(self, rows: slice | Tensor, frames: int | None = None) -> "Batch":
        """Some of its prompts, with motions of at most `frames` frames (None: as many as now)."""
        masked = {name: getattr(self, name)[rows] for name in ("text", "tokens", "token_mask", "frame_mask")}
        return replace(self, **{**masked, "frame_mask": masked["frame_mask"][:, :frames]})

    def to(self, device: torch.device | str) -> "Batch":
        return replace(self, **{field.name: getattr(self, field.name).to(device) for field in fields(self)})


class Backbone(Protocol):
    """A pre-trained text-to-motion diffusion model.

    What it may have beside: `denoising_steps`, set to how many its sampler takes, where its guidance depends on them.
    """

    denoiser: nn.Module
    """What is fine-tuned."""

    def predict(self, x: Tensor, timestep: float, batch: Batch) -> Tensor:
        """The guided model output (noise, x_0 or velocity, as its sampler takes it) for the state `x` at `timestep`;
        shape of `x`."""
        ...

    def decode(self, x0: Tensor, batch: Batch) -> Tensor:
        """Motion features `[B, F, D]` of a clean state; padded frames are 0."""
        ...

    def initial_state(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        """x_T: unit noise, on the batch's device."""
        ...

    def networks(self) -> dict[str, nn.Module]:
        """Every network of the backbone by name, the denoiser among them."""
        ...


class Reward(Protocol):
    """A differentiable score of motions against their prompts.

    What it may have beside, for the levers of methods.memory: `per_motion = False`, if the reward of one motion depends
    on the others of its batch, which then are never scored in pieces; `encode_prompts(batch)`, a tensor `[B, ...]` that
    a call then takes as `prompts`, to save encoding them anew; and `means`, which where it is true makes a reward that
    draws samples draw none.
    """

    def __call__(self, motion: Tensor, batch: Batch, timestep: float | None = None) -> Tensor:
        """`[B, F, D]` motion features to `[B]` rewards, higher is better. `timestep` is given when the motion is noisy
        (a noise-aware reward), None when it is clean or a one-step prediction."""
        ...

    def networks(self) -> dict[str, nn.Module]:
        """Every network of the reward by name."""
        ...


class Method(Protocol):
    """An algorithm of differentiable-reward fine-tuning: a frozen dataclass of its options that draws plans."""

    def plan(self, steps: int, rng: random.Random) -> Plan:
        """Where gradients flow in one trajectory of `steps` denoising steps; InputError if the options do not fit. All
        randomness of the method comes from `rng`."""
        ...
