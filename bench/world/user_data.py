"""The user's motion data: a folder of arrays, HumanML3D's or BVH files, as clips by number.

The published preparation, each clip the same every time: joints become features on a body of one size, features outside
the published length filter are left out, and the others are cut to a multiple of four frames, at most 196. The clips of
a split are in an order that has nothing to do with their names, so that its first ones stand for all.
"""

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bench import identity
from bench.motion import arrays, bvh, humanml3d, plausible
from bench.motion.clip import (
    AS_THEY_ARE,
    FPS,
    SPLITS,
    Caption,
    Clips,
    Conventions,
    DataError,
    Entry,
)
from bench.motion.representation import MotionError, bone_offsets, features, joints_from_features
from bench.motion.text import CachedTable, words
from bench.world.content import WORDS, Captions, Example, cut, cut_length

KINDS = {"arrays": arrays.load, "humanml3d": humanml3d.load, "bvh": bvh.load}
SUFFIXES = (".npz", ".npy", ".bvh", ".txt", ".jsonl")
"""Of the files that clips are read from: a work folder or a world may lie among them."""
FEWEST = {"train": 96, "val": 4, "test": 32}
"""Clips that a split must have: a batch of the contrast (whose windows are enough for the principal components), two of
FID and two to compare with them, a pool of R-precision."""
SAMPLE = 32
"""Clips that are looked at for their size, axis and rate."""


@dataclass(frozen=True)
class UserClips:
    """The clips of a folder, before their captions have vectors."""

    kind: str
    folder: Path
    entries: tuple[Entry, ...]
    """Of features `[F, 263]`: the training split's, then those of val and of test."""
    left_out: Mapping[str, int]
    """How many clips or parts were left out, by split and reason."""
    changed: Mapping[str, int]
    """How many clips, captions or files are not taken as they stand, by split and reason."""
    conventions: Conventions = AS_THEY_ARE
    remark: str = ""
    """On the folder's motion as a whole, if there is one."""

    @cached_property
    def texts(self) -> list[str]:
        """Every caption, each once."""
        return list(dict.fromkeys(caption.text for entry in self.entries for caption in entry.captions))

    @cached_property
    def fingerprint(self) -> str:
        """Of the clips' names, splits, lengths and captions; not of the motion, all of which would have to be read."""
        digest = hashlib.sha256()
        if given := self.conventions.given():
            digest.update(json.dumps(given, sort_keys=True).encode())
        for entry in self.entries:
            said = [
                entry.id,
                entry.split,
                entry.frames,
                [[caption.text, caption.meaning] for caption in entry.captions],
            ]
            digest.update(json.dumps(said).encode())
        return digest.hexdigest()[:32]

    def notes(self) -> list[str]:
        """What was left out, changed and cut, a line each."""
        notes = [f"left out, {reason}: {count}" for reason, count in self.left_out.items()]
        notes += [f"changed, {reason}: {count}" for reason, count in self.changed.items()]
        notes += [self.remark] if self.remark else []
        long = sum(len(words(text)) > WORDS for text in self.texts)
        if long:
            notes.append(f"captions read word by word up to the {WORDS}th alone: {long} of {len(self.texts)}")
        return notes


