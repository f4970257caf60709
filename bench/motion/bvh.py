"""BVH files: a reader, forward kinematics, and HumanML3D's 22 joints on CMU's and Bandai-Namco's skeletons.

A folder of them is a source with a `captions.jsonl` beside the files (see `arrays`), whose lines name a `file`, or an
`id` that is the file's name without `.bvh`, and may give the true `fps`: CMU's subjects 60, 61, 88 and 139 were
captured at 60 frames per second, although conversions say 120. Files of cgspeed's MotionBuilder release begin with a
T-pose that nobody stood in: it is dropped, and counted.
"""

import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.motion.captions import read_captions
from bench.motion.clip import (
    AS_THEY_ARE,
    FASTEST,
    FPS,
    SLOWEST,
    UPWARD,
    Clips,
    Conventions,
    DataError,
    Entry,
    Notes,
    Tally,
    check_split,
    shown,
    source,
    usable,
)
from bench.motion.lines import LARGEST as MOST_BYTES
from bench.motion.lines import decoded, one_line, opened, read_lines, split_lines

AXES = {"X": 0, "Y": 1, "Z": 2}
LARGEST = 10_000_000
"""Frames times joints of a file: 23 minutes of CMU's skeletons at 120 frames per second."""


@dataclass(frozen=True)
class Bvh:
    """One BVH file as it stands: its own units, axes and frame rate."""

    path: Path
    names: tuple[str, ...]
    """Joint by joint, parents first; an end site is its parent's name with `_end`."""
    parents: tuple[int, ...]
    """-1 for a root."""
    offsets: NDArray[np.float64]
    """[J, 3], from the parent."""
    channels: tuple[tuple[str, ...], ...]
    """Of each joint in the file's order, as `Xposition` or `Zrotation`; none for an end site."""
    values: NDArray[np.float64]
    """[F, C]: positions in file units, rotations in degrees."""
    fps: float


def read(path: Path | str, fps: float | None = None) -> Bvh:
    """Reads a BVH file. `fps`: its true frame rate, where its own is wrong.

    DataError, with the line where there is one, for a file that is missing or no BVH, is cut off, has two joints of one
    name, an unknown channel, lines of another width than its channels, another number of frames than it says, a frame
    time that cannot be, more than LARGEST frames times joints, or values that are not numbers.
    """
    path = Path(path)
    try:
        lines = read_lines(path, Tally())
    except FileNotFoundError:
        raise DataError(f"cannot read {path}: there is no such file") from None
    bvh, frames = _parsed(lines, path, fps)
    if len(bvh.values) != frames:
        raise DataError(
            f"{path} says {frames} frames and holds {len(bvh.values)}: fetch it again, or mend its Frames: line"
        )
    return bvh


def opening(path: Path, fps: float | None = None) -> tuple[Bvh, int]:
    """The file with its first three frames alone, and how many it says there are; no more of it is read.

    DataError as in `read`, as far as it is read.
    """
    frames = None
    head = []
    try:
        with opened(path, MOST_BYTES) as file:
            for line in file:
                head.append(line)
                if frames is not None:
                    frames += bool(line.strip())
                elif line.strip() == b"MOTION":
                    frames = -2  # two lines come before the first
                if frames == PEEK:
                    break
            size = os.stat(file.fileno()).st_size
    except FileNotFoundError:
        raise DataError(f"cannot read {path}: there is no such file") from None
    bvh, count = _parsed(split_lines(decoded(b"".join(head), path, Tally()), path, Tally()), path, fps, PEEK)
    if 2 * count * bvh.values.shape[1] > size + 1:
        raise DataError(f"{path} says {shown(count)} frames and has not the size for them: fetch it again")
    return bvh, count


PEEK = 3
"""Frames by which a T-pose is recognised."""


