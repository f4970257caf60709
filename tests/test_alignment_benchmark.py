"""The alignment benchmark: what is read off curves by hand-made numbers, measuring, and the command at a tiny size."""

import json
import math
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from alignment_worlds import untrained_world
from bench_command import bench_here
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from bench import records, tables
from bench.alignment import benchmark, reading
from bench.alignment.benchmark import SIZES, AlignmentCase, compared, to_reach
from bench.alignment.benchmark.jobs import Train
from bench.alignment.evaluate import evaluate, evaluate_real
from bench.lane import Desk
from bench.motion.metrics import METRICS
from bench.records import AlignmentRecord
from bench.records.make import to_json
from bench.records.types import Alignment, AlignmentMemory, Interval, Point, TriedRate
from methods.errors import InputError

ROOT = Path(__file__).parent.parent


def curve(*rewards: float, every: int = 2, seconds: float = 1.5) -> list[Point]:
    """Points of a run that is measured every so many trajectories."""
    return [
        Point(every * i, every * i, every * i, every * i * seconds, every * i * seconds, {"reward": reward})
        for i, reward in enumerate(rewards)
    ]


class TestReading:
    def test_time_to_a_reward_is_linear_between_points(self):
        points = curve(0.1, 0.3, 0.2, 0.6)
        assert reading.reach(points, 0.2, "trajectories") == pytest.approx(1)
        assert reading.reach(points, 0.3, "trajectories") == pytest.approx(2)  # the first time, though it falls again
        assert reading.reach(points, 0.5, "cpu_seconds") == pytest.approx((4 + 2 * 0.75) * 1.5)
        assert reading.reach(points, 0.1, "trajectories") == 0
        assert reading.reach(points, 0.61, "trajectories") is None

    def test_what_is_never_reached_is_said(self):
        reached = to_reach([curve(0.1, 0.2), curve(0.1, 0.4)], peak=5, target=0.31)
        assert (reached.trajectories, reached.seconds, reached.peak_bytes) == (None, None, None)
        assert reached.note == "never reached in 2 trajectories: 0.300 at best"
        assert "draft was not run" in to_reach([curve(0.1, 0.2)], peak=5, target=None).note

    def test_what_is_reached_has_its_costs(self):
        reached = to_reach([curve(0.1, 0.2), curve(0.1, 0.4)], peak=5, target=0.2)
        assert (reached.trajectories, reached.seconds, reached.peak_bytes) == (
            pytest.approx(1),
            pytest.approx(1.5),
            5,
        )
        assert reached.note is None

    def test_equal_time_is_read_off_the_curve_and_not_beyond_it(self):
        points = curve(0.1, 0.3, 0.7)
        assert reading.value_at(points, "cpu_seconds", 4.5, "reward") == pytest.approx(0.5)
        assert reading.value_at(points, "cpu_seconds", 6.0, "reward") == pytest.approx(0.7)
        assert reading.value_at(points, "cpu_seconds", 6.1, "reward") is None

    def test_the_lowest_mm_dist_chooses_the_rate_and_an_edge_is_said(self):
        grid = (1e-5, 1e-4, 1e-3)
        tried = {lr: {"mm_dist": far, "reward": r} for lr, far, r in zip(grid, (5, 4, 6), (0.1, 0.2, 0.3), strict=True)}
        assert reading.choose(tried) == 1e-4
        assert reading.choose(tried, "reward") == 1e-3
        assert reading.choose({lr: {"mm_dist": 4.0} for lr in grid}) == 1e-5
        assert reading.choose({1e-5: {}, 1e-4: {"mm_dist": 4.0}}) == 1e-4
        assert reading.choose({lr: {} for lr in grid}) is None
        assert [reading.edge(lr, grid) for lr in grid] == ["lowest", None, "highest"]

    @given(st.lists(st.floats(0.1, 1), min_size=6, max_size=6), st.integers(0, 5), st.integers(0, 5))
    def test_the_search_finds_the_best_rate_of_a_grid_that_rises_and_falls(self, steps, best, failing):
        grid = benchmark.GRID
        heights = [sum(steps[min(at, best) : max(at, best)]) for at in range(len(grid))]
        tried: dict[float, dict] = {}
        while rates := reading.untried(tried, grid, 1e-5):
            for lr in rates:
                at = grid.index(lr)
                tried[lr] = {} if at > max(failing, best) else {"mm_dist": heights[at]}
        assert reading.choose(tried) == grid[best]
        assert len(tried) <= max(3, abs(best - grid.index(1e-5)) + 3)

    def test_the_search_goes_down_while_no_rate_trains_and_ends_at_the_lowest(self):
        failed: dict[float, dict] = {}
        asked = []
        while rates := reading.untried(failed, benchmark.GRID, 1e-5):
            asked.append(rates)
            failed |= {lr: {} for lr in rates}
        assert asked == [[1e-5, 3e-5], [3e-6], [1e-6]]

    def test_intervals_over_seeds_are_students(self):
        values = [0.5, 0.6, 0.75]
        reached = reading.over_seeds(values)
        assert reached.mean == pytest.approx(statistics.fmean(values))
        assert reached.half_width == pytest.approx(4.303 * statistics.stdev(values) / math.sqrt(3))
        assert reading.over_seeds([0.5]) == Interval(0.5, None)
        assert reading.over_seeds([0.5, None]) == Interval(None, None)

    @pytest.mark.parametrize(
        ("changed", "worse"),
        [
            ({}, []),
            ({"r1": -0.05}, ["r1"]),
            ({"r1": -0.01}, []),  # inside the interval
            ({"fid": 0.2, "mm_dist": 0.5}, ["fid", "mm_dist"]),
            ({"fid": -0.5, "mm_dist": -1.0, "r1": 0.3}, []),
            ({"reward": 0.04, "fid": 8.0}, []),  # the reward's interval holds 0
        ],
    )
    def test_reward_hacking(self, changed, worse):
        widths = {"reward": 0.05, "r1": 0.02, "fid": 0.1, "mm_dist": 0.2}
        gain = {**dict.fromkeys(widths, 0.0), "reward": 0.2, **changed}
        assert reading.hacked({name: Interval(gain[name], widths[name]) for name in gain}) == worse


