"""Damaged files of motion and captions, 300 of each kind: every one reads well or gives one sentence, none a traceback.
MUTATIONS=10000 tries as many.

Each file lies in a small folder that is whole but for it, and is read as pretrain reads it, motion and all.
"""

import json
import os
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import mutations
import numpy as np
import pytest
from mutations import JSON_LINES, NPY, NPZ, TEXT, Mutator
from test_bvh import BANDAI, figure
from test_user_data import figure as body

from bench.motion.representation import features
from bench.world import user_data
from methods.errors import InputError

SPLITS = ("train", "val", "test")
FRAMES = 48
COUNT = int(os.environ.get("MUTATIONS", "300"))


def captions(names: Sequence[str], **more: object) -> str:
    said = [{"text": "a person walks", "f_tag": 0.0, "to_tag": 0.0}, {"text": "il se lève", "meaning": "up"}]
    rows = [{"id": name, "split": split, "captions": said, **more} for name, split in zip(names, SPLITS, strict=True)]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def arrays_folder(folder: Path) -> None:
    joints = np.concatenate([body(FRAMES, number) for number in range(3)])
    offsets = np.arange(4) * FRAMES
    np.savez(folder / "joints.npz", joints=joints, offsets=offsets, ids=np.array([*"abc"]), fps=20.0)
    (folder / "captions.jsonl").write_text(captions("abc"))


def bvh_folder(folder: Path) -> None:
    for name in "abc":
        moving(folder / f"{name}.bvh")
    (folder / "captions.jsonl").write_text(captions("abc", fps=30))


def moving(path: Path) -> None:
    """Bandai-Namco's figure, which nods, turns and goes, for 44 frames at 20 per second."""
    figure(path, BANDAI, frames=66, seconds="0.0333333")
    head, *rows = path.read_text().partition("Frame Time")
    time, *frames = "".join(rows).splitlines()
    swung = [
        " ".join(f"{float(value) + 10 * np.sin(0.3 * n + c):.3f}" for c, value in enumerate(frame.split()))
        for n, frame in enumerate(frames)
    ]
    path.write_text(head + "\n".join([time, *swung]) + "\n")


def humanml3d_folder(folder: Path) -> None:
    for name in ("new_joint_vecs", "texts"):
        (folder / name).mkdir()
    for number, split in enumerate(SPLITS):
        (folder / f"{split}.txt").write_text(f"{split}1\n{split}2\n")
        for name in (f"{split}1", f"{split}2"):
            np.save(folder / "new_joint_vecs" / f"{name}.npy", features(body(FRAMES + 1, number)))
            (folder / "texts" / f"{name}.txt").write_text(
                "a person walks#a/DET person/NOUN walk/VERB#0.0#0.0\nhe's tired#he/PRON#0.1#2.3\n"
            )
    np.save(folder / "Mean.npy", np.zeros(263, np.float32))
    np.save(folder / "Std.npy", np.ones(263, np.float32))


def read_motion(kind: str, folder: Path) -> None:
    """All that pre-training reads."""
    clips = user_data.read(kind, folder)
    for entry in clips.entries:
        motion = entry.decode()
        assert motion.shape == (entry.frames, 263)
        assert np.isfinite(motion).all()
        assert entry.captions
    json.dumps([clips.notes(), clips.texts]).encode()
    " ".join(clips.texts).encode()


KINDS: dict[str, tuple[Callable, str, tuple[Mutator, ...]]] = {
    "arrays": (arrays_folder, "joints.npz", NPZ),
    "arrays captions": (arrays_folder, "captions.jsonl", JSON_LINES),
    "bvh": (bvh_folder, "a.bvh", TEXT),
    "bvh captions": (bvh_folder, "captions.jsonl", JSON_LINES),
    "humanml3d features": (humanml3d_folder, "new_joint_vecs/train1.npy", NPY),
    "humanml3d mean": (humanml3d_folder, "Mean.npy", NPY),
    "humanml3d texts": (humanml3d_folder, "texts/train1.txt", TEXT),
    "humanml3d split": (humanml3d_folder, "train.txt", TEXT),
}


def damaged(kind: str, folder: Path, count: int, seed: int = 0) -> Counter[str]:
    """How many were read well and how many refused. What a mutant raises, its number goes with."""
    make, name, mutators = KINDS[kind]
    make(folder)
    counted: Counter[str] = Counter()
    whole = (folder / name).read_bytes()
    read_motion(kind.split()[0], folder)
    for number, content in enumerate(mutations.mutants(whole, mutators, count, seed)):
        (folder / name).write_bytes(content)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                warnings.simplefilter("error", RuntimeWarning)  # numbers that nobody checked
                said = mutations.outcome(lambda: read_motion(kind.split()[0], folder), str(folder))
        except Exception as error:
            error.add_note(f"{kind}, mutant {number} of seed {seed}")
            raise
        counted["refused" if said else "read"] += 1
    return counted


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_read_well_or_give_a_sentence(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(user_data, "FEWEST", dict.fromkeys(SPLITS, 1))
    counted = damaged(kind, tmp_path, COUNT)
    assert counted.total() == COUNT
    assert counted["refused"] > COUNT / 10


@pytest.mark.parametrize("mutators", [mutations.TEXT, mutations.JSON, NPY, NPZ])
def test_mutants_are_seeded_and_damaged(mutators):
    whole = {
        NPY: mutations.npy(np.arange(12.0).reshape(4, 3)),
        NPZ: mutations.npz({"a": mutations.npy(np.arange(5)), "b": mutations.npy(np.array(["x", "y"]))}),
    }.get(mutators, b'{"a": [1, 2.5, null], "b": {"c": "walks"}}\n')
    first = list(mutations.mutants(whole, mutators, 60, seed=3))
    assert list(mutations.mutants(whole, mutators, 30, seed=3)) == first[:30]
    assert list(mutations.mutants(whole, mutators, 60, seed=4)) != first
    assert sum(mutant != whole for mutant in first) > 50


def test_outcomes():
    def fails(error: Exception) -> None:
        raise error

    assert mutations.outcome(lambda: 1, "a.json") is None
    assert mutations.outcome(lambda: fails(InputError("a.json is cut off")), "a.json") == "a.json is cut off"
    for said in ("it is cut off", "a.json\nis cut off", "a.json \x1b[2J", "a.json " + "x" * 2000):
        with pytest.raises(AssertionError):
            mutations.outcome(lambda said=said: fails(InputError(said)), "a.json")
    with pytest.raises(KeyError):
        mutations.outcome(lambda: fails(KeyError("a.json")), "a.json")
