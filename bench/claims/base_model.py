"""C6 and C7: what the studies of the base model say, of a published world where they were run on one."""

from collections.abc import Sequence

import pandas as pd

from bench.cases import EMBEDDED, is_published, study_id
from bench.claims.alignment import here_of, is_evidence
from bench.claims.compare import provenance
from bench.claims.measured import study_of
from bench.claims.verdict import NotJudgedError, Outcome, Verdict, outcome_of
from bench.records import Record, StudyRecord
from bench.records.types import Chain, Similarity, fields

VANISHED = 0.1
"""A chain coefficient, or a share of the gradient, this small counts as gone."""
SIMILAR = 0.5
"""A noised motion counts as similar if it has kept this share of the distance from another motion to its clean self."""


def study(records: Sequence[Record], name: str) -> StudyRecord:
    """The latest good record of a study, by its name in ids; of a published world before the embedded one.
    NotJudgedError if there is none."""
    good = [r for r in records if isinstance(r, StudyRecord) and r.ok and is_evidence(r.case.world)]
    named = [r for r in good if name == study_id(r.case.name, EMBEDDED, r.case.scale)]
    if not named:
        raise NotJudgedError(f"Missing: study {name} of the embedded world.")
    return max(reversed(named), key=lambda r: is_published(r.case.world))


def judge_chain(records: Sequence[Record]) -> Verdict:
    """C6: the coefficient at the first step, and what share of DRaFT-T's gradient the first half of the steps has."""
    record = study(records, "chain")
    result = study_of(record, Chain)
    coefficient, through = result.coefficient_reward, result.through_chain
    half = len(through) // 2
    share = sum(through[:half]) / sum(through)
    stepwise = sum(result.stepwise[:half]) / sum(result.stepwise)
    gone = (coefficient[0] < VANISHED, share < VANISHED)
    finding = (
        f"From the last step to the first the chain coefficient goes from 1 to {coefficient[0]:.3g} along the reward's "
        f"gradient ({result.coefficient[0]:.3g} along random directions). The noisier half of the steps has "
        f"{share:.0%} of DRaFT-T's gradient norm, step by step added up, and {stepwise:.0%} of EasyTune's."
    )
    return Verdict(
        "C6",
        outcome_of(gone),
        f"{finding} {_where(record)}",
        pd.DataFrame(fields(result)),
        f"{record.case.world} world, {provenance(record)}",
        here_of(record.case.world),
    )


def judge_similarity(records: Sequence[Record]) -> Verdict:
    """C7: up to which noise level a noised motion is nearer to its clean self than half-way to another one."""
    record = study(records, "similarity")
    result = study_of(record, Similarity)
    kept = {"noisy": _kept(result.noisy, result.other), "predicted": _kept(result.predicted, result.other)}
    similar = [value >= SIMILAR for value in kept["noisy"]]
    first = similar.index(True) if any(similar) else None
    outcome = Outcome.HOLDS if all(similar) else Outcome.IN_PART if first is not None else Outcome.FAILS
    reach = (
        f"from timestep {result.timestep[first]} down"
        if first is not None and all(similar[first:])
        else f"at {sum(similar)} of {len(similar)} steps"
    )
    finding = (
        f"A noised motion keeps at least half of its similarity {reach} (1: as the clean one, 0: as one of another "
        f"meaning). At the noisiest step it keeps {kept['noisy'][0]:.0%}, the one-step prediction from it "
        f"{kept['predicted'][0]:.0%}."
    )
    numbers = pd.DataFrame({**fields(result), **{f"{name}, kept": values for name, values in kept.items()}})
    origin = f"{record.case.world} world, {provenance(record)}"
    return Verdict("C7", outcome, f"{finding} {_where(record)}", numbers, origin, here_of(record.case.world))


def _kept(similarity: Sequence[float], floor: Sequence[float]) -> list[float]:
    return [(value - low) / (1 - low) for value, low in zip(similarity, floor, strict=True)]


def _where(record: StudyRecord) -> str:
    where = "" if is_published(record.case.world) else ", not of the published model and reward"
    return f"Of the {record.case.world} world ({record.case.steps} steps, 1 noise seed){where}."
