"""What a claim is, and what becomes of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import pandas as pd

from bench.records import Record


class Outcome(StrEnum):
    """What became of a claim."""

    HOLDS = "holds"
    IN_PART = "holds in part"
    """It depends on what is meant; the finding says which reading holds."""
    FAILS = "does not hold"
    NOT_JUDGED = "not judged"
    """The finding says what is missing."""


def outcome_of(readings: Sequence[bool]) -> Outcome:
    """Of a claim that holds, or not, under each of these readings."""
    return Outcome.HOLDS if all(readings) else Outcome.IN_PART if any(readings) else Outcome.FAILS


@dataclass(frozen=True)
class Verdict:
    """What the records say about a claim."""

    claim: str
    """Its id."""
    outcome: Outcome
    finding: str
    """One or two sentences with the numbers that decide."""
    numbers: pd.DataFrame = field(default_factory=pd.DataFrame)
    """Every number behind it."""
    provenance: str = ""
    """Simulated, measured on a device, or a CPU; empty if not judged."""


@dataclass(frozen=True)
class Claim:
    """A published statement."""

    id: str
    text: str
    source: str
    note: str
    """How it was arrived at, or what is unsaid."""
    command: str
    """Reproduces the verdict, report included."""
    judge: Callable[[Sequence[Record]], Verdict]


class NotJudgedError(Exception):
    """Rows that a verdict needs are missing or unlike; the message is a sentence that names them."""
