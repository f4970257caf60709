"""The embedded world: its committed weights are a sound base, and pre-training makes the same ones after a kill."""

import copy
import random
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from bench.alignment import pretrain
from bench.motion.clip import DataError
from bench.motion.evaluator import EvaluatorConfig
from bench.motion.representation import joints_from_features
from bench.world import check, data, load, losses, training, world
from bench.world.content import Embedded
from bench.world.model import VaeSize, WorldConfig
from bench.world.stages import Plan
from methods import Updater, parse, rollout
from methods.checkpoint import CheckpointError
from methods.errors import InputError
from methods.transformer import TransformerSize

SMALL = TransformerSize(width=16, feedforward=16, layers=1, heads=2, dropout=0.1)
TINY = WorldConfig(
    vae=VaeSize(width=4, components=8, hidden=8, blocks=1),
    denoiser=SMALL,
    reward=SMALL,
    evaluator=EvaluatorConfig(words=384, tags=1, text_width=8, movement_width=8, motion_width=8, embedding=4),
)
TINY_PLAN = Plan(vae=4, reward=4, evaluator=4, denoiser=4, batch=4, contrast_batch=6)
CLIPS = 64


@pytest.fixture(scope="module")
def base():
    return load()


@pytest.fixture(scope="module")
def prompts(base):
    return base.prompts("val", 16)


@pytest.fixture(scope="module")
def batch(base, prompts):
    return base.batch(prompts.texts, prompts.lengths)


def test_weights_are_small_and_say_how_they_were_made(base):
    assert world.WEIGHTS.stat().st_size < 8e6
    assert "bench.alignment.pretrain" in base.about["command"]
    assert {"seed", "seconds", "torch", "metrics"} <= set(base.about)
    assert not any(p.requires_grad for p in (*base.reward.parameters(), *base.backbone.vae.parameters()))
    assert all(p.requires_grad for p in base.backbone.denoiser.parameters())


def test_the_committed_figures_are_sound(base):
    figures = base.about["metrics"]
    assert not check.problems(figures)
    share = figures["base"]["r_precision"][0][0] / figures["real"]["r_precision"][0][0]
    assert 0.4 < share < 0.85, "too little, or nothing left to align"


def test_the_denoiser_beats_the_linear_predictor_at_every_timestep(base):
    for timestep, (own, linear) in check.errors(base, count=64).items():
        assert own < linear, timestep


def test_samples_have_the_norm_of_real_latents_and_guidance_helps(base):
    real_motion, prompts = base.real("test", 64, seed=5)
    real_latents = check.posteriors(base, real_motion, prompts.lengths, seed=5)
    motion, latents = check.generate(base, prompts)
    norms = [own.flatten(1).norm(dim=1).mean().item() for own in (latents, real_latents)]
    assert norms[0] == pytest.approx(norms[1], rel=0.1)
    unguided = check.generate(base, prompts, guidance=1.0)[0]
    reference = base.embed_motions(real_motion, prompts.lengths)  # FID needs more motions: see the committed figures
    guided, without, real = (check.figures(base, own, prompts, reference) for own in (motion, unguided, real_motion))
    assert without.r_precision[0] < guided.r_precision[0] < real.r_precision[0]
    assert real.mm_dist < guided.mm_dist < without.mm_dist


def test_shapes(base, prompts, batch):
    frames = int(prompts.lengths.max())
    assert batch.text.shape[1] == batch.tokens.shape[1] + 2
    assert batch.frame_mask.shape == (16, frames)
    latent = base.backbone.initial_state(batch)
    motion = base.backbone.decode(latent, batch)
    assert motion.shape == (16, frames, 263)
    assert not motion[~batch.frame_mask].any()
    assert base.joints(motion).shape == (16, frames, 22, 3)
    assert base.embed_motions(motion, prompts.lengths).shape == base.embed_texts(prompts.texts).shape == (16, 64)