def _parsed(lines: list[str], path: Path, fps: float | None, most: int | None = None) -> tuple[Bvh, int]:
    """The file with the frames that `lines` hold, `most` of them at most, and how many it says there are."""
    first = next((n for n, line in enumerate(lines) if line.strip()), 0)
    if not lines[first].lstrip().startswith("HIERARCHY"):
        raise DataError(f"{path} is not a BVH file (it does not begin with HIERARCHY): give the original file")
    middle = next((n for n, line in enumerate(lines) if line.strip() == "MOTION"), None)
    if middle is None:
        raise DataError(f"{path} is cut off before MOTION: fetch it again")
    words = [(word, number) for number, line in enumerate(lines[:middle], 1) for word in line.split()]
    names, parents, offsets, channels = _hierarchy(words[1:], path)
    width = sum(map(len, channels))
    rows = [(number, line) for number, line in enumerate(lines[middle + 1 :], middle + 2) if line.strip()]
    frames, stated_fps = _counts(rows[:2], path, fps)
    if max(frames, resampled(frames, stated_fps)) * len(names) > LARGEST:
        raise DataError(
            f"{path} says {shown(frames)} frames of {len(names)} joints, more than {LARGEST} together, as they are or "
            f"at {FPS:g} per second: divide the file"
        )
    values = _values(rows[2:][:most], frames, width, path)
    return Bvh(path, tuple(names), tuple(parents), np.array(offsets), tuple(channels), values, stated_fps), frames


def _hierarchy(
    tokens: list[tuple[str, int]], path: Path
) -> tuple[list[str], list[int], list[list[float]], list[tuple[str, ...]]]:
    """Names, parents, offsets and channels, from the words with their lines."""
    names: list[str] = []
    parents: list[int] = []
    offsets: list[list[float]] = []
    channels: list[tuple[str, ...]] = []
    open_joints: list[int] = []
    known: set[str] = set()
    words = iter(tokens)
    line = 1

    def take(count: int) -> list[str]:
        taken = [word for word, _ in (next(words, ("", 0)) for _ in range(count))]
        if "" in taken:
            raise IndexError
        return taken

    try:
        for word, line in words:
            if word in ("ROOT", "JOINT", "End"):
                (name,) = take(1)
                parent = open_joints[-1] if open_joints else -1
                if word != "End" and name in known:
                    raise DataError(f"{path}, line {line}: there are two joints {shown(name)}: rename one")
                known.add(name)
                names.append(f"{names[parent]}_end" if word == "End" else name)
                parents.append(parent)
                offsets.append([0.0, 0.0, 0.0])
                channels.append(())
                if take(1) != ["{"]:
                    raise DataError(f"{path}, line {line}: no brace after joint {shown(names[-1])}: fetch it again")
                open_joints.append(len(names) - 1)
            elif word == "OFFSET":
                offset = [float(number) for number in take(3)]
                if not all(map(math.isfinite, offset)):
                    raise ValueError
                offsets[open_joints[-1]] = offset
            elif word == "CHANNELS":
                count = int(take(1)[0])
                if not 0 <= count <= 6:
                    raise ValueError
                channels[open_joints[-1]] = tuple(take(count))
            elif word == "}":
                open_joints.pop()
            else:
                raise DataError(f"{path}, line {line}: {shown(word)}, where a joint was expected: fetch it again")
    except (ValueError, IndexError) as error:
        if isinstance(error, DataError):
            raise
        joint = shown(names[-1])[1:-1] if names else "1"
        raise DataError(f"{path}, line {line}: broken hierarchy at joint {joint}: fetch it again") from None
    if open_joints or not names:
        raise DataError(f"{path} is cut off within its hierarchy: fetch it again")
    for name, of_joint in zip(names, channels, strict=True):
        for channel in of_joint:
            if channel[:1] not in AXES or channel[1:] not in ("position", "rotation"):
                raise DataError(
                    f"{path} has an unknown channel {shown(channel)} at joint {shown(name)[1:-1]}: export it as plain "
                    "BVH"
                )
    return names, parents, offsets, channels


