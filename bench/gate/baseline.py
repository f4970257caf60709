"""A committed baseline of memory rows: what the gate compares a run with.

One JSON file, made by `pytest bench/ --memory-baseline FILE --memory-baseline-update`, stable in order and with a fact
a line, so that a change of it can be reviewed as a diff. It may hold the same case several times, for other torch
versions, devices or settings: each row says which it belongs to.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeGuard

from bench import record
from bench.cases import Case
from bench.claims.compare import difference, likeness
from bench.meters.reading import CATEGORIES, RESIDENT
from bench.record import RecordError
from methods.errors import InputError
from methods.rollout import PHASES

SCHEMA = 1
KIND = "memory baseline"
MARGINS = {"simulated": 0.0, "host": 0.001, "cuda": 0.01}
"""How far a row may stray, as a share of it, before the gate fails. Simulated rows are exact. Measured ones carry the
allocator's rounding and memory inside kernels. A row's own margin may be changed in the file; an update keeps it."""
FIGURES = ("peak", "resident", "sampling")
OWNER = ("phase", "category", "module", "operator", "bytes", "tensors")
MAKE = "make one with --memory-baseline-update"
RENEW = "renew it with --memory-baseline-update"


def load(path: Path) -> list[dict]:
    """The rows of a baseline: memory records cut down to what the gate needs, each with its `margin`.

    RecordError for a file that is missing, empty, cut off, of another schema version, or edited to nonsense.
    """
    if not path.exists():
        raise RecordError(f"there is no baseline {path}: {MAKE}")
    document = record.read_json(path, f"the baseline {path}", f"restore it, or {RENEW}")
    if not is_baseline(document):
        raise RecordError(f"{path} is not a memory baseline of this suite; {MAKE}")
    if document.get("schema") != SCHEMA:
        raise RecordError(
            f"the baseline {path} has schema version {document.get('schema')}, this suite reads {SCHEMA}; {RENEW}"
        )
    if not isinstance(document.get("rows"), list) or not document["rows"]:
        raise RecordError(f"the baseline {path} holds no rows; {RENEW}")
    rows = [_row(written, path) for written in document["rows"]]
    for number, row in enumerate(rows):
        if any(_same_key(row, other) for other in rows[:number]):
            raise RecordError(f"the baseline {path} holds {row['case']['id']} twice under the same settings; {RENEW}")
    return rows


def is_baseline(document: object) -> TypeGuard[dict]:
    """Whether a JSON document is meant as a baseline, usable or not."""
    return isinstance(document, dict) and document.get("kind") == KIND


def _row(written: object, path: Path) -> dict:
    """A row as a record; RecordError, naming the row and the field, for one that no measurement could have written."""
    name = written.get("id", "a row") if isinstance(written, dict) else "a row"

    def refuse(what: str) -> RecordError:
        return RecordError(f"the baseline {path} was edited or damaged: {name} {what}; {RENEW}")

    try:
        case = Case(**written["case"])  # type: ignore[index]
        if case.id != name:
            raise refuse(f"has a case whose id is {case.id}")
        reading = {figure: written[figure] for figure in FIGURES}  # type: ignore[index]
        reading["phases"] = dict(written["phases"])  # type: ignore[index]
        reading["owners"] = [{**dict(zip(OWNER, o, strict=True)), "where": ""} for o in written["owners"]]  # type: ignore[index]
        margin, settings, environment = (written[key] for key in ("margin", "settings", "environment"))  # type: ignore[index]
    except (KeyError, TypeError, ValueError, InputError) as error:
        if isinstance(error, RecordError):
            raise
        raise refuse(f"cannot be read ({type(error).__name__}: {error})") from None
    sizes = {**{figure: reading[figure] for figure in FIGURES}, **reading["phases"]}
    sizes |= {f"owner {o['module']}": o["bytes"] for o in reading["owners"]}
    for figure, size in sizes.items():
        if type(size) is not int or size < 0:
            raise refuse(f"has {figure} = {size!r}, which is no number of bytes")
    if set(reading["phases"]) != set(PHASES):
        raise refuse(f"has phases {', '.join(reading['phases'])} instead of {', '.join(PHASES)}")
    held = sum(o["bytes"] for o in reading["owners"])
    if reading["owners"] and case.meter != "cuda" and held != reading["peak"]:
        raise refuse(f"has owners of {held} bytes in all and a peak of {reading['peak']}")
    if reading["peak"] < max(reading["resident"], *reading["phases"].values()):
        raise refuse(f"has a peak of {reading['peak']} bytes, which is less than one of its parts")
    if type(margin) not in (int, float) or not 0 <= margin < 1:
        raise refuse(f"has margin {margin!r}, which is no share from 0 to 1")
    if not isinstance(settings, dict) or not isinstance(environment, dict):
        raise refuse("has no settings or environment")
    return {**_reduced(case, settings, environment, reading), "margin": margin}


def _reduced(case: Case, settings: dict, environment: dict, reading: dict) -> dict:
    """A memory record with nothing but what the gate compares."""
    return {
        "schema": record.SCHEMA,
        "kind": "memory",
        "case": {**vars(case), "id": case.id},
        "status": "ok",
        "settings": settings,
        "environment": environment,
        "reading": reading,
    }


def _same_key(one: dict, other: dict) -> bool:
    return one["case"]["id"] == other["case"]["id"] and difference(one, other) is None


def updated(old: Sequence[dict], measured: Sequence[dict]) -> list[dict]:
    """The baseline that a run's rows make of an old one.

    It holds the run's cases and no others. Of their old rows, those that this run could not have measured (another
    torch version, device or setting) stay, and so does a row's own margin.
    """
    ids = {row["case"]["id"] for row in measured}
    rows = []
    for row in measured:
        before = next((o for o in old if _same_key(o, row)), None)
        rows.append({**row, "margin": before["margin"] if before else MARGINS[row["case"]["meter"]]})
    kept = [o for o in old if o["case"]["id"] in ids and not any(_same_key(o, row) for row in measured)]
    return rows + kept


def save(path: Path, rows: Iterable[dict]) -> None:
    """Writes a baseline, atomically. Owners of the same operator are added up: lines of code change too often."""
    ordered = sorted(rows, key=lambda row: (row["case"]["id"], json.dumps(likeness(row), sort_keys=True)))
    body = ",\n".join(map(_written, ordered))
    text = f'{{\n"kind": {json.dumps(KIND)},\n"schema": {SCHEMA},\n"rows": [\n{body}\n]\n}}\n'
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text)
        temporary.replace(path)
    except OSError as error:
        raise RecordError(f"cannot write the baseline {path}: {error.strerror}") from None


def _written(row: dict) -> str:
    """One row as JSON, a fact a line."""
    reading = row["reading"]
    key = likeness(row)
    facts = {
        "id": row["case"]["id"],
        "case": {name: value for name, value in row["case"].items() if name != "id"},
        "settings": {name.removeprefix("settings."): v for name, v in key.items() if name.startswith("settings.")},
        "environment": {name: key[name] for name in ("torch", "device", "cuda") if key[name] is not None},
        "margin": row["margin"],
        **{figure: reading[figure] for figure in FIGURES},
        "phases": reading["phases"],
    }
    lines = [f'  "{name}": {json.dumps(value)}' for name, value in facts.items()]
    owners = ",\n".join(f"    {json.dumps(owner)}" for owner in _by_operator(reading["owners"]))
    return "{\n" + ",\n".join(lines) + f',\n  "owners": [\n{owners}\n  ]\n}}'


def _by_operator(owners: Sequence[dict]) -> list[list]:
    added: dict[tuple, list[int]] = {}
    for o in owners:
        sums = added.setdefault(tuple(o[name] for name in OWNER[:4]), [0, 0])
        sums[0] += o["bytes"]
        sums[1] += o["tensors"]
    phases, categories = (RESIDENT, *PHASES), CATEGORIES

    def place(key: tuple) -> tuple:
        return phases.index(key[0]), categories.index(key[1]), *key[2:]

    return [[*key, *added[key]] for key in sorted(added, key=place)]