def test_neither_padding_nor_the_rest_of_the_batch_matters(base, prompts, batch):
    x = base.backbone.initial_state(batch, torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = base.backbone.decode(base.backbone.predict(x, 500, batch), batch)
        for row in (0, 7):
            own = base.batch(prompts.texts[row : row + 1], prompts.lengths[row : row + 1])
            alone = base.backbone.decode(base.backbone.predict(x[row : row + 1], 500, own), own)
            frames = alone.shape[1]
            assert torch.allclose(together[row, :frames], alone[0], atol=1e-3)
            embedded = (
                base.embed_motions(together[row : row + 1], prompts.lengths[row : row + 1]),
                base.embed_motions(alone, prompts.lengths[row : row + 1]),
            )
            assert torch.allclose(*embedded, atol=1e-2)


def test_prompts_and_real_motions_are_the_same_every_time(base):
    some, more = base.prompts("test", 5), base.prompts("test", 9)
    assert some.texts == more.texts[:5]
    assert some.lengths.tolist() == more.lengths[:5].tolist()
    first, again = base.real("test", 4, seed=1), base.real("test", 4, seed=1)
    assert torch.equal(first[0], again[0])
    assert first[1].texts == again[1].texts
    assert base.real("test", 4, seed=2)[1].texts != first[1].texts


def test_reconstruction(base):
    motion, prompts = base.real("val", 48, seed=0)
    mask = world.frame_mask(prompts.lengths, motion.shape[1])
    again = base.backbone.vae.decode(base.backbone.vae.encode(motion, mask)[0], mask)
    assert losses.joint_error(again, motion, mask, base.statistics) < 0.025


def test_joints_in_torch_are_those_of_the_representation(base):
    motion = base.statistics.restore(base.real("val", 4, seed=0)[0])
    assert losses.joints(motion).numpy() == pytest.approx(joints_from_features(motion.numpy()), abs=1e-5)


def test_gradients_reach_the_latent(base, batch):
    latent = base.backbone.initial_state(batch).requires_grad_()
    base.reward(base.backbone.decode(latent, batch), batch).mean().backward()
    assert latent.grad.isfinite().all()
    assert (latent.grad.flatten(1).norm(dim=1) > 0).all()


@pytest.mark.parametrize("method", ["easytune", "draft:k=2"])
def test_a_few_updates_raise_the_reward(base, batch, method):
    backbone = copy.deepcopy(base.backbone)
    sampler = base.sampler(10)
    x = backbone.initial_state(batch, torch.Generator().manual_seed(0))
    updater = Updater(torch.optim.AdamW(backbone.denoiser.parameters(), lr=3e-4))

    def score():
        torch.manual_seed(0)
        with torch.no_grad():
            state = x
            for index in range(len(sampler)):
                state = sampler.step(state, backbone.predict(state, sampler[index].timestep, batch), index)
            return base.reward(backbone.decode(state, batch), batch).mean().item()

    before = score()
    plan = parse(method).plan(steps=10, rng=random.Random(0))
    for _ in range(4):
        rollout(plan, backbone, sampler, base.reward, batch, x, updater)
    assert score() > before + 0.01


def test_a_killed_run_ends_with_the_same_bytes(tmp_path, monkeypatch):
    content = replace(data.generate(Embedded(CLIPS)), splits=("train", "val") * (CLIPS // 2))
    monkeypatch.setattr(data, "cached", lambda path, of: content)
    monkeypatch.setattr(training, "CHECKPOINT_STEPS", 2)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    made = pretrain.pretrain(whole, TINY_PLAN, Embedded(CLIPS), 0, print, TINY)
    write, written = training.write, []

    def dies(*arguments):
        write(*arguments)
        written.append(arguments)
        if len(written) in (1, 4, 7):  # in the middle of a stage, and at the ends of two
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "write", dies)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            pretrain.pretrain(killed, TINY_PLAN, Embedded(CLIPS), 0, print, TINY)
    again = pretrain.pretrain(killed, TINY_PLAN, Embedded(CLIPS), 0, print, TINY)
    again.about = made.about  # but for the seconds
    for run, folder in ((made, whole), (again, killed)):
        run.save(folder / "world.safetensors")
    assert (killed / "world.safetensors").read_bytes() == (whole / "world.safetensors").read_bytes()


def test_a_work_folder_holds_every_seed_by_itself(tmp_path, monkeypatch):
    """With seed 0's checkpoints in it, seed 1 ended in seed 0's tensors."""
    content = replace(data.generate(Embedded(CLIPS)), splits=("train", "val") * (CLIPS // 2))
    monkeypatch.setattr(data, "cached", lambda path, of: content)

    def made(folder: str, seed: int, plan: Plan = TINY_PLAN) -> dict:
        (tmp_path / folder).mkdir(exist_ok=True)
        own = pretrain.pretrain(tmp_path / folder, plan, Embedded(CLIPS), seed, lambda _: None, TINY)
        return own.backbone.state_dict()

    def same(one: dict, other: dict) -> bool:
        return all(torch.equal(value, other[name]) for name, value in one.items())

    first, longer = made("shared", 0), made("shared", 0, replace(TINY_PLAN, denoiser=6))
    second = made("shared", 1)
    assert same(second, made("fresh", 1))
    assert not same(second, first)
    assert not same(longer, first)
    assert same(first, made("shared", 0))


@pytest.mark.parametrize("name", ["vae.checkpoint", "components.safetensors"])
def test_a_damaged_file_of_a_work_folder_is_named(name, tmp_path, monkeypatch):
    content = replace(data.generate(Embedded(CLIPS)), splits=("train", "val") * (CLIPS // 2))
    monkeypatch.setattr(data, "cached", lambda path, of: content)
    arguments = (tmp_path, TINY_PLAN, Embedded(CLIPS), 0, lambda _: None, TINY)
    pretrain.pretrain(*arguments)
    (path,) = tmp_path.glob(f"*/{name}")
    whole = path.read_bytes()
    for damaged in (whole[:-500], whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:], b""):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=name):
            pretrain.pretrain(*arguments)


def test_what_is_read_back_is_what_was_generated(tmp_path):
    path = tmp_path / "data.safetensors"
    made, kept = data.cached(path, Embedded(20)), data.cached(path, Embedded(20))
    assert made.digest == kept.digest != data.cached(path, Embedded(21)).digest
    assert (kept.texts, kept.meanings, kept.splits) == (made.texts, made.meanings, made.splits)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=r"data\.safetensors"):
        data.cached(path, Embedded(21))


def test_features_of_a_run_that_was_killed_are_not_made_again(tmp_path, monkeypatch):
    path, made = tmp_path / "data.safetensors", []
    monkeypatch.setattr(data, "PART", 8)

    class Counted(Embedded):
        def example(self, number):
            example = super().example(number)

            def features():
                if number == self.fatal:
                    raise KeyboardInterrupt
                made.append(number)
                return example.features()

            return replace(example, features=features)

    Counted.fatal = 17
    with pytest.raises(KeyboardInterrupt):
        data.cached(path, Counted(20))
    Counted.fatal, part = None, tmp_path / "data.8.part"
    part.write_bytes(part.read_bytes()[:-3])
    kept = data.cached(path, Counted(20))
    assert made == [*range(17), *range(8, 20)]
    assert kept.digest == data.generate(Embedded(20)).digest
    assert [*tmp_path.iterdir()] == [path]


def test_parts_of_a_world_that_do_not_fit_each_other(base, tmp_path):
    path = tmp_path / "world.safetensors"
    width = replace(base.config, evaluator=replace(base.config.evaluator, words=8))
    for changed in (
        {"config": width},
        {"config": replace(base.config, vae=replace(base.config.vae, tokens=2))},
        {"statistics": data.Statistics(base.statistics.mean[:5], base.statistics.std)},
        {"statistics": data.Statistics(base.statistics.mean, torch.tensor(1.0))},
        {"statistics": data.Statistics(base.statistics.mean, 0 * base.statistics.std)},
        {"clips": {**base.clips, "val": torch.tensor([0, 10_000])}},
        {"clips": {**base.clips, "val": torch.tensor(3)}},
        {"clips": {**base.clips, "test": torch.tensor([])}},
    ):
        replace(base, **changed).save(path)
        with pytest.raises(CheckpointError, match="holds no embedded world"):
            load(path)


def test_bad_files(tmp_path):
    with pytest.raises(CheckpointError, match=r"no world at .*: make one with python -m bench\.alignment\.pretrain"):
        load(tmp_path / "missing.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(world.WEIGHTS.read_bytes()[:10_000])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load(cut)
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(3)}, foreign)
    with pytest.raises(CheckpointError, match="holds no embedded world"):
        load(foreign)


def test_bad_inputs(base):
    with pytest.raises(InputError, match="40 to 116 frames in steps of 4, not 41"):
        base.batch(["a person walks forward"], [41])
    with pytest.raises(DataError, match="holds no embedding of"):
        base.batch(["a fish swims"], [40])
    with pytest.raises(DataError, match="no split 'dev'"):
        base.prompts("dev")


def test_equal_meanings_are_no_negatives():
    similarity = torch.tensor([[3.0, 9.0, 0.0], [9.0, 3.0, 0.0], [0.0, 0.0, 3.0]])
    told, untold = (losses.contrast(similarity, torch.tensor(own)) for own in ([0, 0, 1], [0, 1, 2]))
    assert told < 0.1 < untold
    junk = torch.full((3, 2), 8.0)
    assert losses.contrast(similarity, torch.tensor([0, 0, 1]), junk) > told + 1
