"""A world of one's own motion: from a folder of arrays to pre-trained networks, a fine-tuning run, and from its file.

The folder here is made up: a stick figure that swings its arms. With MOTION_DATA, real motion is read and trained on.
"""

import json
import math
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_bvh import BANDAI
from test_bvh import figure as bvh_figure
from test_world import TINY, TINY_PLAN

from bench.alignment import pretrain, rewards
from bench.alignment.evaluate import evaluate, evaluate_real
from bench.alignment.finetune import main as finetune
from bench.alignment.rewards.__main__ import main as rewards_command
from bench.motion.clip import UPWARD, Conventions, DataError
from bench.motion.representation import features, joints_from_features
from bench.motion.skeleton import T2M
from bench.motion.text import CachedTable, build_table
from bench.world import check, content, data, load, name_of, user_data, world
from bench.world.model import RAW
from bench.world.stages import Plan, Texts
from methods.backbones.mdm import MdmDenoiser
from methods.checkpoint import read, read_tensors
from methods.errors import InputError

COUNTS = {"train": 96, "val": 5, "test": 40}
"""Clips of each split, of 41 frames and more."""
CAPTIONS = (("A person waves.", "someone waves"), ("a person swings",), ("he stretches", "he waves", "she waves"))


class Letters:
    """An encoder whose vectors can be predicted."""

    name, width = "letters", 6

    def encode(self, texts):
        return torch.tensor([[float(text.count(letter)) for letter in "aeisvw"] for text in texts])

    def tokens(self, texts):
        raise NotImplementedError


def figure(frames: int, number: int) -> np.ndarray:
    """Joints of a figure of its own size, wider at the shoulders than at the hips, that swings its arms."""
    joints = np.zeros((frames, 22, 3))
    size = 0.15 + 0.01 * (number % 5)
    joints[:, 0, 1] = 2 * size
    for joint, parent in T2M.bones:
        wide = 1.5 if joint in (13, 14) else 1.0
        joints[:, joint] = joints[:, parent] + size * wide * np.array(T2M.directions[joint])
    swing = np.sin(np.arange(frames) * (0.3 + 0.06 * (number % 3)) + number)
    joints[:, 18:, 2] += 0.1 * swing[:, None]
    return joints.astype(np.float32)


def write(
    folder: Path,
    counts: dict[str, int] = COUNTS,
    fps: float | None = 20.0,
    change: Callable[[np.ndarray], np.ndarray] = lambda joints: joints,
    **changed: np.ndarray,
) -> Path:
    """A folder of arrays: clip 0 of each split has 200 frames (199 features: the most there may be), the last two of
    training too few and too many. `change`: of every clip's joints; `changed`: joints by name of the clip."""
    folder.mkdir(parents=True, exist_ok=True)
    clips, rows = {}, []
    for split, count in counts.items():
        lengths = [200, *(41 + number % 9 for number in range(1, count)), *((40, 201) if split == "train" else ())]
        for number, frames in enumerate(lengths):
            name = f"{split}{number}"
            clips[name] = figure(frames, number)
            said = [{"text": text} for text in CAPTIONS[number % 3]]
            rows.append({"id": name, "split": split, "captions": said})
    clips = {name: change(joints) for name, joints in clips.items()} | changed
    joints = np.concatenate(list(clips.values()))
    offsets = np.cumsum([0, *map(len, clips.values())])
    rate = {} if fps is None else {"fps": fps}
    np.savez(folder / "joints.npz", joints=joints, offsets=offsets, ids=np.array(list(clips)), **rate)
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("own") / "motion")


def stretched(joints: np.ndarray, by: int = 6) -> np.ndarray:
    """As a recording at so many times the rate, smooth: the swing of `figure` goes on in finer steps."""
    times = np.arange(len(joints) * by) / by
    nodes = np.arange(len(joints))
    flat = joints.reshape(len(joints), -1)
    fine = np.stack([np.interp(times, nodes, column) for column in flat.T], axis=1)
    kernel = np.hanning(4 * by + 1)[1:-1]
    padded = np.pad(fine, ((2 * by - 1, 2 * by - 1), (0, 0)), mode="edge")
    smooth = np.stack([np.convolve(column, kernel / kernel.sum(), mode="valid") for column in padded.T], axis=1)
    return smooth.reshape(-1, *joints.shape[1:]).astype(np.float32)