def read(kind: str, folder: Path | str, conventions: Conventions = AS_THEY_ARE, checked: bool = True) -> UserClips:
    """The clips of a folder, of one of KINDS. Motion is read when it is asked for, but for one clip's, and for those of
    a sample where motion is to be `checked` (see plausible).

    DataError for an unknown kind, all that the source names, features at another rate than 20 frames per second (KIT-ML
    among it), a split with fewer clips than FEWEST, and motion that is not of people in metres, y up, at the rate that
    it is read at, with the convention that would make it so.
    """
    if kind not in KINDS:
        raise DataError(f"there is no kind of data {kind!r}: give one of {', '.join(KINDS)}")
    folder = Path(folder).resolve()
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}: give that of the motion data")
    splits: dict[str, Clips] = {}
    for split in SPLITS:
        splits[split] = clips = KINDS[kind](folder, split, conventions)
        if kind == "humanml3d" and clips.rate != FPS:
            raise DataError(
                f"{folder} has motion at {clips.rate:g} frames per second: the world's networks read HumanML3D's "
                f"features at {FPS:g}, so bring it to that rate as arrays"
            )
    separate = _apart(splits, folder)
    first = next((entry for entry in separate["train"].entries if entry.frames), separate["train"].entries[0]).clip()
    remark = ""
    if first.joints is None:
        if checked:
            remark = _checked(separate["train"], folder, conventions)
    else:
        offsets = _described(partial(_body, first.joints), first.id, folder)
        separate = {split: _at_the_worlds_rate(clips) for split, clips in separate.items()}
        if checked:
            remark = _checked(separate["train"], folder, conventions)
        separate = {split: _featured(clips, offsets, folder) for split, clips in separate.items()}
    kept = {split: clips.parts() for split, clips in separate.items()}
    for split, fewest in FEWEST.items():
        if len(kept[split]) < fewest:
            raise DataError(
                f"{folder} has {len(kept[split])} usable clips in its split {split}, and {fewest} are needed: divide "
                "the clips otherwise, or add some"
            )
    left_out = {f"{split}, {why}": count for split, clips in kept.items() for why, count in clips.left_out.items()}
    changed = {f"{split}, {why}": count for split, clips in kept.items() for why, count in clips.changed.items()}
    entries = tuple(entry for clips in kept.values() for entry in clips.entries)
    return UserClips(kind, folder, entries, left_out, changed, conventions, remark)


def _body(joints: NDArray[np.float32]) -> NDArray[np.floating]:
    """Bone offsets of the first frame; MotionError if there is none, or it is of no use."""
    if not len(joints):
        raise MotionError("it has no frames: leave it out")
    return bone_offsets(joints[0])


def _apart(splits: Mapping[str, Clips], folder: Path) -> dict[str, Clips]:
    """The splits in their order, each without the motions of those before it, which are counted."""
    apart: dict[str, Clips] = {}
    seen: set[str] = set()
    for split, clips in splits.items():
        entries = sorted((entry for entry in clips.entries if _recording(entry) not in seen), key=shuffled_position)
        again = [entry.id for entry in clips.entries if _recording(entry) in seen]
        if not entries:
            raise DataError(
                f"{folder}: every clip of the split {split} is in an earlier one too: divide them otherwise"
            )
        reason = f"clips whose motion an earlier split has (the first: {min(again, default='')})"
        left_out = {**clips.left_out, reason: len(again)} if again else clips.left_out
        apart[split] = replace(clips, entries=tuple(entries), left_out=left_out)
        seen |= {_recording(entry) for entry in entries}
    return apart


def _recording(entry: Entry) -> str:
    return entry.recording or entry.id


def _checked(clips: Clips, folder: Path, conventions: Conventions) -> str:
    """What `plausible.check` says of the first clips, of any length (a wrong rate would choose among them)."""
    sample, made = [], False
    for entry in [entry for entry in clips.entries if entry.frames > 2][:SAMPLE]:
        with contextlib.suppress(DataError):  # named when the clip itself is needed
            clip = entry.clip()
            made = clip.joints is None
            sample.append(joints_from_features(clip.motion) if made else clip.motion)
    return plausible.check(sample, folder, conventions, clips.unit, clips.rate, made) if sample else ""


def _at_the_worlds_rate(clips: Clips) -> Clips:
    """Clips of joints at 20 frames per second, whatever rate they have; counted where it is another."""
    fps = clips.entries[0].fps
    if fps == FPS:
        return clips

    def decode(entry: Entry) -> NDArray[np.float32]:
        return bvh.resampled_positions(entry.decode(), fps)

    entries = tuple(
        replace(entry, frames=bvh.resampled(entry.frames, fps), fps=FPS, decode=partial(decode, entry))
        for entry in clips.entries
    )
    reason = f"clips at {fps:g} frames per second, brought to {FPS:g} (the first: {entries[0].id})"
    return replace(clips, entries=entries, changed={**clips.changed, reason: len(entries)})


def shuffled_position(entry: Entry) -> str:
    """Sorts entries into an order that has nothing to do with their names."""
    return hashlib.sha256(entry.id.encode()).hexdigest()


