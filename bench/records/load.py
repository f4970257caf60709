"""Records from files: decoded and checked here, once, so that nobody after it has to.

A result is pytest-benchmark's JSON, whose `extra_info` holds a record each; a journal (`.partial`) holds one a line.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from bench import identity
from bench.records import shards
from bench.records.contradictions import contradiction, shortened
from bench.records.types import SCHEMA, Record
from bench.records.upgrade import upgrade
from bench.strict_json import DoubledKeyError, parse
from methods.errors import InputError

GIVE = "give a JSON written by pytest bench/ --benchmark-json"
AGAIN = "run the benchmark again"


class RecordError(InputError):
    """A file of results cannot be used."""


@dataclass(frozen=True)
class Result:
    """What a file holds. Of a journal only the records are known."""

    path: Path
    records: list[Record]
    written: datetime | None = None
    """In UTC."""
    shard: shards.Shard | None = None
    """Of a run of a share of its cases."""


def load(path: Path | str) -> list[Record]:
    """The records of a result file or of a journal; RecordError as `read`."""
    return read(path).records


def read(path: Path | str) -> Result:
    """A result file or a journal.

    RecordError for a file that is missing, empty, cut off, not a result of this suite, of another schema version, or
    that holds a row which no measurement could have written: the message names file, row and field.
    """
    path = Path(path)
    if path.suffix == ".partial":
        rows = from_journal(read_text(path, str(path), AGAIN), str(path))
        if not rows:
            raise RecordError(f"{path} holds no whole record: {AGAIN}")
        return Result(path, _decoded(rows, path))
    document = read_json(path, str(path), f"{GIVE} (the rows of an aborted run are in {path}.partial)")
    if not isinstance(document, dict) or not isinstance(document.get("benchmarks"), list):
        raise RecordError(f"{path} is not a pytest-benchmark result: {GIVE}")
    found = [b["extra_info"] for b in document["benchmarks"] if isinstance(b, dict) and b.get("extra_info")]
    if not found:
        raise RecordError(f"{path} holds no record of this suite: {GIVE}")
    return Result(path, _decoded(found, path), _date(document.get("datetime")), _shard(document.get("shard"), path))


def _decoded(rows: Sequence[object], path: Path) -> list[Record]:
    return [decode(row, str(path)) for row in rows]


def _date(text: object) -> datetime | None:
    """None for what is no date."""
    try:
        date = datetime.fromisoformat(str(text))
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _shard(written: object, path: Path) -> shards.Shard | None:
    if written is None:
        return None
    shard: shards.Shard = convert(written, shards.Shard, f"{path} has a shard")
    if shard.of < max(shard.number, *(row.shard for row in shard.rows)):
        raise RecordError(f"{path} has a shard beyond its {shard.of}: it was edited, {AGAIN}")
    return shard


def decode(row: object, source: str = "the record") -> Record:
    """A row of JSON as a record; RecordError, naming `source`, the row and the field, for one that is none."""
    if not isinstance(row, dict) or "schema" not in row:
        raise RecordError(f"{source} holds rows that are not of this suite: {GIVE}")
    if row["schema"] not in (1, SCHEMA) or isinstance(row["schema"], bool):
        raise RecordError(
            f"{source} has schema version {shortened(row['schema'])}, this suite reads versions 1 and {SCHEMA}: {AGAIN}"
        )
    what = f"{source} has a record, {_name(row)},"
    with _refusing(what, AGAIN):
        record: Record = msgspec.convert(upgrade(row), Record)
    if wrong := contradiction(record):
        raise RecordError(f"{what} {wrong}: it was edited, {AGAIN}")
    return record


def convert(value: object, kind: Any, what: str, mend: str = AGAIN) -> Any:
    """JSON types as `kind`; RecordError "`what` whose FIELD ...: `mend`" where they are not."""
    with _refusing(what, mend):
        return msgspec.convert(value, kind)


@contextlib.contextmanager
def _refusing(what: str, mend: str) -> Iterator[None]:
    try:
        yield
    except msgspec.ValidationError as error:
        reason, _, field = str(error).partition(" - at `$")
        where = f"whose field {shortened(field.strip('`.') or '?')} is wrong" if field else "that is wrong"
        raise RecordError(f"{what} {where} ({shortened(reason)}): it was edited or cut, {mend}") from None
    except RecursionError:
        raise RecordError(f"{what} that is nested too deeply: {mend}") from None
    except UnicodeEncodeError:
        raise RecordError(f"{what} that holds half a letter (a lone surrogate): {mend}") from None


def _name(row: dict[str, Any]) -> str:
    case = row.get("case")
    return shortened(case.get("id", "one without an id") if isinstance(case, dict) else "one without a case")


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
    """The document of a JSON file; RecordError as `read_text`, and if it is no JSON (see bench.strict_json.parse)."""
    text = read_text(path, name, mend)
    try:
        return parse(text)
    except DoubledKeyError as error:
        raise RecordError(f"{name} {shortened(str(error))}: remove the wrong one, or {mend}") from None
    except ValueError as error:
        raise RecordError(f"{name} is not whole JSON ({shortened(str(error))}): {mend}") from None


def from_journal(text: str, name: str) -> list[dict[str, Any]]:
    """The rows of a journal's whole lines. A kill cuts a line, and a full disk may cut one in the middle: what comes
    after it is whole again. Lines that are no records (results of parts of a row) are left out. RecordError, with
    `name` for the file, for what no kill writes: a line that has a field twice, or a result of another digest."""
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            row = parse(line) if line.strip() else None
        except DoubledKeyError as error:
            raise RecordError(f"{name}, line {number}, {shortened(str(error))}: it was edited, {AGAIN}") from None
        except ValueError:
            continue
        result = row.get("result", row) if isinstance(row, dict) else None
        if isinstance(result, dict) and "schema" in result:
            if isinstance(row, dict) and "sum" in row and row["sum"] != identity.key(result):
                raise RecordError(f"{name}, line {number}, is not as it was written: it was edited, {AGAIN}")
            rows.append(result)
    return rows


def merge(files: Iterable[list[Record]]) -> list[Record]:
    """Records of several files; a later one replaces an earlier one of the same kind, case, device and torch."""
    merged: dict[tuple, Record] = {}
    for records in files:
        for record in records:
            merged[record.kind, record.case.id, record.environment.device, record.environment.torch] = record
    return list(merged.values())
