"""Where an update's bytes are: the peaks, what counts as additional, phases, owners, the time line, every row."""

import pandas as pd

from bench import claims, tables
from bench.claims import forecast, published, table
from bench.claims.published import EASYTUNE
from bench.report import figures
from bench.report import rows as pick
from bench.report.sections.section import Records, Section
from bench.units import GIB


def peaks(records: Records) -> Section:
    title, rows = "Peak memory", pick.table(records)
    shown = [r for profile in pick.profiles(rows) for r in pick.table_rows(rows, profile)]
    if not shown:
        return Section("peaks", title, command=claims.command("--matrix default"))
    beside = " beside the published figures" if pick.scale(rows[0]) == pick.PUBLISHED_SCALE else ""
    see = f"Each method's peak over one whole update{beside}."
    if "frozen" in pick.profiles(shown):
        see += " Freezing the reward saves what its unused weight gradients keep alive, for every method alike."
    return Section("peaks", title, see, lambda: figures.peaks(rows), tables.memory(shown))


def base(records: Records) -> Section:
    title, rows = 'What "additional memory" hangs on', pick.good(pick.table(records))
    pairs = [pair for profile in ("paper", "frozen") if (pair := _draft_and_easytune(rows, profile))]
    if not pairs or pairs[0][0]["case"]["profile"] != "paper" or pick.scale(rows[0]) != pick.PUBLISHED_SCALE:
        return Section("base", title, command=claims.command("--matrix published --profile paper --profile frozen"))
    sampling = pairs[0][1]["reading"]["sampling"]
    see = (
        f"EasyTune's share of DRaFT-50's memory beyond a base falls as the base grows; the published "
        f"{published.PUBLISHED_SHARE:.2%} needs a base of "
        f"{table.matching_base(*(r['reading'] for r in pairs[0])) / GIB:.2f} GiB, while sampling takes "
        f"{sampling / GIB:.2f} GiB here."
    )
    return Section("base", title, see, lambda: figures.base(pairs))


def _draft_and_easytune(rows: Records, profile: str) -> tuple[dict, dict] | None:
    by_method = {r["case"]["method"]: r for r in rows if r["case"]["profile"] == profile}
    draft, easytune = by_method.get(published.DRAFT), by_method.get(EASYTUNE)
    return (draft, easytune) if draft and easytune else None


def split(records: Records) -> Section:
    title, rows = "Where the bytes are", pick.table(records)
    shown = [r for p in pick.profiles(rows) for r in pick.table_rows(pick.good(rows), p) if r["reading"]["split"]]
    if not shown:
        return Section("split", title, command=claims.command("--matrix published --profile paper --profile frozen"))
    easytune = next((r for r in shown if r["case"]["method"] == EASYTUNE), None)
    see = "What is alive at the moment of the peak beyond the resident memory, by the phase that allocated it."
    if easytune:
        share = forecast.one_call(easytune) / easytune["reading"]["peak"]
        see += f" Of EasyTune's peak the denoiser is {share:.1%}; decode and reward are nearly all the rest."
    return Section("split", title, see, lambda: figures.split(shown), _split_table(shown))


def _split_table(rows: Records) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "method": row["case"]["method"],
            "profile": row["case"]["profile"],
            "phase of birth": phase,
            "category": category,
            "GiB": size / GIB,
        }
        for row in rows
        for phase, of in row["reading"]["split"].items()
        for category, size in of.items()
        if size
    )


OWNERS = 12
"""Modules that are named; the rest is one row."""


def owners(records: Records) -> Section:
    title, rows = "Who holds them", [r for r in pick.good(pick.table(records)) if r["reading"].get("owners")]
    row = next((r for r in rows if r["case"]["method"] == EASYTUNE), None)
    if row is None:
        return Section("owners", title, command=claims.command("--matrix published"))
    frame = _owners_table(row)
    first = frame.iloc[0]
    see = (
        f"EasyTune's peak ({row['case']['profile']}) by the module that allocated it, numbered layers as one. The "
        f"largest single owner, {first['module']}, has {first['share, %']:.1f}% of it: no one layer is to blame."
    )
    return Section("owners", title, see, None, frame)


def _owners_table(row: dict) -> pd.DataFrame:
    held: dict[tuple[str, str, str], list[dict]] = {}
    for owner in row["reading"]["owners"]:
        held.setdefault((owner["phase"], owner["category"], owner["module"]), []).append(owner)
    named = sorted(held.items(), key=lambda item: -sum(o["bytes"] for o in item[1]))
    peak = row["reading"]["peak"]
    shown = [
        {
            "phase of birth": phase,
            "category": category,
            "module": module or "(no module)",
            "GiB": sum(o["bytes"] for o in group) / GIB,
            "share, %": 100 * sum(o["bytes"] for o in group) / peak,
            "largest": f"{group[0]['operator']}, {group[0]['where']}",
        }
        for (phase, category, module), group in named[:OWNERS]
    ]
    rest = sum(o["bytes"] for _, group in named[OWNERS:] for o in group)
    others = {"module": f"{len(named) - OWNERS} others", "GiB": rest / GIB, "share, %": 100 * rest / peak}
    return pd.DataFrame([*shown, *([others] if len(named) > OWNERS else [])])


def timeline(records: Records) -> Section:
    title, rows = "Over one update", pick.table(records)
    profile = next((p for p in pick.profiles(rows) if pick.table_rows(pick.good(rows), p)), "")
    shown = [r for r in pick.table_rows(pick.good(rows), profile) if r["reading"]["timeline"]]
    if not shown:
        return Section("timeline", title, command=claims.command("--matrix published"))
    see = (
        "Methods that score once hold every graph until the reward is read; EasyTune builds and frees the same decode "
        "and reward graphs at every step."
    )
    return Section("timeline", title, see, lambda: figures.timeline(shown))


def memory(records: Records) -> Section:
    title, rows = "All memory rows", pick.memory(records)
    if not rows:
        return Section("memory", title, command=claims.command("--matrix default"))
    bad = len(rows) - len(pick.good(rows))
    see = f"GiB; {len(rows)} rows" + (
        f", {bad} of them without a figure: the reason stands in the row." if bad else "."
    )
    return Section("memory", title, see, None, tables.memory(rows))
