"""The peak that a plan predicts from one EasyTune row: what the figures overlay."""

from collections.abc import Sequence

import pandas as pd

from bench.claims.compare import like_sets
from bench.claims.measured import held, peak, reading_of
from bench.claims.published import EASYTUNE
from bench.records import MemoryRecord, Record


def one_call(easytune: MemoryRecord) -> int:
    """Bytes that one denoiser call keeps for its backward pass, read from an EasyTune row: it holds a single call."""
    return reading_of(easytune).split["rollout"]["activations"]


def predicted(easytune: MemoryRecord, calls: int) -> int:
    """Peak of a method that holds `calls` denoiser calls at once: EasyTune's peak, and every further call on top."""
    return peak(easytune) + (calls - 1) * one_call(easytune)


def forecast(records: Sequence[Record]) -> pd.DataFrame:
    """Every good memory row beside what its plan predicts from one EasyTune row of the same scale and settings.

    Columns: method, profile, T, B, F, meter, held, peak and predicted (bytes), error (relative). Rows without an
    EasyTune row to start from are left out.
    """
    good = [r for r in records if isinstance(r, MemoryRecord) and r.ok]
    rows = []
    for like in like_sets(good):
        for scale in dict.fromkeys(map(_scale, like)):
            here = [r for r in like if _scale(r) == scale]
            start = anchor(here)
            rows += [_row(r, start) for r in here] if start else []
    return pd.DataFrame(rows)


def anchor(rows: Sequence[MemoryRecord]) -> MemoryRecord | None:
    """The EasyTune row that a forecast starts from: the one with the most steps; None without a split to read."""
    split = [r for r in rows if r.case.method == EASYTUNE and reading_of(r).split]
    return max(split, key=lambda r: r.case.steps, default=None)


def _scale(record: MemoryRecord) -> tuple:
    """What a forecast must share beyond the settings; the steps need not be equal."""
    case = record.case
    return case.backbone, case.reward, case.batch, case.frames, case.profile, case.seed, case.ranks, case.sharding


def _row(record: MemoryRecord, start: MemoryRecord) -> dict:
    case, measured = record.case, peak(record)
    expected = predicted(start, held(record))
    return {
        "method": case.method,
        "profile": case.profile,
        "T": case.steps,
        "B": case.batch,
        "F": case.frames,
        "meter": case.meter,
        "held": held(record),
        "peak": measured,
        "predicted": expected,
        "error": expected / measured - 1,
    }
