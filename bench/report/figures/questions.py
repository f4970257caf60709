"""The small figures of the first screen: what a glance takes in, without a title, for a tile half a page wide."""

from collections.abc import Callable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from bench.alignment.reading import mean_curve
from bench.claims import Outcome
from bench.claims.alignment import gained
from bench.claims.measured import alignment_of, peak, reading_of
from bench.motion.metrics import METRICS
from bench.records import AlignmentRecord, MemoryRecord
from bench.report import style
from bench.report.figures.common import exactly
from bench.report.figures.common import mark as point
from bench.report.style import FAINT, SOFT
from bench.units import GIB
from methods.rollout import PHASES

Rows = Sequence[MemoryRecord]
CARDS = (16, 24, 40, 80)
"""GiB of common cards."""
HAIRLINE = 0.001
"""Of a bar: less cannot be seen, and is not named."""


def by_verdict(words: Mapping[str, str]) -> Figure:
    """A square a claim, by its verdict in words; `words` by the claim's id."""
    lines: dict[str, list[str]] = {}
    for claim, word in words.items():
        lines.setdefault(word, []).append(claim)
    order = sorted(lines, key=lambda word: (word == Outcome.NOT_JUDGED, style.tone(word) == style.OTHER_TONE, word))
    figure, axes = _small(order)
    for y, word in enumerate(order):
        for x, claim in enumerate(lines[word]):
            axes.barh(y, 0.92, 0.82, x, color=style.tone(word))
            axes.text(x + 0.46, y, claim, ha="center", va="center", fontsize=8, color="white")
    axes.set_xlim(0, max(6, *map(len, lines.values())))
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    return figure


def by_phase(rows: Rows) -> Figure:
    """Each method's peak, by the phase that allocated it."""
    figure, axes = _small([row.case.label for row in rows])
    drawn: dict[str, str] = {}
    for y, row in enumerate(rows):
        split, reach = reading_of(row).split, 0.0
        sizes = {
            "resident": reading_of(row).resident,
            **{phase: sum(split.get(phase, {}).values()) for phase in PHASES},
        }
        for part, size in sizes.items():
            if size > HAIRLINE * peak(row):
                drawn[part] = style.PHASE_COLOURS.get(part, SOFT)
                axes.barh(y, size / GIB, 0.72, reach, color=drawn[part])
            reach += size / GIB
    axes.set_xlabel("peak, GiB", fontsize=8)
    handles = [Patch(color=shade, label=part) for part, shade in drawn.items()]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), fontsize=8, handlelength=1)
    return figure


def bars(sets: Sequence[Rows], size: Callable[[MemoryRecord], int] = peak) -> Figure:
    """Bytes of each method of the first set, beside the sizes of common cards; of the second set as well, where there
    is one, with every lever pulled."""
    names = [row.case.label for row in sets[0]]
    figure, axes = _small(names)
    for number, rows in enumerate(sets):
        for row in rows:
            if row.case.label in names:
                y, reach = names.index(row.case.label) + 0.4 * number, size(row) / GIB
                axes.barh(y, reach, 0.72 if len(sets) == 1 else 0.36, color=style.colour(row.case.method))
                style.note(axes, style.short(reach), (reach, y), (3, 0), fontsize=8)
    most = axes.get_xlim()[1]
    for card in CARDS:
        if card < most:
            axes.axvline(card, color=SOFT, linewidth=0.8, linestyle=(0, (3, 3)))
            axes.text(card, -0.62, f"{card} GiB card", fontsize=7, color=SOFT, ha="center", va="bottom")
    if len(sets) > 1:
        axes.set_ylim(len(names) - 0.2, -0.5)
    axes.set_xlabel("GiB: as released, and below it with every lever pulled" if len(sets) > 1 else "GiB", fontsize=8)
    return figure


def gains(rows: Sequence[AlignmentRecord]) -> Figure:
    """What each method gains over the base, with intervals that hold all at once; its memory and time stand beside its
    name."""
    names = []
    for row in rows:
        measured = alignment_of(row)
        cost = f"{measured.memory.peak / 2**20:.0f} MiB, {mean_curve(measured.curves)[-1].cpu_seconds:.0f} s"
        names.append(f"{row.case.label}: {cost}")
    figure, axes = _small(names)
    axes.axvline(0, color=FAINT, linewidth=1)
    for y, (row, gains) in enumerate(zip(rows, gained(rows), strict=True)):
        looks = {"marker": "o", "markersize": 4.5, "linestyle": "none", "color": style.colour(row.case.method)}
        point(axes, gains["r1", ""], exactly(y), **looks)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:+.0f}")
    axes.set_xlabel(f"gain in {METRICS['r1'].label}, points", fontsize=8)
    return figure


def _small(names: Sequence[str]) -> tuple[Figure, Axes]:
    """A figure of one line a name."""
    figure = Figure(figsize=(4.2, max(1.7, 0.45 + 0.21 * len(names))), layout="constrained")
    axes = figure.subplots()
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="x", labelsize=8)
    style.bare(axes, "left")
    return figure, axes
