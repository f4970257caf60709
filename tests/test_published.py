"""A published world: what lies where is listed and checked, one sentence says what is wrong, and it trains like any."""

import contextlib
import importlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import small_published
import torch
from pretended_cuda import pretended
from small_published import SENTENCE, TOKEN
from text_encoders import configuration

from bench import world
from bench.alignment import field, published
from bench.alignment import finetune as finetune_command
from bench.alignment.prompts import training_prompts
from bench.motion import encoders
from bench.motion.evaluator import UNIT
from bench.world.manifest import Folder
from methods import BACKBONES, REWARDS, checkpoint, registry
from methods.errors import InputError
from methods.finetune import FinetuneConfig, finetune


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder, to be read alone; its models are registered while this module's tests run."""
    registered = (BACKBONES, REWARDS, registry._REGISTERED_BY)
    before = [dict(names) for names in registered]
    importlib.import_module("small_models")
    with pytest.MonkeyPatch.context() as patch:
        yield small_published.write(tmp_path_factory.mktemp("published"), patch, clips=12)
    for names, kept in zip(registered, before, strict=True):
        names.clear()
        names.update(kept)


@pytest.fixture
def folder(whole, tmp_path):
    """A copy to change, but for the evaluator's weights, which are 87 MB."""

    def copy(source: str, target: str) -> None:
        (os.symlink if source.endswith("finest.tar") else shutil.copy2)(source, target)

    return Path(shutil.copytree(whole, tmp_path / "world", copy_function=copy))


@pytest.fixture(scope="module")
def loaded(whole):
    said = []
    return world.load(f"published:{whole}", said.append), said


def manifest(folder: Path, **changes) -> None:
    """Changes parts of the manifest; None removes one."""
    path = folder / "world.json"
    parts = json.loads(path.read_text())
    for name, change in changes.items():
        parts[name] = parts[name] | change if isinstance(change, dict) and name in parts else change
    path.write_text(json.dumps({name: part for name, part in parts.items() if part is not None}))


# The list.


def test_a_whole_folder_is_listed_as_ready(whole, capsys):
    assert published.main([str(whole)]) == 0
    lines = capsys.readouterr().out.splitlines()
    parts = (
        "data",
        "backbone",
        "reward",
        "evaluator",
        "vocabulary",
        "judge",
        *(f"text encoder of the {n}" for n in ROLES),
    )
    assert [line.split(":")[0].split(maxsplit=1) for line in lines[: len(parts)]] == [["there", part] for part in parts]
    assert lines[len(parts) :][:4] == [f"         {note}" for note in NOTES]
    assert lines[-1].startswith("ready: ")


ROLES = ("backbone", "reward", "judge")
NOTES = (
    "train: 5 clips",  # four, and a part of the first
    "val: 4 clips",
    "test: 4 clips",
    "train: left out, clips outside 40 to 199 frames: 2",
)


