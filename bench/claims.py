"""The published efficiency claims as data, and for each a judge: records in, a verdict with its numbers out.

A judge never mixes unlike rows (rule: no comparison across unlike things). It looks for every row it needs among rows
of one meter, device, torch version and set of settings; measured rows come first, simulated ones stand in for them, and
if no such set is complete the verdict is "not judged" and says which row is missing or which field differs.

Bytes are compared with the published figures in both units that "GB" may mean, 10⁹ and 2³⁰ bytes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fractions import Fraction
from itertools import pairwise

import pandas as pd

from bench import cases
from bench.cases import Case
from bench.units import GIB

GB = 10**9
UNITS = {"GB": GB, "GiB": GIB}
"""What the published "GB" may mean, in bytes. It is not said which."""
_MEANING = {"GB": "10⁹", "GiB": "2³⁰"}

TOLERANCE = 0.10
"""A published figure is met if ours is within this share of it. Ours leaves out the text encoder, and what of the
context and the allocator's slack the published one holds is not said."""
LINE_TOLERANCE = 1e-3
"""A memory curve is a line (or flat) if it strays from it by at most this share of its peak. Simulated rows are held to
the byte first; measured ones carry the allocator's rounding."""

PUBLISHED_BASE = 15.21
EASYTUNE, DRAFT, DRTUNE, ALIGNPROP = "easytune", "draft", "drtune", "alignprop:truncation=fixed"
"""The specs that stand for the published rows; how many steps the published AlignProp and DRTune train is not said."""
NAMES = {DRAFT: "DRaFT-50", ALIGNPROP: "AlignProp", DRTUNE: "DRTune", EASYTUNE: "EasyTune"}
PUBLISHED = {DRAFT: 37.32, ALIGNPROP: 30.40, DRTUNE: 27.01, EASYTUNE: 22.10}
"""Peak memory on MLD in "GB", as published."""
PUBLISHED_CHAIN = 24.21
CHAINS = {"easytune:mode=chain": "chain as described", "easytune:mode=chain-released": "chain as released"}
"""What the published chain row may be."""

PUBLISHED_SHARE = (PUBLISHED[EASYTUNE] - PUBLISHED_BASE) / (PUBLISHED[DRAFT] - PUBLISHED_BASE)
PUBLISHED_SAVING = 15.22
PUBLISHED_SPEEDUP = 7.3

PAPER = "EasyTune, arXiv 2602.07967"
REPORT_COMMAND = "python -m bench.report run.json"


class Outcome(StrEnum):
    """What became of a claim."""

    HOLDS = "holds"
    IN_PART = "holds in part"
    """It depends on what is meant; the finding says which reading holds."""
    FAILS = "does not hold"
    NOT_JUDGED = "not judged"
    """The finding says what is missing."""


@dataclass(frozen=True)
class Verdict:
    """What the records say about a claim."""

    claim: str
    """Its id."""
    outcome: Outcome
    finding: str
    """One or two sentences with the numbers that decide."""
    numbers: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Every number behind it."""
    provenance: str = ""
    """Simulated, measured on a device, or a CPU; empty if not judged."""


@dataclass(frozen=True)
class Claim:
    """A published statement."""

    id: str
    text: str
    source: str
    note: str
    """How it was arrived at, or what is unsaid."""
    command: str = ""
    """Reproduces the verdict, report included; empty while nothing here judges the claim."""
    judge: Callable[[Sequence[dict]], Verdict] | None = None
    needs: str = ""
    """What would judge it, where no judge does yet."""


class NotJudgedError(Exception):
    """Rows that a verdict needs are missing or unlike; the message is a sentence that names them."""


def judge(records: Sequence[dict]) -> list[Verdict]:
    """A verdict on every claim, in their order."""
    return [_verdict(claim, records) for claim in CLAIMS]


def _verdict(claim: Claim, records: Sequence[dict]) -> Verdict:
    if claim.judge is None:
        return Verdict(claim.id, Outcome.NOT_JUDGED, f"Needs {claim.needs}.")
    try:
        return claim.judge(records)
    except NotJudgedError as missing:
        return Verdict(claim.id, Outcome.NOT_JUDGED, str(missing))


# Like with like.


def likeness(record: dict) -> dict[str, object]:
    """What must be equal in rows that are compared, by the field's name."""
    simulated = record["case"]["meter"] == "simulated"
    settings = dict(record["settings"])
    if simulated:
        settings.pop("threads", None)  # nothing is computed: the bytes are the same on every machine
    where = record["environment"]
    return {
        "meter": record["case"]["meter"],
        "device": None if simulated else where.get("device"),
        "torch": where.get("torch"),
        "cuda": where.get("cuda"),
        **{f"settings.{name}": value for name, value in sorted(settings.items())},
    }


