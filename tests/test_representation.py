"""Features are the published ones and come back as the motion they were made of; what cannot be used is refused."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parity.vectors import deviation, load

from bench.motion.representation import (
    MotionError,
    bone_offsets,
    canonical,
    features,
    joints_from_features,
    joints_from_rotations,
    root_path,
    uniform_skeleton,
)
from bench.motion.skeleton import KIT, T2M

MOTIONS = ["walk", "turn", "hop"]
VECTORS = load("humanml3d_features")
TARGET = VECTORS.output("constants", "tgt_offsets_synthetic")
CLIP = "012314"
SEEDS = st.integers(0, 2**32 - 1)
skeletons = pytest.mark.parametrize("skeleton", [T2M, KIT], ids=lambda skeleton: skeleton.name)


def tolerance(kind: str) -> dict:
    return {"rtol": 0, **VECTORS.meaning["tolerance"][kind]}


def random_motion(skeleton, seed: int, turn: float = 2.0, frames: int = 50) -> np.ndarray:
    """A body of random build whose limbs point anywhere and swing, and which wanders and turns by `turn` in all.

    It starts over the origin and faces +z; hips and shoulders are those of a person, so that it always faces somewhere.
    """
    rng = np.random.default_rng(seed)
    pose = rng.uniform([-1, 0, -1], [1, 2, 1], (len(skeleton.joints), 3))
    pose[[0, *skeleton.facing]] = [(0, 1, 0), (-0.1, 0.9, 0), (0.1, 0.9, 0), (-0.25, 1.5, 0), (0.25, 1.5, 0)]
    time = np.linspace(0, 1, frames)
    swing = 0.02 * rng.normal(size=pose.shape) * np.sin(rng.uniform(5, 20, pose.shape) * time[:, None, None])
    path = np.cumsum(rng.normal(size=(frames, 1, 3)) / 50, axis=0)
    return turned(pose + swing, turn * time) + path - path[0]


def turned(joints: np.ndarray, angle) -> np.ndarray:
    """Rotated about y, from +z towards +x; one angle, or one a frame."""
    x, y, z = np.moveaxis(joints, -1, 0)
    cos, sin = np.cos(angle)[..., None], np.sin(angle)[..., None]
    return np.stack([cos * x + sin * z, y, cos * z - sin * x], axis=-1)


def test_skeleton_is_the_published_one():
    published = VECTORS.meaning["skeleton"]
    assert list(T2M.parents) == published["parents"]
    assert [list(direction) for direction in T2M.directions] == published["raw_offsets"]
    assert [list(chain) for chain in T2M.chains] == published["kinematic_chain"]
    assert list(T2M.facing) == published["face_joint_indx"]
    assert list(T2M.leg) == published["l_idx"]
    assert list(T2M.feet) == published["fid_l"] + published["fid_r"]
    assert T2M.still == published["feet_thre"]


@skeletons
def test_skeletons_are_whole(skeleton):
    """Every joint has a name, a direction and one parent, and parents come first in `bones`."""
    assert {"t2m": (22, 263), "kit": (21, 251)}[skeleton.name] == (len(skeleton.joints), skeleton.width)
    assert len(set(skeleton.joints)) == len(skeleton.directions) == len(skeleton.parents) == len(skeleton.bones) + 1
    seen = {0}
    for joint, parent in skeleton.bones:
        assert parent in seen
        seen.add(joint)
    assert seen == set(range(len(skeleton.joints)))


def test_bone_offsets():
    offsets = bone_offsets(VECTORS.output("constants", "template_joints"))
    assert deviation(offsets, TARGET, tolerance("joints")) <= 1


@pytest.mark.parametrize("motion", MOTIONS)
def test_features_of_joints(motion):
    joints = VECTORS.output(motion, "joints_in")
    uniform = uniform_skeleton(joints, TARGET)
    computed = features(joints, T2M, TARGET)
    assert deviation(uniform, VECTORS.output(motion, "uniform"), tolerance("joints")) <= 1
    assert deviation(canonical(uniform), VECTORS.output(motion, "global_positions"), tolerance("joints")) <= 1
    assert deviation(computed, VECTORS.output(motion, "features"), tolerance("features")) <= 1
    glide = computed[:, T2M.blocks["glide"]]
    assert deviation(glide, VECTORS.output(motion, "l_velocity"), tolerance("features")) <= 1


@pytest.mark.parametrize("motion", MOTIONS)
def test_joints_of_features(motion):
    published = VECTORS.output(motion, "features")
    heading, root = root_path(published)
    quaternion = np.stack([np.cos(heading / 2), 0 * heading, -np.sin(heading / 2), 0 * heading], axis=-1)
    got = {
        "recovered_from_ric": joints_from_features(published),
        "recovered_from_rot": joints_from_rotations(published, TARGET),
        "root_quat": quaternion,
        "root_pos": root,
    }
    for name, value in got.items():
        assert deviation(value, VECTORS.output(motion, name), tolerance("joints")) <= 1, name


@pytest.mark.skipif("MOTION_DATA" not in os.environ, reason="MOTION_DATA names no folder with HumanML3D's example clip")
def test_example_clip_of_humanml3d():
    """Of the clip that HumanML3D publishes in both forms. Its joints have been through the pipeline once already, so
    that the smoothing saw one frame more, and another skeleton, the first time."""
    folder = Path(os.environ["MOTION_DATA"])
    joints, published = (np.load(folder / f"{name}_{CLIP}.npy") for name in ("new_joints", "new_joint_vecs"))
    np.testing.assert_allclose(joints_from_features(published), joints, atol=1e-5)
    np.testing.assert_allclose(joints_from_rotations(published, bone_offsets(joints[0])), joints, atol=1e-5)
    np.testing.assert_allclose(features(joints), published[:-1], atol=0.02)


@skeletons
@given(seed=SEEDS, angle=st.floats(-np.pi, np.pi), x=st.floats(-10, 10), z=st.floats(-10, 10))
@settings(max_examples=25)
def test_where_a_motion_is_does_not_matter(skeleton, seed, angle, x, z):
    joints = random_motion(skeleton, seed)
    moved = turned(joints, angle) + np.array([x, 3, z])
    np.testing.assert_allclose(canonical(moved, skeleton), joints - [0, joints[..., 1].min(), 0], atol=1e-9)
    np.testing.assert_allclose(features(moved, skeleton), features(joints, skeleton), atol=1e-5)


@skeletons
@given(seed=SEEDS, turn=st.floats(-4 * np.pi, 4 * np.pi))
@settings(max_examples=25)
def test_joints_come_back(skeleton, seed, turn):
    """Up to where the motion is: from the positions, and from the rotations if bones keep their lengths."""
    joints = random_motion(skeleton, seed, turn)
    joints = uniform_skeleton(joints, bone_offsets(joints[-1], skeleton), skeleton)
    computed = features(joints, skeleton)
    expected = canonical(joints, skeleton)[:-1]
    np.testing.assert_allclose(joints_from_features(computed, skeleton), expected, atol=5e-5)
    offsets = bone_offsets(joints[0], skeleton)
    np.testing.assert_allclose(joints_from_rotations(computed, offsets, skeleton), expected, atol=5e-5)


def test_a_whole_turn_is_a_turn():
    """Past 180° too, where the published code takes one frame's turn with the wrong sign."""
    joints = random_motion(T2M, seed=0, turn=-2 * np.pi, frames=400)
    turn = features(joints)[1:, T2M.blocks["turn"]]  # the first frame's is a jump to the smoothed heading
    assert (turn > 0).all()
    heading, _ = root_path(features(joints))
    assert heading[-1] == pytest.approx(-2 * np.pi, abs=0.5)