def test_what_is_missing_is_listed_with_where_it_is_published(folder, capsys):
    (folder / "mld_humanml_v1.ckpt").unlink()
    (folder / "HumanML3D" / "val.txt").unlink()
    assert published.main([str(folder)]) == 1
    lines = {line.split(":")[0].split(maxsplit=1)[1]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["backbone"].startswith(
        f"missing  backbone: {folder / 'mld_humanml_v1.ckpt'}; published at github.com/"
    )
    assert lines["data"].startswith(f"missing  data: {folder / 'HumanML3D' / 'val.txt'}; published at github.com/")
    assert lines["judge"].startswith("there")
    with pytest.raises(InputError, match=r"there is no .*val\.txt, the data of world\.json: fetch it \(github\.com"):
        world.load(f"published:{folder}")


# What is wrong, in one sentence.


def another_backbone(folder: Path) -> None:
    checkpoint.save(torch.nn.ModuleDict(BACKBONES["mld-tiny"].build().networks()), folder / "other.safetensors")
    manifest(folder, backbone={"file": "other.safetensors"})


def hostile(folder: Path) -> None:
    (folder / "glove" / "our_vab_words.pkl").write_bytes(pickle.dumps([os.system]))


def other_encoder(folder: Path) -> None:
    shutil.rmtree(folder / "sentence-t5")
    configuration(folder / "sentence-t5", SENTENCE + 1, TOKEN)


def narrow_vocabulary(folder: Path) -> None:
    path = folder / "glove" / "our_vab_data.npy"
    np.save(path, np.load(path)[:, :50])


def no_clip_of_a_usable_length(folder: Path) -> None:
    (folder / "HumanML3D" / "test.txt").write_text("\n".join(small_published.LENGTHS))


def infinite_statistics(folder: Path) -> None:
    torch.save(torch.full((263,), torch.inf), folder / "mean.pt")


FAULTS = {
    another_backbone: ("backbone", "does not fit Mld.*it looks like backbone 'mld-tiny': build that one"),
    hostile: ("vocabulary", "not a whole pickle of plain lists.*nothing in it was run"),
    other_encoder: (
        "text encoder of the backbone",
        f"width {SENTENCE + 1} for a sentence and {TOKEN} for a token, and mld-small reads {SENTENCE} for a sentence",
    ),
    narrow_vocabulary: ("vocabulary", "vectors 50 wide, and the evaluator reads 300"),
    no_clip_of_a_usable_length: ("data", "no clip of a usable length in its split test"),
    infinite_statistics: ("judge", "does not hold 263 numbers"),
    lambda folder: manifest(folder, backbone={"name": "mld-tiny"}): ("backbone", "mld-tiny is for 11 features a frame"),
    lambda folder: manifest(folder, backbone={"name": "mdl"}): ("backbone", "unknown backbone 'mdl': choose one of"),
    lambda folder: manifest(folder, judge={"std": None}): ("judge", "a mean without a std"),
    lambda folder: manifest(
        folder, judge={"name": "spm-small", "file": "mld_humanml_v1.ckpt", "mean": None, "std": None}
    ): (
        "judge",
        "spm-small cannot judge",
    ),
    lambda folder: manifest(folder, reward={"mean": "mean.pt", "std": "std.pt"}): (
        "reward",
        "leave out its mean and std",
    ),
    lambda folder: manifest(folder, evaluator={"file": "mld_humanml_v1.ckpt"}): (
        "evaluator",
        "is no evaluator of this size",
    ),
}


@pytest.mark.parametrize("fault", FAULTS, ids=range(len(FAULTS)))
def test_what_does_not_fit_is_listed_and_refused(folder, capsys, fault):
    part, says = FAULTS[fault]
    fault(folder)
    assert published.main([str(folder)]) == 1
    unfit = [line for line in capsys.readouterr().out.splitlines() if line.startswith("unfit")]
    assert unfit
    assert unfit[0].split(":")[0].split(maxsplit=1)[1] == part
    with pytest.raises(InputError, match=says) as refused:
        world.load(f"published:{folder}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "there is no .*world.json: write one"),
        ("{", "cannot be used"),
        ('{"data": "x", "data": "y"}', "has the field data twice"),
        ('{"data": "x"}', "missing required field `backbone`"),
        ('{"dat": "x"}', "unknown field `dat`"),
    ],
)
def test_a_manifest_of_no_use_is_refused(tmp_path, content, says):
    if content is not None:
        (tmp_path / "world.json").write_text(content)
    with pytest.raises(InputError, match=says):
        Folder(tmp_path)
    assert world.name_of(f"published:{tmp_path}") == "unknown"


def test_kit_ml_is_read_at_its_own_width_and_rate(folder):
    """Clips of 24 frames or more, of 251 features; models of HumanML3D are refused."""
    motion = folder / "HumanML3D" / "new_joint_vecs"
    for path, frames in zip(sorted(motion.iterdir()), (23, *[30] * 20), strict=False):
        np.save(path, np.zeros((frames, 251), np.float32))
    for name in ("Mean", "Std"):
        np.save(folder / "HumanML3D" / f"{name}.npy", np.ones(251, np.float32))
    files = Folder(folder)
    assert "train: left out, clips outside 24 to 199 frames: 1" in files.notes()
    assert files.features == BACKBONES["mld-kit"].features == REWARDS["spm-kit"].features == 251
    with pytest.raises(InputError, match="mld-small is for 263 features a frame, and HumanML3D has 251"):
        files.backbone  # noqa: B018  # read when it is asked for


# The world.


def test_clips_left_out_are_counted(loaded):
    assert loaded[1] == [f"data: {note}" for note in NOTES]


def test_a_batch_holds_what_each_network_reads(loaded):
    made, _ = loaded
    prompts = made.prompts("train", 3)
    batch = made.batch(prompts.texts, prompts.lengths)
    made_up = small_published.MadeUp(made.folder.path / "sentence-t5")
    torch.testing.assert_close(batch.text[:, 0], made_up.encode(prompts.texts), atol=2e-3, rtol=2e-3)  # half precision
    torch.testing.assert_close(batch.null_text[:, 0], made_up.encode([""]), atol=2e-3, rtol=2e-3)
    assert batch.tokens.shape[2] == TOKEN
    assert batch.frame_mask.sum(1).tolist() == prompts.lengths.tolist()
    assert made.training_prompts == 5
    with pytest.raises(InputError, match="holds no vector of 'a person flies'"):
        made.batch(["a person flies"], [40])


