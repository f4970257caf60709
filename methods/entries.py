"""What a registry says of a backbone and of a reward: enough to build one, feed it, and tell what fits together."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from methods.interface import Backbone, Batch, Reward
from methods.samplers import Sampler, ddim


@dataclass(frozen=True)
class BackboneEntry:
    """A backbone under a name."""

    build: Callable[[], Backbone]
    """Makes one with random weights, on torch's default device (a caller chooses it with `with device:`)."""
    text: tuple[int, int]
    """`[S, D]` of one prompt's condition: Batch.text is `[B, S, D]`."""
    features: int
    """Motion features a frame, of what it decodes."""
    most_frames: int
    """The longest motion it takes."""
    frozen: tuple[str, ...]
    """Which of its networks() stay as they are, by name: without gradient, in eval mode."""
    reward: str
    """Name of the reward that it is fine-tuned with where no other is chosen."""
    unused: tuple[str, ...] = ()
    """Modules that fine-tuning never calls, each as `network.module`."""
    sampler: Callable[[int], Sampler] = ddim
    """The sampler of so many denoising steps; InputError for a number that it cannot take."""
    steps: int = 50
    """Denoising steps that it is published with."""
    label: str = ""
    """As its paper writes it, where its weights are published; the others are tiny, or somebody's own."""

    def at(self, steps: int) -> Backbone:
        """One with random weights, told the number of denoising steps where it asks for it."""
        backbone = self.build()
        if hasattr(backbone, "denoising_steps"):
            backbone.denoising_steps = steps
        return backbone


@dataclass(frozen=True)
class RewardEntry:
    """A reward under a name."""

    build: Callable[[], Reward]
    """As of BackboneEntry."""
    tokens: tuple[int, int]
    """`[N, E]` of one prompt's token embeddings: Batch.tokens is `[B, N, E]`. What reads none takes `(1, 1)`."""
    features: int
    """Motion features a frame that it reads."""
    most_frames: int
    """The longest motion it takes."""
    sentences: int | None = None
    """Width of the sentence embeddings that its training compares captions by; None for a reward that
    rewards.training.RewardObjective cannot train."""
    unused: tuple[str, ...] = ()
    """As of BackboneEntry."""


def example_batch(
    backbone: BackboneEntry,
    reward: RewardEntry,
    prompts: int,
    frames: int,
    device: torch.device | str = "cpu",
    generator: torch.Generator | None = None,
) -> Batch:
    """Inputs of both for `prompts` motions of `frames` frames, all valid. Embeddings are unit noise from `generator`,
    drawn in the order of Batch's fields: memory and time do not depend on what the prompts say."""

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device)

    return Batch(
        text=noise(prompts, *backbone.text),
        null_text=noise(1, *backbone.text),
        tokens=noise(prompts, *reward.tokens),
        token_mask=torch.ones(prompts, reward.tokens[0], dtype=torch.bool, device=device),
        frame_mask=torch.ones(prompts, frames, dtype=torch.bool, device=device),
    )
