"""Fine-tuning runs: the same bytes through any interruption, definitions of warm-up and averaging, clear refusals."""

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from alignment_worlds import untrained_world
from bench_command import heed_interrupts
from test_files import full_disk
from toys import FRAMES, ToyReward, toy, toy_batch

from bench import identity
from bench.alignment import rewards
from bench.alignment.finetune import main
from bench.alignment.prompts import training_prompts
from bench.world import load as load_world
from methods import Batch, ddim
from methods.backbones import mld
from methods.checkpoint import load, load_backbone, read
from methods.errors import InputError
from methods.finetune import CHECKPOINT, FinetuneConfig, FinetuneError, Run, finetune, linear_warm_up

ROOT = Path(__file__).parent.parent
STEPS = 4
METHODS = (
    "easytune",
    "drtune:k=2",
    "refl:m=3",
    "draft-lv",
    "alignprop:truncation=bernoulli",
    "easytune:mode=chain-released",
)


class NoisyReward(ToyReward):
    """Draws from the global generator, as the published reward does."""

    def __call__(self, motion, batch, timestep=None):
        return super().__call__(motion, batch, timestep) * (1 + 0.1 * torch.randn(len(batch), dtype=motion.dtype))


def start(config: FinetuneConfig, folder: Path | None = None, reward=None, **options) -> Run:
    backbone, own, batch, _ = toy()

    def draw(size: int, generator: torch.Generator) -> Batch:
        text = torch.randn(size, *batch.text.shape[1:], generator=generator, dtype=torch.float64)
        return toy_batch(text, batch.null_text, [FRAMES] * size)

    reward = reward or NoisyReward(own.w, own.q)
    return finetune(config, backbone, reward, ddim(STEPS), draw, folder=folder, checkpoint_seconds=0, **options)


def untimed(run: Run) -> dict:
    """The curve without the clock's readings."""
    return {
        name: [{key: value for key, value in point.items() if "seconds" not in key} for point in points]
        for name, points in vars(run.curve).items()
    }


def weights(run: Run) -> list[float]:
    return [value for weight in run.result().state_dict().values() for value in weight.flatten().tolist()]


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_is_killed_again_and_again_ends_in_the_same_bytes(method, tmp_path):
    config = FinetuneConfig(method, lr=0.01, warm_up=3, batch=2, trajectories=5, ema=0.7, seed=3)
    options = {"measure": lambda done: {"of": done}, "measure_at": (2,)}
    whole = start(config, **options)
    folder = tmp_path / "killed"
    folder.mkdir()
    for kill in (1, 2, 4):

        def die(record: dict, kill: int = kill) -> None:
            if record["trajectories"] == kill:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            start(config, folder, on_trajectory=die, **options)
        torch.manual_seed(kill)  # what happens in between is nothing to the run
    resumed = start(config, folder, **options)
    assert weights(resumed) == weights(whole)
    assert untimed(resumed)["trajectories"] == untimed(whole)["trajectories"]
    assert [(point["trajectories"], point["of"]) for point in resumed.curve.evaluations] == [(0, 0), (2, 2), (5, 5)]
    again = tmp_path / "again"
    again.mkdir()
    for one, other in zip(whole.save(again), resumed.save(folder), strict=True):
        if one.suffix == ".safetensors":
            assert one.read_bytes() == other.read_bytes()


