"""C4, and C3 read as time to a given reward: by the alignment benchmark, of a published world where one was run."""

from collections.abc import Mapping, Sequence

import pandas as pd

from bench.alignment import reading
from bench.cases import EMBEDDED, is_published
from bench.claims.compare import like_sets, provenance
from bench.claims.measured import alignment_of, mean_of
from bench.claims.published import DRAFT, EASYTUNE
from bench.claims.verdict import NotJudgedError, Outcome, Verdict
from bench.motion.metrics import JUDGED, METRICS
from bench.records import AlignmentRecord, Record
from bench.records.types import Alignment, Interval
from bench.tables import interval
from bench.units import GIB

SHARES = (0.25, 0.5, 0.75, 1.0)
"""Of DRaFT-T's gain: the levels that times are compared at."""
LEVELS_OF = ("reward", "mm_dist")
"""What has levels: the reward, and the metric of the evaluator that rates are chosen by."""
FASTER = "times faster than DRaFT-T"
LESS_WORK = "times fewer FLOPs than DRaFT-T"
BASELINES = ("draft", "alignprop", "drtune")
"""The three that the paper compares with, by name: their options are not said."""
NOISE_AWARE = "easytune:score=noisy"
HOW = {NOISE_AWARE: "with the noise-aware reward", EASYTUNE: "with the one-step prediction"}
CLAIMED = ("mm_dist", "r1", "fid")
"""What the claim is about, in its order."""
PUBLISHED_BASE = {"r1": 0.504, "fid": 0.450, "mm_dist": 3.052}
PUBLISHED = {
    "draft": {"r1": 0.528, "fid": 0.197, "mm_dist": 2.872},
    "alignprop": {"r1": 0.560, "fid": 0.266, "mm_dist": 2.739},
    "drtune": {"r1": 0.549, "fid": 0.313, "mm_dist": 2.795},
    NOISE_AWARE: {"r1": 0.581, "fid": 0.132, "mm_dist": 2.637},
    EASYTUNE: {"r1": 0.568},
}
"""The paper's table on HumanML3D: MLD before, and after fine-tuning by each method (DRaFT-50 as `draft`); of EasyTune
with the one-step prediction it gives R-precision alone."""


def aligned(records: Sequence[Record]) -> dict[str, AlignmentRecord]:
    """Good alignment rows by method, of one world, size and device (compare.likeness), EasyTune's and DRaFT's among
    them: of a published world before the embedded one, of the longest runs, then where most methods are.
    NotJudgedError if there are none."""
    good = [r for r in records if isinstance(r, AlignmentRecord) and r.ok and is_evidence(r.case.world)]
    groups = {(r.case.world, r.case.size, tuple(alignment_of(r).seeds)) for r in good}
    sets = [
        {r.case.method: r for r in rows}
        for group in sorted(groups)
        for rows in like_sets([r for r in good if (r.case.world, r.case.size, tuple(alignment_of(r).seeds)) == group])
    ]
    whole = [rows for rows in sets if {EASYTUNE, DRAFT} <= set(rows)]
    if not whole:
        raise NotJudgedError(
            "Missing: alignment rows of easytune and draft, of one size, device and world (pytest bench/ -m alignment)."
        )
    return max(whole, key=_weight)


def _weight(rows: Mapping[str, AlignmentRecord]) -> tuple[bool, float, int, int]:
    row = rows[EASYTUNE]
    measured = alignment_of(row)
    return is_published(row.case.world), measured.curves[0][-1].trajectories, len(measured.seeds), len(rows)