def row(method: str) -> AlignmentRecord:
    """A record of made-up runs."""
    case = AlignmentCase(method, "tiny", seeds=2)
    base = dict.fromkeys(METRICS, 0.5)
    curves = [curve(0.1, 0.3), curve(0.1, 0.4)]
    finals = [base | {"reward": 0.8, "fid": 0.9}, base | {"reward": 0.81, "fid": 0.9}]
    bases = [base, base | {"reward": 0.52}]
    result = Alignment(
        method=case.method,
        lr=1e-5,
        grid=[1e-5, 1e-3],
        at_edge="lowest",
        lr_by_reward=1e-5,
        selection=[TriedRate(1e-5, base), TriedRate(1e-3, {}, "diverged")],
        seeds=[0, 1],
        curves=curves,
        finals=finals,
        bases=bases,
        real=base | {"multimodality": None},
        motions=[],
        memory=AlignmentMemory(3 * 2**20, 1, 2, benchmark.MEMORY),
        clock=benchmark.CLOCK,
        **compared(finals, bases),
        to_reach=to_reach(curves, 3 * 2**20, 0.35),
    )
    return benchmark.made(case, Path("none"), "ok", alignment=result)


def test_a_row_says_edge_gain_and_hacking_and_survives_json(tmp_path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"benchmarks": [{"extra_info": to_json(row("easytune"))}]}))
    (loaded,) = records.load(path)
    assert loaded == row("easytune")
    result = loaded.alignment
    assert reading.hacked(result.gain) == ["fid"]
    assert result.gain["reward"].mean == pytest.approx(0.295)
    assert result.to_reach.trajectories == pytest.approx(2)
    failed = benchmark.made(AlignmentCase("refl:m=2", "tiny"), Path("none"), "failed", "no rate trains it")
    shown = tables.text(tables.alignment([loaded, failed]))
    for words in ("real data", "base", "1e-05 (lowest of the grid)", "0.805 ± 0.064", "FID", "no rate trains it"):
        assert words in shown


def test_an_edited_row_is_refused(tmp_path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"benchmarks": [{"extra_info": {**to_json(row("easytune")), "alignment": None}}]}))
    with pytest.raises(records.RecordError, match="no figures"):
        records.load(path)


class TestMeasuring:
    def test_the_same_arguments_give_the_same_numbers_and_nothing_is_left_changed(self):
        points = untrained_world()
        points.reward.train()
        torch.manual_seed(7)
        before = torch.get_rng_state()
        first = evaluate(points, "test", 32, repeats=2, steps=2)
        assert torch.equal(torch.get_rng_state(), before)
        assert points.reward.training
        torch.manual_seed(8)
        assert evaluate(points, "test", 32, repeats=2, steps=2) == first
        assert evaluate(points, "test", 32, repeats=2, steps=2, seed=1) != first
        assert set(first) == set(METRICS)

    def test_another_denoiser_is_measured_in_place_of_the_worlds(self):
        points = untrained_world()
        kept = points.backbone.denoiser
        other = untrained_world().backbone.denoiser
        with torch.no_grad():
            for weight in other.parameters():
                weight.add_(0.1)
        assert evaluate(points, "val", 32, 1, steps=2, denoiser=other) != evaluate(points, "val", 32, 1, steps=2)
        assert points.backbone.denoiser is kept

    def test_real_motions_have_no_multimodality(self):
        reached = evaluate_real(untrained_world(), "val", 32)
        assert math.isnan(reached["multimodality"].mean)
        assert all(math.isfinite(reached[name].mean) for name in METRICS if name != "multimodality")

    def test_no_repeats(self):
        with pytest.raises(InputError, match="repeats must be at least 1, not 0"):
            evaluate(untrained_world(), repeats=0)


