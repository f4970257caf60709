"""What a budget must hold beyond the simulated peak: figures for what the simulator cannot see, with their sources."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from bench.plan import size
from methods.errors import InputError

MIB = 2**20


@dataclass(frozen=True)
class Item:
    """One thing that a GPU run needs and the simulated peak leaves out."""

    name: str
    source: str
    """Where the figure is from, as one sentence."""
    size: int = 0
    """Bytes, whatever the peak is."""
    share: float = 0.0
    """Share of the peak, on top of `size`."""

    def of(self, peak: int) -> int:
        """Bytes beside a simulated peak."""
        return self.size + round(self.share * peak)


DEFAULT = (
    Item(
        "CUDA context",
        "around 400 MB with lazy kernel loading, the default since CUDA 11.7 (pytorch issue #109888; some 300 MB in "
        "#107667).",
        size=400 * MIB,
    ),
    Item(
        "cuBLAS workspaces",
        "32 MiB each on Hopper (pytorch PR #120925), 8.1 MiB elsewhere (issue #95668); one for each handle and stream "
        "(PR #100919), and the autograd thread has a handle of its own, so two.",
        size=2 * 32 * MIB,
    ),
    Item(
        "fragmentation",
        "5% of the peak: an assumption, with no measurement behind it; the allocator takes large blocks from the "
        "driver in whole 2 MiB (PyTorch's CUDA notes).",
        share=0.05,
    ),
)


@dataclass(frozen=True)
class Budget:
    """The bytes of a card, and what of them the simulated peak may not take."""

    size: int
    headroom: Sequence[Item] = DEFAULT

    def needs(self, peak: int) -> int:
        """Bytes of the card that a run of this simulated peak takes."""
        return peak + sum(item.of(peak) for item in self.headroom)

    def fits(self, peak: int) -> bool:
        return self.needs(peak) <= self.size

    def record(self) -> dict:
        """JSON types only."""
        return {"bytes": self.size, "headroom": [asdict(item) for item in self.headroom]}


def parse(text: str) -> Sequence[Item]:
    """`default`, or one size that replaces all items (`0` for none); InputError for anything else."""
    if text == "default":
        return DEFAULT
    if text.strip() == "0":
        return ()
    try:
        return (Item("headroom", "given on the command line.", size=size.parse(text, "headroom")),)
    except InputError as error:
        raise InputError(f"{error}; or `default`, or 0 for none") from None
