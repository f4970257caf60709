"""Files that are whole or not there: one writer for everything that is kept, and one run at a time where it is kept."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from methods.errors import InputError


def write_atomically(path: Path | str, content: bytes | str | Callable[[Path], object]) -> None:
    """Writes a file beside `path` and moves it into place: a kill leaves the old file or the new one.

    `content` is what goes in, or a function that writes to the path that it is given. The folder is made if need be.
    InputError if the disk does not take it; what was half-written is removed, so that a full disk is not kept full.
    """
    path = Path(path)
    new: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
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
                f"cannot write {path}: {_reason(error)}; free some space, or choose another place"
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
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a folder; name a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another place") from None


@contextlib.contextmanager
def locked(path: Path | str) -> Iterator[None]:
    """One process at a time: holds `path` + ".lock" while open. InputError, at once, where another run holds it.

    The lock is the operating system's and goes with the process, however that ends; the empty file stays.
    """
    import fcntl

    path = Path(path)
    check_writable(path.with_name(path.name + ".lock"))
    with path.with_name(path.name + ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"another run is writing to {path}: wait for it, or choose another place") from None
        yield
