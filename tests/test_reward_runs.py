"""Rewards trained on a world's data: the same after a kill, stage one shared, files and misuse refused by name."""

import contextlib
import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from bench.alignment import rewards
from bench.alignment.rewards import RewardConfig, __main__, load, noise_aware, retrieval, save, training
from bench.alignment.rewards.config import NOISED
from bench.world import World, data, untrained, world
from bench.world import training as stages
from bench.world.content import Embedded
from bench.world.model import WorldConfig
from methods.checkpoint import CheckpointError
from methods.errors import InputError
from methods.files import locked
from methods.rewards.training import RewardObjective
from methods.transformer import TransformerSize

CLIPS = 420
SMALL = TransformerSize(width=16, feedforward=32, layers=3, heads=2)
QUICK = RewardConfig(steps=6, refine=4, batch=8, top=2, noise=0.5)
SPL = replace(QUICK, spl=True, pool=12)


@pytest.fixture(scope="module")
def clips() -> data.WorldData:
    return data.generate(Embedded(CLIPS))


@pytest.fixture(scope="module")
def base(clips) -> World:
    """Random weights; the splits of the first clips."""
    torch.manual_seed(0)
    config = replace(WorldConfig(), reward=SMALL, denoiser=SMALL)
    made = untrained(config, clips.statistics, {split: clips.indices(split) for split in ("train", "val", "test")})
    for network in made.networks().values():
        network.eval().requires_grad_(False)
    return made


@pytest.fixture
def run(base, clips, tmp_path, monkeypatch):
    """config, folder -> the reward's file as bytes, and the lines that were said; a checkpoint every other step."""
    monkeypatch.setattr(stages, "CHECKPOINT_STEPS", 2)

    def train(config: RewardConfig, folder: str = "work") -> tuple[bytes, list[str]]:
        said: list[str] = []
        save(rewards.train(config, base, tmp_path / folder, said.append, clips), tmp_path / "reward")
        return (tmp_path / "reward").read_bytes(), said

    return train


@contextlib.contextmanager
def counted(monkeypatch, stop: int | None = None):
    """How many losses were computed; the one numbered `stop` is interrupted."""
    calls: list[int] = []
    original = RewardObjective.__call__

    def loss(self, *arguments):
        calls.append(len(calls))
        if len(calls) == stop:
            raise KeyboardInterrupt
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(RewardObjective, "__call__", loss)
        yield calls


# Training


def test_killed_in_each_stage_it_ends_with_the_same_bytes(run, monkeypatch):
    """In between checkpoints, with noise and SPL; what was mined before the kill counts as well."""
    whole, _ = run(SPL, "whole")
    # In stage one's fourth step; then, two of these six being kept, in stage two's third.
    for stop in (4, 7):
        with counted(monkeypatch, stop), pytest.raises(KeyboardInterrupt):
            run(SPL, "cut")
    assert run(SPL, "cut")[0] == whole


def test_recipes_that_differ_in_stage_two_share_stage_one(run, tmp_path, monkeypatch):
    """Its checkpoint is not written again, and stage two begins with its weights; another stage one is its own."""
    run(QUICK)
    (first,) = tmp_path.glob("work/*/reward.checkpoint")
    before = first.read_bytes()
    with counted(monkeypatch) as calls:
        controlled, refined = run(QUICK)[0], run(SPL)[0]
    assert len(calls) == SPL.refine
    assert first.read_bytes() == before
    assert controlled != refined
    run(replace(SPL, refine_lr=1e-12))
    weights = torch.load(first, weights_only=True)["network"]
    result = load_file(tmp_path / "reward")
    for name, value in weights.items():
        torch.testing.assert_close(result[name], value, rtol=0, atol=1e-9)
    run(replace(QUICK, lr=2e-3))
    assert len(list(tmp_path.glob("work/*/reward.checkpoint"))) == 2


