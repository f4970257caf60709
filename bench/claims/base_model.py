"""C6 and C7: what the studies of the base model say. They are of the embedded world, not of the published MLD."""

from collections.abc import Sequence

import pandas as pd

from bench.cases import EMBEDDED
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
    """The latest good record of a study of the embedded world; NotJudgedError if there is none."""
    good = [r for r in records if isinstance(r, StudyRecord) and r.ok and r.case.world == EMBEDDED]
    named = [r for r in good if r.case.id == name]
    if not named:
        raise NotJudgedError(f"Missing: study {name} of the embedded world.")
    return named[-1]


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
        f"gradient ({result.coefficient[0]:.3g} along random directions); the noisier half of the steps has "
        f"{share:.0%} of DRaFT-T's gradient norm, step by step added up, and {stepwise:.0%} of EasyTune's."
    )
    return Verdict(
        "C6",
        outcome_of(gone),
        f"{finding} {_where(record)}",
        pd.DataFrame(fields(result)),
        f"embedded world, {provenance(record)}",
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
        f"meaning); at the noisiest step it keeps {kept['noisy'][0]:.0%}, the one-step prediction from it "
        f"{kept['predicted'][0]:.0%}."
    )
    numbers = pd.DataFrame({**fields(result), **{f"{name}, kept": values for name, values in kept.items()}})
    return Verdict("C7", outcome, f"{finding} {_where(record)}", numbers, f"embedded world, {provenance(record)}")


def _kept(similarity: Sequence[float], floor: Sequence[float]) -> list[float]:
    return [(value - low) / (1 - low) for value, low in zip(similarity, floor, strict=True)]


def _where(record: StudyRecord) -> str:
    return f"Of the embedded world ({record.case.steps} steps), not of the published model and reward."
