"""Where the bytes are at the peak."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from bench.claims.measured import reading_of
from bench.records import MemoryRecord
from bench.report import rows as pick
from bench.report import style
from bench.report.figures.common import headline, legend, where
from bench.report.style import SOFT
from bench.units import GIB
from methods.rollout import PHASES


def split(rows: Sequence[MemoryRecord]) -> Figure:
    """Bytes at the peak beyond the resident ones, stacked by the phase that allocated them."""
    profiles = pick.profiles(rows)
    figure = style.canvas(style.HEAD + 0.75 + 0.40 * len(rows))
    axes = figure.add_subplot()
    style.margins(figure, 1.95, 0.3, 0.55)
    heights = [y + 0.5 * profiles.index(r.case.profile) for y, r in enumerate(rows)]
    longest = max(map(_beyond_resident, rows))
    hatched = [_stack(axes, row, y, longest) for y, row in zip(heights, rows, strict=True)]
    names = [f"{r.case.label}  ({r.case.profile})" for r in rows]
    axes.set_yticks(heights, names)
    axes.set_ylim(heights[-1] + 0.6, -0.6)
    resident = sorted({f"{style.short(reading_of(r).resident / GIB)} {r.case.profile}" for r in rows}, reverse=True)
    axes.set_xlabel(f"GiB at the peak beyond resident memory ({', '.join(resident)})")
    axes.grid(axis="x")
    style.bare(axes, "left")
    style.title(
        figure, headline("Where the bytes are at the peak, by the phase that allocated them", rows[0]), where(rows[0])
    )
    handles = [Patch(color=style.PHASE_COLOURS[p], label=_PHASE_NAMES[p]) for p in PHASES[:3]]
    if any(hatched):
        handles.append(Patch(facecolor="white", edgecolor=SOFT, hatch="////", label="not activations"))
    legend(figure, handles)
    return figure


_PHASE_NAMES = {
    "rollout": "rollout: graphs of denoiser calls",
    "decode": "decode: the decoder's graph",
    "reward": "reward: its graph",
}


def _stack(axes: Axes, row: MemoryRecord, y: float, longest: float) -> bool:
    """One bar: a segment for every phase and category that is more than a hairline; whether any was hatched."""
    reach, hatched = 0.0, False
    for phase in PHASES:
        for category, size in reading_of(row).split.get(phase, {}).items():
            width, shade, plain = size / GIB, style.PHASE_COLOURS[phase], category == "activations"
            if width > 0.002 * longest:
                hatch = None if plain else "////"
                hatched |= not plain
                axes.barh(y, width, 0.72, left=reach, color=shade, hatch=hatch, edgecolor="white", linewidth=0.8)
            if width > 0.04 * longest:
                style.note(axes, style.short(width), (reach + width / 2, y), (0, 0), ha="center", color=style.on(shade))
            reach += width
    style.note(axes, style.short(reach), (reach, y), (5, 0), fontweight="bold")
    return hatched


def _beyond_resident(row: MemoryRecord) -> float:
    """GiB at the peak that were not resident."""
    return sum(sum(of.values()) for of in reading_of(row).split.values()) / GIB
