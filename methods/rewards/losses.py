"""The losses that the text-motion reward is pre-trained with: those of TMR (Petrovich et al. 2023), as EasyTune weighs
them.

Texts and motions come as Gaussians over one latent space, with a sample of each. In the mean of every loss here each
element counts alike.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.errors import InputError
from methods.rewards.spm import Gaussian

TEMPERATURE = 0.1
"""Of cosine similarities, published."""
CAPTION_THRESHOLD = 0.9
"""Captions are taken as equal beyond this similarity, as EasyTune released it (TMR: 0.8, and 0.95 in its protocol)."""


@dataclass(frozen=True)
class LossWeights:
    """Weights of the pre-training losses; the defaults are the released ones. InputError for a negative one."""

    reconstruction: float = 1.0
    kl: float = 1e-5
    latent: float = 1e-5
    contrast: float = 0.1

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) >= 0:
                raise InputError(f"the weight {field.name} must be 0 or more, not {getattr(self, field.name)}")


RELEASED = LossWeights()


class Encoding(NamedTuple):
    """One side of a batch of pairs, each `[B, width]`: its Gaussians and a sample of each."""

    mean: Tensor
    std: Tensor
    latent: Tensor

    @property
    def gaussian(self) -> Gaussian:
        return self.mean, self.std


class Decoding(NamedTuple):
    """Features `[B, F, D]` decoded from the latents of texts and of motions, and what they should have been.

    Padded frames are 0 in all three.
    """

    of_text: Tensor
    of_motion: Tensor
    reference: Tensor


def cosines(texts: Tensor, motions: Tensor) -> Tensor:
    """Cosine similarities `[B, N]` of texts `[B, d]` and motions `[N, d]`."""
    return F.normalize(texts, dim=-1) @ F.normalize(motions, dim=-1).T


def equal_captions(sentences: Tensor, threshold: float = CAPTION_THRESHOLD, normalise: bool = True) -> Tensor:
    """Which of the captions with sentence embeddings `[N, E]` say the same: `[N, N]` bool, the diagonal true.

    `threshold` is on TMR's scale from 0 (opposite) to 1: similarities above 2·threshold - 1 are equal. EasyTune takes
    cosines (`normalise`), TMR the plain products of embeddings that it expects to have unit length.
    """
    similarity = cosines(sentences, sentences) if normalise else sentences @ sentences.T
    return (similarity > 2 * threshold - 1) | torch.eye(len(sentences), dtype=torch.bool, device=sentences.device)


def info_nce(text: Tensor, motion: Tensor, equal: Tensor | None = None, temperature: float = TEMPERATURE) -> Tensor:
    """Each text has to find its motion in the batch and each motion its text, by cosine; the mean of both directions.

    `text` and `motion` are `[B, d]`. Pairs with `equal` captions (`[B, B]` bool) are not held against each other. A
    pair that nothing is held against costs 0: a batch of one, or of equal captions.
    """
    logits = cosines(text, motion) / temperature
    index = torch.arange(len(logits), device=logits.device)
    if equal is not None:
        logits = logits.masked_fill(equal & (index[:, None] != index), -torch.inf)
    return (F.cross_entropy(logits, index) + F.cross_entropy(logits.T, index)) / 2


def kl(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q ‖ p) of diagonal Gaussians `[B, width]`, the mean over all elements (not the sum over a latent)."""
    (q_mean, q_std), (p_mean, p_std) = q, p
    ratio = (q_std / p_std).square()
    return 0.5 * (ratio + ((q_mean - p_mean) / p_std).square() - 1 - ratio.log()).mean()


def kl_terms(text: Gaussian, motion: Gaussian) -> Tensor:
    """The four divergences summed: texts from motions, motions from texts, and both from the unit Gaussian."""
    unit = torch.zeros_like(text[0]), torch.ones_like(text[1])
    return kl(text, motion) + kl(motion, text) + kl(text, unit) + kl(motion, unit)


def reconstruction(decoding: Decoding) -> Tensor:
    """SmoothL1 of what was decoded from texts plus that from motions.

    The mean is over every element, padded frames among them, as released: these cost 0 and make it smaller.
    """
    return F.smooth_l1_loss(decoding.of_text, decoding.reference) + F.smooth_l1_loss(
        decoding.of_motion, decoding.reference
    )


def pretraining(
    text: Encoding,
    motion: Encoding,
    decoding: Decoding | None = None,
    equal: Tensor | None = None,
    weights: LossWeights = RELEASED,
    temperature: float = TEMPERATURE,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum, and its parts by name, without their weights and detached; all scalars.

    Without a `decoding` (a reward that has no decoder) the reconstruction is left out. `equal`: as in `info_nce`.
    """
    parts = {
        "kl": kl_terms(text.gaussian, motion.gaussian),
        "latent": F.smooth_l1_loss(motion.latent, text.latent),
        "contrast": info_nce(text.latent, motion.latent, equal, temperature),
    }
    if decoding is not None:
        parts["reconstruction"] = reconstruction(decoding)
    total = torch.stack([getattr(weights, name) * value for name, value in parts.items()]).sum()
    return total, {name: value.detach() for name, value in parts.items()}
