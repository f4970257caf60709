"""Lines over commits, drawn: a panel for each device, and a line for each case in its method's colour."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.gate.judge import Outcome
from bench.labels import NAMES
from bench.records.types import MethodCase
from bench.report import style
from bench.report.figures.common import legend
from bench.report.history.lines import Line, State, states_of
from bench.report.rows import family
from bench.report.style import INK, SOFT

MARKS = {Outcome.GREW: "^", Outcome.SHRANK: "v"}
MOST_LABELS, MOST_TICKS = 9, 7
LABEL_GAP = 0.075
"""Of a panel's height, between two labels."""


def figure(panels: Mapping[str, Sequence[Line]], unit: str, title: str) -> Figure:
    """`panels`: lines by where they were measured; `unit`: of the vertical axes."""
    every = [line for lines in panels.values() for line in lines]
    states = states_of(every)
    height = 3.1
    drawn = style.canvas(style.HEAD + height * len(panels) + 0.3)
    axes_of = drawn.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    style.margins(drawn, 0.7, 2.9, 0.65, hspace=0.28)
    for axes, (place, lines) in zip(axes_of, panels.items(), strict=True):
        axes.set_title(place, loc="left", fontsize=9.5, color=SOFT)
        for line in lines:
            _draw(axes, line, states)
        axes.set_ylim(bottom=0)
        axes.set_ylabel(unit)
        axes.grid(axis="y")
        _label(axes, lines, len(states) - 1)
    shown = range(0, len(states), -(-len(states) // MOST_TICKS))
    axes_of[-1].set_xticks(shown, [f"{states[n].commit[:12]}\n{states[n].date:%Y-%m-%d}" for n in shown], fontsize=8)
    axes_of[-1].set_xlim(-0.15, len(states) - 0.85)
    style.title(drawn, title, f"{states[0]} to {states[-1]}; a point is a commit, a line a case")
    methods = {family(line[0].record.case): line[0].record.case.method for line in every}
    handles = [Line2D([], [], color=style.colour(m), linewidth=2, label=NAMES.get(f, f)) for f, m in methods.items()]
    marks = {Outcome.GREW: "more, beyond the gate's margin", Outcome.SHRANK: "less"}
    handles += [
        Line2D([], [], color=INK, marker=MARKS[outcome], linestyle="none", label=words)
        for outcome, words in marks.items()
        if any(point.change.outcome is outcome for line in every for point in line)
    ]
    legend(drawn, handles, columns=8)
    return drawn


def _draw(axes: Axes, line: Line, states: Sequence[State]) -> None:
    changed = any(point.changed for point in line)
    shade = style.tint(style.colour(line[0].record.case.method), 1 if changed else 0.45)
    x, y = [states.index(point.state) for point in line], [point.value for point in line]
    axes.plot(x, y, color=shade, linewidth=1.6, marker=".", markersize=5, zorder=2 if changed else 1)
    for outcome, mark in MARKS.items():
        marked = [(states.index(p.state), p.value) for p in line if p.change.outcome is outcome]
        axes.plot(*zip(*marked, strict=True) if marked else ([], []), mark, color=shade, markersize=8, zorder=3)


def _label(axes: Axes, lines: Sequence[Line], end: int) -> None:
    """Names the lines that changed, those that changed most, beside the panel."""
    changed = sorted((line for line in lines if any(point.changed for point in line)), key=_moved, reverse=True)
    top, lowest = axes.get_ylim()[1], 0.0
    for line in sorted(changed[:MOST_LABELS], key=lambda line: line[-1].value):
        lowest = max(line[-1].value / top, lowest)
        case = line[-1].record.case
        place = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": 8.5}
        axes.text(1.02, lowest, _name(case, lines), color=style.ink(style.colour(case.method)), **place)
        lowest += LABEL_GAP


def _moved(line: Line) -> float:
    values = [point.value for point in line]
    return max(values) / min(values)


def _name(case: MethodCase, lines: Sequence[Line]) -> str:
    """The method, and those of its settings in which the panel's cases differ."""
    words = {"backbone": "{}", "reward": "{}", "steps": "T {}", "batch": "B {}", "frames": "F {}", "profile": "{}"}
    cases = [line[0].record.case for line in lines]
    differ = [name for name in words if len({getattr(other, name) for other in cases}) > 1]
    return ", ".join([case.label, *(words[name].format(getattr(case, name)) for name in differ)])
