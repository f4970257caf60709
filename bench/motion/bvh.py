"""BVH files: a reader, forward kinematics, and HumanML3D's 22 joints on CMU's and Bandai-Namco's skeletons.

A folder of them is a source with a `captions.jsonl` beside the files (see `arrays`), whose lines name a `file`, or an
`id` that is the file's name without `.bvh`, and may give the true `fps`: CMU's subjects 60, 61, 88 and 139 were
captured at 60 frames per second, although conversions say 120.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.motion.arrays import read_captions
from bench.motion.clip import FPS, Clips, DataError, Entry, check_split, source

AXES = {"X": 0, "Y": 1, "Z": 2}


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


def read(path: Path | str) -> Bvh:
    """Reads a BVH file.

    DataError for a file that is missing or no BVH, is cut off, has an unknown channel, lines of another width than its
    channels, another number of frames than it says, or values that are not numbers.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    hierarchy, found, motion = text.partition("\nMOTION")
    if not hierarchy.lstrip().startswith("HIERARCHY"):
        raise DataError(f"{path} is not a BVH file (it does not begin with HIERARCHY): give the original file")
    if not found:
        raise DataError(f"{path} is cut off before MOTION: fetch it again")
    names, parents, offsets, channels = _hierarchy(hierarchy.split()[1:], path)
    values, fps = _motion(motion, sum(map(len, channels)), hierarchy.count("\n") + 2, path)
    return Bvh(path, tuple(names), tuple(parents), np.array(offsets), tuple(channels), values, fps)


def _hierarchy(tokens: list[str], path: Path) -> tuple[list[str], list[int], list[list[float]], list[tuple[str, ...]]]:
    names: list[str] = []
    parents: list[int] = []
    offsets: list[list[float]] = []
    channels: list[tuple[str, ...]] = []
    open_joints: list[int] = []
    words = iter(tokens)
    try:
        for word in words:
            if word in ("ROOT", "JOINT", "End"):
                name = next(words)
                parent = open_joints[-1] if open_joints else -1
                names.append(f"{names[parent]}_end" if word == "End" else name)
                parents.append(parent)
                offsets.append([0.0, 0.0, 0.0])
                channels.append(())
                if next(words) != "{":
                    raise DataError(f"{path} has no brace after joint {names[-1]}: fetch it again")
                open_joints.append(len(names) - 1)
            elif word == "OFFSET":
                offsets[open_joints[-1]] = [float(next(words)) for _ in range(3)]
            elif word == "CHANNELS":
                channels[open_joints[-1]] = tuple(next(words) for _ in range(int(next(words))))
            elif word == "}":
                open_joints.pop()
            else:
                raise DataError(f"{path} has {word!r} in its hierarchy, where a joint was expected: fetch it again")
    except (StopIteration, ValueError, IndexError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path} has a broken hierarchy at joint {names[-1] if names else '1'}: fetch it again"
        ) from None
    if open_joints or not names:
        raise DataError(f"{path} is cut off within its hierarchy: fetch it again")
    for name, own in zip(names, channels, strict=True):
        for channel in own:
            if channel[:1] not in AXES or channel[1:] not in ("position", "rotation"):
                raise DataError(f"{path} has an unknown channel {channel!r} at joint {name}: export it as plain BVH")
    return names, parents, offsets, channels


def _motion(text: str, width: int, line: int, path: Path) -> tuple[NDArray[np.float64], float]:
    """The values [F, width] and the frame rate; `line` is the file's line of MOTION, to name lines by."""
    rows = [(line + n, row.split()) for n, row in enumerate(text.split("\n")) if row.strip()]
    try:
        (_, (*_, frames)), (_, (*_, seconds)) = rows[0], rows[1]
        if rows[0][1][0] != "Frames:" or rows[1][1][:2] != ["Frame", "Time:"]:
            raise ValueError
        count, fps = int(frames), 1 / float(seconds)
    except (IndexError, ValueError, ZeroDivisionError):
        raise DataError(f"{path} is cut off after MOTION (no Frames: and Frame Time:): fetch it again") from None
    body = rows[2:]
    for number, (at, row) in enumerate(body, 1):
        if len(row) != width:
            last = number == len(body) and len(row) < width
            raise DataError(
                f"{path} is cut off in frame {number} (line {at}): fetch it again"
                if last
                else f"{path} has {len(row)} values in line {at}, its joints have {width} channels: export it again"
            )
    if len(body) != count:
        raise DataError(f"{path} says {count} frames and holds {len(body)}: fetch it again, or mend its Frames: line")
    try:
        values = np.array([row for _, row in body], dtype=np.float64)
    except ValueError as error:
        raise DataError(f"{path} has a value that is no number ({error}): fetch it again") from None
    if not len(values) or not np.isfinite(values).all():
        raise DataError(f"{path} has no frames, or values that are not finite: export it again")
    return values, fps


