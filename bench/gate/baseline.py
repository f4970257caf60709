"""A committed baseline of memory rows: what the gate compares a run with.

One JSON file, made by `pytest bench/ --memory-baseline FILE --memory-baseline-update`, stable in order and with a fact
a line, so that a change of it can be reviewed as a diff. It may hold the same case several times, for other torch
versions, devices or settings: each row says which it belongs to.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, TypeGuard

import msgspec
from msgspec import Meta, Struct, structs

from bench.cases import Case
from bench.claims.compare import difference, likeness
from bench.meters import METERS
from bench.meters.reading import CATEGORIES, RESIDENT, Bytes, Peak
from bench.records import MemoryRecord, RecordError
from bench.records.contradictions import of_figures, shortened
from bench.records.load import convert, read_json
from bench.records.types import Environment, MethodCase, Settings
from methods.errors import InputError
from methods.files import write_atomically
from methods.rollout import PHASES

SCHEMA = 1
KIND = "memory baseline"
FIGURES = ("peak", "resident", "sampling")
MAKE = "make one with --memory-baseline-update"
RENEW = "renew it with --memory-baseline-update"


class Owner(Struct, frozen=True, array_like=True):
    """Live bytes at the moment of the peak that one operator of one module allocated; fields as bench.meters.reading's
    Owner."""

    phase: str
    category: str
    module: str
    operator: str
    bytes: Bytes
    tensors: Bytes
    where: str = ""
    """`file:line` of the largest allocation. Not in the file: lines of code change too often."""

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.phase, self.category, self.module, self.operator


class Row(Struct, frozen=True):
    """A memory record cut down to what the gate compares; fields as MemoryRecord's and Reading's."""

    case: MethodCase
    settings: Settings
    environment: Environment
    margin: Annotated[float, Meta(ge=0, lt=1)]
    """Its meter's, or what was written in the file since: an update keeps that."""
    peak: Peak
    resident: Bytes
    sampling: Bytes
    phases: dict[str, Bytes]
    owners: list[Owner]

    @property
    def figures(self) -> dict[str, int]:
        """What is judged, by name."""
        return {**{figure: getattr(self, figure) for figure in FIGURES}, **self.phases}


def cut_down(record: MemoryRecord) -> Row:
    """A measured record (status ok) as a row, with its meter's margin."""
    reading = record.reading
    assert reading is not None
    merged: dict[tuple, Owner] = {}
    for o in reading.owners:  # the largest first: its line stays
        owner = Owner(o.phase, o.category, o.module, o.operator, o.bytes, o.tensors, o.where)
        if before := merged.get(owner.key):
            owner = structs.replace(before, bytes=before.bytes + o.bytes, tensors=before.tensors + o.tensors)
        merged[owner.key] = owner
    return Row(
        case=record.case,
        settings=record.settings,
        environment=record.environment,
        margin=METERS[record.case.meter].margin,
        peak=reading.peak,
        resident=reading.resident,
        sampling=reading.sampling,
        phases=reading.phases,
        owners=list(merged.values()),
    )


def load(path: Path) -> list[Row]:
    """The rows of a baseline. RecordError for a file that is missing, empty, cut off, of another schema version, or
    edited to nonsense."""
    if not os.path.exists(path):  # also where the name cannot be one
        raise RecordError(f"there is no baseline {path}: {MAKE}")
    document = read_json(path, f"the baseline {path}", f"restore it, or {RENEW}")
    if not is_baseline(document):
        raise RecordError(f"{path} is not a memory baseline of this suite; {MAKE}")
    schema, written = document.get("schema"), document.get("rows")
    if schema != SCHEMA or isinstance(schema, bool):
        raise RecordError(
            f"the baseline {path} has schema version {shortened(schema)}, this suite reads {SCHEMA}; {RENEW}"
        )
    if not isinstance(written, list) or not written:
        raise RecordError(f"the baseline {path} holds no rows; {RENEW}")
    rows = [_row(row, path) for row in written]
    for number, row in enumerate(rows):
        if any(_same_key(row, other) for other in rows[:number]):
            raise RecordError(f"the baseline {path} holds {row.case.id} twice under the same settings; {RENEW}")
    return rows


