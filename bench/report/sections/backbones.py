"""The published table on every backbone: where EasyTune's advantage is large, and where it is nothing."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench import claims
from bench.claims.backbones import FLOPS, MEMORY, advantage
from bench.claims.measured import flops_of_a_step, held, peak
from bench.claims.published import TOLERANCE
from bench.labels import NAMES
from bench.records import MemoryRecord
from bench.report import rows as pick
from bench.report import style
from bench.report.figures.common import headline, legend, models, size
from bench.report.sections.section import Records, Section
from bench.report.style import INK, SOFT
from bench.units import GIB


def backbones(records: Records) -> Section:
    title, found = "Every method on every backbone", pick.backbones(records)
    if not found:
        return Section("backbones", title, command=claims.command("--matrix backbones"))
    figures = {models(rows[0]): advantage({row.case.method: row for row in rows}) for rows in found}
    return Section("backbones", title, _see(figures), lambda: _figure(found, figures), _table(found))


def _see(figures: dict[str, dict[str, float]]) -> str:
    """Where the ratios are largest and smallest, and what they come of."""
    said = []
    for what, ratio in (("peak", MEMORY), ("FLOPs an optimiser step", FLOPS)):
        of = {name: row[ratio] for name, row in figures.items() if ratio in row}
        if of:
            least, most = min(of, key=of.__getitem__), max(of, key=of.__getitem__)
            none = [name for name in of if of[name] <= 1 + TOLERANCE]
            said.append(
                f"DRaFT's {what} over EasyTune's: {of[least]:.2f} ({least}) to {of[most]:.2f} ({most})"
                + (f", no more than {TOLERANCE:.0%} above it on {', '.join(none)}." if none else ".")
            )
    calls = {name: row["GiB a held call"] for name, row in figures.items() if "GiB a held call" in row}
    if calls:
        least, most = min(calls, key=calls.__getitem__), max(calls, key=calls.__getitem__)
        ends = " to ".join(f"{style.short(calls[name])} GiB ({name})" for name in (least, most))
        said.append(f"A held denoiser call takes {ends}.")
    return " ".join(said)


def _table(found: Sequence[Sequence[MemoryRecord]]) -> pd.DataFrame:
    """Ratios are to EasyTune's row on the same backbone."""
    shown = []
    for rows in found:
        easytune = next(row for row in rows if row.case.method == claims.published.EASYTUNE)
        for row in rows:
            line = {
                "backbone": row.case.backbone,
                "T": row.case.steps,
                "method": row.case.method,
                "held calls": held(row),
            }
            line |= {"peak": peak(row) / GIB, "peak / EasyTune's": peak(row) / peak(easytune)}
            if row.flops and easytune.flops:
                line["TFLOPs an optimiser step"] = flops_of_a_step(row) / 1e12
                line["FLOPs an optimiser step / EasyTune's"] = flops_of_a_step(row) / flops_of_a_step(easytune)
            shown.append(line)
    return pd.DataFrame(shown)


def _figure(found: Sequence[Sequence[MemoryRecord]], figures: dict[str, dict[str, float]]) -> Figure:
    """Left every method's peak on each backbone, right DRaFT's figures over EasyTune's."""
    figure = style.canvas(style.HEAD + 0.75 + 0.45 * len(found))
    peaks, ratios = figure.subplots(1, 2, sharey=True, width_ratios=(1.6, 1))
    style.margins(figure, 1.85, 0.5, 0.6, wspace=0.1)
    handles: dict[str, Line2D] = {}
    for y, rows in enumerate(found):
        sizes = [peak(row) / GIB for row in rows]
        peaks.plot([min(sizes), max(sizes)], [y, y], color=style.FAINT, linewidth=2.5, zorder=1)
        for row, gib in zip(rows, sizes, strict=True):
            name = pick.family(row.case)
            (mark,) = peaks.plot(gib, y, "o", color=style.colour(name), markersize=7.5, alpha=0.85)
            handles.setdefault(name, mark).set_label(NAMES.get(name, name))
    for ratio, what, marker, face, aside in RATIOS:
        for y, of in enumerate(figures.values()):
            if ratio in of:
                point = (of[ratio], y + aside)
                (mark,) = ratios.plot(*point, marker, color=INK, markerfacecolor=face, markersize=5.5)
                handles.setdefault(what, mark).set_label(what)
                style.note(ratios, f"{of[ratio]:.2f}", point, (7, 0), fontsize=8)
    ratios.axvline(1, color=SOFT, linewidth=1)
    for axes, label in ((peaks, "peak of one update, GiB"), (ratios, "DRaFT's over EasyTune's")):
        axes.set_xscale("log")
        limits = axes.get_xlim()
        ticks = [digit * 10**power for power in range(-3, 6) for digit in (1, 2, 5)]
        shown = [tick for tick in ticks if limits[0] <= tick <= limits[1]]
        axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
        axes.minorticks_off()
        axes.set_xlim(limits)
        axes.grid(axis="x")
        axes.set_xlabel(f"{label} (logarithmic)")
        style.bare(axes, "left")
    steps = [rows[0].case.steps for rows in found]
    peaks.set_yticks(range(len(found)), [f"{name}, T = {total}" for name, total in zip(figures, steps, strict=True)])
    peaks.set_ylim(len(found) - 0.5, -0.5)
    legend(figure, list(handles.values()), columns=len(handles))
    style.title(figure, headline("Every method on every backbone", found[0][0]), size(found[0][0]))
    return figure


RATIOS = ((MEMORY, "peak", "s", INK, -0.18), (FLOPS, "FLOPs an optimiser step", "D", "white", 0.18))
"""Of the right panel: figure, name, marker, its face, how far from the backbone's line."""