def judge_alignment(records: Sequence[Record]) -> Verdict:
    """C4: EasyTune's MM-Dist against DRaFT-T's, its R-precision and FID against all three baselines', each paired by
    seed, and all of them together right with a probability of 95% (reading.decided). It holds where every comparison is
    clearly better, fails where one is clearly worse, and is undecided otherwise. EasyTune with the noise-aware reward
    is the paper's row (see C8) and decides, where there is one; the one-step prediction stands beside it."""
    rows = aligned(records)
    finals = {name: alignment_of(row).final for name, row in rows.items()}
    others = [name for name in rows if name.partition(":")[0] in BASELINES]
    draft = finals[DRAFT]
    base = mean_of(draft["mm_dist"], f"MM-Dist of {DRAFT}")
    against = [(metric, theirs) for metric in CLAIMED for theirs in ([DRAFT] if metric == "mm_dist" else others)]
    outcome, sentences = None, []
    for name, how in HOW.items():
        if name not in rows:
            continue
        ours = finals[name]
        sides = _sides(rows[name], [(metric, rows[theirs]) for metric, theirs in against])
        better, worse = sides.count(1), sides.count(-1)
        if outcome is None:
            outcome, share = _outcome(sides), 1 - mean_of(ours["mm_dist"], f"MM-Dist of {name}") / base
            sentences.append(
                f"EasyTune's MM-Dist {how} is {interval(ours['mm_dist'])}, {abs(share):.1%} "
                f"{'better' if share > 0 else 'worse'} than DRaFT-T's {interval(draft['mm_dist'])}. Of {len(sides)} "
                f"comparisons with baselines it is clearly better in {better}, worse in {worse}."
            )
        else:
            sentences.append(
                f"{how.capitalize()} it is {interval(ours['mm_dist'])}, better in {better} and worse in {worse}."
            )
    case = rows[EASYTUNE].case
    where = "" if is_published(case.world) else ", not of the published models"
    sentences.append(f"Of the {case.world} world (size {case.size}){where}.")
    numbers = pd.DataFrame(
        {
            "method": name,
            "lr": f"{alignment_of(row).lr:g}",
            **{METRICS[metric].label: interval(finals[name][metric]) for metric in (*CLAIMED, "reward")},
            "worse than the base though the reward rose": ", ".join(reading.hacked(alignment_of(row).gain)),
        }
        for name, row in rows.items()
    )
    assert outcome is not None  # EasyTune is there
    origin = f"{case.world} world, {provenance(rows[EASYTUNE])}"
    return Verdict("C4", outcome, " ".join(sentences), numbers, origin, here_of(case.world))


def is_evidence(world: str) -> bool:
    """Whether claims are judged on a world: on a published one, or the embedded one in its place."""
    return world == EMBEDDED or is_published(world)


def here_of(world: str) -> str:
    """The scope of a verdict on this world, as Verdict.here."""
    return "" if is_published(world) else f"{world} world"


def _sides(ours: AlignmentRecord, against: Sequence[tuple[str, AlignmentRecord]]) -> list[int]:
    """1 where ours is clearly better in a metric than the other record, -1 where worse, 0 where that is undecided."""
    mine = alignment_of(ours)
    differences = [reading.paired(mine.finals, alignment_of(theirs).finals, metric) for metric, theirs in against]
    decided = reading.decided(differences, len(mine.seeds))
    return [METRICS[metric].sign * side for (metric, _), side in zip(against, decided, strict=True)]


def _outcome(sides: Sequence[int]) -> Outcome:
    if -1 in sides:
        return Outcome.FAILS
    return Outcome.HOLDS if all(sides) else Outcome.UNDECIDED


def published(method: str) -> dict[str, float] | None:
    """The published row of a method's spec; None where there is none. The options of AlignProp and DRTune are not said,
    so that any stand for them; DRaFT is through all steps."""
    name = method.partition(":")[0]
    return PUBLISHED.get(name if name in ("alignprop", "drtune") else method)


def beside_published(records: Sequence[AlignmentRecord]) -> pd.DataFrame:
    """What each method changes, in % of the base: as published, and in good alignment rows (test prompts, with the 95%
    interval over seeds by Student's t). R@1 is to rise, FID and MM-Dist are to fall."""
    rows = []
    for record in records:
        measured, theirs = alignment_of(record), published(record.case.method)
        row = {"method": record.case.method}
        for metric in JUDGED:
            before, gain, label = measured.base[metric].mean, measured.gain[metric], METRICS[metric].label
            change = 100 * (theirs[metric] / PUBLISHED_BASE[metric] - 1) if theirs and metric in theirs else None
            relative = Interval(_percent(gain.mean, before), _percent(gain.half_width, before))
            row[f"{label}, paper, %"] = "" if change is None else f"{change:+.1f}"
            row[f"{label}, here, %"] = interval(relative, "+.1f")
        rows.append(row)
    return pd.DataFrame(rows)


def _percent(value: float | None, base: float | None) -> float | None:
    return None if value is None or base is None else 100 * value / base


GAINED = ("r1", "reward")
"""What is set against its cost: a figure of the evaluator's, and the reward."""
PER = ("", " per GiB", " per minute")


