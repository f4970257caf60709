"""The report's files: made beside the old ones, then moved into place one by one, so that none is ever half-written."""

import os
import tempfile
from pathlib import Path

from bench import claims
from bench.report import history
from bench.report.page import SUFFIXES
from bench.report.sections import FILES
from methods.errors import InputError


class OutputError(InputError):
    """The report cannot be written; the message is one sentence."""


def check(folder: Path) -> None:
    """Makes the folder, and sees that files can be made in it; OutputError if not."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"cannot write a report to {folder}: {error.strerror}; choose another --out") from None


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Writes `files` (paths inside the folder), and removes those of an earlier report that this one does not have.

    OutputError if the disk does not take them; the earlier report is then as it was.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=".new-", dir=folder) as new:
            for name, content in files.items():
                path = Path(new, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            for name in files:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(Path(new, name), folder / name)
        for name in known() - set(files):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write the report to {folder}: {error.strerror}; choose another --out") from None


def known() -> set[str]:
    """Every file that some report, or history, may have; nothing else in the folder is touched."""
    stems = ("verdicts", "runs", "lacking", *FILES, *(claim.id for claim in claims.CLAIMS), *history.FILES)
    return {"index.html", "summary.md"} | {
        f"{folder}/{stem}.{suffix}" for folder, suffixes in SUFFIXES.items() for suffix in suffixes for stem in stems
    }
