"""What a figure depends on, each part as a short digest: code, packages, input files.

A kept result stands for a new one where all of these are equal, and never otherwise. "The same commit" is not enough:
files may have been changed since, and a third party's method lies in no repository of ours.
"""

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Collection, Iterable
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
"""Of this code: what holds the packages bench and methods."""
PACKAGES = ("torch", "numpy", "safetensors", "pytest-benchmark")
VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES")
"""Of the environment: what changes bytes or times."""
LENGTH = 16
"""Characters of a digest: 64 bits."""


def key(*parts: object) -> str:
    """A digest of JSON values, whatever order their fields are in."""
    return _digest(json.dumps(parts, sort_keys=True).encode())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:LENGTH]


@functools.cache
def code(modules: tuple[str, ...] = ()) -> str:
    """Of every Python file of bench and methods, and of the named modules of others, by content.

    As they are when this is first asked, which is when a process begins.
    """
    files = {path.relative_to(ROOT).as_posix(): path for name in ("bench", "methods") for path in _sources(ROOT / name)}
    for name in modules:
        source = getattr(sys.modules.get(name), "__file__", None)
        if source is not None:
            files |= {f"{name}/{path.name}": path for path in _beside(Path(source))}
    return key(*((name, _digest(path.read_bytes())) for name, path in sorted(files.items())))


def _sources(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def _beside(source: Path) -> list[Path]:
    """A module's file; of a package, all its files."""
    return _sources(source.parent) if source.name == "__init__.py" else [source]


@functools.cache
def versions() -> dict[str, str]:
    """Of Python and of the packages that figures hang on."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}


@functools.cache
def machine() -> dict[str, object]:
    """What figures were or will be measured on, asked of the driver and not of CUDA, which would take memory."""
    variables = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    return {"machine": platform.machine(), "cpus": os.cpu_count(), "gpus": _gpus(), **variables}


def _gpus() -> list[str]:
    import pynvml

    try:
        pynvml.nvmlInit()
        handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
        return [str(pynvml.nvmlDeviceGetName(handle)) for handle in handles]
    except pynvml.NVMLError:
        return []


@functools.cache
def commit() -> str | None:
    """The commit of this code, `-dirty` where it was changed since; None where it is in no repository, or only lies
    inside one of something else."""
    if not _git("ls-files", "--error-unmatch", "bench/identity.py"):
        return None
    return _git("describe", "--always", "--dirty", "--abbrev=12") or None


@functools.cache
def commit_date(name: str) -> datetime | None:
    """Of a commit of this code, by the name that `commit` gives it; None for one that is not in this repository, and
    for a tree that was changed since."""
    if not re.fullmatch(r"[\w.+/][\w.+/-]*", name):
        return None
    date = _git("show", "--no-patch", "--format=%cI", f"{name}^{{commit}}")
    return datetime.fromisoformat(date) if date else None


def _git(*words: str) -> str:
    """What git says; nothing where it fails, or there is no git on this machine."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def file(path: Path | str) -> str | None:
    """Of a file, by content; None if there is none. Read again only when its size or time has changed."""
    path = Path(path).resolve()
    try:
        stat = path.stat()
    except OSError:
        return None
    return _content(path, stat.st_size, stat.st_mtime_ns, stat.st_ino) if path.is_file() else None


@functools.lru_cache(maxsize=64)
def _content(path: Path, _size: int, _time: int, _inode: int) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()[:LENGTH]


def folder(path: Path | str, suffixes: Collection[str] = ()) -> str:
    """Of a folder of data, which may be too large to read: the names, sizes and times of all its files.

    `suffixes`: of those with these endings alone, if any are given.
    """
    path = Path(path).resolve()
    return key(*(_entry(path, file) for file in folder_files(path, suffixes)))


def folder_files(path: Path, suffixes: Collection[str] = ()) -> list[Path]:
    """As `folder` takes them, in order."""
    every = sorted(path.rglob("*"))
    return [each for each in every if (not suffixes or each.suffix in suffixes) and each.is_file()]


def _entry(root: Path, path: Path) -> tuple[str, int, int]:
    stat = path.stat()
    return path.relative_to(root).as_posix(), stat.st_size, stat.st_mtime_ns


def files(paths: Iterable[Path]) -> dict[str, str | None]:
    """Of several files, by their names."""
    return {path.name: file(path) for path in paths}
