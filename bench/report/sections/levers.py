"""What each lever of memory gives, for every method alike, and what it leaves of the differences between them."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench import claims
from bench.cases import TABLE, at
from bench.claims import published
from bench.claims.alignment import HOW, NOISE_AWARE, to_levels
from bench.claims.measured import flops_of_a_step, peak, reading_of
from bench.claims.published import ALIGNPROP, DRAFT, EASYTUNE
from bench.profiles import LEVERS
from bench.records import AlignmentRecord, MemoryRecord
from bench.report import rows as pick
from bench.report import style
from bench.report.figures.common import headline, legend, where
from bench.report.sections.section import Records, Section
from bench.units import GIB
from methods.rollout import PHASES

NAMES = {spec: name for name, spec in LEVERS.items()}
COSTS_AS = {"alignprop": ALIGNPROP, NOISE_AWARE: EASYTUNE}
"""Methods whose optimiser step takes as many FLOPs, to 0.3% at the published size: AlignProp's draws hold half of the
calls on average, and a noise-aware reward reads one token more."""
OVER, SHARE = "FLOPs / EasyTune's", "share of DRaFT-T's gain"


def levers(records: Records) -> Section:
    title, pulled = "Every lever for every method", pick.levers(records)
    if not pulled:
        return Section("levers", title, command=claims.command("--matrix levers"))
    note = "Each lever comes on top of those before it; the gradient stays that of a frozen reward."
    see = " ".join(_said(pulled)) or note
    return Section("levers", title, see, lambda: _figure(pulled), _table(pulled), note=note)


def _said(pulled: list[list[MemoryRecord]]) -> list[str]:
    """What is left between DRaFT and EasyTune, from the first to the last of the levers that both were run under."""
    both = []
    for rows in pulled:
        by_method = {row.case.method: row for row in rows}
        if DRAFT in by_method and EASYTUNE in by_method:
            both.append((by_method[DRAFT], by_method[EASYTUNE]))
    if len(both) < 2:
        return []
    said = []
    most = max(both, key=lambda pair: peak(pair[0]) / peak(pair[1]))
    ends = {NAMES[row.case.profile]: peak(row) / peak(other) for row, other in (both[0], most, both[-1])}
    ratios = ", ".join(f"{ratio:.2f} ({name})" for name, ratio in ends.items())
    said.append(f"DRaFT's peak over EasyTune's: {ratios}.")
    shares = ", ".join(f"{_share(*pair):.1%} ({NAMES[pair[0].case.profile]})" for pair in (both[0], both[-1]))
    said.append(f"EasyTune's share beyond the resident bytes: {shares}; {published.PUBLISHED_SHARE:.2%} is published.")
    counted = [pair for pair in (both[0], both[-1]) if all(row.flops for row in pair)]
    if len(counted) == 2:
        steps = ", ".join(
            f"{flops_of_a_step(d) / flops_of_a_step(e):.2f} ({NAMES[d.case.profile]})" for d, e in counted
        )
        said.append(f"FLOPs an optimiser step: {steps}; {published.PUBLISHED_SPEEDUP:g} times less time is published.")
    return said


def _share(draft: MemoryRecord, easytune: MemoryRecord) -> float:
    beyond = [reading.peak - reading.resident for reading in map(reading_of, (easytune, draft))]
    return beyond[0] / beyond[1]


def _table(pulled: list[list[MemoryRecord]]) -> pd.DataFrame:
    """Ratios are to EasyTune's row under the same lever."""
    shown = []
    for rows in pulled:
        easytune = next((row for row in rows if row.case.method == EASYTUNE), None)
        for row in rows:
            line: dict = {"lever": NAMES[row.case.profile], "method": row.case.method, "peak": peak(row) / GIB}
            line |= {phase: reading_of(row).phases[phase] / GIB for phase in PHASES}
            if easytune:
                line["peak / EasyTune's"] = peak(row) / peak(easytune)
            if row.flops:
                line |= {"TFLOPs": row.flops / 1e12, "TFLOPs an optimiser step": flops_of_a_step(row) / 1e12}
                if easytune and easytune.flops:
                    line["FLOPs an optimiser step / EasyTune's"] = flops_of_a_step(row) / flops_of_a_step(easytune)
                    line["FLOPs a trajectory / EasyTune's"] = row.flops / easytune.flops
            shown.append(line)
    return pd.DataFrame(shown)


