"""Rows as they are measured, one a line, beside the JSON that pytest-benchmark writes only at the very end.

An aborted run loses nothing: its rows are in `FILE.partial`, which the report reads and `--resume` continues from. The
journal is removed once FILE holds every row.
"""

import json
import os
from pathlib import Path

from bench import record


class Journal:
    """The journal of one run; `path` None keeps none."""

    def __init__(self, result: Path | None, resume: bool) -> None:
        self.result = result
        self.path = None if result is None else result.with_name(result.name + ".partial")
        self._kept: dict[str, dict] = {}
        if self.path is None:
            return
        _check_writable(self.path)
        if not resume:
            self.path.unlink(missing_ok=True)
        elif self.path.exists() and self.path.stat().st_size:
            rows = record.load(self.path)
            self._kept = {record.key(row): row for row in rows if row["status"] == "ok"}
            # What a kill cut off is dropped here, so that the next row begins on a line of its own.
            _write(self.path, "".join(map(_line, rows)))

    def kept(self, key: str, commit: object) -> dict | None:
        """A finished row of the aborted run, if it was measured by the code at hand."""
        row = self._kept.get(key)
        return row if row is not None and row["environment"].get("commit") == commit else None

    def add(self, row: dict) -> None:
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(_line(row))
                file.flush()
                os.fsync(file.fileno())

    def close(self) -> None:
        """Removes the journal if its rows are all in the result file."""
        if self.path is None or self.result is None or not self.path.exists():
            return
        try:
            written = {record.key(row) for row in record.load(self.result)}
            if {record.key(row) for row in record.load(self.path)} <= written:
                self.path.unlink()
        except record.RecordError:
            pass  # the run was aborted: the journal stays


def _line(row: dict) -> str:
    return json.dumps(row) + "\n"


def _check_writable(path: Path) -> None:
    try:
        with path.open("a"):
            pass
    except OSError as error:
        raise record.RecordError(
            f"cannot write results to {path.parent}: {error.strerror}; choose another --benchmark-json"
        ) from None


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    temporary.replace(path)