class TestCases:
    def test_ids_are_stable(self):
        assert AlignmentCase("draft:k=10", "full").id == "draft-k10-embedded-T20-B16-full"
        assert AlignmentCase("easytune:mode=step", "full", 5).id == "easytune-embedded-T20-B16-full-5seeds"

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("ppo",), "unknown method 'ppo'"),
            (("draft", "huge"), "unknown alignment size 'huge': choose one of full, quick, tiny"),
            (("draft", "tiny", 0), "between 1 and 10, not 0"),
            (("draft:k=99", "tiny"), "k must be"),
        ],
    )
    def test_bad_input(self, arguments, words):
        with pytest.raises(InputError, match=words):
            AlignmentCase(*arguments)

    def test_the_published_rate_is_in_every_grid_and_methods_are_those_of_the_table(self):
        assert all(1e-5 in size.grid for size in SIZES.values())
        families = sorted(method.partition(":")[0] for method in benchmark.METHODS)
        assert families == ["alignprop", "draft", "draft", "drtune", "easytune", "easytune", "refl"]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "bench/test_alignment.py", "-p", "no:cacheprovider", *arguments]


def bench(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("world") / "world.safetensors"
    untrained_world().save(path)
    return path


def tiny(weights: Path, result: Path) -> list[str]:
    options = ["--align", "tiny", "--align-seeds", "1", "--align-world", str(weights), "--method", "draft"]
    return [*options, f"--benchmark-json={result}"]


@pytest.fixture(scope="module")
def whole(weights, tmp_path_factory) -> tuple[list[AlignmentRecord], str]:
    """What the command measures of two methods, and what it prints, without workers."""
    result = tmp_path_factory.mktemp("whole") / "run.json"
    done = bench_here(*tiny(weights, result), "--method", "refl:m=2", "-k", "test_alignment.py", "-v")
    assert done.returncode == 0, done.stdout + done.stderr
    return records.load(result), done.stdout


def test_the_command_at_a_tiny_size(whole):
    """Its table and records; methods share the base, the real data and the reward that is to be reached."""
    (draft, refl), printed = whole
    points = draft.alignment
    assert [point.trajectories for point in points.curves[0]] == [0, 1, 2]
    assert points.to_reach.reward == pytest.approx(reading.mean_curve(points.curves)[-1].metrics["reward"])
    assert {rate.lr for rate in points.selection} == set(SIZES["tiny"].grid)
    assert points.at_edge  # both of two
    assert "of the grid)" in printed
    assert refl.alignment.bases == points.bases
    assert refl.alignment.to_reach.reward == points.to_reach.reward
    for one, other in zip(refl.alignment.motions, points.motions, strict=True):
        assert one == structs.replace(other, tuned=one.tuned)


@pytest.mark.slow
def test_a_killed_command_goes_on_to_the_same_bits(whole, weights, tmp_path):
    """What was finished is kept, for rows that come later too; as without the kill, to the last bit."""
    chosen, partial = tiny(weights, tmp_path / "run.json"), tmp_path / "run.json.partial"
    with subprocess.Popen(command(*chosen), cwd=ROOT, stdout=subprocess.DEVNULL) as killed:
        while not (partial.exists() and partial.stat().st_size) and killed.poll() is None:
            time.sleep(0.05)
        killed.kill()
    assert {json.loads(line)["id"] for line in partial.read_text().splitlines()}
    done = bench(*chosen, "--method", "refl:m=2", "--resume", "-v")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not partial.exists()
    for row, other in zip(records.load(tmp_path / "run.json"), whole[0], strict=True):
        for name in ("finals", "bases", "real", "motions", "selection", "memory"):
            assert getattr(row.alignment, name) == getattr(other.alignment, name), name


def test_a_run_that_goes_on_from_its_checkpoint_measures_what_it_would_have(tmp_path):
    """Every point of the curve is of its own weights: those after the checkpoint too, not the base's."""
    untrained_world().save(tmp_path / "world")
    size = replace(SIZES["tiny"], trajectories=3, measured=(1, 2), test=4)

    def train(folder: str, size) -> list[dict]:
        desk = Desk(tmp_path / folder, lambda _: None, lambda _: None)
        return [point.metrics for point in Train(tmp_path / "world", size, "draft:k=2", 1e-2, 1).run(desk).curve]

    whole = train("whole", size)
    train("broken", replace(size, trajectories=1))
    assert train("broken", size) == whole
    assert len({metrics["reward"] for metrics in whole}) == 4