@pytest.fixture(scope="module")
def made(folder) -> Path:
    """A world's file; the networks saw a few batches."""
    clips = user_data.read("arrays", folder)
    table = folder.parent / "captions.safetensors"
    build_table(Letters(), table, clips.texts)
    work = folder.parent / "work"
    work.mkdir()
    path = folder.parent / "world.safetensors"
    pretrain.pretrain(work, TINY_PLAN, user_data.UserData(clips, CachedTable(table)), 0, lambda _: None, TINY).save(
        path
    )
    return path


@pytest.fixture(scope="module")
def base(made) -> world.World:
    return load(made)


class TestClips:
    def test_lengths_are_the_published_ones_and_what_goes_is_counted(self, folder):
        clips = user_data.read("arrays", folder)
        assert len(clips.entries) == sum(COUNTS.values())
        assert clips.left_out == {"train, clips outside 40 to 199 frames": 2}
        assert clips.notes() == ["left out, train, clips outside 40 to 199 frames: 2"]
        assert {entry.frames for entry in clips.entries} == {*range(40, 49), 199}

    def test_the_first_clips_of_a_split_are_not_those_that_come_first_by_name(self, folder):
        entries = user_data.read("arrays", folder).entries
        assert [entry.split for entry in entries] == [split for split, n in COUNTS.items() for _ in range(n)]
        names = [entry.id for entry in entries[: COUNTS["train"]]]
        assert names[:20] != sorted(names)[:20]

    def test_every_body_gets_the_same_bones(self, folder):
        entries = user_data.read("arrays", folder).entries
        lengths = []
        for entry in entries[:4]:
            joints = joints_from_features(entry.decode())
            lengths.append([np.linalg.norm(joints[5, a] - joints[5, b]) for a, b in T2M.bones])
        assert np.ptp(lengths, axis=0).max() < 1e-4

    def test_the_fingerprint_is_that_of_names_lengths_and_captions(self, folder, tmp_path):
        known = user_data.read("arrays", folder).fingerprint
        copy = shutil.copytree(folder, tmp_path / "copy")
        assert user_data.read("arrays", copy).fingerprint == known
        captions = copy / "captions.jsonl"
        captions.write_text(captions.read_text().replace("he stretches", "he bends", 1))
        assert user_data.read("arrays", copy).fingerprint != known

    @pytest.mark.parametrize(
        ("written", "said"),
        [
            ({"counts": {**COUNTS, "train": 20}}, "has 20 usable clips in its split train, and 96 are needed"),
            ({"counts": {**COUNTS, "test": 31}}, "has 31 usable clips in its split test, and 32 are needed"),
        ],
    )
    def test_folders_of_no_use(self, written, said, tmp_path):
        with pytest.raises(DataError, match=re.escape(said)):
            user_data.read("arrays", write(tmp_path, **written))

    def test_a_clip_of_no_use_is_named(self, tmp_path):
        clips = user_data.read("arrays", write(tmp_path, train7=np.zeros((45, 22, 3), np.float32)))
        (entry,) = (entry for entry in clips.entries if entry.id == "train7")
        with pytest.raises(DataError, match=r"clip train7 of .*left_hip lies on its parent in frame 0"):
            entry.decode()

    def test_humanml3d_features_are_taken_as_they_are(self, tmp_path):
        motion = {}
        (tmp_path / "new_joint_vecs").mkdir()
        (tmp_path / "texts").mkdir()
        for split, count in COUNTS.items():
            names = [f"{split}{number}" for number in range(count)]
            (tmp_path / f"{split}.txt").write_text("\n".join(names))
            for name in names:
                motion[name] = features(figure(43, len(motion)))
                np.save(tmp_path / "new_joint_vecs" / f"{name}.npy", motion[name])
                (tmp_path / "texts" / f"{name}.txt").write_text("he waves#he/PRON wave/VERB#0.0#0.0\n")
        np.save(tmp_path / "Mean.npy", np.zeros(263, np.float32))
        np.save(tmp_path / "Std.npy", np.ones(263, np.float32))
        clips = user_data.read("humanml3d", tmp_path)
        build_table(Letters(), tmp_path / "table", [*clips.texts, "she waves"])
        example = user_data.UserData(clips, CachedTable(tmp_path / "table")).example(0)
        assert example.length == 40
        assert np.array_equal(example.features(), motion[clips.entries[0].id][:40])

    def test_kit_is_refused(self, tmp_path):
        (tmp_path / "new_joint_vecs").mkdir()
        (tmp_path / "texts").mkdir()
        (tmp_path / "train.txt").write_text("a")
        np.save(tmp_path / "new_joint_vecs" / "a.npy", np.zeros((60, 251), np.float32))
        (tmp_path / "texts" / "a.txt").write_text("he waves#he/PRON wave/VERB#0.0#0.0\n")
        for name in ("Mean", "Std"):
            np.save(tmp_path / f"{name}.npy", np.ones(251, np.float32))
        with pytest.raises(DataError, match=r"motion at 12\.5 frames per second"):
            user_data.read("humanml3d", tmp_path)

    def test_unknown_kinds_and_places(self, tmp_path):
        with pytest.raises(DataError, match="no kind of data 'video': give one of arrays, humanml3d, bvh"):
            user_data.read("video", tmp_path)
        with pytest.raises(DataError, match="there is no folder"):
            user_data.read("arrays", tmp_path / "none")