def test_uniform_skeleton_keeps_directions_and_scales_the_path():
    joints = random_motion(T2M, seed=1)
    larger = uniform_skeleton(joints, 2 * bone_offsets(joints[0]))
    np.testing.assert_allclose(larger[:, 0], 2 * joints[:, 0])
    for joint, parent in T2M.bones:
        bone, other = joints[:, joint] - joints[:, parent], larger[:, joint] - larger[:, parent]
        np.testing.assert_allclose(np.linalg.norm(other, axis=-1), 2 * np.linalg.norm(bone[0]))
        np.testing.assert_allclose(np.cross(bone, other), 0, atol=1e-9)


def test_a_bone_that_points_straight_back_has_a_rotation():
    """An arm straight up: the shortest rotation from the rest pose is any half turn (published: NaN)."""
    joints = random_motion(T2M, seed=2)
    arm = [T2M.joints.index(f"left_{name}") for name in ("shoulder", "elbow", "wrist")]
    joints[:, arm[1:]] = joints[:, arm[:1]] + np.array([[0, 0.3, 0], [0, 0.5, 0]])
    joints = uniform_skeleton(joints, bone_offsets(joints[0]))
    computed = features(joints)
    assert np.isfinite(computed).all()
    back = joints_from_rotations(computed, bone_offsets(joints[0]))
    np.testing.assert_allclose(back, canonical(joints)[:-1], atol=5e-5)


def test_motions_in_batches():
    both = np.stack([features(random_motion(T2M, seed)) for seed in (3, 4)])
    together = joints_from_features(both)
    assert together.shape == (2, 49, 22, 3)
    assert np.array_equal(together[1], joints_from_features(both[1]))
    offsets = bone_offsets(random_motion(T2M, 3)[0])
    assert np.array_equal(joints_from_rotations(both, offsets)[1], joints_from_rotations(both[1], offsets))


def broken(change) -> np.ndarray:
    joints = random_motion(T2M, seed=5)
    change(joints)
    return joints


@pytest.mark.parametrize(
    ("joints", "said"),
    [
        (random_motion(KIT, 0), "22, 3] for the skeleton t2m, not [50, 21, 3]"),
        (np.zeros((10, 66)), "not [10, 66]"),
        (random_motion(T2M, 0)[:1], "2 frames or more, not 1"),
        (broken(lambda joints: joints.__setitem__((7, 3, 1), np.nan)), "not finite (NaN or infinite) from frame 7"),
        (broken(lambda joints: joints.__setitem__((9, 4), joints[9, 1])), "left_knee lies on its parent in frame 9"),
        (broken(lambda joints: joints.__setitem__((0, [2, 17]), joints[0, [1, 16]])), "no heading in frame 0"),
    ],
    ids=["other-skeleton", "flat", "one-frame", "nan", "no-bone", "no-heading"],
)
def test_joints_that_cannot_be_used_are_refused_in_one_sentence(joints, said):
    with pytest.raises(MotionError) as error:
        features(joints)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.zeros((10, 251)), "[..., frames, 263] for the skeleton t2m, not [10, 251]"),
        (np.full((2, 10, 263), [[[0]], [[np.inf]]]), "motion or frame 1"),
    ],
    ids=["other-width", "infinite"],
)
def test_features_that_cannot_be_used_are_refused(values, said):
    with pytest.raises(MotionError) as error:
        joints_from_features(values)
    assert said in str(error.value)


def test_offsets_that_cannot_be_used_are_refused():
    motion = random_motion(T2M, 0)
    for offsets in (np.zeros((22, 3)), bone_offsets(random_motion(KIT, 0)[0], KIT), np.full((22, 3), np.nan)):
        with pytest.raises(MotionError, match="make them with bone_offsets"):
            features(motion, target_offsets=offsets)
