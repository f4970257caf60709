"""C4, and C3 read as time to a given reward: by the alignment benchmark of the embedded world, no published one."""

from collections.abc import Sequence

import pandas as pd

from bench.alignment import reading
from bench.cases import EMBEDDED
from bench.claims.compare import like_sets, provenance
from bench.claims.published import DRAFT, EASYTUNE
from bench.claims.verdict import NotJudgedError, Verdict, outcome_of
from bench.tables import interval

BASELINES = ("draft", "alignprop", "drtune")
"""The three that the paper compares with, by name: their options are not said."""
NOISE_AWARE = "easytune:score=noisy"
HOW = {NOISE_AWARE: "with the noise-aware reward", EASYTUNE: "with the one-step prediction"}
BETTER = {"mm_dist": -1, "r1": 1, "fid": -1}
"""Whether more is better."""
NAMES = {"mm_dist": "MM-Dist", "r1": "R@1", "fid": "FID"}
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


def aligned(records: Sequence[dict]) -> dict[str, dict]:
    """Good alignment rows of the embedded world by method, of one size and device (compare.likeness), EasyTune's and
    DRaFT's among them: of the size `full` where there are such, then where most methods are. NotJudgedError if there
    are none."""
    good = [r for r in records if r["kind"] == "alignment" and r["status"] == "ok"]
    good = [r for r in good if r["case"]["backbone"] == EMBEDDED]
    sizes = {r["case"]["size"] for r in good}
    sets = [
        {r["case"]["method"]: r for r in rows}
        for size in sorted(sizes)
        for rows in like_sets([r for r in good if r["case"]["size"] == size])
    ]
    whole = [rows for rows in sets if {EASYTUNE, DRAFT} <= set(rows)]
    if not whole:
        raise NotJudgedError(
            "Missing: alignment rows of easytune and draft, of one size, device and world (pytest bench/ -m alignment)."
        )
    return max(whole, key=lambda rows: (rows[EASYTUNE]["case"]["size"] == "full", len(rows)))


def judge_alignment(records: Sequence[dict]) -> Verdict:
    """C4: EasyTune's MM-Dist against DRaFT-T's, its R-precision and FID against all three baselines', with the 95%
    intervals over seeds: better only where the difference of the means exceeds both half-widths together. EasyTune with
    the noise-aware reward is the paper's row (see C8) and decides, where there is one; the one-step prediction is told
    beside it."""
    rows = aligned(records)
    others = {name: row for name, row in rows.items() if name.partition(":")[0] in BASELINES}
    draft = rows[DRAFT]["alignment"]["final"]
    clear: dict[str, list[bool]] = {}
    told = []
    for name, how in HOW.items():
        if name not in rows:
            continue
        ours = rows[name]["alignment"]["final"]
        beaten = {
            "mm_dist": [_clearly_better("mm_dist", ours, draft)],
            **{
                metric: [_clearly_better(metric, ours, row["alignment"]["final"]) for row in others.values()]
                for metric in ("r1", "fid")
            },
        }
        clear = clear or beaten
        share = 1 - ours["mm_dist"]["mean"] / draft["mm_dist"]["mean"]
        counts = ", ".join(f"{NAMES[metric]} than {sum(of)} of {len(of)}" for metric, of in beaten.items())
        told.append(
            f"EasyTune's MM-Dist {how} is {interval(ours['mm_dist'])}, {abs(share):.1%} "
            f"{'better' if share > 0 else 'worse'} than DRaFT-T's {interval(draft['mm_dist'])} (clearly better "
            f"{counts} baselines)."
        )
    case = rows[EASYTUNE]["case"]
    where = (
        f"Of the embedded world (T = {case['steps']}, size {case['size']}), at equal trajectories; not of the "
        "published model, data and evaluator."
    )
    numbers = pd.DataFrame(
        {
            "method": name,
            "lr": f"{row['alignment']['lr']:g}",
            **{label: interval(row["alignment"]["final"][metric]) for metric, label in NAMES.items()},
            "reward": interval(row["alignment"]["final"]["reward"]),
            "worse than the base though the reward rose": ", ".join(reading.hacked(row["alignment"]["gain"])),
        }
        for name, row in rows.items()
    )
    outcome = outcome_of([all(of) for of in clear.values()])
    finding = " ".join([*told, where])
    return Verdict("C4", outcome, finding, numbers, f"embedded world, {provenance(rows[EASYTUNE])}")


def _clearly_better(metric: str, ours: dict, theirs: dict) -> bool:
    gain = BETTER[metric] * (ours[metric]["mean"] - theirs[metric]["mean"])
    return gain > (ours[metric]["half_width"] or 0) + (theirs[metric]["half_width"] or 0)


def published(method: str) -> dict[str, float] | None:
    """The published row of a method's spec; None where there is none. The options of AlignProp and DRTune are not said,
    so that any stand for them; DRaFT is through all steps."""
    name = method.partition(":")[0]
    return PUBLISHED.get(name if name in ("alignprop", "drtune") else method)


def beside_published(records: Sequence[dict]) -> pd.DataFrame:
    """What each method changes, in % of its own base: as published, and in good alignment rows (test prompts, with the
    95% interval over seeds). R@1 is to rise, FID and MM-Dist are to fall."""
    rows = []
    for record in records:
        found, theirs = record["alignment"], published(record["case"]["method"])
        row = {"method": record["case"]["method"]}
        for metric in ("r1", "fid", "mm_dist"):
            before = found["base"][metric]["mean"]
            gain = {name: value and 100 * value / before for name, value in found["gain"][metric].items()}
            change = 100 * (theirs[metric] / PUBLISHED_BASE[metric] - 1) if theirs and metric in theirs else None
            row[f"{NAMES[metric]}, paper, %"] = "" if change is None else f"{change:+.1f}"
            row[f"{NAMES[metric]}, here, %"] = interval(gain, "+.1f")
        rows.append(row)
    return pd.DataFrame(rows)


def time_to_reward(records: Sequence[dict]) -> dict | None:
    """DRaFT-T's and EasyTune's CPU seconds to the reward that DRaFT-T ends with, and their ratio, as a row of C3's
    numbers; None without the rows. EasyTune's is None where it never gets there."""
    try:
        rows = aligned(records)
    except NotJudgedError:
        return None
    draft, easytune = (rows[method]["alignment"]["to_reach"]["seconds"] for method in (DRAFT, EASYTUNE))
    return {
        "per": "time to the reward that DRaFT-T ends with (embedded world, CPU)",
        "DRaFT-50, s": draft,
        "EasyTune, s": easytune,
        "times faster": draft / easytune if draft and easytune else None,
    }