class TestConventions:
    """Motion in another unit, along another axis, at another rate: said with the option that mends it, which does."""

    UNITS = (("centimetres", 0.01), ("millimetres", 0.001), ("inches", 0.0254), ("feet", 0.3048))

    @staticmethod
    def alike(folder: Path, other: Path, conventions: Conventions) -> bool:
        clips, mended = user_data.read("arrays", folder), user_data.read("arrays", other, conventions)
        assert [entry.id for entry in mended.entries] == [entry.id for entry in clips.entries]
        return all(
            np.allclose(one.decode(), two.decode(), atol=1e-4)
            for one, two in list(zip(clips.entries, mended.entries, strict=True))[::10]
        )

    @pytest.mark.parametrize(("unit", "metres"), UNITS)
    def test_units(self, unit, metres, folder, tmp_path):
        other = write(tmp_path, change=lambda joints: joints / np.float32(metres))
        with pytest.raises(DataError, match=f"the files seem to be in {unit}: add --scale {metres:g}"):
            user_data.read("arrays", other)
        assert self.alike(folder, other, Conventions(scale=metres))
        user_data.read("arrays", other, Conventions(scale=1.0))  # what is said is not doubted

    @pytest.mark.parametrize("up", ["x", "z", "-x", "-y", "-z"])
    def test_axes(self, up, folder, tmp_path):
        back = np.array(UPWARD[up], dtype=np.float32)
        assert np.linalg.det(back) == pytest.approx(1), "a rotation: no side is mirrored"
        other = write(tmp_path, change=lambda joints: joints @ back)
        with pytest.raises(
            DataError, match=f"not above feet along y in most clips: they are along {up}, so .*--up={up}"
        ):
            user_data.read("arrays", other)
        assert self.alike(folder, other, Conventions(up=up))

    def test_a_rate_that_the_file_does_not_say(self, tmp_path):
        other = write(tmp_path, fps=None, change=stretched)
        with pytest.raises(DataError, match=r"read at 20 frames per second, .* times as slowly as people do: .*--fps"):
            user_data.read("arrays", other)
        clips = user_data.read("arrays", other, Conventions(fps=120.0))
        assert {entry.frames for entry in clips.entries} == {*range(40, 49), 199}
        assert sum(count for reason, count in clips.changed.items() if "at 120 frames per second" in reason) == 143

    def test_a_rate_that_the_file_says_is_brought_to_20(self, folder, tmp_path):
        other = write(tmp_path, fps=30.0, change=lambda joints: stretched(joints, 3)[::2])
        clips = user_data.read("arrays", other)
        assert {entry.frames for entry in clips.entries} == {*range(40, 49), 199}
        assert [note.partition(" (")[0] for note in clips.notes() if note.startswith("changed, train")] == [
            "changed, train, clips at 30 frames per second, brought to 20"
        ]

    def test_bodies_that_lie_on_no_axis(self, tmp_path):
        lying = np.float32([[1, 0, 0], [0, 0.4, 0], [0, 0, 1]])
        other = write(tmp_path, change=lambda joints: joints @ lying)
        with pytest.raises(DataError, match=r"bodies are|nor along another axis; if y is up, say so with --up=y"):
            user_data.read("arrays", other)

    def test_the_ground_is_said_where_it_is_not_at_0(self, folder, tmp_path):
        other = write(tmp_path, change=lambda joints: joints + np.float32([0, 0.9, 0]))
        assert "the ground (lowest point of a clip) is at 0.90 m in the median: brought to 0, clip by clip" in [
            *user_data.read("arrays", other).notes()
        ]
        assert self.alike(folder, other, Conventions())

    def test_bvh_in_metres_under_a_name_that_means_centimetres(self, tmp_path, monkeypatch):
        monkeypatch.setattr(user_data, "FEWEST", dict.fromkeys(COUNTS, 1))
        outline = "\n".join(
            " ".join(
                [line[: len(line) - len(line.lstrip())] + name, *(f"{float(number) / 100:g}" for number in offset)]
            )
            for line in BANDAI.splitlines()
            for name, *offset in [line.split()]
        )
        for split in COUNTS:
            bvh_figure(tmp_path / f"{split}.bvh", outline, frames=50)
        rows = [{"id": split, "split": split, "captions": [{"text": "he stands"}]} for split in COUNTS]
        (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
        with pytest.raises(
            DataError, match=r"bodies are 0\.01\d+ m .*: the files seem to be in metres: add --scale 1,"
        ):
            user_data.read("bvh", tmp_path)
        entry = user_data.read("bvh", tmp_path, Conventions(scale=1.0)).entries[0]
        assert entry.decode()[0, 3] == pytest.approx(0.90, abs=1e-4), "the root's height"

    def test_features_of_centimetres(self, tmp_path, monkeypatch):
        monkeypatch.setattr(user_data, "FEWEST", dict.fromkeys(COUNTS, 1))
        for name in ("new_joint_vecs", "texts"):
            (tmp_path / name).mkdir()
        for number, split in enumerate(COUNTS):
            (tmp_path / f"{split}.txt").write_text(split)
            np.save(tmp_path / "new_joint_vecs" / f"{split}.npy", features(100 * figure(50, number)))
            (tmp_path / "texts" / f"{split}.txt").write_text("he waves#he/PRON wave/VERB#0.0#0.0\n")
        np.save(tmp_path / "Mean.npy", np.zeros(263, np.float32))
        np.save(tmp_path / "Std.npy", np.ones(263, np.float32))
        with pytest.raises(DataError, match="compute the features again from joints in metres"):
            user_data.read("humanml3d", tmp_path)
        assert len(user_data.read("humanml3d", tmp_path, Conventions(scale=1.0)).entries) == 3

    def test_a_world_keeps_them(self, folder, tmp_path):
        other = write(tmp_path / "motion", change=lambda joints: joints * np.float32(100))
        clips = user_data.read("arrays", other, Conventions(scale=0.01))
        assert clips.fingerprint != user_data.read("arrays", folder).fingerprint
        build_table(Letters(), tmp_path / "table", clips.texts)
        tensors, about = user_data.UserData(clips, CachedTable(tmp_path / "table")).stored()
        back = user_data.UserData.restored(tmp_path / "world", json.loads(json.dumps(about)), tensors)
        assert back.clips.conventions == Conventions(scale=0.01)
        assert np.array_equal(back.clips.entries[0].decode(), clips.entries[0].decode())

    def test_the_commands_options(self, tmp_path):
        other = write(tmp_path / "motion", change=lambda joints: joints * np.float32(100))
        build_table(Letters(), tmp_path / "table", user_data.read("arrays", other, Conventions(scale=0.01)).texts)
        command = ["--data", f"arrays:{other}", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
        assert pretrain.main([*command, "--text-encoder", str(tmp_path / "table")]) == 2
        assert pretrain.main([*command, "--scale", "0"]) == 2
        with pytest.raises(SystemExit):
            pretrain.main(["--scale", "0.01", *command[2:]])
        content = pretrain.read_data(
            f"arrays:{other}", tmp_path / "table", tmp_path, lambda _: None, Conventions(scale=0.01)
        )
        assert len(content) == sum(COUNTS.values())


class TestDuplicates:
    def test_a_clip_of_two_splits_stays_in_the_first(self, tmp_path):
        other = write(tmp_path, {**COUNTS, "test": 42})
        text = (other / "captions.jsonl").read_text()
        again = [json.loads(line) for line in text.splitlines() if '"train7"' in line or '"val2"' in line]
        (other / "captions.jsonl").write_text(
            text + "".join(json.dumps(row | {"split": "test"}) + "\n" for row in again)
        )
        clips = user_data.read("arrays", other)
        assert {entry.id: entry.split for entry in clips.entries}["train7"] == "train"
        assert [entry.id for entry in clips.entries].count("val2") == 1
        assert "left out, test, clips whose motion an earlier split has (the first: train7): 2" in clips.notes()

    def test_so_does_a_file_under_two_ids(self, tmp_path, monkeypatch):
        monkeypatch.setattr(user_data, "FEWEST", dict.fromkeys(COUNTS, 1))
        for split in COUNTS:
            bvh_figure(tmp_path / f"{split}.bvh", BANDAI, frames=50)
        rows = [{"id": split, "split": split, "captions": [{"text": "he stands"}]} for split in COUNTS]
        rows.append({"id": "other", "file": "train.bvh", "split": "test", "captions": [{"text": "he stands"}]})
        (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
        clips = user_data.read("bvh", tmp_path)
        assert [entry.id for entry in clips.entries] == ["train", "val", "test"]
        assert "left out, test, clips whose motion an earlier split has (the first: other): 1" in clips.notes()

    def test_a_split_of_nothing_else_is_refused(self, tmp_path):
        other = write(tmp_path, {"train": 96, "test": 40})
        text = (other / "captions.jsonl").read_text()
        again = [json.loads(line) | {"split": "val"} for line in text.splitlines()[:9]]
        (other / "captions.jsonl").write_text(text + "".join(json.dumps(row) + "\n" for row in again))
        with pytest.raises(DataError, match="every clip of the split val is in an earlier one too"):
            user_data.read("arrays", other)


class TestWorld:
    def test_its_motion_is_called_by_the_folder(self, made, tmp_path):
        assert world.name_of(made) == "motion"
        assert world.name_of(world.WEIGHTS) == "embedded"
        assert world.name_of(tmp_path / "none") == "unknown"

    def test_sizes_follow_the_motion_and_the_encoder(self, base):
        assert base.config.vae.tokens == 13
        assert base.config.text_width == base.config.evaluator.words == Letters.width
        assert (base.content.shortest, base.content.longest) == (40, 196)
        with pytest.raises(InputError, match="40 to 196 frames in steps of 4, not 200"):
            base.batch(["he waves"], [200])

    def test_prompts_and_motions(self, base):
        prompts = base.prompts("test", 512)
        assert len(prompts) == COUNTS["test"]
        assert {text.lower() for text in prompts.texts} == set(prompts.meanings)
        motion, described = base.real("val", 512, seed=0)
        assert motion.shape == (COUNTS["val"], 196, 263)
        assert not motion[described.lengths < 100, 60:].any()
        assert base.embed_motions(motion, described.lengths).isfinite().all()

    def test_statistics_are_the_training_splits(self, base):
        rows = [base.content.example(number).features() for number in base.clips["train"].tolist()]
        assert base.statistics.mean.numpy() == pytest.approx(np.concatenate(rows).mean(axis=0), abs=1e-4)

    def test_metrics_of_small_splits(self, base):
        of_test = evaluate(base, "test", 64, repeats=1, steps=2)
        assert math.isfinite(of_test["r1"].mean)
        few = [evaluate(base, "val", 64, repeats=1, steps=2), evaluate_real(base, "val"), evaluate_real(base, "test")]
        for result in few:
            assert math.isnan(result["r1"].mean)
            assert all(math.isfinite(result[name].mean) for name in ("reward", "mm_dist", "fid", "diversity"))

    def test_meanings_that_are_given_are_kept(self, tmp_path):
        folder = write(tmp_path)
        captions = folder / "captions.jsonl"
        captions.write_text(captions.read_text().replace('"he waves"', '"he waves", "meaning": "wave"'))
        clips = user_data.read("arrays", folder)
        build_table(Letters(), tmp_path / "table", clips.texts)
        result = user_data.UserData(clips, CachedTable(tmp_path / "table"))
        known = {caption.text: caption.meaning for n in range(len(result)) for caption in result.example(n).captions}
        assert (known["he waves"], known["A person waves."]) == ("wave", "a person waves.")

    def test_a_folder_that_has_gone_or_changed(self, made, folder, tmp_path):
        hidden = folder.rename(folder.with_name("hidden"))
        try:
            with pytest.raises(DataError, match=r"was made of .*motion, which is not there: bring the folder back"):
                load(made)
            assert finetune(["--world", str(made), "--out", str(tmp_path)]) == 2
            write(folder, {**COUNTS, "val": 6})
            with pytest.raises(DataError, match="was made of other clips or captions than"):
                load(made)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            hidden.rename(folder)

    def test_motion_that_changed_under_the_same_names_and_lengths(self, tmp_path):
        """A copy is the same motion, whatever its files' times."""
        folder = write(tmp_path / "motion")
        build_table(Letters(), tmp_path / "table", user_data.read("arrays", folder).texts)
        clips = user_data.UserData(user_data.read("arrays", folder), CachedTable(tmp_path / "table"))
        path = folder / "world.safetensors"  # where it is nothing of the motion
        pretrain.pretrain(tmp_path, TINY_PLAN, clips, 0, lambda _: None, TINY).save(path)
        os.utime(folder / "joints.npz", (0, 0))
        load(path)
        write(folder, val0=2 * figure(200, 0))
        with pytest.raises(DataError, match="was made of other motion than"):
            load(path)

    def test_the_embedded_world_keeps_nothing_of_this(self, tmp_path):
        """Saved again it is what it was, and its digest, which the committed file is older than."""
        load().save(tmp_path / "again.safetensors")
        (before, metadata), (after, again) = map(read_tensors, (world.WEIGHTS, tmp_path / "again.safetensors"))
        assert before.keys() == after.keys()
        assert all(torch.equal(value, after[name]) for name, value in before.items())
        saved = json.loads(again["world"])
        assert len(saved.pop("digest")) == 32
        assert saved == json.loads(metadata["world"])


def test_every_caption_of_a_clip_is_as_likely_as_its_others(base):
    clips = data.generate(base.content)
    torch.manual_seed(0)
    clip = next(n for n, texts in enumerate(clips.texts) if len(texts) == 3)
    texts = Texts.of(clips, base.captions)
    drawn = texts.draw(torch.full((3000,), clip))
    counts = drawn.unique(return_counts=True)[1]
    assert len(counts) == 3
    assert (counts - 1000).abs().max() < 120


def test_the_words_of_long_captions_end_where_the_published_ones_do(tmp_path):
    long = " ".join(f"w{n}" for n in range(30))
    build_table(Letters(), tmp_path / "table", [long, "he waves"])
    vectors, mask = content.Captions(CachedTable(tmp_path / "table")).words([long, "he waves"])
    assert vectors.shape[1] == content.WORDS
    assert mask.sum(dim=1).tolist() == [content.WORDS, 2]


class TestCommands:
    def test_pretraining_goes_on_in_its_folder_alone(self, folder, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(pretrain, "QUICK", TINY_PLAN)
        monkeypatch.setattr(pretrain, "WorldConfig", lambda: TINY)
        monkeypatch.setattr(check, "GUIDANCES", (1.5,))
        work, out = tmp_path / "work", tmp_path / "world.safetensors"
        command = ["--data", f"arrays:{folder}", "--work", str(work), "--out", str(out), "--quick"]
        assert pretrain.main(command) == 2
        assert "give --text-encoder" in capsys.readouterr().err
        build_table(Letters(), tmp_path / "table", user_data.read("arrays", folder).texts)
        assert pretrain.main([*command, "--text-encoder", str(tmp_path / "table")]) == 0
        said = capsys.readouterr().out
        assert "left out, train, clips outside 40 to 199 frames: 2" in said
        assert "96 train, 5 val, 40 test clips" in said
        assert {"base", "real", "errors"} <= set(load(out).about["metrics"])
        others = write(tmp_path / "others", {**COUNTS, "val": 6})
        other = ["--data", f"arrays:{others}", *command[2:], "--text-encoder", str(tmp_path / "table")]
        assert pretrain.main(other) == 0
        assert "96 train, 6 val, 40 test clips" in capsys.readouterr().out
        out.unlink()
        out.mkdir()
        assert pretrain.main(other) == 2
        assert "it is a folder" in capsys.readouterr().err
        with pytest.raises(SystemExit):
            pretrain.main(["--data", f"arrays:{folder}", "--work", str(work)])

    def test_a_folder_that_is_mended_in_place_is_read_again(self, tmp_path):
        """From centimetres to metres: the same names, lengths and captions."""
        metres = {f"train{number}": figure(41 + number % 9 if number else 200, number) for number in range(96)}
        folder = write(tmp_path / "motion", **{name: 100 * joints for name, joints in metres.items()})
        stated = Conventions(scale=1.0)  # or centimetres would be refused
        build_table(Letters(), tmp_path / "table", user_data.read("arrays", folder, stated).texts)

        def height() -> float:
            """Of the root, as the cached features say."""
            clips = pretrain.read_data(f"arrays:{folder}", tmp_path / "table", tmp_path, lambda _: None, stated)
            return float(data.cached(tmp_path / "data.safetensors", clips).statistics.mean[3])

        assert height() > 20
        write(folder, **metres)
        assert height() < 2

    def test_the_encoder_that_is_named_is_used(self, folder, tmp_path, monkeypatch):
        """Whatever table is in the work folder; the same one does not encode again."""
        encoded = []

        class Model(Letters):
            def __init__(self, path: Path) -> None:
                if not path.is_dir():
                    raise DataError(f"there is no folder {path}")
                self.name = path.name
                encoded.append(path.name)

        monkeypatch.setattr(pretrain, "SentenceTransformer", Model)
        for name in ("small", "large"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "weights").write_text(name)

        def by(encoder: Path | None) -> str:
            of = pretrain.read_data(f"arrays:{folder}", encoder, tmp_path, lambda _: None)
            return of.captions.table.name

        with pytest.raises(DataError, match="give --text-encoder"):
            by(None)
        assert [by(tmp_path / "small"), by(tmp_path / "small"), by(None)] == ["small"] * 3
        assert [by(tmp_path / "large"), by(None)] == ["large"] * 2
        (tmp_path / "large" / "weights").write_text("fine-tuned")
        assert by(tmp_path / "large") == "large"
        assert encoded == ["small", "large", "large"]
        with pytest.raises(DataError, match="there is no folder"):
            by(tmp_path / "none")

    def test_a_fine_tuning_run_goes_on(self, made, tmp_path):
        chosen = ["--world", str(made), "--steps", "2", "--batch", "2", "--prompts", "5", "--measure-every", "99"]
        results = []
        for name, trajectories in (("whole", (2,)), ("cut", (1, 2))):
            for count in trajectories:
                assert finetune([*chosen, "--trajectories", str(count), "--out", str(tmp_path / name)]) == 0
            results.append(read(tmp_path / name / "denoiser.safetensors"))
        assert all(torch.equal(results[1][name], value) for name, value in results[0].items())
        before = load(made).backbone.denoiser.state_dict()
        assert any(not torch.equal(before[name], value) for name, value in results[0].items())

    def test_a_run_under_a_reward_of_ones_own(self, made, base, tmp_path, capsys):
        reward = tmp_path / "reward.safetensors"
        recipe = rewards.RewardConfig(steps=2, refine=0, batch=8)
        rewards.save(rewards.train(recipe, base, tmp_path / "work", lambda _: None), reward)
        chosen = ["--world", str(made), "--steps", "2", "--batch", "2", "--prompts", "5", "--trajectories", "1"]
        tuned = [*chosen, "--method", "draft:k=1", "--lr", "1e-3", "--out"]
        assert finetune([*tuned, str(tmp_path / "own"), "--reward", str(reward)]) == 0
        assert finetune([*tuned, str(tmp_path / "worlds")]) == 0
        first, second = (read(tmp_path / name / "denoiser.safetensors") for name in ("own", "worlds"))
        assert any(not torch.equal(first[name], value) for name, value in second.items())
        capsys.readouterr()
        noisy = ["--reward", str(reward), "--method", "easytune:score=noisy", "--out", str(tmp_path / "noisy")]
        assert finetune([*chosen, *noisy]) == 2
        assert "it is not noise-aware" in capsys.readouterr().err


class TestFrames:
    """A world without a VAE: a small MDM of the frames themselves."""

    @pytest.fixture(scope="class")
    @staticmethod
    def raw(folder, tmp_path_factory) -> Path:
        work = tmp_path_factory.mktemp("raw")
        clips = user_data.read("arrays", folder)
        build_table(Letters(), work / "table", clips.texts)
        content = user_data.UserData(clips, CachedTable(work / "table"))
        config = replace(TINY, backbone=RAW)
        pretrain.pretrain(work, TINY_PLAN, content, 0, lambda _: None, config).save(work / "world.safetensors")
        return work / "world.safetensors"

    def test_its_file_gives_it_back_and_its_name_says_what_denoises(self, raw, made):
        back = load(raw)
        assert isinstance(back.backbone.denoiser, MdmDenoiser)
        assert "vae" not in back.backbone.networks()
        assert (name_of(raw), name_of(made)) == ("motion-mdm", "motion")

    def test_what_denoises_is_trained_and_judged_against_the_mean_clip(self, raw):
        back = load(raw)
        for _, mean_clip in check.errors(back, "val", 4).values():
            motion, prompts = back.real("val", 4, seed=0)
            valid = motion[world.frame_mask(prompts.lengths, motion.shape[1])]
            assert mean_clip == pytest.approx(float(valid.square().mean()))
        motion, same = check.generate(back, back.prompts("val", 4), steps=2)
        assert motion is same

    def test_neither_padding_nor_the_rest_of_the_batch_matters(self, raw):
        back = load(raw)
        prompts = back.prompts("train", 4)
        assert len(set(prompts.lengths.tolist())) > 1
        batch = back.batch(prompts.texts, prompts.lengths)
        x = back.backbone.initial_state(batch, torch.Generator().manual_seed(0))
        with torch.no_grad():
            together = back.backbone.predict(x, 20, batch)
            for row, length in enumerate(prompts.lengths):
                own = back.batch(prompts.texts[row : row + 1], [length])
                alone = back.backbone.predict(x[row : row + 1, :length], 20, own)
                assert torch.allclose(together[row, :length], alone[0], atol=1e-4)

    @pytest.mark.parametrize("method", ["easytune", "easytune:score=noisy", "draft:k=2"])
    def test_it_is_fine_tuned_and_an_sde_is_no_ode(self, method, raw, tmp_path, capsys):
        """The caveat is said once, where the prediction of every step is scored."""
        sizes = ["--trajectories", "1", "--batch", "2", "--steps", "3", "--prompts", "4"]
        assert finetune(["--world", str(raw), "--method", method, "--out", str(tmp_path), *sizes]) == 0
        said = capsys.readouterr().out
        assert said.count("assumes an ODE, but the sampler draws noise: use score=noisy") == (method == "easytune")

    def test_more_steps_than_it_has_noise_levels(self, raw):
        with pytest.raises(InputError, match="steps must be 1 to 50 on this world"):
            load(raw).sampler(51)

    def test_rewards_are_not_trained_on_it(self, raw, tmp_path, capsys):
        command = ["--world", str(raw), "--work", str(tmp_path / "work"), "--out", str(tmp_path / "reward")]
        assert rewards_command(command) == 2
        assert "and this world has MDM's: give one with a VAE" in capsys.readouterr().err

    def test_the_embedded_file_is_not_overwritten_by_it(self, tmp_path, capsys):
        with pytest.raises(SystemExit):
            pretrain.main(["--backbone", RAW, "--work", str(tmp_path)])
        assert "only the whole embedded world belongs where the committed weights are" in capsys.readouterr().err


class TestClipsAlike:
    """Few motions, or copies of them: fewer directions than the VAE has principal components."""

    @staticmethod
    def trained(folder: Path, joints: np.ndarray) -> world.World:
        write(folder / "motion", **{f"train{number}": joints for number in range(COUNTS["train"])})
        clips = user_data.read("arrays", folder / "motion")
        build_table(Letters(), folder / "table", clips.texts)
        alike = user_data.UserData(clips, CachedTable(folder / "table"))
        return pretrain.pretrain(folder, TINY_PLAN, alike, 0, lambda _: None, TINY)

    def test_they_train(self, tmp_path):
        joints = figure(49, 1)
        made = self.trained(tmp_path, joints)
        scale = made.backbone.vae.scale
        assert scale.min() == pytest.approx(1e-3 * scale.max())
        assert all(value.isfinite().all() for value in made.backbone.state_dict().values())

    def test_where_nothing_moves_training_stops_with_a_sentence(self, tmp_path):
        still = np.repeat(figure(1, 1), 49, axis=0)
        with pytest.raises(DataError, match="vae: the loss is nan at step 1 of 4: look in the data for"):
            self.trained(tmp_path, still)


def test_steps_grow_with_the_root_of_the_data():
    assert Plan().scaled(7988) == Plan()
    assert Plan().scaled(7988 // 4).vae == 750
    assert Plan().scaled(10).vae == 375
    assert Plan().scaled(10**6).vae == 3000


@pytest.mark.skipif("MOTION_DATA" not in os.environ, reason="MOTION_DATA does not name a folder of real motion")
@pytest.mark.parametrize("part", ["cmu", "bandai_namco"])
def test_real_motion(part, tmp_path):
    clips = user_data.read("arrays", Path(os.environ["MOTION_DATA"]) / part)
    build_table(Letters(), tmp_path / "table", clips.texts)
    made = pretrain.pretrain(
        tmp_path, TINY_PLAN, user_data.UserData(clips, CachedTable(tmp_path / "table")), 0, print, TINY
    )
    made.save(tmp_path / "world.safetensors")
    back = load(tmp_path / "world.safetensors")
    motion, prompts = back.real("test", 32, seed=0)
    heights = back.joints(motion)[:, 0, :, 1]
    assert 1.2 < np.median(heights.max(axis=1)) < 2.2, "people, in metres"
    assert 0.5 < motion[torch.arange(len(motion)), prompts.lengths - 1].std() < 1.5
    assert math.isfinite(evaluate(back, "test", 32, repeats=1, steps=2)["fid"].mean)
