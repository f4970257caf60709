"""The HumanML3D folder as its users have it, and KIT-ML's, which has the same form.

new_joint_vecs/<id>.npy     features [F, 263], KIT-ML's [F, 251]
texts/<id>.txt              a line for each caption: caption#tokens#from#to, in seconds
train.txt, val.txt, test.txt
Mean.npy, Std.npy           [263] or [251]
"""

from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.motion.arrays import finite, seconds
from bench.motion.clip import FPS, KIT_FPS, Caption, Clips, DataError, Entry, check_split, source

LAYOUT = "a HumanML3D or KIT-ML folder has new_joint_vecs/, texts/, train.txt, val.txt, test.txt, Mean.npy and Std.npy"
RATES = {263: FPS, 251: KIT_FPS}
"""Frames per second, by the width of the features."""


def load(folder: Path | str, split: str) -> Clips:
    """The clips of one split. Motion is read when a clip is asked for; before that only its header, for the length.

    Clips without a motion or text file, and caption lines that cannot be read, are left out, counted, and the first of
    each is named in one warning. DataError for a folder without the layout, a split without clips, features of another
    width than Mean.npy, and, when a clip is asked for, values in it that are not finite.
    """
    check_split(split)
    folder = Path(folder)
    width = len(statistics(folder)[0])
    try:
        ids = (folder / f"{split}.txt").read_text(encoding="utf-8").split()
    except OSError:
        raise DataError(f"there is no {folder / split}.txt: {LAYOUT}") from None
    for name in ("new_joint_vecs", "texts"):
        if not (folder / name).is_dir():
            raise DataError(f"there is no {folder / name}: {LAYOUT}")
    entries = []
    missing: dict[str, list[str]] = {"without a motion file": [], "without a caption": [], "unreadable lines": []}
    for name in ids:
        path = folder / "new_joint_vecs" / f"{name}.npy"
        frames = _frames(path, width)
        captions, broken = _captions(folder / "texts" / f"{name}.txt")
        missing["unreadable lines"] += broken
        if frames is None:
            missing["without a motion file"].append(name)
        elif not captions:
            missing["without a caption"].append(name)
        else:
            decode = partial(_features, path)
            entries.append(Entry(name, split, captions, frames, decode, RATES[width]))
    left_out = Counter({f"{what} (the first: {those[0]})": len(those) for what, those in missing.items() if those})
    return source(entries, left_out, f"{folder}, {split}")


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
        return np.load(path, allow_pickle=False).astype(np.float32, copy=False)
    except FileNotFoundError:
        raise DataError(f"there is no {path}: {LAYOUT}") from None
    except (ValueError, EOFError, TypeError):
        raise DataError(f"{path} is not a whole plain array: fetch it or make it again") from None


def _frames(path: Path, width: int) -> int | None:
    """The number of frames, from the file's header alone; None if there is no file."""
    try:
        shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
    except FileNotFoundError:
        return None
    except (ValueError, EOFError):
        raise DataError(f"{path} is not a whole plain array: fetch it or make it again") from None
    if len(shape) != 2 or shape[1] != width:
        raise DataError(f"{path} has shape {list(shape)}, Mean.npy has width {width}: they must come from one data set")
    return shape[0]


def _features(path: Path) -> NDArray[np.float32]:
    return finite(_read(path), str(path))


def _captions(path: Path) -> tuple[tuple[Caption, ...], list[str]]:
    """The captions of a text file, and where the lines are that could not be read; nothing for a file not there."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return (), []
    found, broken = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            text, tokens, start, end = line.strip().split("#")
            found.append(Caption(text.strip(), tuple(tokens.split()), seconds(start), seconds(end)))
        except ValueError:
            broken.append(f"{path}, line {number}")
    return tuple(found), broken
