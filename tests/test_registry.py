"""Backbones and rewards by name: what a case takes them for, what is refused, and those of a third party."""

import importlib
import json
import math
import random
import sys
from dataclasses import dataclass, replace

import pytest
import torch
from bench_command import ROOT, InThisProcess, bench, bench_here
from bench_command import SCALE as TINY_CASES
from msgspec import structs
from test_commands import readme_example

from bench import compare, records, setup
from bench.cases import Case
from bench.claims import forecast
from bench.gate import baseline, paired
from bench.memory import measure
from bench.meters import Reading
from bench.plan import __main__ as plan
from bench.plan.simulator import Simulator
from bench.records import MemoryRecord, decode
from bench.records.make import to_json
from bench.report import rows as pick
from bench.reward_cases import RewardCase
from methods import Step, ddim, lcm, registry, trajectory
from methods.entries import RewardEntry, example_batch
from methods.errors import InputError
from methods.refl import refl_steps
from methods.registry import (
    BACKBONES,
    METHODS,
    REWARDS,
    parse,
    register,
    register_backbone,
    register_reward,
    spec,
    third_party_modules,
)
from methods.rewards.spm import TINY, Spm
from methods.rollout import PHASES

SCALE = {"steps": 3, "batch": 2, "frames": 9}


@pytest.fixture(autouse=True)
def as_before():
    """What a test registers is gone after it."""
    kept = (METHODS, BACKBONES, REWARDS, registry._REGISTERED_BY)
    before = [set(of) for of in kept]
    yield
    for of, names in zip(kept, before, strict=True):
        for name in set(of) - names:
            del of[name]


def wide_reward(**changes) -> RewardEntry:
    """The tiny reward with wider tokens, and another longest motion."""
    config = replace(TINY, token_width=20)
    return RewardEntry(
        **{
            "build": lambda: Spm(config),
            "tokens": (5, 20),
            "features": 11,
            "most_frames": 30,
            "sentences": 6,
            **changes,
        }
    )


# What a case takes.


def test_the_default_reward_is_not_written_out_and_another_is():
    register_reward("wide", wide_reward())
    default, other = Case(backbone="mld-tiny", **SCALE), Case(backbone="mld-tiny", reward="wide", **SCALE)
    assert Case(backbone="mld-tiny", reward="spm-tiny", **SCALE) == default
    assert (default.reward, default.id) == ("", "easytune-mld-tiny-T3-B2-F9-paper-simulated")
    assert (other.reward, other.id) == ("wide", "easytune-mld-tiny-reward-wide-T3-B2-F9-paper-simulated")
    assert replace(Case(), backbone="mld-tiny").id == "easytune-mld-tiny-T50-B256-F196-paper-simulated"


def test_a_case_is_measured_with_the_reward_that_it_names():
    register_reward("wide", wide_reward())
    default, other = (measure(Case("refl:m=1", "mld-tiny", **SCALE, reward=name)) for name in ("", "wide"))
    assert (default.case.reward, other.case.reward) == ("", "wide")
    # Of the text embedding, [width, token width] in float32; the allocator rounds up to blocks of 512 bytes.
    blocks = [math.ceil(4 * TINY.transformer.width * tokens / 512) for tokens in (10, 20)]
    assert other.reading.parameters - default.reading.parameters == 512 * (blocks[1] - blocks[0]) > 0


def test_the_longest_motion_is_what_both_take():
    register_reward("wide", wide_reward())
    assert Case().most_frames == 499
    assert Case(backbone="mld-tiny", reward="wide", frames=30).most_frames == 30
    with pytest.raises(InputError, match="frames must be 1 to 30, not 31"):
        Case(backbone="mld-tiny", reward="wide", frames=31)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Case(reward="clip"), "unknown reward 'clip': choose one of spm, spm-tiny"),
        (lambda: Case(reward="spm-tiny"), "reward 'spm-tiny' reads 11 features a frame, but backbone 'mld' makes 263"),
        (lambda: RewardCase(reward="scalar"), "reward 'scalar' cannot be trained"),
        (lambda: register_reward("spm", wide_reward()), "a reward called 'spm' is registered already"),
        (lambda: register_backbone("mld", BACKBONES["mld"]), "a backbone called 'mld' is registered already"),
    ],
)
def test_what_does_not_fit_is_refused(make, says):
    register_reward("scalar", wide_reward(sentences=None))
    with pytest.raises(InputError, match=f"^{says}"):
        make()
    assert REWARDS["spm"].features == BACKBONES["mld"].features == 263


# What is built.


