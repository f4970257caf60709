"""Folders of joint arrays with captions: `joints.npz` and `captions.jsonl`, a form that anyone can write.

`joints.npz`: `joints` float [frames of all clips, J, 3] in metres, y up, left = +x when facing +z; `offsets` int
[clips + 1], clip i being `joints[offsets[i]:offsets[i + 1]]`; `ids` [clips]; `fps`, 20 if absent.
`captions.jsonl`: a JSON object a line, each for one clip: `id`, `split`, and `captions`, a list of objects with `text`,
`f_tag` and `to_tag` in seconds where it describes a part, and `meaning`, equal for texts that say the same, where that
is known. Other keys are ignored.
"""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.motion import npy
from bench.motion.captions import read_captions
from bench.motion.clip import (
    AS_THEY_ARE,
    FPS,
    Clips,
    Conventions,
    DataError,
    Entry,
    Notes,
    check_split,
    plausible_rate,
    shown,
    source,
    upright,
    usable,
)
from bench.motion.lines import is_name

KINDS = {"joints": "iuf", "offsets": "iu", "ids": "SUiu", "fps": "iuf"}
"""What each array may be of, by numpy's letters."""


def load(folder: Path | str, split: str, conventions: Conventions = AS_THEY_ARE) -> Clips:
    """The clips of one split, at the files' frame rate. The array is read at once; clips are views of it.

    DataError for a file that is missing or broken, arrays that do not fit each other, two clips of one id, a caption
    without a clip, and, when a clip is asked for, values in it that are not finite or too large.
    """
    check_split(split)
    folder, notes = Path(folder), Notes()
    joints, offsets, ids, fps = _arrays(folder / "joints.npz", notes)
    fps = conventions.fps or fps
    index = {name: i for i, name in enumerate(ids)}
    rows = read_captions(folder / "captions.jsonl", split, notes)
    entries = []
    for row in rows:
        if row.id not in index:
            raise DataError(
                f"{row.where}: clip {row.id} is not in joints.npz: remove the line, or write both files again"
            )
        if row.split == split and row.captions:
            frames = joints[offsets[index[row.id]] : offsets[index[row.id] + 1]]
            decode = partial(_joints, frames, f"clip {row.id} of {folder / 'joints.npz'}", conventions)
            entries.append(Entry(row.id, split, row.captions, len(frames), decode, fps))
    idle = index.keys() - {row.id for row in rows}
    notes.left_out.add("clips without captions", min(idle, default=""), len(idle))
    return source(entries, notes, str(folder), conventions.scale or 1.0, fps)


def _joints(motion: NDArray[np.float32], where: str, conventions: Conventions) -> NDArray[np.float32]:
    return usable(upright(motion, conventions), where)


def _arrays(path: Path, notes: Notes) -> tuple[NDArray[np.float32], NDArray[np.int64], list[str], float]:
    try:
        arrays = npy.read_npz(path, KINDS)
    except FileNotFoundError:
        raise DataError(f"there is no {path}: a folder of arrays has joints.npz and captions.jsonl") from None
    for name in ("joints", "offsets", "ids"):
        if name not in arrays:
            raise DataError(f"{path} has no array {name!r}: write joints, offsets and ids into it")
    joints, offsets, ids, fps = (arrays.get(name, np.array(FPS)) for name in KINDS)
    if joints.ndim != 3 or joints.shape[2] != 3:
        raise DataError(f"{path} has joints of shape {list(joints.shape)}: they must be [frames, joints, 3]")
    if ids.ndim != 1 or offsets.shape != (len(ids) + 1,):
        raise DataError(
            f"{path} has ids of shape {list(ids.shape)} and offsets of shape {list(offsets.shape)}: they must be "
            "[clips] and [clips + 1]"
        )
    if offsets[0] != 0 or offsets[-1] != len(joints) or (offsets[1:] < offsets[:-1]).any():
        raise DataError(f"{path}: offsets do not divide {len(joints)} frames into {len(ids)} clips: write it again")
    if fps.size != 1 or not plausible_rate(fps.item()):
        raise DataError(f"{path} has an fps of {shown(fps.tolist())}: write the frames per second, one number")
    names = _names(ids, path, notes)
    return npy.as_float32(joints, f"{path}, array joints"), offsets.astype(np.int64), names, float(fps.item())


def _names(ids: NDArray, path: Path, notes: Notes) -> list[str]:
    if ids.dtype.kind in "iu" and len(ids):
        notes.changed.add("ids that are numbers, read as their digits", f"{path.name}, {ids[0]}", len(ids))
    try:
        names = [name.decode() if isinstance(name, bytes) else str(name) for name in ids.tolist()]
    except (UnicodeDecodeError, SystemError):  # SystemError: of characters that Unicode does not have
        raise DataError(f"{path} has ids that are not text: write them again") from None
    seen: set[str] = set()
    for name in names:
        if not is_name(name):
            raise DataError(f"{path}: {shown(name)} cannot be an id: give the clip another")
        if name in seen:
            raise DataError(f"{path} has two clips with the id {shown(name)}: give each its own")
        seen.add(name)
    return names
