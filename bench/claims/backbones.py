"""C10: the published table on every published backbone."""

from collections.abc import Mapping, Sequence

import pandas as pd

from bench import cases
from bench.claims.compare import find
from bench.claims.measured import flops_of_a_step, held, peak, reading_of
from bench.claims.published import ALIGNED, DRAFT, EASYTUNE, TOLERANCE
from bench.claims.verdict import NotJudgedError, Outcome, Verdict
from bench.labels import backbone_label, published_backbones
from bench.records import MemoryRecord, Record
from bench.units import GIB


def judge_backbones(records: Sequence[Record]) -> Verdict:
    """C10: on each backbone, how much more memory DRaFT needs than EasyTune, and how many more FLOPs an optimiser step.

    It cannot hold: whether it aligns better is open until published weights are fine-tuned.
    """
    numbers: dict[str, dict[str, float]] = {}
    origins: dict[str, None] = {}
    missing = ""
    for backbone in published_backbones():
        try:
            selected = find(records, [case for case in cases.backbones() if case.backbone == backbone], MemoryRecord)
        except NotJudgedError as reason:
            missing = missing or str(reason)
        else:
            numbers[backbone] = advantage({row.case.method: row for row in selected.rows})
            origins[selected.provenance] = None
    if len(numbers) < 2:
        raise NotJudgedError(missing)
    said, shown = zip(*(_said(what, ratio, numbers) for what, ratio in COMPARED.items()), strict=True)
    finding = f"{' '.join(said)} Alignment is not judged."
    outcome = Outcome.IN_PART if any(shown) else Outcome.FAILS
    return Verdict("C10", outcome, finding, _table(numbers), "; ".join(origins))


MEMORY, FLOPS = "DRaFT's peak / EasyTune's", "DRaFT's FLOPs an optimiser step / EasyTune's"
COMPARED = {"memory": MEMORY, "FLOPs an optimiser step": FLOPS}
"""What is judged, by the ratio that says it."""


def advantage(by_method: Mapping[str, MemoryRecord]) -> dict[str, float]:
    """DRaFT's figures over EasyTune's on one backbone, and what they come of; FLOPs where they were counted."""
    draft, easytune = by_method[DRAFT], by_method[EASYTUNE]
    resident = reading_of(easytune).resident
    figures = {
        "T": draft.case.steps,
        "EasyTune's peak, GiB": peak(easytune) / GIB,
        MEMORY: peak(draft) / peak(easytune),
    }
    if peak(draft) > resident:
        figures["EasyTune's share beyond resident"] = (peak(easytune) - resident) / (peak(draft) - resident)
    if calls := held(draft) - held(easytune):
        figures["GiB a held call"] = (peak(draft) - peak(easytune)) / calls / GIB
    if draft.flops and easytune.flops:
        figures[FLOPS] = flops_of_a_step(draft) / flops_of_a_step(easytune)
        figures["DRaFT's FLOPs an update / EasyTune's"] = draft.flops / easytune.flops
    return figures


def _said(what: str, ratio: str, numbers: Mapping[str, Mapping[str, float]]) -> tuple[str, bool]:
    """On which backbones EasyTune clearly needs less and on which not, and whether on any."""
    figures = {
        f"{backbone_label(name)} ({row[ratio]:.2f})": row[ratio] for name, row in numbers.items() if ratio in row
    }
    if not figures:
        return f"No {what} were counted.", False
    clear = [name for name, value in figures.items() if value > 1 + TOLERANCE]
    others = [name for name in figures if name not in clear]
    said = f"DRaFT needs over {TOLERANCE:.0%} more {what} than EasyTune on {', '.join(clear) or 'none'}"
    return (f"{said}; not on {', '.join(others)}." if others else f"{said}."), bool(clear)


def _table(numbers: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """What was measured of a backbone, and what is published of its alignment."""
    rows = {
        backbone_label(backbone): {"backbone": backbone_label(backbone), **row} for backbone, row in numbers.items()
    }
    for (backbone, source), (base, tuned) in ALIGNED.items():
        row = rows.setdefault(backbone, {"backbone": backbone})
        for metric, before in base.items():
            row[f"published {metric}, {source}"] = f"{before:.3f} → {tuned[metric]:.3f}"
    return pd.DataFrame(rows.values())
