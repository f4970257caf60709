"""Rows over commits: a line joins rows of one case that can be compared (bench.claims.compare), in order of date.

What changed from one row to the next is judged as the gates judge it: memory by bench.gate.judge, step time by
bench.gate.paired's margin.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from bench import identity
from bench.claims.compare import likeness
from bench.claims.measured import peak, timing_of
from bench.gate import baseline, paired
from bench.gate.judge import Outcome, compare
from bench.records import MemoryRecord, RecordError, Result, StepTimeRecord
from bench.records.contradictions import shortened
from bench.report.rows import MethodRecord
from bench.units import GIB


@dataclass(frozen=True, order=True)
class State:
    """Of the code: a commit, or what was changed since."""

    date: datetime
    """The commit's; where git does not know it, and where files were changed since, that of the result."""
    commit: str

    def __str__(self) -> str:
        return f"{self.commit} of {self.date:%Y-%m-%d}"


@dataclass(frozen=True)
class Change:
    """From one row of a line to the next."""

    outcome: Outcome
    """GREW or SHRANK, beyond the gate's margin; of step time: slower, faster."""
    words: str = ""
    by: str = ""
    """Who holds most of it, where that is known."""


@dataclass(frozen=True)
class Point:
    state: State
    record: MethodRecord
    change: Change
    """Since the point before; of the first: none."""

    @property
    def value(self) -> float:
        """GiB of the peak, or seconds of an update."""
        record = self.record
        return peak(record) / GIB if isinstance(record, MemoryRecord) else timing_of(record).per_update.median

    @property
    def word(self) -> str:
        """Of its change; empty where there is none beyond the margin."""
        return WORDS[type(self.record)].get(self.change.outcome, "")


Line = Sequence[Point]
"""Two or more."""

WORDS = {
    MemoryRecord: {Outcome.GREW: "grew", Outcome.SHRANK: "shrank"},
    StepTimeRecord: {Outcome.GREW: "slower", Outcome.SHRANK: "faster"},
}
"""What a change is called."""


def lines(results: Sequence[Result], kind: type[MethodRecord]) -> list[Line]:
    """The lines of the good rows of a kind; of a case measured twice at one commit, the later result counts.

    RecordError for a result that has no date, and needs one.
    """
    states: dict[tuple[str | None, datetime | None], State] = {}
    rows: dict[str, dict[State, MethodRecord]] = {}
    for result in results:
        for record in result.records:
            if isinstance(record, kind) and record.ok:
                commit = record.environment.commit
                key = (commit, result.written)
                state = states[key] = states.get(key) or _state(commit, result)
                rows.setdefault(json.dumps([record.case.id, likeness(record)]), {})[state] = record
    return [_line(of_line) for of_line in rows.values() if len(of_line) > 1]


def _state(commit: str | None, result: Result) -> State:
    date = identity.commit_date(commit) if commit else None
    date = date.astimezone(UTC) if date else result.written
    if date is None:
        raise RecordError(
            f"{result.path} does not say when it was written, and git does not know its commit, "
            f"{shortened(commit or 'none')}: give the JSON of a run that ended"
        )
    return State(date, shortened(commit or "no commit"))


def _line(rows: dict[State, MethodRecord]) -> Line:
    states = sorted(rows)
    changes = [Change(Outcome.SAME), *(_change(rows[old], rows[new]) for old, new in pairwise(states))]
    return [Point(state, rows[state], change) for state, change in zip(states, changes, strict=True)]


def _change(old: MethodRecord, new: MethodRecord) -> Change:
    if isinstance(old, StepTimeRecord) and isinstance(new, StepTimeRecord):
        before, after = (timing_of(row).per_update.median for row in (old, new))
        longer, shorter = after > paired.MARGIN * before, before > paired.MARGIN * after
        outcome = Outcome.GREW if longer else Outcome.SHRANK if shorter else Outcome.SAME
        return Change(outcome, f"{before:.3g} s → {after:.3g} s ({after / before:.2f} times as long)")
    assert isinstance(old, MemoryRecord)
    assert isinstance(new, MemoryRecord)
    finding = compare(baseline.cut_down(old), baseline.cut_down(new))
    first, *by = finding.lines
    return Change(finding.outcome, first.removeprefix(f"{finding.id}: "), by[0] if by else "")


def states_of(lines: Iterable[Line]) -> list[State]:
    """In order."""
    return sorted({point.state for line in lines for point in line})
