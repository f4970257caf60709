"""C4, and C3 read as time to a given reward: by the alignment benchmark of the embedded world, no published one."""

from collections.abc import Mapping, Sequence

import pandas as pd

from bench.alignment import reading
from bench.cases import EMBEDDED
from bench.claims.compare import like_sets, place, provenance
from bench.claims.measured import alignment_of, mean_of
from bench.claims.published import DRAFT, EASYTUNE
from bench.claims.verdict import NotJudgedError, Verdict, outcome_of
from bench.motion.metrics import JUDGED, METRICS
from bench.records import AlignmentRecord, Record
from bench.records.types import Interval
from bench.tables import interval

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
    """Good alignment rows of the embedded world by method, of one size and device (compare.likeness), EasyTune's and
    DRaFT's among them: of the size `full` where there are such, then where most methods are. NotJudgedError if there
    are none."""
    good = [r for r in records if isinstance(r, AlignmentRecord) and r.ok and r.case.world == EMBEDDED]
    sets = [
        {r.case.method: r for r in rows}
        for size in sorted({r.case.size for r in good})
        for rows in like_sets([r for r in good if r.case.size == size])
    ]
    whole = [rows for rows in sets if {EASYTUNE, DRAFT} <= set(rows)]
    if not whole:
        raise NotJudgedError(
            "Missing: alignment rows of easytune and draft, of one size, device and world (pytest bench/ -m alignment)."
        )
    return max(whole, key=lambda rows: (rows[EASYTUNE].case.size == "full", len(rows)))


def judge_alignment(records: Sequence[Record]) -> Verdict:
    """C4: EasyTune's MM-Dist against DRaFT-T's, its R-precision and FID against all three baselines', with the 95%
    intervals over seeds (Student's t): better only where the difference of the means exceeds both half-widths together.
    EasyTune with the noise-aware reward is the paper's row (see C8) and decides, where there is one; the one-step
    prediction stands beside it."""
    rows = aligned(records)
    finals = {name: alignment_of(row).final for name, row in rows.items()}
    others = [final for name, final in finals.items() if name.partition(":")[0] in BASELINES]
    draft = finals[DRAFT]
    base = mean_of(draft["mm_dist"], f"MM-Dist of {DRAFT}")
    readings: list[bool] = []
    sentences = []
    for name, how in HOW.items():
        if name not in rows:
            continue
        ours = finals[name]
        beaten = {
            metric: [_clearly_better(metric, ours, theirs) for theirs in ([draft] if metric == "mm_dist" else others)]
            for metric in CLAIMED
        }
        readings = readings or [all(of) for of in beaten.values()]
        share = 1 - mean_of(ours["mm_dist"], f"MM-Dist of {name}") / base
        counts = ", ".join(f"{METRICS[metric].label} than {sum(of)} of {len(of)}" for metric, of in beaten.items())
        sentences.append(
            f"EasyTune's MM-Dist {how} is {interval(ours['mm_dist'])}, {abs(share):.1%} "
            f"{'better' if share > 0 else 'worse'} than DRaFT-T's {interval(draft['mm_dist'])} (clearly better "
            f"{counts} baselines)."
        )
    case = rows[EASYTUNE].case
    sentences.append(
        f"Of the embedded world (T = {case.steps}, size {case.size}), at equal trajectories; not of the "
        "published model, data and evaluator."
    )
    numbers = pd.DataFrame(
        {
            "method": name,
            "lr": f"{alignment_of(row).lr:g}",
            **{METRICS[metric].label: interval(finals[name][metric]) for metric in (*CLAIMED, "reward")},
            "worse than the base though the reward rose": ", ".join(reading.hacked(alignment_of(row).gain)),
        }
        for name, row in rows.items()
    )
    where = f"embedded world, {provenance(rows[EASYTUNE])}"
    return Verdict("C4", outcome_of(readings), " ".join(sentences), numbers, where)


def _clearly_better(metric: str, ours: Mapping[str, Interval], theirs: Mapping[str, Interval]) -> bool:
    one, other = ours[metric], theirs[metric]
    if one.mean is None or other.mean is None:
        return False
    return METRICS[metric].sign * (one.mean - other.mean) > (one.half_width or 0) + (other.half_width or 0)


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


def time_to_reward(records: Sequence[Record]) -> dict | None:
    """DRaFT-T's and EasyTune's seconds to the reward that DRaFT-T ends with, and their ratio, as a row of C3's
    numbers; None without the rows. EasyTune's is None where it never gets there."""
    try:
        rows = aligned(records)
    except NotJudgedError:
        return None
    draft, easytune = (alignment_of(rows[method]).to_reach.seconds for method in (DRAFT, EASYTUNE))
    return {
        "per": f"time to the reward that DRaFT-T ends with (embedded world, {place(rows[DRAFT])})",
        "DRaFT-50, s": draft,
        "EasyTune, s": easytune,
        "times faster": draft / easytune if draft and easytune else None,
    }
