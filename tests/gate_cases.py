"""Cases and rows that the tests of the memory gate share."""

import json

LARGE = {"steps": 3, "batch": 256, "frames": 196}
"""The published size, whose proportions the messages must get right; few steps, so that it is quick."""
TINY = {"backbone": "mld-tiny", "steps": 4, "batch": 2, "frames": 5}


def changed(row: dict, **reading) -> dict:
    """A row with other figures."""
    return {**row, "reading": {**row["reading"], **reading}}


def shifted(text: str, size: int) -> str:
    """A baseline whose first row has one owner, and with it every figure it is part of, larger by `size` bytes."""
    document = json.loads(text)
    row = document["rows"][0]
    row["peak"] += size
    row["phases"] = {phase: min(peak, row["peak"]) for phase, peak in row["phases"].items()}
    next(o for o in row["owners"] if o[0] == "reward" and o[4] > 2048)[4] += size
    return json.dumps(document)
