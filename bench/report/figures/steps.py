"""Memory against denoising steps and held calls, with what the plans predict."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.claims import forecast
from bench.claims.measured import held, peak
from bench.records import MemoryRecord
from bench.report import rows as pick
from bench.report import style
from bench.report.figures.common import headline, legend, models, size
from bench.report.style import INK, SOFT
from bench.units import GIB

Rows = Sequence[MemoryRecord]

NEAR = 0.02
"""Of a peak: a prediction off by less is right, as far as a figure shows it."""


def steps(rows: Rows) -> Figure:
    """Left: memory against denoising steps, with what the plan predicts. Right: the same rows against calls held."""
    figure = style.canvas(style.HEAD + 4.2)
    left, right = figure.subplots(1, 2, sharey=True, gridspec_kw={"width_ratios": [1.25, 1]})
    style.margins(figure, 0.6, 0.2, 0.55, wspace=0.48)
    start = forecast.anchor(rows)
    for points in pick.lines(rows).values():
        _step_line(left, points, start)
    _held_points(right, rows, start)
    if start:
        _floor(left, start, _follows(rows))
        _floor(right, start, _follows(rows))
    left.set_xlabel("denoising steps T")
    left.set_ylabel("peak, GiB")
    left.set_xticks(sorted({r.case.steps for of in pick.lines(rows).values() for r in of}))
    right.set_xlabel("denoiser calls held at once")
    for axes in (left, right):
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.grid(axis="y")
        axes.tick_params(axis="y", labelleft=True, length=0)
    first = rows[0]
    style.title(
        figure,
        headline(_steps_title(rows), first),
        f"{models(first)}, profile {first.case.profile}, {size(first)}",
    )
    handles = [Line2D([], [], color=SOFT, marker="o", markersize=5, label="peak")]
    if start:
        handles.append(_hollow("predicted by the plan, from EasyTune's row alone"))
    legend(figure, handles)
    return figure


def _steps_title(rows: Rows) -> str:
    if _follows(rows):
        return "Memory grows with the calls held, not with the denoising steps"
    return "Memory against denoising steps, and against the calls held"


def _follows(rows: Rows) -> bool:
    """Whether every row's peak is what its held calls alone predict, within NEAR."""
    errors = [row["error"] for row in forecast.forecast(rows).to_dict("records")]
    return bool(errors) and max(map(abs, errors)) < NEAR


def _hollow(label: str) -> Line2D:
    return Line2D([], [], color=INK, marker="o", markersize=9, markerfacecolor="none", linestyle="none", label=label)


def _floor(axes: Axes, start: MemoryRecord, alike: bool) -> None:
    """EasyTune's peak without its one denoiser call: what every method needs, if the predictions are right."""
    floor = (peak(start) - forecast.one_call(start)) / GIB
    axes.axhspan(0, floor, color="#F1F3F4", zorder=0, linewidth=0)
    text = "decode, reward and resident\nmemory" + (": alike for every method" if alike else " of EasyTune")
    axes.text(
        0.5, floor / 2, text, transform=axes.get_yaxis_transform(), ha="center", va="center", fontsize=9.5, color=SOFT
    )


def _step_line(axes: Axes, points: Rows, start: MemoryRecord | None) -> None:
    shade = style.colour(points[0].case.method)
    x, y = [r.case.steps for r in points], [peak(r) / GIB for r in points]
    axes.plot(x, y, color=shade, marker="o", markersize=4.5, linewidth=1.8)
    if start:
        expected = [forecast.predicted(start, held(r)) / GIB for r in points]
        axes.plot(x, expected, "o", markersize=9, markerfacecolor="none", markeredgecolor=INK, markeredgewidth=0.8)
    style.note(axes, _line_label(points), (x[-1], y[-1]), (9, 0), fontsize=9.5, color=style.ink(shade))


def _line_label(points: Rows) -> str:
    """What is swept: DRaFT holds all steps, AlignProp half of them, DRTune a fifth."""
    shares = {held(r) / r.case.steps for r in points}
    name = points[0].case.label.partition(",")[0].partition("-")[0]
    share = {1.0: "K = T", 0.5: "K = T/2", 0.2: "K = T/5"}.get(next(iter(shares))) if len(shares) == 1 else None
    return f"{name}, {share}" if share else name


_RINGS = {"draft": 12, "alignprop": 9, "drtune": 6.5}
"""Marker sizes: methods that hold equally many calls have equal peaks, and show as rings around each other."""


def _held_points(axes: Axes, rows: Rows, start: MemoryRecord | None) -> None:
    for row in sorted(rows, key=lambda r: -_RINGS.get(pick.family(r.case), 4)):
        size = _RINGS.get(pick.family(row.case), 4)
        x, y, shade = held(row), peak(row) / GIB, style.colour(row.case.method)
        axes.plot(x, y, "o", color=shade, markersize=size, markeredgecolor="white", markeredgewidth=0.7)
    if start:
        ends = [1, max(map(held, rows))]
        expected = [forecast.predicted(start, calls) / GIB for calls in ends]
        axes.plot(ends, expected, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        text = f"predicted: every further\ncall adds {forecast.one_call(start) / GIB:.3g} GiB"
        axes.text(0.05, 0.93, text, transform=axes.transAxes, va="top", fontsize=9.5, color=INK)
