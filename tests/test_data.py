"""Sources read back what was written; bad input gives its sentence; the published length rules, by their numbers."""

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.motion import arrays, humanml3d, text
from bench.motion.clip import Caption, Clip, Clips, DataError, Entry, crop, long_enough
from bench.world.content import TABLE

RNG = np.random.default_rng(0)


def entry(frames: int, *captions: Caption, name: str = "a", fps: float = 20.0) -> Entry:
    motion = np.arange(frames, dtype=np.float32)[:, None].repeat(5, axis=1)
    return Entry(name, "train", captions, frames, lambda: motion, fps)


WHOLE = Caption("a person walks")


def test_length_filter():
    assert [frames for frames in (39, 40, 199, 200) if long_enough(frames)] == [40, 199]
    assert long_enough(24, fps=12.5)
    assert not long_enough(23, fps=12.5)


def test_parts_follow_the_tags():
    tagged = Caption("then sits", start_seconds=2.09, end_seconds=4.5)
    short = Caption("then stops", start_seconds=0.0, end_seconds=1.0)
    clips = Clips((entry(100, WHOLE, tagged, short), entry(39, WHOLE, name="b"), entry(200, WHOLE, name="c")))
    parts = clips.parts()
    assert [clip.id for clip in parts] == ["a", "a@1"]
    assert [entry.frames for entry in parts.entries] == [clip.frames for clip in parts] == [100, 49]
    assert parts[1].features[0, 0] == 41  # int(2.09 · 20)
    assert parts[1].captions == (Caption("then sits"),)
    assert parts.left_out == {"clips outside 40 to 199 frames": 2, "parts outside 40 to 199 frames": 1}


def test_clips_are_decoded_when_asked_for():
    def decode():
        raise AssertionError("decoded too early")

    clips = Clips((Entry("a", "train", (WHOLE,), 60, decode),)).parts()
    assert len(clips) == 1
    assert len(clips[:1]) == 1
    with pytest.raises(AssertionError, match="too early"):
        clips[0]


def test_crop_to_whole_units():
    clip = entry(199, WHOLE).clip()
    crops = [crop(clip, np.random.default_rng(seed)) for seed in range(60)]
    assert {c.frames for c in crops} == {196, 192}
    assert 10 < sum(c.frames == 192 for c in crops) < 30  # one draw in three
    assert {int(c.features[0, 0]) for c in crops} <= set(range(8))
    assert len({int(c.features[0, 0]) for c in crops}) > 3
    with pytest.raises(DataError, match="fewer than a unit"):
        crop(entry(3, WHOLE).clip(), RNG)


# Arrays with captions.


def write_arrays(folder, frames=(50, 60), **changes):
    joints = RNG.normal(size=(sum(frames), 22, 3)).astype(np.float32)
    content = {"joints": joints, "offsets": np.cumsum([0, *frames]), "ids": np.array(["a", "b"]), **changes}
    np.savez(folder / "joints.npz", **{name: value for name, value in content.items() if value is not None})
    rows = [
        {"id": "a", "split": "train", "captions": [{"text": "walks", "f_tag": 0.0, "to_tag": 0.0}]},
        {"id": "b", "split": "test", "captions": [{"text": "runs", "f_tag": 0.5, "to_tag": 2, "meaning": "run"}]},
    ]
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return joints


def test_arrays_round_trip(tmp_path):
    joints = write_arrays(tmp_path)
    (clip,) = arrays.load(tmp_path, "test")
    assert isinstance(clip, Clip)
    assert (clip.id, clip.split, clip.fps) == ("b", "test", 20.0)
    assert np.array_equal(clip.joints, joints[50:])
    assert clip.captions == (Caption("runs", (), 0.5, 2.0, "run"),)
    assert arrays.load(tmp_path, "train")[0].captions[0].whole


