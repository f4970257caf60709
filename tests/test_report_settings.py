"""The table of settings: where EasyTune is ahead is said of what the records hold, of all rows at once."""

import importlib
import re

import made_studies
import pytest
from test_claims_alignment import BASELINES, changed, moved
from test_claims_alignment import row as aligned

from bench.report import sections

COMMAND = importlib.import_module("bench.report.sections.settings").COMMAND


def words(records) -> dict[tuple[str, str, str], str]:
    table = sections.settings(records).table
    return {(line["setting"], line["EasyTune"], line["against"]): line["EasyTune is"] for _, line in table.iterrows()}


def test_each_setting_has_the_word_of_its_interval():
    section = sections.settings([made_studies.settings(seeds=10)])
    assert [line["EasyTune is"] for _, line in section.table.iterrows()] == ["ahead", "undecided", "behind"]
    assert section.table["seeds"].tolist() == [10] * 3
    means = [float(cell.split()[0]) for cell in section.table["difference in R@1"]]
    assert means == pytest.approx([0.2, 0.0, -0.2], abs=0.01)
    assert "Of 3 comparisons" in section.see
    assert "clearly ahead in 1 and clearly behind in 1. The other 1 are undecided, 0 of them" in section.see
    assert COMMAND not in section.note


def test_one_seed_decides_nothing():
    section = sections.settings([made_studies.settings(seeds=1)])
    assert set(section.table["EasyTune is"]) == {"undecided (one seed)"}
    assert "3 of them for want of a second seed" in section.see


def test_a_word_is_taken_back_where_too_many_are_asked_at_once():
    """A difference that is clear among three comparisons is not among hundreds."""
    few = {"a": 0.002, "b": 0.0, "c": 0.0}
    clear = made_studies.settings(seeds=10, gains={"a": 0.004, "b": 0.0})
    assert sections.settings([clear]).table["EasyTune is"][0] == "ahead"
    many = made_studies.settings(seeds=10, gains={"a": 0.004, **{f"{n}": 0.0 for n in range(300)}})
    half_widths = [
        float(re.search(r"± ([\d.]+)", sections.settings([of]).table["difference in R@1"][0])[1])
        for of in (clear, many)
    ]
    assert half_widths[1] > half_widths[0]
    assert few


def test_rows_of_the_benchmark_are_compared_at_equal_trajectories_time_and_optimiser_steps():
    ours = aligned("easytune", 2.0, seconds=5.0)
    ours = changed(ours, curves=[[run[0], moved(run[1], updates=20, r1=0.8)] for run in ours.alignment.curves])
    found = words([*BASELINES, ours])
    assert ("embedded world, equal trajectories", "EasyTune", "DRTune, K = 4") in found
    assert ("embedded world, after 5 s each", "EasyTune", "DRaFT-20") in found
    assert ("embedded world, after 2 optimiser steps each", "EasyTune", "DRaFT-20") in found
    assert found["embedded world, learning rate 0.0001", "EasyTune", "DRaFT-20"] == "undecided (one seed)"
    differences = sections.settings([*BASELINES, ours]).table.set_index("setting")["difference in R@1"]
    assert differences["embedded world, after 5 s each"].startswith("+0.400")  # 0.8 against 0.4
    assert differences["embedded world, after 2 optimiser steps each"].startswith("+0.040")  # a tenth of its way


def test_studies_of_other_questions_are_read_too_and_what_no_record_covers_is_named():
    section = sections.settings([made_studies.strength(), made_studies.gaming()])
    settings = set(section.table["setting"])
    assert any("hardened against gaming" in setting for setting in settings)
    assert {setting.split(", ")[-1] for setting in settings if "long runs" in setting} == {
        "at the end",
        "stopped by a second reward",
    }
    assert COMMAND in section.note
    assert sections.settings([]).command == COMMAND
