"""The report's sections on rewards, on made-up studies: what they say, what they draw, and what they ask for."""

import math
import re

import made_studies
import pytest
from msgspec import structs
from test_claims_alignment import changed, interval, moved
from test_claims_alignment import row as aligned

from bench import records
from bench.meters.reading import Reading
from bench.records import Record, RewardMemoryRecord, RewardStepTimeRecord, StudyRecord
from bench.records.make import described
from bench.records.types import Environment, Settings, Spread, Timing
from bench.report import figures, page, sections, style
from bench.reward_cases import RewardCase
from methods.rollout import PHASES

NAMES = ("noise", "windows", "feature_noise", "spl", "strength", "gaming", "reviewers")
TRAINED = NAMES[1:-1]


def section(name: str, records: list[Record]) -> sections.Section:
    return next(make(records) for make in sections.SECTIONS if make.__name__ == name)


def every() -> list[StudyRecord]:
    return [getattr(made_studies, name)() for name in NAMES[:-1]]


def axes_of(figure) -> int:
    return len(figure.axes)


@pytest.fixture(scope="module")
def report() -> sections.Report:
    return sections.build(every())


def test_all_is_shown_after_the_similarity_in_order(report):
    order = [s.name for s in report.sections if s.name not in ("real_rewards", "reward_training")]
    start = order.index("similarity") + 1
    assert tuple(order[start : start + len(NAMES)]) == NAMES
    shown = {s.name: s for s in report.sections}
    assert all(shown[name].see and not shown[name].command for name in NAMES)
    assert {name for name in NAMES if shown[name].figure} == set(NAMES) - {"reviewers"}
    tables = page.all_tables(report)
    assert all(len(tables[name]) for name in NAMES[:-1])


@pytest.mark.parametrize(
    ("name", "count"),
    [("noise", 2), ("windows", 3), ("feature_noise", 2), ("spl", 2), ("strength", 2), ("gaming", 16)],
)
def test_every_figure_is_drawn_in_full(report, name, count):
    with style.look():
        figure = next(s for s in report.sections if s.name == name).figure()
        assert axes_of(figure) == count
        assert all(axes.lines for axes in figure.axes)
        figure.draw_without_rendering()  # nothing fails in the layout either


def test_without_rows_each_section_names_its_command():
    assert section("noise", []).command.startswith("pytest bench/test_studies.py")
    for name in TRAINED:
        assert f"-m study --study {name} " in section(name, []).command
    assert "--study strength --study gaming --study spl" in section("reviewers", []).command


# Noise.


def test_the_noise_section_says_up_to_where_each_is_clear():
    see = section("noise", [made_studies.noise()]).see
    assert "951 by the world's reward with the timestep given, 551 without it" in see
    assert "up to 701 with it, 251 without it, and 601 on the one-step prediction" in see
    assert "Trained alike" not in see


def test_a_gap_ends_the_reach_and_nan_reaches_nothing():
    record = made_studies.noise()
    at = record.study.timestep
    record.study.within_aware[at.index(101)] = 0.1
    record.study.within_clean[:] = [float("nan")] * len(at)
    see = section("noise", [record]).see
    assert "up to 51 with it, none without it" in see


def test_the_trained_rewards_join_the_noise_section_where_they_are():
    records = [made_studies.noise(), made_studies.windows()]
    see = section("noise", records).see
    assert "clearly better than a clean one at 9 of 10 noise levels, worse at 1" in see
    with style.look():
        lines = {len(figures.noise(records[0], other).axes[1].lines) for other in (None, records[1])}
    assert lines == {3, 5}


def test_noise_on_features_is_distinguished_from_noise_on_states():
    """Pools make twice the R@1 among all. The least gain on states is the best there: at the first timestep, none."""
    drawn = section("feature_noise", [made_studies.feature_noise()])
    gain = 80 * (math.exp(-901 / 3000) - math.exp(-901 / 900))
    stated = re.search(r"R@1 by at most \+(\d+\.\d) ± \d\.\d points \(timestep 901\)", drawn.see)
    assert stated is not None
    assert float(stated[1]) == pytest.approx(gain, abs=2)
    assert re.search(r"Up to timestep 500, where that noise ends, it is \+.* points \(timestep 401\)", drawn.see)
    assert re.search(r"scores, it is at most [+-]0\.\d ± \d\.\d points", drawn.see)
    assert "3 seeds" in drawn.note
    assert len(drawn.table) == 2 * len(made_studies.LEVELS)


