"""The verdicts on alignment: what the rows say, no more, and never as if it were of the published model."""

import pytest
from msgspec import structs

from bench import claims, tables
from bench.alignment import reading
from bench.cases import alignment_id
from bench.claims.alignment import (
    FASTER,
    LESS_WORK,
    NOISE_AWARE,
    aligned,
    beside_published,
    gained,
    judge_alignment,
    time_to_reward,
    to_levels,
)
from bench.claims.verdict import HERE, NotJudgedError, Outcome
from bench.motion.metrics import METRICS
from bench.records import AlignmentRecord
from bench.records.types import (
    Alignment,
    AlignmentCase,
    AlignmentMemory,
    AlignmentSettings,
    Environment,
    Interval,
    Point,
    ToReach,
    TriedRate,
)
from bench.report import figures, sections
from bench.report import rows as pick

SETTINGS = AlignmentSettings(
    reward_frozen=True,
    train_mode=False,
    attention="explicit",
    precision="fp32",
    steps=20,
    batch=16,
    prompts=1024,
    warm_up=5,
    trajectories=2,
    measured=(),
    selection=1,
    grid=(1e-4,),
    validation=64,
    test=256,
    repeats=3,
    optimizer="AdamW",
    threads=1,
    world=None,
)


def interval(mean: float) -> Interval:
    return Interval(mean, 0.01)


def row(
    method: str, mm_dist: float, r1: float = 0.5, fid: float = 1.0, seconds: float | None = 10.0, **case
) -> AlignmentRecord:
    final = {name: interval(1.0) for name in METRICS}
    final |= {"mm_dist": interval(mm_dist), "r1": interval(r1), "fid": interval(fid), "reward": interval(0.9)}
    spent, ours = (seconds or 10.0) / 2, {"mm_dist": mm_dist}
    start, end = (
        Point(n, n, 16 * n, spent * n, spent * n, {"reward": 0.5 + n / 10, "r1": 0.4, "fid": 2 - n / 4, **ours})
        for n in (0, 2)
    )
    means = {name: value.mean for name, value in final.items()}
    spread = 0.003 if method.startswith("easytune") else -0.003  # what pairs of seeds do not share
    finals = [{name: mean + (seed - 1) * spread for name, mean in means.items()} for seed in range(3)]
    case = {"method": method, "world": "embedded", "steps": 20, "batch": 16, "size": "full", "seeds": 3} | case
    return AlignmentRecord(
        status="ok",
        case=AlignmentCase(**case, id=alignment_id(**case)),
        plan=None,
        settings=SETTINGS,
        environment=Environment(device="a CPU", torch="2.13.0"),
        alignment=Alignment(
            method=method,
            lr=1e-4,
            grid=[1e-4],
            at_edge=None,
            lr_by_reward=1e-4,
            selection=[TriedRate(1e-4, means)],
            seeds=[0, 1, 2],
            curves=[[start, end] for _ in range(3)],
            finals=finals,
            bases=[means] * 3,
            real=dict.fromkeys(final, 0.9),
            motions=[],
            memory=AlignmentMemory(2**27, 2**24, 2**25, "live bytes"),
            clock="CPU seconds",
            final=final,
            base=final,
            gain={**{name: interval(0.0) for name in final}, "reward": interval(0.1)},
            to_reach=ToReach("draft", 0.7, 2.0, seconds, 2**27, None),
        ),
    )


def changed(record: AlignmentRecord, **alignment) -> AlignmentRecord:
    """With other results."""
    return structs.replace(record, alignment=structs.replace(record.alignment, **alignment))


def moved(point: Point, **totals: float) -> Point:
    """With other totals, or other metrics."""
    metrics = {name: totals.pop(name) for name in [*totals] if name not in reading.TOTALS}
    return structs.replace(point, **totals, metrics=point.metrics | metrics)


BASELINES = [row("draft", 2.0), row("alignprop", 2.0), row("drtune:k=4", 2.0)]


@pytest.mark.parametrize(
    ("easytune", "outcome"),
    [
        (row("easytune", 1.8, r1=0.6, fid=0.8), Outcome.HOLDS),
        (row("easytune", 1.8, r1=0.5, fid=1.0), Outcome.UNDECIDED),
        (row("easytune", 1.8, r1=0.6, fid=1.2), Outcome.FAILS),  # one clear loss
        (row("easytune", 1.97, r1=0.53, fid=0.97), Outcome.UNDECIDED),  # clear alone, not among seven comparisons
    ],
)
def test_c4_needs_clear_differences(easytune, outcome):
    verdict = judge_alignment([*BASELINES, easytune])
    assert verdict.outcome is outcome
    assert (verdict.words, verdict.here) == (HERE[outcome], "embedded world")
    assert "not of the published model" in verdict.finding
    assert set(verdict.numbers["method"]) == {"draft", "alignprop", "drtune:k=4", "easytune"}


