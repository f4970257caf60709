"""Results of finished jobs, one a line of a file, written the moment they are there.

A run that is killed loses nothing that was finished: the next one takes over every line whose key is that of its own
job. A key is of all that decides a result (bench.identity), and a line carries a digest of its result, so that one
which was edited or damaged is measured again.
"""

import contextlib
import json
import os
import shutil
import tempfile
import threading
from pathlib import Path

from bench import identity
from bench.strict_json import parse
from methods.errors import InputError
from methods.files import check_writable, locked, write_atomically


class Kept:
    """The results in a file, and the folders of jobs that are not finished beside it.

    path: None keeps nothing. resume: take over what an earlier run left; otherwise it is removed. InputError where
    nothing can be written there, or another run does.
    """

    def __init__(self, path: Path | None, resume: bool = True) -> None:
        self.path = path
        self._results: dict[str, object] = {}
        self._lock = threading.Lock()
        self._stack = contextlib.ExitStack()
        if path is None:
            self._folders = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
            return
        check_writable(path)
        self._stack.enter_context(locked(path))
        self._folders = path.with_name(path.name + ".work")
        if not resume:
            self.remove()
        elif path.exists():
            text = path.read_text(encoding="utf-8", errors="replace")
            lines = [line for line in text.split("\n") if (row := _row(line)) and self._take(row)]
            # What a kill cut off is dropped, so that the next line begins as one.
            write_atomically(path, "".join(f"{line}\n" for line in lines))

    def _take(self, row: dict) -> bool:
        key, result = row.get("key"), row.get("result")
        if not isinstance(key, str) or row.get("sum") != identity.key(result):
            return False
        self._results[key] = result
        return True

    def get(self, key: str) -> object | None:
        """A kept result, as JSON types."""
        return self._results.get(key)

    def add(self, key: str, kind: str, name: str, result: object) -> None:
        """Keeps a result, which is on the disk when this returns. InputError if the disk does not take it."""
        line = {"key": key, "sum": identity.key(result), "kind": kind, "id": name, "result": result}
        with self._lock:
            if self.path is not None:
                try:
                    with self.path.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(line) + "\n")
                        file.flush()
                        os.fsync(file.fileno())
                except OSError as error:
                    raise InputError(f"cannot keep results in {self.path}: {error.strerror}; free some space") from None
            self._results[key] = result
        shutil.rmtree(self.folder(key), ignore_errors=True)

    def add_row(self, kind: str, name: str, row: object) -> None:
        """Adds a row that was made of several results, for whoever reads the file of an aborted run."""
        key = identity.key(kind, name)
        if self.path is not None and identity.key(self._results.get(key)) != identity.key(row):  # a tuple is a list
            self.add(key, kind, name, row)

    @property
    def anything(self) -> bool:
        """Whether there is anything to go on from: a result, or the folder of a job that is not finished."""
        return self.path is not None and (bool(self._results) or self._folders.is_dir())

    def folder(self, key: str) -> Path:
        """The folder of a job that is not finished."""
        return self._folders / key

    def remove(self) -> None:
        """Removes the file and the folders: their results are elsewhere, or not wanted."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            shutil.rmtree(self._folders, ignore_errors=True)

    def close(self) -> None:
        """Lets another run write here."""
        self._stack.close()


def _row(line: str) -> dict | None:
    try:
        row = parse(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None