def test_real_motion_is_cropped_as_published(loaded):
    made, _ = loaded
    motion, prompts = made.real("train", 5, seed=1)
    features = {clip.id: clip.features for clip in made.folder.splits["train"]}
    for row, name, length in zip(motion, prompts.meanings, prompts.lengths.tolist(), strict=True):
        assert length % UNIT == 0
        whole = torch.from_numpy(features[name])
        crop = made.statistics.restore(row[:length])
        assert any(torch.allclose(crop, whole[at : at + length], atol=1e-4) for at in range(len(whole) - length + 1))
        assert not row[length:].any()
    assert not torch.equal(made.real("train", 5, seed=2)[1].lengths, prompts.lengths)


@torch.no_grad()
def test_the_evaluator_reads_motion_as_it_was_normalised_in_its_training(loaded):
    made, _ = loaded
    motion, prompts = made.real("test", 2, seed=0)
    own = made.evaluator_statistics.normalise(made.statistics.restore(motion))
    for row, length in enumerate(prompts.lengths.tolist()):
        alone = torch.zeros(1, 196, 263)
        alone[0, :length] = own[row, :length]
        expected = made.evaluator.embed_motions(alone, torch.tensor([length]))[0]
        torch.testing.assert_close(made.embed_motions(motion, prompts.lengths)[row], expected)


@torch.no_grad()
def test_texts_are_read_with_the_tags_of_the_data_set(loaded):
    made, _ = loaded
    text = made.prompts("test", 1).texts
    words, tags, lengths = made.vocabulary.read([[f"{word}/NOUN" for word in text[0].split()]])
    assert torch.equal(made.embed_texts(text), made.evaluator.embed_texts(words, tags, lengths))


@torch.no_grad()
def test_the_judge_reads_motion_as_it_was_normalised_in_its_training(whole, loaded):
    made, _ = loaded
    motion, prompts = made.real("test", 2, seed=0)
    bare = type(made.judge)(made.judge.config).eval()
    checkpoint.load_tmr(bare, whole / "last_weights")
    mean, std = (torch.load(whole / f"{name}.pt") for name in ("mean", "std"))
    own = (made.statistics.restore(motion) - mean) / std
    mask = torch.arange(motion.shape[1]) < prompts.lengths[:, None]
    judged = made.judged(prompts.texts, motion, prompts.lengths)
    torch.testing.assert_close(judged[1], bare.encode_motion(own, mask)[0], atol=1e-5, rtol=1e-4)


def test_a_table_stands_for_a_text_encoder_that_has_gone(folder, capsys):
    shutil.rmtree(folder / "sentence-t5")
    assert world.load(f"published:{folder}").prompts("test", 1).texts
    assert published.main([str(folder)]) == 0
    assert "captions of the backbone" in capsys.readouterr().out
    (folder / "captions-sentence-t5.safetensors").unlink()
    with pytest.raises(InputError, match=r"there is no .*sentence-t5, the text encoder of the backbone"):
        world.load(f"published:{folder}")


def test_the_digest_is_of_every_file(folder):
    """And of nothing else: where the folder is does not matter."""
    before = world.digest(f"published:{folder}")
    moved = folder.rename(folder.with_name("moved"))
    assert world.name_of(f"published:{moved}") == "published:HumanML3D-mld-small"
    path = moved / "last_weights" / "text_encoder.pt"
    state = torch.load(path)
    torch.save({key: value + 1 for key, value in state.items()}, path)
    assert world.digest(f"published:{moved}") != before


@pytest.mark.parametrize("reward", ["spm-small", "tmr-small"])
def test_fine_tuning_raises_the_reward(folder, monkeypatch, reward):
    """By the published reward, from the checkpoint that carries it, and by TMR."""
    if reward == "tmr-small":
        manifest(folder, reward=json.loads((folder / "world.json").read_text())["judge"])
    monkeypatch.setattr(encoders, "load", small_published.MadeUp)
    made = world.load(f"published:{folder}")
    before = {name: value.clone() for name, value in made.backbone.state_dict().items()}
    config = FinetuneConfig("easytune", lr=1e-3, batch=4, trajectories=3)
    run = finetune(config, made.backbone, made.reward, made.sampler(4), training_prompts(made))
    changed = {name for name, value in made.backbone.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith("denoiser.") for name in changed)
    assert all(np.isfinite(record["reward"]) for record in run.curve.trajectories)


