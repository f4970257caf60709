"""C3: time."""

from collections.abc import Sequence

import pandas as pd

from bench.cases import Case
from bench.claims.alignment import FASTER, HOW, LESS_WORK, NOISE_AWARE, time_to_reward
from bench.claims.compare import Selection, find
from bench.claims.measured import plan_of, timing_of
from bench.claims.published import DRAFT, EASYTUNE, PUBLISHED_SPEEDUP, TOLERANCE
from bench.claims.verdict import NotJudgedError, Verdict, outcome_of
from bench.meters import METERS
from bench.records import Record, StepTimeRecord

MEANINGS = ("optimiser step", "update")
"""What 7.3× faster may be per."""


def judge_speed(records: Sequence[Record]) -> Verdict:
    """C3: EasyTune against DRaFT-50 per optimiser step and per update, faster by the published factor. Off a GPU at the
    published batch the verdict is of what was timed."""
    selected = _timed_pair(records)
    draft, easytune = selected.rows
    case = draft.case
    ratios = {unit: _speedup(draft, easytune, unit) for unit in MEANINGS}
    settles = METERS[case.meter].device == "cuda" and case.batch == Case().batch
    outcome = outcome_of([ratio >= PUBLISHED_SPEEDUP * (1 - TOLERANCE) for ratio in ratios.values()])
    finding = (
        f"EasyTune is {' and '.join(f'{_times(ratio)} per {unit}' for unit, ratio in ratios.items())} "
        f"of {plan_of(easytune).updates} steps ({PUBLISHED_SPEEDUP}× faster is published)."
    )
    if not settles:
        finding += f" Timed on {_setting(draft)}, not a GPU at {Case().batch}: this cannot settle it."
    to_reward = time_to_reward(records)
    if len(to_reward):
        reached = [_to_levels(str(method), rows) for method, rows in to_reward.groupby("method", sort=False)]
        finding += f" DRaFT-T's reward levels: {', '.join(reached)}."
    here = "" if settles else f"batch {case.batch} on {_kind(case.meter)}"
    return Verdict("C3", outcome, finding, _speed_numbers(draft, easytune, to_reward), selected.provenance, here)


def _timed_pair(records: Sequence[Record]) -> Selection[StepTimeRecord]:
    """DRaFT-50's and EasyTune's step times at one batch: the GPU's before the CPU's, the largest batch first."""
    timed = [r for r in records if isinstance(r, StepTimeRecord) and r.case.steps == Case().steps]
    pairs: list[Selection[StepTimeRecord]] = []
    complaint = f"Missing: step times of {DRAFT} and {EASYTUNE} at T = {Case().steps}, profile paper."
    for batch in sorted({r.case.batch for r in timed}):
        wanted = [Case(method, batch=batch) for method in (DRAFT, EASYTUNE)]
        try:
            pairs.append(find(timed, wanted, StepTimeRecord))
        except NotJudgedError as missing:
            complaint = str(missing)
    if not pairs:
        raise NotJudgedError(complaint)
    return max(
        pairs, key=lambda selected: (METERS[selected.rows[0].case.meter].device == "cuda", selected.rows[0].case.batch)
    )


def _median(record: StepTimeRecord, unit: str) -> float:
    """Seconds per one of MEANINGS."""
    timing = timing_of(record)
    return (timing.per_update if unit == "update" else timing.per_optimiser_step).median


def _speedup(draft: StepTimeRecord, easytune: StepTimeRecord, unit: str) -> float:
    return _median(draft, unit) / _median(easytune, unit)


def _times(ratio: float) -> str:
    return f"{ratio:.1f}× faster" if ratio >= 1 else f"{1 / ratio:.1f}× slower"


def _kind(meter: str) -> str:
    return "a GPU" if METERS[meter].device == "cuda" else "a CPU"


def _setting(record: StepTimeRecord) -> str:
    return f"{_kind(record.case.meter)} at batch {record.case.batch}"


def _to_levels(method: str, rows: pd.DataFrame) -> str:
    """How many of the levels EasyTune reached, and in which share of the time and of the FLOPs."""
    faster = rows[FASTER].dropna()
    work = 1 / rows[LESS_WORK].dropna() if LESS_WORK in rows else faster[:0]
    ratios = ((faster, "as fast"), (work, "the FLOPs"))
    speed = [f"{of.min():.2f}–{of.max():.2f}× {what}" for of, what in ratios if len(of)]
    name = "noise-aware" if method == NOISE_AWARE else "one-step"
    took = f" ({', '.join(speed)})" if speed else ""
    return f"{len(faster)} of {len(rows)} {name}{took}"


def _speed_numbers(draft: StepTimeRecord, easytune: StepTimeRecord, to_reward: pd.DataFrame) -> pd.DataFrame:
    """Per meaning: both medians and their ratio, with its least and most over rounds (which were interleaved)."""
    rounds = zip(timing_of(draft).seconds_per_update, timing_of(easytune).seconds_per_update, strict=False)
    per_round = [ours / theirs for ours, theirs in rounds]
    rows = []
    for unit in MEANINGS:
        steps = plan_of(easytune).updates / plan_of(draft).updates if unit == "optimiser step" else 1
        rows.append(
            {
                "per": unit,
                "DRaFT-50, s": _median(draft, unit),
                "EasyTune, s": _median(easytune, unit),
                "times faster": _speedup(draft, easytune, unit),
                "least over rounds": min(per_round) * steps,
                "most over rounds": max(per_round) * steps,
            }
        )
    missing = {"per": "time to a given reward (not judged: needs pytest bench/ -m alignment)"}
    levels = [
        {
            "per": f"time to a reward of {row['level']:.3f}, {share} of DRaFT-T's gain, "
            f"{HOW[row['method']]} (small world)",
            "DRaFT-50, s": row["s"] * row[FASTER],
            "EasyTune, s": row["s"],
            "times faster": row[FASTER],
            **({"times fewer FLOPs": row[LESS_WORK]} if LESS_WORK in row else {}),
        }
        for row in to_reward.to_dict("records")
        for share in [row["share of DRaFT-T's gain"]]
    ]
    return pd.DataFrame([*rows, *(levels or [missing])])