# Strength and gaming.


def test_strength_says_what_the_strongest_reward_gains_over_the_weakest():
    drawn = section("strength", [made_studies.strength()])
    assert "From the weakest reward" in drawn.see
    gain = re.search(r"([+-]\d\.\d+) ± \d\.\d+ \(EasyTune, first = 10\)", drawn.see)
    assert gain is not None
    assert float(gain[1]) == pytest.approx(0.036, abs=0.01)
    assert len(drawn.table) == 1 + 12 + 2
    assert drawn.table.iloc[-1]["reward of"] == "the world"
    assert drawn.table.iloc[0]["method"] == "base"


def test_gaming_stops_each_seed_by_the_second_reward_and_counts_what_follows():
    record = made_studies.gaming(peak=4)
    drawn = section("gaming", [record])
    assert "the evaluator's R@1 fell in 4 of 8 long runs" in drawn.see
    assert "The pull to the base changes R@1 at the end by +0.180 ± 0.000 (EasyTune)" in drawn.see
    table = drawn.table.set_index(["run", "at"])
    assert table.loc["EasyTune, free"]["updates"].tolist()[1:] == [240, 600]
    assert table.loc["DRaFT-10, pulled"]["updates"].tolist()[1:] == [120, 120]
    gamed = table.xs("end", level="at")["seeds where the reward rose and R@1 fell"]
    assert sorted(gamed) == ["0 of 2", "0 of 2", "2 of 2", "2 of 2"]
    free = record.study.runs[0].curves
    assert table.loc[("EasyTune, free", "stop"), "R@1"] == pytest.approx(sum(c[4].metrics["r1"] for c in free) / 2)
    assert len(table) == 3 * 4


def test_seeds_stop_at_their_own_points():
    record = made_studies.gaming(peak=4)
    late = record.study.runs[0].curves[1]
    late[7] = moved(late[7], second=5.0)  # comes after two measurements below: the run was stopped by then
    table = section("gaming", [record]).table.set_index(["run", "at"])
    assert table.loc[("EasyTune, free", "stop"), "updates"] == 240
    late[6] = moved(late[6], second=4.0)  # after one below: waited for, and 7 after it
    late[7] = moved(late[7], second=3.0)
    table = section("gaming", [record]).table.set_index(["run", "at"])
    assert table.loc[("EasyTune, free", "stop"), "updates"] == (240 + 360) / 2


def test_a_single_run_without_a_pull_says_nothing_of_pulls():
    record = made_studies.gaming(seeds=1)
    del record.study.runs[1:]
    see = section("gaming", [record]).see
    assert "pull to the base" not in see
    assert "1 seed)" in see
    with style.look():
        assert axes_of(figures.gaming(record)) == 4


# The reviewers' questions.


def test_the_reviewers_get_three_answers_with_numbers_and_figures():
    found = section("reviewers", [*every(), aligned("draft", 2.0), aligned("refl", 2.0)])
    assert found.see == "3 of 3 have an answer in these records."
    answers = answers_of(found)
    assert "From the weakest reward" in answers["strength"]
    assert "fell in 4 of 8 long runs" in answers["gaming"]
    assert "0 of 2 methods are flagged (section paths)" in answers["gaming"]
    assert "costs 120 steps after 400" in answers["spl"]


def answers_of(section: sections.Section) -> dict[str, str]:
    """By the section that they come from."""
    return dict(zip(section.table["section"], section.table["answer"], strict=True))


def test_flagged_methods_are_named():
    flagged = aligned("draft:k=10", 2.0)
    flagged = changed(flagged, gain=flagged.alignment.gain | {"fid": interval(1.0)})
    answers = answers_of(section("reviewers", [made_studies.gaming(), flagged]))
    assert "1 of 1 methods are flagged: DRaFT-10 (section paths)" in answers["gaming"]


