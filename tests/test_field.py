"""The field's protocol: its figures where they are known, its repeats kept, its table."""

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from bench.alignment import field
from bench.world import Prompts

WIDTH = 6


class Toy:
    """Clip n is its own number: every embedding is a vector drawn for it, and a motion's first frame says it."""

    def __init__(self, clips: int):
        self.clips = clips
        self.vectors = torch.randn(clips, WIDTH, generator=torch.Generator().manual_seed(0))
        self.backbone = SimpleNamespace(denoiser=nn.Identity())

    def networks(self):
        return {}

    def size(self, split):
        assert split == "test"
        return self.clips

    def real(self, split, count, seed):
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
        # One caption for all, so that only the clip's own motion can be right.
        prompts = Prompts(tuple(map(str, order.tolist())), ("same",) * count, torch.full((count,), 4))
        return order.float()[:, None, None], prompts

    def embed_texts(self, texts):
        return self.vectors[[int(text) for text in texts]]

    def embed_motions(self, motion, lengths):
        return self.vectors[motion[:, 0, 0].long()]

    def judged(self, texts, motion, lengths):
        return self.embed_texts(texts), self.embed_motions(motion, lengths)


@pytest.fixture
def generated(monkeypatch):
    """Stands in for sampling: a denoiser called `right` makes every prompt's own motion, another one the next clip's.
    Holds how many motions were asked for, each time."""
    calls = []

    def generate(world, prompts, seed, steps):
        calls.append(len(prompts))
        numbers = torch.tensor([int(text) for text in prompts.texts])
        shift = 0 if world.backbone.denoiser is RIGHT else 1
        return ((numbers + shift) % world.clips).float()[:, None, None], torch.full((len(prompts),), 0.5)

    monkeypatch.setattr(field, "generate", generate)
    return calls


RIGHT, WRONG = nn.Identity(), nn.Identity()


def measured(folder, clips=40, repeats=2, of=None, denoisers=None):
    denoisers = denoisers or {"right": RIGHT, "wrong": WRONG}
    return field.measure(Toy(clips), "toy", denoisers, of or {}, 5, repeats, folder, lambda line: None)


def test_figures_of_a_perfect_and_of_a_wrong_model(tmp_path, generated):
    found = measured(tmp_path)
    right = {name: value.mean for name, value in found["right"].items()}
    ones = ("r1", "r2", "r3", "judge_r1", "judge_r2", "judge_r3", "judge_t2m", "judge_m2t")
    assert {name: right[name] for name in ones} == dict.fromkeys(ones, 1.0)
    assert right["mm_dist"] == 0
    assert right["fid"] == pytest.approx(0, abs=1e-9)
    assert right["multimodality"] == 0
    assert right["reward"] == 0.5
    assert found["wrong"]["judge_t2m"].mean < 0.2
    assert found["wrong"]["mm_dist"].mean > 1
    # Real motion: no reward and no second motion of a text, and FID from another draw of all of it.
    assert not {"reward", "multimodality"} & set(found[field.REAL])
    assert found[field.REAL]["r1"].mean == 1
    assert found[field.REAL]["fid"].mean == pytest.approx(0, abs=1e-9)
    assert all(value.half_width == 0 for name, value in found["right"].items() if name in ones)


def test_multimodality_is_of_thirty_motions_of_each_text(tmp_path, generated):
    measured(tmp_path, clips=120, repeats=1, denoisers={"right": RIGHT})
    assert generated == [120, 100 * 30]


def test_repeats_are_kept_and_taken_over(tmp_path, generated):
    two = measured(tmp_path)
    assert len(generated) == 8
    three = measured(tmp_path, repeats=3)
    assert len(generated) == 12
    assert measured(tmp_path) == two
    assert len(generated) == 12
    measured(tmp_path, of={"seed": 1})
    assert len(generated) == 20
    assert json.loads((tmp_path / "metrics.json").read_text())["world"] == "toy"
    assert three["right"]["r1"].mean == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"world": "toy", "of": "", "repeats": {"right": 3}}'])
def test_another_file_in_its_place_is_measured_anew(tmp_path, generated, content):
    expected = measured(tmp_path / "other", repeats=1)
    (tmp_path / "metrics.json").write_text(content)
    assert measured(tmp_path, repeats=1).keys() == expected.keys()


def test_few_clips_give_what_they_can(tmp_path, generated):
    found = measured(tmp_path, clips=5, repeats=1)["right"]
    assert "r1" not in found
    assert "judge_r1" not in found
    assert found["judge_t2m"].mean == 1
    assert "diversity" in found


def test_the_table_names_its_world(tmp_path, generated):
    shown = field.text("toy", measured(tmp_path), 2).splitlines()
    assert shown[0] == "World: toy (test split, 2 repeats, 1.96 σ/√n)"
    assert shown[1].split() == ["real", "motion", "right", "wrong"]
    rows = [line.strip() for line in shown[2:]]
    assert any(row.startswith("reward ↑") and "–" in row and "0.500 ± 0.000" in row for row in rows)
    assert any(row.startswith("TMR R@1 of all, text to motion") for row in rows)
