"""Text files as people have them: of any of the common encodings, with the line ends of any system."""

import codecs
import os
import re
from pathlib import Path
from typing import IO

from bench.motion.clip import DataError, Tally

LARGEST = 1 << 28
"""Bytes of a file that is read as a whole."""
MARKS = (
    (codecs.BOM_UTF8, "UTF-8"),
    (codecs.BOM_UTF32_LE, "UTF-32-LE"),  # begins with UTF-16's mark, so it comes first
    (codecs.BOM_UTF32_BE, "UTF-32-BE"),
    (codecs.BOM_UTF16_LE, "UTF-16-LE"),
    (codecs.BOM_UTF16_BE, "UTF-16-BE"),
)
MARK = "\ufeff"
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
"""Characters that end a line somewhere, or drive a terminal."""
HALF = re.compile("[\ud800-\udfff]")
"""Half a character: JSON can write one alone, no text can hold it."""


def is_name(text: str) -> bool:
    """Whether a clip or a file can be called so."""
    return 0 < len(text) <= 200 and not CONTROLS.search(text) and not HALF.search(text)


def read_lines(path: Path, changed: Tally) -> list[str]:
    """The lines of a text file, without their ends; an encoding other than UTF-8 is counted in `changed`.

    FileNotFoundError; DataError for anything but a text file of at most LARGEST bytes.
    """
    content = read_bytes(path)
    return split_lines(decoded(content, path, changed), path, changed)


def read_bytes(path: Path) -> bytes:
    """FileNotFoundError; DataError for a folder, a device, a file that cannot be read or is larger than LARGEST."""
    with opened(path, LARGEST) as file:
        return file.read()


def opened(path: Path, largest: int | None = None) -> IO[bytes]:
    """A file to read. FileNotFoundError; DataError for what is no file, cannot be read, or has more bytes."""
    try:
        if not path.is_file() and path.exists():
            raise DataError(f"{path} is not a file: remove it, or give another folder")
        file = path.open("rb")
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a path that no system has
        if isinstance(error, DataError):
            raise
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    size = os.stat(file.fileno()).st_size
    if largest is not None and size > largest:
        file.close()
        raise DataError(f"{path} has {size / 2**20:.0f} MiB, more than {largest >> 20}: divide it")
    return file


def decoded(content: bytes, path: Path, changed: Tally) -> str:
    """The text of a file: UTF-8, UTF-16 or UTF-32 by its mark or its zero bytes, else Windows-1252.

    DataError where it is none of them, or UTF-8 in part, which is a damaged file and no other encoding.
    """
    encoding = next((name for mark, name in MARKS if content.startswith(mark)), None)
    if encoding is None:
        encoding = _sixteen(content) or "UTF-8"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        bad = f"{path}, line {line}: not {encoding} text from here: save the file again as UTF-8"
        if encoding != "UTF-8" or not content.decode("utf-8", "ignore").isascii():
            raise DataError(bad) from None
        encoding = "Windows-1252"
        try:
            text = content.decode("cp1252")
        except UnicodeDecodeError:
            raise DataError(bad) from None
    if "\x00" in text:
        raise DataError(f"{path} holds zero bytes, as text does not: save it again as UTF-8")
    if encoding != "UTF-8":
        changed.add(f"files read as {encoding}", path.name)
    return text.removeprefix(MARK)


def _sixteen(content: bytes) -> str | None:
    """UTF-16 without a mark, by the zero bytes that most of its characters have here."""
    for start, name in ((1, "UTF-16-LE"), (0, "UTF-16-BE")):
        half = content[start::2]
        if half and half.count(0) > 0.4 * len(half):
            return name
    return None


def split_lines(text: str, path: Path, changed: Tally) -> list[str]:
    """Lines by the ends that editors write: other separators (U+2028, NEL, ...) stand within a line.

    A mark within the file, where files were joined, is removed and counted.
    """
    lines = [line.removesuffix("\r") for line in text.split("\n")] if "\n" in text else text.split("\r")
    for number, line in enumerate(lines):
        if line.startswith(MARK):
            lines[number] = line.lstrip(MARK)
            changed.add("byte-order marks within a file, removed", f"{path.name}, line {number + 1}")
    return lines


def one_line(text: str) -> str:
    """The text with a space in place of line separators and control characters."""
    return CONTROLS.sub(" ", text)
