"""The published table on every backbone: where EasyTune's advantage is large, and where it is nothing."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench import claims
from bench.claims.backbones import FLOPS, MEMORY, advantage
from bench.claims.measured import flops_of_a_step, held, peak
from bench.claims.published import TOLERANCE
from bench.labels import backbone_label
from bench.records import MemoryRecord
from bench.report import rows as pick
from bench.report import style
from bench.report.figures.common import headline, legend, size
from bench.report.sections.section import Records, Section
from bench.report.style import INK, SOFT
from bench.units import GIB


def backbones(records: Records) -> Section:
    title, found = "Every method on every backbone", pick.backbones(records)
    if not found:
        return Section("backbones", title, command=claims.command("--matrix backbones"))
    figures = {_name(rows): advantage({row.case.method: row for row in rows}) for rows in found}
    return Section("backbones", title, _see(figures), lambda: _figure(found, figures), _table(found))


def _name(rows: Sequence[MemoryRecord]) -> str:
    return f"{backbone_label(rows[0].case.backbone)}, T = {rows[0].case.steps}"


def _see(figures: dict[str, dict[str, float]]) -> str:
    """Where the ratios are largest and smallest, and what they come of."""
    said = []
    for what, ratio in (("peak memory", MEMORY), ("FLOPs an optimiser step", FLOPS)):
        of = {name: row[ratio] for name, row in figures.items() if ratio in row}
        if len(of) > 1:
            most, least = max(of, key=of.__getitem__), min(of, key=of.__getitem__)
            nothing = [name for name in of if of[name] <= 1 + TOLERANCE]
            said.append(
                f"DRaFT's {what} over EasyTune's is from {of[least]:.2f} ({least}) to {of[most]:.2f} ({most})"
                + (f"; within {TOLERANCE:.0%} of each other or less on {'; '.join(nothing)}." if nothing else ".")
            )
    calls = {name: row["GiB a held call"] for name, row in figures.items() if "GiB a held call" in row}
    said.append(
        "A held denoiser call takes " + ", ".join(f"{style.short(gib)} GiB ({n})" for n, gib in calls.items()) + "."
    )
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
    """Left every method's peak on each backbone, right DRaFT's figures over EasyTune's; both logarithmic."""
    figure = style.canvas(style.HEAD + 0.75 + 0.42 * len(found))
    peaks, ratios = figure.subplots(1, 2, sharey=True, width_ratios=(1.7, 1))
    style.margins(figure, 1.95, 0.35, 0.6, wspace=0.08)
    methods: dict[str, Line2D] = {}
    for y, rows in enumerate(found):
        sizes = [peak(row) / GIB for row in rows]
        peaks.plot([min(sizes), max(sizes)], [y, y], color=style.FAINT, linewidth=2.5, zorder=1)
        for row, gib in zip(rows, sizes, strict=True):
            family = pick.family(row.case)
            look = {"color": style.colour(family), "marker": "o", "markersize": 7, "linestyle": ""}
            (mark,) = peaks.plot(gib, y, alpha=0.9, **look)
            methods.setdefault(family, mark).set_label(row.case.label.partition("-")[0].partition(",")[0])
    for what, marker in ((MEMORY, "s"), (FLOPS, "D")):
        of = [(row[what], y) for y, row in enumerate(figures.values()) if what in row]
        if of:
            filled = INK if what == MEMORY else "white"
            ratios.plot(*zip(*of, strict=True), marker, color=INK, markerfacecolor=filled, markersize=6)
        for value, y in of:
            style.note(ratios, f"{value:.2f}", (value, y), (0, 8 if what == MEMORY else -8), ha="center", fontsize=7.5)
    ratios.axvline(1, color=SOFT, linewidth=1)
    for axes, label in ((peaks, "peak of one update, GiB"), (ratios, "DRaFT's over EasyTune's")):
        axes.set_xscale("log")
        axes.minorticks_off()
        axes.grid(axis="x")
        axes.set_xlabel(f"{label} (logarithmic)")
        style.bare(axes, "left")
    peaks.set_yticks(range(len(found)), figures)
    peaks.set_ylim(len(found) - 0.5, -0.5)
    kinds = [
        Line2D([], [], marker=marker, color=INK, markerfacecolor=face, linestyle="", label=label)
        for marker, face, label in (("s", INK, "peak"), ("D", "white", "FLOPs an optimiser step"))
    ]
    legend(figure, [*methods.values(), *kinds])
    style.title(figure, headline("Every method on every backbone", found[0][0]), size(found[0][0]))
    return figure