def difference(one: dict, other: dict) -> str | None:
    """The first field in which two records are unlike, with both values; None if they can be compared."""
    ours, theirs = likeness(one), likeness(other)
    for name in (*ours, *sorted(set(theirs) - set(ours))):
        if ours.get(name) != theirs.get(name):
            return f"{name} ({ours.get(name)} and {theirs.get(name)})"
    return None


def like_sets(records: Sequence[dict]) -> list[list[dict]]:
    """The records in sets of like ones; measured on a GPU first, then simulated, then the CPU's."""
    sets: list[list[dict]] = []
    for record in records:
        home = next((rows for rows in sets if difference(rows[0], record) is None), None)
        if home is None:
            sets.append([record])
        else:
            home.append(record)
    order = {"cuda": 0, "simulated": 1, "host": 2}
    return sorted(sets, key=lambda rows: order[rows[0]["case"]["meter"]])


def provenance(record: dict) -> str:
    """How a record came about, in a few words."""
    where = record["environment"]
    meter = record["case"]["meter"]
    device = where.get("device")
    how = {"simulated": "simulated", "cuda": f"measured on {device}", "host": f"CPU: {device}"}[meter]
    return f"{how}, torch {where.get('torch')}"


@dataclass(frozen=True)
class Found:
    """The rows of a verdict, all alike."""

    rows: list[dict]
    """Of the wanted cases, in their order."""
    like: list[dict]
    """Every good row that can be compared with them."""
    passed_over: str = ""
    """Why rows of a better meter were not used, if there are some."""

    @property
    def provenance(self) -> str:
        """Where the rows come from, with what a reader should know before trusting them."""
        commits = {str(row["environment"].get("commit")) for row in self.rows}
        mixed = f"; rows of {len(commits)} commits ({', '.join(sorted(commits))})" if len(commits) > 1 else ""
        passed = f"; measured rows were not used: {self.passed_over.rstrip('.')}" if self.passed_over else ""
        return provenance(self.rows[0]) + mixed + passed


def find(records: Sequence[dict], wanted: Sequence[Case], kind: str = "memory") -> Found:
    """The rows of the wanted cases, by whichever meter: measured on a GPU, else simulated, else on the CPU.

    NotJudgedError if no set of like rows holds all of them.
    """
    complaint = ""
    for meter in ("cuda", "simulated", "host"):
        ids = [replace(case, meter=meter).id for case in wanted]
        rows = [r for r in records if r["kind"] == kind and r["case"]["meter"] == meter]
        for like in reversed(like_sets([r for r in rows if r["status"] == "ok"])):  # the later file counts
            by_id = {r["case"]["id"]: r for r in like}
            if all(name in by_id for name in ids):
                return Found([by_id[name] for name in ids], like, complaint)
        # The complaint about the best meter that was tried at all for these cases.
        if not complaint and any(r["case"]["id"] in ids for r in rows):
            complaint = _complaint(rows, ids)
    raise NotJudgedError(complaint or f"Missing: {_few([replace(case, meter='simulated').id for case in wanted])}.")


def _complaint(rows: Sequence[dict], ids: Sequence[str]) -> str:
    """Why no set of like rows among `rows` holds all of `ids`."""
    by_status = {
        status: {r["case"]["id"]: r for r in rows if (r["status"] == "ok") is status} for status in (True, False)
    }
    good, bad = by_status[True], by_status[False]
    lacking = [_lacking(name, bad.get(name)) for name in ids if name not in good]
    if lacking:
        return f"Missing: {_few(lacking)}."
    other, what = next((name, d) for name in ids[1:] if (d := difference(good[ids[0]], good[name])))
    return f"Refused: {ids[0]} and {other} cannot be compared, they differ in {what}; measure them alike."


def _lacking(name: str, row: dict | None) -> str:
    return name if row is None else f"{name} ({row['status']}: {row['reason']})"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more rows" if len(names) > 2 else "")


