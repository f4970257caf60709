"""Answers as pictures: the largest batch against the denoiser calls held, and memory against FLOPs."""

from collections.abc import Sequence
from itertools import groupby

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter, StrMethodFormatter

from bench.labels import method_label
from bench.plan import draws
from bench.plan.frontier import Curve, Point
from bench.plan.headroom import Budget
from bench.plan.planner import Answer
from bench.report import style
from bench.report.figures.common import legend
from bench.report.style import FAINT, INK, SOFT
from bench.units import GIB, gib

DASH = 7
"""Points of a dash, where several methods share a line: each shows through the gaps of the others."""
TICKS = [round(m * 10**power) for power in range(7) for m in (1, 1.5, 2, 3, 5, 7)]
"""Batches, and tenths of a GiB, that may be marked on an axis."""


def region(answers: Sequence[Answer], budget: Budget) -> bytes:
    """PNG: below its line a method fits, above it does not."""
    shown = [answer for answer in answers if any(batch for _, batch in answer.region)]
    case = answers[0].case
    with style.look():
        figure = style.canvas(style.HEAD + 4.4)
        axes = figure.add_subplot()
        style.margins(figure, 0.75, 0.85, 0.55)
        axes.set_yscale("log")
        _lines(axes, shown)
        _asked(axes, case.batch, case.steps)
        _points(axes, shown)
        _scales(axes, shown, case.batch, case.steps)
        style.title(
            figure,
            f"What fits in {gib(budget.size)} (simulated)",
            f"{case.backbone.upper()}, T = {case.steps}, {case.frames} frames, profile {case.profile}; "
            f"{_headroom(budget.needs(case, 0))}; lines are predicted",
        )
        legend(figure, _handles(shown), columns=len(shown) + 2)
        return style.png(figure)


def frontier(curves: Sequence[Curve]) -> bytes:
    """PNG: a line a method, from no lever on the right to all of them on the left."""
    shown = [curve for curve in curves if curve.points]
    case, points = shown[0].case, [point for curve in shown for point in curve.points]
    with style.look():
        figure = style.canvas(style.HEAD + 4.0)
        axes = figure.add_subplot()
        style.margins(figure, 0.75, 0.4, 0.6)
        lines = [_frontier_line(axes, curve) for curve in shown]
        axes.set_xscale("log")
        axes.set_xlim(min(_gib(point) for point in points) / 1.5, max(_gib(point) for point in points) * 1.2)
        axes.set_ylim(0, max(point.flops for point in points) / 1e12 * 1.1)
        axes.xaxis.set_major_locator(FixedLocator([tick / 10 for tick in TICKS]))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("peak, GiB (logarithmic)")
        axes.set_ylabel("TFLOPs an optimiser step")
        axes.grid()
        axes.tick_params(length=0, pad=6)
        style.title(
            figure,
            "Memory against FLOPs (simulated)",
            f"{case.backbone.upper()}, T = {case.steps}, batch {case.batch}, {case.frames} frames, profile "
            f"{case.profile}; percent: FLOPs more with every lever pulled",
        )
        marks = [
            Line2D([], [], color=INK, marker=marker, linestyle="none", markersize=5, label=label)
            for marker, label in (("o", "smaller pieces"), ("D", "calls recomputed"))
        ]
        legend(figure, [*lines, *marks], columns=len(shown) + 2)
        return style.png(figure)


def _frontier_line(axes: Axes, curve: Curve) -> Line2D:
    method, shade = curve.case.method, style.colour(curve.case.method)
    x, y = [_gib(point) for point in curve.points], [point.flops / 1e12 for point in curve.points]
    (line,) = axes.plot(x, y, color=shade, linewidth=1.8, label=method_label(method, curve.case.steps))
    pieces = sum(not point.savings.recompute for point in curve.points)
    axes.plot(x[:pieces], y[:pieces], "o", color=shade, markersize=5)
    axes.plot(x[pieces:], y[pieces:], "D", color=shade, markersize=5)
    style.note(axes, f"{y[-1] / y[0] - 1:+.1%}", (x[-1], y[-1]), (-8, 0), ha="right", color=style.ink(shade))
    return line


def _gib(point: Point) -> float:
    return point.memory.peak / GIB


def _headroom(free: int) -> str:
    return f"headroom of {gib(free)} kept free" if free else "no headroom"


def _lines(axes: Axes, answers: Sequence[Answer]) -> None:
    """A line for each method; methods whose lines are the same to a percent are dashed in turn."""
    drawn = [(answer, _curve(answer)) for answer in answers]
    for answer, (x, y) in drawn:
        same = [other for other, (u, v) in drawn if u == x and _near(v[0], y[0]) and _near(v[-1], y[-1])]
        dash = (same.index(answer) * DASH, (DASH, DASH * (len(same) - 1))) if len(same) > 1 else "-"
        if answer is same[0]:
            axes.fill_between(x, y, 0.1, color=FAINT, alpha=0.3, linewidth=0, zorder=0)
        axes.plot(x, y, color=_colour(answer), linewidth=2.2, linestyle=dash, dash_capstyle="butt", zorder=2)


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= max(1, 0.01 * other)


