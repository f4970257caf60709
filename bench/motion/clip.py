"""What every source of motion gives: clips with captions, and the published rules on their length.

A source is a sequence of clips of one split. Clips are decoded when they are asked for, so a folder of hours costs
nothing until it is used; what a source leaves out is counted by reason and said once.
"""

import math
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import overload

import numpy as np
from numpy.typing import NDArray

from methods.errors import InputError

FPS = 20.0
"""Frames per second of every clip but KIT-ML's."""
KIT_FPS = 12.5
END_FRAMES = 200
"""The published loaders keep a motion of fewer frames than this; longer ones are dropped, not cut."""
UNIT = 4
"""Frames per step of the evaluator's movement encoder: crops are multiples of it."""
MAX_FRAMES = 196
"""The longest crop, and the length that batches are padded to."""
SPLITS = ("train", "val", "test")
SLOWEST, FASTEST = 5.0, 1000.0
"""Frames per second that files of motion may have."""
UPWARD = {
    "x": ((0, -1, 0), (1, 0, 0), (0, 0, 1)),
    "y": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "z": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
    "-x": ((0, 1, 0), (-1, 0, 0), (0, 0, 1)),
    "-y": ((1, 0, 0), (0, -1, 0), (0, 0, -1)),
    "-z": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
}
"""The rotation that brings the axis of this name to +y."""


class DataError(InputError):
    """Motion data cannot be used; the message is one sentence that names the file and the mend."""


@dataclass(frozen=True)
class Conventions:
    """What a folder's files are in, where the user says so; None: what they say themselves, or their kind has."""

    scale: float | None = None
    """Metres in one unit of length: 0.01 for centimetres."""
    up: str | None = None
    """The axis that points up, of UPWARD."""
    fps: float | None = None
    """Frames per second."""

    def __post_init__(self) -> None:
        """DataError for a scale, an axis or a rate that cannot be."""
        if self.scale is not None and not (math.isfinite(self.scale) and self.scale > 0):
            raise DataError(f"a scale of {self.scale:g} is none: give the metres in one unit, such as 0.01")
        if self.up is not None and self.up not in UPWARD:
            raise DataError(f"there is no axis {shown(self.up)}: give one of {', '.join(UPWARD)}")
        if self.fps is not None and not plausible_rate(self.fps):
            raise DataError(f"{self.fps:g} frames per second cannot be: give {SLOWEST:g} to {FASTEST:g}")

    def given(self) -> dict[str, float | str]:
        """Those that are given, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}


AS_THEY_ARE = Conventions()


def plausible_rate(fps: float) -> bool:
    """Whether files of motion have such a frame rate."""
    return SLOWEST <= fps <= FASTEST


def shown(value: object) -> str:
    """A value from a file as a message shows it: on one line, and short."""
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def upright(joints: NDArray[np.float32], conventions: Conventions) -> NDArray[np.float32]:
    """Joints `[F, J, 3]` of a folder with these conventions, in metres and y up."""
    if conventions.up is not None:
        joints = joints @ np.array(UPWARD[conventions.up], dtype=joints.dtype).T
    if conventions.scale is not None:
        with np.errstate(over="ignore"):  # what becomes infinite is refused as such
            joints = joints * joints.dtype.type(conventions.scale)
    return joints


LARGEST = 1e7
"""No number of a motion is as large, in any unit: what is overflows later."""


def usable(motion: NDArray[np.float32], where: str) -> NDArray[np.float32]:
    """The motion itself; DataError if it holds NaN, infinite or other values of LARGEST and more."""
    fine = np.abs(motion) < LARGEST
    if not fine.all():
        frame = int(np.argmin(fine.reshape(len(motion), -1).all(axis=1)))
        raise DataError(f"{where} has values that are not finite or too large, first in frame {frame}: remove the clip")
    return motion


class Tally:
    """How many clips, captions or files something was done to, by reason, each with where it was first."""

    def __init__(self) -> None:
        self._counted: dict[str, tuple[str, int]] = {}

    def add(self, reason: str, first: str, count: int = 1) -> None:
        first = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in first)
        known = self._counted.get(reason, (first, 0))
        self._counted[reason] = (known[0], known[1] + count)

    def counts(self) -> dict[str, int]:
        return {f"{reason} (the first: {first})": count for reason, (first, count) in self._counted.items() if count}

    def extend(self, other: "Tally") -> None:
        for reason, (first, count) in other._counted.items():
            self.add(reason, first, count)


class Notes:
    """What a source leaves out, and what it changes, on the way from the files to its clips."""

    def __init__(self) -> None:
        self.left_out, self.changed = Tally(), Tally()

    def extend(self, other: "Notes") -> None:
        self.left_out.extend(other.left_out)
        self.changed.extend(other.changed)


@dataclass(frozen=True)
class Caption:
    """One description of a clip, or of a part of it."""

    text: str
    tokens: tuple[str, ...] = ()
    """HumanML3D's `word/POS`, which its text encoder reads; empty where a source has none."""
    start_seconds: float = 0.0
    end_seconds: float = 0.0
    """The part described; both 0: the whole clip."""
    meaning: str = ""
    """Equal for captions that say the same in other words; empty where a source does not say."""

    @property
    def whole(self) -> bool:
        return self.start_seconds == 0.0 and self.end_seconds == 0.0