# What the plan foretells.


def one_call(easytune: dict) -> int:
    """Bytes that one denoiser call keeps for its backward pass, read from an EasyTune row: it holds a single call."""
    return easytune["reading"]["split"]["rollout"]["activations"]


def foretold(easytune: dict, held: int) -> int:
    """Peak of a method that holds `held` denoiser calls at once: EasyTune's peak, and every further call on top."""
    return easytune["reading"]["peak"] + (held - 1) * one_call(easytune)


def forecast(records: Sequence[dict]) -> pd.DataFrame:
    """Every good memory row beside what its plan foretells from one EasyTune row of the same scale and settings.

    Columns: method, profile, T, B, F, meter, held, peak and foretold (bytes), error (relative). Rows without an
    EasyTune row to start from are left out.
    """
    good = [r for r in records if r["kind"] == "memory" and r["status"] == "ok"]
    rows = []
    for like in like_sets(good):
        for scale in dict.fromkeys(map(_scale, like)):
            here = [r for r in like if _scale(r) == scale]
            start = anchor(here)
            rows += [_foretold_row(r, start) for r in here] if start else []
    return pd.DataFrame(rows)


def anchor(rows: Sequence[dict]) -> dict | None:
    """The EasyTune row that a forecast starts from: the one with the most steps; None without a split to read."""
    found = [r for r in rows if r["case"]["method"] == EASYTUNE and r["reading"]["split"]]
    return max(found, key=lambda r: r["case"]["steps"], default=None)


def _scale(record: dict) -> tuple:
    """What a forecast must share beyond the settings; the steps need not be equal."""
    return tuple(record["case"][name] for name in ("backbone", "batch", "frames", "profile", "seed"))


def _foretold_row(record: dict, start: dict) -> dict:
    case, peak, held = record["case"], record["reading"]["peak"], record["plan"]["held"]
    expected = foretold(start, held)
    return {
        "method": case["method"],
        "profile": case["profile"],
        "T": case["steps"],
        "B": case["batch"],
        "F": case["frames"],
        "meter": case["meter"],
        "held": held,
        "peak": peak,
        "foretold": expected,
        "error": expected / peak - 1,
    }


# C1, C2, C11: the published table.


def within(ours: float, published: float) -> bool:
    """Whether ours meets a published figure (TOLERANCE)."""
    return abs(ours / published - 1) <= TOLERANCE


def _outcome(readings: Sequence[bool]) -> Outcome:
    """Of a claim that holds, or not, under each of these readings."""
    return Outcome.HOLDS if all(readings) else Outcome.IN_PART if any(readings) else Outcome.FAILS


def judge_additional_memory(records: Sequence[dict]) -> Verdict:
    """C1: EasyTune's share of DRaFT's additional memory, over every base that "additional" may be counted from."""
    found = find(records, [Case(DRAFT), Case(EASYTUNE)])
    draft, easytune = found.rows
    numbers = _shares(draft["reading"], easytune["reading"])
    frozen = _frozen_pair(records, draft)
    if frozen:
        numbers["share, reward frozen"] = _shares(*frozen)["share"]
    meets = [within(share, PUBLISHED_SHARE) for share in numbers[numbers["kind"] != "computed"]["share"]]
    share = dict(zip(numbers["base"], numbers["share"], strict=True))
    finding = (
        f"EasyTune needs {share['parameters']:.1%} of DRaFT-50's memory beyond the parameters, {share['resident']:.1%} "
        f"beyond what is resident and {share['sampling']:.1%} beyond the sampling peak; beyond the published "
        f"{PUBLISHED_BASE} it is {share[_published_base('GB')]:.1%} (GB) or {share[_published_base('GiB')]:.1%} (GiB). "
        + _matching_base_sentence(draft["reading"], easytune["reading"])
    )
    return Verdict("C1", _outcome(meets), finding, numbers, found.provenance)


def _frozen_pair(records: Sequence[dict], like: dict) -> tuple[dict, dict] | None:
    """Readings of DRaFT and EasyTune with the reward frozen, if they were taken where `like` was."""
    try:
        draft, easytune = find(records, [Case(method, profile="frozen") for method in (DRAFT, EASYTUNE)]).rows
    except NotJudgedError:
        return None
    return (draft["reading"], easytune["reading"]) if provenance(draft) == provenance(like) else None


