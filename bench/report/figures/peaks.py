"""Each method's peak beside the published table."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from bench.claims import published
from bench.claims.measured import peak, reading_of
from bench.records import MemoryRecord
from bench.report import rows as pick
from bench.report import style
from bench.report.figures.common import headline, legend, where
from bench.report.style import FAINT, INK, SOFT
from bench.units import GIB


def peaks(rows: Sequence[MemoryRecord]) -> Figure:
    """Peak of every method by profile, with the published peak beside it where the scale is the published one."""
    profiles = [p for p in pick.profiles(rows) if pick.table_rows(rows, p)]
    methods = list(dict.fromkeys(r.case.label for p in profiles for r in pick.table_rows(rows, p)))
    figure = style.canvas(style.HEAD + 0.95 + (0.3 + 0.18 * len(profiles)) * len(methods))
    axes = figure.add_subplot()
    style.margins(figure, 1.35, 0.3, 0.55)
    published = pick.scale(rows[0].case) == pick.PUBLISHED_SCALE
    thick = 0.76 / max(2, len(profiles))
    for number, profile in enumerate(profiles):
        for row in pick.table_rows(rows, profile):
            y = methods.index(row.case.label) + (number - (len(profiles) - 1) / 2) * thick
            _peak_bar(axes, row, y, 0.95 * thick, _SHADES[min(number, 2)])
            if published and profile == "paper":
                _published_mark(axes, row, y)
    axes.set_yticks(range(len(methods)), methods)
    axes.set_ylim(len(methods) - 0.5, -0.85 if published else -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("peak of one update, GiB, resident memory included")
    axes.grid(axis="x")
    style.bare(axes, "left")
    if published:
        _base_marks(axes, next(iter(pick.good(rows)), None))
    _profile_legend(figure, profiles, published)
    style.title(figure, headline("Peak memory of one update, by method", rows[0]), where(rows[0]))
    return figure


_SHADES = (1.0, 0.45, 0.2)
"""How much of a method's colour the first, second, third profile keeps."""


def _peak_bar(axes: Axes, row: MemoryRecord, y: float, thick: float, share: float) -> None:
    """The peak as a bar; a row without one as a hatched stub with its status."""
    shade = style.tint(style.colour(row.case.method), share)
    if not row.ok:
        corner, size = (0, y - 0.45 * thick), (0.08, 0.9 * thick)
        stub = Rectangle(corner, *size, facecolor="white", edgecolor=style.colour(row.case.method), hatch="////")
        stub.set_transform(axes.get_yaxis_transform())  # no length: its width is a share of the axes
        axes.add_artist(stub)
        words = {"oom": "out of memory", "unavailable": "meter not available here"}.get(row.status, row.status)
        axes.text(0.09, y, words, transform=axes.get_yaxis_transform(), va="center", fontsize=9)
        return
    size_gib = peak(row) / GIB
    axes.barh(y, size_gib, thick, color=shade)
    style.note(axes, style.short(size_gib), (size_gib, y), (-5, 0), ha="right", color=style.on(shade))


def _published_mark(axes: Axes, row: MemoryRecord, y: float) -> None:
    """The published figure as the interval between its two readings as GB and as GiB."""
    value = published.PUBLISHED.get(row.case.method)
    if value is None:
        return
    low = value * published.GB / GIB
    axes.plot([low, value], [y, y], color=INK, linewidth=1.6, marker="|", markersize=11, markeredgewidth=1.6)
    style.note(axes, f"{value:.2f}", (value, y), (6, 0))


def _base_marks(axes: Axes, row: MemoryRecord | None) -> None:
    """What the published base is, and what sampling takes here."""
    low, high = published.PUBLISHED_BASE * published.GB / GIB, published.PUBLISHED_BASE
    axes.axvspan(low, high, color=FAINT, zorder=0, linewidth=0)
    style.note(axes, f"published base {high}", (high, -0.75), (4, 0), color=SOFT)
    if row:
        sampling = reading_of(row).sampling / GIB
        axes.axvline(sampling, color=INK, linewidth=1.2, linestyle=(0, (2, 2)), zorder=3)
        style.note(axes, f"sampling without gradients {style.short(sampling)}", (sampling, -0.75), (4, 0), color=SOFT)


def _profile_legend(figure: Figure, profiles: Sequence[str], published: bool) -> None:
    names = {"paper": "reward not frozen, as released (paper)", "frozen": "reward frozen (frozen)"}
    handles: list = [
        Patch(color=style.tint("#444444", _SHADES[min(n, 2)]), label=names.get(profile, profile))
        for n, profile in enumerate(profiles)
    ]
    if published:
        mark = Line2D([], [], color=INK, marker="|", markersize=10, markeredgewidth=1.6, linewidth=1.6)
        mark.set_label("published figure, read as GB (left) or GiB (right)")
        handles.append(mark)
    legend(figure, handles)
