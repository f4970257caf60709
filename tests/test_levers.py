"""The levers' matrix and section, and FLOPs: torch's counter over a whole update against what the plan says."""

from dataclasses import replace

import msgspec
import pytest
import torch
from test_claims_alignment import changed, moved
from test_claims_alignment import row as aligned
from test_simulated import METHODS, among, tiny
from times import bare
from torch.utils.flop_counter import FlopCounterMode

from bench import flops, memory
from bench.cases import Case, matrix
from bench.lane import Desk
from bench.meters.lowering import cuda_lowering
from bench.profiles import LEVERS, profile
from bench.report.sections.levers import levers, to_equal_reward
from bench.setup import autocast_of, build
from methods import Savings
from methods.errors import InputError

SPECS = ("lean+score=2", "frozen+score=3+recompute=true+kept=1")


@pytest.mark.parametrize(
    ("method", "spec"),
    [*((method, "paper") for method in METHODS), *(among(method, spec) for method in METHODS for spec in SPECS)],
)
def test_flops_of_a_whole_update_are_those_that_its_plan_gives(method, spec):
    case = tiny(method, batch=5, profile=spec)
    with cuda_lowering():
        run = build(case, "meta", with_data=False)
        run.savings = Savings(**{**vars(run.savings), "crop": False})  # every piece, where a simulation runs three
        whole = flops.counted(run.update)
    assert flops.count(case) == pytest.approx(whole, rel=0.01)


def test_flops_are_those_of_torchs_counter_by_itself():
    run = build(tiny("easytune"), "meta", with_data=False)
    with FlopCounterMode(display=False) as counter:
        run.update()
    assert flops.counted(run.update) == counter.get_total_flops() > 0


def test_recomputing_costs_a_forward_of_each_recorded_call():
    plain, again = (flops.count(tiny("draft", profile=spec)) for spec in ("frozen", "frozen+recompute=true"))
    one, more = (flops.count(tiny("draft:k=1", profile=spec)) for spec in ("frozen", "frozen+recompute=true"))
    assert again - plain == 4 * (more - one) > 0


def test_the_matrix_pulls_every_lever_for_every_method_of_the_table():
    cases = matrix("levers")
    assert {case.profile for case in cases} == set(LEVERS.values())
    methods = {case.method for case in matrix("published")}
    assert all({case.method for case in cases if case.profile == spec} == methods for spec in LEVERS.values())


@pytest.fixture(scope="module")
def rows():
    specs = [LEVERS["as released"], LEVERS["reward frozen"], LEVERS["lean, no dropout"]]
    cases = [tiny(method, batch=12, profile=spec) for spec in specs for method in ("draft", "easytune")]
    return [memory.measure(case) for case in cases]


class TestSection:
    def test_ratios_are_to_easytune_under_the_same_lever(self, rows):
        table = levers(rows).table
        assert list(table["lever"].unique()) == ["as released", "reward frozen", "lean, no dropout"]
        by = {(row["lever"], row["method"]): row for row in table.to_dict("records")}
        for lever in table["lever"].unique():
            draft, easytune = by[lever, "draft"], by[lever, "easytune"]
            assert draft["peak / EasyTune's"] == pytest.approx(draft["peak"] / easytune["peak"])
            steps = draft["TFLOPs"] / (easytune["TFLOPs"] / 4)
            assert draft["FLOPs an optimiser step / EasyTune's"] == pytest.approx(steps)

    def test_what_is_left_is_said_with_its_numbers(self, rows):
        section = levers(rows)
        first, last = (rows[i].reading.peak / rows[i + 1].reading.peak for i in (0, len(rows) - 2))
        assert f"{first:.2f} (as released)" in section.see
        assert f"{last:.2f} (lean, no dropout)" in section.see
        section.figure()

    def test_rows_that_pull_no_lever_leave_it_empty(self, rows):
        section = levers(rows[:4])
        assert section.table is None
        assert "--matrix levers" in section.command

    def test_a_row_that_failed_is_left_out(self, rows):
        assert len(levers([replace_status(rows[0]), *rows[1:]]).table) == len(rows) - 1


