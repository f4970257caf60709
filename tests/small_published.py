"""A published world in miniature: published names, layouts and file formats, random weights, procedural clips.

Its backbone, reward and TMR are those of small_models, which has to be imported; the evaluator has its published size.
"""

import json
import pickle
from pathlib import Path

import numpy as np
import torch
from text_encoders import configuration

from bench.motion import encoders
from bench.motion.evaluator import Evaluator
from bench.motion.glove import KINDS
from bench.world import procedural
from bench.world.content import SEED, clip_features
from methods import BACKBONES, REWARDS
from methods.backbones import mld
from methods.rewards import spm, tmr

SENTENCE, TOKEN = mld.TINY.text_width, spm.TINY.token_width
"""Widths of the text encoder that backbone and reward share."""
LENGTHS = {"long": 230, "short": 30}
"""Of two clips that the published loaders leave out."""


class MadeUp:
    """Vectors that a text decides: what a text encoder would give."""

    def __init__(self, folder):
        self.widths = encoders.widths(Path(folder))

    def encode(self, texts):
        return torch.stack([self.drawn(text, 1, self.widths.sentence)[0] for text in texts])

    def tokens(self, texts):
        counts = torch.tensor([len(text.split()) + 1 for text in texts])
        mask = torch.arange(int(counts.max())) < counts[:, None]
        vectors = torch.stack([self.drawn(text, mask.shape[1], self.widths.token) for text in texts])
        return vectors * mask[..., None], mask

    @staticmethod
    def drawn(text, rows, width):
        generator = torch.Generator().manual_seed(sum(text.encode()) * 31 + len(text))
        return torch.randn(rows, width, generator=generator)


def write(folder: Path, monkeypatch, clips: int = 40) -> Path:
    """The folder, complete; captions are encoded already, by MadeUp."""
    torch.manual_seed(0)
    data(folder / "HumanML3D", clips)
    backbone, reward, judge = (
        entry.build() for entry in (BACKBONES["mld-small"], REWARDS["spm-small"], REWARDS["tmr-small"])
    )
    # As EasyTune saves a fine-tuned MLD: the reward and the evaluator beside it.
    others = {f"reward_model.{key}": value for key, value in reward.state_dict().items()}
    others["t2m_textencoder.hidden"] = torch.zeros(2, 1, 512)
    state = {**backbone.state_dict(), **others}
    torch.save({"state_dict": state, "epoch": 3}, folder / "mld_humanml_v1.ckpt")
    networks = {name: network.state_dict() for name, network in Evaluator().named_children()}
    (folder / "t2m").mkdir()
    torch.save({**networks, "epoch": 5}, folder / "t2m" / "finest.tar")
    glove(folder / "glove")
    (folder / "last_weights").mkdir()
    for name, network in judge.named_children():
        torch.save(network.state_dict(), folder / "last_weights" / f"{name}.pt")
    mean, std = (torch.from_numpy(np.load(folder / "HumanML3D" / f"{name}.npy")) for name in ("Mean", "Std"))
    torch.save(mean + 0.1, folder / "mean.pt")
    torch.save(std * 1.5, folder / "std.pt")
    np.save(folder / "t2m" / "mean.npy", mean.numpy())
    np.save(folder / "t2m" / "std.npy", std.numpy())
    configuration(folder / "sentence-t5", SENTENCE, TOKEN)
    configuration(folder / "distilbert", None, tmr.TINY.token_width)
    manifest = {
        "data": "HumanML3D",
        "backbone": {"name": "mld-small", "file": "mld_humanml_v1.ckpt", "text": "sentence-t5"},
        "reward": {"name": "spm-small", "file": "mld_humanml_v1.ckpt", "text": "sentence-t5"},
        "evaluator": {"file": "t2m/finest.tar", "glove": "glove", "mean": "t2m/mean.npy", "std": "t2m/std.npy"},
        "judge": {
            "name": "tmr-small",
            "file": "last_weights",
            "text": "distilbert",
            "mean": "mean.pt",
            "std": "std.pt",
        },
    }
    (folder / "world.json").write_text(json.dumps(manifest))
    from bench import world

    with monkeypatch.context() as patched:
        patched.setattr(encoders, "load", MadeUp)
        world.load(f"published:{folder}")
    return folder


def data(folder: Path, clips: int) -> None:
    """HumanML3D's layout: a third of the clips for each split, two that are too long or too short, and a caption for a
    part of the first one."""
    (folder / "new_joint_vecs").mkdir(parents=True)
    (folder / "texts").mkdir()
    rows, splits = [], {"train": [], "val": [], "test": []}
    for number in range(clips):
        clip, name = procedural.clip(SEED, number), f"{number:06}"
        # Of two clips end to end: the published loaders want 40 frames or more, and a crop is to have a choice.
        features = np.concatenate([clip_features(clip), clip_features(procedural.clip(SEED, clips + number))])[:190]
        rows.append(features)
        np.save(folder / "new_joint_vecs" / f"{name}.npy", features)
        lines = [line(caption.text) for caption in clip.captions[:2]]
        lines += [line(clip.captions[0].text, 0.0, 2.5)] if number == 0 else []
        (folder / "texts" / f"{name}.txt").write_text("\n".join(lines))
        splits[["train", "val", "test"][number % 3]].append(name)
    for name, length in LENGTHS.items():
        np.save(folder / "new_joint_vecs" / f"{name}.npy", np.zeros((length, 263), np.float32))
        (folder / "texts" / f"{name}.txt").write_text(line("a person stands"))
        splits["train"].append(name)
    every = np.concatenate(rows)
    np.save(folder / "Mean.npy", every.mean(0))
    np.save(folder / "Std.npy", every.std(0) + 0.05)
    for split, names in splits.items():
        (folder / f"{split}.txt").write_text("\n".join(names))


def line(text: str, start: float = 0.0, end: float = 0.0) -> str:
    """`caption#word/POS ...#from#to`."""
    return f"{text}#{' '.join(f'{word}/NOUN' for word in text.split())}#{start}#{end}"


def glove(folder: Path) -> None:
    folder.mkdir()
    words = ["sos", "eos", "unk", "a", "person", *" ".join(KINDS.values()).split()]
    rows = {word: row for row, word in enumerate(words)}
    np.save(folder / "our_vab_data.npy", np.random.default_rng(0).normal(size=(len(words), 300)))
    (folder / "our_vab_words.pkl").write_bytes(pickle.dumps(words))
    (folder / "our_vab_idx.pkl").write_bytes(pickle.dumps(rows))
