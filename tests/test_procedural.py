"""The embedded world: repeatable, human enough to learn from, and doing what its captions say."""

from collections import Counter

import numpy as np
import pytest

from bench.motion import text
from bench.world import procedural
from bench.world.content import TABLE
from bench.world.procedural import grammar
from bench.world.procedural.grammar import Action, Meaning

PARENTS = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19]
HIP, KNEE, ANKLE, FOOT, WRIST = (1, 2), (4, 5), (7, 8), (10, 11), (20, 21)
SEEDS = range(3)


def perform(verb, way="", speed="", times=0, seed=0):
    return procedural.perform(Meaning((Action(verb, way, speed, times),)), np.random.default_rng(seed)).astype(float)


def heading(joints):
    """[F]: where the hips face, 0 for +z, to the left positive."""
    across = joints[:, HIP[0]] - joints[:, HIP[1]]
    return np.unwrap(np.arctan2(-across[:, 2], across[:, 0]))


def speeds(joints):
    return np.linalg.norm(np.diff(joints, axis=0), axis=-1) * 20


def in_body(joints):
    """Joints as seen from the pelvis, turned to face +z."""
    angle = heading(joints)[:, None]
    x, y, z = np.moveaxis(joints - joints[:, :1], -1, 0)
    return np.stack([x * np.cos(angle) - z * np.sin(angle), y, x * np.sin(angle) + z * np.cos(angle)], axis=-1)


@pytest.fixture(scope="module")
def performances():
    meanings = [*grammar.singles(), *grammar.pairs()[::15]]
    return {
        (m.id, seed): procedural.perform(m, np.random.default_rng(seed)).astype(float)
        for m in meanings
        for seed in (1, 2)
    }


def test_same_numbers_same_motion_whatever_the_count():
    few, many = procedural.generate(3, seed=5), procedural.generate(6, seed=5)
    for one, other in zip(few, many[:3], strict=True):
        assert (one.id, one.split, one.captions) == (other.id, other.split, other.captions)
        assert np.array_equal(one.joints, other.joints)
    different = [*many, *procedural.generate(6, seed=6)]
    assert len({clip.joints.tobytes() for clip in different}) == len({clip.id for clip in different}) == 12


def test_clips_keep_the_interface():
    clips = procedural.generate(200, seed=0)
    assert all(procedural.MIN_LENGTH <= clip.frames <= procedural.MAX_LENGTH for clip in clips)
    assert all(clip.frames % 4 == 0 for clip in clips)
    assert all(clip.joints.shape[1:] == (22, 3) and clip.joints.dtype == np.float32 for clip in clips)
    assert all(len({c.meaning for c in clip.captions}) == 1 and len(clip.captions) == 3 for clip in clips)
    assert len({clip.id for clip in clips}) == 200
    shares = Counter(clip.split for clip in clips)
    assert shares["train"] > 140
    assert min(shares["val"], shares["test"]) > 8


def test_held_out_meanings_are_in_the_test_split_alone():
    out = {meaning.id for meaning in grammar.pairs() if meaning.held_out}
    assert 0.1 < len(out) / len(grammar.pairs()) < 0.25
    trained = {part for meaning in grammar.pairs() if not meaning.held_out for part in meaning.actions}
    assert {part for meaning in grammar.pairs() for part in meaning.actions} == trained
    rng = np.random.default_rng(0)
    drawn = {split: {procedural.draw_meaning(rng, split).id for _ in range(2000)} for split in ("train", "val", "test")}
    assert not drawn["train"] & out
    assert not drawn["val"] & out
    assert len(drawn["test"] & out) > 20


def test_captions_mean_one_thing_and_are_all_in_the_table():
    captions = grammar.captions()
    assert len(set(captions)) == len(captions)
    assert len({meaning.id for meaning in (*grammar.singles(), *grammar.pairs())}) == len(
        grammar.singles() + grammar.pairs()
    )
    table = text.CachedTable(TABLE)
    assert table.encode(captions).shape == (len(captions), 384)
    _, mask = table.tokens(captions)
    assert bool(mask.any(dim=1).all())


def test_bones_keep_their_length(performances):
    reference = None
    for name, joints in performances.items():
        bones = np.linalg.norm(joints[:, 1:] - joints[:, PARENTS[1:]], axis=-1)
        reference = bones[0] if reference is None else reference
        assert np.abs(bones - reference).max() < 1e-5, name


def test_feet_stay_on_the_floor(performances):
    for name, joints in performances.items():
        assert joints[..., 1].min() > -0.005, name
        lowest = joints[:, FOOT, 1].min(axis=1)
        assert np.median(lowest) < 0.02, name
        if not any(verb in name[0] for verb in ("jump", "run")):
            assert lowest.max() < 0.02, name


def test_nothing_jumps(performances):
    for name, joints in performances.items():
        assert speeds(joints).max() < 12, name
        assert speeds(joints)[:, 0].max() < 4.5, name


