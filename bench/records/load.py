"""Records from files: decoded and checked here, once, so that nobody after it has to.

A result is pytest-benchmark's JSON, whose `extra_info` holds a record each; a journal (`.partial`) holds one a line.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from bench.records.types import SCHEMA, Record, measured
from bench.records.upgrade import upgrade
from methods.errors import InputError

GIVE = "give a JSON written by pytest bench/ --benchmark-json"
AGAIN = "run the benchmark again"
MOST_CHARACTERS = 200
"""Of what a message repeats from a file."""


class RecordError(InputError):
    """A file of results cannot be used."""


def load(path: Path | str) -> list[Record]:
    """The records of a result file or of a journal.

    RecordError for a file that is missing, empty, cut off, not a result of this suite, of another schema version, or
    that holds a row which no measurement could have written: the message names file, row and field.
    """
    path = Path(path)
    if path.suffix == ".partial":
        rows = from_journal(read_text(path, str(path), AGAIN))
        if not rows:
            raise RecordError(f"{path} holds no whole record: {AGAIN}")
    else:
        mend = f"{GIVE} (the rows of an aborted run are in {path}.partial)"
        rows = _from_benchmark_json(read_json(path, str(path), mend), path)
    return [decode(row, str(path)) for row in rows]


def decode(row: object, source: str = "the record") -> Record:
    """A row of JSON as a record; RecordError, naming `source`, the row and the field, for one that is none."""
    if not isinstance(row, dict) or "schema" not in row:
        raise RecordError(f"{source} holds rows that are not of this suite: {GIVE}")
    if row["schema"] not in (1, SCHEMA) or isinstance(row["schema"], bool):
        raise RecordError(
            f"{source} has schema version {shortened(row['schema'])}, this suite reads versions 1 and {SCHEMA}: {AGAIN}"
        )
    record: Record = convert(upgrade(row), Record, f"{source} has a record, {_name(row)},")
    if record.ok and measured(record) is None:
        raise RecordError(f"{source} has a record, {_name(row)}, with status ok and no figures: it was edited, {AGAIN}")
    return record


def convert(value: object, kind: Any, what: str) -> Any:
    """JSON types as `kind`; RecordError "`what` whose FIELD ..." where they are not."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        reason, _, field = str(error).partition(" - at `$")
        where = f"whose field {shortened(field.strip('`.') or '?')} is wrong" if field else "that is wrong"
        raise RecordError(f"{what} {where} ({shortened(reason)}): it was edited or cut, {AGAIN}") from None
    except RecursionError:
        raise RecordError(f"{what} that is nested too deeply: {AGAIN}") from None


def _name(row: dict[str, Any]) -> str:
    case = row.get("case")
    return shortened(case.get("id", "one without an id") if isinstance(case, dict) else "one without a case")


def shortened(value: object) -> str:
    """A value from a file as it may stand in a message: on one line, and not long."""
    text = " ".join(str(value).split())
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + "…"


def read_text(path: Path, name: str, mend: str) -> str:
    """The text of a file. RecordError, with `name` for the file and `mend` for what to do, if it cannot be read, is no
    text, or is empty."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        if isinstance(error, UnicodeDecodeError):
            raise RecordError(f"{name} is not a text file: {mend}") from None
        reason = error.strerror if isinstance(error, OSError) else error
        raise RecordError(f"cannot read {name}: {reason}; check the path") from None
    if not text.strip():
        raise RecordError(f"{name} is empty: {mend}")
    return text


def read_json(path: Path, name: str, mend: str) -> object:
    """The document of a JSON file; RecordError as `read_text`, and if it is cut off, broken, nested without end, or
    holds what is no number (NaN, infinity)."""
    text = read_text(path, name, mend)
    try:
        return parse(text)
    except json.JSONDecodeError as error:
        raise RecordError(f"{name} is not whole JSON (line {error.lineno}: {error.msg}): {mend}") from None
    except RecursionError:
        raise RecordError(f"{name} is nested too deeply: {mend}") from None
    except ValueError as error:
        raise RecordError(f"{name} cannot be read ({shortened(error)}): {mend}") from None


def parse(text: str) -> object:
    """A JSON document; ValueError for NaN and infinities too, which are no JSON, RecursionError for endless nesting."""
    return json.loads(text, parse_constant=_refuse)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"it holds {constant}, which is no figure")


def _from_benchmark_json(document: object, path: Path) -> list[object]:
    if not isinstance(document, dict) or not isinstance(document.get("benchmarks"), list):
        raise RecordError(f"{path} is not a pytest-benchmark result: {GIVE}")
    rows = [b["extra_info"] for b in document["benchmarks"] if isinstance(b, dict) and b.get("extra_info")]
    if not rows:
        raise RecordError(f"{path} holds no record of this suite: {GIVE}")
    return rows


def from_journal(text: str) -> list[dict[str, Any]]:
    """The rows of a journal's whole lines. A kill cuts a line, and a full disk may cut one in the middle: what comes
    after it is whole again. Lines that are no records (results of parts of a row) are left out."""
    rows = []
    for line in text.split("\n"):
        try:
            row = parse(line) if line.strip() else None
        except (ValueError, RecursionError):
            continue
        result = row.get("result", row) if isinstance(row, dict) else None
        if isinstance(result, dict) and "schema" in result:
            rows.append(result)
    return rows


def merge(files: Iterable[list[Record]]) -> list[Record]:
    """Records of several files; a later one replaces an earlier one of the same kind, case, device and torch."""
    merged: dict[tuple, Record] = {}
    for records in files:
        for record in records:
            merged[record.kind, record.case.id, record.environment.device, record.environment.torch] = record
    return list(merged.values())
