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


PAPER, EXTENDED = "EasyTune, arXiv 2602.07967", "MotionRFT, arXiv 2603.27185"


def _metrics(top1: float, fid: float, distance: float | None = None) -> dict[str, float]:
    figures = {"R@1": top1, "FID": fid}
    return figures if distance is None else {**figures, "MM-Dist": distance}


ALIGNED = {
    ("MLD", PAPER): (_metrics(0.504, 0.450, 3.052), _metrics(0.581, 0.132, 2.637)),
    ("MLD++", PAPER): (_metrics(0.548, 0.073), _metrics(0.591, 0.069)),
    ("MLD", EXTENDED): (_metrics(0.504, 0.450, 3.052), _metrics(0.593, 0.101, 2.544)),
    ("MLD++", EXTENDED): (_metrics(0.548, 0.073, 2.810), _metrics(0.603, 0.052, 2.528)),
    ("ACMDM", EXTENDED): (_metrics(0.508, 0.109, 3.253), _metrics(0.517, 0.084, 3.172)),
    ("HY-Motion Lite", EXTENDED): (_metrics(0.554, 0.067, 0.831), _metrics(0.601, 0.061, 0.772)),
    ("HY-Motion", EXTENDED): (_metrics(0.563, 0.073, 0.818), _metrics(0.634, 0.056, 0.726)),
}
"""Alignment of backbones as published, before fine-tuning and after, by backbone and source."""


def within(ours: float, published: float) -> bool:
    """Whether ours meets a published figure (TOLERANCE)."""
    return abs(ours / published - 1) <= TOLERANCE