def test_an_answer_that_is_missing_names_its_command():
    found = section("reviewers", [made_studies.spl()])
    assert found.see == "1 of 3 have an answer in these records."
    assert found.table.set_index("section")["seeds"].dropna().to_dict() == {"spl": 5}
    for name, command in zip(found.table["section"], found.table["command"], strict=True):
        assert command.startswith(f"pytest bench/ -m study --study {name} ")
        assert (answers_of(found)[name] == "nothing yet") == (name != "spl")
    answers = answers_of(section("reviewers", [made_studies.gaming()]))
    assert "The benchmark's runs are not in these records (pytest bench/ -m alignment" in answers["gaming"]


def stepped(spl: bool, batch: int = 10, device: str = "a CPU", **figure: float) -> Record:
    """A row of a step of the reward's training: its `peak`, or its `seconds`."""
    common = {
        "status": "ok",
        "case": described(RewardCase(spl=spl, batch=batch, meter="host")),
        "settings": Settings(False, True, "explicit", "fp32", "AdamW"),
        "environment": Environment(device=device, torch="2.13.0"),
    }
    if "peak" in figure:
        reading = Reading(figure["peak"], 1, 1, 1, 1, dict.fromkeys(PHASES, 1), {})
        return RewardMemoryRecord(**common, simulated=False, reading=reading)
    spread = Spread(figure["seconds"], figure["seconds"], figure["seconds"], 0.0)
    return RewardStepTimeRecord(**common, timing=Timing(1, True, [figure["seconds"]], spread, spread, spread))


def test_the_cost_of_spl_is_read_off_the_rows_of_the_rewards_training():
    rows = [stepped(False, peak=100), stepped(True, peak=150), stepped(False, seconds=1.0), stepped(True, seconds=2.5)]

    def answer(*rows: Record) -> str:
        return answers_of(section("reviewers", [made_studies.spl(), *rows]))["spl"]

    assert "costs 1.500 times the memory and 2.500 times the time of a step" in answer(*rows)
    assert "costs 1.500 times the memory of a step" in answer(*rows[:3])
    for unlike in (stepped(True, peak=150, device="another"), stepped(True, peak=150, batch=64)):
        assert "costs 120 steps after 400" in answer(rows[0], unlike)


def test_rewards_on_real_motion_stand_beside_the_embedded_worlds():
    walks = made_studies.own_retrieval("walks")
    shown = section("real_rewards", [made_studies.spl(), walks])
    assert list(dict.fromkeys(shown.table["motion"])) == ["embedded", "walks"]
    assert set(shown.table["arm"]) == {"pretrained", "control", "spl", "released", "k1"}
    assert re.search(r"by [+-]\d+\.\d ± \d+\.\d \(embedded\), [+-]\d+\.\d ± \d+\.\d \(walks\)\.", shown.see)
    table = shown.table.set_index(["motion", "arm"])
    assert table.loc[("walks", "control"), "R@1 − control"] == ""
    assert table.loc[("walks", "control"), "R@1 of 32"].startswith("4")
    few = made_studies.own_retrieval("few")
    assert len(records.merge([[walks], [few]])) == 2
    for rewards in few.study.rewards.values():
        rewards[:] = [structs.replace(r, retrieval=structs.replace(r.retrieval, pools=None)) for r in rewards]
    assert "(few)" in section("real_rewards", [few]).see


def test_a_world_of_real_motion_is_not_the_embedded_one():
    other = made_studies.spl()
    other = structs.replace(other, case=structs.replace(other.case, world="walks"))
    assert section("spl", [other]).command
    assert "--study retrieval --align-world mine.safetensors" in section("real_rewards", [made_studies.spl()]).command


def test_tiny_rows_say_so_in_sections_and_figures():
    record = made_studies.windows(seeds=1, scale="tiny")
    assert "at the tiny scale" in section("windows", [record]).see
    with style.look():
        texts = [text.get_text() for text in figures.windows(record).texts]
    assert any("tiny scale" in text and "1 seed," in text for text in texts)
    assert "at the tiny scale" in answers_of(section("reviewers", [made_studies.spl(seeds=1, scale="tiny")]))["spl"]
