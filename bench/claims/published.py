"""The published figures that the claims are about, and how near is near enough."""

from bench.units import GIB

GB = 10**9
UNITS = {"GB": GB, "GiB": GIB}
"""What the published "GB" may mean, in bytes. It is not said which."""
MEANING = {"GB": "10⁹", "GiB": "2³⁰"}

TOLERANCE = 0.10
"""A published figure is met if ours is within this share of it. Ours leaves out the text encoder, and what of the
context and the allocator's slack the published one holds is not said."""
LINE_TOLERANCE = 1e-3
"""A memory curve is a line (or flat) if it strays from it by at most this share of its peak. Simulated rows are held to
the byte first; measured ones carry the allocator's rounding."""

PUBLISHED_BASE = 15.21
EASYTUNE, DRAFT, DRTUNE, ALIGNPROP = "easytune", "draft", "drtune", "alignprop:truncation=fixed"
"""The specs that stand for the published rows; how many steps the published AlignProp and DRTune train is not said."""
NAMES = {DRAFT: "DRaFT-50", ALIGNPROP: "AlignProp", DRTUNE: "DRTune", EASYTUNE: "EasyTune"}
PUBLISHED = {DRAFT: 37.32, ALIGNPROP: 30.40, DRTUNE: 27.01, EASYTUNE: 22.10}
"""Peak memory on MLD in "GB", as published."""
PUBLISHED_CHAIN = 24.21
CHAINS = {"easytune:mode=chain": "chain as described", "easytune:mode=chain-released": "chain as released"}
"""What the published chain row may be."""

PUBLISHED_SHARE = (PUBLISHED[EASYTUNE] - PUBLISHED_BASE) / (PUBLISHED[DRAFT] - PUBLISHED_BASE)
PUBLISHED_SAVING = 15.22
PUBLISHED_SPEEDUP = 7.3


def within(ours: float, published: float) -> bool:
    """Whether ours meets a published figure (TOLERANCE)."""
    return abs(ours / published - 1) <= TOLERANCE
