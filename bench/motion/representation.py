"""Motion as features (Guo et al. 2022, HumanML3D): joint positions to 263 (KIT-ML: 251) numbers a frame, and back.

Joints are `[F, J, 3]` in metres, y up, left at +x of a body that faces +z, at the frame rate of the skeleton; features
are `[F-1, D]`. All is computed in float64 and given in float32, as the published files are.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from bench.motion.skeleton import T2M, Skeleton
from methods.errors import InputError

Array = NDArray[np.floating]

SMOOTHING = 20
"""Standard deviation, in frames, of the Gaussian that smooths the facing direction."""


class MotionError(InputError):
    """A motion cannot be used; the message is one sentence that names what is wrong and the mend."""


def features(joints: ArrayLike, skeleton: Skeleton = T2M, target_offsets: ArrayLike | None = None) -> Array:
    """Features `[F-1, D]` of the joints `[F, J, 3]`; the last frame only ends the last displacement.

    Where the motion is and which way it first faces do not matter (see `canonical`). With `target_offsets` (the
    `bone_offsets` of some pose), the body first gets that pose's bone lengths. A frame has, as `skeleton.blocks` says:

    - the root's turn to the next frame (minus half the angle about y, as published), its displacement to the next frame
      in x and z, seen from there, and its height
    - the other joints' positions, seen from the root's place on the floor and its heading
    - their bones' rotations along each chain, as the first two columns of the matrix
    - all joints' displacements to the next frame, seen from the heading
    - 1 for each foot joint that then stays where it is

    One difference to the published code: where the heading passes 180° it takes the turn with the wrong sign, so that
    all that follows comes back rotated. Here it is right.

    MotionError: too few frames, another number of joints, values that are not finite, a bone without length, or hips
    and shoulders that show no heading.
    """
    joints = _checked_joints(joints, skeleton, frames=2)
    if target_offsets is not None:
        joints = uniform_skeleton(joints, target_offsets, skeleton)
    joints = canonical(joints, skeleton)
    heading = _smooth_heading(joints, skeleton)
    turn = (np.diff(heading) + np.pi) % (2 * np.pi) - np.pi
    step = np.diff(joints, axis=0)
    parts = {
        "turn": -turn / 2,
        "glide": _turned(step[:, :1], -heading[1:])[..., [0, 2]],
        "height": joints[:-1, 0, 1],
        "positions": _turned(joints - joints[:, :1] * [1, 0, 1], -heading)[:-1, 1:],
        "rotations": _rotations(joints, heading, skeleton)[:-1, :, :, :2].swapaxes(-1, -2),
        "velocities": _turned(step, -heading[:-1]),
        "contacts": (step[:, skeleton.feet] ** 2).sum(-1) < skeleton.still,
    }
    rows = [parts[name].reshape(len(step), -1) for name in skeleton.blocks]
    return np.concatenate(rows, axis=1).astype(np.float32)


def joints_from_features(features: ArrayLike, skeleton: Skeleton = T2M) -> Array:
    """Joints `[..., F, J, 3]` from the root's path and the local positions of features `[..., F, D]`.

    Of the features of a motion these are its `canonical` joints, less the last frame. MotionError for features of
    another width, or that are not finite.
    """
    features = _checked_features(features, skeleton)
    heading, root = root_path(features, skeleton)
    others = _turned(_block(features, "positions", skeleton, 3), heading) + root[..., None, :] * [1, 0, 1]
    return np.concatenate([root[..., None, :], others], axis=-2).astype(np.float32)


def joints_from_rotations(features: ArrayLike, offsets: ArrayLike, skeleton: Skeleton = T2M) -> Array:
    """Joints `[..., F, J, 3]` from the root's path and the rotations of features `[..., F, D]`.

    `offsets` are the body's, see bone_offsets. MotionError as in joints_from_features, or for offsets of another shape.
    """
    features = _checked_features(features, skeleton)
    offsets = _checked_offsets(offsets, skeleton)
    heading, root = root_path(features, skeleton)
    columns = _block(features, "rotations", skeleton, 2, 3)
    first = _unit(columns[..., 0, :])
    third = _unit(np.cross(first, columns[..., 1, :]))
    relative = np.stack([first, np.cross(third, first), third], axis=-1)
    rotations = {0: _about_y(-heading)}
    joints = {0: root}
    for joint, parent in skeleton.bones:
        rotations[joint] = rotations[skeleton.turned_by[joint]] @ relative[..., joint - 1, :, :]
        joints[joint] = joints[parent] + rotations[joint] @ offsets[joint]
    return np.stack([joints[joint] for joint in range(len(joints))], axis=-2).astype(np.float32)


def root_path(features: ArrayLike, skeleton: Skeleton = T2M) -> tuple[Array, Array]:
    """Heading `[..., F]` in radians (0 is +z, positive to +x) and position `[..., F, 3]` of the root."""
    features = _checked_features(features, skeleton)
    heading = np.zeros(features.shape[:-1])
    heading[..., 1:] = -2 * np.cumsum(_block(features, "turn", skeleton)[..., :-1], axis=-1)
    step = np.zeros((*heading.shape, 3))
    step[..., 1:, [0, 2]] = _block(features, "glide", skeleton, 2)[..., :-1, 0, :]
    root = np.cumsum(_turned(step[..., None, :], heading)[..., 0, :], axis=-2)
    root[..., 1] = _block(features, "height", skeleton)
    return heading, root


def bone_offsets(pose: ArrayLike, skeleton: Skeleton = T2M) -> Array:
    """Offset `[J, 3]` of each joint from its parent in the rest pose, with the bone lengths of the pose `[J, 3]`."""
    pose = _checked_joints(np.asarray(pose)[None], skeleton, frames=1)
    lengths = np.linalg.norm(_bones(pose, skeleton)[0], axis=-1)
    return np.array(skeleton.directions) * np.concatenate([[0], lengths])[:, None]


def uniform_skeleton(joints: ArrayLike, target_offsets: ArrayLike, skeleton: Skeleton = T2M) -> Array:
    """The same motion `[F, J, 3]` by a body with the bone lengths of `target_offsets`: every bone keeps its direction.

    The root's path is scaled by the ratio of the leg lengths. The published code writes this as inverse and forward
    kinematics, whose rotations cancel.
    """
    joints = _checked_joints(joints, skeleton, frames=1)
    source = np.linalg.norm(bone_offsets(joints[0], skeleton), axis=-1)
    target = np.linalg.norm(_checked_offsets(target_offsets, skeleton), axis=-1)
    bones = _unit(_bones(joints, skeleton)) * target[1:, None]
    leg = list(skeleton.leg)
    uniform = np.empty_like(joints)
    uniform[:, 0] = joints[:, 0] * target[leg].sum() / source[leg].sum()
    for joint, parent in skeleton.bones:
        uniform[:, joint] = uniform[:, parent] + bones[:, joint - 1]
    return uniform


def canonical(joints: ArrayLike, skeleton: Skeleton = T2M) -> Array:
    """The motion `[F, J, 3]` moved as a whole: its lowest point at y = 0, the first root over the origin, facing +z."""
    joints = _checked_joints(joints, skeleton, frames=1)
    right_hip, left_hip, right_shoulder, left_shoulder = joints[:1, skeleton.facing].swapaxes(0, 1)
    heading = _heading(_ahead(right_hip - left_hip + right_shoulder - left_shoulder))
    return _turned(joints - [joints[0, 0, 0], joints[..., 1].min(), joints[0, 0, 2]], -heading)


def _smooth_heading(joints: Array, skeleton: Skeleton) -> Array:
    """Heading `[F]` of a canonical motion, smoothed over time.

    As published, the hips count against the shoulders here (a body wider at the hips would be taken to walk backwards),
    and the first heading is 0 whatever the smoothing says.
    """
    right_hip, left_hip, right_shoulder, left_shoulder = joints[:, skeleton.facing].swapaxes(0, 1)
    ahead = _ahead(left_hip - right_hip + right_shoulder - left_shoulder)
    reach = 4 * SMOOTHING
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / SMOOTHING) ** 2)
    padded = np.pad(ahead, ((reach, reach), (0, 0)), mode="edge")
    heading = _heading(sliding_window_view(padded, len(kernel), axis=0) @ (kernel / kernel.sum()))
    heading[0] = 0
    return heading


def _ahead(right: Array) -> Array:
    """x and z `[F, 2]` of what is 90° to the left of the unit vectors along `right` `[F, 3]`, seen from above."""
    lengths = np.linalg.norm(right, axis=-1, keepdims=True)
    return right[:, [2, 0]] * [1, -1] / np.maximum(lengths, np.finfo(float).tiny)


def _heading(ahead: Array) -> Array:
    """Angle `[F]` about y that turns +z to the direction `[F, 2]` in x and z."""
    lost = np.linalg.norm(ahead, axis=-1) < 1e-8
    if lost.any():
        raise MotionError(
            f"hips and shoulders show no heading in frame {lost.argmax()}: cut that frame, or check the joints' order"
        )
    return np.arctan2(ahead[:, 0], ahead[:, 1])


def _rotations(joints: Array, heading: Array, skeleton: Skeleton) -> Array:
    """Matrices `[F, J-1, 3, 3]` of all joints but the root, each relative to the joint that it is turned by.

    A bone's own is the shortest rotation from its rest direction: half a turn about the rest direction, then half a
    turn about the direction halfway (for a bone that points straight back: one of those square to it).
    """
    rest = np.array(skeleton.directions[1:], dtype=float)
    halfway = rest + _unit(_bones(joints, skeleton))
    back = np.linalg.norm(halfway, axis=-1, keepdims=True) < 1e-8
    bones = _half_turn(_unit(np.where(back, np.roll(rest, 1, axis=-1), halfway))) @ _half_turn(rest)
    rotations = np.concatenate([_about_y(-heading)[:, None], bones], axis=1)
    return rotations[:, skeleton.turned_by[1:]].swapaxes(-1, -2) @ bones


def _half_turn(axis: Array) -> Array:
    """Matrices `[..., 3, 3]` of a rotation by 180° about unit axes `[..., 3]`."""
    return 2 * axis[..., :, None] * axis[..., None, :] - np.eye(3)


def _about_y(angle: Array) -> Array:
    """Matrices `[..., 3, 3]` of rotations about y; a positive angle turns +z towards +x."""
    cos, sin, zero, one = np.cos(angle), np.sin(angle), np.zeros_like(angle), np.ones_like(angle)
    return np.stack([cos, zero, sin, zero, one, zero, -sin, zero, cos], axis=-1).reshape(*angle.shape, 3, 3)


def _turned(points: Array, angle: Array) -> Array:
    """Points `[..., N, 3]` rotated about y by the angles `[...]`."""
    return points @ _about_y(angle).swapaxes(-1, -2)


def _unit(vectors: Array) -> Array:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _bones(joints: Array, skeleton: Skeleton) -> Array:
    """Vector `[F, J-1, 3]` from its parent to every joint but the root."""
    bones = joints[:, 1:] - joints[:, skeleton.parents[1:]]
    frames, joint = np.nonzero((bones == 0).all(-1))
    if len(frames):
        raise MotionError(
            f"joint {skeleton.joints[joint[0] + 1]} lies on its parent in frame {frames[0]}, so that its bone has no "
            "direction: fill in the missing joint, or cut the frame"
        )
    return bones


def _block(features: Array, name: str, skeleton: Skeleton, *shape: int) -> Array:
    """One block of the features, as `[..., *]` for a single number, or `[..., N, *shape]`."""
    block = features[..., skeleton.blocks[name]]
    return block.reshape(*block.shape[:-1], -1, *shape) if shape else block[..., 0]


def _checked_joints(joints: ArrayLike, skeleton: Skeleton, frames: int) -> Array:
    joints = np.asarray(joints, dtype=float)
    wanted = f"[frames, {len(skeleton.joints)}, 3] for the skeleton {skeleton.name}"
    if joints.ndim != 3 or joints.shape[1:] != (len(skeleton.joints), 3):
        raise MotionError(f"joints must be {wanted}, not {list(joints.shape)}: choose and order the joints accordingly")
    if len(joints) < frames:
        raise MotionError(f"a motion needs {frames} frames or more, not {len(joints)}: leave this clip out")
    _check_finite(joints, "joints", "frame", axis=(1, 2))
    return joints


def _checked_features(features: ArrayLike, skeleton: Skeleton) -> Array:
    features = np.asarray(features, dtype=float)
    if features.ndim < 2 or features.shape[-1] != skeleton.width:
        raise MotionError(
            f"features must be [..., frames, {skeleton.width}] for the skeleton {skeleton.name}, not "
            f"{list(features.shape)}: check which data set they are of"
        )
    _check_finite(features, "features", "motion or frame", axis=tuple(range(1, features.ndim)))
    return features


def _checked_offsets(offsets: ArrayLike, skeleton: Skeleton) -> Array:
    offsets = np.asarray(offsets, dtype=float)
    if offsets.shape != (len(skeleton.joints), 3) or not np.isfinite(offsets).all() or not offsets[1:].any(-1).all():
        raise MotionError(
            f"offsets must be [{len(skeleton.joints)}, 3] with a length for every bone: make them with bone_offsets"
        )
    return offsets


def _check_finite(values: Array, name: str, row: str, axis: tuple[int, ...]) -> None:
    broken = ~np.isfinite(values).all(axis=axis)
    if broken.any():
        raise MotionError(f"{name} are not finite (NaN or infinite) from {row} {broken.argmax()} on: mend or cut them")