def _curve(answer: Answer) -> tuple[list[float], list[float]]:
    """Batches that fit by calls held; across the whole picture for a method that always holds the same."""
    points = [(held, batch) for held, batch in answer.region if batch]
    if len(answer.region) == 1:
        points = [(1, points[0][1]), (answer.case.steps, points[0][1])]
    return [float(held) for held, _ in points], [float(batch) for _, batch in points]


def _asked(axes: Axes, batch: int, steps: int) -> None:
    axes.axhline(batch, color=SOFT, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)
    style.note(axes, f"batch {batch}", (steps, batch), (10, 0), color=SOFT, ha="left")


def _points(axes: Axes, answers: Sequence[Answer]) -> None:
    """The answers: each method as it was asked for at its largest batch, and the largest K at the batch asked for."""
    points = []
    for answer in answers:
        for limit in (answer.limits["batch"], answer.limits.get("k")):
            if limit and limit.case:
                points.append((draws.held(limit.case), limit.case.batch, limit.axis, answer, limit.confirmed))
    points.sort(key=lambda point: (point[2], point[0], point[1]))
    for (held, batch, axis), group in groupby(points, key=lambda point: point[:3]):
        of = list(group)
        answer, confirmed = of[0][3:]
        shade = _colour(answer) if len(of) == 1 else INK
        axes.plot(
            held,
            batch,
            marker="D" if axis == "k" else "o",
            markersize=7,
            color=shade,
            markerfacecolor=shade if confirmed else "white",
            markeredgewidth=1.3,
            linestyle="none",
            zorder=3,
            clip_on=False,
        )
        _name(axes, of, style.ink(shade), last=held > 0.8 * answer.case.steps)


def _name(axes: Axes, of: Sequence[tuple], shade: str, last: bool) -> None:
    """Names a point on the side of its line that is free: a falling line leaves the upper right for the K, and the
    lower left for the batch; a level one all that is above it."""
    held, batch, axis, answer = of[0][:4]
    batches = f"{', '.join(_label(point[3]) for point in of)}: {batch}"
    side = "right" if last else "left"
    if axis == "k":
        style.note(axes, f"K = {held}", (held, batch), (-8 if last else 8, 9), ha=side, color=shade)
    elif len(answer.region) == 1:
        style.note(axes, batches, (held, batch), (4 if last else 8, 11), ha=side, color=shade)
    else:
        gap, align = ((4, -15), "right") if last else ((-18, -16), "center")
        style.note(axes, batches, (held, batch), gap, ha=align, color=shade)


def _scales(axes: Axes, answers: Sequence[Answer], batch: int, steps: int) -> None:
    batches = [b for answer in answers for _, b in answer.region if b] + [batch]
    axes.set_xlim(1, max(steps, 2))
    axes.set_ylim(min(batches) / 1.5, max(batches) * 1.5)
    axes.yaxis.set_major_locator(FixedLocator(TICKS))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xticks(sorted({1, *range(10, steps + 1, 10), steps} if steps > 12 else range(1, max(steps, 2) + 1)))
    axes.set_xlabel("K: denoiser calls held at once (those that record a graph)")
    axes.set_ylabel("largest batch")
    axes.grid(axis="y")
    for height, text in ((0.965, "does not fit"), (0.035, "fits")):
        axes.text(0.985, height, text, transform=axes.transAxes, ha="right", va="center", fontsize=9.5, color=SOFT)
    axes.tick_params(length=0, pad=6)


def _handles(answers: Sequence[Answer]) -> list[Line2D]:
    lines = [Line2D([], [], color=_colour(answer), linewidth=2.2, label=_family(answer)) for answer in answers]
    confirmed = all(answer.limits["batch"].confirmed for answer in answers)
    looks = {"color": INK, "linestyle": "none", "markerfacecolor": INK if confirmed else "white"}
    how = "confirmed" if confirmed else "predicted"
    return [
        *lines,
        Line2D([], [], marker="o", label=f"largest batch, {how}", **looks),  # type: ignore[arg-type]
        Line2D([], [], marker="D", label=f"largest K, {how}", **looks),  # type: ignore[arg-type]
    ]


def _colour(answer: Answer) -> str:
    return style.colour(answer.case.method)


def _label(answer: Answer) -> str:
    return method_label(answer.case.method, answer.case.steps)


def _family(answer: Answer) -> str:
    """The method without the K that the line runs over."""
    return _label(answer).partition("-")[0].partition(", K")[0] if len(answer.region) > 1 else _label(answer)