def _counts(rows: list[tuple[int, str]], path: Path, fps: float | None) -> tuple[int, float]:
    """How many frames the file says it has, and their rate: `fps` where that is given."""
    said = [" ".join(line.split()) for _, line in rows]
    match = re.match(r"Frames:\s*(\d{1,18})$", said[0]) if said else None
    if match is None:
        raise _cut(rows[:1], "Frames: and a number", path)
    time = re.match(r"Frame Time:\s*(\S+)$", said[1]) if len(said) == 2 else None
    try:
        seconds = float(time[1])  # type: ignore[index]
    except (TypeError, ValueError):
        raise _cut(rows[1:], "Frame Time: and a number", path) from None
    if fps is None and not (1 / FASTEST <= seconds <= 1 / SLOWEST):  # NaN is neither
        raise DataError(
            f"{path}, line {rows[1][0]}: a frame time of {seconds:g} s cannot be: write seconds, "
            f"{1 / FASTEST:g} to {1 / SLOWEST:g}, or give the true rate (fps in captions.jsonl, or --fps)"
        )
    return int(match[1]), 1 / seconds if fps is None else fps


def _cut(rows: list[tuple[int, str]], wanted: str, path: Path) -> DataError:
    where = f", line {rows[0][0]}: broken or" if rows else " is"
    return DataError(f"{path}{where} cut off after MOTION (no {wanted}): fetch it again")


def _values(lines: list[tuple[int, str]], frames: int, width: int, path: Path) -> NDArray[np.float64]:
    """The values [F, width] of the lines that the file has, each with its number."""
    values = []
    for frame, (number, line) in enumerate(lines, 1):
        row = line.split()
        if len(row) != width:
            raise DataError(
                f"{path} is cut off in frame {frame} (line {number}): fetch it again"
                if frame == len(lines) and len(row) < width
                else f"{path} has {len(row)} values in line {number}, its joints have {width} channels: export it again"
            )
        try:
            values.append(np.array(row, dtype=np.float64))
        except ValueError as error:
            raise DataError(
                f"{path} has a value that is no number in line {number} ({one_line(str(error))[:100]}): fetch it again"
            ) from None
        if not np.isfinite(values[-1]).all():
            raise DataError(f"{path} has values that are not finite in line {number}: export it again")
    if not values or not width or not frames:
        raise DataError(f"{path} has no frames, or joints without channels: export it again")
    return np.stack(values)


JUMP, STEP = 4, 0.02
"""A T-pose is left by a step of this many times the next one, and of this share of the skeleton's reach."""


def without_t_pose(bvh: Bvh) -> Bvh:
    """The file without its first frame where that is a T-pose put before the motion, as in cgspeed's MotionBuilder
    release of CMU's data: every rotation is 0, and the motion is not joined to it.
    """
    return replace(bvh, values=bvh.values[1:]) if has_t_pose(bvh) else bvh


def has_t_pose(bvh: Bvh) -> bool:
    """Whether the first frame is one that nobody stood in."""
    turning = [channel.endswith("rotation") for of_joint in bvh.channels for channel in of_joint]
    if len(bvh.values) < PEEK or bvh.values[0, turning].any():
        return False
    with np.errstate(over="ignore", invalid="ignore"):
        joints = positions(bvh.parents, *transforms(replace(bvh, values=bvh.values[:PEEK])))
        joints -= joints[:, :1]
        left, next_one = np.linalg.norm(np.diff(joints, axis=0), axis=-1).max(axis=-1)
        reach = np.linalg.norm(joints[0], axis=-1).max()
    return bool(left > JUMP * next_one and left > STEP * reach)


