"""The verdicts C8 and C9 on made-up studies: outcomes each way, paired by seed, and never a tiny one beside a full one;
and what they are read with: paired differences, and where a run is stopped."""

import copy
import random

import made_studies
import pytest
from msgspec import structs, to_builtins

from bench import claims
from bench.alignment import reading
from bench.alignment.studies import TRAINED, trained
from bench.alignment.studies.jobs import Results, Training, Tuned
from bench.claims.rewards import judge_noise_aware, judge_spl, trained_study
from bench.claims.verdict import NotJudgedError, Outcome
from bench.records import decode
from bench.records.types import Interval, Point, TrainedReward
from bench.report import sections, style

SAME = (0.05, 0.05, 0.05, 0.05)


def point(at: float, **metrics: float) -> Point:
    """After `at` trajectories, and as many of every other total."""
    return Point(**dict.fromkeys(reading.TOTALS, at), metrics=metrics)


def cell(numbers, column: str, **where: str) -> str:
    """The one cell of a table in the row that `where` picks."""
    for name, value in where.items():
        numbers = numbers[numbers[name] == value]
    return numbers[column].item()


# What is read off runs.


def test_pairing_takes_off_what_seeds_share():
    ours, theirs = ([{"r1": seed + gain} for seed in (0.1, 0.5, 0.9)] for gain in (0.02, 0.0))
    difference = reading.paired(ours, theirs, "r1")
    assert (difference.mean, difference.half_width) == (pytest.approx(0.02), pytest.approx(0))
    assert reading.of_seeds(ours, "r1").half_width == pytest.approx(4.303 * 0.4 / 3**0.5)  # Student's t, 3 seeds
    assert reading.paired(ours, theirs, "fid") == Interval(None, None)
    with pytest.raises(ValueError, match="zip"):
        reading.paired(ours, theirs[:2], "r1")


@pytest.mark.parametrize(
    ("mean", "half_width", "side"),
    [(0.3, 0.2, 1), (-0.3, 0.2, -1), (0.2, 0.3, 0), (-0.2, 0.3, 0), (0.3, None, 0), (None, None, 0)],
)
def test_a_side_is_taken_by_an_interval_without_0_alone(mean, half_width, side):
    assert reading.side(Interval(mean, half_width)) == side


@pytest.mark.parametrize(
    ("second", "index"),
    [
        ([1, 2, 3, 2, 2, 9], 2),  # stopped before it could see the 9
        ([1, 2, 1, 3, 1, 1], 3),  # one measurement below is waited out
        ([1, 2, 2, 2, 5], 1),  # an equal one has not risen
        ([3, 2, 1], 0),
        ([1, 2, 3, 2], 3),  # never stopped: the end, though it is not the best
        ([1], 0),
    ],
)
def test_a_run_is_stopped_at_its_best_point_once_two_measurements_do_not_rise(second, index):
    curve = [point(n, second=value, reward=-value) for n, value in enumerate(second)]
    assert reading.stopping_point(curve) == index


def test_another_figure_and_patience_can_stop_a_run():
    curve = [point(n, second=9 - n, reward=value) for n, value in enumerate([1, 3, 2, 2, 2])]
    assert reading.stopping_point(curve, "reward", patience=3) == 1
    assert reading.stopping_point(curve, "reward", patience=4) == 4


def test_the_mean_of_curves_is_that_of_every_total_and_every_metric():
    one, other = [point(0, reward=0.0), point(4, reward=1.0)], [point(2, reward=2.0), point(6, reward=1.0)]
    assert reading.mean_curve([one, other]) == [point(1, reward=1.0), point(5, reward=1.0)]


def test_a_figure_is_read_off_a_curve_between_the_points_that_measured_it():
    curve = [point(0, reward=0.0, fid=4.0), point(2, reward=1.0), point(4, reward=5.0, fid=2.0)]
    assert reading.value_at(curve, "trajectories", 3, "reward") == 3.0
    assert reading.value_at(curve, "seconds", 2, "fid") == 3.0
    assert reading.value_at(curve, "trajectories", 3, "updates") == 3.0
    assert reading.value_at(curve, "trajectories", 5, "reward") is None
    assert reading.value_at(curve, "trajectories", 3, "r1") is None
    assert reading.reach(curve, 3.0, "trajectories") == 3.0
    assert reading.reach(curve, 6.0, "trajectories") is None
    assert reading.reach([], 0.0, "trajectories") is None