def test_mdm_is_read_with_clip_and_trains(folder, monkeypatch):
    """Its file has no prefix, its text encoder is another than the reward's, and it is sampled by its own sampler."""
    torch.manual_seed(0)
    torch.save(BACKBONES["mdm-small"].build().denoiser.state_dict(), folder / "model.pt")
    (folder / "clip").mkdir()
    config = {"model_type": "clip", "projection_dim": BACKBONES["mdm-small"].text[1], "text_config": {"hidden_size": 6}}
    (folder / "clip" / "config.json").write_text(json.dumps(config))
    manifest(folder, backbone={"name": "mdm-small", "file": "model.pt", "text": "clip"})
    monkeypatch.setattr(encoders, "load", small_published.MadeUp)
    made = world.load(f"published:{folder}")
    sampler = made.sampler(5)
    assert sampler.stochastic
    run = finetune(
        FinetuneConfig("draft:k=1", batch=2, trajectories=1),
        made.backbone,
        made.reward,
        sampler,
        training_prompts(made),
    )
    assert np.isfinite(run.curve.trajectories[0]["reward"])
    assert (folder / "captions-clip.safetensors").is_file()


# The commands.

COMMAND = (
    *("-m", "bench.alignment.finetune", "--import", "small_models", "--method", "easytune", "--steps", "3"),
    *("--batch", "3", "--trajectories", "3", "--prompts", "4", "--measure-every", "3", "--test", "2"),
)


@pytest.mark.slow
def test_the_same_command_runs_on_a_gpu(whole, tmp_path, monkeypatch, capsys):
    """One that is only pretended, which refuses what real ones do. Figures of real motion draw nothing on the device,
    so that they are the CPU's."""
    monkeypatch.setattr(field, "MOTIONS", 10)
    told = {}
    for device, place in (("cpu", contextlib.nullcontext()), ("cuda", pretended())):
        out = tmp_path / device
        with place:
            arguments = [*COMMAND[2:], "--world", f"published:{whole}", "--device", device, "--out", str(out)]
            assert finetune_command.main(arguments) == 0, capsys.readouterr().err
        told[device] = json.loads((out / "metrics.json").read_text())["repeats"]
    for of_cpu, of_gpu in zip(told["cpu"][field.REAL], told["cuda"][field.REAL], strict=True):
        known = {name: value for name, value in of_cpu.items() if value is not None}
        assert {name: value for name, value in of_gpu.items() if value is not None} == pytest.approx(known, rel=1e-3)
    assert told["cuda"]["easytune"][0]["fid"] > 0


def start(folder: Path, out: Path) -> subprocess.Popen:
    here = Path(__file__).parent
    env = os.environ | {"PYTHONPATH": f"{here.parent}:{here}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *COMMAND, "--world", f"published:{folder}", "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)


def results(out: Path) -> tuple:
    """What does not depend on the clock."""
    curve = json.loads((out / "curve.json").read_text())
    rewards = [record["reward"] for record in curve["trajectories"]]
    return (out / "denoiser.safetensors").read_bytes(), rewards, json.loads((out / "metrics.json").read_text())


@pytest.mark.slow
def test_one_command_goes_from_the_folder_to_the_table_also_after_kills(whole, tmp_path):
    """Killed while it trains and while it measures; then to the same weights and figures as one that nobody killed."""
    untouched = start(whole, tmp_path / "untouched")
    said = untouched.communicate()[0]
    assert untouched.returncode == 0, said
    for moment in ("trajectory 1 of 3", "base: repeat 2 of 2"):
        run = start(whole, tmp_path / "killed")
        for line in run.stdout:
            if line.startswith(moment):
                run.send_signal(signal.SIGKILL)
                break
        else:
            pytest.fail(f"ended before {moment!r}")
        run.communicate()
    last = start(whole, tmp_path / "killed")
    again = last.communicate()[0]
    assert last.returncode == 0, again
    assert results(tmp_path / "killed") == results(tmp_path / "untouched")
    assert "trajectory 1 of 3" not in again
    assert "base: repeat 1 of 2" not in again
    table = said[said.index("World: published:HumanML3D-mld-small (test split, 2 repeats") :]
    assert table == again[again.index("World: ") :]
    for shown in (
        "real motion",
        "base",
        "easytune",
        "FID ↓",
        "MM-Dist ↓",
        "Diversity →",
        "MModality →",
        "TMR R@1 of all",
    ):
        assert shown in table
