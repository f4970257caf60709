"""The HumanML3D folder as its users have it, and KIT-ML's, which has the same form.

new_joint_vecs/<id>.npy     features [F, 263], KIT-ML's [F, 251]
texts/<id>.txt              a line for each caption: caption#tokens#from#to, in seconds
train.txt, val.txt, test.txt
Mean.npy, Std.npy           [263] or [251]
"""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.motion import npy
from bench.motion.captions import caption
from bench.motion.clip import (
    AS_THEY_ARE,
    FPS,
    KIT_FPS,
    Caption,
    Clips,
    Conventions,
    DataError,
    Entry,
    Notes,
    check_split,
    shown,
    source,
    usable,
)
from bench.motion.lines import is_name, read_lines

LAYOUT = "a HumanML3D or KIT-ML folder has new_joint_vecs/, texts/, train.txt, val.txt, test.txt, Mean.npy and Std.npy"
RATES = {263: FPS, 251: KIT_FPS}
"""Frames per second, by the width of the features."""


def load(folder: Path | str, split: str, conventions: Conventions = AS_THEY_ARE) -> Clips:
    """The clips of one split. Motion is read when a clip is asked for; before that only its header, for the length.

    Clips without a motion or text file, and caption lines that cannot be read, are left out, counted, and the first of
    each is named in one warning; so are ids that are listed again. DataError for a folder without the layout, a split
    without clips, features of another width than Mean.npy, conventions that features cannot be brought from, and, when
    a clip is asked for, values in it that are not finite.
    """
    check_split(split)
    folder, notes = Path(folder), Notes()
    width = len(statistics(folder)[0])
    _check_conventions(folder, conventions, RATES[width])
    ids = _ids(folder / f"{split}.txt", notes)
    for name in ("new_joint_vecs", "texts"):
        if not (folder / name).is_dir():
            raise DataError(f"there is no {folder / name}: {LAYOUT}")
    entries = []
    for name in ids:
        path = folder / "new_joint_vecs" / f"{name}.npy"
        frames = _frames(path, width)
        captions = _captions(folder / "texts" / f"{name}.txt", notes)
        if frames is None:
            notes.left_out.add("without a motion file", name)
        elif not captions:
            notes.left_out.add("without a caption", name)
        else:
            entries.append(Entry(name, split, captions, frames, partial(_features, path), RATES[width]))
    return source(entries, notes, f"{folder}, {split}", rate=RATES[width])


def _check_conventions(folder: Path, given: Conventions, fps: float) -> None:
    """Features are in metres, y up, at one rate: that can be said, not changed."""
    if given.scale not in (None, 1.0) or given.up not in (None, "y") or given.fps not in (None, fps):
        raise DataError(
            f"{folder} holds features, which cannot be scaled, turned or brought to another rate: compute them again "
            f"from joints in metres, y up, at {fps:g} frames per second"
        )


def _ids(path: Path, notes: Notes) -> list[str]:
    """The ids that a split lists, each once."""
    try:
        lines = read_lines(path, notes.changed)
    except FileNotFoundError:
        raise DataError(f"there is no {path}: {LAYOUT}") from None
    names: dict[str, None] = {}
    for number, line in enumerate(lines, 1):
        name = line.strip()
        if not name:
            continue
        if not is_name(name):
            raise DataError(f"{path}, line {number}: {shown(name)} cannot be an id: give one a line")
        if name in names:
            notes.left_out.add("ids that are listed again", f"{name}, {path.name}, line {number}")
        names[name] = None
    return list(names)


def statistics(folder: Path | str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation [D] of the features, from Mean.npy and Std.npy.

    DataError for a missing file, another width than 263 or 251, values that are not finite, or deviations of zero.
    """
    folder = Path(folder)
    mean, std = (_read(folder / name) for name in ("Mean.npy", "Std.npy"))
    if mean.shape != std.shape or mean.ndim != 1 or len(mean) not in RATES:
        raise DataError(
            f"{folder}: Mean.npy and Std.npy have shapes {list(mean.shape)} and {list(std.shape)}: both must be [263] "
            "(HumanML3D) or [251] (KIT-ML)"
        )
    if not np.isfinite(mean).all() or not np.isfinite(std).all() or (std <= 0).any():
        raise DataError(f"{folder}: Mean.npy or Std.npy has values that cannot scale anything: compute them again")
    return mean, std


def _read(path: Path) -> NDArray[np.float32]:
    try:
        return npy.as_float32(npy.read(path), str(path))
    except FileNotFoundError:
        raise DataError(f"there is no {path}: {LAYOUT}") from None


def _frames(path: Path, width: int) -> int | None:
    """The number of frames, from the file's header alone; None if there is no file."""
    try:
        shape = npy.header(path).shape
    except FileNotFoundError:
        return None
    if len(shape) != 2 or shape[1] != width:
        raise DataError(f"{path} has shape {list(shape)}, Mean.npy has width {width}: they must come from one data set")
    return shape[0]


def _features(path: Path) -> NDArray[np.float32]:
    return usable(_read(path), str(path))


def _captions(path: Path, notes: Notes) -> tuple[Caption, ...]:
    """The captions of a text file; none for a file that is not there. `notes` counts the lines of no use."""
    try:
        lines = read_lines(path, notes.changed)
    except FileNotFoundError:
        return ()
    captions = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            text, tokens, start, end = line.strip().split("#")
            captions.append(caption(text.strip(), (start, end), where, notes, tokens.split()))
        except ValueError:
            notes.left_out.add("unreadable lines", where)
    return tuple(known for known in captions if known)