def test_c4_holds_or_not_where_a_published_world_was_run_whatever_the_embedded_one_says():
    worse = [*BASELINES, row("easytune", 2.2, r1=0.4, fid=1.2)]
    published = [
        structs.replace(r, case=structs.replace(r.case, world="published:humanml3d"))
        for r in (*BASELINES, row("easytune", 1.8, r1=0.6, fid=0.8))
    ]
    verdict = judge_alignment([*published, *worse])
    assert (verdict.words, verdict.here) == ("holds", "")
    assert "Of the published:humanml3d world" in verdict.finding
    assert "not of the published model" not in verdict.finding
    assert pick.aligned([*published, *worse]) == list(aligned([*published, *worse]).values())
    assert "differ" in sections.published(worse).see
    assert "differ" not in sections.published(published).see
    assert sections.real_motion(published).table is None


def test_c4_is_decided_by_the_noise_aware_reward_where_there_is_one():
    worse = row("easytune", 2.2, r1=0.4, fid=1.2)
    verdict = judge_alignment([*BASELINES, worse, row("easytune:score=noisy", 1.8, r1=0.6, fid=0.8)])
    assert verdict.outcome is Outcome.HOLDS
    assert "With the one-step prediction it is 2.200" in verdict.finding


def test_the_full_size_counts_before_a_quick_look():
    quick = [row(method, 9.0, size="quick") for method in ("draft", "easytune")]
    assert aligned([*BASELINES, row("easytune", 1.0), *quick])["easytune"].case.size == "full"
    assert aligned(quick)["easytune"].case.size == "quick"
    with pytest.raises(NotJudgedError):
        aligned(BASELINES)


def test_rows_of_two_places_or_worlds_are_never_compared():
    elsewhere = {"environment": Environment(device="another CPU", torch="2.13.0")}
    of_another_world = {"settings": structs.replace(SETTINGS, world="f00d")}
    for unlike in (elsewhere, of_another_world):
        ours = structs.replace(row("easytune", 1.0), **unlike)
        with pytest.raises(NotJudgedError, match="of one size, device and world"):
            aligned([*BASELINES, ours])
        mixed = [structs.replace(row("draft", 2.0), **unlike), *BASELINES, row("easytune", 1.0), ours]
        assert aligned(mixed) == {r.case.method: r for r in (*BASELINES, row("easytune", 1.0))}
        assert list(aligned(mixed).values()) == pick.aligned(mixed)


def test_c3_is_also_read_as_time_to_levels_of_the_reward():
    """DRaFT-T goes from 0.5 to 0.7 in 10 s; this one in 4 s, or to half of the way in 10."""
    result = time_to_reward([*BASELINES, row("easytune", 1.0, seconds=4.0)])
    assert result["level"].tolist() == pytest.approx([0.55, 0.6, 0.65, 0.7])
    assert result["s"].tolist() == pytest.approx([1, 2, 3, 4])
    assert result[FASTER].tolist() == pytest.approx([2.5] * 4)
    slow = row("easytune", 1.0)
    slow = changed(slow, curves=[[run[0], moved(run[1], reward=0.6)] for run in slow.alignment.curves])
    assert time_to_reward([*BASELINES, slow])[FASTER].isna().tolist() == [False, False, True, True]
    assert time_to_reward([]).empty


def test_levels_are_of_the_evaluator_too_where_draft_gains_by_it():
    rows = [row("draft", 2.0), row("easytune", 1.0)]
    rows = [
        changed(r, curves=[[moved(run[0], mm_dist=3.0), moved(run[1], mm_dist=end)] for run in r.alignment.curves])
        for r, end in zip(rows, (2.0, 1.0), strict=True)
    ]
    result = to_levels(rows, rows)
    own = result[(result["method"] == "easytune") & (result["level of"] == "MM-Dist")]
    assert own["level"].tolist() == pytest.approx([2.75, 2.5, 2.25, 2.0])
    assert own[FASTER].tolist() == pytest.approx([2.0] * 4)  # twice as far in the same time
    assert set(to_levels(BASELINES, BASELINES)["level of"]) == {"reward"}  # MM-Dist stays where it was
    assert to_levels([row("easytune", 1.0)], []).empty


