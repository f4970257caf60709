"""Random methods: the peaks that are predicted for other draws."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bench.claims import forecast
from bench.claims.measured import plan_of
from bench.records import MemoryRecord
from bench.report import style
from bench.report.figures.common import legend, where
from bench.report.style import INK, SOFT
from bench.units import GIB


def random_peaks(pairs: Sequence[tuple[MemoryRecord, MemoryRecord]]) -> Figure:
    """Peaks predicted for the draws of methods that hold a random number of calls: least, quartiles, most."""
    figure = style.canvas(style.HEAD + 0.6 + 0.55 * len(pairs))
    axes = figure.add_subplot()
    axes.use_sticky_edges = False  # room on both sides of the bars
    style.margins(figure, 2.0, 0.5, 0.5)
    for y, (row, start) in enumerate(pairs):
        held, shade = plan_of(row).held_over_draws, style.colour(row.case.method)
        least, most, *quartiles = (forecast.predicted(start, h) / GIB for h in (held.least, held.most, *held.quartiles))
        axes.plot([least, most], [y, y], color=shade, linewidth=1.6, marker="|", markersize=9)
        axes.barh(y, quartiles[2] - quartiles[0], 0.42, left=quartiles[0], color=style.tint(shade, 0.6))
        axes.plot([quartiles[1]] * 2, [y - 0.21, y + 0.21], color=INK, linewidth=2)
        style.note(axes, style.short(quartiles[1]), (quartiles[1], y - 0.21), (0, 3), ha="center", va="bottom")
    axes.set_yticks(range(len(pairs)), [row.case.label for row, _ in pairs])
    axes.set_ylim(len(pairs) - 0.5, -0.6)
    axes.set_xlabel("predicted peak, GiB")
    axes.grid(axis="x")
    style.bare(axes, "left")
    draws = plan_of(pairs[0][0]).held_over_draws.draws
    style.title(
        figure, f"Random methods: peaks predicted for {draws} draws of the plan, not measured", where(pairs[0][0])
    )
    legend(
        figure,
        [
            Patch(color=style.tint(SOFT, 0.6), label="quartiles"),
            Line2D([], [], color=INK, linewidth=2, label="median"),
            Line2D([], [], color=SOFT, linewidth=1.6, label="least to most"),
        ],
    )
    return figure