def test_metrics_and_progress(run, base, tmp_path):
    """Validation figures, the share of texts that were mined, and a line of progress for each stage."""
    said = run(SPL)[1]
    assert [line.partition(":")[0] for line in said] == ["reward", "spl"]
    assert "val R@1" in said[0]
    metrics = load(tmp_path / "reward", base).metrics
    assert 0 < metrics["mined"] <= 1
    assert metrics["val"]["count"] == len(base.clips["val"])
    run(replace(QUICK, refine=0))
    assert load(tmp_path / "reward", base).metrics["mined"] is None


def test_a_run_without_a_pair_says_so(base, clips, tmp_path):
    """Where all captions mean the same, nothing can be a loser; nothing is NaN."""
    same = replace(clips, meanings=("walk",) * CLIPS)
    said: list[str] = []
    reward = rewards.train(replace(SPL, share=0.1, noise=0.0), base, tmp_path, said.append, same)
    assert said[-1] == "spl: all 32 texts found their motion, so not one pair was mined"
    assert reward.metrics["mined"] == 0
    assert all(value.isfinite().all() for value in reward.state_dict().values())


def test_shares_are_nested_and_chosen_by_the_seed(base, clips):
    """A larger share adds clips; one clip alone is a batch, of which nothing is NaN."""
    small, large, other = (
        set(training._Clips(base, clips, RewardConfig(share=share, seed=seed)).chosen.tolist())
        for share, seed in ((0.1, 0), (0.3, 0), (0.1, 1))
    )
    train = set(base.clips["train"].tolist())
    assert len(small) == round(0.1 * len(train))
    assert small < large < train
    assert small != other
    one = training._Clips(base, clips, RewardConfig(share=1e-6)).batch()
    assert RewardObjective()(rewards.TrainedReward(base, QUICK), one)[0].isfinite()


def test_noisy_motions_are_decoded_states_of_the_backbone(base, clips):
    """At timestep 0 nearly the autoencoded motion, which is not the motion; late ones are no longer near it."""
    errors = []
    for last in (0, 999):
        source = training._Clips(base, clips, replace(QUICK, noise=1.0, max_timestep=last))
        source.std.zero_()
        torch.manual_seed(2)
        batch = source.batch()
        torch.manual_seed(2)
        rows = torch.randperm(len(source.chosen))[:8]
        again = base.backbone.vae.decode(source.mean[rows], batch.frame_mask)
        errors.append(float((batch.noisy.values - again)[batch.frame_mask].std() / again[batch.frame_mask].std()))
        assert batch.noisy.motion_timestep.max() <= last
    assert errors[0] < 0.2 < errors[1]


def test_noisy_features_are_the_motions_own(base, clips):
    """At timestep 0 nearly the motion, padding and all."""
    errors = []
    for last in (0, 999):
        config = replace(QUICK, noise=1.0, max_timestep=last, noised="features")
        batch = training._Clips(base, clips, config).batch()
        errors.append(float((batch.noisy.values - batch.motion)[batch.frame_mask].std()))
        assert not batch.noisy.values[~batch.frame_mask].any()
    assert errors[0] < 0.05 < 0.2 < errors[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"share": 0.0}, "share must be above 0 and at most 1, not 0"),
        ({"share": 1.5}, "share must be above 0"),
        ({"steps": 0}, "steps must be 1 or more, not 0"),
        ({"refine": -1}, "refine must be 0 or more, not -1"),
        ({"batch": 0}, "batch must be 1 or more"),
        ({"lr": float("nan")}, "lr must be above 0, not nan"),
        ({"refine_lr": 0.0}, "refine_lr must be above 0"),
        ({"noise": 1.1}, "noise: probability"),
        ({"max_timestep": 1000}, "noise: max_timestep"),
        ({"mode": "M2"}, "noise: unknown mode"),
        ({"noised": "frames"}, "noise is added to states or features, not to 'frames'"),
        ({"variant": "tmr"}, "spl: unknown variant"),
        ({"variant": "released", "pool": 64}, "released variant's pool is the batch"),
        ({"spl": True, "refine": 0}, "spl is trained in stage two"),
        ({"pool": 32}, "pool must hold the batch's 64 motions, not 32"),
        ({"spl": True, "batch": 10}, "pool of 10 motions .* top 10: enlarge"),
    ],
)
def test_recipes_of_no_use(options, said):
    with pytest.raises(InputError, match=f"^[^\n]*{said}[^\n]*$"):
        RewardConfig(**options)