@dataclass(frozen=True)
class Clip:
    """One motion with its captions. Exactly one of `joints` and `features` is there: what the source holds."""

    id: str
    split: str
    captions: tuple[Caption, ...]
    joints: NDArray[np.float32] | None = None
    """[F, J, 3]: metres, y up, left = +x when facing +z."""
    features: NDArray[np.float32] | None = None
    """[F, D]: HumanML3D's (263) or KIT-ML's (251), not normalised."""
    fps: float = FPS

    @property
    def motion(self) -> NDArray[np.float32]:
        """The joints or the features, whichever there are."""
        motion = self.features if self.joints is None else self.joints
        assert motion is not None, f"clip {self.id} has neither joints nor features"
        return motion

    @property
    def frames(self) -> int:
        return len(self.motion)

    def part(self, start: int, stop: int) -> "Clip":
        """Frames start to stop under the same captions."""
        if self.joints is None:
            return replace(self, features=self.motion[start:stop])
        return replace(self, joints=self.motion[start:stop])


@dataclass(frozen=True)
class Entry:
    """A clip that is not decoded yet."""

    id: str
    split: str
    captions: tuple[Caption, ...]
    frames: int
    decode: Callable[[], NDArray[np.float32]]
    """[F, J, 3] joints or [F, D] features; DataError for a bad file."""
    fps: float = FPS
    recording: str = ""
    """Equal for entries of one motion under several ids; empty: the id stands for it."""

    def clip(self) -> Clip:
        motion = self.decode()
        joints, features = (motion, None) if motion.ndim == 3 else (None, motion)
        return Clip(self.id, self.split, self.captions, joints, features, self.fps)