def _published_base(unit: str) -> str:
    return f"published {PUBLISHED_BASE} {unit}"


def matching_base(draft: dict, easytune: dict) -> float:
    """The base, bytes, over which EasyTune needs exactly the published share: (E - b) / (D - b) = share."""
    return (easytune["peak"] - PUBLISHED_SHARE * draft["peak"]) / (1 - PUBLISHED_SHARE)


def _shares(draft: dict, easytune: dict) -> pd.DataFrame:
    """(E - base) / (D - base) for every base; `kind` says whether it is read from the record, published or computed."""
    resident = easytune["resident"]
    graphs = {phase: easytune["split"].get(phase, {}).get("activations", 0) for phase in ("decode", "reward")}
    bases = [
        *((name, "read", easytune[name]) for name in ("parameters", "resident", "sampling")),
        *((_published_base(unit), "published", PUBLISHED_BASE * size) for unit, size in UNITS.items()),
        *((f"resident + graph of the {phase}", "computed", resident + size) for phase, size in graphs.items() if size),
        (f"what gives {PUBLISHED_SHARE:.2%}", "computed", matching_base(draft, easytune)),
    ]
    rows = []
    for name, kind, base in bases:
        share = (easytune["peak"] - base) / (draft["peak"] - base)
        rows.append({"base": name, "kind": kind, "GB": base / GB, "GiB": base / GIB, "share": share})
    return pd.DataFrame(rows)


def _matching_base_sentence(draft: dict, easytune: dict) -> str:
    """What the base that gives the published share would have to contain."""
    base = matching_base(draft, easytune)
    update = (base - easytune["resident"]) / (easytune["peak"] - easytune["resident"])
    return (
        f"Exactly {PUBLISHED_SHARE:.2%} needs a base of {base / GB:.2f} GB, {base / easytune['sampling']:.0f} times "
        f"our sampling peak: it would have to hold {update:.0%} of what EasyTune's own update adds to resident memory."
    )


def judge_peaks(records: Sequence[dict]) -> Verdict:
    """C2: the published peaks against ours, in both units."""
    found = find(records, [Case(method) for method in (*PUBLISHED, *CHAINS)])
    peaks = {row["case"]["method"]: row["reading"] for row in found.rows}
    numbers = pd.DataFrame(
        [
            *(_beside(NAMES[method], published, peaks[method], "peak") for method, published in PUBLISHED.items()),
            *(_beside(name, PUBLISHED_CHAIN, peaks[method], "peak") for method, name in CHAINS.items()),
            _beside("base: sampling without gradients", PUBLISHED_BASE, peaks[EASYTUNE], "sampling"),
        ]
    )
    same_order = sorted(PUBLISHED, key=PUBLISHED.__getitem__) == sorted(PUBLISHED, key=lambda m: peaks[m]["peak"])
    met = {unit: numbers["row"][[within(r, 1) for r in numbers[f"ours / published {unit}"]]].tolist() for unit in UNITS}
    every = any(_all_rows_met(names) for names in met.values())
    outcome = Outcome.FAILS if not same_order else Outcome.HOLDS if every else Outcome.IN_PART
    ratios, chains = numbers["ours / published GB"], [peaks[method]["peak"] / GB for method in CHAINS]
    tuned = ratios[: len(PUBLISHED)]
    finding = (
        f"The order of the methods is {'the published one' if same_order else 'not the published one'}. Within "
        f"{TOLERANCE:.0%} lie {_named(met['GB'])} if GB means {_MEANING['GB']} bytes, {_named(met['GiB'])} if "
        f"{_MEANING['GiB']}. Ours are {tuned.min():.2f} to {tuned.max():.2f} of the published peaks (GB), our sampling "
        f"peak {ratios.iloc[-1]:.2f} of the published base, and the chain takes {chains[0]:.2f} GB as described or "
        f"{chains[1]:.2f} as released against {PUBLISHED_CHAIN}."
    )
    return Verdict("C2", outcome, finding, numbers, found.provenance)


def _all_rows_met(names: Sequence[str]) -> bool:
    """One of the chain's two readings is enough; every other row counts."""
    chains = set(CHAINS.values())
    return len(set(names) - chains) == len(PUBLISHED) + 1 and bool(chains & set(names))


