"""What a budget must hold beyond what PyTorch's allocator takes for the tensors: figures for what the simulator cannot
see, with their sources."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from bench.cases import Case
from bench.plan import size
from bench.profiles import profile
from methods.entries import BackboneEntry, example_batch
from methods.errors import InputError
from methods.interface import Backbone
from methods.registry import pair
from methods.transformer import PUBLISHED, Attention

MIB = 2**20


@dataclass(frozen=True)
class Item:
    """One thing that a GPU run needs and the simulation leaves out."""

    name: str
    source: str
    """Where the figure is from, as one sentence."""
    of: Callable[[Case], int]
    """Bytes beside a case."""


def accumulators(case: Case) -> int:
    """Bytes that the backward of fused attention in half precision allocates inside the kernel, in one call.

    The gradient of the queries, and one number a query and head, in float32, for each query of a sequence rounded up to
    128: the most of the calls on a whole motion and its token, at the sizes of the published reward, and the denoiser's
    on its state, text and time, with a batch that guidance doubles.
    """
    switches = profile(case.profile)
    if switches.attention == "explicit" or switches.precision == "fp32":
        return 0
    motions = min(switches.score or case.batch, case.batch) * _rounded(case.frames + 1)
    scoring = motions * (PUBLISHED.width + PUBLISHED.heads)
    if switches.kernel(scoring=False) != "fused":
        return 4 * scoring
    of_backbone, of_reward = pair(case.backbone, case.reward)
    backbone, numbers = _without_data(of_backbone)
    state = backbone.initial_state(example_batch(of_backbone, of_reward, 1, case.frames, "meta"))
    return 4 * max(scoring, 2 * case.batch * _rounded(math.prod(state.shape[1:-1]) + 2) * numbers)


def _rounded(tokens: int) -> int:
    return -(-tokens // 128) * 128


@functools.cache
def _without_data(entry: BackboneEntry) -> tuple[Backbone, int]:
    """A backbone, and what its denoiser's attention adds up a query: as many numbers as its width and heads."""
    with torch.device("meta"):
        backbone = entry.build()
    attention = [part for part in backbone.denoiser.modules() if isinstance(part, Attention)]
    return backbone, max((part.embed_dim + part.num_heads for part in attention), default=0)


DEFAULT = (
    Item(
        "CUDA context",
        "around 400 MB with lazy kernel loading, the default since CUDA 11.7 (pytorch issue #109888; some 300 MB in "
        "#107667).",
        lambda case: 400 * MIB,
    ),
    Item(
        "cuBLAS workspaces",
        "32 MiB each on Hopper (sm90, pytorch PR #120925), 8.1 MiB elsewhere (issue #95668); one for each handle and "
        "stream (PR #100919), and the autograd thread has a handle of its own, so two.",
        lambda case: 2 * 32 * MIB,
    ),
    Item(
        "attention backward",
        "fused attention in bf16 alone: its backward adds up the queries' gradient in float32 inside the kernel, for "
        "sequences rounded up to 128 (dq_accum of FlashAttention-2, which torch builds); one call at a time.",
        accumulators,
    ),
)


@dataclass(frozen=True)
class Budget:
    """The bytes of a card, and what of them the allocator may not take."""

    size: int
    headroom: Sequence[Item] = DEFAULT

    def needs(self, case: Case, reserved: int) -> int:
        """Bytes of the card that a run of the case takes whose allocator reserves so much."""
        return reserved + sum(item.of(case) for item in self.headroom)

    def fits(self, case: Case, reserved: int) -> bool:
        return self.needs(case, reserved) <= self.size

    def record(self, case: Case) -> dict:
        """JSON types only; the headroom beside this case."""
        items = [{"name": item.name, "size": item.of(case), "source": item.source} for item in self.headroom]
        return {"bytes": self.size, "headroom": items}


def parse(text: str) -> Sequence[Item]:
    """`default`, or one size that replaces all items (`0` for none); InputError for anything else."""
    if text == "default":
        return DEFAULT
    if text.strip() == "0":
        return ()
    try:
        given = size.parse(text, "headroom")
    except InputError as error:
        raise InputError(f"{error}; or `default`, or 0 for none") from None
    return (Item("headroom", "given on the command line.", lambda case: given),)
