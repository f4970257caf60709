"""The studies that train: jobs are run once and kept, a run that stops is one sentence, and all four at the tiny scale.

The world here is the committed one with few clips: making the features of all 10,000 takes longer than the studies.
"""

import contextlib
import functools
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from bench_command import ALWAYS, ROOT, InThisProcess, bench_here, heed_interrupts

from bench import records
from bench.alignment import studies
from bench.alignment.evaluate import evaluate
from bench.alignment.rewards import RewardConfig
from bench.alignment.studies import jobs
from bench.alignment.studies.jobs import Jobs, Shelf, StudyJob, Training, Tuned, Tuning
from bench.alignment.studies.trained import LATER, NOISY, SCALES
from bench.lane import Kept, Lane
from bench.motion.metrics import METRICS
from bench.records import StudyRecord, decode
from bench.records.make import to_json
from bench.records.types import Metrics, Retrieval, TrainedReward
from bench.world import data, load
from bench.world.content import Embedded
from methods.finetune import FinetuneError

CLIPS = 500
"""As few as leave the validation split a pool of R-precision."""
TINY = SCALES["tiny"]
REWARD_BATCH = 12
"""As few as SPL takes: more than the ten that a text may find first."""
SHORT = Tuning(steps=2, batch=2, prompts=4, validation=4, test=32, repeats=1)


@pytest.fixture
def inline(monkeypatch):
    """Starting workers takes longer than tiny jobs do."""
    monkeypatch.setattr("bench.lane.lane.Workers", InThisProcess)


@contextlib.contextmanager
def lane(folder: Path | None = None):
    kept = Kept(folder and folder / "results.jsonl")
    made = Lane(kept)
    try:
        yield made
    finally:
        made.close()
        kept.close()


def run(folder: Path, weights: Path, work: Sequence[Training | Tuning]) -> jobs.Results:
    with lane(folder) as made:
        return Jobs(made, folder, weights).run(work)


def study(name: str, folder: Path, weights: Path) -> StudyRecord:
    case = studies.StudyCase(name, "tiny")
    with lane(folder) as made:
        return studies.StudyRuns(made, [case], folder, weights).record(case)


@pytest.fixture
def no_world(tmp_path) -> Path:
    """A file that stands for a world where nothing reads it but for its name."""
    path = tmp_path / "world"
    path.write_bytes(b"one")
    return path