BAD_ARRAYS = {
    "has no array": {"offsets": None},
    "must be [frames, joints, 3]": {"joints": np.zeros((110, 66), np.float32)},
    "do not divide": {"offsets": np.array([0, 50, 100])},
    "not a plain array of numbers or text, but object": {"ids": np.array(["a", None], dtype=object)},
    "clip b is not in joints.npz": {"ids": np.array(["a", "c"])},
}


@pytest.mark.parametrize("said", BAD_ARRAYS)
def test_bad_arrays(said, tmp_path):
    write_arrays(tmp_path, **BAD_ARRAYS[said])
    with pytest.raises(DataError, match=re.escape(said)):
        arrays.load(tmp_path, "train")


def test_bad_values_are_found_when_the_clip_is_asked_for(tmp_path):
    joints = np.zeros((110, 22, 3), np.float32)
    joints[53, 2, 1] = np.nan
    write_arrays(tmp_path, joints=joints)
    with pytest.raises(DataError, match=r"clip b .* not finite or too large, first in frame 3"):
        arrays.load(tmp_path, "test")[0]


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"id": "a", "split": "train"}',
        '{"id": "a", "split": "training", "captions": [{"text": "x"}]}',
        '{"id": "a", "split": "train", "captions": []}',
        '{"split": "train", "captions": [{"text": "x"}]}',
    ],
)
def test_bad_caption_lines_are_named(line, tmp_path):
    write_arrays(tmp_path)
    with (tmp_path / "captions.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match="line 3 is no usable caption line"):
        arrays.load(tmp_path, "train")


def test_missing_files_and_splits(tmp_path):
    with pytest.raises(DataError, match=r"there is no .*joints\.npz"):
        arrays.load(tmp_path, "train")
    with pytest.raises(DataError, match="no split 'dev'"):
        arrays.load(tmp_path, "dev")
    write_arrays(tmp_path)
    with pytest.raises(DataError, match="gives no clip"):
        arrays.load(tmp_path, "val")


@pytest.mark.skipif("MOTION_DATA" not in os.environ, reason="MOTION_DATA does not name a folder of real motion")
@pytest.mark.parametrize("part", ["cmu", "bandai_namco"])
def test_real_arrays(part):
    folder = Path(os.environ["MOTION_DATA"])
    counts = {split: len(arrays.load(folder / part, split)) for split in ("train", "val", "test")}
    assert counts["train"] > counts["test"] > counts["val"] > 20
    usable = arrays.load(folder / part, "val").parts()
    assert all(40 <= clip.frames < 200 and clip.joints.shape[1:] == (22, 3) for clip in usable)
    mean, _ = humanml3d.statistics(folder / "humanml3d")
    assert mean.shape == (263,)


# HumanML3D and KIT-ML.


def write_humanml3d(folder, width=263):
    (folder / "new_joint_vecs").mkdir()
    (folder / "texts").mkdir()
    features = {name: RNG.normal(size=(60, width)).astype(np.float32) for name in ("000001", "M000001")}
    for name, values in features.items():
        np.save(folder / "new_joint_vecs" / f"{name}.npy", values)
    (folder / "texts" / "000001.txt").write_text(
        "a person walks.#a/DET person/NOUN walk/VERB#0.0#0.0\nhe waves#he/PRON wave/VERB#nan#nan\n"
        "then sits#then/ADV sit/VERB#0.5#2.9\n"
    )
    (folder / "texts" / "M000001.txt").write_text("half a line#\na man runs#a/DET man/NOUN run/VERB#0.0#0.0\n")
    (folder / "texts" / "000002.txt").write_text("lost#lost/ADJ#0.0#0.0\n")
    for split, names in {"train": "000001\nM000001\n000002\n", "val": "000001\n", "test": "000002\n"}.items():
        (folder / f"{split}.txt").write_text(names)
    np.save(folder / "Mean.npy", np.zeros(width, np.float32))
    np.save(folder / "Std.npy", np.ones(width, np.float32))
    return features


@pytest.mark.parametrize(("width", "fps"), [(263, 20.0), (251, 12.5)])
def test_humanml3d_round_trip(width, fps, tmp_path):
    features = write_humanml3d(tmp_path, width)
    with pytest.warns(UserWarning, match="without a motion file") as said:
        clips = humanml3d.load(tmp_path, "train")
    assert len(said) == 1
    assert "1 without a motion file (the first: 000002)" in str(said[0].message)
    assert f"1 unreadable lines (the first: {tmp_path / 'texts' / 'M000001.txt'}, line 1)" in str(said[0].message)
    assert [(clip.id, clip.fps) for clip in clips] == [("000001", fps), ("M000001", fps)]
    assert np.array_equal(clips[0].features, features["000001"])
    walks, waves, sits = clips[0].captions
    assert walks == Caption("a person walks.", ("a/DET", "person/NOUN", "walk/VERB"))
    assert waves.whole
    assert (sits.start_seconds, sits.end_seconds) == (0.5, 2.9)
    mean, std = humanml3d.statistics(tmp_path)
    assert (mean.shape, std.shape) == ((width,), (width,))


def test_humanml3d_bad_folders(tmp_path):
    with pytest.raises(DataError, match=r"there is no .*Mean\.npy: a HumanML3D or KIT-ML folder has new_joint_vecs/"):
        humanml3d.load(tmp_path, "train")
    write_humanml3d(tmp_path)
    with pytest.raises(DataError, match=r"gives no clip \(1 without a motion file \(the first: 000002\)\)"):
        humanml3d.load(tmp_path, "test")
    np.save(tmp_path / "new_joint_vecs" / "000001.npy", np.full((60, 263), np.nan, np.float32))
    with pytest.raises(DataError, match=r"000001\.npy has values that are not finite"):
        humanml3d.load(tmp_path, "val")[0]
    np.save(tmp_path / "new_joint_vecs" / "000001.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"000001\.npy: not a plain array"):
        humanml3d.load(tmp_path, "val")
    np.save(tmp_path / "new_joint_vecs" / "000001.npy", np.zeros((60, 251), np.float32))
    with pytest.raises(DataError, match=re.escape("has shape [60, 251], Mean.npy has width 263")):
        humanml3d.load(tmp_path, "val")
    np.save(tmp_path / "Std.npy", np.ones(251, np.float32))
    with pytest.raises(DataError, match=re.escape("have shapes [263] and [251]")):
        humanml3d.load(tmp_path, "val")


# Embeddings.


class Letters:
    """An encoder whose vectors can be foretold: counts of four letters."""

    name, width = "letters", 4

    def encode(self, texts):
        return torch.tensor([[float(text.count(letter)) for letter in "aeio"] for text in texts])

    def tokens(self, texts):
        raise NotImplementedError


def test_table_reads_back_what_was_encoded(tmp_path):
    path = tmp_path / "table.safetensors"
    text.build_table(Letters(), path, ["a person walks", "He waves, twice!", "a person walks"])
    table = text.CachedTable(path)
    assert (table.name, table.width) == ("letters", 4)
    assert torch.equal(table.encode(["He waves, twice!"]), Letters().encode(["He waves, twice!"]))
    vectors, mask = table.tokens(["a person", "he waves twice"])
    assert mask.tolist() == [[True, True, False], [True, True, True]]
    assert torch.equal(vectors[0, 0], torch.tensor([1.0, 0, 0, 0]))
    assert not vectors[0, 2].any()
    with pytest.raises(DataError, match="no embedding of 'a person flies'"):
        table.encode(["a person flies"])
    with pytest.raises(DataError, match="no embedding of 'flies'"):
        table.tokens(["a person flies"])


def test_bad_tables(tmp_path):
    with pytest.raises(DataError, match="no table of embeddings"):
        text.CachedTable(tmp_path / "none.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(TABLE.read_bytes()[:5000])
    with pytest.raises(DataError, match="not a whole table"):
        text.CachedTable(tmp_path / "cut.safetensors")


def test_missing_encoder_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(DataError, match=r"pip install 'motion-reward-bench\[text\]'"):
        text.SentenceTransformer(tmp_path)
