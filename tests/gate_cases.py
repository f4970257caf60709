"""Cases and rows that the tests of the memory gate share."""

import dataclasses
import json

from msgspec import structs

from bench.records import MemoryRecord

LARGE = {"steps": 3, "batch": 256, "frames": 196}
"""The published size, whose proportions the messages must get right; few steps, so that it is quick."""
TINY = {"backbone": "mld-tiny", "steps": 4, "batch": 2, "frames": 5}


def changed(row: MemoryRecord, **reading) -> MemoryRecord:
    """A record with other figures."""
    assert row.reading is not None
    return structs.replace(row, reading=dataclasses.replace(row.reading, **reading))


def elsewhere(row: MemoryRecord, **environment) -> MemoryRecord:
    """A record of another place."""
    return structs.replace(row, environment=structs.replace(row.environment, **environment))


def shifted(text: str, size: int) -> str:
    """A baseline whose first row has one owner, and with it every figure it is part of, larger by `size` bytes."""
    document = json.loads(text)
    row = document["rows"][0]
    row["peak"] += size
    row["phases"] = {phase: min(peak, row["peak"]) for phase, peak in row["phases"].items()}
    next(o for o in row["owners"] if o[0] == "reward" and o[4] > 2048)[4] += size
    return json.dumps(document)
