"""Self-refinement preference learning (SPL) of EasyTune (arXiv 2602.07967): the reward learns from its own failures.

A text that does not find its motion among the best K of a pool gives a preference pair: its own motion wins over the
best wrong one. The loss is KL(target ‖ softmax(pair / temperature)), target and pair in the order (loser, winner).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.errors import InputError

VARIANTS = ("paper", "released")


@dataclass(frozen=True)
class SplConfig:
    """Options of SPL. InputError for one that makes no sense."""

    variant: str = "paper"
    """paper: the target is (0, 1) for mined pairs and the mean is over them; texts that find their motion are skipped,
    and a motion with an equal caption is neither a loser nor in the way.
    released: EasyTune's code. The pool is the batch and knows of no equal captions; a text is also taken as right where
    any similarity is above `similarity`; right texts have the target (0.5, 0.5) on the best motion (which may be their
    own) and their own; the mean is over all texts; the temperature divides twice."""
    weight: float = 1e-2
    """Beside the pre-training losses."""
    top: int = 10
    """K."""
    temperature: float = 0.1
    pool: int | None = None
    """Motions that a text is to find its own among (None: those of the batch)."""
    similarity: float = 0.8
    """Released variant: a cosine above which a text is right whatever it found."""

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise InputError(f"spl: unknown variant {self.variant!r}: choose one of {', '.join(VARIANTS)}")
        if not self.weight >= 0:
            raise InputError(f"spl: weight must be 0 or more, not {self.weight}")
        if not self.temperature > 0:
            raise InputError(f"spl: temperature must be above 0, not {self.temperature}")
        if self.top < 1:
            raise InputError(f"spl: top must be 1 or more, not {self.top}")
        if self.variant == "released" and self.pool is not None:
            raise InputError("spl: the released variant's pool is the batch: leave pool out, or choose variant paper")


class Pairs(NamedTuple):
    """The pairs that B texts give."""

    loser: Tensor
    """`[B]`: column of the motion that the own one is compared with."""
    mined: Tensor
    """`[B]` bool: the own motion shall win. Elsewhere the loser means nothing in the paper's variant."""


class Preference(NamedTuple):
    """The loss of a batch (a scalar, without its weight), and how many texts gave a pair (detached, integers)."""

    loss: Tensor
    mined: Tensor
    skipped: Tensor


def mine(similarity: Tensor, config: SplConfig, equal: Tensor | None = None) -> Pairs:
    """The pairs of a similarity matrix `[B, N]` of texts and pooled motions, where text i's own motion is column i.

    `equal` `[B, N]` bool: the motion's caption says the same as the text. An own motion is among the best K while fewer
    than K wrong ones are strictly better. No gradient is recorded. With N = K, or where all captions are equal, nothing
    is mined.
    InputError for a pool that is smaller than K or than the batch, or that is not of `config.pool` motions.
    """
    if similarity.ndim != 2 or similarity.shape[0] > similarity.shape[1]:
        raise InputError(
            f"spl: similarities are {list(similarity.shape)}, not texts by motions with every text's own motion: "
            "put the batch's motions first in the pool"
        )
    texts, motions = similarity.shape
    wanted = texts if config.variant == "released" else config.pool or motions
    if motions != wanted:
        raise InputError(f"spl: the pool has {motions} motions, not {wanted}: give as many, or change the pool's size")
    if motions < config.top:
        raise InputError(
            f"spl: a pool of {motions} motions has no top {config.top}: enlarge the pool or the batch, or lower top"
        )
    similarity = similarity.detach()
    matching = similarity.diagonal()[:, None]
    if config.variant == "released":
        right = (similarity > matching).sum(dim=1) < config.top
        return Pairs(similarity.argmax(dim=1), ~(right | (similarity > config.similarity).any(dim=1)))
    columns = torch.arange(motions, device=similarity.device)
    wrong = columns[:texts, None] != columns
    if equal is not None:
        wrong = wrong & ~equal
    missed = ((similarity > matching) & wrong).sum(dim=1) >= config.top
    return Pairs(similarity.masked_fill(~wrong, -torch.inf).argmax(dim=1), missed)


def preference(similarity: Tensor, config: SplConfig, equal: Tensor | None = None) -> Preference:
    """SPL's loss on a similarity matrix `[B, N]`; arguments and errors as of `mine`.

    In the paper's variant a skipped text has no gradient; where all are skipped the loss is 0, and so is its gradient.
    In the released one the skipped texts are those taken as right.
    """
    loser, mined = mine(similarity, config, equal)
    pair = torch.stack([similarity.gather(1, loser[:, None])[:, 0], similarity.diagonal()], dim=-1)
    released = config.variant == "released"
    # The released code divides twice, which its published loss shows.
    logits = pair / (config.temperature**2 if released else config.temperature)
    wins = mined[:, None].to(pair)
    target = torch.cat([0.5 * (1 - wins), 0.5 * (1 + wins)], dim=-1)
    divergence = (torch.xlogy(target, target) - target * F.log_softmax(logits, dim=-1)).sum(dim=-1)
    pairs = mined.sum()
    counted = torch.ones_like(mined) if released else mined
    # Where nothing counts this is 0, with a gradient of 0, so that the caller need not ask.
    loss = divergence.masked_fill(~counted, 0.0).sum() / counted.sum().clamp(min=1)
    return Preference(loss, pairs, len(mined) - pairs)