def test_an_example_batch_is_drawn_in_the_order_of_its_fields():
    backbone, reward = BACKBONES["mld-tiny"], REWARDS["spm-tiny"]
    batch = example_batch(backbone, reward, 3, 7, generator=torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    for part, shape in ((batch.text, (3, 1, 12)), (batch.null_text, (1, 1, 12)), (batch.tokens, (3, 24, 10))):
        assert torch.equal(part, torch.randn(shape, generator=generator))
    assert (batch.token_mask.shape, batch.frame_mask.shape) == ((3, 24), (3, 7))
    assert batch.token_mask.all()
    assert batch.frame_mask.all()


def test_what_the_entry_calls_frozen_is_frozen_and_nothing_else():
    run = setup.build(Case("refl:m=1", "mld-tiny", **SCALE), "cpu")
    networks = run.networks()
    learn = {name: {p.requires_grad for p in network.parameters()} for name, network in networks.items()}
    assert learn == {"denoiser": {True}, "vae": {False}, "reward": {True}}
    assert {name: network.training for name, network in networks.items()} == {
        "denoiser": True,
        "vae": False,
        "reward": True,
    }
    register_backbone("misnamed", replace(BACKBONES["mld-tiny"], frozen=("decoder",)))
    row = measure(Case("refl:m=1", "misnamed", **SCALE))
    assert row.status == "failed"
    assert "no network 'decoder'" in row.reason
    assert "denoiser, vae" in row.reason


def test_a_reward_of_a_third_party_is_trained_under_its_name():
    register_reward("wide", wide_reward())
    case = RewardCase(reward="wide", batch=12, frames=8, meter="host")
    assert case.id == "reward-wide-B12-F8-paper-host"
    assert RewardCase(reward="spm-tiny").id == "reward-mld-tiny-B64-F196-paper-simulated"
    simulated = replace(case, meter="simulated", profile="paper+train_mode=false")
    readings = [measure(one).reading for one in (simulated, replace(simulated, meter="host"))]
    assert readings[0].parameters == readings[1].parameters > 4 * sum(p.numel() for p in Spm(TINY).parameters())


# Where rows and simulations are told apart.


def memory_row(method: str, reward: str = "", overhead: int = 1, **changed) -> MemoryRecord:
    case = Case(method, "mld-tiny", **SCALE, reward=reward)
    return structs.replace(measure(case), reading=reading(100 + overhead, 100), **changed)


def reading(peak: int, resident: int) -> Reading:
    phases = dict.fromkeys(PHASES, peak)
    return Reading(peak, resident, peak, parameters=0, optimiser_state=0, phases=phases, categories={})


def test_rows_of_two_rewards_share_no_table_and_old_files_have_the_default():
    register_reward("wide", wide_reward())
    new, other = memory_row("easytune"), memory_row("easytune", "wide")
    written = to_json(new)
    assert "reward" not in written["case"]
    old = decode({**written, "schema": 1})
    for scale in (lambda record: pick.scale(record.case), forecast._scale):
        assert scale(old) == scale(new) != scale(other)


def test_a_method_is_compared_with_the_reference_under_its_own_reward():
    register_reward("wide", wide_reward())
    rows = [memory_row("draft", "", 30), memory_row("easytune", "", 10), memory_row("easytune", "wide", 5)]
    draft, reference, other = map(baseline.cut_down, rows)
    assert compare._ratio(draft, [other, reference], "easytune") == 3
    assert compare._ratio(draft, [other], "easytune") is None


def test_the_planner_simulates_two_rewards_apart():
    register_reward("wide", wide_reward())
    cases = [Case("draft:k=1", "mld-tiny", **SCALE, reward=name) for name in ("", "wide")]
    simulator = Simulator()
    assert [simulator._stand_for(case) for case in cases] == cases
    simulator.close()


def test_the_step_time_gate_asks_older_revisions_for_what_they_know():
    asked = []

    class Side:
        def ask(self, **request):
            asked.append(request)
            return 1.0

    row = paired._measure(
        Case("refl:m=1", **SCALE, meter="host"), 1, "main", {"new": Side(), "old": Side()}, lambda _: None
    )
    assert row.status == "ok"
    assert asked[0]["build"] == {
        "method": "refl:m=1",
        "backbone": "mld",
        **SCALE,
        "profile": "paper",
        "meter": "host",
        "seed": 0,
    }


# Third parties.


@dataclass(frozen=True)
class Flagged:
    """A method with a switch."""

    early: bool = False

    def plan(self, steps: int, rng: random.Random):
        return refl_steps(0 if self.early else steps - 1, steps)


def test_booleans_of_a_spec_are_written_as_a_profiles_are():
    register("flagged", Flagged)
    assert spec(Flagged(early=True)) == "flagged:early=true"
    assert Case("flagged:early=true").method == Case("flagged:early=True").method == "flagged:early=true"
    assert parse("flagged:early=false") == Flagged()
    with pytest.raises(InputError, match="early='yes' is not true or false"):
        parse("flagged:early=yes")


def test_whoever_registers_is_imported_by_workers_wherever_the_class_is_from():
    before = third_party_modules()
    assert __name__ not in before
    register_backbone("again", BACKBONES["mld-tiny"])
    register("flagged", Flagged)
    assert third_party_modules() == [*before, __name__]
    assert "flagged" in METHODS


def test_a_file_of_a_third_party_is_measured_timed_and_simulated(tmp_path):
    """Through the commands, workers and all: no line of this tree knows the file."""
    result = tmp_path / "run.json"
    chosen = ["-p", "toy_model", "--backbone", "toy", "--method", "easytune"]
    scale = ["--steps", "3", "--batch", "2", "--frames", "9", "--time-steps", "3", "--time-batch", "2"]
    meters = ["--meter", "simulated", "--meter", "host"]
    done = bench(*chosen, *scale, *meters, "--rounds", "1", f"--benchmark-json={result}", folder=ROOT / "tests")
    assert done.returncode == 0, done.stdout + done.stderr
    simulated, host, timed = records.load(result)
    assert [row.case.id for row in (simulated, host, timed)] == [
        "easytune-toy-T3-B2-F9-paper-simulated",
        "easytune-toy-T3-B2-F9-paper-host",
        "easytune-toy-T3-B2-F196-paper-host",
    ]
    assert simulated.reading.peak == host.reading.peak > 0
    assert timed.timing.per_update.median > 0


def test_the_readmes_third_party_method_is_measured_without_touching_this_tree(tmp_path, monkeypatch):
    (tmp_path / "every_other.py").write_text(readme_example("# every_other.py"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "every_other", raising=False)
    result = tmp_path / "run.json"
    arguments = ["-p", "every_other", "--method", "every-other:offset=1", "-m", "memory", f"--benchmark-json={result}"]
    done = bench_here(*TINY_CASES, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = records.load(result)
    assert row.plan.updates == 2
    assert row.reading.peak > row.reading.resident


def test_the_readmes_model_of_diffusers_is_sampled_as_by_diffusers_and_measured(tmp_path, monkeypatch):
    pytest.importorskip("diffusers")
    (tmp_path / "diffusers_model.py").write_text(readme_example("# diffusers_model.py"))
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("diffusers_model")
    case = Case("easytune", "unet", steps=3, batch=2, frames=8, profile="frozen+train_mode=false", meter="host")
    run = setup.build(case, "cpu")
    scheduler = module.DDIMScheduler(prediction_type="v_prediction", clip_sample=False)
    scheduler.set_timesteps(3)
    x = run.x
    with torch.no_grad():
        for timestep in scheduler.timesteps:
            out = run.backbone.denoiser(x, timestep, run.batch.text).sample
            x = scheduler.step(out, timestep, x).prev_sample
    torch.testing.assert_close(run.sample(), x[..., 0].transpose(1, 2), rtol=1e-4, atol=1e-4)
    rows = [measure(replace(case, meter=meter)) for meter in ("simulated", "host")]
    assert [row.status for row in rows] == ["ok", "ok"]
    assert rows[0].reading.parameters == rows[1].reading.parameters
    with pytest.raises(InputError, match=r"^backbone 'unet' cannot take 1001 steps: [^\n]*1000[^\n]*$"):
        replace(case, steps=1001)


def test_a_file_of_a_third_party_is_planned_up_to_its_longest_motion(tmp_path, monkeypatch):
    """240 frames, which is less than the planner's usual probes have."""
    monkeypatch.setattr("bench.lane.lane.Workers", InThisProcess)
    monkeypatch.delitem(sys.modules, "toy_model", raising=False)
    file = tmp_path / "plan.json"
    asked = ["--import", "toy_model", "--backbone", "toy", "--reward", "toy-reward", "--budget", "1GiB"]
    asked += ["--headroom", "0", "--steps", "3", "--method", "easytune", "--json", str(file)]
    assert plan.main(asked) == 0
    document = json.loads(file.read_text())
    assert (document["setting"]["backbone"], document["setting"]["reward"]) == ("toy", "")
    limits = document["answers"][0]["limits"]
    assert (limits["frames"]["value"], limits["frames"]["most"]) == (240, True)
    assert limits["batch"]["needs"] <= 2**30 < limits["batch"]["next_needs"]


def test_a_sampler_of_anybody_that_makes_other_steps_is_refused_in_a_sentence():
    register_backbone("short", replace(BACKBONES["mld-tiny"], sampler=lambda steps: ddim(2)))
    assert Case(backbone="short", steps=2).steps == 2
    with pytest.raises(InputError, match=r"^backbone 'short' cannot take 3 steps: its sampler makes 2 of them$"):
        Case(backbone="short", steps=3)


def test_a_backbone_has_as_many_steps_as_it_is_published_with_unless_others_are_chosen():
    register_backbone("few", replace(BACKBONES["mld-tiny"], sampler=lcm, steps=4))
    assert Case(backbone="few").id == "easytune-few-T4-B256-F196-paper-simulated"
    assert Case(backbone="few", steps=2).steps == 2
    with pytest.raises(InputError, match=r"^steps must be 1 to 50, not 51$"):
        Case(backbone="few", steps=51)


@dataclass(frozen=True)
class NoPlan:
    way: str = "raises"

    def plan(self, steps, rng):
        if self.way == "raises":
            raise KeyError("two\nlines")
        return None if self.way == "nothing" else trajectory(steps, [Step(0)])


@pytest.mark.parametrize("way", ["raises", "nothing", "unsound"])
def test_a_method_of_anybody_that_makes_no_plan_is_refused_in_a_sentence(way):
    register("no-plan", NoPlan)
    with pytest.raises(InputError, match=r"^no-plan[^\n]* makes no plan of 3 steps[^\n]*$"):
        setup.draw_plan(Case(f"no-plan:way={way}", "mld-tiny", 3))