def test_measuring_changes_nothing_and_leaves_the_global_generator_alone(tmp_path):
    config = FinetuneConfig("refl:m=2", lr=0.01, batch=2, trajectories=3)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    plain = start(config)
    measured = start(config, measure=lambda _: {"drawn": float(torch.randn(()))}, measure_at=(1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert weights(measured) == weights(plain)
    assert len(measured.curve.evaluations) == 4


def test_a_finished_run_goes_on_with_more_trajectories(tmp_path):
    config = FinetuneConfig("easytune", lr=0.01, batch=2, trajectories=2)
    start(config, tmp_path)
    longer = replace(config, trajectories=4)
    assert weights(start(longer, tmp_path)) == weights(start(longer))


def test_totals_count_updates_samples_and_seconds():
    curve = start(FinetuneConfig("easytune", batch=3, trajectories=2)).curve
    assert [(p["trajectories"], p["updates"], p["samples"]) for p in curve.trajectories] == [(1, 4, 3), (2, 8, 6)]
    assert 0 < curve.trajectories[0]["seconds"] < curve.trajectories[1]["seconds"]


def test_seeds_decide_and_methods_share_their_prompts():
    config = FinetuneConfig("easytune", lr=0.01, batch=2, trajectories=2)
    assert weights(start(config)) == weights(start(config)) != weights(start(replace(config, seed=1)))
    draws = [start(replace(config, method=method)).inputs.get_state() for method in ("easytune", "draft-lv")]
    assert torch.equal(*draws)


def test_warm_up_rises_linearly_in_optimiser_steps_and_then_stays():
    assert [linear_warm_up(4)(step) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert linear_warm_up(0)(0) == 1
    run = start(FinetuneConfig("easytune", lr=0.5, warm_up=10, trajectories=2))
    assert run.updater.schedule.get_last_lr() == [pytest.approx(0.5 * 9 / 10)]  # 8 updates are done, this is the 9th's


def test_the_average_is_that_of_its_definition():
    seen = []

    class Spied(NoisyReward):
        """Sees the weights before each update; the last ones are the run's own."""

        def __call__(self, motion, batch, timestep=None):
            seen.append([weight.detach().clone() for weight in run_of["backbone"].denoiser.parameters()])
            return super().__call__(motion, batch, timestep)

    run_of = {}
    backbone, reward, batch, _ = toy()
    run_of["backbone"] = backbone
    config = FinetuneConfig("easytune", lr=0.05, batch=2, trajectories=2, ema=0.6)
    run = finetune(config, backbone, Spied(reward.w, reward.q), ddim(STEPS), lambda size, generator: batch)
    path = [*seen, list(run.denoiser.parameters())]
    expected = path[0]
    for current in path[1:]:
        expected = [0.6 * average + 0.4 * weight for average, weight in zip(expected, current, strict=True)]
    for average, weight in zip(run.result().parameters(), expected, strict=True):
        assert torch.allclose(average, weight, rtol=1e-12)
    assert len(path) == 2 * STEPS + 1


@pytest.mark.parametrize("pull", [0.0, 10.0])
def test_the_pull_is_that_of_its_definition_and_none_touches_nothing(pull):
    """w ← w - lr·pull·(w - w_0) after each optimiser step, to the bit where there is none."""
    backbone, reward, batch, _ = toy()
    config = FinetuneConfig("easytune", lr=0.02, batch=2, trajectories=2, pull=pull)
    run = Run(config, backbone, reward, ddim(STEPS), lambda *_: batch)

    def now() -> list[torch.Tensor]:
        return [weight.detach().clone() for weight in run.denoiser.parameters()]

    began, stepped, pulled = now(), [], []
    run.updater.optimizer.register_step_pre_hook(lambda *_: pulled.append(now()))  # what the last update left
    run.updater.optimizer.register_step_post_hook(lambda *_: stepped.append(now()))
    for _ in range(2):
        run.trajectory()
    pulled.append(now())
    assert len(stepped) == 2 * STEPS
    for after, left in zip(stepped, pulled[1:], strict=True):
        for w, w_0, found in zip(after, began, left, strict=True):
            assert torch.allclose(found, w - 0.02 * pull * (w - w_0), rtol=1e-12, atol=1e-15)
            assert pull or torch.equal(found, w)


def test_no_weight_gets_much_further_than_one_over_the_pull():
    def furthest(pull: float) -> float:
        run = start(FinetuneConfig("easytune", lr=0.02, batch=2, trajectories=10, pull=pull))
        began = toy()[0].denoiser.parameters()
        pairs = zip(run.denoiser.parameters(), began, strict=True)
        return max(float((weight - own).detach().abs().max()) for weight, own in pairs)

    assert furthest(0.0) > 2 / 10
    assert furthest(10.0) < 1.1 / 10


def test_a_pulled_run_goes_on_to_the_same_bytes(tmp_path):
    """The pull is to where the run began, not to where it was taken up again."""
    config = FinetuneConfig("easytune", lr=0.02, batch=2, trajectories=4, pull=10.0)
    start(replace(config, trajectories=2), tmp_path)
    assert weights(start(config, tmp_path)) == weights(start(config)) != weights(start(replace(config, pull=0.0)))
    with pytest.raises(FinetuneError, match=r"another run .pull was 10\.0, not 5\.0"):
        start(replace(config, pull=5.0), tmp_path)


def test_train_mode_holds_inside_a_trajectory_and_measuring_is_in_eval_mode():
    modes = []
    backbone, reward, batch, _ = toy()

    class Spied(ToyReward):
        def __call__(self, motion, batch, timestep=None):
            modes.append(backbone.denoiser.training)
            return super().__call__(motion, batch, timestep)

    def measure(_done: int) -> dict:
        modes.append(backbone.denoiser.training)
        return {}

    config = FinetuneConfig("refl:m=1", batch=2, trajectories=1, train_mode=True)
    finetune(config, backbone, Spied(reward.w, reward.q), ddim(STEPS), lambda *_: batch, measure=measure)
    assert modes == [False, True, False]


class TestRefusals:
    def test_a_reward_that_is_not_finite_stops_the_run_and_keeps_its_checkpoint(self, tmp_path):
        class Breaks(NoisyReward):
            calls = 0

            def __call__(self, motion, batch, timestep=None):
                self.calls += 1
                rewards = super().__call__(motion, batch, timestep)
                return rewards * math.nan if self.calls > 2 * STEPS + 1 else rewards

        _, own, _, _ = toy()
        config = FinetuneConfig("easytune", lr=0.01, batch=2, trajectories=9)
        with pytest.raises(FinetuneError, match=r"trajectory 3 of 9 .*lower lr than 0\.01.* not finite") as error:
            start(config, tmp_path, reward=Breaks(own.w, own.q))
        assert "\n" not in str(error.value)
        two = replace(config, trajectories=2)
        kept = torch.load(tmp_path / CHECKPOINT, weights_only=True)
        assert len(kept["curve"]["trajectories"]) == 2
        assert weights(start(two, tmp_path)) == weights(start(two))

    def test_a_checkpoint_of_another_run(self, tmp_path):
        config = FinetuneConfig("easytune", batch=2, trajectories=2)
        start(config, tmp_path)
        with pytest.raises(
            FinetuneError, match=r"another run .lr was 1e-05, not 0\.1; seed was 0, not 4.*another folder"
        ):
            start(replace(config, lr=0.1, seed=4), tmp_path)
        with pytest.raises(FinetuneError, match="2 trajectories already, more than the 1 asked for"):
            start(replace(config, trajectories=1), tmp_path)
        backbone, reward, batch, _ = toy(seed=1)
        with pytest.raises(FinetuneError, match="began from other weights"):
            finetune(config, backbone, reward, ddim(STEPS), lambda *_: batch, folder=tmp_path)
        with pytest.raises(FinetuneError, match="steps was 4, not 5"):
            finetune(config, backbone, reward, ddim(5), lambda *_: batch, folder=tmp_path)

    def test_a_run_that_was_given_something_else(self, tmp_path):
        config = FinetuneConfig("easytune", batch=2, trajectories=1)
        given = {"world": "w.safetensors@12ab", "prompts": 6}
        start(config, tmp_path, given=given)
        start(config, tmp_path, given={**given, "world": "renamed@12ab"})
        for other, words in (
            ({**given, "world": "w.safetensors@34cd"}, r"world was w\.safetensors@12ab, not w\.safetensors@34cd"),
            ({**given, "prompts": 16}, r"prompts was 6, not 16"),
            ({**given, "reward": "r@1"}, r"reward was not recorded, not r@1"),
            ({}, r"world was w\.safetensors@12ab, not given; prompts was 6, not given"),
        ):
            with pytest.raises(FinetuneError, match=rf"of another run \({words}\)"):
                start(replace(config, trajectories=2), tmp_path, given=other)
        _, reward, _, _ = toy()

        class Weighted(NoisyReward):
            def networks(self):
                return {"scorer": torch.nn.Linear(1, 1)}

        with pytest.raises(FinetuneError, match="its reward had other weights"):
            start(config, tmp_path, Weighted(reward.w, reward.q), given=given)

    def test_a_run_where_another_one_is(self, tmp_path):
        config = FinetuneConfig("easytune", batch=2, trajectories=1)

        def second(_: dict) -> None:
            with pytest.raises(InputError, match="another run is writing to"):
                start(config, tmp_path)

        start(config, tmp_path, on_trajectory=second)
        assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]

    def test_a_folder_in_a_results_place_is_refused_before_the_first_trajectory(self, tmp_path):
        (tmp_path / "curve.json").mkdir()
        said = []
        with pytest.raises(InputError, match=r"curve\.json: it is a folder"):
            start(FinetuneConfig("easytune", batch=2, trajectories=1), tmp_path, on_trajectory=said.append)
        assert not said

    def test_a_full_disk_keeps_the_last_checkpoint(self, tmp_path):
        config = FinetuneConfig("easytune", lr=0.01, batch=2, trajectories=4)
        start(replace(config, trajectories=2), tmp_path)
        before = (tmp_path / CHECKPOINT).read_bytes()
        with full_disk(1000), pytest.raises(InputError, match=r"cannot write .*checkpoint\.pt"):
            start(config, tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]
        assert (tmp_path / CHECKPOINT).read_bytes() == before
        assert weights(start(config, tmp_path)) == weights(start(config))

    def test_a_cut_checkpoint(self, tmp_path):
        config = FinetuneConfig("easytune", batch=2, trajectories=2)
        start(config, tmp_path)
        path = tmp_path / CHECKPOINT
        path.write_bytes(path.read_bytes()[:999])
        with pytest.raises(FinetuneError, match=r"checkpoint\.pt is not a whole checkpoint"):
            start(config, tmp_path)

    @pytest.mark.parametrize(
        ("option", "words"),
        [
            ({"method": "ppo"}, "unknown method 'ppo'"),
            ({"lr": 0.0}, "lr must be a positive number"),
            ({"lr": math.nan}, "lr must be a positive number"),
            ({"batch": 0}, "batch must be at least 1"),
            ({"trajectories": 0}, "trajectories must be at least 1"),
            ({"warm_up": -1}, "warm_up must be 0"),
            ({"clip": 0.0}, "clip must be positive"),
            ({"ema": 1.0}, "ema must be at least 0"),
            ({"pull": -1.0}, "pull must be 0 .off. or more, not -1"),
            ({"pull": math.inf}, "pull must be 0 .off. or more, not inf"),
            ({"lr": 0.1, "pull": 11.0}, "pull 11 at lr 0.1 overshoots the start: at most 10"),
            ({"method": "draft:k=99"}, "k must be between 1 and the 4"),
        ],
    )
    def test_options(self, option, words):
        with pytest.raises(InputError, match=words):
            start(FinetuneConfig(**option))


def test_the_result_is_in_the_published_layout(tmp_path):
    torch.manual_seed(0)
    backbone = mld.Mld(mld.TINY)
    _, _, batch, _ = toy()
    batch = Batch(
        torch.randn(2, 1, mld.TINY.text_width),
        torch.zeros(1, 1, mld.TINY.text_width),
        batch.tokens,
        batch.token_mask,
        torch.ones(2, 5, dtype=torch.bool),
    )

    class Still:
        """A reward: motion that does not move."""

        def __call__(self, motion, batch, timestep=None):
            return -motion.square().mean((1, 2))

        def networks(self):
            return {}

    config = FinetuneConfig("refl:m=1", lr=0.01, trajectories=1)
    run = finetune(config, backbone, Still(), ddim(STEPS), lambda *_: batch)
    denoiser, published, told = run.save(tmp_path)
    other = mld.Mld(mld.TINY)
    load_backbone(other, published)
    for name, value in backbone.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)
    load(other.denoiser, denoiser)
    assert {name.partition(".")[0] for name in read(published)} == {"denoiser", "vae"}
    assert json.loads(told.read_text())["config"]["method"] == "refl:m=1"


@pytest.fixture(scope="module")
def world_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("world") / "world.safetensors"
    untrained_world().save(path)
    return path


def test_prompts_come_from_the_training_split_alone():
    own = untrained_world()
    known = own.prompts("train", 8)
    batch = training_prompts(own, 8)(50, torch.Generator().manual_seed(0))
    sentences = {tuple(row.tolist()) for row in own.batch(known.texts, known.lengths).text[:, 0]}
    assert {tuple(row.tolist()) for row in batch.text[:, 0]} <= sentences
    held_out = {own.prompts(split, 8).texts for split in ("val", "test")}
    assert not held_out & {known.texts}


class TestCommand:
    COMMAND = (sys.executable, "-m", "bench.alignment.finetune")
    TINY = ("--steps", "3", "--batch", "2", "--prompts", "32", "--lr", "1e-3")

    def test_it_runs_is_interrupted_and_goes_on_to_the_same_bytes(self, world_file, tmp_path, capsys):
        """Interrupted as a process; what goes before and after it is in this one, and has one torch thread as well."""
        chosen = [*self.TINY, "--world", str(world_file), "--method", "easytune", "--measure-every", "99"]
        chosen += ["--trajectories", "6"]
        assert main([*chosen, "--out", str(tmp_path / "whole")]) == 0
        printed = capsys.readouterr().out
        assert "trajectory 6 of 6: reward inside it" in printed
        assert "held out, 32 validation prompts: reward" in printed

        folder = tmp_path / "cut"
        with subprocess.Popen(
            [*self.COMMAND, *chosen, "--out", str(folder)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=heed_interrupts,
        ) as process:
            for line in process.stdout:
                if line.startswith("trajectory 2"):
                    process.send_signal(signal.SIGINT)
                    break
            _, errors = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "the same command goes on" in errors
        assert "Traceback" not in errors
        assert main([*chosen, "--out", str(folder)]) == 0
        assert "trajectory 1 of 6" not in capsys.readouterr().out, "not from the beginning"
        for name in ("denoiser.safetensors", "mld.safetensors"):
            assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()

    def test_a_run_goes_on_under_the_same_world_reward_and_prompts_alone(self, world_file, tmp_path, capsys):
        chosen = [*self.TINY, "--world", str(world_file), "--method", "draft:k=1", "--out", str(tmp_path / "run")]
        assert main([*chosen, "--trajectories", "1"]) == 0
        given = json.loads((tmp_path / "run" / "curve.json").read_text())["given"]
        assert given == {
            "world": f"{world_file.name}@{identity.file(world_file)}",
            "reward": "the world's",
            "prompts": 32,
        }
        own = load_world(world_file)
        own.about = {"another": "world"}
        own.save(tmp_path / "world.safetensors")
        trained = rewards.TrainedReward(own, rewards.RewardConfig())
        rewards.save(trained, tmp_path / "reward.safetensors")
        for other, words in (
            (["--prompts", "33"], "prompts was 32, not 33"),
            (["--world", str(tmp_path / "world.safetensors")], "world was world.safetensors@"),
            (["--reward", str(tmp_path / "reward.safetensors")], "reward was the world's, not reward.safetensors@"),
        ):
            assert main([*chosen, "--trajectories", "2", *other]) == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert words in line

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--method", "ppo"], "unknown method 'ppo'"),
            (["--lr", "-1"], "lr must be a positive number, not -1"),
            (["--world", "nowhere.safetensors"], "there is no world at nowhere.safetensors"),
            (["--measure-every", "0"], "--measure-every must be at least 1, not 0"),
        ],
    )
    def test_bad_input_is_one_sentence(self, arguments, words, tmp_path, capsys):
        assert main([*arguments, "--out", str(tmp_path)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line