def test_too_few_clips_for_the_pool(base, clips, tmp_path):
    for options, said in (
        ({"share": 0.02, "pool": None, "top": 7}, "in a pool of 7 motions"),
        ({"share": 0.02, "pool": 12}, "7 training clips for a pool of 12"),
    ):
        with pytest.raises(InputError, match=said):
            rewards.train(replace(SPL, **options), base, tmp_path, data=clips)


# Files


def test_a_file_gives_the_reward_back_and_no_other_world_takes_it(run, base, clips, tmp_path):
    expected = run(QUICK)[0]
    reward = load(tmp_path / "reward", base)
    assert reward.recipe == QUICK
    assert not reward.training
    assert not any(own.requires_grad for own in reward.parameters())
    save(reward, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == expected
    wider = replace(base, config=replace(base.config, reward=replace(SMALL, width=32)))
    other = replace(base, statistics=data.Statistics(clips.statistics.mean + 1, clips.statistics.std))
    (tmp_path / "cut").write_bytes(expected[:-10])
    for path, own, said in (
        ("reward", wider, "holds a reward of another world, or of another width"),
        ("reward", other, "holds a reward of another world"),
        ("cut", base, "not a whole safetensors file"),
        ("none", base, "there is no reward at"),
    ):
        with pytest.raises(CheckpointError, match=f"^[^\n]*{said}[^\n]*$"):
            load(tmp_path / path, own)
    base.save(tmp_path / "world")
    with pytest.raises(CheckpointError, match="holds no trained reward"):
        load(tmp_path / "world", base)


def test_noise_aware_names_what_is_not(base, tmp_path):
    """By its file or itself; with noise, but without the motions' time token, the embedding was not trained either."""
    for options, said in (
        ({"noise": 0.0}, "was trained without noise, so it is not noise-aware"),
        ({"mode": "M0T0"}, "was trained in mode M0T0, without the motions' time token"),
    ):
        reward = rewards.TrainedReward(base, replace(QUICK, seed=3, **options))
        save(reward, tmp_path / "file")
        with pytest.raises(InputError, match=f"^the reward of seed 3 {said}"):
            noise_aware(reward)
        with pytest.raises(InputError, match=f"file {said}"):
            noise_aware(tmp_path / "file")
    assert noise_aware(rewards.TrainedReward(base, QUICK)) == QUICK.noise_config()


# Retrieval


class Known(nn.Module):
    """Embeds texts, and motions, by what it is told of them: one row each, in order."""

    def __init__(self, texts: Tensor, motions: Tensor):
        super().__init__()
        self.texts, self.motions = list(texts), list(motions)
        self.told: list[Tensor | None] = []
        self.seen: list[Tensor] = []

    def encode_text(self, words: Tensor, mask: Tensor) -> tuple[Tensor, None]:
        return torch.stack([self.texts.pop(0) for _ in words]), None

    def encode_motion(self, motion: Tensor, mask: Tensor, timestep: Tensor | None) -> tuple[Tensor, None]:
        self.told.append(timestep)
        self.seen.append(motion)
        return torch.stack([self.motions.pop(0) for _ in motion]), None


def test_retrieval_of_a_perfect_and_of_a_reward_that_tells_nothing_apart(base):
    count = len(base.clips["test"])
    assert count >= 32
    result = retrieval(base, Known(torch.eye(count), torch.eye(count)), "test")
    assert result["count"] == count
    for where in ("all", "pools"):
        for of in result[where].values():
            assert of == {"R@1": 100, "R@2": 100, "R@3": 100, "R@5": 100, "R@10": 100, "MedR": 1}
    flat = retrieval(base, Known(torch.ones(count, 2), torch.ones(count, 2)), "test")
    assert flat["all"]["text_to_motion"]["R@10"] == 0
    assert 10 < flat["pools"]["motion_to_text"]["MedR"] < 17


def test_motions_of_the_same_meaning_are_right(base):
    """Whoever embeds a motion as its meaning finds it, though others mean the same."""
    motion, prompts = base.real("test", 40, 0)
    known = sorted(set(prompts.meanings))
    rows = torch.eye(len(known))[[known.index(own) for own in prompts.meanings]]
    assert len(known) < 40
    assert retrieval(base, Known(rows, rows), "test", real=(motion, prompts))["all"]["text_to_motion"]["R@1"] == 100


def test_noise_reaches_the_motion_and_the_timestep_only_who_is_told(base):
    torch.manual_seed(0)
    reward = rewards.TrainedReward(base, QUICK).train()
    real = base.real("test", 33, 0)
    state = torch.get_rng_state()
    clean, noisy, aware = (
        retrieval(base, reward, "test", timestep, aware=told, real=real)
        for timestep, told in ((None, False), (900, False), (900, True))
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert reward.training
    assert clean != noisy != aware != clean
    told = Known(torch.eye(33), torch.eye(33))
    retrieval(base, told, "test", 900, aware=True, real=real)
    assert told.told[0].tolist() == [900] * 33
    with pytest.raises(InputError, match="needs one: give timestep"):
        retrieval(base, reward, "test", aware=True, real=real)
    with pytest.raises(InputError, match="timestep 1000 is outside"):
        retrieval(base, reward, "test", 1000, real=real)


def test_what_is_noised_is_what_the_reward_sees(base):
    """At timestep 0, where there is hardly any noise: the motion, or what the VAE makes of it."""
    motion, prompts = base.real("test", 33, 0)
    own = world.frame_mask(prompts.lengths, motion.shape[1])
    seen = {}
    for noised in NOISED:
        reward = Known(torch.eye(33), torch.eye(33))
        retrieval(base, reward, "test", 0, noised=noised, real=(motion, prompts))
        seen[noised] = (reward.seen[0] - motion)[own].std()
        assert not reward.seen[0][~own].any()
    assert seen["features"] < 0.05 < 0.2 < seen["states"]


def test_few_clips_have_no_pools(base):
    assert retrieval(base, rewards.TrainedReward(base, QUICK), "test", count=5)["pools"] is None


# The command


def test_the_command(base, clips, tmp_path, monkeypatch, capsys):
    """It trains, measures and writes; bad input is one sentence and exit code 2, an interrupt 130."""
    monkeypatch.setattr(training, "cached", lambda *_: clips)
    base.save(tmp_path / "world")
    common = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out"), "--world", str(tmp_path / "world")]
    small = ["--steps", "4", "--refine", "2", "--batch", "8", "--top", "2", "--spl", "--noise", "0.5"]
    with counted(monkeypatch, 3):
        assert __main__.main([*common, *small]) == 130
    assert "goes on from the checkpoints" in capsys.readouterr().err
    assert __main__.main([*common, *small]) == 0
    said = capsys.readouterr().out
    assert "of the texts gave a pair" in said
    assert "test, t=500" in said
    reward = load(tmp_path / "out", world.load(tmp_path / "world"))
    assert set(reward.metrics["test"]) == {"clean", "t=250", "t=500", "t=750"}
    json.dumps(reward.metrics, allow_nan=False)
    assert __main__.main([*common, *small, "--noised", "features"]) == 0
    assert load(tmp_path / "out", world.load(tmp_path / "world")).recipe == replace(reward.recipe, noised="features")
    capsys.readouterr()
    assert __main__.main([*common, "--out", str(tmp_path)]) == 2
    assert "it is a folder" in capsys.readouterr().err
    with locked(tmp_path / "work"):
        assert __main__.main([*common, *small]) == 2
    assert "another run is writing to" in capsys.readouterr().err
    assert __main__.main([*common, "--share", "2"]) == 2
    assert capsys.readouterr().err.startswith("bench.alignment.rewards: share must be")