def transforms(bvh: Bvh) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each joint's rotation [F, J, 3, 3] and translation [F, J, 3] in its parent's frame.

    Rotations are multiplied in the order of the channels. Position channels stand for the joint's offset, as in
    Bandai-Namco's files, whose joints all have them; where a root's offset is zero, adding would be the same.
    """
    frames = len(bvh.values)
    rotation = np.broadcast_to(np.eye(3), (frames, len(bvh.names), 3, 3)).copy()
    translation = np.broadcast_to(bvh.offsets, (frames, len(bvh.names), 3)).copy()
    column = 0
    for joint, of_joint in enumerate(bvh.channels):
        for channel in of_joint:
            axis = AXES[channel[0]]
            if channel[1:] == "position":
                translation[:, joint, axis] = bvh.values[:, column]
            else:
                rotation[:, joint] = rotation[:, joint] @ _about(axis, np.radians(bvh.values[:, column]))
            column += 1
    return rotation, translation


def _about(axis: int, angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotations [F, 3, 3] about a coordinate axis by angles [F] in radians."""
    one, two = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.broadcast_to(np.eye(3), (len(angle), 3, 3)).copy()
    matrix[:, one, one] = matrix[:, two, two] = np.cos(angle)
    matrix[:, two, one] = np.sin(angle)
    matrix[:, one, two] = -matrix[:, two, one]
    return matrix


def positions(
    parents: tuple[int, ...], rotation: NDArray[np.float64], translation: NDArray[np.float64]
) -> NDArray[np.float64]:
    """World positions [F, J, 3] by forward kinematics, all frames at once."""
    world, position = rotation.copy(), translation.copy()
    for joint, parent in enumerate(parents):
        if parent >= 0:
            position[:, joint] = position[:, parent] + (world[:, parent] @ translation[:, joint, :, None])[..., 0]
            world[:, joint] = world[:, parent] @ rotation[:, joint]
    return position