def test_the_rate_with_the_best_figure_is_chosen_whichever_way_is_better():
    tried = {1e-5: {"mm_dist": 2.0, "r1": 0.3}, 1e-4: {"mm_dist": 1.0, "r1": 0.2}, 1e-3: {"mm_dist": None}, 1e-2: {}}
    assert reading.choose(tried) == 1e-4
    assert reading.choose(tried, "r1") == 1e-5
    assert reading.choose({1e-3: {}}) is None


@pytest.mark.parametrize(
    ("reward", "r1", "mm_dist", "fid", "hacked"),
    [
        (0.2, -0.2, 0.2, 0.2, ["r1", "fid", "mm_dist"]),
        (0.2, 0.2, -0.2, -0.2, []),
        (0.2, -0.05, 0.2, 0.0, ["mm_dist"]),  # the other intervals hold 0
        (0.05, -0.2, 0.2, 0.2, []),  # the reward is not clearly better
    ],
)
def test_hacked_is_what_clearly_falls_while_the_reward_rises(reward, r1, mm_dist, fid, hacked):
    gain = {"reward": reward, "r1": r1, "mm_dist": mm_dist, "fid": fid}
    assert reading.hacked({name: Interval(mean, 0.1) for name, mean in gain.items()}) == hacked


@pytest.mark.parametrize(
    ("t", "degrees", "chance"),  # two-sided, of printed tables
    [(12.706, 1, 0.05), (4.303, 2, 0.05), (9.925, 2, 0.01), (3.182, 3, 0.05), (2.571, 5, 0.05), (3.169, 10, 0.01)],
)
def test_the_tails_of_students_t_are_those_of_printed_tables(t, degrees, chance):
    assert reading.beyond(t, degrees) == pytest.approx(chance, rel=2e-3)
    assert reading.beyond(0, degrees) == pytest.approx(1)


def test_a_difference_is_decided_only_if_it_stands_among_all_that_are_asked():
    """At 3 seeds 4.303 half-widths' standard errors are 5%: 1.2 half-widths are enough alone, not among four."""
    barely, clearly, none = Interval(1.2, 1.0), Interval(-9.0, 1.0), Interval(0.1, 1.0)
    assert reading.decided([barely], 3) == [1]
    assert reading.decided([barely, none, none, none], 3) == [0, 0, 0, 0]
    assert reading.decided([barely, clearly], 3) == [1, -1]  # once the other is decided, it is asked alone
    assert reading.decided([Interval(1.0, None), Interval(None, None), Interval(0.0, 0.0)], 3) == [0, 0, 0]
    assert reading.decided([Interval(1.0, 0.0)], 3) == [1]


def test_simultaneous_intervals_are_as_wide_as_their_number_asks():
    """At 3 seeds Student's t is 4.303 for one comparison, and 9.925 (1%) for each of five."""
    five = [(Interval(0.1, 4.303), 3)] * 5
    assert reading.simultaneous(five[:1])[0].half_width == pytest.approx(4.303, rel=1e-3)
    assert reading.simultaneous(five)[4].half_width == pytest.approx(9.925, rel=1e-3)
    single = (Interval(0.1, None), 1)  # of one seed: it stays, and widens none
    assert reading.simultaneous([*five, single])[3:] == [*reading.simultaneous(five)[3:], single[0]]
    assert reading.simultaneous([(Interval(None, None), 3)]) == [Interval(None, None)]


def test_two_copies_of_one_method_are_told_apart_in_no_more_than_one_family_in_twenty():
    """A placebo: ten seeds of the same distribution, five comparisons a family, 400 families."""
    rng = random.Random(0)
    alarms = 0
    for _ in range(400):
        ours, theirs = ([{str(k): rng.gauss(0, 1) for k in range(5)} for _ in range(10)] for _ in range(2))
        alarms += any(reading.decided([reading.paired(ours, theirs, str(k)) for k in range(5)], 10))
    assert alarms / 400 < 0.05 + 2 * (0.05 * 0.95 / 400) ** 0.5


# C8.


@pytest.mark.parametrize(
    ("noisy", "outcome"),
    [
        ((0.09, 0.05, 0.05, 0.05), Outcome.HOLDS),
        ((0.09, 0.09, 0.05, 0.05), Outcome.HOLDS),
        ((0.09, 0.01, 0.05, 0.05), Outcome.IN_PART),  # another window says the opposite
        (SAME, Outcome.UNDECIDED),
        ((0.05, 0.09, 0.05, 0.05), Outcome.UNDECIDED),  # over all steps nothing is clear
        ((0.01, 0.05, 0.05, 0.05), Outcome.FAILS),
        ((0.01, 0.09, 0.05, 0.05), Outcome.IN_PART),
    ],
)
def test_c8_asks_for_a_paired_gain_over_all_steps_that_no_window_contradicts(noisy, outcome):
    verdict = judge_noise_aware([made_studies.windows({"x0-hat": SAME, "noisy": noisy})])
    assert verdict.outcome is outcome
    assert "Of the embedded world (20 steps, 3 seeds)" in verdict.finding
    favoured = {0.09: "steps 0 to 6 favour the noisy state", 0.01: "steps 0 to 6 favour x̂₀"}.get(noisy[1])
    assert (favoured or "R@1 clearly favours neither") in verdict.finding