def is_baseline(document: object) -> TypeGuard[dict]:
    """Whether a JSON document is meant as a baseline, usable or not."""
    return isinstance(document, dict) and document.get("kind") == KIND


def _row(written: object, path: Path) -> Row:
    """A row of the file; RecordError, naming the row and the field, for one that no measurement could have written."""
    name = written.get("id") if isinstance(written, dict) else None
    what = f"the baseline {path} has a row, {shortened(name or 'one without an id')},"
    if isinstance(written, dict) and isinstance(written.get("case"), dict):
        written = {**written, "case": {**written["case"], "id": name}}
    row: Row = convert(written, Row, what, RENEW)
    if wrong := _contradiction(row):
        raise RecordError(f"{what} {wrong}: it was edited or damaged; {RENEW}")
    return row


def _contradiction(row: Row) -> str | None:
    """What no measurement could have written, though every field by itself is right."""
    try:
        case = Case(**{field.name: getattr(row.case, field.name) for field in fields(Case)})
    except InputError as error:
        return f"whose case cannot be: {shortened(str(error))}"
    if case.id != row.case.id:
        return f"with a case whose id is {case.id}"
    held = sum(owner.bytes for owner in row.owners)
    if row.owners and METERS[case.meter].device != "cuda" and held != row.peak:
        return f"with owners of {held} bytes in all and a peak of {row.peak}"
    return next(of_figures(row), None)


def _same_key(one: Row, other: Row) -> bool:
    return one.case.id == other.case.id and difference(one, other) is None


def updated(old: Sequence[Row], measured: Sequence[Row]) -> list[Row]:
    """The baseline that a run's rows make of an old one.

    It holds the run's cases and no others. Of their old rows, those that this run could not have measured (another
    torch version, device or setting) stay, and so does a row's margin.
    """
    ids = {row.case.id for row in measured}
    rows = []
    for row in measured:
        before = next((o for o in old if _same_key(o, row)), None)
        rows.append(structs.replace(row, margin=before.margin) if before else row)
    kept = [o for o in old if o.case.id in ids and not any(_same_key(o, row) for row in measured)]
    return rows + kept


def save(path: Path, rows: Iterable[Row]) -> None:
    """Writes a baseline, whole or not at all; InputError if the disk does not take it."""
    ordered = sorted(rows, key=lambda row: (row.case.id, json.dumps(likeness(row), sort_keys=True)))
    body = ",\n".join(map(_written, ordered))
    write_atomically(path, f'{{\n"kind": {json.dumps(KIND)},\n"schema": {SCHEMA},\n"rows": [\n{body}\n]\n}}\n')


def _written(row: Row) -> str:
    """One row as JSON, a fact a line."""
    key, given = likeness(row), msgspec.to_builtins(row.settings)  # without those that are as ever
    settings = {name: key[f"settings.{name}"] for name in sorted(given) if f"settings.{name}" in key}
    facts = {
        "id": row.case.id,
        "case": {name: value for name, value in msgspec.to_builtins(row.case).items() if name != "id"},
        "settings": settings,
        "environment": {name: key[name] for name in ("torch", "device", "cuda") if key[name] is not None},
        "margin": row.margin,
        **{figure: getattr(row, figure) for figure in FIGURES},
        "phases": row.phases,
    }
    lines = [f'  "{name}": {json.dumps(value)}' for name, value in facts.items()]
    ordered = sorted(row.owners, key=lambda o: (_PHASES.index(o.phase), CATEGORIES.index(o.category), *o.key[2:]))
    owners = ",\n".join(f"    {json.dumps([*o.key, o.bytes, o.tensors])}" for o in ordered)
    return "{\n" + ",\n".join(lines) + f',\n  "owners": [\n{owners}\n  ]\n}}'


_PHASES = (RESIDENT, *PHASES)
