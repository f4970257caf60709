"""`python -m bench.plan` as a user runs it, at a tiny size: what fits while one more does not, files, sentences."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench import flops
from bench.cases import Case
from bench.memory import measure
from bench.meters import Reading
from bench.plan import __main__ as command
from bench.plan import axes, check, draws, frontier, levers, size
from bench.plan.forecast import predict, probes
from bench.plan.headroom import Budget
from bench.plan.planner import Planner, requested
from bench.plan.simulator import Simulator
from bench.records import MemoryRecord, make
from bench.records.types import Environment
from bench.setup import draw_plan
from methods.errors import InputError
from methods.rollout import PHASES

ROOT = Path(__file__).parent.parent
MIB = 2**20
ASKED = Case(backbone="mld-tiny", steps=3, batch=16, frames=40)
SCALE = ["--backbone", "mld-tiny", "--steps", "3", "--batch", "16", "--frames", "40", "--headroom", "0"]
METHODS = ["draft", "alignprop:truncation=fixed", "drtune:k=2", "easytune", "alignprop"]
"""One of every law of growth: ReFL's is EasyTune's."""


@pytest.fixture(scope="module")
def simulator():
    """One for all tests: workers take seconds to start."""
    simulator = Simulator()
    close, simulator.close = simulator.close, lambda done=True: None
    yield simulator
    close()


@pytest.fixture
def main(simulator, monkeypatch):
    """The command in this process, with the simulations that other tests made."""
    monkeypatch.setattr(command, "Simulator", lambda kept: simulator)
    return command.main


def plan(simulator, budget, *methods, quick=False, asked=ASKED):
    return Planner(requested(methods, asked), Budget(budget, ()), simulator, quick=quick).answers()


@pytest.fixture
def batch_alone(monkeypatch):
    """The planner looks for no other limit: what makes a method fit hangs on the batch."""
    monkeypatch.setattr(axes, "of", lambda case, of=axes.of: {"batch": of(case)["batch"]})


READINGS: dict = {}


def simulated(case):
    """Simulated here, without the planner; a plan at one scale only once."""
    key = draw_plan(case), replace(case, method="easytune", seed=0)
    if key not in READINGS:
        READINGS[key] = measure(case, count_flops=False).reading
    return READINGS[key]


def reserved(case):
    return simulated(case).reserved


@pytest.mark.parametrize("mebibytes", [9])
def test_every_answer_fits_and_the_next_does_not(simulator, mebibytes, monkeypatch):
    monkeypatch.setattr(levers, "candidates", lambda spec: [])
    budget = mebibytes * MIB
    for answer in plan(simulator, budget, *METHODS):
        assert answer.fits == (reserved(answer.case) <= budget)
        assert ("k" in answer.limits) == ("k=" in answer.case.method or answer.case.method in METHODS[:2])
        for limit in answer.limits.values():
            assert limit.confirmed
            at = {
                "batch": lambda n, c=answer.case: replace(c, batch=n),
                "frames": lambda n, c=answer.case: replace(c, frames=n),
            }
            case_of = at.get(limit.axis, lambda n, c=answer.case: draws.with_k(c, n))
            if limit.value:
                assert limit.case == case_of(limit.value)
                assert limit.memory.reserved == reserved(limit.case) <= budget
                assert set(limit.memory.phases) == set(PHASES)
            if not limit.most:
                assert limit.beyond.reserved == reserved(case_of(limit.value + 1)) > budget


def test_a_random_method_says_that_its_worst_draw_was_planned(simulator):
    (answer,) = plan(simulator, 7 * MIB, "alignprop", quick=True)
    assert draws.held(answer.case) == 3
    assert answer.note == "worst of 1000 draws"


def test_a_quick_answer_is_near_the_confirmed_one(simulator):
    """At the budget of the test above, whose simulations these are."""
    quick = plan(simulator, 9 * MIB, "draft", "easytune", quick=True)
    sure = plan(simulator, 9 * MIB, "draft", "easytune")
    for one, other in zip(quick, sure, strict=True):
        assert not any(limit.confirmed for limit in one.limits.values())
        assert all(limit.confirmed for limit in other.limits.values())
        # At this size a segment of 2 MiB is a large share of the whole.
        assert one.limits["batch"].value == pytest.approx(other.limits["batch"].value, rel=0.15)


def test_freezing_the_reward_is_the_first_lever(simulator, batch_alone):
    frozen = reserved(replace(ASKED, profile="frozen", steps=2))
    (answer,) = plan(simulator, int(1.05 * frozen), "easytune")
    assert answer.lever.text == "--profile paper+reward_frozen=true"
    assert answer.lever.reserved == frozen >= answer.lever.peak
    assert answer.lever.confirmed
    assert answer.lever.simulated_steps == 2


def test_profiles_are_tried_from_what_changes_least_and_without_what_is_set():
    assert levers.candidates("paper") == [
        "paper+reward_frozen=true",
        "paper+attention=fused",
        "paper+score=8",
        "paper+reward_frozen=true+attention=fused",
        "paper+reward_frozen=true+attention=fused+score=8",
        "lean",
        "lean+precision=bf16",
    ]
    assert levers.candidates("frozen+score=4+train_mode=false") == [
        "frozen+score=4+train_mode=false+attention=fused",
        "lean+train_mode=false",
        "lean+train_mode=false+precision=bf16",
    ]
    assert levers.candidates("lean+precision=bf16") == []


def test_two_switches_together_where_neither_is_enough(simulator, batch_alone, monkeypatch):
    monkeypatch.setattr(levers, "SWITCHES", levers.SWITCHES[:2])
    both = "frozen+attention=fused"
    asked = replace(ASKED, batch=64)
    budget = int(1.15 * reserved(replace(asked, profile=both)))
    (answer,) = plan(simulator, budget, "easytune", asked=asked)
    assert answer.lever.text == "--profile paper+reward_frozen=true+attention=fused"


def test_lean_is_the_lever_where_no_exact_one_is_enough(simulator, batch_alone):
    asked = replace(ASKED, method="draft", batch=64, steps=10)
    budget = int(1.05 * reserved(replace(asked, profile="lean")))
    assert budget < reserved(replace(asked, profile="frozen+attention=fused+score=8"))
    (answer,) = plan(simulator, budget, "draft", asked=asked)
    assert answer.lever.text == "--profile lean"
    assert answer.lever.reserved == reserved(replace(asked, profile="lean"))


def test_a_profile_that_cannot_be_simulated_is_no_lever(simulator, batch_alone, monkeypatch):
    """As `lean` under a reward that encodes no prompts."""
    record = simulator._runs.record
    failed = lambda case: make.memory(case, "failed", "why") if "score=2" in case.profile else record(case)  # noqa: E731
    monkeypatch.setattr(simulator._runs, "record", failed)
    monkeypatch.setattr(levers, "candidates", lambda spec: ["paper+score=2", "frozen"])
    (answer,) = plan(simulator, int(1.05 * reserved(replace(ASKED, profile="frozen", steps=2))), "easytune")
    assert answer.lever.text == "--profile frozen"


def test_fewer_steps_held_and_then_a_smaller_batch_are_the_last_levers(simulator, monkeypatch):
    monkeypatch.setattr(levers, "candidates", lambda spec: [])
    budget = reserved(replace(ASKED, method="draft:k=2"))
    draft, easytune = plan(simulator, budget, "draft", "easytune:mode=chain")
    assert draft.lever.text == "--method draft:k=2"
    assert easytune.lever.text == f"--batch {easytune.limits['batch'].value}"
    assert 0 < easytune.limits["batch"].value < ASKED.batch


def test_a_budget_that_holds_nothing_names_one_that_does(simulator, monkeypatch):
    monkeypatch.setattr(levers, "candidates", lambda spec: [])
    with pytest.raises(InputError, match="holds no method even at batch 1") as refused:
        plan(simulator, MIB // 10, "draft", "easytune", asked=replace(ASKED, batch=1))
    named = re.search(r"would do is (\w+), for ([\w-]+)", str(refused.value))
    (answer,) = plan(simulator, size.parse(named[1]), named[2], asked=replace(ASKED, batch=1))
    assert answer.limits["batch"].value >= 1


def test_a_method_that_fits_nowhere_is_a_row_that_says_what_it_needs(simulator, batch_alone, monkeypatch):
    monkeypatch.setattr(levers, "candidates", lambda spec: [])
    one = replace(ASKED, batch=1, steps=30, frames=499)
    budget = reserved(replace(one, method="refl:m=2"))
    refl, chain = plan(simulator, budget, "refl:m=2", "alignprop:truncation=bernoulli,p=1.0", asked=one)
    assert refl.fits
    assert not chain.fits
    assert chain.lever is None
    assert chain.least == reserved(chain.case) > budget


@pytest.mark.parametrize("profile", ["paper", "lean"])
def test_the_forecast_is_the_simulation_at_the_published_size(simulator, profile):
    """Under `lean` in few pieces, where scoring makes the peak, and in many, where the denoiser does."""
    points = [
        Case("draft:k=5", steps=6, batch=300 if profile == "paper" else 3000, frames=150, profile=profile),
        Case("easytune", steps=3, batch=40, frames=250, profile=profile),
    ]
    asked = [replace(case, frames=196) for case in points]
    simulator.read([*probes(asked), *points])
    for case, at_196 in zip(points, asked, strict=True):
        reading = simulator.reading(case)
        forecast = predict(at_196, simulator)
        predicted = forecast.of(case)
        assert predicted.peak == pytest.approx(reading.peak, rel=0.005 if profile == "paper" else 0.02)
        assert predicted.reserved == pytest.approx(reading.reserved, rel=0.04 if profile == "paper" else 0.1)
        for phase, peak in predicted.phases.items():
            assert peak == pytest.approx(reading.phases[phase], rel=0.02 if profile == "paper" else 0.1)


def test_a_frontier_is_simulated_and_pieces_cost_no_flops(main, tmp_path):
    files = tmp_path / "frontier.json", tmp_path / "frontier.png"
    asked = [*SCALE[:-2], "--frontier", "--method", "draft", "--method", "easytune"]
    assert main([*asked, "--json", str(files[0]), "--figure", str(files[1])]) == 0
    curves = json.loads(files[0].read_text())["curves"]
    assert [curve["method"] for curve in curves] == ["draft", "easytune"]
    for curve in curves:
        plain, *_, last = points = curve["points"]
        assert plain["case"]["profile"] == "paper"
        assert (last["savings"]["score"], last["savings"]["recompute"]) == (1, True)
        peaks = [point["peak"] for point in points]
        assert peaks == sorted(set(peaks), reverse=True)
        updates = draw_plan(replace(ASKED, method=curve["method"])).updates
        for point in (plain, points[1], last):
            case = replace(ASKED, method=curve["method"], profile=point["case"]["profile"])
            assert (point["peak"], point["reserved"]) == (simulated(case).peak, reserved(case))
            assert point["flops_per_optimiser_step"] == flops.count(case) / updates
            more = point["flops_per_optimiser_step"] > plain["flops_per_optimiser_step"]
            assert more == point["savings"]["recompute"]
    assert files[1].read_bytes().startswith(b"\x89PNG")


def test_a_frontier_of_a_profile_that_pulls_levers_begins_without_them(simulator):
    (curve,) = frontier.curves(requested(["draft"], replace(ASKED, profile="lean")), simulator)
    assert curve.points[0].case.profile == "lean+score=0+recompute=false"
    assert curve.points[-1].case.profile == "lean+score=1"


def test_the_same_plan_at_the_same_scale_is_simulated_once(simulator):
    before = simulator.count
    one = simulator.reading(Case("draft:k=2", "mld-tiny", 4, 3, 10))
    same = simulator.reading(Case("alignprop:truncation=fixed", "mld-tiny", 4, 3, 10))
    assert one is same
    assert simulator.count == before + 1


def run(*arguments, folder=ROOT):
    line = [sys.executable, "-m", "bench.plan", *SCALE, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    return subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


THIRD_PARTY = """
from dataclasses import dataclass
from methods import Score, Step, register, trajectory