def to_equal_reward(records: Records) -> Section:
    """What is left of the differences where methods are compared at one level of reward, not after as many steps."""
    title, pulled, aligned = "Every lever, to equal levels of reward", pick.levers(records), pick.aligned(records)
    table = _to_levels(pulled, aligned)
    if not len(table):
        command = claims.command("--matrix levers --align full", "'memory or alignment'")
        return Section("levers_to_levels", title, command=command)
    here, there = aligned[0].case, pulled[0][0].case
    computed = (
        f"Computed, not measured: optimiser steps counted in the {here.world} world, times FLOPs of one at batch "
        f"{there.batch}, {there.frames} frames."
    )
    note = (
        f"Steps are read off mean validation curves at T = {here.steps} and batch {here.batch}; whether a model of "
        f"another size takes as many is not known. FLOPs are of T = {there.steps}. A cell is empty where a method "
        "never gets there. EasyTune is the one with the noise-aware reward, where it was run; its step is counted as "
        "one with the one-step prediction, and AlignProp's random K as its mean (0.3% off)."
    )
    see = " ".join([*_said_of_levels(table), computed])
    return Section("levers_to_levels", title, see, None, table, note=note)


def _to_levels(pulled: list[list[MemoryRecord]], aligned: list[AlignmentRecord]) -> pd.DataFrame:
    """FLOPs to the levels of bench.claims.alignment.to_levels, under the first lever and under the last. Methods that
    no row stands for are left out."""
    levels = to_levels(aligned, [])
    if not pulled or not len(levels):
        return pd.DataFrame()
    methods, level = levels["method"], ["level of", SHARE]
    easytune = next((name for name in HOW if name in set(methods)), None)
    alike = {at(method, aligned[0].case.steps): at(method, pulled[0][0].case.steps) for method in TABLE} | COSTS_AS
    shown = levels[[*level, "method"]].assign(**{"optimiser steps": levels["updates"]})
    for rows in (pulled[0], pulled[-1]):
        costs = methods.map(alike).map({row.case.method: flops_of_a_step(row) for row in rows if row.flops})
        flops, name = levels["updates"] * costs, NAMES[rows[0].case.profile]
        theirs = flops.where(methods == easytune).groupby([levels[column] for column in level]).transform("first")
        shown[f"TFLOPs ({name})"] = flops / 1e12
        shown[f"{OVER} ({name})"] = flops / theirs
    return shown[costs.notna()]


def _said_of_levels(table: pd.DataFrame) -> list[str]:
    """DRaFT against EasyTune at the highest level that both reach, by the reward and by the evaluator."""
    said = []
    for measure, rows in table[table["method"] == DRAFT].dropna().groupby("level of", sort=False):
        last = rows.iloc[-1]
        ratios = ", ".join(f"{last[name]:.2f}{name.removeprefix(OVER)}" for name in rows if name.startswith(OVER))
        said.append(f"DRaFT's FLOPs over EasyTune's, to {last[SHARE]} of DRaFT's gain in {measure}: {ratios}.")
    return said


def _figure(pulled: list[list[MemoryRecord]]) -> Figure:
    """A line a method over the levers, on a logarithmic scale."""
    figure = style.canvas(style.HEAD + 4.4)
    axes = figure.subplots()
    style.margins(figure, 0.6, 0.2, 1.35)
    names = [NAMES[rows[0].case.profile] for rows in pulled]
    by_method: dict[str, list[tuple[int, MemoryRecord]]] = {}
    for position, rows in enumerate(pulled):
        for row in rows:
            by_method.setdefault(row.case.method, []).append((position, row))
    handles: list[Line2D] = []
    for method, points in by_method.items():
        x, y = [position for position, _ in points], [peak(row) / GIB for _, row in points]
        name = points[0][1].case.label
        handles += axes.plot(x, y, color=style.colour(method), marker="o", markersize=4.5, linewidth=1.8, label=name)
    axes.set_yscale("log")
    ticks = [0.5, 1, 2, 5, 10, 20, 40]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xticks(range(len(names)), names, rotation=28, ha="right")
    axes.set_ylabel("peak, GiB (logarithmic)")
    axes.grid(axis="y")
    legend(figure, handles)
    first = pulled[0][0]
    style.title(figure, headline("Peak memory as every lever is pulled for every method", first), where(first))
    return figure
