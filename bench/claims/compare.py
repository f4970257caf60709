"""Like with like: which rows may be compared, and the rows that a verdict needs.

A judge never mixes unlike rows. It looks for every row it needs among rows of one meter, device, torch version and set
of settings. Measured rows come first, simulated ones stand in for them. If no such set is complete, the refusal says
which row is missing or which field differs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from bench.cases import Case
from bench.claims.verdict import NotJudgedError
from bench.meters import METERS
from bench.records.types import Environment, MemoryRecord, Record, StepTimeRecord, fields


class Metered(Protocol):
    """The case of a row."""

    @property
    def meter(self) -> str: ...


class Comparable(Protocol):
    """What can be compared: a record, or a row of a baseline."""

    @property
    def case(self) -> Metered: ...
    @property
    def settings(self) -> Struct: ...
    @property
    def environment(self) -> Environment: ...


R = TypeVar("R", bound=Comparable)


def likeness(row: Comparable) -> dict[str, object]:
    """What must be equal in rows that are compared, by the field's name; a setting that a row does not have is left
    out."""
    simulated = METERS[row.case.meter].simulated
    # Nothing is computed in a simulated row: the bytes are the same on every machine. What is judged are live bytes,
    # which the allocator's settings do not change.
    left_out = {"threads", "allocator"} if simulated else set()
    settings = {name: v for name, v in fields(row.settings).items() if v is not None and name not in left_out}
    where = row.environment
    return {
        "meter": row.case.meter,
        "device": None if simulated else where.device,
        # Without data nothing of a build's device code runs: +cpu and +cu130 of a version are one.
        "torch": str(where.torch).partition("+")[0] if simulated else where.torch,
        "cuda": where.cuda,
        **{f"settings.{name}": value for name, value in sorted(settings.items())},
    }


def difference(one: Comparable, other: Comparable) -> str | None:
    """The first field in which two rows are unlike, with both values; None if they can be compared."""
    ours, theirs = likeness(one), likeness(other)
    for name in (*ours, *sorted(set(theirs) - set(ours))):
        if ours.get(name) != theirs.get(name):
            return f"{name} ({ours.get(name)} and {theirs.get(name)})"
    return None


def like_sets(records: Sequence[R]) -> list[list[R]]:
    """The records in sets of like ones; those of the most trusted meter first."""
    sets: list[tuple[dict[str, object], list[R]]] = []
    for record in records:
        like = likeness(record)
        home = next((rows for of_set, rows in sets if of_set == like), None)
        if home is None:
            sets.append((like, [record]))
        else:
            home.append(record)
    return sorted((rows for _, rows in sets), key=lambda rows: METERS[rows[0].case.meter].trust)


def provenance(record: Comparable) -> str:
    """How a record came about, in a few words."""
    how = METERS[record.case.meter].origin.format(device=record.environment.device)
    return f"{how}, torch {record.environment.torch}"


def place(record: Comparable) -> str:
    """Where a row was measured, in a word: CPU, or the GPU's name."""
    return "CPU" if METERS[record.case.meter].device == "cpu" else str(record.environment.device)


Rows = TypeVar("Rows", MemoryRecord, StepTimeRecord)


@dataclass(frozen=True)
class Selection(Generic[Rows]):
    """The rows of a verdict, all alike."""

    rows: list[Rows]
    """Of the wanted cases, in their order."""
    like: list[Rows]
    """Every good row that can be compared with them."""
    passed_over: str = ""
    """Why rows of a better meter were not used, if there are some."""

    @property
    def provenance(self) -> str:
        """Where the rows come from, with what a reader should know before trusting them."""
        commits = {str(row.environment.commit) for row in self.rows}
        mixed = f"; rows of {len(commits)} commits ({', '.join(sorted(commits))})" if len(commits) > 1 else ""
        passed = f"; measured rows were not used: {self.passed_over.rstrip('.')}" if self.passed_over else ""
        return provenance(self.rows[0]) + mixed + passed


def find(records: Sequence[Record], wanted: Sequence[Case], kind: type[Rows]) -> Selection[Rows]:
    """The rows of the wanted cases, by whichever meter, the most trusted first.

    NotJudgedError if no set of like rows holds all of them.
    """
    complaint = ""
    for meter in sorted(METERS, key=lambda name: METERS[name].trust):
        ids = [replace(case, meter=meter).id for case in wanted]
        rows: list[Rows] = [r for r in records if isinstance(r, kind) and r.case.meter == meter]
        for like in reversed(like_sets([r for r in rows if r.ok])):  # the later file counts
            by_id = {r.case.id: r for r in like}
            if all(name in by_id for name in ids):
                return Selection([by_id[name] for name in ids], like, complaint)
        # The complaint about the best meter that was tried at all for these cases.
        if not complaint and any(r.case.id in ids for r in rows):
            complaint = _complaint(rows, ids)
    raise NotJudgedError(complaint or f"Missing: {_few([replace(case, meter='simulated').id for case in wanted])}.")


def _complaint(rows: Sequence[Record], ids: Sequence[str]) -> str:
    """Why no set of like rows among `rows` holds all of `ids`."""
    good, bad = ({r.case.id: r for r in rows if r.ok is ok} for ok in (True, False))
    lacking = [_lacking(name, bad.get(name)) for name in ids if name not in good]
    if lacking:
        return f"Missing: {_few(lacking)}."
    other, what = next((name, d) for name in ids[1:] if (d := difference(good[ids[0]], good[name])))
    return f"Refused: {ids[0]} and {other} cannot be compared, they differ in {what}; measure them alike."


def _lacking(name: str, row: Record | None) -> str:
    return name if row is None else f"{name} ({row.status}: {row.reason})"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more rows" if len(names) > 2 else "")
