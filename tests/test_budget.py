"""A memory budget of fine-tuning: simulated against a real run, and that the levers chosen fit and no fewer do."""

import copy
import json
import random

import pytest
import torch
from alignment_worlds import untrained_world

from bench import devices
from bench.alignment import budget
from bench.alignment.finetune import main
from bench.meters.tracker import Tracker
from methods import Savings, lora, parse, rollout
from methods.errors import InputError
from methods.finetune import FinetuneConfig, make_updater

STEPS, BATCH = 4, 6


@pytest.fixture(scope="module")
def world():
    return untrained_world()


def inputs(world):
    return world.backbone, world.reward, world.sampler(STEPS), budget.longest(world, BATCH)


def need(world, method: str, savings: Savings, rank: int = 0) -> budget.Need:
    plan = budget.largest_plan(method, STEPS)
    return budget.count(savings, plan, FinetuneConfig(method, batch=BATCH, lora=rank), *inputs(world))


@pytest.mark.parametrize(
    ("savings", "rank"),
    [
        (Savings(), 0),
        (Savings(2), 0),
        (Savings(4, recompute=True), 0),
        (Savings(recompute=True, kept=1), 0),
        (Savings(2, recompute=True), 3),
    ],
)
@pytest.mark.parametrize("method", ["draft", "easytune", "drtune:k=2"])
def test_simulated_equals_a_real_update_to_the_byte(world, method, savings, rank):
    """The real one also sees the world's weights, of which it trains copies."""
    tracker = Tracker()
    backbone, reward, sampler, batch = inputs(world)
    with tracker:
        backbone, reward, batch = copy.deepcopy(backbone), copy.deepcopy(reward), batch.to("cpu")
        batch = type(batch)(**{name: tensor.clone() for name, tensor in vars(batch).items()})
        if rank:
            lora.adapt(backbone.denoiser, rank)
        updater = make_updater(backbone.denoiser, FinetuneConfig(method))
        run = (backbone, sampler, reward, batch, backbone.initial_state(batch), updater)
        rollout(parse("draft:k=1").plan(STEPS, random.Random(0)), *run)
        tracker.restart()
        seen = tracker.live
        rollout(budget.largest_plan(method, STEPS), *run, phases=tracker.observe, savings=savings)
    simulated = need(world, method, savings, rank)
    originals = seen - simulated.resident
    assert {name: peak - originals for name, peak in tracker.phase_peaks.items() if name} == simulated.phases


class TestChoice:
    def choose(self, world, size: int, method: str = "draft") -> budget.Choice:
        return budget.choose(size, FinetuneConfig(method, batch=BATCH), *inputs(world))

    def test_what_fits_as_it_is_pulls_no_lever(self, world):
        whole = need(world, "draft", Savings()).peak
        assert self.choose(world, whole) == budget.Choice(Savings(), whole, whole)

    def test_the_fewest_calls_are_computed_again_and_pieces_are_as_large_as_fit(self, world):
        whole = need(world, "draft", Savings()).peak
        floor = need(world, "draft", Savings(1, recompute=True)).peak
        for share in (0.05, 0.6):
            size = int(floor + share * (whole - floor))
            choice = self.choose(world, size)
            levers = choice.savings
            assert choice.peak == need(world, "draft", levers).peak <= size
            kept = levers.kept if levers.recompute else STEPS
            if kept < STEPS:
                assert need(world, "draft", Savings(1, recompute=True, kept=kept + 1)).peak > size, "one more would fit"

    def test_less_memory_never_computes_fewer_calls_again(self, world):
        whole = need(world, "draft", Savings()).peak
        floor = need(world, "draft", Savings(1, recompute=True)).peak
        chosen = [self.choose(world, floor + i * (whole - floor) // 3).savings for i in range(4)]
        kept = [levers.kept if levers.recompute else STEPS for levers in chosen]
        assert kept == sorted(kept)
        assert kept[0] <= 1, "one graph is alive at a time, whatever is computed again"
        assert kept[-1] == STEPS

    def test_a_reward_that_is_no_number_per_motion_is_never_scored_in_pieces(self, world, monkeypatch):
        """Its floor is the whole batch, however many calls are computed again."""
        monkeypatch.setattr(world.reward, "per_motion", False, raising=False)
        floor = need(world, "draft", Savings(recompute=True)).peak
        assert self.choose(world, floor).savings == Savings(recompute=True)
        with pytest.raises(InputError, match="every lever pulled"):
            self.choose(world, floor - 1)

    def test_below_the_floor_is_refused_with_what_makes_it(self, world):
        floor = need(world, "draft", Savings(1, recompute=True))
        with pytest.raises(InputError, match=rf"in the phase {floor.phase} .*--batch"):
            self.choose(world, floor.peak - 1)


@pytest.mark.parametrize("text", ["2", "0GiB", "much"])
def test_a_budget_is_a_size_or_auto(text):
    with pytest.raises(InputError, match="memory"):
        budget.parse_budget(text, devices.CPU)
    assert budget.parse_budget("auto", devices.CPU) > 2**28


def test_the_command_keeps_its_budget_and_goes_on_under_it(world, tmp_path, capsys):
    world.save(tmp_path / "world")
    least = need(world, "draft", Savings(1, recompute=True)).peak
    size = f"{(least + 2**20) // 2**20 + 1}MiB"
    of = ["--world", str(tmp_path / "world"), "--out", str(tmp_path / "run"), "--method", "draft", "--prompts", "32"]
    of += ["--steps", str(STEPS), "--batch", str(BATCH)]
    assert main([*of, "--trajectories", "1", "--memory", size]) == 0
    assert main([*of, "--trajectories", "2", "--memory", size]) == 0
    config = json.loads((tmp_path / "run" / "curve.json").read_text())["config"]
    assert config["trajectories"] == 2
    assert need(world, "draft", Savings(**config["savings"])).peak <= budget.parse_budget(size, devices.CPU)
    capsys.readouterr()
    assert main([*of, "--trajectories", "3"]) == (0 if Savings(**config["savings"]) == Savings() else 2)
    assert main([*of, "--trajectories", "3", "--memory", "1KiB"]) == 2
    assert "--memory" in capsys.readouterr().err


def test_levers_change_no_gradient_of_a_run_with_a_reward_that_draws_nothing(world):
    """Recomputing alone, on the world's models: the same weights after an update, to rounding."""
    ends = []
    for savings in (Savings(), Savings(recompute=True)):
        backbone, reward, sampler, batch = inputs(world)
        backbone = copy.deepcopy(backbone)
        updater = make_updater(backbone.denoiser, FinetuneConfig("draft", lr=1e-3))
        torch.manual_seed(0)
        state = backbone.initial_state(batch, torch.Generator().manual_seed(1))
        rollout(
            parse("draft").plan(STEPS, random.Random(0)),
            backbone,
            sampler,
            reward,
            batch,
            state,
            updater,
            savings=savings,
        )
        ends.append(torch.cat([weight.detach().flatten() for weight in backbone.denoiser.parameters()]))
    torch.testing.assert_close(*ends, rtol=0, atol=1e-5)
