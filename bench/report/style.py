"""The look of every figure: one colour a method everywhere, margins, how figures become bytes."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

# Okabe and Ito's palette: distinct with any colour vision.
COLOURS = {
    "draft": "#D55E00",
    "draft-lv": "#8C3B00",
    "alignprop": "#E69F00",
    "drtune": "#009E73",
    "refl": "#CC79A7",
    "easytune": "#0072B2",
}
OTHER_METHOD = "#56B4E9"
"""Methods registered from outside."""
PHASE_COLOURS = {
    "rollout": "#4C6A92",
    "decode": "#9DB4C0",
    "reward": "#C9ADA7",
    "backward": "#DDD3C2",
    "optimiser": "#6B705C",
}
TONES = {"holds": "#006B4F", "holds in part": "#8A5A00", "does not hold": "#A63A00"}
OTHER_TONE = "#4A5A6A"
"""Verdicts at the published scale, by their words; all others."""
INK, SOFT, FAINT = "#1A1A1A", "#5F6368", "#D5D8DC"

WIDTH = 9.0
"""Inches, of every figure: at a README's 900 pixels a point of type is about 1.4 pixels."""
DPI = 180

_LOOK: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
    "text.parse_math": False,  # a $ in a record is a $, not the start of a formula
    "svg.hashsalt": "motion-reward-bench",  # equal figures get equal bytes
    "svg.fonttype": "path",  # the page looks the same without the font
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


@contextmanager
def look() -> Iterator[None]:
    """Matplotlib's settings while figures are made and saved."""
    with mpl.rc_context(_LOOK):
        yield


def colour(method: str) -> str:
    """The colour of a method, by its spec: variants have their method's."""
    return COLOURS.get(method.partition(":")[0], OTHER_METHOD)


def tone(words: str) -> str:
    """The colour of a verdict."""
    return TONES.get(words, OTHER_TONE)


def ink(shade: str) -> str:
    """The shade, dark enough to be read as text on white."""
    red, green, blue = to_rgb(shade)
    return to_hex((0.68 * red, 0.68 * green, 0.68 * blue))


def on(shade: str) -> str:
    """Black or white, whichever reads better on the shade."""
    red, green, blue = to_rgb(shade)
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.55 else INK


def tint(shade: str, share: float) -> str:
    """The shade, with white mixed in."""
    red, green, blue = (1 - share * (1 - channel) for channel in to_rgb(shade))
    return to_hex((red, green, blue))


def title(figure: Figure, text: str, subtitle: str) -> None:
    """A bold line that says what to see, and below it what is drawn, where from and at which scale."""
    height = figure.get_figheight()
    figure.text(0.012, 1 - 0.10 / height, text, ha="left", va="top", fontsize=12.5, fontweight="bold", color=INK)
    figure.text(0.012, 1 - 0.38 / height, subtitle, ha="left", va="top", fontsize=9.5, color=SOFT)


HEAD = 0.95
"""Inches that title, subtitle and legend take."""


def canvas(height: float) -> Figure:
    """An empty figure of the report's width; `height` in inches, title included."""
    return Figure(figsize=(WIDTH, height))


def margins(figure: Figure, left: float, right: float, bottom: float, **spacing: float) -> None:
    """Margins in inches, so that labels have the same room in figures of any height."""
    width, height = figure.get_size_inches()
    figure.subplots_adjust(
        left=left / width, right=1 - right / width, bottom=bottom / height, top=1 - HEAD / height, **spacing
    )


def bare(axes: Axes, *sides: str) -> None:
    """Hides spines, and the tick marks on them."""
    for side in sides:
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)


def short(size: float) -> str:
    """GiB on a figure: one figure behind the point, two that count below 1."""
    return f"{size:.1f}" if size >= 1 else f"{size:.2g}"


def note(axes: Axes, text: str, point: tuple[float, float], gap: tuple[float, float], **looks: Any) -> None:
    """Text beside a point of the data, `gap` (points of type) away from it, so that it fits data of any size."""
    defaults: dict[str, Any] = {"fontsize": 9, "va": "center", "color": INK, "annotation_clip": False}
    axes.annotate(text, point, gap, textcoords="offset points", **(defaults | looks))


def png(figure: Figure) -> bytes:
    return _saved(figure, "png", {"Software": None})


def svg(figure: Figure) -> bytes:
    return _saved(figure, "svg", {"Date": None, "Creator": None})


def _saved(figure: Figure, kind: str, metadata: dict) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
    return buffer.getvalue()
