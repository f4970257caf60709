"""Records from files: decoded and checked here, once, so that nobody after it has to.

A result is pytest-benchmark's JSON, whose `extra_info` holds a record each; a journal (`.partial`) holds one a line.
"""

import contextlib
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from bench.meters.reading import CATEGORIES, RESIDENT, Reading
from bench.records.types import SCHEMA, Record, Timing, measured
from bench.records.upgrade import upgrade
from methods.errors import InputError
from methods.rollout import PHASES

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
        rows: Sequence[object] = from_journal(read_text(path, str(path), AGAIN))
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
    what = f"{source} has a record, {_name(row)},"
    with _refusing(what, AGAIN):
        record: Record = msgspec.convert(upgrade(row), Record)
    if wrong := _contradiction(record):
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


def _contradiction(record: Record) -> str | None:
    """What no measurement could have written, though every field by itself is right."""
    result = measured(record)
    if record.ok and result is None:
        return "with status ok and no figures"
    if isinstance(result, Reading):
        wrong = contradiction(result)
        categories, split = set(result.categories), result.split
        if categories not in (set(), set(CATEGORIES)):
            wrong = wrong or f"with categories {_listed(categories)} instead of {_listed(CATEGORIES)}"
        if split and (set(split) != set(PHASES) or any(set(parts) != set(CATEGORIES) for parts in split.values())):
            wrong = wrong or "whose bytes at the peak are not split by phase and category"
        if not {phase for _, _, phase in result.timeline} <= {*PHASES, ""}:  # "": between two
            wrong = wrong or "whose timeline has an unknown phase"
        return wrong
    if isinstance(result, Timing) and result.rounds != len(result.seconds_per_update):
        return f"with {result.rounds} rounds and {len(result.seconds_per_update)} times"
    return None


class Held(Protocol):
    """Whose bytes they are (bench.meters.reading.Owner)."""

    @property
    def phase(self) -> str: ...
    @property
    def category(self) -> str: ...


class Figures(Protocol):
    """What a reading (bench.meters.reading.Reading) and a row of the gate's baseline both have."""

    @property
    def peak(self) -> int: ...
    @property
    def resident(self) -> int: ...
    @property
    def phases(self) -> Mapping[str, int]: ...
    @property
    def owners(self) -> Sequence[Held]: ...


def contradiction(figures: Figures) -> str | None:
    """How the figures of a reading contradict one another, if they do."""
    if set(figures.phases) != set(PHASES):
        return f"with phases {_listed(figures.phases)} instead of {_listed(PHASES)}"
    if figures.peak < max(figures.resident, *figures.phases.values()):
        return f"with a peak of {figures.peak} bytes, which is less than one of its parts"
    for owner in figures.owners:
        if owner.phase not in (RESIDENT, *PHASES) or owner.category not in CATEGORIES:
            return f"with an owner of phase {shortened(owner.phase)}, category {shortened(owner.category)}"
    return None


def _listed(names: Iterable[str]) -> str:
    return shortened(", ".join(names))


def _name(row: dict[str, Any]) -> str:
    case = row.get("case")
    return shortened(case.get("id", "one without an id") if isinstance(case, dict) else "one without a case")


def shortened(value: object) -> str:
    """A value from a file as it may stand in a message: on one line, not long, and without a terminal's controls."""
    text = value if isinstance(value, str) else reprlib.repr(value)
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
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
    """The document of a JSON file; RecordError as `read_text`, and if it is no JSON (see `parse`)."""
    text = read_text(path, name, mend)
    try:
        return parse(text)
    except ValueError as error:
        raise RecordError(f"{name} is not whole JSON ({shortened(str(error))}): {mend}") from None


def parse(text: str) -> object:
    """A JSON document; ValueError, with the reason, for text that is cut off, broken or nested without end, and for
    what is no JSON: NaN, infinities, numbers too large for a float, halves of a letter."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        no_figure = "NaN" in text or "Infinity" in text
        raise ValueError(f"{error}{'; NaN and Infinity are no figures' if no_figure else ''}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


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
        except ValueError:
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