def test_flops_to_a_level_are_an_updates_times_the_trajectories_from_whichever_row_counted_them():
    """DRaFT-T's updates take 4 TFLOPs and EasyTune's 1: at equal trajectories a quarter of the work."""
    rows = [row("draft", 2.0), row("easytune", 1.0)]
    counted = [changed(row(r.case.method, 9.0, size="quick"), flops=f) for r, f in zip(rows, (4e12, 1e12), strict=True)]
    assert not {"TFLOPs", LESS_WORK} & set(to_levels(rows, rows))
    for records in (counted, [*rows, *counted]):
        result = to_levels(rows, records).set_index(["method", "share of DRaFT-T's gain"])
        assert result.loc[("draft", "50%"), "TFLOPs"] == pytest.approx(4.0)
        assert result.loc[("easytune", "50%"), "TFLOPs"] == pytest.approx(1.0)
        assert set(result.loc["easytune", LESS_WORK]) == {4.0}
    elsewhere = [structs.replace(r, case=structs.replace(r.case, batch=4)) for r in counted]
    assert LESS_WORK not in to_levels(rows, elsewhere), "updates of another size"
    assert LESS_WORK in time_to_reward([*rows, *counted])
    assert "4.00 times fewer FLOPs" in sections.reward_levels([*rows, *counted]).see


def test_gains_are_of_each_seeds_own_cost_and_their_intervals_hold_at_once():
    """Of one method and two figures: as wide as two comparisons ask, by Student's t of 2 degrees of freedom."""
    ours = row("easytune", 1.0)  # 128 MiB and 10 seconds
    finals = [final | {"r1": 0.5 + gain} for final, gain in zip(ours.alignment.finals, (0.1, 0.2, 0.3), strict=True)]
    (found,) = gained([changed(ours, finals=finals, bases=[{**final, "r1": 0.5} for final in finals])])
    assert found["r1", ""].mean == pytest.approx(0.2)
    assert found["r1", ""].half_width == pytest.approx(6.205 * 0.1 / 3**0.5, rel=1e-3)
    assert found["r1", " per GiB"].mean == pytest.approx(0.2 * 8)
    assert found["r1", " per minute"].mean == pytest.approx(0.2 * 6)
    assert found["reward", ""].mean == pytest.approx(0)


def test_the_report_draws_alignment_and_says_who_was_hacked():
    rows = [*BASELINES, row("easytune", 1.0)]
    rows[0] = changed(rows[0], gain=rows[0].alignment.gain | {"fid": interval(0.5)})
    for make, axes in ((sections.alignment, 12), (sections.paths, 3), (sections.pareto, 4)):
        section = make(rows)
        assert len(section.figure().axes) == axes
    assert "Flagged for reward hacking" in sections.paths(rows).see
    assert "FID" in sections.paths(rows).see
    assert sections.alignment([]).command == claims.ALIGN_COMMAND
    rows[0] = changed(rows[0], gain=rows[0].alignment.gain | {"fid": interval(0.0)})
    assert "No method is flagged" in sections.paths(rows).see
    assert figures.pareto(rows) is not None


def test_curves_have_the_seeds_interval_as_a_band():
    ours = row("easytune", 1.0)
    for seed, run in enumerate(ours.alignment.curves):
        ours.alignment.curves[seed] = [run[0], moved(run[1], reward=0.7 + seed / 10)]
    rows = [*BASELINES, ours]
    bands = [band.get_paths()[0].vertices for band in figures.curves(rows).axes[0].collections]
    assert len(bands) == len(rows)
    at_the_end = bands[-1][bands[-1][:, 0] == 2, 1]
    half_width = 4.303 * 0.1 / 3**0.5
    assert (at_the_end.min(), at_the_end.max()) == (pytest.approx(0.8 - half_width), pytest.approx(0.8 + half_width))


def test_equal_time_ends_with_the_first_run_and_equal_trajectories_with_all():
    slow, fast = row("draft", 2.0, seconds=20.0), row("easytune", 1.0, seconds=5.0)
    fast.alignment.curves[1] = [moved(point, cpu_seconds=2 * point.trajectories) for point in fast.alignment.curves[1]]
    result = tables.at_equal_cost([slow, fast]).set_index(["at", "method"])
    assert result.loc[("2 trajectories", "draft"), "reward"] == "0.700 ± 0.000"
    assert result.loc[("4 s", "draft"), "trajectories"] == pytest.approx(0.4)  # a fifth of its 20 s
    assert result.loc[("4 s", "draft"), "FID"] == "1.900 ± 0.000"
    assert result.loc[("4 s", "easytune"), "trajectories"] == pytest.approx((1.6 + 2 + 1.6) / 3)
    assert sections.equal([slow, fast]).table is not None


