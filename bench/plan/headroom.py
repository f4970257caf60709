"""What a budget must hold beyond what PyTorch's allocator takes for the tensors: figures for what the simulator cannot
see, with their sources."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.cases import Case
from bench.plan import size
from bench.profiles import profile
from methods.errors import InputError
from methods.transformer import PUBLISHED

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

    The gradient of the queries, and one number a query, in float32, for each query of a sequence rounded up to 128: the
    most of the calls on a whole motion and its token, and the denoiser's, whose batch is doubled by guidance. At the
    sizes of the published transformers.
    """
    switches = profile(case.profile)
    if switches.attention == "explicit" or switches.precision == "fp32":
        return 0
    motions = min(switches.score or case.batch, case.batch) * -(-(case.frames + 1) // 128) * 128
    prompts = 2 * case.batch * 128 if switches.kernel(scoring=False) == "fused" else 0
    return 4 * max(motions, prompts) * (PUBLISHED.width + PUBLISHED.heads)


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
