"""What "additional memory" depends on: the share over every base."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bench.claims import published, table
from bench.claims.measured import reading_of
from bench.meters.reading import Reading
from bench.records import MemoryRecord
from bench.report import style
from bench.report.figures.common import headline, legend, where
from bench.report.style import FAINT, INK, SOFT
from bench.units import GIB


def base(pairs: Sequence[tuple[MemoryRecord, MemoryRecord]]) -> Figure:
    """EasyTune's share of DRaFT's memory beyond a base, against that base: claim C1 under every base at once.

    `pairs`: (DRaFT's row, EasyTune's row) of each profile, the one that is judged first.
    """
    figure = style.canvas(style.HEAD + 3.7)
    axes = figure.add_subplot()
    style.margins(figure, 0.75, 0.3, 0.55)
    easytune = pairs[0][1]
    for number, (draft, row) in enumerate(pairs):
        top, low = reading_of(draft).peak, reading_of(row).peak
        bases = [low * n / 200 for n in range(201)]
        shade = style.tint(style.COLOURS["easytune"], 1 if number == 0 else 0.45)
        axes.plot([b / GIB for b in bases], [(low - b) / (top - b) for b in bases], color=shade, linewidth=2)
    axes.axhline(published.PUBLISHED_SHARE, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.text(0.2, published.PUBLISHED_SHARE + 0.008, f"published: {published.PUBLISHED_SHARE:.2%}", fontsize=9.5)
    axes.axvspan(
        published.PUBLISHED_BASE * published.GB / GIB, published.PUBLISHED_BASE, color=FAINT, zorder=0, linewidth=0
    )
    _base_points(axes, *(reading_of(row) for row in pairs[0]))
    axes.set_ylim(0, 0.72)
    axes.set_xlim(0, reading_of(easytune).peak / GIB * 1.13)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel("base that is subtracted from both peaks, GiB")
    axes.set_ylabel("EasyTune's share of DRaFT-50")
    axes.grid(axis="y")
    text = "The published share depends on what is called base memory"
    style.title(figure, headline(text, easytune), where(easytune))
    handles = [
        Line2D([], [], color=style.tint(style.COLOURS["easytune"], shade), linewidth=2, label=f"profile {name}")
        for (_, row), shade in zip(pairs, (1, 0.45), strict=False)
        for name in [row.case.profile]
    ]
    legend(figure, [*handles, Patch(color=FAINT, label="published base 15.21, read as GB (left) or GiB (right)")])
    return figure


def _base_points(axes: Axes, draft: Reading, easytune: Reading) -> None:
    """The bases that can be named, on the curve."""
    match = table.matching_base(draft, easytune)
    marks = [
        (easytune.resident, "resident", (5, 17)),
        (easytune.sampling, "sampling peak", (9, 6)),
        (match, f"{match / GIB:.2f} GiB", (62, 50)),
        (published.PUBLISHED_BASE * published.GB, "15.21 GB", (51, 27)),
        (published.PUBLISHED_BASE * GIB, "15.21 GiB", (15, 8)),
    ]
    leader = {"arrowstyle": "-", "color": SOFT, "linewidth": 0.8, "shrinkB": 3, "relpos": (0, 0.5)}
    for size, text, offset in marks:
        share = (easytune.peak - size) / (draft.peak - size)
        axes.plot(size / GIB, share, "o", color=style.COLOURS["easytune"], markersize=7, markeredgecolor="white")
        arrow = leader if abs(offset[0]) > 40 else None
        style.note(axes, f"{text}: {share:.1%}", (size / GIB, share), offset, fontsize=9.5, arrowprops=arrow)
