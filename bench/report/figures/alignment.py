"""Who aligns best: learning curves, reward against what an independent evaluator says, and what alignment costs."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.alignment.reading import mean_curve
from bench.report import style
from bench.report.figures.common import Rows, legend
from bench.report.style import INK, SOFT

MIB = 2**20


def curves(rows: Rows) -> Figure:
    """Held-out reward of validation prompts against trajectories, and against time; bands are all seeds."""
    figure, (left, right) = _pair("Reward bought for trajectories, and for time", rows)
    for row in rows:
        found, shade = row["alignment"], style.colour(row)
        mean = mean_curve(found["curves"])
        for axes, name in ((left, "trajectories"), (right, "cpu_seconds")):
            x = [point[name] for point in mean]
            low, high = (
                [bound(curve[n]["reward"] for curve in found["curves"]) for n in range(len(mean))]
                for bound in (min, max)
            )
            axes.fill_between(x, low, high, color=shade, alpha=0.15, linewidth=0)
            axes.plot(x, [point["reward"] for point in mean], color=shade, linewidth=2, marker="o", markersize=3)
    left.set_xlabel("trajectories")
    right.set_xlabel("seconds of one core, updates only (symmetric log)")
    right.set_xscale("symlog", linthresh=1)
    left.set_ylabel("held-out reward, validation prompts")
    legend(figure, _handles(rows))
    return figure


def paths(rows: Rows) -> Figure:
    """Reward against the independent evaluator's R-precision and FID: a path for each method, from the base."""
    figure, panels = _pair("Does the independent evaluator agree with the reward?", rows)
    real = rows[0]["alignment"]["real"]
    for axes, name, label in zip(panels, ("r1", "fid"), ("R-precision, top 1", "FID"), strict=True):
        for row in rows:
            mean, shade = mean_curve(row["alignment"]["curves"]), style.colour(row)
            x, y = ([point[key] for point in mean] for key in ("reward", name))
            axes.plot(x, y, color=shade, linewidth=1.8, marker="o", markersize=3)
            axes.plot(x[-1], y[-1], color=shade, marker="o", markersize=8)
        start = mean_curve(rows[0]["alignment"]["curves"])[0]
        axes.plot(start["reward"], start[name], marker="s", color=INK, markersize=7, linestyle="none")
        axes.plot(real["reward"], real[name], marker="*", color=INK, markersize=13, linestyle="none")
        axes.set_xlabel("held-out reward")
        axes.set_ylabel(f"{label}, independent evaluator")
    marks = [
        Line2D([], [], color=INK, marker="s", linestyle="none", label="base"),
        Line2D([], [], color=INK, marker="*", markersize=10, linestyle="none", label="real motion"),
    ]
    legend(figure, [*_handles(rows), *marks], columns=8)
    return figure


def pareto(rows: Rows) -> Figure:
    """What the alignment of test prompts cost: gain in R-precision against peak memory, and against time."""
    figure, (left, right) = _pair("Alignment against memory, and against time", rows)
    for row in rows:
        found, shade = row["alignment"], style.colour(row)
        gain = found["gain"]["r1"]
        costs = (found["memory"]["peak"] / MIB, mean_curve(found["curves"])[-1]["cpu_seconds"])
        for axes, cost in zip((left, right), costs, strict=True):
            axes.errorbar(
                cost, gain["mean"], yerr=gain["half_width"] or 0, color=shade, marker="o", markersize=8, capsize=3
            )
    for axes in (left, right):
        axes.axhline(0, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_xscale("log")
        axes.set_ylabel("gain in R-precision, top 1, over the base")
    left.set_xlabel("peak of one update, MiB (live bytes, CPU)")
    right.set_xlabel("seconds of one core, all trajectories")
    legend(figure, _handles(rows))
    return figure


def _handles(rows: Rows) -> list[Line2D]:
    return [Line2D([], [], color=style.colour(row), marker="o", markersize=5, label=style.label(row)) for row in rows]


def _pair(title: str, rows: Rows) -> tuple[Figure, Sequence[Axes]]:
    figure = style.canvas(style.HEAD + 3.6)
    left, right = figure.subplots(1, 2)
    style.place(figure, 0.75, 0.2, 0.55, wspace=0.3)
    for axes in (left, right):
        axes.grid(axis="y")
    case, found = rows[0]["case"], rows[0]["alignment"]
    scale = f"T = {case['steps']}, batch {case['batch']}, {len(found['seeds'])} seeds, size {case['size']}; CPU"
    style.title(figure, title, f"embedded world, {scale}")
    return figure, (left, right)