def test_planted_feet_do_not_slide(performances):
    for name, joints in performances.items():
        feet = joints[:, FOOT]
        planted = (feet[1:, :, 1] < 0.003) & (feet[:-1, :, 1] < 0.003)
        slide = np.linalg.norm(np.diff(feet[..., (0, 2)], axis=0), axis=-1) * 20
        assert (slide * planted).max() < 0.4, name


def test_knees_bend_forward(performances):
    for name, joints in performances.items():
        facing = np.stack([np.sin(heading(joints)), np.zeros(len(joints)), np.cos(heading(joints))], axis=-1)
        for hip, knee, ankle in zip(HIP, KNEE, ANKLE, strict=True):
            leg = joints[:, ankle] - joints[:, hip]
            along = leg / np.linalg.norm(leg, axis=-1, keepdims=True)
            bend = joints[:, knee] - joints[:, hip]
            bend = bend - (bend * along).sum(axis=-1, keepdims=True) * along
            # Forward, or up where the leg itself points forward.
            assert ((bend * (facing + np.array([0, 0.5, 0]))).sum(axis=-1) > -0.01).all(), name


def test_samples_of_one_caption_differ():
    motions = [perform("walk", "forward", seed=seed) for seed in range(4)]
    ends = [tuple(motion[-1, 0].round(2)) for motion in motions]
    assert len(set(ends)) == 4


@pytest.mark.parametrize("seed", SEEDS)
def test_going_somewhere(seed):
    def net(*action):
        joints = perform(*action, seed=seed)
        return joints[-1, 0] - joints[0, 0]

    forward = net("walk", "forward")
    assert forward[2] > 0.8
    assert abs(forward[0]) < 0.25 * forward[2]
    assert net("walk", "backward")[2] < -0.5
    assert net("sidestep", "left")[0] > 0.3
    assert net("sidestep", "right")[0] < -0.3
    assert net("run", "forward")[2] > 2
    for still in (("run", "place"), ("march", "place"), ("bow",), ("turn", "left"), ("jump", "up", "", 2)):
        assert np.linalg.norm(net(*still)) < 0.15, still


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("way", "angle"), [("left", np.pi / 2), ("right", -np.pi / 2)])
def test_turning_and_circling(way, angle, seed):
    turned = heading(perform("turn", way, seed=seed))
    assert turned[-1] - turned[0] == pytest.approx(angle, abs=0.3)
    circled = perform("walk", f"circle {way}", seed=seed)
    assert heading(circled)[-1] - heading(circled)[0] == pytest.approx(4 * angle, abs=0.9)
    assert np.linalg.norm(circled[-1, 0] - circled[0, 0]) < 0.3 * np.ptp(circled[:, 0, 0])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("verb", "limb"), [("wave", WRIST), ("raise", WRIST), ("punch", WRIST), ("throw", WRIST), ("kick", FOOT)]
)
def test_left_and_right(verb, limb, seed):
    for side, way in enumerate(("left", "right")):
        times = 1 if 1 in grammar.VERBS[verb].times else 0
        body = in_body(perform(verb, way, times=times, seed=seed))
        paths = [np.linalg.norm(np.diff(body[:, joint], axis=0), axis=-1).sum() for joint in limb]
        assert paths[side] > 1.2 * paths[1 - side], way
        if verb in ("wave", "raise", "kick"):
            heights = body[:, limb, 1].max(axis=0) - body[0, limb, 1]
            assert heights[side] > heights[1 - side] + 0.25, way
    for side in (0, 1):  # the left hand is at the figure's left
        assert np.sign(body[0, limb[side], 0]) == (1, -1)[side]


@pytest.mark.parametrize("times", [1, 2, 3])
def test_repetitions_can_be_counted(times):
    joints = perform("jump", "up", times=times)
    airborne = joints[:, FOOT, 1].min(axis=1) > 0.05
    assert np.diff(airborne.astype(int)).clip(0).sum() == times
    low = perform("squat", times=times)[:, 0, 1] < 0.7
    assert np.diff(low.astype(int)).clip(0).sum() == times


def test_speeds_differ():
    pace = {speed: speeds(perform("walk", "forward", speed))[:, 0].max() for speed in ("slow", "", "quick")}
    assert pace["slow"] < 0.8 * pace[""] < 0.8 * 0.9 * pace["quick"]
    frames = [len(perform("raise", "both", speed)) for speed in ("quick", "", "slow")]
    assert frames[0] <= frames[1] < frames[2]


def test_two_actions_come_in_their_order():
    walk, wave = Action("walk", "forward"), Action("wave", "left")
    for order in ((walk, wave), (wave, walk)):
        joints = procedural.perform(Meaning(order), np.random.default_rng(3)).astype(float)
        going = speeds(joints)[:, 0].argmax()
        waving = joints[:, WRIST[0], 1].argmax()
        assert (going < waving) == (order[0] is walk)
