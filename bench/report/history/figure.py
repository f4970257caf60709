"""Lines over commits, drawn: a panel for each device, and a line for each case in its method's colour."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from bench.labels import NAMES
from bench.records import StepTimeRecord
from bench.records.types import MethodCase
from bench.report import style
from bench.report.figures.common import legend
from bench.report.history.lines import Line, State, states_of
from bench.report.rows import family
from bench.report.style import INK, SOFT

MARKS = {"grew": "^", "slower": "^", "shrank": "v", "faster": "v"}
MOST_LABELS, MOST_TICKS = 9, 7
LABEL_GAP = 0.07
"""Of a panel's height, between two labels."""


def figure(panels: Mapping[str, Sequence[Line]], title: str) -> Figure:
    """`panels`: lines of one kind of row by where they were measured."""
    every = [line for lines in panels.values() for line in lines]
    states = states_of(every)
    height = style.HEAD + 3.4 * len(panels) + 0.5
    drawn = style.canvas(height)
    axes_of = drawn.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    style.margins(drawn, 0.7, 2.7, 0.6, hspace=0.25)
    drawn.subplots_adjust(top=1 - (style.HEAD + 0.3) / height)
    for axes, (place, lines) in zip(axes_of, panels.items(), strict=True):
        versions = dict.fromkeys(str(point.record.environment.torch) for line in lines for point in line)
        axes.set_title(f"{place}, torch {', '.join(versions)}", loc="left", fontsize=9.5, color=SOFT)
        for line in lines:
            _draw(axes, line, states)
        _scale(axes, lines)
        axes.grid(axis="y")
        _label(axes, lines)
    shown = range(0, len(states), -(-len(states) // MOST_TICKS))
    axes_of[-1].set_xticks(shown, [f"{states[n].commit[:12]}\n{states[n].date:%Y-%m-%d}" for n in shown], fontsize=8)
    axes_of[-1].set_xlim(-0.15, len(states) - 0.85)
    style.title(drawn, title, "a line a case, a point a commit; marked are changes beyond the gate's margin")
    methods = {family(line[0].record.case): line[0].record.case.method for line in every}
    handles = [Line2D([], [], color=style.colour(m), linewidth=2, label=NAMES.get(f, f)) for f, m in methods.items()]
    handles += [
        Line2D([], [], color=INK, marker=MARKS[word], linestyle="none", label=word)
        for word in MARKS
        if any(point.change.word == word for line in every for point in line)
    ]
    legend(drawn, handles, columns=8)
    return drawn


def _draw(axes: Axes, line: Line, states: Sequence[State]) -> None:
    changed = any(point.change.word for point in line)
    shade = style.tint(style.colour(line[0].record.case.method), 1 if changed else 0.45)
    x, y = [states.index(point.state) for point in line], [point.value for point in line]
    axes.plot(x, y, color=shade, linewidth=1.6, marker=".", markersize=5, zorder=2 if changed else 1)
    for place, point in zip(x, line, strict=True):
        if point.change.word:
            axes.plot(place, point.value, MARKS[point.change.word], color=shade, markersize=8, zorder=3)


def _scale(axes: Axes, lines: Sequence[Line]) -> None:
    """Bytes from zero; seconds, which differ by tens of times between methods, by their logarithm."""
    if isinstance(lines[0][0].record, StepTimeRecord):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.margins(y=0.12)
        axes.autoscale_view()  # labels are placed by the limits
        axes.set_ylabel("seconds per update (log scale)")
    else:
        axes.set_ylim(bottom=0)
        axes.set_ylabel("peak, GiB")


def _label(axes: Axes, lines: Sequence[Line]) -> None:
    """Names the lines that changed, those that changed most, beside the panel, at the height where they end."""
    changed = sorted((line for line in lines if any(point.change.word for point in line)), key=_moved, reverse=True)
    to_height = axes.transScale + axes.transLimits
    lowest = 0.0
    for line in sorted(changed[:MOST_LABELS], key=lambda line: line[-1].value):
        case = line[-1].record.case
        height = max(to_height.transform((0, line[-1].value))[1], lowest)
        looks: dict[str, Any] = {"va": "center", "fontsize": 8.5, "color": style.ink(style.colour(case.method))}
        axes.text(1.02, height, _name(case, lines), transform=axes.transAxes, **looks)
        lowest = height + LABEL_GAP


def _moved(line: Line) -> float:
    values = [point.value for point in line]
    return max(values) / min(values)


def _name(case: MethodCase, lines: Sequence[Line]) -> str:
    """The method, and those of its settings in which the panel's cases differ."""
    words = {"backbone": "{}", "reward": "{}", "steps": "T {}", "batch": "B {}", "frames": "F {}", "profile": "{}"}
    cases = [line[0].record.case for line in lines]
    differ = [name for name in words if len({getattr(other, name) for other in cases}) > 1]
    return ", ".join([case.label, *(words[name].format(getattr(case, name)) for name in differ)])