def test_changes_stand_beside_the_published_ones_in_percent_of_their_own_base():
    ours = row("easytune:score=noisy", 1.0)
    base, gain = ours.alignment.base, ours.alignment.gain
    ours = changed(ours, base=base | {"fid": Interval(4.0, 0.5)}, gain=gain | {"fid": Interval(-1.0, 0.2)})
    result = beside_published([*BASELINES, row("draft:k=10", 2.0), row("easytune", 1.0), ours]).set_index("method")
    assert result.loc["easytune:score=noisy", "FID, here, %"] == "-25.0 ± 5.0"
    assert result.loc["easytune:score=noisy", "FID, paper, %"] == "-70.7"  # 0.132 of 0.450
    assert result.loc["easytune:score=noisy", "R@1, paper, %"] == "+15.3"  # 0.581 of 0.504
    assert result.loc["easytune", "R@1, paper, %"] == "+12.7"  # 0.568 of 0.504
    assert result.loc["easytune", "FID, paper, %"] == ""  # not given for the one-step prediction
    assert result.loc["drtune:k=4", "MM-Dist, paper, %"] == "-8.4"  # 2.795 of 3.052
    assert result.loc["draft:k=10", "FID, paper, %"] == ""  # the paper has DRaFT-50 alone


def test_rows_of_real_motion_stand_in_a_section_of_their_own():
    real = [row(method, 3.0, world="cmu") for method in ("draft:k=10", "easytune")]
    embedded = [*BASELINES, row("easytune", 1.0)]
    assert pick.aligned([*real, *embedded]) == embedded
    assert set(aligned([*real, *embedded])) == {ours.case.method for ours in embedded}
    section = sections.real_motion([*real, *embedded])
    assert set(section.table["motion"]) == {"cmu"}
    assert {"draft:k=10", "easytune", "base", "real data"} == set(section.table["method"])
    assert "rank no methods" in section.see
    assert "cannot judge" not in section.see
    real[0].alignment.real["r1"] = 0.1  # the base's is 0.5
    assert "The evaluator of cmu gives real motion a lower R@1" in sections.real_motion([*real]).see
    assert sections.real_motion(embedded).command


def test_a_world_over_frames_is_told_from_one_of_latents_and_its_memory_is_compared():
    """Of the same motion."""
    rows = [row(method, 3.0, world=world) for method in ("draft:k=10", NOISE_AWARE) for world in ("cmu", "cmu-mdm")]
    rows[1] = changed(rows[1], memory=structs.replace(rows[1].alignment.memory, peak=7 * rows[1].alignment.memory.peak))
    section = sections.real_motion(rows)
    assert "In cmu-mdm a small MDM denoises the frames themselves" in section.see
    assert "DRaFT-10 takes 1.0 (cmu), 7.0 (cmu-mdm) times EasyTune's memory" in section.see
    assert set(section.table["motion"]) == {"cmu", "cmu-mdm"}
    assert "frames themselves" not in sections.real_motion(rows[::2]).see


def test_rows_of_two_sizes_are_never_shown_together():
    quick = [row(method, 9.0, size="quick") for method in ("draft", "refl", "easytune", "drtune:k=4", "alignprop")]
    quick = [
        changed(
            structs.replace(ours, settings=structs.replace(SETTINGS, trajectories=1)),
            curves=[[run[0], moved(run[1], trajectories=1)] for run in ours.alignment.curves],
        )
        for ours in quick
    ]
    full = [*BASELINES, row("easytune", 1.0)]
    failed = structs.replace(row("refl", 1.0), status="failed", reason="no rate trains it", alignment=None)
    records = [*quick, *full, failed]
    assert pick.aligned(records) == full
    shown = sections.alignment(records).table
    assert len(shown) == len(full) + 3  # real data, the base, and the row that failed
    assert shown["reason"].dropna().tolist() == ["no rate trains it"]


@pytest.mark.parametrize(
    ("mean", "half_width", "form", "text"),
    [
        (0.6123, 0.0139, ".3f", "0.612 ± 0.014"),
        (0.6123, None, ".3f", "0.612"),
        (None, None, ".3f", ""),
        (3.14, 0.51, "+.1f", "+3.1 ± 0.5"),
    ],
)
def test_an_interval_is_told_in_one_way(mean, half_width, form, text):
    assert tables.interval(Interval(mean, half_width), form) == text


def test_rows_come_in_the_methods_order_whatever_ran_first():
    names = ["draft", "draft:k=10", "drtune:k=4", "refl", "easytune", "easytune:score=noisy"]
    ran = [row(name, 1.0) for name in reversed(names)]
    assert [ours.case.method for ours in pick.aligned(ran)] == names
