"""Sources read back what was written; bad input gives its sentence; the published length rules, by their numbers."""

import io
import json
import math
import os
import re
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mutations import npy, outcome

from bench.motion import arrays, humanml3d, text
from bench.motion.captions import Row, read_captions
from bench.motion.clip import Caption, Clip, Clips, Conventions, DataError, Entry, Notes, crop, long_enough
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


def unpacking_to(path, size: int) -> None:
    """An .npz whose joints are zeros of so many bytes, written piece by piece."""
    head = io.BytesIO()
    frames = size // 264
    shape = {"descr": "<f4", "fortran_order": False, "shape": (frames, 22, 3)}
    np.lib.format.write_array_header_1_0(head, shape)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        with file.open("joints.npy", "w") as inner:
            inner.write(head.getvalue())
            for start in range(0, frames, 4096):
                inner.write(bytes(264 * min(4096, frames - start)))
        file.writestr("offsets.npy", npy(np.array([0, frames])))
        file.writestr("ids.npy", npy(np.array(["a"])))


def test_a_small_file_does_not_unpack_to_a_large_array(tmp_path):
    """4 MB that unpack to 4.2 GB took as much memory; here 70 MB, which is known from the file's list alone."""
    write_arrays(tmp_path)
    unpacking_to(tmp_path / "joints.npz", 70 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"joints\.npz has 0\.1 MiB and unpacks to 70: divide it"):
            arrays.load(tmp_path, "train")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_what_a_header_says_is_not_made(tmp_path):
    write_humanml3d(tmp_path)
    lie = npy(np.zeros(263, np.float32)).replace(b"(263,)", b"(10000000000000,)")
    (tmp_path / "Mean.npy").write_bytes(lie)
    with pytest.raises(DataError, match=r"Mean\.npy: not a whole plain array .*its header says 40000000000000"):
        humanml3d.load(tmp_path, "train")


@pytest.mark.parametrize(
    "changes",
    [
        {"ids": np.array("ab")},
        {"ids": np.array(["a", "a"])},
        {"ids": np.array(["a", "\ud800"])},
        {"ids": np.array([97, 1 << 30], np.uint32).view("U1")},
        {"ids": np.array([1.0, 2.0])},
        {"offsets": np.array([0.0, 50.7, 110.0])},
        {"offsets": np.array([0, 120, 110])},
        {"offsets": np.array(3)},
        {"joints": np.zeros((110, 22, 3), complex)},
        {"fps": np.array([20.0, 30.0])},
        {"fps": np.array(np.nan)},
        {"fps": np.array("x")},
    ],
)
def test_arrays_of_another_form(changes, tmp_path):
    write_arrays(tmp_path, **changes)
    assert outcome(lambda: arrays.load(tmp_path, "train"), str(tmp_path / "joints.npz"))


# Text files as people have them.


def lines_of(*rows: dict) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def line(name, text: str = "walks", split: str = "train", **tags) -> dict:
    return {"id": name, "split": split, "captions": [{"text": text, **tags}]}


def read(folder, text: str | bytes, split: str = "train") -> tuple[list[Row], dict[str, int], dict[str, int]]:
    """The captions in such a file; what was left out and what changed, by the first word of the reason."""
    path = folder / "captions.jsonl"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    notes = Notes()
    rows = read_captions(path, split, notes)
    return [row for row in rows if row.split == split], notes.left_out.counts(), notes.changed.counts()


