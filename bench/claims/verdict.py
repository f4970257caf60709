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
    UNDECIDED = "undecided"
    """The differences that would decide lie within their intervals."""
    FAILS = "does not hold"
    NOT_JUDGED = "not judged"
    """The finding says what is missing."""


HERE = {
    Outcome.HOLDS: "seen here",
    Outcome.IN_PART: "seen here in part",
    Outcome.UNDECIDED: "undecided here",
    Outcome.FAILS: "not seen here",
    Outcome.NOT_JUDGED: "not judged",
}
"""What a verdict is called where the evidence is of something smaller than what was claimed."""


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
    here: str = ""
    """What it is of, where that is not what was claimed: a small world in place of the published models and data, a CPU
    in place of a GPU. Empty at the published scale."""

    @property
    def words(self) -> str:
        """ "holds" and its like at the published scale, "seen here" and its like elsewhere."""
        return HERE[self.outcome] if self.here else str(self.outcome)


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
    settles: str = ""
    """The command that would settle it, where the verdict is of something smaller (Verdict.here)."""


class NotJudgedError(Exception):
    """Rows that a verdict needs are missing or unlike; the message is a sentence that names them."""
