"""The matrix of backbones, its section, and claim C10, on rows whose peaks follow their plans."""

import msgspec
import pytest
from test_claims import CALL, FLOOR, RESIDENT, Options, rows, verdict

from bench import cases, options
from bench.cases import TABLE, Case, at
from bench.claims import Outcome
from bench.claims.published import ALIGNED
from bench.labels import published_backbones
from bench.report.sections.backbones import backbones
from bench.setup import draw_plan
from methods import registry

FLOPS = {"draft": 340, "easytune": 10000}


def counted(matrix: list[Case], flops: dict[str, int] = FLOPS) -> list:
    return [msgspec.structs.replace(row, flops=flops.get(row.case.method)) for row in rows(matrix)]


def test_the_matrix_has_every_method_of_the_table_on_every_backbone_at_its_own_steps():
    matrix = cases.backbones()
    assert published_backbones() == ["mld", "mld-original", "mldpp", "motionlcm", "motionlcm-v2", "mdm"]
    for name in published_backbones():
        methods = [case.method.partition(":")[0] for case in matrix if case.backbone == name]
        assert methods == [method.partition(":")[0] for method in TABLE]
    assert all(case.steps == registry.BACKBONES[case.backbone].steps for case in matrix)
    assert set(cases.published()) <= set(matrix)


@pytest.mark.parametrize("total", [1, 2, 4, 10, 50, 999])
def test_every_method_of_the_table_can_run_at_any_number_of_steps(total):
    plans = {method: draw_plan(Case(at(method, total), steps=total)) for method in TABLE}
    assert plans["drtune"].recorded == max(1, total // 5)
    assert [at(method, 50) for method in TABLE] == list(TABLE)


def test_a_backbone_of_few_steps_is_timed_with_methods_that_fit():
    timed = options.timed_cases(Options("-m step_time --backbone motionlcm-v2-tiny"))
    assert [case.method for case in timed] == [at(method, 4) for method in TABLE]
    assert {case.steps for case in timed} == {4}


class TestClaim:
    def test_it_holds_where_draft_holds_many_calls_and_not_where_it_holds_few(self):
        found = verdict(counted(cases.backbones()), "C10")
        assert found.outcome is Outcome.IN_PART
        many, few = ((FLOOR + held * CALL) / (FLOOR + CALL) for held in (50, 4))
        assert many > 1.1 > few
        more, less = found.finding.split("; not on ")[:2]
        assert f"MLD++ ({many:.2f})" in more
        assert f"MotionLCM ({few:.2f})" in less
        numbers = found.numbers.set_index("backbone")
        assert numbers.loc["MLD", "GiB a held call"] == CALL / 2**30
        share = (FLOOR + CALL - RESIDENT) / (FLOOR + 50 * CALL - RESIDENT)
        assert numbers.loc["MLD", "EasyTune's share beyond resident"] == pytest.approx(share)
        assert numbers.loc["MLD", "DRaFT's FLOPs an optimiser step / EasyTune's"] == pytest.approx(340 / (10000 / 50))

    def test_no_advantage_anywhere_is_no_advantage(self):
        few = [case for case in cases.backbones() if case.steps == 4]
        found = verdict(counted(few, {"draft": 10, "easytune": 40}), "C10")
        assert found.outcome is Outcome.FAILS
        assert "on none" in found.finding

    def test_alignment_stands_beside_it_as_published_and_undecided(self):
        found = verdict(counted(cases.backbones()), "C10")
        assert "Alignment is not judged" in found.finding
        published = found.numbers.set_index("backbone")
        assert published.loc["MLD++", "published FID, MotionRFT, arXiv 2603.27185"] == "0.073 → 0.052"
        assert {backbone for backbone, _ in ALIGNED} <= set(published.index)

    def test_one_backbone_says_nothing(self):
        found = verdict(counted(cases.published()), "C10")
        assert found.outcome is Outcome.NOT_JUDGED
        assert "Missing: " in found.finding

    def test_without_flops_memory_is_judged(self):
        assert "No FLOPs an optimiser step were counted" in verdict(rows(cases.backbones()), "C10").finding


class TestSection:
    def test_the_extremes_are_said_with_their_numbers(self):
        section = backbones(counted(cases.backbones()))
        many, few = ((FLOOR + held * CALL) / (FLOOR + CALL) for held in (50, 4))
        assert f"peak over EasyTune's: {few:.2f} (MotionLCM) to {many:.2f} (MLD)" in section.see
        section.figure()

    def test_ratios_are_to_easytune_on_the_same_backbone(self):
        table = backbones(counted(cases.backbones())).table
        by = {(row["backbone"], row["method"]): row for row in table.to_dict("records")}
        assert len(by) == len(cases.backbones())
        for (backbone, _), row in by.items():
            assert row["peak / EasyTune's"] == pytest.approx(row["peak"] / by[backbone, "easytune"]["peak"])

    def test_rows_of_other_steps_and_of_one_backbone_are_left_out(self):
        assert backbones(counted([*cases.published(), *cases.steps()])).table is None
        more = backbones(counted([*cases.backbones(), *cases.steps()])).table
        assert set(more[more["backbone"] == "mld"]["T"]) == {50}

    def test_a_backbone_without_its_draft_row_is_left_out(self):
        records = counted(cases.backbones())
        lost = [r for r in records if r.case.id != "draft-mldpp-T50-B256-F196-paper-simulated"]
        assert len(lost) == len(records) - 1
        assert set(backbones(lost).table["backbone"]) == set(published_backbones()) - {"mldpp"}