def test_c8_says_both_scores_and_their_paired_difference():
    record = made_studies.windows({"x0-hat": SAME, "noisy": (0.08, *SAME[1:])})
    for score, metrics in (("x0-hat", (0.5, 3.0)), ("noisy", (0.6, 2.9))):
        for number, run in enumerate(record.study.runs[score][0]):
            run["r1"], run["mm_dist"] = metrics[0] + number / 10, metrics[1] + number / 10
    verdict = judge_noise_aware([record])
    assert "R@1 0.700 ± 0.248 where the noise-aware" in verdict.finding
    assert "0.600 ± 0.248 where the one-step" in verdict.finding
    assert "+0.100 ± 0.000 paired by seed (published: +0.013)" in verdict.finding
    assert cell(verdict.numbers, "MM-Dist", steps="steps 0 to 19", scored="noisy state − x̂₀") == "-0.100 ± 0.000"
    assert cell(verdict.numbers, "R@1", steps="steps 0 to 19", scored="noisy state − x̂₀") == "+0.100 ± 0.000"
    assert len(verdict.numbers) == 1 + 3 * len(made_studies.WINDOWS)


# C9.


@pytest.mark.parametrize(
    ("gain", "released", "outcome"),
    [
        (2.0, 0.0, Outcome.HOLDS),
        (2.0, -2.0, Outcome.IN_PART),  # as released it does the opposite
        (0.0, 2.0, Outcome.UNDECIDED),
        (-2.0, 0.0, Outcome.FAILS),
    ],
)
def test_c9_asks_for_a_gain_over_as_many_steps_without_spl(gain, released, outcome):
    verdict = judge_spl([made_studies.spl(gain, released)])
    assert verdict.outcome is outcome
    assert "Of the embedded world (20 steps, 5 seeds)" in verdict.finding


def test_c9_counts_nothing_that_the_control_gains_as_well():
    """The control is two points above the pre-trained reward: SPL that only equals it has not helped."""
    verdict = judge_spl([made_studies.spl(gain=0.0, released=0.0)])
    assert verdict.outcome is Outcome.FAILS
    assert cell(verdict.numbers, "R@1", arm="spl − pretrained").startswith("+")


def test_c9_tells_pairs_pools_and_what_alignment_gains():
    record = made_studies.spl()
    for gain, arm in enumerate(("control", "spl")):
        for seed, reward in enumerate(record.study.rewards[arm]):
            reward.retrieval.all["text_to_motion"]["R@1"] = 30.0 + gain + seed
            reward.retrieval.pools["text_to_motion"]["R@1"] = 2 * (30.0 + gain + seed)
            record.study.rewards[arm][seed] = structs.replace(
                reward, training=structs.replace(reward.training, mined=0.25)
            )
        for run in record.study.runs[arm]:
            run["r1"] = 0.5 + 0.1 * gain
    verdict = judge_spl([record])
    assert "by +1.00 ± 0.00 points against as many steps without it" in verdict.finding
    assert cell(verdict.numbers, "R@1", arm="control") == "32.00 ± 1.96"
    assert "25.0% of texts gave a pair" in verdict.finding
    assert "the evaluator's R@1 is +0.100 ± 0.000 against" in verdict.finding
    assert cell(verdict.numbers, "R@1 of 32", arm="spl − control") == "+2.00 ± 0.00"
    assert cell(verdict.numbers, "EasyTune: R@1", arm="spl − control") == "+0.100 ± 0.000"
    assert cell(verdict.numbers, "EasyTune: R@1", arm="released") == ""


def test_too_few_motions_for_pools_leave_their_cells_empty():
    record = made_studies.spl()
    for rewards in record.study.rewards.values():
        rewards[:] = [
            structs.replace(reward, retrieval=structs.replace(reward.retrieval, pools=None)) for reward in rewards
        ]
    numbers = judge_spl([record]).numbers
    assert set(numbers["R@1 of 32"]) == {""}
    assert "" not in set(numbers["R@1"])


# Which row is judged.