def _named(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _beside(name: str, published: float, reading: dict, what: str) -> dict:
    """One row of C2: a published figure, ours, their ratios. What nvidia-smi would show stands beside where known."""
    row = {
        "row": name,
        "published": published,
        "ours, GB": reading[what] / GB,
        "ours, GiB": reading[what] / GIB,
        **{f"ours / published {unit}": reading[what] / size / published for unit, size in UNITS.items()},
    }
    if what == "peak":
        row |= {f"{extra}, GiB": reading[extra] / GIB for extra in ("reserved", "process") if reading.get(extra)}
    return row


def judge_saving(records: Sequence[dict]) -> Verdict:
    """C11: what EasyTune saves against DRaFT, and its own peak."""
    found = find(records, [Case(DRAFT), Case(EASYTUNE)])
    draft, easytune = found.rows
    saved, peak = draft["reading"]["peak"] - easytune["reading"]["peak"], easytune["reading"]["peak"]
    calls = draft["plan"]["held"] - easytune["plan"]["held"]
    compared = {
        "saved": (PUBLISHED_SAVING, saved),
        "EasyTune's peak": (PUBLISHED[EASYTUNE], peak),
        "saved a held call": (PUBLISHED_SAVING / calls, saved / calls),
    }
    numbers = pd.DataFrame(
        {
            "figure": name,
            "published": published,
            "ours, GB": ours / GB,
            "ours, GiB": ours / GIB,
            **{f"ours / published {unit}": ours / size / published for unit, size in UNITS.items()},
        }
        for name, (published, ours) in compared.items()
    )
    met = {u: all(within(ratio, 1) for ratio in numbers[f"ours / published {u}"][:2]) for u in UNITS}
    agreeing = " and ".join(f"GB means {_MEANING[unit]} bytes" for unit, yes in met.items() if yes)
    finding = (
        f"EasyTune saves {saved / GB:.2f} GB ({saved / GIB:.2f} GiB) at a peak of {peak / GB:.2f} GB ({peak / GIB:.2f} "
        f"GiB); {PUBLISHED_SAVING} at {PUBLISHED[EASYTUNE]:.2f} are published. "
        + (f"Within {TOLERANCE:.0%} if {agreeing}." if agreeing else f"Not within {TOLERANCE:.0%} in any unit.")
    )
    return Verdict("C11", _outcome(list(met.values())), finding, numbers, found.provenance)


# C5, C12: memory against steps.


@dataclass(frozen=True)
class Line:
    """The line through the first and the last of some points, and how far the others stray from it (bytes)."""

    slope: Fraction
    strays: Fraction
    peak: int

    @property
    def exact(self) -> bool:
        return self.strays == 0

    @property
    def straight(self) -> bool:
        return self.strays <= LINE_TOLERANCE * self.peak

    def how(self) -> str:
        """`to the byte`, or by how much not."""
        return "to the byte" if self.exact else f"within {float(self.strays / self.peak):.2%} of the peak"


def line(points: Sequence[tuple[int, int]]) -> Line:
    """The line of (x, bytes) points; at least two different x."""
    points = sorted(points)
    (x0, first), (x1, last) = points[0], points[-1]
    slope = Fraction(last - first, x1 - x0)
    return Line(slope, max(abs(y - first - slope * (x - x0)) for x, y in points), max(y for _, y in points))


def flat(points: Sequence[tuple[int, int]]) -> Line:
    """The same for a level: how far the points lie apart."""
    values = [y for _, y in points]
    return Line(line(points).slope, Fraction(max(values) - min(values)), max(values))


_SWEPT = {"draft": "DRaFT", "alignprop": "AlignProp (trains half of them)", "drtune": "DRTune (a fifth)"}
"""What the steps matrix sweeps, by method."""


def judge_growth(records: Sequence[dict]) -> Verdict:
    """C5: linear in the denoising steps for every method but EasyTune, flat for EasyTune."""
    found = find(records, cases.steps())
    rows = found.rows
    lines, entries = {}, []
    for family in dict.fromkeys(map(_family, rows)):
        mine = [row for row in rows if _family(row) == family]
        points = [(row["case"]["steps"], row["reading"]["peak"]) for row in mine]
        lines[family] = flat(points) if family == EASYTUNE else line(points)
        entries.append(_growth_entry(mine, lines[family], family == EASYTUNE))
    level = lines.pop(EASYTUNE)
    good = [grows.straight and grows.slope > 0 for grows in lines.values()]
    worst = max(lines.values(), key=lambda grows: grows.strays / grows.peak)
    slopes = ", ".join(f"{_SWEPT.get(name, name)} {float(grows.slope) / GIB:.3f}" for name, grows in lines.items())
    finding = (
        f"GiB a denoising step: {slopes}, {'linear' if all(good) else 'not all linear:'} {worst.how()}; EasyTune is "
        f"{'flat' if level.straight else 'not flat:'} {level.how()}. {_held_sentence(found.like)}"
    )
    return Verdict("C5", _outcome([*good, level.straight]), finding, pd.DataFrame(entries), found.provenance)


def _family(record: dict) -> str:
    return record["case"]["method"].partition(":")[0]


def _growth_entry(rows: Sequence[dict], found: Line, level: bool) -> dict:
    held = [(row["plan"]["held"], row["reading"]["peak"]) for row in rows]
    by_steps = {row["case"]["steps"]: row["reading"]["peak"] / GIB for row in rows}
    return {
        "method": _family(rows[0]),
        **{f"T = {total}": by_steps[total] for total in sorted(by_steps)},
        "GiB a step": float(found.slope) / GIB,
        "GiB a held call": float("nan") if level else float(line(held).slope) / GIB,
        "strays, bytes": int(found.strays),
        "shape": ("flat" if level else "linear") if found.straight else "neither",
    }


def _held_sentence(like: Sequence[dict]) -> str:
    """Rows that hold equally many calls at different T: their peaks say whether it is T that counts."""
    groups: dict[int, dict[int, int]] = {}
    for row in like:
        if _family(row) in (DRAFT, "alignprop", DRTUNE) and _published_scale_but_steps(row):
            groups.setdefault(row["plan"]["held"], {})[row["case"]["steps"]] = row["reading"]["peak"]
    groups = {held: peaks for held, peaks in groups.items() if len(peaks) > 1}
    if not groups:
        return "No two of these rows hold equally many calls at different T."
    apart = max(max(peaks.values()) / min(peaks.values()) - 1 for peaks in groups.values())
    if apart > LINE_TOLERANCE:
        return f"Rows that hold equally many calls at different T differ by up to {apart:.2%}."
    held, peaks = max(groups.items(), key=lambda item: len(item[1]))
    return (
        f"It is the calls held at once that count, not T: rows that hold {held} at T = "
        f"{', '.join(map(str, sorted(peaks)))} have the same peak (within {apart:.3%} over {len(groups)} such sets), "
        "so with K fixed memory is flat in T."
    )


def _published_scale_but_steps(record: dict) -> bool:
    case = record["case"]
    return record["case"]["id"] == replace(Case(), method=case["method"], steps=case["steps"], meter=case["meter"]).id


def judge_trained_steps(records: Sequence[dict]) -> Verdict:
    """C12: DRTune's memory against the steps it trains, at a fixed number of denoising steps."""
    found = find(records, cases.trained())
    steps = {row["case"]["steps"] for row in found.rows}
    peers = [r for r in found.like if r["case"]["steps"] in steps and _published_scale_but_steps(r)]
    drtune = sorted((r["plan"]["held"], r["reading"]["peak"]) for r in peers if _is_drtune_k(r))
    grows = line(drtune)
    draft = [(r["plan"]["held"], r["reading"]["peak"]) for r in peers if _family(r) == DRAFT]
    numbers = pd.DataFrame(
        {"method": r["case"]["method"], "held calls": r["plan"]["held"], "peak, GiB": r["reading"]["peak"] / GIB}
        for r in sorted(peers, key=lambda r: (_family(r), r["plan"]["held"]))
        if _family(r) == DRAFT or _is_drtune_k(r)
    )
    compared = ""
    if len({held for held, _ in draft}) > 1:
        theirs = line(draft).slope
        compared = (
            f"; DRaFT's by {float(theirs) / GIB:.4f} GiB a held call, so stopping the gradient at the denoiser's input "
            f"{'saves nothing' if grows.slope >= theirs else f'saves {float(1 - grows.slope / theirs):.1%}'} a step"
        )
    finding = (
        f"DRTune's peak grows by {float(grows.slope) / GIB:.4f} GiB a trained step "
        f"({'a line' if grows.straight else 'no line:'} {grows.how()} over {len(drtune)} values of K at T = {max(steps)}){compared}."
    )
    always = all(more > less for (_, less), (_, more) in pairwise(drtune))
    return Verdict("C12", _outcome([always]), finding, numbers, found.provenance)


def _is_drtune_k(record: dict) -> bool:
    """DRTune with nothing chosen but K."""
    method = record["case"]["method"]
    return method == DRTUNE or (method.startswith("drtune:k=") and "," not in method)


# C3: time.


def judge_speed(records: Sequence[dict]) -> Verdict:
    """C3: EasyTune against DRaFT-50 per optimiser step and per update; only a GPU at the published batch settles it."""
    found = _timed_pair(records)
    draft, easytune = found.rows
    case = draft["case"]
    ratios = {
        "optimiser step": _speedup(draft, easytune, "per_optimiser_step"),
        "update": _speedup(draft, easytune, "per_update"),
    }
    settles = case["meter"] == "cuda" and case["batch"] == Case().batch
    enough = PUBLISHED_SPEEDUP * (1 - TOLERANCE) if settles else 1.0
    outcome = _outcome([ratio >= enough for ratio in ratios.values()])
    if outcome is Outcome.HOLDS and not settles:
        outcome = Outcome.IN_PART
    finding = (
        f"EasyTune is {' and '.join(f'{_times(ratio)} per {unit}' for unit, ratio in ratios.items())} "
        f"({PUBLISHED_SPEEDUP}× faster is published): its update has {easytune['plan']['updates']} optimiser steps, "
        "each with its own decode and reward."
    )
    if not settles:
        finding += f" Timed on {_setting(draft)}, not on a GPU at {Case().batch}: this cannot settle the factor."
    return Verdict("C3", outcome, finding, _speed_numbers(draft, easytune), found.provenance)


def _timed_pair(records: Sequence[dict]) -> Found:
    """DRaFT-50's and EasyTune's step times at one batch: the GPU's before the CPU's, the largest batch first."""
    timed = [r for r in records if r["kind"] == "step_time" and r["case"]["steps"] == Case().steps]
    pairs: list[Found] = []
    complaint = f"Missing: step times of {DRAFT} and {EASYTUNE} at T = {Case().steps}, profile paper."
    for batch in sorted({r["case"]["batch"] for r in timed}):
        wanted = [Case(method, batch=batch) for method in (DRAFT, EASYTUNE)]
        try:
            pairs.append(find(timed, wanted, kind="step_time"))
        except NotJudgedError as missing:
            complaint = str(missing)
    if not pairs:
        raise NotJudgedError(complaint)
    return max(pairs, key=lambda found: (found.rows[0]["case"]["meter"] == "cuda", found.rows[0]["case"]["batch"]))


def _speedup(draft: dict, easytune: dict, per: str) -> float:
    return draft["timing"][per]["median"] / easytune["timing"][per]["median"]


def _times(ratio: float) -> str:
    return f"{ratio:.1f}× faster" if ratio >= 1 else f"{1 / ratio:.1f}× slower"


def _setting(record: dict) -> str:
    case, device = record["case"], record["environment"].get("device")
    return f"{'a GPU' if case['meter'] == 'cuda' else 'a CPU'} ({device}) at batch {case['batch']}"


def _speed_numbers(draft: dict, easytune: dict) -> pd.DataFrame:
    """Per meaning: both medians and their ratio, with its least and most over rounds (which were interleaved)."""
    per_round = [
        d / e
        for d, e in zip(draft["timing"]["seconds_per_update"], easytune["timing"]["seconds_per_update"], strict=False)
    ]
    rows = []
    for meaning in ("optimiser_step", "update"):
        steps = easytune["plan"]["updates"] / draft["plan"]["updates"] if meaning == "optimiser_step" else 1
        rows.append(
            {
                "per": meaning.replace("_", " "),
                "DRaFT-50, s": draft["timing"][f"per_{meaning}"]["median"],
                "EasyTune, s": easytune["timing"][f"per_{meaning}"]["median"],
                "times faster": _speedup(draft, easytune, f"per_{meaning}"),
                "least over rounds": min(per_round) * steps,
                "most over rounds": max(per_round) * steps,
            }
        )
    return pd.DataFrame([*rows, {"per": "time to a given reward (not judged yet: needs the alignment benchmark)"}])


# The list.


def command(choice: str, mark: str = "memory") -> str:
    """The shell line that measures a choice of cases and reports on them."""
    return f"pytest bench/ -m {mark} {choice} --benchmark-json=run.json && {REPORT_COMMAND}".replace("  ", " ")


def _methods(*specs: str) -> str:
    return " ".join(f"--method {spec}" for spec in specs)


EXTENDED = "MotionRFT, arXiv 2603.27185"
ALIGNMENT = "the alignment benchmark"

CLAIMS = (
    Claim(
        "C1",
        "EasyTune needs 31.16% of DRaFT-50's additional memory",
        PAPER,
        "(22.10 - 15.21) / (37.32 - 15.21). What the base of 15.21 contains is not said: the ratio hangs on it.",
        command("--matrix published --profile paper --profile frozen"),
        judge_additional_memory,
    ),
    Claim(
        "C2",
        "The peaks on MLD: DRaFT-50 37.32 GB, AlignProp 30.40, DRTune 27.01, EasyTune 22.10 (chain 24.21), base 15.21",
        PAPER,
        "nvidia-smi or the allocator, 10⁹ or 2³⁰ bytes: not said; nor how many steps AlignProp and DRTune train.",
        command(_methods(*PUBLISHED, *CHAINS)),
        judge_peaks,
    ),
    Claim(
        "C3",
        "EasyTune trains 7.3× faster than DRaFT-50",
        PAPER,
        "Per what is not said: per optimiser step, per update, or time to a given reward.",
        command("", "step_time"),
        judge_speed,
    ),
    Claim(
        "C4",
        "8.2% better MM-Dist than DRaFT-50; better R-Precision and FID than all three baselines",
        PAPER,
        "(2.872 - 2.637) / 2.872.",
        needs=ALIGNMENT,
    ),
    Claim(
        "C5",
        "Memory of DRaFT, AlignProp and DRTune grows linearly with the denoising steps; EasyTune's is flat",
        f"{PAPER}, figure 6",
        "How many steps AlignProp and DRTune train at each T is not said; here half and a fifth of them.",
        command("--matrix steps"),
        judge_growth,
    ),
    Claim(
        "C6",
        "The chain coefficient ∏ ∂π(x_s)/∂x_s goes to zero for early steps, so they are hardly optimised",
        f"{PAPER}, figure 3",
        "Corollary 1 gives the decomposition, Corollary 2 EasyTune's single term.",
        needs="a study of gradients along the chain on trained weights",
    ),
    Claim(
        "C7",
        "Noisy motions stay similar to the clean ones, so that a step can be scored",
        f"{PAPER}, figure 4",
        "Similar by which measure hangs on the retrieval model.",
        needs="a reward study on trained weights",
    ),
    Claim(
        "C8",
        "The noise-aware reward beats the one-step prediction: R-Precision top-1 0.581 against 0.568",
        PAPER,
        "On MLD. ODE samplers may use x̂_0; SDE samplers need the noise-aware reward.",
        needs=ALIGNMENT,
    ),
    Claim(
        "C9",
        "Self-refinement preference learning lifts text-motion retrieval: HumanML3D R@1 +2.5%, KIT-ML R@5 +2.2%",
        PAPER,
        "Over ReAlign's retrieval model, top-K = 10.",
        needs="a reward study on trained weights",
    ),
    Claim(
        "C10",
        "It holds across six pre-trained diffusion models",
        PAPER,
        "MLD, MLD++, MotionLCM and MDM among them.",
        needs=f"{ALIGNMENT} on the other backbones",
    ),
    Claim(
        "C11",
        "The fine-tuned MLD saves up to 15.22 GB against DRaFT, at a peak of 22.10 GB",
        EXTENDED,
        "37.32 - 22.10: independent of what the base contains.",
        command("--matrix published"),
        judge_saving,
    ),
    Claim(
        "C12",
        "DRTune stops the gradient at the denoiser's input, yet its memory grows with the steps it trains",
        PAPER,
        "Its update keeps ∂x_t/∂θ of every trained step.",
        command(_methods(*(case.method for case in cases.trained()), "draft", "draft:k=1")),
        judge_trained_steps,
    ),
)
