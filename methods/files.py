"""Files that are whole or not there: one writer for everything that is kept, and one run at a time where it is kept."""

import contextlib
import glob
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from methods.errors import InputError

UNFINISHED = ".part"
"""What the name of a file ends in while it is written."""


def write_atomically(path: Path | str, content: bytes | str | Callable[[Path], object]) -> None:
    """Writes a file beside `path` and moves it into place: a kill leaves the old file or the new one.

    `content` is what goes in, or a function that writes to the path that it is given. The folder is made if need be.
    InputError if the disk does not take it; what was half-written is removed, so that a full disk is not kept full.
    """
    path = Path(path)
    new: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", suffix=UNFINISHED, dir=path.parent)
        os.close(handle)
        new = Path(name)
        if callable(content):
            content(new)
        else:
            new.write_bytes(content.encode() if isinstance(content, str) else content)
        os.chmod(new, 0o644)
        os.replace(new, path)
    except BaseException as error:
        if new is not None:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
        if isinstance(error, OSError) or _said_by_the_disk(error):
            raise InputError(
                f"cannot write {path}: {_reason(error)}; free some space, or choose another path"
            ) from None
        raise


def _said_by_the_disk(error: BaseException) -> bool:
    """torch and safetensors pass a failed write on as errors of their own."""
    return type(error).__name__ == "SafetensorError" or (
        isinstance(error, RuntimeError)
        and any(word in str(error) for word in ("PytorchStreamWriter", "unexpected pos"))
    )


def _reason(error: BaseException) -> str:
    return (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split())[:200]


def check_writable(path: Path | str) -> None:
    """InputError where `path` is a folder, or where no file can be made beside it: to be asked before measuring."""
    path = Path(path)
    try:
        if path.is_dir():
            raise InputError(f"cannot write {path}: it is a folder; name a file")
        if path.exists() and not path.is_file():
            raise InputError(f"cannot write {path}: it is no regular file, and would be replaced; name another")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another path") from None


@contextlib.contextmanager
def locked(path: Path | str) -> Iterator[None]:
    """One process at a time: InputError, at once, where another run holds the same file or folder.

    What a killed run left half-written there is removed. The lock is the operating system's, on a hidden file in the
    folder or beside the file, and goes with the process, however that ends.
    """
    import fcntl

    path = Path(path)
    lock = path / ".lock" if path.is_dir() else path.with_name(f".{path.name}.lock")
    check_writable(lock)
    held = False
    try:
        while not held:
            file = lock.open("a")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                raise InputError(f"another run is writing to {path}: wait for it, or choose another path") from None
            with contextlib.suppress(FileNotFoundError):  # of a run that ended just now, and removed it
                held = os.path.samestat(os.fstat(file.fileno()), lock.stat())
            if not held:
                file.close()
        for left in _half_written(path):
            left.unlink(missing_ok=True)
        yield
    finally:
        if held:
            lock.unlink(missing_ok=True)
            file.close()


def _half_written(path: Path) -> list[Path]:
    """Of the files of a folder, or of a file."""
    folder, name = (path, "*") if path.is_dir() else (path.parent, glob.escape(path.name))
    return list(folder.glob(f".{name}-*{UNFINISHED}"))