class MadeUp:
    """Work that is not done: made-up results."""

    def run(self, work: list, *, stopped: bool = False) -> Results:
        trained = {one: self.reward(one) for one in work if isinstance(one, Training)}
        return Results(trained, {one: self.tuned(one) for one in work if one not in trained})

    def reward(self, work: Training) -> TrainedReward:
        mined = 0.5 if work.reward and work.reward.spl else None
        return made_studies.trained(30.0, 0, [made_studies.retrieval(10.0) for _ in work.levels], mined)

    def tuned(self, work) -> Tuned:
        (final,) = made_studies.runs(0.5, seeds=1)
        points = made_studies.gaming(points=len(work.measured) + 1).study.runs[0].curves[0]
        return Tuned(points if work.measured else [], final)


def keys(value: object) -> object:
    """A study's layout: keys, and of lists the first entry's."""
    if isinstance(value, dict):
        return {name: keys(of) for name, of in value.items()}
    return [keys(value[0])] if isinstance(value, list) and value else type(value) in (int, float)


@pytest.mark.parametrize("scale", trained.SCALES)
@pytest.mark.parametrize("name", ["windows", "feature_noise", "spl", "strength", "gaming"])
def test_made_up_rows_are_laid_out_as_the_studies_lay_theirs_and_both_are_read(name, scale):
    study = TRAINED[name](MadeUp(), trained.SCALES[scale])
    assert keys(to_builtins(study)) == keys(to_builtins(getattr(made_studies, name)().study))
    row = made_studies.row(study, scale)
    assert decode(to_builtins(row)) == row, "what the loader asks of a study is what the studies write"
    report = sections.build([row])
    asked = set() if name in ("windows", "feature_noise") else {"reviewers"}
    asked |= {"settings"} if name in ("strength", "gaming") and scale != "tiny" else set()
    assert {s.name for s in report.sections if s.see} == {name} | asked
    shown = next(s for s in report.sections if s.name == name)
    assert ("at the tiny scale" in shown.see + shown.note) == (scale == "tiny")
    with style.look():
        shown.figure()


@pytest.mark.parametrize("scale", trained.SCALES)
def test_settings_are_laid_out_alike_and_shown_but_at_the_tiny_scale(scale):
    study = TRAINED["settings"](MadeUp(), trained.SCALES[scale])
    assert keys(to_builtins(study)) == keys(to_builtins(made_studies.settings().study))
    row = made_studies.row(study, scale)
    assert decode(to_builtins(row)) == row
    table = sections.settings([row]).table
    assert table is None if scale == "tiny" else len(table) == 13


def test_a_study_of_more_seeds_is_read_before_others():
    """Of the scale reference."""
    rows = [made_studies.windows(scale=scale) for scale in ("tiny", "full", "reference")]
    assert all(trained_study(several, "windows") == rows[2] for several in (rows, rows[::-1]))


@pytest.mark.parametrize(("make", "judge"), [(made_studies.windows, judge_noise_aware), (made_studies.spl, judge_spl)])
def test_a_tiny_row_is_judged_where_there_is_no_full_one_and_said_to_be_tiny(make, judge):
    tiny, full = make(seeds=1, scale="tiny"), make()
    alone = judge([tiny])
    assert alone.words == "undecided here"  # one seed tells nothing apart
    assert "1 seed, at the tiny scale, which shows that it runs and no more" in alone.finding
    for records in ([tiny, full], [full, tiny]):
        assert judge(records).finding == judge([full]).finding
    assert "tiny" not in judge([full]).finding


def test_failed_and_missing_rows_are_not_judged_and_the_command_is_named():
    failed = structs.replace(made_studies.windows(), status="failed", study=None)
    with pytest.raises(NotJudgedError, match=r"study windows .*-m study --study windows"):
        judge_noise_aware([failed, made_studies.spl()])
    assert trained_study([failed, made_studies.windows(scale="tiny")], "windows").case.id == "windows-tiny"
    verdicts = {verdict.claim: verdict for verdict in claims.judge([])}
    assert "study spl" in verdicts["C9"].finding


@pytest.mark.parametrize(("claim", "name"), [("C8", "windows"), ("C9", "spl")])
def test_the_claims_judge_and_their_commands_run_the_study(claim, name):
    records = [getattr(made_studies, name)()]
    before = copy.deepcopy(records)
    verdict = next(v for v in claims.judge(records) if v.claim == claim)
    assert verdict.outcome is not Outcome.NOT_JUDGED
    assert verdict.provenance == "embedded world, CPU: a CPU, torch 2.13.0"
    assert records == before
    command = next(c for c in claims.CLAIMS if c.id == claim).command
    run = f"pytest bench/ -m study --study {name} --benchmark-json=run.json"
    assert command == f"{run} && python -m bench.report run.json"
