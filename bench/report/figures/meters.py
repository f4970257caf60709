"""Simulated against measured peaks."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bench.claims.measured import peak, reading_of
from bench.records import MemoryRecord
from bench.report import style
from bench.report.figures.common import legend, where
from bench.report.style import INK, SOFT
from bench.units import GIB

_BEYOND = (
    ("reserved", "reserved by the allocator", "s", "#9AA0A6"),
    ("process", "process, with the CUDA context", "D", "#5F6368"),
)


def meters(pairs: Sequence[tuple[MemoryRecord, MemoryRecord]]) -> Figure:
    """(simulated, measured) rows of the same cases: both peaks, their ratio, and what the device holds beyond them."""
    figure = style.canvas(style.HEAD + 0.7 + 0.42 * len(pairs))
    axes = figure.add_subplot()
    style.margins(figure, 2.0, 0.7, 0.5)
    for y, (simulated, measured) in enumerate(pairs):
        _meter_bar(axes, peak(simulated), measured, y)
    axes.set_yticks(range(len(pairs)), [f"{m.case.label}  ({m.case.profile})" for _, m in pairs])
    axes.set_ylim(len(pairs) - 0.5, -0.85)
    axes.set_xlim(left=0)
    axes.set_xlabel("peak, GiB")
    axes.text(1.01, -0.62, "ratio", transform=axes.get_yaxis_transform(), va="center", fontsize=9, color=SOFT)
    axes.grid(axis="x")
    style.bare(axes, "left")
    style.title(figure, "Peaks simulated and measured; ratio: simulated / allocated", where(pairs[0][1]))
    simulated_mark = Line2D([], [], color=INK, marker="|", markersize=11, markeredgewidth=2, linestyle="none")
    simulated_mark.set_label("simulated")
    beyond = [Line2D([], [], color=ink, marker=m, linestyle="none", label=text) for _, text, m, ink in _BEYOND]
    legend(figure, [Patch(color=style.tint(SOFT, 0.55), label="allocated, measured"), simulated_mark, *beyond])
    return figure


def _meter_bar(axes: Axes, simulated: int, measured: MemoryRecord, y: int) -> None:
    reading = reading_of(measured)
    axes.barh(y, reading.peak / GIB, 0.6, color=style.tint(style.colour(measured.case.method), 0.55))
    axes.plot([simulated / GIB] * 2, [y - 0.38, y + 0.38], color=INK, linewidth=2)
    for name, _, marker, ink in _BEYOND:
        if beyond := getattr(reading, name):
            axes.plot(beyond / GIB, y, marker, color=ink, markersize=6)
    ratio = f"{simulated / reading.peak:.3f}"
    axes.text(1.01, y, ratio, transform=axes.get_yaxis_transform(), va="center", fontsize=9.5)