class TestToEqualReward:
    @pytest.fixture
    def runs(self):
        """All go from 0.5 to 0.7 in two steps; EasyTune in ten with the noise-aware reward, else half-way in 30."""
        noisy, plain = (aligned(method, 1.0) for method in ("easytune:score=noisy", "easytune"))
        ends = (noisy, {"updates": 10.0}), (plain, {"updates": 30.0, "reward": 0.6})
        slow = [changed(r, curves=[[run[0], moved(run[1], **to)] for run in r.alignment.curves]) for r, to in ends]
        return [*(aligned(method, 2.0) for method in ("draft", "drtune:k=4")), *slow]

    def test_steps_counted_there_take_the_flops_that_a_step_takes_here(self, rows, runs):
        section = to_equal_reward([*rows, *runs])
        table = section.table.set_index(["share of DRaFT-T's gain", "method"])
        assert set(section.table["method"]) == {"draft", "easytune", "easytune:score=noisy"}, (
            "no row of DRTune is there"
        )
        for lever, draft, easytune in (("as released", *rows[:2]), ("lean, no dropout", *rows[-2:])):
            ratios, step = table[f"FLOPs / EasyTune's ({lever})"], easytune.flops / 4
            assert table[f"TFLOPs ({lever})"]["50%", "draft"] == pytest.approx(1 * draft.flops / 1e12)
            assert ratios["100%", "draft"] == pytest.approx(2 * draft.flops / (10 * step))
            assert ratios["50%", "easytune"] == pytest.approx(30 / 5)
            assert ratios.isna().sum() == 2, "EasyTune with the one-step prediction reaches half of the levels"
            assert f"{2 * draft.flops / (10 * step):.2f} ({lever})" in section.see
        assert "Computed, not measured" in section.see
        assert len(section.see.split()) <= 60

    def test_ratios_are_to_the_one_step_prediction_where_nothing_else_was_run(self, rows, runs):
        table = to_equal_reward([*rows, *(r for r in runs if r.case.method != "easytune:score=noisy")]).table
        own = table[table["method"] == "easytune"].filter(like="FLOPs /")
        assert own.stack().dropna().tolist() == [1.0] * 4, "two levels, under two levers"

    def test_it_is_silent_where_records_lack(self, rows, runs):
        uncounted = [msgspec.structs.replace(row, flops=None) for row in rows]
        for records in (rows, runs, [*uncounted, *runs], [*rows, *runs[1:]]):
            section = to_equal_reward(records)
            assert section.table is None
            assert "--matrix levers --align full" in section.command


def replace_status(row):
    return msgspec.structs.replace(row, status="failed", reason="made up", reading=None)


def test_a_measured_row_counts_no_flops():
    assert memory.measure(replace(tiny("draft:k=1"), meter="host")).flops is None
    assert memory.measure(tiny("draft:k=1")).flops == flops.count(tiny("draft:k=1"))


def test_the_published_ratio_of_flops():
    """DRaFT-50's update is 1.70 of EasyTune's optimiser steps as released, 2.32 in the recipe."""
    for spec, ratio in (("paper", 1.702), ("lean", 2.318)):
        draft, easytune = (flops.count(Case(method, profile=spec)) for method in ("draft", "easytune"))
        assert draft / (easytune / 50) == pytest.approx(ratio, abs=0.001)


def test_memory_that_was_read_stands_where_flops_cannot_be_counted(monkeypatch):
    def broken(case: Case) -> int:
        raise RuntimeError("made up")

    monkeypatch.setattr(flops, "count", broken)
    row = memory.measure(tiny("draft:k=1"))
    assert (row.status, row.flops) == ("ok", None)


def test_the_planner_counts_no_flops():
    assert memory.MemoryJob(tiny("draft:k=1"), count_flops=False).run(Desk(None, print, lambda _: None)).flops is None


class TestRefusals:
    @pytest.mark.parametrize("meter", ["simulated", "host"])
    def test_no_meter_counts_compiled_code(self, meter):
        row = memory.measure(tiny("draft:k=1", profile="lean+compile=true", meter=meter))
        assert row.status == "failed"
        assert "no meter counts what a compiler fuses: time compile=true with" in row.reason

    def test_a_machine_without_a_compiler(self, monkeypatch):
        def broken(function):
            raise RuntimeError("g++ is not here\nand more lines")

        monkeypatch.setattr(torch, "compile", broken)
        with pytest.raises(
            InputError, match=r"^compile=true needs a compiler .*cpu \(RuntimeError: g\+\+ is not here\)"
        ):
            build(tiny("draft", profile="lean+compile=true"), "cpu")

    def test_a_plan_that_samples_with_a_copy_is_not_compiled(self):
        with pytest.raises(InputError, match="compile=true is not for a delayed plan"):
            build(tiny("easytune:mode=chain-released", profile="lean+compile=true"), "cpu")

    def test_a_gpu_without_bf16(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
        with pytest.raises(InputError, match="precision=bf16 needs a GPU"):
            autocast_of(profile("paper+precision=bf16"), torch.device("cuda"))


@pytest.mark.parametrize("method", ["draft", "easytune"])
def test_the_bare_calls_that_a_rollout_is_timed_against_do_what_it_does(method):
    weights = []
    for update in (lambda run: run.update(), lambda run: bare(run, every_step=method == "easytune")):
        run = build(tiny(method), "cpu")
        torch.manual_seed(0)
        update(run)
        weights.append(list(run.backbone.denoiser.parameters()))
    for one, other in zip(*weights, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-7)