@dataclass(frozen=True)
class Clips(Sequence[Clip]):
    """A source: clips of one split, decoded one by one as they are asked for."""

    entries: tuple[Entry, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)
    """How many clips or captions were left out, by reason."""
    changed: Mapping[str, int] = field(default_factory=dict)
    """How many clips, captions or files are not taken as they stand, by reason."""
    unit: float = 1.0
    """Metres in a unit of length of the files, as they were read."""
    rate: float = FPS
    """Frames per second of the files, as they were read."""

    def __len__(self) -> int:
        return len(self.entries)

    @overload
    def __getitem__(self, index: int) -> Clip: ...

    @overload
    def __getitem__(self, index: slice) -> "Clips": ...

    def __getitem__(self, index):
        if isinstance(index, slice):
            return replace(self, entries=self.entries[index])
        return self.entries[index].clip()

    def parts(self) -> "Clips":
        """The clips that the published loaders train and evaluate on; no motion is decoded for it.

        Clips outside the length filter go. The others give one clip for all captions of the whole, and one for each
        tagged caption, from int(start·fps) to int(end·fps), named `<id>@<index of the caption>`, if its own length
        passes the filter too. What goes is added to `left_out`.
        """
        parts: list[Entry] = []
        left_out = Counter(self.left_out)
        for entry in self.entries:
            if not long_enough(entry.frames, entry.fps):
                left_out[f"clips outside {shortest(entry.fps)} to {END_FRAMES - 1} frames"] += 1
                continue
            whole = tuple(caption for caption in entry.captions if caption.whole)
            if whole:
                parts.append(replace(entry, captions=whole))
            for index, caption in enumerate(entry.captions):
                if not caption.whole:
                    part = _part(entry, index, caption)
                    if long_enough(part.frames, part.fps):
                        parts.append(part)
                    else:
                        left_out[f"parts outside {shortest(entry.fps)} to {END_FRAMES - 1} frames"] += 1
        return replace(self, entries=tuple(parts), left_out=dict(left_out))


def _part(entry: Entry, index: int, caption: Caption) -> Entry:
    start = int(min(caption.start_seconds * entry.fps, entry.frames))
    stop = int(min(caption.end_seconds * entry.fps, entry.frames))
    return replace(
        entry,
        id=f"{entry.id}@{index}",
        captions=(replace(caption, start_seconds=0.0, end_seconds=0.0),),
        frames=max(stop - start, 0),
        decode=lambda: entry.decode()[start:stop],
    )


def shortest(fps: float) -> int:
    """The fewest frames that the published loaders keep: 40 at HumanML3D's rate, 24 at KIT-ML's."""
    return 24 if fps == KIT_FPS else 40


def long_enough(frames: int, fps: float = FPS) -> bool:
    """The published length filter."""
    return shortest(fps) <= frames < END_FRAMES


def crop(clip: Clip, rng: np.random.Generator) -> Clip:
    """A random crop to a multiple of UNIT frames, at most MAX_FRAMES; in a third of the draws one unit shorter.

    As the published loaders crop in training and in evaluation, so that motions of one length differ.
    DataError for a clip of fewer frames than a unit.
    """
    units = min(clip.frames, MAX_FRAMES) // UNIT
    if units == 0:
        raise DataError(f"clip {clip.id} has {clip.frames} frames, fewer than a unit of {UNIT}: leave it out")
    if units > 1 and rng.random() < 1 / 3:
        units -= 1
    start = int(rng.integers(clip.frames - units * UNIT + 1))
    return clip.part(start, start + units * UNIT)


def source(entries: Sequence[Entry], notes: Notes, where: str, unit: float = 1.0, rate: float = FPS) -> Clips:
    """The entries as a source, with one warning that counts what was left out and what was changed.

    DataError if nothing is left; `where` names the file or folder.
    """
    left_out, changed = notes.left_out.counts(), notes.changed.counts()
    lost = "; ".join(f"{count} {reason}" for reason, count in left_out.items())
    if not entries:
        raise DataError(f"{where} gives no clip ({lost or 'it lists none'}): check the folder and the split")
    mended = "; ".join(f"{count} {reason}" for reason, count in changed.items())
    said = "; ".join(f"{what} {which}" for what, which in (("left out", lost), ("changed", mended)) if which)
    if said:
        warnings.warn(f"{where}: {said}", stacklevel=3)
    return Clips(tuple(entries), left_out, changed, unit, rate)


def check_split(split: str) -> None:
    """DataError for a split that does not exist."""
    if split not in SPLITS:
        raise DataError(f"there is no split {shown(split)}: give one of {', '.join(SPLITS)}")
