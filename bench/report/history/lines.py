"""Rows over commits: a line joins rows of one case that can be compared (bench.claims.compare), in order of date.

What changed from one row to the next is marked beyond the margins of the gates: a peak's is its meter's, step time's
is bench.gate.paired's.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from bench import identity
from bench.claims.compare import likeness
from bench.claims.measured import peak, timing_of
from bench.gate import paired
from bench.gate.baseline import cut_down
from bench.gate.growth import changes, listed, size_change
from bench.meters import METERS
from bench.records import MemoryRecord, RecordError, Result, StepTimeRecord
from bench.records.contradictions import shortened
from bench.report.rows import MethodRecord
from bench.units import GIB


@dataclass(frozen=True, order=True)
class State:
    """Of the code: a commit, or what was changed since."""

    date: datetime
    """The commit's. Where git does not know it: when its first result was written. Where files were changed since: when
    this result was."""
    commit: str

    def __str__(self) -> str:
        return f"{self.commit} of {self.date:%Y-%m-%d}"


WORDS = {MemoryRecord: ("grew", "shrank"), StepTimeRecord: ("slower", "faster")}
"""What a change to more, and to less, is called."""


@dataclass(frozen=True)
class Change:
    """From one row of a line to the next."""

    word: str = ""
    """One of WORDS; empty within the gate's margin."""
    sizes: str = ""
    """What it was, and is."""
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


Line = Sequence[Point]
"""Two or more."""


def lines(results: Sequence[Result], kind: type[MethodRecord]) -> list[Line]:
    """The lines of the good rows of a kind; of a case measured twice at one commit, the later result counts.

    RecordError for a result that has no date, and needs one.
    """
    first = _first_dates(results)
    rows: dict[str, dict[State, MethodRecord]] = {}
    for result in results:
        for record in result.records:
            if isinstance(record, kind) and record.ok:
                of_line = rows.setdefault(json.dumps([record.case.id, likeness(record)]), {})
                of_line[_state(record.environment.commit, result, first)] = record
    return [_line(of_line) for of_line in rows.values() if len(of_line) > 1]


def _first_dates(results: Sequence[Result]) -> dict[str | None, datetime]:
    """When the first result of each commit was written."""
    dates: dict[str | None, datetime] = {}
    for result in results:
        for commit in {record.environment.commit for record in result.records}:
            if result.written:
                dates[commit] = min(result.written, dates.get(commit, result.written))
    return dates


def _state(commit: str | None, result: Result, first: Mapping[str | None, datetime]) -> State:
    date = result.written
    if commit and not commit.endswith("-dirty"):
        date = identity.commit_date(commit) or first.get(commit)
    if date is None:
        raise RecordError(
            f"{result.path} does not say when it was written, and git does not know its commit, "
            f"{shortened(commit or 'none')}: give the JSON of a run that ended"
        )
    return State(date.astimezone(UTC), shortened(commit or "no commit"))


def _line(rows: dict[State, MethodRecord]) -> Line:
    states = sorted(rows)
    since = [Change(), *(_change(rows[old], rows[new]) for old, new in pairwise(states))]
    return [Point(state, rows[state], change) for state, change in zip(states, since, strict=True)]


def _change(old: MethodRecord, new: MethodRecord) -> Change:
    more, less = WORDS[type(old)]
    match old, new:
        case MemoryRecord(), MemoryRecord():
            before, after = peak(old), peak(new)
            if abs(after - before) <= METERS[old.case.meter].margin * before:
                return Change()
            grew = after > before
            by = listed(changes(cut_down(old).owners, cut_down(new).owners), grew)
            return Change(more if grew else less, size_change(before, after), by[0] if by else "")
        case StepTimeRecord(), StepTimeRecord():
            seconds = [timing_of(row).per_update.median for row in (old, new)]
            ratio = seconds[1] / seconds[0]
            if 1 / paired.MARGIN <= ratio <= paired.MARGIN:
                return Change()
            sizes = f"{seconds[0]:.3g} s → {seconds[1]:.3g} s ({ratio:.2f} times as long)"
            return Change(more if ratio > 1 else less, sizes)
    raise TypeError(old, new)


def states_of(lines: Iterable[Line]) -> list[State]:
    """In order."""
    return sorted({point.state for line in lines for point in line})
