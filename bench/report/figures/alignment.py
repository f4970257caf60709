"""Who aligns best: learning curves, reward against what an independent evaluator says, and what alignment costs."""

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from bench.alignment.reading import Curve, mean_curve, of_seeds, over_seeds
from bench.alignment.reading import figure as value_of
from bench.claims.alignment import GAINED, gained
from bench.claims.compare import place
from bench.claims.measured import alignment_of
from bench.motion.metrics import FOLLOWED, METRICS
from bench.records import AlignmentRecord
from bench.report import style
from bench.report.figures.common import exactly, legend, mark, metric
from bench.report.filters import part
from bench.report.style import INK, SOFT
from bench.units import GIB

Rows = Sequence[AlignmentRecord]
AXES = {
    "updates": "optimiser steps (root scale)",
    "samples": "prompts (root scale)",
    "cpu_seconds": "seconds{of_one_core} (root scale)",
}


def curves(rows: Rows) -> Figure:
    """Validation metrics against optimiser steps, prompts and time: means over seeds, and their 95% intervals.

    Intervals are Student's t. Square-root scales, so that 30 updates can be seen beside the hundreds of a method that
    updates at every step."""
    figure, panels = _panels("What training buys, by updates, by samples and by time", rows, 3, len(FOLLOWED), 1.85)
    figure.subplots_adjust(wspace=0.12)
    for name, across in zip(FOLLOWED, panels, strict=True):
        across[0].set_ylabel(metric(name))
        for axis, axes in zip(AXES, across, strict=True):
            axes.sharey(across[0])
            for row, look in _looks(rows):
                _band(axes, alignment_of(row).curves, axis, name, look)
            axes.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
            axes.set_xlim(left=0)
            axes.label_outer()
    for axes, label in zip(panels[-1], AXES.values(), strict=True):
        axes.set_xlabel(label.format(of_one_core=_of_one_core(rows)))
    legend(figure, _handles(rows), columns=8)
    return figure


def _of_one_core(rows: Rows) -> str:
    return " of one core" if place(rows[0]) == "CPU" else ""


def _band(axes: Axes, runs: Sequence[Curve], axis: str, name: str, look: dict[str, Any]) -> None:
    """The mean of the seeds' runs along an axis, and the interval where there are seeds enough for one."""
    points = [
        (
            statistics.fmean(getattr(point, axis) for point in points),
            over_seeds([value_of(point, name) for point in points]),
        )
        for points in zip(*runs, strict=True)
    ]
    known = [(x, value.mean, value.half_width or 0.0) for x, value in points if value.mean is not None]
    if not known:
        return
    x, mean, half_width = map(np.array, zip(*known, strict=True))
    axes.fill_between(x, mean - half_width, mean + half_width, color=look["color"], alpha=0.13, linewidth=0)
    axes.plot(x, mean, **look, linewidth=1.8, markersize=3)


def paths(rows: Rows) -> Figure:
    """Reward against the independent evaluator's metrics: a path for each method from the base, the last point with
    the 95% intervals over seeds of both."""
    first = alignment_of(rows[0])
    measured = [
        name for name in FOLLOWED if METRICS[name].independent and first.curves[0][0].metrics.get(name) is not None
    ]
    figure, (panels,) = _panels("Does the independent evaluator agree with the reward?", rows, len(measured))
    for axes, name in zip(panels, measured, strict=True):
        for row, look in _looks(rows):
            runs = alignment_of(row).curves
            mean = [point.metrics for point in mean_curve(runs)]
            x, y = (np.array([point.get(key) for point in mean], dtype=float) for key in ("reward", name))
            axes.plot(x, y, **look, linewidth=1.8, markersize=3)
            end = [run[-1].metrics for run in runs]
            mark(axes, of_seeds(end, "reward"), of_seeds(end, name), **look, alpha=0.8)
        for at, shape, size in ((mean_curve(first.curves)[0].metrics, "s", 7), (first.real, "*", 12)):
            point = [at.get(key) for key in ("reward", name)]
            if None not in point:
                axes.plot(*point, marker=shape, color=INK, markersize=size, linestyle="none")
        axes.set_xlabel("held-out reward")
        axes.set_ylabel(metric(name))
    marks = [
        Line2D([], [], color=INK, marker="s", linestyle="none", label="base"),
        Line2D([], [], color=INK, marker="*", markersize=10, linestyle="none", label="real motion"),
    ]
    legend(figure, [*_handles(rows), *marks], columns=8)
    return figure


