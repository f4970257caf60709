"""Stick figures that move, side by side in the report's page: what the template lays out and motion.js draws.

Nothing is loaded from elsewhere. Figures stand still until they are started where the reader's system asks for reduced
motion; without scripts nothing is shown, and the strip of the same motions above remains.
"""

from dataclasses import dataclass

import numpy as np

from bench.report import stick
from bench.report.stick import Shown
from bench.report.style import FAINT, INK, SOFT

_MARGIN = 0.15
"""Metres around all that moves."""
_PIXELS = 380
"""Width of a canvas."""


@dataclass(frozen=True)
class Animation:
    """One prompt's motions on canvases."""

    name: str
    """Its anchor in the page."""
    text: str
    """The prompt."""
    labels: tuple[str, ...]
    """Of the canvases, in the order of the data's motions."""
    width: int
    height: int
    """Pixels of a canvas."""
    data: dict[str, object]
    """JSON types, for motion.js."""


def animation(shown: Shown, name: str) -> Animation:
    """The animation of one prompt."""
    points = np.concatenate([stick.project(joints).reshape(-1, 2) for joints in shown.motions.values()])
    low, high = points.min(0) - _MARGIN, points.max(0) + _MARGIN
    width, height = high - low
    data = {
        "fps": shown.fps,
        "right": stick.RIGHT,
        "up": stick.UP,
        "limbs": [[stick.SIDES[side], chain] for side, chain in stick.LIMBS],
        "head": [stick.HEAD, INK],
        "path": [SOFT, FAINT],
        "corner": [round(float(value), 3) for value in (low[0], high[1])],
        "width": round(float(width), 3),
        "motions": list(shown.packed.values()),
    }
    return Animation(name, shown.text, tuple(shown.packed), _PIXELS, round(float(_PIXELS * height / width)), data)
