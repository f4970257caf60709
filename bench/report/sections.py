"""What the report shows, in order: of every section one sentence that says what to see, a figure and a table.

A section without data in the records keeps its title and says which command would fill it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from bench import claims, tables
from bench.cases import Case
from bench.claims import Verdict, compare, forecast, published, table
from bench.claims.published import EASYTUNE
from bench.claims.verdict import NotJudgedError
from bench.report import figures, style
from bench.report import rows as pick
from bench.units import GIB

Records = Sequence[dict]


@dataclass(frozen=True)
class Section:
    """One part of the report; `name` is the stem of its files."""

    name: str
    title: str
    see: str = ""
    """What to see, in a sentence; empty where there is no data."""
    figure: Callable[[], Figure] | None = None
    table: pd.DataFrame | None = None
    command: str = ""
    """What would fill it."""


@dataclass(frozen=True)
class Report:
    """Everything that is shown."""

    verdicts: list[Verdict]
    runs: pd.DataFrame
    """Where the rows come from, and how they ended."""
    caveat: str
    """What a reader should know about those rows, if anything."""
    sections: list[Section]


SIMULATED = (
    "Simulated rows count the bytes of live tensors as CUDA would allocate them, on no device: workspaces of kernels, "
    "fragmentation and the CUDA context are not in them."
)


def build(records: Records) -> Report:
    caveat = SIMULATED if any(r["case"]["meter"] == "simulated" for r in records) else ""
    return Report(claims.judge(records), runs(records), caveat, [make(records) for make in SECTIONS])


def runs(records: Records) -> pd.DataFrame:
    """One row a place and commit: what was run there, and how many rows ended how."""
    counted: dict[tuple, dict[str, int]] = {}
    for record in records:
        where = record["environment"]
        device = "none (simulated)" if record["case"]["meter"] == "simulated" else where.get("device")
        place = (
            record["kind"].replace("_", " "),
            record["case"]["meter"],
            device,
            where.get("torch"),
            where.get("commit"),
        )
        ends = counted.setdefault(place, {})
        ends[record["status"]] = ends.get(record["status"], 0) + 1
    columns = ["measured", "meter", "device", "torch", "commit"]
    return pd.DataFrame(
        {**dict(zip(columns, place, strict=True)), "rows": ", ".join(f"{count} {end}" for end, count in ends.items())}
        for place, ends in counted.items()
    )


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


def steps(records: Records) -> Section:
    title, rows = "Memory against denoising steps", pick.sweeps(records)
    if not rows:
        return Section("steps", title, command=claims.command("--matrix steps"))
    frame = _forecast(rows)
    see = "Left, every method against T; right, the same rows against the denoiser calls whose graphs are held at once."
    if len(frame):
        worst = frame.loc[frame["error, %"].abs().idxmax()]
        see += (
            f" The plan's own prediction, from EasyTune's row alone, is off by at most {abs(worst['error, %']):.2f}% "
            f"({worst['method']}, T = {worst['T']}, over {len(frame)} rows)."
        )
    return Section("steps", title, see, lambda: figures.steps(rows), frame)


def _forecast(rows: Records) -> pd.DataFrame:
    frame = forecast.forecast(rows)
    if not len(frame):
        return frame
    shown = frame[["method", "profile", "T", "held"]].copy()
    shown["peak"], shown["foretold"] = frame["peak"] / GIB, frame["foretold"] / GIB
    shown["error, %"] = 100 * frame["error"]
    return shown


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


def plans(records: Records) -> Section:
    title, rows = "The plans", pick.plans(records)
    if not rows:
        return Section("plans", title, command=claims.command("--matrix quick"))
    see = (
        "All methods run the same denoising loop; what a call records, and where the state is cut, is all that differs."
    )
    frame = pd.DataFrame(
        {
            "method": row["case"]["method"],
            **{name: row["plan"][name] for name in ("calls", "recorded", "held", "scores", "updates")},
            "plan": row["plan"]["grid"],
        }
        for row in rows
    )
    return Section("plans", title, see, lambda: figures.plans(rows), frame)


def random_methods(records: Records) -> Section:
    title, pairs = "Methods whose memory is random", pick.random_methods(records)
    if not pairs:
        return Section(
            "random", title, command=claims.command("--method alignprop --method drtune:m=10 --method easytune")
        )
    see = (
        "How many calls these methods hold is drawn anew for every trajectory. The peaks here are foretold, from the "
        "held calls of many draws and EasyTune's row; the one draw that was run is in the table of all rows."
    )
    return Section("random", title, see, lambda: figures.random_peaks(pairs), _random_table(pairs))


def _random_table(pairs: Sequence[tuple[dict, dict]]) -> pd.DataFrame:
    rows = []
    for record, start in pairs:
        held = record["plan"]["held_over_draws"]
        low, middle, high = held["quartiles"]
        points = {"least": held["least"], "quartile 1": low, "median": middle, "quartile 3": high, "most": held["most"]}
        rows.append(
            {
                "method": record["case"]["method"],
                "profile": record["case"]["profile"],
                "T": record["case"]["steps"],
                "draws": held["draws"],
                **{f"held, {name}": count for name, count in points.items()},
                **{f"foretold GiB, {name}": forecast.foretold(start, count) / GIB for name, count in points.items()},
            }
        )
    return pd.DataFrame(rows)


def step_time(records: Records) -> Section:
    title, rows = "Step time", pick.timed(records)
    if not rows:
        return Section("step_time", title, command=claims.command("", "step_time"))
    case = rows[0]["case"]
    see = f"Real updates, methods interleaved round by round, at batch {case['batch']} ({compare.provenance(rows[0])})."
    if case["meter"] != "cuda":
        see += f" This is a CPU: the published times are of a GPU at batch {Case().batch}."
    return Section("step_time", title, see, lambda: figures.step_time(rows), tables.step_time(rows))


def meters(records: Records) -> Section:
    title, pairs = "Simulated against measured", pick.pairs(records)
    if not pairs:
        return Section("meters", title, command=claims.command("--matrix published --meter simulated --meter cuda"))
    frame = _meters_table(pairs)
    ratios = frame["simulated / allocated"]
    see = (
        f"The same cases simulated and measured on {pairs[0][1]['environment'].get('device')}: simulated peaks are "
        f"{ratios.min():.3f} to {ratios.max():.3f} of what the allocator counted."
    )
    return Section("meters", title, see, lambda: figures.meters(pairs), frame)


def _meters_table(pairs: Sequence[tuple[dict, dict]]) -> pd.DataFrame:
    """GiB of every counter of the measured rows, and what the simulation is of them."""
    rows = []
    for simulated, measured in pairs:
        case, reading, expected = measured["case"], measured["reading"], simulated["reading"]["peak"]
        named = {"allocated": "peak", **{n: n for n in ("tracked", "requested", "reserved", "workspace", "process")}}
        sizes = {name: reading.get(source) for name, source in named.items()}
        compared = ("allocated", "tracked", "requested")
        rows.append(
            {
                "method": case["method"],
                "profile": case["profile"],
                "T": case["steps"],
                "B": case["batch"],
                "simulated": expected / GIB,
                **{name: size / GIB if size is not None else None for name, size in sizes.items()},
                **{f"simulated / {name}": expected / sizes[name] if sizes[name] else None for name in compared},
            }
        )
    return pd.DataFrame(rows)


def alignment(records: Records) -> Section:
    title, rows = "Alignment", _aligned(records)
    if not rows:
        return Section("alignment", title, command=claims.ALIGN_COMMAND)
    case, found = rows[0]["case"], rows[0]["alignment"]
    see = (
        f"Every method fine-tunes the embedded world's base for {found['curves'][0][-1]['trajectories']} trajectories "
        f"of {case['batch']} prompts, {len(found['seeds'])} seeds each, at the learning rate that validation prompts "
        "chose from one grid. The reward is always that of finished motions on held-out prompts."
    )
    frame = tables.alignment([r for r in records if r["kind"] == "alignment"])
    return Section("alignment", title, see, lambda: figures.curves(rows), frame)


def paths(records: Records) -> Section:
    title, rows = "Reward against an independent evaluator", _aligned(records)
    if not rows:
        return Section("paths", title, command=claims.ALIGN_COMMAND)
    hacked = {style.label(r): r["alignment"]["hacked"] for r in rows if r["alignment"]["hacked"]}
    if hacked:
        worse = "; ".join(
            f"{name}: {', '.join(tables.ALIGNED[metric] for metric in of)}" for name, of in hacked.items()
        )
        see = f"Reward hacking: the reward rises beyond its interval while the evaluator finds worse ({worse})."
    else:
        see = "No method's independent metrics fall below the base's by more than the base's own interval."
    return Section("paths", title, see, lambda: figures.paths(rows))


def pareto(records: Records) -> Section:
    title, rows = "What the alignment cost", _aligned(records)
    if not rows:
        return Section("pareto", title, command=claims.ALIGN_COMMAND)
    see = (
        "Memory is the live tensor bytes of one update at this small world's scale, on a CPU; its proportions are not "
        "those of the published scale. Time is of one CPU core."
    )
    frame = pd.DataFrame(
        {
            "method": row["case"]["method"],
            "peak, MiB": found["memory"]["peak"] / 2**20,
            "beyond sampling, MiB": (found["memory"]["peak"] - found["memory"]["sampling"]) / 2**20,
            **{f"gain, {name}": found["gain"][metric]["mean"] for metric, name in tables.ALIGNED.items()},
            "trajectories to DRaFT's reward": found["to_reach"]["trajectories"],
            "seconds to it": found["to_reach"]["seconds"],
            "note": found["to_reach"]["note"] or "",
        }
        for row in rows
        for found in [row["alignment"]]
    )
    return Section("pareto", title, see, lambda: figures.pareto(rows), frame)


def _aligned(records: Records) -> list[dict]:
    """The good alignment rows of one size: the larger where there are both."""
    rows = [r for r in records if r["kind"] == "alignment" and r["status"] == "ok"]
    best = max((r["case"]["batch"] for r in rows), default=None)
    return [r for r in rows if r["case"]["batch"] == best]


def chain(records: Records) -> Section:
    return _study(records, "chain", "The gradient along the chain", claims.base_model.judge_chain, figures.chain)


def similarity(records: Records) -> Section:
    title = "What the reward sees under noise"
    return _study(records, "similarity", title, claims.base_model.judge_similarity, figures.similarity)


def _study(records: Records, name: str, title: str, judge: Callable, draw: Callable[[dict], Figure]) -> Section:
    try:
        verdict, record = judge(records), claims.base_model.study(records, name)
    except NotJudgedError:
        return Section(name, title, command=claims.STUDIES_COMMAND)
    return Section(name, title, verdict.finding, lambda: draw(record), verdict.numbers)


def memory(records: Records) -> Section:
    title, rows = "All memory rows", pick.memory(records)
    if not rows:
        return Section("memory", title, command=claims.command("--matrix default"))
    bad = len(rows) - len(pick.good(rows))
    see = f"GiB; {len(rows)} rows" + (
        f", {bad} of them without a figure: the reason stands in the row." if bad else "."
    )
    return Section("memory", title, see, None, tables.memory(rows))


SECTIONS = (
    peaks,
    base,
    steps,
    split,
    owners,
    timeline,
    plans,
    random_methods,
    step_time,
    alignment,
    paths,
    pareto,
    chain,
    similarity,
    meters,
    memory,
)

FILES = (
    "peaks",
    "base",
    "steps",
    "split",
    "owners",
    "timeline",
    "plans",
    "random",
    "step_time",
    "alignment",
    "paths",
    "pareto",
    "chain",
    "similarity",
    "meters",
    "memory",
)
"""Stems of the sections' files."""