def pareto(rows: Rows) -> Figure:
    """What the alignment of test prompts cost: gains against peak memory, and against time, with intervals that hold
    all at once (claims.alignment.gained). What is drawn of each row is named, for the page's filters."""
    title = "Gain against memory and time: paired, 95% for all methods at once"
    figure, panels = _panels(title, rows, 2, len(GAINED), 2.6)
    measured = [alignment_of(row) for row in rows]
    costs = (
        _side_by_side([of.memory.peak / GIB for of in measured]),
        _side_by_side([mean_curve(of.curves)[-1].cpu_seconds / 60 for of in measured]),
    )
    for number, ((_, look), gains) in enumerate(zip(_looks(rows), gained(rows), strict=True)):
        for line, (name, across) in enumerate(zip(GAINED, panels, strict=True)):
            for side, (axes, cost) in enumerate(zip(across, costs, strict=True)):
                drawn = mark(axes, exactly(cost[number]), gains[name, ""], **look, markersize=8, capsize=3)
                for piece, artist in enumerate(drawn):
                    artist.set_gid(part(number, line, side, piece))
    for name, across in zip(GAINED, panels, strict=True):
        for axes in across:
            axes.sharey(across[0])
            axes.axhline(0, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:+.0f}")
        across[0].set_ylabel(f"gain in {METRICS[name].label}, points")
    panels[-1][0].set_xlabel(f"peak of one update, GiB (live bytes, {place(rows[0])})")
    panels[-1][1].set_xlabel(f"minutes{_of_one_core(rows)}, all trajectories")
    legend(figure, _handles(rows), columns=8)
    return figure


def _side_by_side(costs: Sequence[float]) -> list[float]:
    """Costs where a log axis shows them: those within 5% of one another are spread, so that each interval is seen."""
    placed = list(costs)
    for index, cost in enumerate(costs):
        near = [other for other, theirs in enumerate(costs) if abs(theirs / cost - 1) < 0.05]
        placed[index] *= 1.06 ** (near.index(index) - (len(near) - 1) / 2)
    return placed


def _looks(rows: Rows) -> list[tuple[AlignmentRecord, dict[str, Any]]]:
    """Each row with its colour, line and marker: variants of one method share a colour, the first has full lines."""
    looks = []
    had: set[str] = set()
    for row in rows:
        shade = style.colour(row.case.method)
        variant: dict[str, Any] = {"linestyle": (0, (4, 2)), "markerfacecolor": "white"} if shade in had else {}
        looks.append((row, {"color": shade, "marker": "o", **variant}))
        had.add(shade)
    return looks


def _handles(rows: Rows) -> list[Line2D]:
    return [Line2D([], [], **look, markersize=5, label=row.case.label) for row, look in _looks(rows)]


def _panels(title: str, rows: Rows, columns: int, lines: int = 1, height: float = 3.2) -> tuple[Figure, np.ndarray]:
    """A figure and its axes `[lines, columns]`, each line `height` inches high."""
    figure = style.canvas(style.HEAD + lines * height + 0.4)
    panels = figure.subplots(lines, columns, squeeze=False)
    style.margins(figure, 0.75, 0.2, 0.55, wspace=0.14 * columns, hspace=0.22)
    for axes in panels.flat:
        axes.grid(axis="y")
    case, seeds = rows[0].case, len(alignment_of(rows[0]).seeds)
    scale = f"T = {case.steps}, batch {case.batch}, {seeds} seeds, size {case.size}; {place(rows[0])}"
    style.title(figure, title, f"{case.world} world, {scale}")
    return figure, panels
