"""Captions as files have them: one rule for all kinds of folders, and `captions.jsonl`, which two of them share.

A caption is left out, and counted, where its time tags cannot be of a part of a clip, or where it has no word. Ids and
texts are taken as they stand; what is changed for use is counted.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from bench.motion.clip import Caption, DataError, Notes, check_split, plausible_rate, shown
from bench.motion.lines import HALF, is_name, one_line, read_lines
from bench.motion.text import words
from bench.strict_json import DoubledKeyError, unique


def caption(
    text: str,
    tags: tuple[float | str, float | str],
    where: str,
    notes: Notes,
    tokens: Sequence[str] = (),
    meaning: str = "",
) -> Caption | None:
    """A caption with its time tags in seconds; None where it is left out, which `notes` counts.

    NaN is 0, as HumanML3D's files have it where there is no tag. ValueError for a tag that is no number.
    """
    start, end = (float(tag) for tag in tags)
    if math.isnan(start) or math.isnan(end):
        notes.changed.add("captions with a time tag that is not a number, read as 0", where)
        start, end = (0.0 if math.isnan(tag) else tag for tag in (start, end))
    if not (0 <= start < math.inf and 0 <= end < math.inf and start <= end):
        notes.left_out.add("captions whose time tags are negative, infinite or end before they begin", where)
        return None
    if not words(text):
        notes.left_out.add("captions without a word", where)
        return None
    line = one_line(text)
    if line != text:
        notes.changed.add("captions with a line separator or control character, made a space", where)
    return Caption(line, tuple(tokens), start, end, meaning)


class _Caption(msgspec.Struct):
    """As a line of JSON has it."""

    text: str
    f_tag: float | str | None = 0.0
    to_tag: float | str | None = 0.0
    meaning: str | None = ""


class _Line(msgspec.Struct):
    split: str
    captions: list[_Caption]
    id: str | int | None = None
    file: str | None = None
    fps: float | None = None


@dataclass(frozen=True)
class Row:
    """One line of a captions file, or several of one clip."""

    where: str
    """File and line, for messages."""
    id: str
    split: str
    captions: tuple[Caption, ...]
    file: str | None
    """The motion file's name, where the line gives one."""
    fps: float | None
    """The motion file's true frame rate, where the line gives one."""


def read_captions(path: Path, split: str, notes: Notes) -> list[Row]:
    """The clips of a captions file, of all splits; a line without `id` is named by its `file`.

    Lines of one clip in one split are joined. `notes` counts what is left out and changed in `split`, and a clip there
    whose captions all go. DataError, with the line, for anything but an object with a name, a split and at least one
    caption with a text.
    """
    try:
        lines = read_lines(path, notes.changed)
    except FileNotFoundError:
        raise DataError(f"there is no {path}: write one JSON object a line, with id, split and captions") from None
    rows: dict[tuple[str, str], Row] = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            where, of_line = f"{path}, line {number}", Notes()
            try:
                row = _row(line, where, f"{path.name}, line {number}", of_line)
                before = rows.get((row.split, row.id))
                if before and (before.file, before.fps) != (row.file, row.fps):
                    raise ValueError(f"clip {shown(row.id)} has another file or fps in {before.where}")
            except (ValueError, RecursionError) as error:
                said = one_line(str(error))[:200]
                raise DataError(
                    f"{where} is no usable caption line ({said}): it must be a JSON object with id or file, split, and "
                    "captions, a list of objects with text"
                ) from None
            if before:
                of_line.changed.add("lines of a clip that has a line before, joined to it", f"{path.name}, {number}")
                row = replace(before, captions=before.captions + row.captions)
            rows[row.split, row.id] = row
            if row.split == split:
                notes.extend(of_line)
    for row in rows.values():
        if row.split == split and not row.captions:
            notes.left_out.add("clips without a usable caption", row.id)
    return list(rows.values())


def _row(line: str, where: str, row: str, notes: Notes) -> Row:
    """ValueError, or RecursionError for too deep a nesting, for a line of no use."""
    try:
        given = msgspec.convert(json.loads(line, object_pairs_hook=unique), _Line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg}, at character {error.pos + 1}") from None
    except DoubledKeyError as error:
        raise ValueError(f"it {error}") from None
    except (msgspec.ValidationError, OverflowError) as error:
        raise ValueError(str(error)) from None
    check_split(given.split)
    if not given.captions:
        raise ValueError("it has no caption")
    if given.fps is not None and not plausible_rate(given.fps):
        raise ValueError(f"{given.fps:g} frames per second cannot be")
    if isinstance(given.id, int):
        notes.changed.add("ids that are numbers, read as their digits", row)
    name = str(given.id) if given.id not in (None, "") else Path(given.file or "").stem
    if not is_name(name):
        raise ValueError(f"{shown(name)} cannot be an id")
    if given.file is not None and not is_name(given.file):
        raise ValueError(f"{shown(given.file)} cannot be a file")
    if any(HALF.search(text) for said in given.captions for text in (said.text, said.meaning or "")):
        raise ValueError("it has half a character (a lone surrogate)")
    captions = []
    for said in given.captions:
        tags = (said.f_tag or 0.0, said.to_tag or 0.0)
        try:
            captions.append(caption(said.text, tags, row, notes, meaning=said.meaning or ""))
        except OverflowError as error:
            raise ValueError(str(error)) from None
    return Row(where, name, given.split, tuple(c for c in captions if c), given.file, given.fps)
