"""Where an update's bytes are: the peaks, what counts as additional, phases, owners, the time line, every row."""

from collections.abc import Sequence

import pandas as pd

from bench import claims, tables
from bench.claims import published, table
from bench.claims.measured import peak, reading_of
from bench.claims.published import EASYTUNE
from bench.meters.reading import Owner
from bench.records import MemoryRecord
from bench.report import figures
from bench.report import rows as pick
from bench.report.sections.section import Records, Section
from bench.units import GIB


def peaks(records: Records) -> Section:
    title, rows = "Peak memory", pick.table(records)
    shown = [r for profile in pick.profiles(rows) for r in pick.table_rows(rows, profile)]
    if not shown:
        return Section("peaks", title, command=claims.command("--matrix default"))
    beside = " beside the published figures" if pick.scale(rows[0].case) == pick.PUBLISHED_SCALE else ""
    see = f"Each method's peak over one whole update{beside}.{_saved_by_freezing(rows)}"
    return Section("peaks", title, see, lambda: figures.peaks(rows), tables.memory(shown))


def _saved_by_freezing(rows: Sequence[MemoryRecord]) -> str:
    """By how much the peaks of methods differ that were run both ways, in a sentence after a space; empty for none."""
    peaks = {(r.case.method, r.case.profile): peak(r) for r in pick.good(rows) if pick.of_table(r.case)}
    changes = [
        (peaks[method, "frozen"] - size) / GIB
        for (method, profile), size in peaks.items()
        if profile == "paper" and (method, "frozen") in peaks
    ]
    if not changes:
        return ""
    low, high = (f"{change:+.2f}" for change in (min(changes), max(changes)))
    by = low if low == high else f"{low} to {high}"
    return (
        f" Freezing the reward changes the peak by {by} GiB ({len(changes)} method{'s' if len(changes) > 1 else ''})."
    )


def base(records: Records) -> Section:
    title, rows = 'What "additional memory" depends on', pick.good(pick.table(records))
    pairs = [pair for profile in ("paper", "frozen") if (pair := _draft_and_easytune(rows, profile))]
    if not pairs or pairs[0][0].case.profile != "paper" or pick.scale(rows[0].case) != pick.PUBLISHED_SCALE:
        return Section("base", title, command=claims.command("--matrix published --profile paper --profile frozen"))
    draft, easytune = map(reading_of, pairs[0])
    moves = "falls" if easytune.peak < draft.peak else "does not fall"
    see = (
        f"EasyTune's share of DRaFT-50's memory beyond a base {moves} as the base grows. The published "
        f"{published.PUBLISHED_SHARE:.2%} needs a base of {table.matching_base(draft, easytune) / GIB:.2f} GiB; "
        f"sampling takes {easytune.sampling / GIB:.2f} GiB here."
    )
    return Section("base", title, see, lambda: figures.base(pairs))


def _draft_and_easytune(rows: Sequence[MemoryRecord], profile: str) -> tuple[MemoryRecord, MemoryRecord] | None:
    by_method = {r.case.method: r for r in rows if r.case.profile == profile}
    draft, easytune = by_method.get(published.DRAFT), by_method.get(EASYTUNE)
    return (draft, easytune) if draft and easytune else None


def split(records: Records) -> Section:
    title, rows = "Where the bytes are", pick.table(records)
    shown = [r for p in pick.profiles(rows) for r in pick.table_rows(pick.good(rows), p) if reading_of(r).split]
    if not shown:
        return Section("split", title, command=claims.command("--matrix published --profile paper --profile frozen"))
    easytune = next((r for r in shown if r.case.method == EASYTUNE), None)
    see = "What is alive at the moment of the peak beyond the resident memory, by the phase that allocated it."
    if easytune:
        see += f" Of EasyTune's peak: {', '.join(f'{part} {share:.1%}' for part, share in shares(easytune).items())}."
    return Section("split", title, see, lambda: figures.split(shown), _split_table(shown))


