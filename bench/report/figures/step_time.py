"""Time of real updates."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from bench.claims.measured import timing_of
from bench.meters import METERS
from bench.records import StepTimeRecord
from bench.records.types import Spread
from bench.report import rows as pick
from bench.report import style
from bench.report.figures.common import legend, where
from bench.report.style import SOFT


def step_time(rows: Sequence[StepTimeRecord]) -> Figure:
    """Seconds per update and per optimiser step: median, quartiles' distance, and every round."""
    shown = pick.good(rows)
    figure = style.canvas(style.HEAD + 0.75 + 0.46 * len(rows))
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    style.margins(figure, 1.5, 0.35, 0.55, wspace=0.12)
    names = [r.case.label for r in rows]
    for axes, words in zip(panels, ("update", "optimiser step"), strict=True):
        for row in shown:
            timing = timing_of(row)
            spread = timing.per_update if words == "update" else timing.per_optimiser_step
            _time_mark(axes, spread, names.index(row.case.label), style.colour(row.case.method))
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(f"seconds per {words} (log scale)")
        axes.grid(axis="x")
        axes.margins(x=0.12)
        style.bare(axes, "left")
    for y, row in enumerate(rows):
        if not row.ok:
            panels[0].text(0.02, y, row.status, transform=panels[0].get_yaxis_transform(), va="center", color=SOFT)
    panels[0].set_yticks(range(len(rows)), names)
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    kind = "on a GPU" if METERS[rows[0].case.meter].device == "cuda" else "on a CPU"
    style.title(figure, f"Time of a real update, {kind}", f"{where(rows[0])}")
    timings = [timing_of(row) for row in shown]
    interleaved = "interleaved " if all(timing.interleaved for timing in timings) else ""
    counts = sorted({timing.rounds for timing in timings})
    rounds = " or ".join(map(str, counts))
    legend(
        figure,
        [
            Line2D([], [], color=SOFT, marker="o", markersize=6, linestyle="none", label="median"),
            Line2D([], [], color=SOFT, linewidth=1.2, label=f"least to most of {rounds} {interleaved}rounds"),
        ],
    )
    return figure


def _time_mark(axes: Axes, spread: Spread, y: int, shade: str) -> None:
    axes.plot([spread.min, spread.max], [y, y], color=shade, linewidth=1.6, marker="|", markersize=9)
    axes.plot(spread.median, y, "o", color=shade, markersize=6)
    looks = {"ha": "center", "va": "bottom", "fontsize": 9.5, "color": style.ink(shade)}
    style.note(axes, f"{spread.median:.3g} s", (spread.median, y), (0, 6), **looks)
