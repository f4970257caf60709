"""Folders of joint arrays with captions: `joints.npz` and `captions.jsonl`, a form that anyone can write.

`joints.npz`: `joints` float [frames of all clips, J, 3] in metres, y up, left = +x when facing +z; `offsets` int
[clips + 1], clip i being `joints[offsets[i]:offsets[i + 1]]`; `ids` [clips]; `fps`, 20 if absent.
`captions.jsonl`: a JSON object a line, each for one clip: `id`, `split`, and `captions`, a list of objects with `text`,
`f_tag` and `to_tag` in seconds where it describes a part, and `meaning`, equal for texts that say the same, where that
is known. Other keys are ignored.
"""

import json
import math
import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.motion.clip import FPS, Caption, Clips, DataError, Entry, check_split, source


def load(folder: Path | str, split: str) -> Clips:
    """The clips of one split. The array is read at once; clips are views of it.

    DataError for a file that is missing or broken, arrays that do not fit each other, a caption without a clip, and,
    when a clip is asked for, values in it that are not finite.
    """
    check_split(split)
    folder = Path(folder)
    joints, offsets, ids, fps = _arrays(folder / "joints.npz")
    place = {name: i for i, name in enumerate(ids)}
    rows = read_captions(folder / "captions.jsonl")
    entries = []
    for row in rows:
        if row.id not in place:
            raise DataError(
                f"{row.where}: clip {row.id} is not in joints.npz: remove the line, or write both files again"
            )
        if row.split == split:
            own = joints[offsets[place[row.id]] : offsets[place[row.id] + 1]]
            decode = partial(finite, own, f"clip {row.id} of {folder / 'joints.npz'}")
            entries.append(Entry(row.id, split, row.captions, len(own), decode, fps))
    return source(entries, {"clips without captions": len(place.keys() - {row.id for row in rows})}, str(folder))


def finite(motion: NDArray[np.float32], where: str) -> NDArray[np.float32]:
    """The motion itself; DataError if it holds NaN or infinite values."""
    if not np.isfinite(motion).all():
        frame = int(np.argmin(np.isfinite(motion).reshape(len(motion), -1).all(axis=1)))
        raise DataError(f"{where} has values that are not finite, first in frame {frame}: remove the clip")
    return motion


def _arrays(path: Path) -> tuple[NDArray[np.float32], NDArray[np.int64], list[str], float]:
    try:
        with np.load(path, allow_pickle=False) as file:
            joints, offsets, ids = file["joints"], file["offsets"], file["ids"]
            fps = float(file["fps"]) if "fps" in file else FPS
    except FileNotFoundError:
        raise DataError(f"there is no {path}: a folder of arrays has joints.npz and captions.jsonl") from None
    except KeyError as error:
        raise DataError(f"{path} has no array {error}: write joints, offsets and ids into it") from None
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile):
        raise DataError(f"{path} is not a whole npz of plain arrays: write it again") from None
    if joints.ndim != 3 or joints.shape[2] != 3:
        raise DataError(f"{path} has joints of shape {list(joints.shape)}: they must be [frames, joints, 3]")
    if (
        offsets.shape != (len(ids) + 1,)
        or offsets[0] != 0
        or offsets[-1] != len(joints)
        or (np.diff(offsets) < 0).any()
    ):
        raise DataError(f"{path}: offsets do not divide {len(joints)} frames into {len(ids)} clips: write it again")
    return joints.astype(np.float32, copy=False), offsets.astype(np.int64), [str(name) for name in ids], fps


@dataclass(frozen=True)
class Row:
    """One line of a captions file."""

    where: str
    """File and line, for messages."""
    id: str
    split: str
    captions: tuple[Caption, ...]
    file: str | None
    """The motion file's name, where the line gives one."""
    fps: float | None
    """The motion file's true frame rate, where the line gives one."""


def read_captions(path: Path) -> list[Row]:
    """The lines of a captions file; a line without `id` is named by its `file`.

    DataError, with the line, for anything but an object with a name, a split and at least one caption with a text.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"there is no {path}: write one JSON object a line, with id, split and captions") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text: write it again as such") from None
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            where = f"{path}, line {number}"
            try:
                rows.append(_row(json.loads(line), where))
            except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
                said = f"lacks {error}" if isinstance(error, KeyError) else str(error)
                raise DataError(
                    f"{where} is no usable caption line ({said}): it must be a JSON object with id or file, split, and "
                    "captions, a list of objects with text"
                ) from None
    return rows


def _row(row: dict, where: str) -> Row:
    captions = tuple(
        Caption(str(c["text"]), (), seconds(c.get("f_tag", 0)), seconds(c.get("to_tag", 0)), str(c.get("meaning", "")))
        for c in row["captions"]
    )
    if not captions:
        raise ValueError("it has no caption")
    check_split(row["split"])
    name, fps = str(row.get("id") or Path(row["file"]).stem), row.get("fps")
    return Row(where, name, row["split"], captions, row.get("file"), fps and float(fps))


def seconds(tag: float | str) -> float:
    """A caption's tag in seconds; 0 for NaN, which HumanML3D's files hold where there is no tag."""
    value = float(tag)
    return 0.0 if math.isnan(value) else value