def shares(row: MemoryRecord) -> dict[str, float]:
    """Of a row's peak, by the phase that allocated them, then what is resident; phases of 0.0% are left out."""
    born = {phase: sum(of.values()) / peak(row) for phase, of in reading_of(row).split.items()}
    seen = {phase: share for phase, share in born.items() if share > SEEN}
    return {**seen, "resident": reading_of(row).resident / peak(row)}


def _split_table(rows: Sequence[MemoryRecord]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "method": row.case.method,
            "profile": row.case.profile,
            "phase of birth": phase,
            "category": category,
            "GiB": size / GIB,
        }
        for row in rows
        for phase, of in reading_of(row).split.items()
        for category, size in of.items()
        if size
    )


SEEN = 0.0005
"""Of a peak: less is 0.0%, and not named."""
OWNERS = 12
"""Modules that are named; the rest is one row."""


def owners(records: Records) -> Section:
    title, rows = "Who holds them", [r for r in pick.good(pick.table(records)) if reading_of(r).owners]
    row = next((r for r in rows if r.case.method == EASYTUNE), None)
    if row is None:
        return Section("owners", title, command=claims.command("--matrix published"))
    frame = _owners_table(row)
    first = frame.iloc[0]
    see = (
        f"EasyTune's peak ({row.case.profile}) by the module that allocated it, numbered layers as one. The largest, "
        f"{first['module']}, has {first['share, %']:.1f}% of it."
    )
    return Section("owners", title, see, None, frame)


def _owners_table(row: MemoryRecord) -> pd.DataFrame:
    held: dict[tuple[str, str, str], list[Owner]] = {}
    for owner in reading_of(row).owners:
        held.setdefault((owner.phase, owner.category, owner.module), []).append(owner)
    named = sorted(held.items(), key=lambda item: -_bytes(item[1]))
    shown = [
        {
            "phase of birth": phase,
            "category": category,
            "module": module or "(no module)",
            "GiB": _bytes(group) / GIB,
            "share, %": 100 * _bytes(group) / peak(row),
            "largest": f"{group[0].operator}, {group[0].where}",
        }
        for (phase, category, module), group in named[:OWNERS]
    ]
    rest = sum(_bytes(group) for _, group in named[OWNERS:])
    others = {"module": f"{len(named) - OWNERS} others", "GiB": rest / GIB, "share, %": 100 * rest / peak(row)}
    return pd.DataFrame([*shown, *([others] if len(named) > OWNERS else [])])


def _bytes(owners: Sequence[Owner]) -> int:
    return sum(owner.bytes for owner in owners)


def timeline(records: Records) -> Section:
    title, rows = "Over one update", pick.table(records)
    profile = next((p for p in pick.profiles(rows) if pick.table_rows(pick.good(rows), p)), "")
    shown = [r for r in pick.table_rows(pick.good(rows), profile) if reading_of(r).timeline]
    if not shown:
        return Section("timeline", title, command=claims.command("--matrix published"))
    see = f"Live memory while one update runs.{_scores(shown)}"
    return Section("timeline", title, see, lambda: figures.timeline(shown))


def _scores(rows: Sequence[MemoryRecord]) -> str:
    """How often each method reads the reward, in a sentence after a space; empty without plans."""
    by_count: dict[int, list[str]] = {}
    for row in rows:
        if row.plan:
            by_count.setdefault(row.plan.scores, []).append(row.case.label.partition(",")[0])
    counts = [
        f"{'once' if count == 1 else f'{count} times'} by {', '.join(methods)}"
        for count, methods in sorted(by_count.items())
    ]
    return f" The reward is read {'; '.join(counts)}." if counts else ""


def memory(records: Records) -> Section:
    title, rows = "All memory rows", pick.memory(records)
    if not rows:
        return Section("memory", title, command=claims.command("--matrix default"))
    bad = len(rows) - len(pick.good(rows))
    see = f"GiB; {len(rows)} rows" + (
        f", {bad} of them without a figure: the reason stands in the row." if bad else "."
    )
    return Section("memory", title, see, None, tables.memory(rows))