@dataclass(frozen=True)
class LastTwo:
    k: int = 2

    def plan(self, steps, rng):
        if steps < 3:
            raise IndexError("a method may refuse few steps in its own way")
        kept = range(steps - self.k, steps)
        return trajectory(steps, (Step(i, record=True, score=Score.X0 if i == steps - 1 else None,
                                       update=i == steps - 1) for i in kept))


register("last-two", LastTwo)
"""


def test_a_method_from_outside_is_planned_and_written_to_both_files(tmp_path):
    (tmp_path / "last_two.py").write_text(THIRD_PARTY)
    files = tmp_path / "plan.json", tmp_path / "plan.png"
    done = run(
        "--budget", "8MiB", "--import", "last_two", "--method", "last-two", "--json", files[0], "--figure", files[1],
        folder=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "What fits in 8.00 MiB" in done.stdout
    assert "Confirmed" in done.stdout
    assert "[1]" in done.stderr  # progress
    document = json.loads(files[0].read_text())
    assert (document["schema"], document["status"], document["budget"]["bytes"]) == (1, "confirmed", 8 * MIB)
    assert document["environment"]["torch"] == torch.__version__
    (answer,) = document["answers"]
    assert answer["method"] == "last-two"
    assert set(answer["limits"]) == {"batch", "k", "frames"}
    for limit in answer["limits"].values():
        assert limit["status"] == "confirmed"
        assert limit["needs"] is None or limit["peak"] <= limit["reserved"] == limit["needs"] <= 8 * MIB
        assert limit["most"] or limit["next_needs"] > 8 * MIB
    assert files[1].read_bytes().startswith(b"\x89PNG")
    assert len(files[1].read_bytes()) > 10_000
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != "") == [
        "last_two.py",
        "plan.json",
        "plan.png",
    ]


@pytest.mark.slow
def test_the_ranks_of_a_plan_have_their_part_of_the_denoiser(simulator, main, capsys):
    asked = [*SCALE, "--budget", "64MiB", "--quick", "--method", "easytune", "--ranks", "4"]
    figures = []
    for sharding in ("none", "fsdp2"):
        assert main([*asked, "--sharding", sharding]) == 0
        figures.append(capsys.readouterr().out)
    assert all("of 4 ranks" in text for text in figures)
    assert ["profile paper, fsdp2" in text for text in figures] == [False, True]
    held, parts = (replace(ASKED, ranks=4, sharding=sharding) for sharding in ("none", "fsdp2"))
    assert simulator.reading(parts).resident < simulator.reading(held).resident


def test_quick_says_that_it_is_a_forecast_and_a_failure_is_a_row(main, simulator, tmp_path, capsys, monkeypatch):
    file = tmp_path / "plan.json"
    assert main([*SCALE, "--budget", "2GiB", "--quick", "--method", "easytune", "--json", str(file)]) == 0
    out = capsys.readouterr().out
    assert "FORECAST" in out
    assert "499 frames are the most the model takes" in out
    assert json.loads(file.read_text())["answers"][0]["limits"]["batch"]["status"] == "forecast"
    monkeypatch.setattr(simulator._runs, "record", lambda case: make.memory(case, "failed", "why"))
    assert main([*SCALE, "--budget", "2GiB", "--quick", "--method", "easytune", "--frames", "50"]) == 1
    assert "no figure: draft-k1-mld-tiny-T2-B128-F50-paper-simulated: why" in capsys.readouterr().out


BAD = [
    (["--budget", "24"], "'24' is not a size above zero with its unit: write it as 24GiB"),
    (["--budget", "-3GiB"], "'-3GiB' is not a size above zero"),
    (["--budget", "0GiB"], "'0GiB' is not a size above zero"),
    (["--budget", "much"], "'much' is not a size above zero"),
    (["--budget", "1GiB", "--headroom", "some"], "headroom 'some' is not a size above zero.*or 0 for none"),
    (["--budget", "1GiB", "--method", "nope"], "unknown method 'nope'"),
    (["--budget", "1GiB", "--method", "draft:k=9"], "k must be between 1 and the 3 denoising steps"),
    (["--budget", "1GiB", "--backbone", "big"], "unknown backbone 'big'"),
    (["--budget", "1GiB", "--profile", "paper+x=1"], "unknown switch 'x'"),
    (["--budget", "1GiB", "--frames", "500"], "frames must be 1 to 499"),
    (["--budget", "1GiB", "--batch", "0"], "batch must be at least 1"),
    (["--budget", "1GiB", "--import", "no_such_module"], "--import no_such_module"),
    (["--budget", "1GiB", "--json", "no/such/folder/plan.json"], "cannot write no/such/folder/plan.json"),
    (["--budget", "1GiB", "--figure", "tests"], "cannot write tests: it is a folder"),
    (["--frontier"], "--quick, --check and --headroom go with --budget"),
    (["--budget", "auto"], "--budget auto needs a GPU"),
    (["--budget", "1GiB", "--check"], "--check needs a GPU"),
]


@pytest.mark.parametrize(("arguments", "sentence"), BAD)
def test_bad_input_is_one_sentence(main, arguments, sentence, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(ROOT)
    assert main([*SCALE, *arguments]) == 2
    captured = capsys.readouterr()
    assert not captured.out
    assert captured.err.count("\n") == 1
    assert re.search(sentence, captured.err)


def test_an_interrupt_ends_without_a_traceback(main, capsys, monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Planner, "answers", interrupted)
    assert main([*SCALE, "--budget", "1GiB", "--method", "easytune"]) == 130
    assert capsys.readouterr().err == "\nbench.plan: interrupted\n"


def on_card(case, reserved: int, workspace: int, process: int) -> MemoryRecord:
    reading = Reading(1, 1, 1, 0, 0, {}, {}, reserved=reserved, workspace=workspace, process=process)
    return make.memory(case, "ok", reading=reading)


def test_a_card_is_read_and_the_answers_are_held_against_it(main, capsys, monkeypatch, tmp_path):
    class Card:
        """Stands in for what measures on a GPU."""

        def __init__(self, lane, cases):
            assert all(case.meter == "cuda" for case in cases)

        def record(self, case):
            if case.method != "easytune":
                return make.memory(case, "oom", "it does not fit")
            return on_card(case, 6 * MIB, MIB, 9 * MIB if case.seed else 6 * MIB)

    monkeypatch.setattr(check, "MemoryRuns", Card)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (MIB, 7 * MIB))
    monkeypatch.setattr(make, "environment", lambda with_gpu: Environment(device="a card" if with_gpu else None))
    monkeypatch.setattr(make, "_allocator_settings", dict)
    file = tmp_path / "plan.json"
    asked = [*SCALE, "--quick", "--budget", "auto", "--check", "--json", str(file), "--method", "easytune"]
    assert main(asked) == 0
    assert re.search(
        r"reserved 5.00 MiB, planned 6\.\d+ MiB \(\+\d\d\.\d+%\); the process took 6.00 MiB, within",
        capsys.readouterr().out,
    )
    (done,) = json.loads(file.read_text())["checks"]
    assert done["measured"] == 5 * MIB
    assert main([*asked, "--method", "draft"]) == 1
    assert re.search(r"draft at batch \d+: it does not fit", capsys.readouterr().out)


def test_a_process_over_the_budget_refutes_the_plan():
    record = on_card(ASKED, MIB, 0, 3 * MIB)
    checked = check._check(ASKED, MIB, record, Budget(2 * MIB))
    assert not checked.good
    assert "over 2.00 MiB" in check.text([checked], Budget(2 * MIB))