def resample(
    rotation: NDArray[np.float64], translation: NDArray[np.float64], fps: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Local rotations and translations at 20 frames per second, as far as the given frames reach.

    Between two frames both are mixed linearly, rotations then brought back to the nearest rotation: so bones keep their
    length, which mixing positions would not do.
    """
    times = np.arange(resampled(len(rotation), fps)) * (fps / FPS)
    before = np.minimum((times + NEAR).astype(int), len(rotation) - 1)
    share = np.where(times - before < NEAR, 0.0, times - before)
    between = share > 0
    turned, moved = rotation[before], translation[before]
    after, weight = before[between] + 1, share[between, None, None]
    moved[between] += weight * (translation[after] - moved[between])
    left, _, right = np.linalg.svd(turned[between] + weight[..., None] * (rotation[after] - turned[between]))
    turned[between] = left @ right
    return turned, moved


def resampled_positions(joints: NDArray[np.floating], fps: float) -> NDArray[np.float32]:
    """Positions [F, J, 3] at 20 frames per second, mixed linearly where no rotations are known."""
    times = np.arange(resampled(len(joints), fps)) * (fps / FPS)
    before = np.minimum((times + NEAR).astype(int), len(joints) - 1)
    after = np.minimum(before + 1, len(joints) - 1)
    share = np.where(times - before < NEAR, 0.0, times - before)[:, None, None]
    return (joints[before] + share * (joints[after] - joints[before])).astype(np.float32)


NEAR = 0.01
"""Of a frame: files round their frame time (0.0083333), so whole frames are met only this nearly."""


def resampled(frames: int, fps: float) -> int:
    """How many frames at 20 per second the given ones cover."""
    return 0 if frames == 0 else int((frames - 1 + NEAR) * FPS / fps) + 1


Spot = tuple[str, str, float]
"""A point between two joints of the file: from the first, this share of the distance to the second."""


@dataclass(frozen=True)
class Naming:
    """How one family of BVH files names its joints, and where HumanML3D's joints lie on its skeleton."""

    family: str
    metres: float
    """Of one unit of the file."""
    spots: tuple[Spot, ...]
    """Of the 22 joints in HumanML3D's order."""
    upper_back: str = ""
    above: tuple[str, ...] = ()
    """Joints that hang on the upper back's end, where a thorax is missing in between."""
    wrists: tuple[str, ...] = ()
    """Ends of forearms that lack their distal third."""

    def whole(self, bvh: Bvh, up: str = "y") -> Bvh:
        """The file, whose axis `up` points up, with what cgspeed's conversion dropped of CMU's skeletons put back.

        In CMU's own skeletons a thorax of about the upper back's length carries the neck and the arms, and a `wrist`
        bone of half the radius follows it. Without them shoulders are 11 cm too low, wrists 9 cm too near the elbows.
        """
        offsets = bvh.offsets.copy()
        index = {name: joint for joint, name in enumerate(bvh.names)}
        for name in self.above:
            offsets[index[name]] += np.linalg.norm(bvh.offsets[index[self.upper_back]]) * np.array(UPWARD[up][1])
        for name in self.wrists:
            offsets[index[name]] *= 1.5
        return replace(bvh, offsets=offsets)


def _spots(sides: tuple[str, str], middle: Sequence[str | Spot], limbs: Sequence[str | Spot]) -> tuple[Spot, ...]:
    """HumanML3D's order, from the middle (pelvis to head) and the limbs of a side (hip to foot, collar to wrist).

    A name alone is that joint; braces in a limb's names stand for the side.
    """
    spine = [(spot, spot, 0.0) if isinstance(spot, str) else spot for spot in middle]
    both = [
        [(first.format(side), second.format(side), share) for side in sides]
        for first, second, share in ((spot, spot, 0.0) if isinstance(spot, str) else spot for spot in limbs)
    ]
    hips, knees, ankles, feet, *arms = both
    pelvis, spine1, spine2, spine3, neck, head = spine
    collars, *below = arms
    legs_and_spine = [pelvis, *hips, spine1, *knees, spine2, *ankles, spine3, *feet]
    return (*legs_and_spine, neck, *collars, head, *(spot for pair in below for spot in pair))


def _cgspeed(release: str, spine: str, limb: str) -> Naming:
    """One of cgspeed's releases of CMU's data, by its names; a unit is 1/0.45 inch.

    `spine`: ends of lower and upper back, the neck's base, the head; `limb`: hip to toe and collar to wrist.
    """
    lower, upper, base, head = spine.split()
    hip, knee, ankle, toe, collar, shoulder, elbow, wrist = (f"{{}}{name}" for name in limb.split())
    sides = ("Left", "Right")
    spots = _spots(
        sides,
        ["Hips", lower, upper, (upper, base, 0.45), head, f"{head}_end"],
        [hip, knee, ankle, toe, (base, shoulder, 0.3), shoulder, elbow, wrist],
    )
    above = (base, *(collar.format(side) for side in sides))
    wrists = tuple(wrist.format(side) for side in sides)
    return Naming(f"CMU, cgspeed for {release}", 0.0254 / 0.45, spots, upper, above, wrists)


NAMINGS = (
    _cgspeed("3ds Max", "Chest Chest2 lowerneck Head", "Hip Knee Ankle Toe Collar Shoulder Elbow Wrist"),
    _cgspeed("MotionBuilder", "Spine Spine1 Neck Head", "UpLeg Leg Foot ToeBase Shoulder Arm ForeArm Hand"),
    Naming(
        "Bandai-Namco",
        0.01,
        _spots(
            ("L", "R"),
            ["Hips", ("Hips", "Spine", 0.85), "Chest", ("Chest", "Neck", 0.25), "Neck", "Head"],
            [
                *("UpperLeg_{}", "LowerLeg_{}", "Foot_{}", "Toes_{}"),
                *("Shoulder_{}", "UpperArm_{}", "LowerArm_{}", "Hand_{}"),
            ],
        ),
    ),
)
"""The skeletons that are known. Joints that a file does not have lie on its bones where the arrays made from the
same recordings put them."""


def naming(bvh: Bvh) -> Naming:
    """The family that a file belongs to, by its joints; DataError, naming what is missing, if there is none."""
    lacks = {known: sorted({n for spot in known.spots for n in spot[:2]} - set(bvh.names)) for known in NAMINGS}
    nearest = min(lacks, key=lambda known: len(lacks[known]))
    if lacks[nearest]:
        raise DataError(
            f"{bvh.path} has a skeleton of no known naming (nearest: {nearest.family}, but it has no joint "
            f"{lacks[nearest][0]!r}): rename its joints, or give the motion as arrays"
        )
    return nearest


def joints(bvh: Bvh, conventions: Conventions = AS_THEY_ARE) -> NDArray[np.float32]:
    """The motion as HumanML3D's 22 joints: [F, 22, 3] at 20 fps, metres, y up, left = +x when facing +z.

    The families have y up and left at +x already, in a unit of their own, unless `conventions` say otherwise; heading
    and horizontal place are the file's. A T-pose before the motion is dropped. The floor is put at the 1st percentile
    of the lowest joint. DataError for an unknown skeleton, or positions too large for a body.
    """
    known, up = naming(bvh), conventions.up or "y"
    index = {name: joint for joint, name in enumerate(bvh.names)}
    bvh = known.whole(without_t_pose(bvh), up)
    first, second, shares = zip(*((index[one], index[other], share) for one, other, share in known.spots), strict=True)
    share = np.array(shares)[:, None]
    with np.errstate(over="ignore", invalid="ignore"):
        world = positions(bvh.parents, *resample(*transforms(bvh), bvh.fps))
        world = world @ np.array(UPWARD[up]).T
        between = world[:, list(first)] + share * (world[:, list(second)] - world[:, list(first)])
        motion = (conventions.scale or known.metres) * between
        motion[..., 1] -= np.percentile(motion[..., 1].min(axis=1), 1)
        motion = motion.astype(np.float32)
    return usable(motion, str(bvh.path))


def load(folder: Path | str, split: str, conventions: Conventions = AS_THEY_ARE) -> Clips:
    """The clips of one split of a folder of .bvh files and captions.jsonl. A file is read when its clip is asked for,
    before that only its beginning.

    Captions without a file, files without captions and T-poses before the motion are counted and said. DataError for
    captions that cannot be read, a split without clips, a file whose beginning `read` or `naming` cannot use, and, when
    a clip is asked for, all else that `read` and `joints` name.
    """
    check_split(split)
    folder, notes = Path(folder), Notes()
    rows = read_captions(folder / "captions.jsonl", split, notes)
    files = {path.name: path for path in sorted(folder.glob("*.bvh"))}
    entries, units, rates = [], Counter[float](), Counter[float]()
    for row in rows:
        if row.split != split or not row.captions:
            continue
        name = row.file or f"{row.id}.bvh"
        if name not in files:
            notes.left_out.add("captions without a file", name)
            continue
        begun, frames = opening(files[name], conventions.fps or row.fps)
        units[conventions.scale or naming(begun).metres] += 1
        rates[begun.fps] += 1
        if has_t_pose(begun):
            notes.changed.add("T-poses before the motion, dropped", name)
            frames -= 1
        decode = partial(_decode, files[name], begun.fps, conventions)
        entries.append(Entry(row.id, split, row.captions, resampled(frames, begun.fps), decode, recording=name))
    idle = files.keys() - {row.file or f"{row.id}.bvh" for row in rows}
    notes.left_out.add("files without captions", min(idle, default=""), len(idle))
    unit, rate = (max(counted, key=counted.__getitem__, default=1.0) for counted in (units, rates))
    return source(entries, notes, f"{folder}, {split}", unit, rate)


def _decode(path: Path, fps: float, conventions: Conventions) -> NDArray[np.float32]:
    return joints(read(path, fps), conventions)