def few_clips(folder: Path) -> None:
    """Puts a world of few clips, `world.safetensors`, and their features, `data.safetensors`, into a folder."""
    world = load()
    world.clips = {split: numbers[numbers < CLIPS] for split, numbers in world.clips.items()}
    world.clips["train"] = world.clips["train"][:64]
    world.save(folder / "world.safetensors")
    few = data.generate(Embedded(CLIPS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "_part", lambda *_: [])
        patch.setattr(data, "_joined", lambda _: few)
        data.cached(folder / "data.safetensors", world.content)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A work folder with a world of few clips and their features, as a study finds them."""
    folder = tmp_path_factory.mktemp("studies")
    few_clips(folder)
    return folder


class TestJobs:
    def counted(self, monkeypatch, **changed) -> list[Tuning]:
        """The fine-tuning runs that are really run."""
        ran: list[Tuning] = []

        def tune(work: Tuning, shelf, desk) -> Tuned:
            ran.append(work)
            return Tuned(**{"curve": [], "final": {"reward": float(work.seed)}, **changed})

        monkeypatch.setattr(Tuning, "run", tune)
        return ran

    def test_a_result_is_kept_and_not_run_again(self, tmp_path, no_world, inline, monkeypatch):
        ran = self.counted(monkeypatch)
        one, two = Tuning(seed=1), Tuning(seed=2)
        assert run(tmp_path, no_world, [one, one]).final([one]) == [{"reward": 1.0}]
        assert run(tmp_path, no_world, [two, one]).final([one, two]) == [{"reward": 1.0}, {"reward": 2.0}]
        assert ran == [one, two]

    def test_two_recipes_never_train_the_stage_they_share_at_once(self, tmp_path, no_world, monkeypatch):
        """Side by side they would write one checkpoint."""
        begun: list[list[str]] = []
        real = Lane.submit_all

        def watched(self, submitted):
            begun.append([str(job.work.reward.stage_one()) for job in submitted])
            return real(self, submitted)

        self.stand_in_for_rewards(monkeypatch)
        monkeypatch.setattr("bench.lane.lane.Workers", InThisProcess)
        monkeypatch.setattr(Lane, "submit_all", watched)
        recipes = [RewardConfig(seed=seed, spl=spl) for seed in (0, 1) for spl in (False, True)]
        run(tmp_path, no_world, [Training(recipe) for recipe in recipes])
        assert [len(stages) for stages in begun] == [2, 4, 0]
        assert set(begun[0]) == set(begun[1])

    def stand_in_for_rewards(self, monkeypatch) -> None:
        """Rewards are not trained, and no clips are read for them."""
        nothing = TrainedReward(Retrieval(1, {}, None), [], None)
        monkeypatch.setattr(Training, "run", lambda work, shelf, desk: nothing)
        monkeypatch.setattr(jobs.world, "pretrained", lambda _: SimpleNamespace(content=None))
        monkeypatch.setattr(jobs.data, "cached", lambda *_: None)

    def test_a_result_is_of_one_job_with_all_its_fields_and_of_one_worlds_bytes(self, tmp_path, no_world):
        reward = RewardConfig(seed=3)
        changed = {"method": "refl", "reward": reward, "second": reward, "measured": (1,), "guidance": 2.0}
        with lane() as made:

            def key(work: Training | Tuning, weights: Path = no_world) -> str:
                return made.key(StudyJob(Shelf(tmp_path, weights), work))

            keys = [key(Tuning()), key(Training(reward))]
            for field in fields(Tuning):
                other = changed.get(field.name, field.default + 1 if isinstance(field.default, int | float) else None)
                assert other is not None, f"say how {field.name} is to change"
                keys.append(key(replace(Tuning(), **{field.name: other})))
            recipes = (replace(reward, **own) for own in ({"refine": 9}, {"seed": 4}, {"noised": "features"}))
            keys += map(key, (Training(reward, (1,)), Training(reward, noised="features"), *map(Training, recipes)))
            assert len(set(keys)) == len(keys)
            no_world.write_bytes(b"two")
            assert key(Tuning()) not in keys, "another world under the same name"

    def test_without_a_method_the_base_is_measured(self, place, tmp_path, inline):
        result = run(tmp_path, place / "world.safetensors", [SHORT]).tuned[SHORT]
        base = evaluate(load(place / "world.safetensors"), "test", SHORT.test, SHORT.repeats, SHORT.seed, SHORT.steps)
        assert result.final == {name: own.mean for name, own in base.items() if not math.isnan(own.mean)}
        assert {"reward", "r1", "fid"} <= set(result.final)
        assert result.curve == []

    def test_a_run_that_its_numbers_stop_is_kept_and_named_by_its_label(self, place, tmp_path, inline, monkeypatch):
        work = replace(SHORT, method="draft:k=1", lr=1e30, warm_up=0, trajectories=2)
        for _ in range(2):
            with pytest.raises(FinetuneError, match=r"^draft:k=1, lr 1e\+30, seed 0: [^\n]*lower lr[^\n]*not finite"):
                run(tmp_path, place / "world.safetensors", [work])
            monkeypatch.setattr(Tuning, "run", lambda *_: pytest.fail("it was kept"))

    @pytest.mark.parametrize("name", [name for name in studies.TRAINED if name not in ("retrieval", "feature_noise")])
    def test_every_study_with_a_stopped_run_is_a_failed_row_of_one_sentence(
        self, name, tmp_path, no_world, inline, monkeypatch
    ):
        """Of every study that fine-tunes."""
        self.stand_in_for_rewards(monkeypatch)
        ran = self.counted(monkeypatch, reason="it is not finite, lower lr")
        row = study(name, tmp_path, no_world)
        assert (row.status, row.study) == ("failed", None)
        assert row.reason == f"{ran[0].label}: it is not finite, lower lr"


def put_features(place: Path, folder: Path) -> None:
    """Puts the features of the clips, which take longer than a study, where a work folder has them."""
    features = Shelf(folder, place / "world.safetensors").data
    features.parent.mkdir()
    shutil.copy(place / "data.safetensors", features)


def finished(folder: Path) -> str:
    """The results of a work folder, whole lines."""
    path = folder / "results.jsonl"
    return path.read_text().rpartition("\n")[0] if path.exists() else ""


@pytest.mark.slow
def test_an_interrupted_study_keeps_its_results_and_goes_on(place, tmp_path):
    """As a command: interrupted after its first result, and called again."""
    put_features(place, tmp_path)
    result = tmp_path / "run.bench"
    chosen = ["-v", "-m", "study", "--study", "retrieval", "--study-scale", "tiny", "--study-work", str(tmp_path)]
    chosen += ["--align-world", str(place / "world.safetensors"), f"--benchmark-json={result}"]
    command = [sys.executable, "-m", "pytest", *ALWAYS, *chosen]
    options = {"cwd": ROOT, "env": {**os.environ, "PYTHONPATH": str(ROOT)}, "text": True}
    output_to = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, preexec_fn=heed_interrupts, **output_to, **options) as first:
        while not finished(tmp_path) and first.poll() is None:
            time.sleep(0.05)
        first.send_signal(signal.SIGINT)
        output, _ = first.communicate(timeout=900)
    kept = finished(tmp_path)
    assert first.returncode != 0
    assert "KeyboardInterrupt" in output
    again = subprocess.run(command, capture_output=True, timeout=900, **options)
    assert again.returncode == 0, again.stdout + again.stderr
    (row,) = records.load(result)
    assert row.ok
    assert kept
    assert finished(tmp_path).startswith(f"{kept}\n"), "goes on behind them"
    assert len(row.study.rewards["spl"]) == TINY.seeds


@pytest.fixture(scope="module")
def work(place, tmp_path_factory) -> Path:
    """Where the studies keep their results: what one has kept another does not run."""
    folder = tmp_path_factory.mktemp("kept")
    put_features(place, folder)
    return folder


@pytest.fixture(scope="module")
def row(place, work) -> Iterator[Callable[[str], StudyRecord]]:
    """A study's name -> its row, as it is read back; run once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.lane.lane.Workers", InThisProcess)
        patch.setattr("bench.alignment.studies.trained.REWARD_BATCH", REWARD_BATCH)
        yield functools.cache(lambda name: decode(to_json(study(name, work, place / "world.safetensors"))))


def is_measured(results: list[Metrics], seeds: int) -> bool:
    """Whether these are test metrics over so many seeds."""
    told = set(METRICS) - {"multimodality"}  # which one repeat cannot tell
    return len(results) == seeds and all(told == set(own) for own in results)


SETTINGS = pytest.param("settings", marks=pytest.mark.slow)
"""Runs most: of every setting and method a run for each learning rate, and one for each seed."""


class TestTheStudies:
    @pytest.mark.parametrize("name", [*(name for name in studies.TRAINED if name != "settings"), SETTINGS])
    def test_each_is_a_row_and_a_second_call_finds_everything_kept(self, name, row, place, work, monkeypatch):
        first = row(name)
        assert first.ok, first.reason
        assert first.case.id == f"{name}-tiny"
        for kind in (Training, Tuning):
            monkeypatch.setattr(kind, "run", lambda *_: pytest.fail("it was kept"))
        again = study(name, work, place / "world.safetensors")
        assert again.ok, again.reason
        assert decode(to_json(again)).study == first.study

    def test_retrieval_is_of_the_rewards_of_spl(self, row):
        own, of_spl = (row(name).study.rewards for name in ("retrieval", "spl"))
        assert own == {arm: of_spl[arm][: TINY.seeds] for arm in of_spl if arm != "released"}

    def test_spl(self, row):
        result = row("spl").study
        assert set(result.rewards) == {"pretrained", "control", "spl", "released", "k1"}
        for arm, trained in result.rewards.items():
            assert len(trained) == TINY.reward_seeds
            assert all((one.training.mined is not None) == (arm in ("spl", "released", "k1")) for one in trained)
            assert all(0 <= one.retrieval.all["text_to_motion"]["R@1"] <= 100 for one in trained)
        assert set(result.runs) == {"control", "spl"}
        assert all(is_measured(runs, TINY.reward_seeds) for runs in (*result.runs.values(), result.base))
        assert result.runs["control"] != result.runs["spl"] != result.base

    def test_windows(self, row):
        result = row("windows").study
        assert result.windows == list(TINY.windows)
        for runs in result.runs.values():
            assert len(runs) == len(TINY.windows)
            assert all(is_measured(window, TINY.seeds) for window in runs)
        assert result.runs["x0-hat"] != result.runs["noisy"]
        assert set(result.rewards) == {"clean", "aware"}
        for trained in result.rewards.values():
            assert [len(one.levels) for one in trained] == [len(result.levels)] * TINY.seeds
        assert is_measured(result.base, TINY.seeds)

    def test_feature_noise(self, row):
        """The reward trained on clean motion is that of windows; only the noisy motions differ."""
        result = row("feature_noise").study
        assert [set(by_noise) for by_noise in result.rewards.values()] == [{"features", "states"}] * 2
        own, other = (result.rewards["clean"][noised][0] for noised in ("states", "features"))
        assert own == row("windows").study.rewards["clean"][0]
        assert own.retrieval == other.retrieval
        assert own.levels != other.levels

    def test_strength(self, row):
        result = row("strength").study
        named = [(under.share, under.spl) for under in result.rewards]
        assert named == [(share, spl) for share in TINY.shares for spl in (False, True)]
        for under in (*result.rewards, result.of_world):
            assert set(under.runs) == {LATER, "draft:k=10"}
            assert all(is_measured(runs, TINY.seeds) for runs in under.runs.values())
        assert is_measured(result.base, TINY.seeds)

    def test_gaming(self, row):
        runs = row("gaming").study.runs
        ((method, (lr, trajectories)),) = TINY.long.items()
        assert [(run.method, run.lr, run.pull) for run in runs] == [(method, lr, 0.0), (method, lr, 100.0)]
        for run in runs:
            assert len(run.curves) == TINY.long_seeds
            for curve in run.curves:
                assert [point.trajectories for point in curve] == [0, trajectories // 2, trajectories]
                assert all({"reward", "second", "fid", "r1"} <= set(point.metrics) for point in curve)
                assert all(point.metrics["second"] != point.metrics["reward"] for point in curve)
        assert runs[0].curves != runs[1].curves

    @pytest.mark.slow
    def test_settings(self, row):
        """Each changes what it says, and EasyTune is compared with DRaFT-T in all."""
        result = {(under.setting, under.method): under for under in row("settings").study.runs}
        settings = list(dict.fromkeys(setting for setting, _ in result))
        changed = ["guidance 1", "guidance 4", "6 steps", "24 steps", "batch 2", "batch 8", "a pull to the base"]
        assert settings == ["the benchmark's", *changed]
        assert all({"draft", NOISY} <= {method for of, method in result if of == setting} for setting in settings)
        assert len(result) == 2 * len(settings) + 5
        assert all(is_measured(under.runs, TINY.seeds) and under.lr in TINY.grid for under in result.values())
        others = [str(under.runs) for (setting, _), under in result.items() if setting != changed[-1]]
        assert len(set(others)) == len(others)  # the first step of a run is not pulled: it is at the base


class TestOptions:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--study", "luck"], ["unknown study 'luck'", *studies.TRAINED]),
            (["-m", "study", "--study-scale", "vast"], ["unknown scale 'vast'", *SCALES]),
        ],
    )
    def test_what_is_unknown_is_refused_in_one_sentence(self, arguments, words):
        done = bench_here(*arguments)
        assert done.returncode == pytest.ExitCode.USAGE_ERROR
        (line,) = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("ERROR:")]
        assert all(word in line for word in words)

    @pytest.mark.parametrize(
        ("arguments", "names"),
        [
            (["-m", "study"], [*studies.TRAINED]),
            (["-m", "study", "--study", "windows", "--study", "windows"], ["windows"]),
            ([], []),
        ],
    )
    def test_studies_are_run_only_where_they_are_asked_for(self, arguments, names):
        done = bench_here("--collect-only", *arguments)
        assert done.returncode == 0, done.stdout
        listed = [
            line.partition("[")[2].rstrip("]") for line in done.stdout.splitlines() if "test_trained_studies" in line
        ]
        assert listed == names
