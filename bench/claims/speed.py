"""C3: time."""

from collections.abc import Sequence

import pandas as pd

from bench.cases import Case
from bench.claims.alignment import time_to_reward
from bench.claims.compare import Found, find
from bench.claims.published import DRAFT, EASYTUNE, PUBLISHED_SPEEDUP, TOLERANCE
from bench.claims.verdict import NotJudgedError, Outcome, Verdict, outcome_of


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
    outcome = outcome_of([ratio >= enough for ratio in ratios.values()])
    if outcome is Outcome.HOLDS and not settles:
        outcome = Outcome.IN_PART
    finding = (
        f"EasyTune is {' and '.join(f'{_times(ratio)} per {unit}' for unit, ratio in ratios.items())} "
        f"({PUBLISHED_SPEEDUP}× faster is published): its update has {easytune['plan']['updates']} optimiser steps, "
        "each with its own decode and reward."
    )
    if not settles:
        finding += f" Timed on {_setting(draft)}, not on a GPU at {Case().batch}: this cannot settle the factor."
    to_reward = time_to_reward(records)
    if to_reward and to_reward["EasyTune, s"]:
        finding += (
            f" To the reward that DRaFT-T ends with, in the embedded world, EasyTune takes "
            f"{to_reward['EasyTune, s']:.1f} CPU seconds and DRaFT-T {to_reward['DRaFT-50, s']:.1f}."
        )
    return Verdict("C3", outcome, finding, _speed_numbers(draft, easytune, to_reward), found.provenance)


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


def _speed_numbers(draft: dict, easytune: dict, to_reward: dict | None) -> pd.DataFrame:
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
    missing = {"per": "time to a given reward (not judged: needs pytest bench/ -m alignment)"}
    return pd.DataFrame([*rows, to_reward or missing])
