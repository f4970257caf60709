"""BVH files written here, positions worked out by hand; broken ones each give their sentence; real ones, if any."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from bench.motion import bvh
from bench.motion.bvh import Bvh
from bench.motion.clip import Conventions, DataError

MOTION_DATA = os.environ.get("MOTION_DATA")

HEADER = """HIERARCHY
ROOT Hips
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT Arm
  {
    OFFSET 0 2 0
    CHANNELS 3 Yrotation Xrotation Zrotation
    End Site
    {
      OFFSET 0 0 1
    }
  }
}
MOTION
"""


def write(path: Path, *frames: str, header: str = HEADER, count: int | None = None, seconds: str = "0.05") -> Path:
    shown = len(frames) if count is None else count
    path.write_text(f"{header}Frames: {shown}\nFrame Time: {seconds}\n" + "".join(f"{frame}\n" for frame in frames))
    return path


def positions(path: Path) -> dict[str, np.ndarray]:
    result = bvh.read(path)
    world = bvh.positions(result.parents, *bvh.transforms(result))
    return {name: world[:, joint] for joint, name in enumerate(result.names)}


def test_positions_by_hand(tmp_path):
    result = positions(
        write(
            tmp_path / "a.bvh",
            "1 2 3 0 0 0 0 0 0",
            "1 2 3 90 0 0 0 0 0",  # about z: the arm's offset turns to -x
            "0 0 0 90 90 0 0 0 0",  # z, then x: a point at +y goes by Rx to +z, which Rz leaves
            "0 0 0 0 0 0 90 0 0",  # the arm about y: its end at +z turns to +x
        )
    )
    assert result["Arm"] == pytest.approx(np.array([[1, 4, 3], [-1, 2, 3], [0, 0, 2], [0, 2, 0]]), abs=1e-12)
    assert result["Arm_end"] == pytest.approx(np.array([[1, 4, 4], [-1, 2, 4], [1, 0, 2], [1, 2, 0]]), abs=1e-12)


def test_order_of_channels_counts(tmp_path):
    frame = "0 0 0 0 0 0 90 90 0"  # the arm: 90 about y and 90 about x
    one = positions(write(tmp_path / "a.bvh", frame))["Arm_end"]
    swapped = HEADER.replace("3 Yrotation Xrotation", "3 Xrotation Yrotation")
    other = positions(write(tmp_path / "b.bvh", frame, header=swapped))["Arm_end"]
    assert one == pytest.approx(np.array([[0, 1, 0]]), abs=1e-12)
    assert other == pytest.approx(np.array([[1, 2, 0]]), abs=1e-12)


def test_position_channels_stand_for_the_offset(tmp_path):
    header = HEADER.replace("CHANNELS 3 Yrotation", "CHANNELS 6 Xposition Yposition Zposition Yrotation")
    result = positions(write(tmp_path / "a.bvh", "0 0 0 0 0 0 5 6 7 0 0 0", header=header))
    assert result["Arm"].tolist() == [[5, 6, 7]]


def test_resampling_keeps_bones_and_takes_whole_frames_as_they_are(tmp_path):
    frames = [f"{n} 0 0 0 0 0 {40 * n} 0 0" for n in range(7)]
    result = bvh.read(write(tmp_path / "a.bvh", *frames, seconds="0.0333333"))
    rotation, translation = bvh.resample(*bvh.transforms(result), result.fps)
    assert len(rotation) == bvh.resampled(7, result.fps) == 5  # 0.2 s from the first frame to the last
    world = bvh.positions(result.parents, rotation, translation)
    end = world[:, 2] - world[:, 1]
    assert np.linalg.norm(end, axis=-1) == pytest.approx(np.ones(5))
    angles = np.degrees(np.unwrap(np.arctan2(end[:, 0], end[:, 2])))
    assert angles == pytest.approx([0, 60, 120, 180, 240], abs=1e-3)
    assert world[:, 0, 0] == pytest.approx([0, 1.5, 3, 4.5, 6], abs=1e-3)


@pytest.mark.parametrize(("mark", "end"), [("", "\r\n"), ("", "\r"), ("\ufeff", "\n"), ("", "\n\n"), ("\n", "\n \n")])
def test_line_ends_marks_and_blank_lines_do_not_matter(mark, end, tmp_path):
    rows = ["1 2 3 4 5 6 7 8 9", "2 3 4 5 6 7 8 9 10"]
    plain = write(tmp_path / "a.bvh", *rows)
    other = tmp_path / "b.bvh"
    other.write_bytes((mark + plain.read_text().replace("\n", end)).encode())
    assert bvh.read(other).values.tolist() == bvh.read(plain).values.tolist()
    assert bvh.opening(other)[1] == 2


def test_another_encoding(tmp_path):
    plain = write(tmp_path / "a.bvh", "1 2 3 4 5 6 7 8 9")
    (tmp_path / "b.bvh").write_text(plain.read_text(), "utf-16")
    assert bvh.read(tmp_path / "b.bvh").values.tolist() == bvh.read(plain).values.tolist()
    assert bvh.opening(tmp_path / "b.bvh")[1] == 1


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "a.bvh")  # opening it would wait for ever
    (tmp_path / "b.bvh").mkdir()
    with (tmp_path / "c.bvh").open("wb") as large:
        large.truncate(1 << 40)
    for name in "abc":
        for reader in (bvh.read, bvh.opening):
            with pytest.raises(DataError, match=rf"{name}\.bvh (is not a file|has 1048576 MiB)"):
                reader(tmp_path / f"{name}.bvh")


@pytest.mark.parametrize("seconds", ["0", "-0.03", "nan", "inf", "1e12", "1e-9", "33.3333", "1"])
def test_frame_times_that_cannot_be(seconds, tmp_path):
    """Of 1e12 s came a file of 10^15 frames at 20 per second, of 33 (milliseconds) one of 667 a frame."""
    path = write(tmp_path / "a.bvh", *["0 0 0 0 0 0 0 0 0"] * 3, seconds=seconds)
    for reader in (bvh.read, bvh.opening):
        with pytest.raises(DataError, match=r"a\.bvh, line 18: a frame time of \S+ s cannot be") as error:
            reader(path)
        assert "\n" not in str(error.value)
    assert bvh.read(path, fps=60).fps == 60
    assert bvh.opening(path, fps=60)[0].fps == 60


BROKEN = {
    "not a BVH file": "solid cube\n",
    "cut off before MOTION": HEADER.replace("MOTION\n", ""),
    "cut off within its hierarchy": HEADER.replace("  }\n}\n", ""),
    "broken hierarchy at joint Arm": HEADER.replace("OFFSET 0 2 0", "OFFSET 0 two 0"),
    "unknown channel 'Wrotation' at joint Arm": HEADER.replace("3 Yrotation", "3 Wrotation"),
    "cut off after MOTION": HEADER,
    "line 18: broken or cut off after MOTION (no Frame Time": HEADER + "Frames: 1\n0 0 0 0 0 0 0 0 0\n",
    "line 17: broken or cut off after MOTION (no Frames": HEADER + f"Frames: {'9' * 400}\nFrame Time: 0.05\n",
    "says 900000 frames of 3 joints, more than 1000000": HEADER + "Frames: 900000\nFrame Time: 0.05\n",
    "says 90000 frames of 3 joints, more than 1000000 together, as they are or at 20": HEADER
    + "Frames: 90000\nFrame Time: 0.2\n",
    "line 6: there are two joints 'Hips'": HEADER.replace("JOINT Arm", "JOINT Hips"),
    "line 5: broken hierarchy at joint Hips": HEADER.replace("CHANNELS 6", "CHANNELS 600"),
    "line 9: broken hierarchy at joint Arm": HEADER.replace("CHANNELS 3", "CHANNELS 1e3"),
    "line 8: broken hierarchy at joint Arm": HEADER.replace("OFFSET 0 2 0", "OFFSET 0 nan 0"),
    "no frames, or joints without channels": HEADER + "Frames: 0\nFrame Time: 0.05\n",
    "values that are not finite in line 19": HEADER + "Frames: 1\nFrame Time: 0.05\n0 0 0 0 1e999 0 0 0 0\n",
    "cut off in frame 2 (line 20)": HEADER + "Frames: 2\nFrame Time: 0.05\n0 0 0 0 0 0 0 0 0\n0 0 0 0\n",
    "8 values in line 19, its joints have 9 channels": HEADER
    + "Frames: 2\nFrame Time: 0.05\n0 0 0 0 0 0 0 0\n0 0 0 0 0 0 0 0 0\n",
    "says 3 frames and holds 1": HEADER + "Frames: 3\nFrame Time: 0.05\n0 0 0 0 0 0 0 0 0\n",
    "a value that is no number": HEADER + "Frames: 1\nFrame Time: 0.05\n0 0 0 0 zero 0 0 0 0\n",
    "not finite": HEADER + "Frames: 1\nFrame Time: 0.05\n0 0 0 0 nan 0 0 0 0\n",
}


@pytest.mark.parametrize("said", BROKEN)
def test_broken_files(said, tmp_path, monkeypatch):
    monkeypatch.setattr(bvh, "LARGEST", 1_000_000)
    path = tmp_path / "broken.bvh"
    path.write_text(BROKEN[said])
    with pytest.raises(DataError, match=re.escape(said)) as error:
        bvh.read(path)
    assert str(path) in str(error.value)


def test_missing_file_and_unknown_skeleton(tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        bvh.read(tmp_path / "none.bvh")
    with pytest.raises(DataError, match="has no joint"):
        bvh.joints(bvh.read(write(tmp_path / "a.bvh", "0 0 0 0 0 0 0 0 0")))


# A made-up figure of each family: joints with their offsets, in file units, each under the one whose indent is smaller.
BANDAI = """joint_Root 0 0 0
 Hips 0 95 0
  Spine 0 16 0
   Chest 0 10 0
    Neck 0 16 0
     Head 0 8 0
    {arms}
  {legs}""".format(
    arms="\n    ".join(
        f"Shoulder_{s} {x}5 12 0\n     UpperArm_{s} {x}6 0 0\n      LowerArm_{s} {x}24 0 0\n       Hand_{s} {x}22 0 0"
        for s, x in (("L", ""), ("R", "-"))
    ),
    legs="\n  ".join(
        f"UpperLeg_{s} {x}7 -5 0\n   LowerLeg_{s} 0 -40 0\n    Foot_{s} 0 -40 0\n     Toes_{s} 0 -5 12"
        for s, x in (("L", ""), ("R", "-"))
    ),
)
MOTIONBUILDER = """Hips 0 16 0
 LowerBack 0 0 0
  Spine 0 2 0
   Spine1 0 2 0
    Neck 0 0 0
     Neck1 0 1.6 0
      Head 0 1.6 0
    {arms}
 {legs}""".format(
    arms="\n    ".join(
        f"{s}Shoulder 0 0 0\n     {s}Arm {x}3 1.5 0\n      {s}ForeArm {x}4 0 0\n       {s}Hand {x}3 0 0"
        for s, x in (("Left", ""), ("Right", "-"))
    ),
    legs="\n ".join(
        f"{s}UpLeg {x}1.2 -1.6 0\n  {s}Leg 0 -7 0\n   {s}Foot 0 -7 0\n    {s}ToeBase 0 -0.4 2"
        for s, x in (("Left", ""), ("Right", "-"))
    ),
)


def figure(path: Path, outline: str, frames: int = 3, seconds: str = "0.05") -> Path:
    """A file of a figure that stands still; ends of bones get an end site a unit further up."""
    lines = [(len(line) - len(line.lstrip()), *line.split()) for line in outline.splitlines()]
    text, channels = "HIERARCHY\n", 0
    for n, (depth, name, *offset) in enumerate(lines):
        root = depth == 0
        kinds = "6 Xposition Yposition Zposition" if root else "3"
        text += f"{'ROOT' if root else 'JOINT'} {name}\n{{\nOFFSET {' '.join(offset)}\n"
        text += f"CHANNELS {kinds} Zrotation Xrotation Yrotation\n"
        channels += 6 if root else 3
        deeper = lines[n + 1][0] if n + 1 < len(lines) else 0
        if deeper <= depth:
            text += "End Site\n{\nOFFSET 0 1 0\n}\n" + "}\n" * (depth - deeper + 1)
    rows = [" ".join([*lines[0][2:], *["0"] * (channels - 3)])] * frames
    return write(path, *rows, header=text + "MOTION\n", seconds=seconds)


def test_bandai_names_and_units(tmp_path):
    result = bvh.joints(bvh.read(figure(tmp_path / "a.bvh", BANDAI)))
    assert result.shape == (3, 22, 3)
    assert result.dtype == np.float32
    head, left_wrist, right_wrist, left_foot = (result[0, joint] for joint in (15, 20, 21, 10))
    assert left_foot == pytest.approx([0.07, 0.0, 0.12], abs=1e-6)  # the floor is put under the lowest joint
    assert head == pytest.approx([0, 0.90 + 0.16 + 0.10 + 0.16 + 0.08, 0], abs=1e-6)
    assert left_wrist == pytest.approx([0.57, 0.90 + 0.26 + 0.12, 0], abs=1e-6)
    assert right_wrist == pytest.approx([-0.57, 0.90 + 0.26 + 0.12, 0], abs=1e-6)
    assert result[0, 3] == pytest.approx([0, 0.90 + 0.85 * 0.16, 0], abs=1e-6)


def test_cgspeed_gets_its_thorax_and_forearms_back(tmp_path):
    unit = 0.0254 / 0.45
    result = bvh.joints(bvh.read(figure(tmp_path / "a.bvh", MOTIONBUILDER))) / unit
    pelvis = result[0, 0]
    assert result[0, 6] - pelvis == pytest.approx([0, 4, 0], abs=1e-5)
    assert result[0, 16] - pelvis == pytest.approx([3, 4 + 2 + 1.5, 0], abs=1e-5)  # 2: the upper back's length again
    assert result[0, 20] - result[0, 18] == pytest.approx([4.5, 0, 0], abs=1e-5)
    assert result[0, 15] - pelvis == pytest.approx([0, 4 + 2 + 3.2 + 1, 0], abs=1e-5)


def swinging(path: Path, *first: str, count: int = 25) -> Path:
    """The MotionBuilder figure at 120 frames per second: it goes ahead, its arms down, a leg swinging."""
    figure(path, MOTIONBUILDER)
    header = path.read_text().partition("Frames:")[0]
    names = [line.split()[1] for line in header.splitlines() if line.split()[0] in ("ROOT", "JOINT")]
    rows = []
    for n in range(count):
        turned = {"Hips": (0, 0, 30), "LeftArm": (-70, 0, 0), "RightArm": (70, 0, 0), "LeftUpLeg": (0, 0.5 * n, 0)}
        rows.append(" ".join(map(str, [0, 16, 0.05 * n, *(v for name in names for v in turned.get(name, (0, 0, 0)))])))
    return write(path, *(first or ()), *rows, header=header, seconds="0.00833333")


def zeros(path: Path, root: str = "0 16 0") -> str:
    return " ".join([root, *["0"] * (len(swinging(path).read_text().splitlines()[-1].split()) - 3)])


class TestTPose:
    """CMU's MotionBuilder release puts a frame of zero rotations before every motion."""

    @pytest.mark.parametrize("root", ["0 16 0", "0 0 0"])
    def test_it_is_dropped(self, root, tmp_path):
        plain = bvh.joints(bvh.read(swinging(tmp_path / "plain.bvh")))
        pose = zeros(tmp_path / "x.bvh", root)
        posed = bvh.read(swinging(tmp_path / "posed.bvh", pose))
        assert len(posed.values) == 26
        assert np.array_equal(bvh.joints(posed), plain)
        assert len(plain) == 5

    def test_clips_count_it_and_have_the_length_of_the_motion(self, tmp_path):
        pose = zeros(tmp_path / "x.bvh")
        (tmp_path / "x.bvh").unlink()
        swinging(tmp_path / "a.bvh", count=31)
        swinging(tmp_path / "b.bvh", pose, count=30)  # 31 with the pose: a frame more at 20 per second
        rows = [{"id": name, "split": "train", "captions": [{"text": "he goes"}]} for name in "ab"]
        (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
        with pytest.warns(UserWarning, match="changed 1 T-poses before the motion, dropped"):
            clips = bvh.load(tmp_path, "train")
        assert clips.changed == {"T-poses before the motion, dropped (the first: b.bvh)": 1}
        assert [entry.frames for entry in clips.entries] == [clip.frames for clip in clips] == [6, 5]

    def test_motion_that_begins_at_zero_is_kept(self, tmp_path):
        still = bvh.read(figure(tmp_path / "still.bvh", MOTIONBUILDER, frames=9))
        assert bvh.without_t_pose(still) is still
        begins = bvh.read(write(tmp_path / "a.bvh", *(f"0 0 0 0 0 0 {n * n} 0 0" for n in range(5))))
        assert bvh.without_t_pose(begins) is begins

    @pytest.mark.skipif(MOTION_DATA is None, reason="MOTION_DATA does not name a folder of real motion")
    def test_of_real_motion(self, tmp_path):
        """A step of 0.264 m stood where 0.045 is."""
        text = (Path(str(MOTION_DATA)) / "raw" / "cmu_bvh" / "131_01.bvh").read_text()
        head, _, tail = text.partition("MOTION")
        rows = tail.strip().splitlines()[2:363]
        pose = " ".join([*rows[0].split()[:3], *["0"] * (len(rows[0].split()) - 3)])
        plain, posed = (
            bvh.joints(bvh.read(write(tmp_path / "a.bvh", *first, *rows, header=head + "MOTION\n", seconds=".0083333")))
            for first in ([], [pose])
        )
        assert np.array_equal(plain, posed)
        assert len(plain) == 61
        assert np.linalg.norm(plain[1] - plain[0], axis=-1).max() == pytest.approx(0.045, abs=0.001)


@pytest.mark.parametrize(
    ("up", "turn"), [("z", lambda p: p[..., [0, 2, 1]] * [1, -1, 1]), ("-y", lambda p: p * [1, -1, -1])]
)
@pytest.mark.parametrize("outline", ["BANDAI", "MOTIONBUILDER"])
def test_another_axis_and_unit(up, turn, outline, tmp_path):
    """A figure whose every offset is turned and scaled gives the same motion, thorax and all."""
    plain = bvh.read(figure(tmp_path / "a.bvh", globals()[outline]))
    known = bvh.naming(plain)
    turned = Bvh(
        plain.path, plain.names, plain.parents, turn(plain.offsets) / 7, plain.channels, plain.values / 7, plain.fps
    )
    turned.values[:, :3] = turn(turned.values[:, :3])
    conventions = Conventions(scale=7 * known.metres, up=up)
    assert bvh.joints(turned, conventions) == pytest.approx(bvh.joints(plain), abs=1e-6)


def test_a_file_that_says_more_frames_than_it_has_room_for(tmp_path):
    with pytest.raises(DataError, match="says 900000 frames and has not the size for them"):
        bvh.opening(write(tmp_path / "a.bvh", "0 0 0 0 0 0 0 0 0", count=900_000))


def test_folder_with_captions(tmp_path):
    figure(tmp_path / "stand.bvh", BANDAI, frames=61, seconds="0.0166667")
    figure(tmp_path / "idle.bvh", BANDAI)
    rows = [
        {"id": "stand", "split": "train", "captions": [{"text": "a person stands"}]},
        {"id": "slow", "file": "stand.bvh", "split": "train", "fps": 30, "captions": [{"text": "a person stands"}]},
        {"file": "gone.bvh", "split": "train", "captions": [{"text": "a person leaves"}]},
        {"id": "other", "file": "stand.bvh", "split": "test", "captions": [{"text": "someone stands"}]},
    ]
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.warns(UserWarning, match=r"1 captions without a file.*gone\.bvh.*1 files without captions.*idle\.bvh"):
        clips = bvh.load(tmp_path, "train")
    assert [entry.frames for entry in clips.entries] == [clip.frames for clip in clips] == [21, 41]
    assert clips[0].joints.shape == (21, 22, 3)
    assert clips[1].captions[0].text == "a person stands"


@pytest.mark.skipif(MOTION_DATA is None, reason="MOTION_DATA does not name a folder of real motion")
@pytest.mark.parametrize(("part", "raw"), [("cmu", "cmu_bvh"), ("bandai_namco", "bandai_bvh")])
def test_real_files_agree_with_the_arrays(part, raw):
    """Horizontally the first frame's pelvis is laid on the arrays' (they were cut and centred); nothing else is."""
    folder = Path(str(MOTION_DATA))
    arrays = np.load(folder / part / "joints.npz", allow_pickle=False)
    rows = [json.loads(line) for line in (folder / part / "captions.jsonl").read_text().splitlines()]
    compared = 0
    for path in sorted((folder / "raw" / raw).glob("*.bvh")):
        own = {path.stem, f"{path.stem} max"}
        for n, row in enumerate(rows):
            if own & {row.get("source_id"), f"{row.get('trial')} {row.get('form')}"}:
                wanted = arrays["joints"][arrays["offsets"][n] : arrays["offsets"][n + 1]]
                start = row.get("start_frame", 0)
                result = bvh.joints(bvh.read(path))[start : start + len(wanted)]
                shift = (wanted[0, 0] - result[0, 0]) * [1, 0, 1]
                assert np.linalg.norm(result + shift - wanted, axis=-1).mean(axis=0).max() < 0.01, path.name
                compared += 1
    assert compared >= 3
