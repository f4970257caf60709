"""What a plan foretells of its peak, from one EasyTune row: the prediction that the figures overlay."""

from collections.abc import Sequence

import pandas as pd

from bench.claims.compare import like_sets
from bench.claims.published import EASYTUNE


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
    case = record["case"]
    # Files from before cases had a reward lack it: it is the backbone's.
    return case.get("reward", ""), *(case[name] for name in ("backbone", "batch", "frames", "profile", "seed"))


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
