"""Arrays from .npy and .npz files of others: what a file holds is read from its header before anything is built.

Only plain numbers and text, never objects; nothing is unpickled. A file cannot make more memory than it has bytes for,
and an .npz no more than it may unpack to.
"""

import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from bench.motion.clip import DataError
from bench.motion.lines import opened

LARGEST = 4 << 30
"""Bytes that a file may unpack to: 225 hours of 22 joints at 20 frames per second."""
PACKED, SMALL = 100, 64 << 20
"""How many times its size a file may unpack to, where that is more than SMALL bytes: motion packs to half, zeros to a
thousandth."""


@dataclass(frozen=True)
class Header:
    """What an array's file says of it."""

    shape: tuple[int, ...]
    dtype: np.dtype
    start: int
    """Bytes before the values."""

    @property
    def bytes(self) -> int:
        total = self.dtype.itemsize
        for length in self.shape:
            total *= length
        return total


def header(path: Path) -> Header:
    """Of an .npy file. FileNotFoundError; DataError if it is not the file of one whole plain array."""
    with opened(path) as file:
        return _header(file, os.stat(path).st_size, str(path))


def read(path: Path) -> NDArray:
    """The array of an .npy file. As `header`."""
    with opened(path) as file:
        head = _header(file, os.stat(path).st_size, str(path))
        return _values(file, head, str(path))


def read_npz(path: Path, kinds: Mapping[str, str]) -> dict[str, NDArray]:
    """The arrays of these names in an .npz file, as far as it has them; `kinds`: the letters of numpy's kinds that each
    may be of.

    FileNotFoundError; DataError for a file that is damaged or no .npz, that unpacks to more than it may, and for an
    array of another kind.
    """
    try:
        with opened(path) as packed, zipfile.ZipFile(packed) as file:
            members = {name: file.getinfo(f"{name}.npy") for name in kinds if f"{name}.npy" in file.namelist()}
            _check_size(path, sum(member.file_size for member in members.values()))
            arrays = {}
            for name, member in members.items():
                with file.open(member) as inner:
                    head = _header(inner, member.file_size, f"{path}, array {name}")
                    if head.dtype.kind not in kinds[name]:
                        raise DataError(f"{path}, array {name}: it is of type {head.dtype}: write plain numbers")
                    arrays[name] = _values(inner, head, f"{path}, array {name}")
            return arrays
    except (DataError, FileNotFoundError):
        raise
    except Exception:  # zipfile and zlib have a dozen kinds of errors for damaged files
        raise DataError(f"{path} is not a whole npz of plain arrays: write it again") from None


def _check_size(path: Path, unpacked: int) -> None:
    packed = os.stat(path).st_size
    if unpacked > LARGEST or unpacked > max(PACKED * packed, SMALL):
        raise DataError(
            f"{path} has {packed / 2**20:.1f} MiB and unpacks to {unpacked / 2**20:.0f}: divide it, or store it "
            "without compression if that is right"
        )


def _header(file: IO[bytes], size: int, where: str) -> Header:
    """From an open file of `size` bytes; it stands at the values then."""
    try:
        version = npy.read_magic(file)
        shape, _, dtype = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version](file)
        start = file.tell()
        if min(shape, default=0) < 0:
            raise ValueError
    except Exception:  # it is parsed as Python: tokens, syntax, memory, recursion, ...
        raise DataError(f"{where}: not a whole plain array (its header cannot be read): make it again") from None
    head = Header(shape, dtype, start)
    if dtype.kind not in "biufSU" or dtype.itemsize == 0:
        raise DataError(f"{where}: not a plain array of numbers or text, but {dtype}: make it again")
    if start + head.bytes != size:
        raise DataError(
            f"{where}: not a whole plain array ({size - start} bytes of values, its header says {head.bytes}): make it "
            "again"
        )
    return head


def _values(file: IO[bytes], head: Header, where: str) -> NDArray:
    file.seek(0)
    try:
        return npy.read_array(file, allow_pickle=False)
    except (ValueError, EOFError):
        raise DataError(f"{where}: not a whole plain array: make it again") from None


def as_float32(values: NDArray, where: str) -> NDArray[np.float32]:
    """The numbers in single precision; those too large become infinite. DataError for what is no number."""
    if values.dtype.kind not in "iuf":
        raise DataError(f"{where} holds {values.dtype}, not numbers: make it again")
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(np.float32, copy=False)
