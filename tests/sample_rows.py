"""Rows of the committed results, made short, for tests that damage them."""

import functools
import json

from bench_command import ROOT

from bench import records
from bench.records.make import to_json


@functools.cache
def committed() -> tuple[dict, ...]:
    """Every row, in the schema of its file."""
    files = sorted((ROOT / "reports" / "reference" / "cpu").glob("*.json"))
    return tuple(_short(b["extra_info"]) for path in files for b in json.loads(path.read_text())["benchmarks"])


def _short(row: dict) -> dict:
    if reading := row.get("reading"):
        reading |= {"owners": reading["owners"][:4], "timeline": reading["timeline"][:6]}
    if alignment := row.get("alignment"):
        for motion in alignment["motions"]:
            motion |= {name: motion[name][: 2 * 176] for name in ("real", "base", "tuned")}
    return row


def today(row: dict) -> dict:
    """A row in today's schema, as it is read from a file."""
    return json.loads(json.dumps(to_json(records.decode(row))))


def kind_of(row: dict) -> tuple[str, str | None]:
    """The kind of a row, and which study it is."""
    return row["kind"], today(row)["case"].get("name")


@functools.cache
def one_of_each() -> tuple[dict, ...]:
    """A row of each kind and study, in the schema of its file and in today's."""
    by_kind: dict[tuple, dict] = {}
    for row in committed():
        by_kind.setdefault(kind_of(row), row)
    return tuple(version for row in by_kind.values() for version in (row, today(row)))


def memory_row() -> dict:
    return next(row for row in one_of_each() if row["kind"] == "memory")