def gained(rows: Sequence[AlignmentRecord]) -> list[dict[tuple[str, str], Interval]]:
    """Of each row the gains over the base, by one of GAINED and one of PER, of test prompts and paired by seed: alone,
    in the peak of one update, and in the time of each seed's run. The intervals of all rows and both figures hold at
    once (reading.simultaneous), for each of PER by itself."""
    found: list[dict[tuple[str, str], Interval]] = [{} for _ in rows]
    for per in PER:
        gains = [(_gains(alignment_of(row), per), name) for row in rows for name in GAINED]
        together = reading.simultaneous([(reading.of_seeds(of, name), len(of)) for of, name in gains])
        for number, gain in enumerate(together):
            row, name = divmod(number, len(GAINED))
            found[row][GAINED[name], per] = gain
    return found


def _gains(of: Alignment, per: str) -> list[dict[str, float | None]]:
    """GAINED of each seed's run over its base, in one of PER."""
    costs = [
        {"": 1.0, " per GiB": of.memory.peak / GIB, " per minute": curve[-1].cpu_seconds / 60}[per]
        for curve in of.curves
    ]
    return [
        {name: None if (gain := _less(run.get(name), base.get(name))) is None else gain / cost for name in GAINED}
        for run, base, cost in zip(of.finals, of.bases, costs, strict=True)
    ]


def _less(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or theirs is None else ours - theirs


def flops_of(rows: Sequence[AlignmentRecord], records: Sequence[Record]) -> dict[str, float]:
    """FLOPs of an update by method, in `rows` or in any other good row of as many steps and prompts on the same world:
    they hang neither on the machine nor on how long runs are."""
    alike = {_work(row) for row in rows}
    good = [r for r in (*records, *rows) if isinstance(r, AlignmentRecord) and r.ok and _work(r) in alike]
    return {r.case.method: flops for r in good if (flops := alignment_of(r).flops) is not None}


def _work(row: AlignmentRecord) -> tuple:
    return row.case.world, row.settings.world, row.case.steps, row.case.batch


def to_levels(rows: Sequence[AlignmentRecord], records: Sequence[Record]) -> pd.DataFrame:
    """What each method of `rows` takes to be as good as DRaFT-T after a share of its gain, by the held-out reward and
    by the evaluator, read off the mean of its validation curves: the published meaning of "faster", time and FLOPs to
    equal levels. Empty without DRaFT-T; a figure is missing where a method never gets there, and FLOPs where no row of
    `records` counted them."""
    curves = {r.case.method: reading.mean_curve(alignment_of(r).curves) for r in rows}
    flops = flops_of(rows, records)

    def takes(method: str, level: float, name: str) -> dict[str, float | None]:
        axes = ("trajectories", "updates", "cpu_seconds")
        trajectories, updates, seconds = (reading.reach(curves[method], level, axis, name) for axis in axes)
        work = None if trajectories is None or method not in flops else trajectories * flops[method] / 1e12
        return {"trajectories": trajectories, "updates": updates, "s": seconds, "TFLOPs": work}

    found = []
    for name in LEVELS_OF if DRAFT in curves else ():
        first, last = (figures.metrics.get(name) for figures in (curves[DRAFT][0], curves[DRAFT][-1]))
        if first is None or last is None or METRICS[name].sign * (last - first) <= 0:
            continue  # DRaFT-T gains nothing by it
        for share in SHARES:
            level = first + share * (last - first)
            theirs = takes(DRAFT, level, name)
            for method in curves:
                ours = takes(method, level, name)
                gain = {"level of": METRICS[name].label, "level": level, "share of DRaFT-T's gain": f"{share:.0%}"}
                ratios = {FASTER: _ratio(theirs["s"], ours["s"]), LESS_WORK: _ratio(theirs["TFLOPs"], ours["TFLOPs"])}
                found.append(gain | {"method": method} | ours | ratios)
    levels = pd.DataFrame(found)
    return levels if flops else levels.drop(columns=["TFLOPs", LESS_WORK], errors="ignore")


def _ratio(theirs: float | None, ours: float | None) -> float | None:
    return theirs / ours if theirs and ours else None


def time_to_reward(records: Sequence[Record]) -> pd.DataFrame:
    """EasyTune's rows of `to_levels`, by the reward; empty without them."""
    try:
        rows = to_levels([*aligned(records).values()], records)
    except NotJudgedError:
        return pd.DataFrame()
    return rows[rows["method"].isin(HOW) & (rows["level of"] == METRICS["reward"].label)] if len(rows) else rows