def transforms(bvh: Bvh) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each joint's rotation [F, J, 3, 3] and translation [F, J, 3] in its parent's frame.

    Rotations are multiplied in the order of the channels. Position channels stand for the joint's offset, as in
    Bandai-Namco's files, whose joints all have them; where a root's offset is zero, adding would be the same.
    """
    frames = len(bvh.values)
    rotation = np.broadcast_to(np.eye(3), (frames, len(bvh.names), 3, 3)).copy()
    translation = np.broadcast_to(bvh.offsets, (frames, len(bvh.names), 3)).copy()
    column = 0
    for joint, own in enumerate(bvh.channels):
        for channel in own:
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
    world, place = rotation.copy(), translation.copy()
    for joint, parent in enumerate(parents):
        if parent >= 0:
            place[:, joint] = place[:, parent] + (world[:, parent] @ translation[:, joint, :, None])[..., 0]
            world[:, joint] = world[:, parent] @ rotation[:, joint]
    return place


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


NEAR = 0.01
"""Of a frame: files round their frame time (0.0083333), so whole frames are met only this nearly."""


def resampled(frames: int, fps: float) -> int:
    """How many frames at 20 per second the given ones cover."""
    return int((frames - 1 + NEAR) * FPS / fps) + 1


Spot = tuple[str, str, float]
"""A point between two joints of the file: from the first, this share of the way to the second."""


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

    def whole(self, bvh: Bvh) -> Bvh:
        """The file with what cgspeed's conversion dropped of CMU's skeletons put back.

        In CMU's own skeletons a thorax of about the upper back's length carries the neck and the arms, and a `wrist`
        bone of half the radius follows it. Without them shoulders are 11 cm too low, wrists 9 cm too near the elbows.
        """
        offsets = bvh.offsets.copy()
        place = {name: joint for joint, name in enumerate(bvh.names)}
        for name in self.above:
            offsets[place[name], 1] += np.linalg.norm(bvh.offsets[place[self.upper_back]])
        for name in self.wrists:
            offsets[place[name]] *= 1.5
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


def joints(bvh: Bvh) -> NDArray[np.float32]:
    """The motion as HumanML3D's 22 joints: [F, 22, 3] at 20 fps, metres, y up, left = +x when facing +z.

    Both families have y up and left at +x already; heading and horizontal place are the file's. The floor is put at the
    1st percentile of the lowest joint. DataError for an unknown skeleton.
    """
    known = naming(bvh)
    place = {name: joint for joint, name in enumerate(bvh.names)}
    bvh = known.whole(bvh)
    world = positions(bvh.parents, *resample(*transforms(bvh), bvh.fps))
    first, second, shares = zip(*((place[one], place[other], share) for one, other, share in known.spots), strict=True)
    share = np.array(shares)[:, None]
    found = known.metres * (world[:, list(first)] + share * (world[:, list(second)] - world[:, list(first)]))
    found[..., 1] -= np.percentile(found[..., 1].min(axis=1), 1)
    return found.astype(np.float32)


def load(folder: Path | str, split: str) -> Clips:
    """The clips of one split of a folder of .bvh files and captions.jsonl. A file is read when its clip is asked for.

    Captions without a file and files without captions are left out, counted and said. DataError for captions that
    cannot be read, a split without clips, and, when a clip is asked for, all that `read` and `joints` name.
    """
    check_split(split)
    folder = Path(folder)
    rows = read_captions(folder / "captions.jsonl")
    files = {path.name: path for path in sorted(folder.glob("*.bvh"))}
    entries, lost = [], []
    for row in rows:
        name = row.file or f"{row.id}.bvh"
        if name not in files:
            lost.append(name)
        elif row.split == split:
            frames, fps = _header(files[name])
            fps = row.fps or fps
            entries.append(
                Entry(row.id, split, row.captions, resampled(frames, fps), partial(_decode, files[name], fps))
            )
    idle = files.keys() - {row.file or f"{row.id}.bvh" for row in rows}
    left_out = {
        f"captions without a file (the first: {lost[0] if lost else ''})": len(lost),
        f"files without captions (the first: {min(idle, default='')})": len(idle),
    }
    return source(entries, left_out, f"{folder}, {split}")


def _decode(path: Path, fps: float) -> NDArray[np.float32]:
    return joints(replace(read(path), fps=fps))


def _header(path: Path) -> tuple[int, float]:
    """Frames and frame rate by what the file says, without reading its motion."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("MOTION"):
                found = re.match(r"\s*Frames:\s*(\d+)\s+Frame Time:\s*(\S+)", file.readline() + file.readline())
                try:
                    return int(found[1]), 1 / float(found[2])  # type: ignore[index]
                except (TypeError, ValueError, ZeroDivisionError):
                    break
    raise DataError(f"{path} is cut off before its frames: fetch it again")