def _featured(clips: Clips, offsets: NDArray[np.floating], folder: Path) -> Clips:
    """Clips of joints as clips of features: a frame fewer, on a body of these bone offsets."""

    def decode(entry: Entry) -> NDArray[np.float32]:
        joints = entry.decode()
        return _described(partial(features, joints, target_offsets=offsets), entry.id, folder)

    entries = tuple(
        replace(entry, frames=max(entry.frames - 1, 0), decode=partial(decode, entry)) for entry in clips.entries
    )
    return replace(clips, entries=entries)


def _described(make: partial, name: str, folder: Path) -> NDArray:
    """What `make` makes; DataError, with the clip's name, where its motion is of no use."""
    try:
        return make()
    except MotionError as error:
        raise DataError(f"clip {name} of {folder}: {error}") from None


class UserData:
    """Clips of a folder with their captions' vectors; see content.Content."""

    def __init__(self, clips: UserClips, table: CachedTable) -> None:
        """DataError for a caption that the table does not hold."""
        self.clips = clips
        self.captions = Captions(table)
        table.encode(clips.texts)
        lengths = [cut_length(entry.frames) for entry in clips.entries]
        self.shortest, self.longest = min(lengths), max(lengths)
        self.fingerprint = f"{clips.fingerprint}, captions by {table.name}"

    @classmethod
    def restored(cls, path: Path, about: dict, tensors: Mapping[str, Tensor]) -> "UserData":
        """The content of the world in the file `path`, from what `stored` gave.

        DataError where the folder has gone, or holds other clips than the world was made of.
        """
        folder = Path(about["folder"])
        if not folder.is_dir():
            raise DataError(
                f"the world in {path} was made of {folder}, which is not there: bring the folder back, or pre-train "
                "again with --data"
            )
        clips = read(about["kind"], folder, Conventions(**about.get("conventions", {})), checked=False)
        if clips.fingerprint != about["fingerprint"]:
            raise DataError(
                f"the world in {path} was made of other clips or captions than {folder} now holds: bring them back, or "
                "pre-train again with --data"
            )
        files = identity.folder(folder, SUFFIXES)
        if about.get("files", files) != files and about["motion"] != _content(folder, files):
            raise DataError(
                f"the world in {path} was made of other motion than {folder} now holds under the same names: bring it "
                "back, or pre-train again with --data"
            )
        vectors = {name: tensors[f"captions.{name}"] for name in ("sentences", "words")}
        return cls(clips, CachedTable.held(path, vectors, about["table"]))

    def source(self) -> str:
        return identity.folder(self.clips.folder, SUFFIXES)

    def __len__(self) -> int:
        return len(self.clips.entries)

    def example(self, number: int) -> Example:
        """Of captions without a meaning, the text in small letters is the meaning."""
        entry = self.clips.entries[number]
        captions = tuple(_with_meaning(caption) for caption in entry.captions)
        return Example(entry.split, captions, cut_length(entry.frames), partial(_cut, entry))

    def stored(self) -> tuple[dict[str, Tensor], dict]:
        """The captions' table; where the clips are."""
        tensors, table = self.captions.table.stored()
        folder = self.clips.folder
        about: dict = {
            "kind": self.clips.kind,
            "folder": str(folder),
            "fingerprint": self.clips.fingerprint,
            "files": self.source(),
            "motion": _content(folder, self.source()),
        }
        if given := self.clips.conventions.given():
            about["conventions"] = given
        return {f"captions.{name}": value for name, value in tensors.items()}, {**about, "table": table}


@lru_cache(maxsize=4)
def _content(folder: Path, _: str) -> str:
    """Of every file of a folder, all of which is read: a copy has other times, and is the same. Kept for what
    identity.folder gives."""
    files = identity.folder_files(folder, SUFFIXES)
    return identity.key(*((file.relative_to(folder).as_posix(), identity.file(file)) for file in files))


def _cut(entry: Entry) -> NDArray[np.float32]:
    return cut(entry.decode())


def _with_meaning(caption: Caption) -> Caption:
    return caption if caption.meaning else replace(caption, meaning=caption.text.lower())