CAFE = "il va au café"


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-8", None),
        ("utf-8-sig", None),
        ("utf-16", "UTF-16-LE"),
        ("utf-16-le", "UTF-16-LE"),
        ("utf-16-be", "UTF-16-BE"),
        ("utf-32", "UTF-32-LE"),
        ("cp1252", "Windows-1252"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(encoding, said, end, tmp_path):
    text = lines_of(line("a", CAFE), line("b", "runs")).replace("\n", end)
    rows, left_out, changed = read(tmp_path, text.encode(encoding))
    assert [(row.id, row.captions[0].text) for row in rows] == [("a", CAFE), ("b", "runs")]
    assert left_out == {}
    assert changed == ({f"files read as {said} (the first: captions.jsonl)": 1} if said else {})


def test_a_damaged_utf8_file_is_not_taken_for_another_encoding(tmp_path):
    text = lines_of(line("a", CAFE), line("b", "runs")).encode()
    with pytest.raises(DataError, match=r"captions\.jsonl, line 2: not UTF-8 text from here"):
        read(tmp_path, text[:-10] + b"\xff" + text[-10:])


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x1c", "\\n", "\\r", "\\u000b", "\\u001b"])
def test_separators_within_a_caption_do_not_divide_it(separator, tmp_path):
    """Python's splitlines ends a line at eight more characters than an editor does."""
    if separator == "\x1c":
        separator = "\\u001c"  # JSON has it escaped alone
    text = lines_of(line("a", "walksXslowly"), line("b")).replace("X", separator)
    rows, _, changed = read(tmp_path, text)
    assert [row.captions[0].text for row in rows] == ["walks slowly", "walks"]
    assert list(changed.values()) == [1]


def test_joined_files_with_a_mark_in_between(tmp_path):
    rows, _, changed = read(tmp_path, lines_of(line("a")) + "\ufeff" + lines_of(line("b")))
    assert [row.id for row in rows] == ["a", "b"]
    assert changed == {"byte-order marks within a file, removed (the first: captions.jsonl, line 2)": 1}


def test_lines_of_one_clip_are_joined_and_counted(tmp_path):
    text = lines_of(line("a"), line("b"), line("a", "runs"), line("a", split="test"))
    rows, _, changed = read(tmp_path, text)
    assert [(row.id, [c.text for c in row.captions]) for row in rows] == [("a", ["walks", "runs"]), ("b", ["walks"])]
    assert list(changed.values()) == [1]
    assert read(tmp_path, text, "test")[2] == {}, "counted for the split that has it"
    with pytest.raises(DataError, match=r"line 2 is no usable caption line \(clip 'a' has another file or fps"):
        read(tmp_path, lines_of(line("a") | {"file": "x.bvh"}, line("a") | {"file": "y.bvh"}))


@pytest.mark.parametrize(("given", "taken"), [(12, "12"), (0, "0"), (-3, "-3")])
def test_whole_numbers_are_ids_and_counted(given, taken, tmp_path):
    rows, _, changed = read(tmp_path, lines_of(line(given)))
    assert rows[0].id == taken
    assert changed == {"ids that are numbers, read as their digits (the first: captions.jsonl, line 1)": 1}


@pytest.mark.parametrize("given", [1.0, True, None, [], "", "a\nb", "\ud800"])
def test_other_ids_are_refused(given, tmp_path):
    with pytest.raises(DataError, match="line 1 is no usable caption line"):
        read(tmp_path, json.dumps(line(given)))


def test_ids_of_arrays_that_are_numbers(tmp_path):
    write_arrays(tmp_path, ids=np.array([7, 8]))
    (tmp_path / "captions.jsonl").write_text(lines_of(line(7), line("8")))
    with pytest.warns(UserWarning, match="changed 3 ids that are numbers"):
        clips = arrays.load(tmp_path, "train")
    assert [clip.id for clip in clips] == ["7", "8"]


BAD_TAGS = [(-1.0, 0.0), (0.0, -0.5), (0.0, math.inf), (math.inf, math.inf), (-math.inf, 1.0), (3.0, 1.0)]


@pytest.mark.parametrize(("start", "end"), BAD_TAGS)
def test_time_tags_that_cannot_be_leave_their_caption_out(start, end, tmp_path):
    """Infinite ones ended in a traceback, negative ones took frames from the end."""
    good = line("b", f_tag="0.5", to_tag=2)
    rows, left_out, changed = read(tmp_path, lines_of(line("a", f_tag=start, to_tag=end), good))
    assert [row.captions for row in rows] == [(), (Caption("walks", (), 0.5, 2.0),)]
    reason = (
        "captions whose time tags are negative, infinite or end before they begin (the first: captions.jsonl, line 1)"
    )
    assert left_out == {reason: 1, "clips without a usable caption (the first: a)": 1}
    assert changed == {}


def test_tags_that_are_not_a_number_are_0_and_counted(tmp_path):
    rows, left_out, changed = read(tmp_path, lines_of(line("a", f_tag=math.nan, to_tag=math.nan)))
    assert rows[0].captions == (Caption("walks"),)
    assert (left_out, list(changed.values())) == ({}, [1])


@pytest.mark.parametrize(
    "row",
    [
        line("a", meaning=[]),
        line("a", f_tag="soon"),
        line("a", f_tag=10**400),
        line("a") | {"fps": 0},
        line("a") | {"fps": math.nan},
        line("a") | {"fps": -math.inf},
        line("a") | {"file": 3},
        line("a") | {"captions": [{"text": 5}]},
        line("a", "\ud800"),
    ],
)
def test_values_of_another_type_are_refused_with_their_line(row, tmp_path):
    text = lines_of(line("b")) + json.dumps(row)
    said = outcome(lambda: read(tmp_path, text), str(tmp_path / "captions.jsonl, line 2"))
    assert "no usable caption line" in said


def test_deep_nesting_is_one_sentence(tmp_path):
    assert outcome(lambda: read(tmp_path, "[" * 200_000), str(tmp_path))


def test_a_caption_without_a_word_is_left_out(tmp_path):
    rows, left_out, _ = read(tmp_path, lines_of(line("a", "..."), line("b")))
    assert [len(row.captions) for row in rows] == [0, 1]
    assert left_out["captions without a word (the first: captions.jsonl, line 1)"] == 1


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


def test_humanml3d_texts_as_people_have_them(tmp_path):
    write_humanml3d(tmp_path)
    (tmp_path / "texts" / "000001.txt").write_text(
        "a person\u2028walks#a/DET#0.0#0.0\r\nhe\x85stops#he/PRON#0.5#inf\r\n...#./PUNCT#0.0#0.0\r\n", "utf-16"
    )
    (tmp_path / "train.txt").write_text("\ufeff000001\r\nM000001\r\n\r\n000001\r\n", "utf-8")
    with pytest.warns(UserWarning, match="000001"):
        clips = humanml3d.load(tmp_path, "train")
    assert [clip.id for clip in clips] == ["000001", "M000001"]
    assert clips[0].captions == (Caption("a person walks", ("a/DET",)),)
    assert {reason.partition(" (")[0]: count for reason, count in clips.left_out.items()} == {
        "ids that are listed again": 1,
        "captions whose time tags are negative, infinite or end before they begin": 1,
        "captions without a word": 1,
        "unreadable lines": 1,
    }
    assert {reason.partition(" (")[0]: count for reason, count in clips.changed.items()} == {
        "files read as UTF-16-LE": 1,
        "captions with a line separator or control character, made a space": 1,
    }


def test_an_id_with_an_invisible_letter_is_shown_as_such(tmp_path):
    write_humanml3d(tmp_path)
    (tmp_path / "test.txt").write_text("000\ufeff001\n", "utf-8")
    said = outcome(lambda: humanml3d.load(tmp_path, "test"), str(tmp_path))
    assert r"000\ufeff001" in said


def test_features_are_not_scaled_turned_or_resampled(tmp_path):
    write_humanml3d(tmp_path)
    humanml3d.load(tmp_path, "val", Conventions(scale=1.0, up="y", fps=20.0))
    for other in (Conventions(scale=0.01), Conventions(up="z"), Conventions(fps=30.0)):
        with pytest.raises(DataError, match="holds features, which cannot be scaled"):
            humanml3d.load(tmp_path, "val", other)


def test_conventions_that_cannot_be():
    for wrong in ({"scale": 0.0}, {"scale": math.nan}, {"up": "w"}, {"fps": 0.0}, {"fps": math.inf}):
        with pytest.raises(DataError):
            Conventions(**wrong)


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
    """An encoder whose vectors can be predicted: counts of four letters."""

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
