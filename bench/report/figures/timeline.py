"""Live memory over one update."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from bench.claims.measured import peak, reading_of
from bench.records import MemoryRecord
from bench.report import style
from bench.report.figures.common import headline, legend, where
from bench.report.style import FAINT
from bench.units import GIB
from methods.rollout import PHASES


def timeline(rows: Sequence[MemoryRecord]) -> Figure:
    """Live bytes over one update, a panel a method, coloured by phase."""
    figure = style.canvas(style.HEAD + 0.55 + 0.98 * len(rows))
    panels = figure.subplots(len(rows), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    style.margins(figure, 2.0, 0.65, 0.5, hspace=0.2)
    for axes, row in zip(panels, rows, strict=True):
        _live_bytes(axes, row)
    panels[0].set_ylim(0, max(map(peak, rows)) / GIB * 1.08)
    panels[0].set_xlim(0, 1)
    panels[-1].set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])
    panels[-1].set_xlabel("allocations and releases of one update (not time)")
    style.title(figure, headline("Live memory over one update, GiB", rows[0]), where(rows[0]))
    legend(figure, [Patch(color=style.PHASE_COLOURS[phase], label=phase) for phase in PHASES])
    return figure


def _live_bytes(axes: Axes, row: MemoryRecord) -> None:
    points, colour = reading_of(row).timeline, style.colour(row.case.method)
    for phase, run in _runs(points):
        shade = style.PHASE_COLOURS.get(phase, FAINT)
        axes.fill_between([p[0] for p in run], [p[1] / GIB for p in run], color=shade, linewidth=0)
    axes.plot([p[0] for p in points], [p[1] / GIB for p in points], color=colour, linewidth=0.8)
    top = peak(row) / GIB
    axes.axhline(top, color=colour, linewidth=0.8, linestyle=(0, (3, 3)))
    axes.text(
        1.008,
        top,
        style.short(top),
        transform=axes.get_yaxis_transform(),
        va="center",
        fontsize=9.5,
        fontweight="bold",
    )
    axes.set_yticks([0, 10, 20, 30] if top > 5 else axes.get_yticks())
    axes.text(
        -0.05,
        0.5,
        row.case.label,
        transform=axes.transAxes,
        ha="right",
        va="center",
        fontsize=10,
        color=style.ink(colour),
        fontweight="bold",
    )
    axes.tick_params(length=0, labelsize=8.5)


def _runs(points: Sequence) -> Iterator[tuple[str, list]]:
    """Stretches of one phase, each from the last point of the stretch before."""
    start = 0
    for phase, run in groupby(range(1, len(points)), key=lambda n: points[n][2]):
        end = list(run)[-1]
        yield phase, list(points[start : end + 1])
        start = end
