"""The studies that train: jobs are run once and kept, a run that stops is one sentence, and all four at the tiny scale.

The world here is the committed one with few clips: making the features of all 10,000 takes longer than the studies.
"""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from bench_command import ALWAYS, ROOT, bench_here, heed_interrupts

from bench import record
from bench.alignment import studies
from bench.alignment.evaluate import METRICS, evaluate
from bench.alignment.rewards import RewardConfig
from bench.alignment.studies import jobs
from bench.alignment.studies.jobs import Jobs, Training, Tuning
from bench.alignment.studies.trained import LATER, SCALES
from bench.world import data, load
from bench.world.content import Embedded
from methods.finetune import FinetuneError

CLIPS = 500
"""As few as leave the validation split a pool of R-precision."""
TINY = SCALES["tiny"]
SHORT = Tuning(steps=2, batch=2, prompts=4, validation=4, test=32, repeats=1)


class Inline:
    """Stands in for ProcessPoolExecutor: starting its workers takes longer than tiny jobs do."""

    def __init__(self, *arguments, **options):
        pass

    def submit(self, call, *arguments) -> Future:
        future: Future = Future()
        future.set_result(call(*arguments))
        return future

    def shutdown(self, **options) -> None:
        pass


@pytest.fixture
def inline(monkeypatch):
    monkeypatch.setattr(jobs, "ProcessPoolExecutor", Inline)


@pytest.fixture
def no_world(tmp_path) -> Path:
    """A file that stands for a world where nothing reads it but for its name."""
    path = tmp_path / "world"
    path.write_bytes(b"one")
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A work folder with a world of few clips, `world.safetensors`, and their features, as a study finds them."""
    folder = tmp_path_factory.mktemp("studies")
    world = load()
    world.clips = {split: numbers[numbers < CLIPS] for split, numbers in world.clips.items()}
    world.clips["train"] = world.clips["train"][:64]
    world.save(folder / "world.safetensors")
    few = data.generate(Embedded(CLIPS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "generate", lambda content: few)
        data.cached(folder / "data.safetensors", world.content)
    return folder


class TestJobs:
    def counted(self, monkeypatch) -> list[Tuning]:
        """The fine-tuning runs that are really run."""
        ran: list[Tuning] = []

        def tune(job: Tuning, *_) -> dict:
            ran.append(job)
            return {"curve": [], "final": {"reward": job.seed}}

        monkeypatch.setattr(jobs, "_tune", tune)
        return ran

    def test_a_result_is_kept_and_not_run_again(self, tmp_path, no_world, inline, monkeypatch):
        ran = self.counted(monkeypatch)
        one, two = Tuning(seed=1), Tuning(seed=2)
        first = Jobs(tmp_path / "work", no_world).run([one, one])
        both = Jobs(tmp_path / "work", no_world).run([two, one])
        assert ran == [one, two]
        assert both == {**first, two: {"curve": [], "final": {"reward": 2}}}

    def test_two_recipes_never_train_the_stage_they_share_at_once(self, tmp_path, no_world, monkeypatch):
        """Side by side they would write one checkpoint."""
        pools: list[list[str]] = []

        class Watched(Inline):
            def __init__(self, *arguments, **options):
                pools.append([])

            def submit(self, call, job, *arguments) -> Future:
                pools[-1].append(str(job.reward.stage_one()))
                return super().submit(call, job, *arguments)

        self.stand_in_for_rewards(monkeypatch)
        monkeypatch.setattr(jobs, "ProcessPoolExecutor", Watched)
        recipes = [RewardConfig(seed=seed, spl=spl) for seed in (0, 1) for spl in (False, True)]
        Jobs(tmp_path / "work", no_world).run([Training(own) for own in recipes])
        assert [len(own) for own in pools] == [2, 2]
        assert set(pools[0]) == set(pools[1])

    def stand_in_for_rewards(self, monkeypatch) -> None:
        """Rewards are not trained, and no clips are read for them."""
        monkeypatch.setattr(jobs, "_train", lambda *_: {"retrieval": {}, "levels": [], "training": {}})
        monkeypatch.setattr(jobs.world, "load", lambda _: SimpleNamespace(content=None))
        monkeypatch.setattr(jobs.data, "cached", lambda *_: None)

    def test_a_result_that_was_cut_off_is_not_read(self, tmp_path, no_world, monkeypatch):
        self.counted(monkeypatch)

        def cut(path: Path, text: str) -> None:
            path.write_bytes(text[: len(text) // 2].encode())
            raise KeyboardInterrupt

        with monkeypatch.context() as killed:
            killed.setattr(Path, "write_text", cut)
            with pytest.raises(KeyboardInterrupt):
                jobs.do(Tuning(), tmp_path, no_world)
        assert jobs.read(tmp_path, no_world, Tuning()) is None
        kept = jobs.do(Tuning(), tmp_path, no_world)
        assert jobs.read(tmp_path, no_world, Tuning()) == kept

    def test_a_result_is_of_one_job_with_all_its_fields_and_of_one_worlds_bytes(self, tmp_path, no_world, monkeypatch):
        reward = RewardConfig(seed=3)
        changed = {"method": "refl", "reward": reward, "second": reward, "measured": (1,)}
        self.counted(monkeypatch)
        jobs.do(Tuning(), tmp_path, no_world)
        for field in fields(Tuning):
            other = changed.get(field.name, field.default + 1 if isinstance(field.default, int | float) else None)
            assert other is not None, f"say how {field.name} is to change"
            assert jobs.read(tmp_path, no_world, replace(Tuning(), **{field.name: other})) is None, field.name
        monkeypatch.setattr(jobs, "_train", lambda *_: {})
        jobs.do(Training(reward), tmp_path, no_world)
        changed = (replace(reward, **own) for own in ({"refine": 9}, {"seed": 4}, {"noised": "features"}))
        for job in (Training(reward, (1,)), Training(reward, noised="features"), *map(Training, changed)):
            assert jobs.read(tmp_path, no_world, job) is None
        same, another = tmp_path / "same", tmp_path / "another"
        same.write_bytes(b"one")
        another.write_bytes(b"two")
        assert jobs.read(tmp_path, same, Tuning()) is not None
        assert jobs.read(tmp_path, another, Tuning()) is None

    def test_without_a_method_the_base_is_measured(self, place, tmp_path):
        found = jobs.do(SHORT, tmp_path, place / "world.safetensors")
        base = evaluate(load(place / "world.safetensors"), "test", SHORT.test, SHORT.repeats, SHORT.seed, SHORT.steps)
        assert found["final"] == {name: own.mean for name, own in base.items() if not math.isnan(own.mean)}
        assert {"reward", "r1", "fid"} <= set(found["final"])
        assert found["curve"] == []

    def test_a_run_that_its_numbers_stop_is_kept_and_told_by_its_label(self, place, tmp_path, inline):
        job = replace(SHORT, method="draft:k=1", lr=1e30, warm_up=0, trajectories=2)
        work, world = tmp_path / "work", place / "world.safetensors"
        for _ in range(2):
            with pytest.raises(FinetuneError, match=r"^draft:k=1, lr 1e\+30, seed 0: [^\n]*lower lr[^\n]*not finite"):
                Jobs(work, world).run([job])
        assert set(jobs.read(work, world, job)) == {"reason"}

    @pytest.mark.parametrize("name", [name for name in studies.TRAINED if name not in ("retrieval", "feature_noise")])
    def test_every_study_with_a_stopped_run_is_a_failed_row_of_one_sentence(
        self, name, tmp_path, no_world, inline, monkeypatch
    ):
        """Of every study that fine-tunes."""
        ran = []
        self.stand_in_for_rewards(monkeypatch)
        monkeypatch.setattr(jobs, "_tune", lambda job, *_: ran.append(job) or {"reason": "it is not finite, lower lr"})
        row = studies.train(name, "tiny", tmp_path / "work", no_world)
        assert row["status"] == "failed"
        assert row["reason"] == f"{ran[0].label}: it is not finite, lower lr"
        assert "study" not in row


@dataclass
class Interrupted:
    """The study retrieval as a command: interrupted after its first result, and called again."""

    status: int
    """Exit status of the first."""
    output: str
    kept: int
    """Results after the first."""
    again: subprocess.CompletedProcess
    row: dict
    """Of the second."""


@pytest.fixture(scope="module")
def work(place, tmp_path_factory) -> Path:
    """Where the command keeps its results."""
    folder = tmp_path_factory.mktemp("kept")
    shutil.copy(place / "data.safetensors", folder)
    return folder


@pytest.fixture(scope="module")
def interrupted(place, work) -> Interrupted:
    result = work / "run.bench"
    chosen = ["-v", "-m", "study", "--study", "retrieval", "--study-scale", "tiny", "--study-work", str(work)]
    chosen += ["--align-world", str(place / "world.safetensors"), f"--benchmark-json={result}"]
    command = [sys.executable, "-m", "pytest", *ALWAYS, *chosen]
    options = {"cwd": ROOT, "env": {**os.environ, "PYTHONPATH": str(ROOT)}, "text": True}
    output_to = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(command, preexec_fn=heed_interrupts, **output_to, **options) as first:
        while not list(work.glob("*.json")) and first.poll() is None:
            time.sleep(0.05)
        first.send_signal(signal.SIGINT)
        output, _ = first.communicate(timeout=900)
    kept = len(list(work.glob("*.json")))
    again = subprocess.run(command, capture_output=True, timeout=900, **options)
    assert again.returncode == 0, again.stdout + again.stderr
    (row,) = record.load(result)
    return Interrupted(first.returncode, output, kept, again, row)


def test_an_interrupted_study_keeps_its_results_and_goes_on(interrupted, work):
    every = len(list(work.glob("*.json")))
    assert interrupted.status != 0
    assert "KeyboardInterrupt" in interrupted.output
    assert 1 <= interrupted.kept < every
    told = [line.split() for line in interrupted.again.stdout.splitlines() if " of " in line and "s left" in line]
    assert len(told) == every - interrupted.kept, interrupted.again.stdout
    assert interrupted.row["status"] == "ok"


@pytest.fixture(scope="module")
def rows(interrupted, place, work) -> dict[str, dict]:
    """Every study's row, as JSON; what the command has kept is not run again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "ProcessPoolExecutor", Inline)
        return {
            name: json.loads(json.dumps(studies.train(name, "tiny", work, place / "world.safetensors")))
            for name in studies.TRAINED
        }


def is_measured(results: list[dict], seeds: int) -> bool:
    """Whether these are test metrics over so many seeds."""
    told = set(METRICS) - {"multimodality"}  # which one repeat cannot tell
    return len(results) == seeds and all(told == set(own) for own in results)


class TestTheStudies:
    def test_each_is_a_row(self, rows, interrupted):
        for name, row in rows.items():
            assert row["status"] == "ok", row["reason"]
            assert row["case"]["id"] == f"{name}-tiny"
        assert rows["retrieval"]["study"] == interrupted.row["study"]

    def test_retrieval_is_of_the_rewards_of_spl(self, rows):
        own, of_spl = (rows[name]["study"]["rewards"] for name in ("retrieval", "spl"))
        assert own == {arm: of_spl[arm][: TINY.seeds] for arm in of_spl if arm != "released"}

    def test_spl(self, rows):
        found = rows["spl"]["study"]
        assert set(found["rewards"]) == {"pretrained", "control", "spl", "released", "k1"}
        for arm, own in found["rewards"].items():
            assert len(own) == TINY.reward_seeds
            assert all(
                (result["training"]["mined"] is not None) == (arm in ("spl", "released", "k1")) for result in own
            )
            assert all(0 <= result["retrieval"]["all"]["text_to_motion"]["R@1"] <= 100 for result in own)
        assert set(found["runs"]) == {"control", "spl"}
        assert all(is_measured(own, TINY.reward_seeds) for own in (*found["runs"].values(), found["base"]))
        assert found["runs"]["control"] != found["runs"]["spl"] != found["base"]

    def test_windows(self, rows):
        found = rows["windows"]["study"]
        assert found["windows"] == [list(window) for window in TINY.windows]
        for own in found["runs"].values():
            assert len(own) == len(TINY.windows)
            assert all(is_measured(window, TINY.seeds) for window in own)
        assert found["runs"]["x0-hat"] != found["runs"]["noisy"]
        assert set(found["rewards"]) == {"clean", "aware"}
        assert all(len(own["levels"]) == len(found["levels"]) for own in found["rewards"].values())
        assert is_measured(found["base"], TINY.seeds)

    def test_feature_noise(self, rows):
        """The reward trained on clean motion is that of windows; only the noisy motions differ."""
        found = rows["feature_noise"]["study"]
        assert [set(own) for own in found["rewards"].values()] == [{"features", "states"}] * 2
        own, other = (found["rewards"]["clean"][noised][0] for noised in ("states", "features"))
        assert own == rows["windows"]["study"]["rewards"]["clean"]
        assert own["retrieval"] == other["retrieval"]
        assert own["levels"] != other["levels"]

    def test_strength(self, rows):
        found = rows["strength"]["study"]
        named = [(row["share"], row["spl"]) for row in found["rewards"]]
        assert named == [(share, spl) for share in TINY.shares for spl in (False, True)]
        for row in (*found["rewards"], found["own"]):
            assert set(row["runs"]) == {LATER, "draft:k=10"}
            assert all(is_measured(own, TINY.seeds) for own in row["runs"].values())
        assert is_measured(found["base"], TINY.seeds)

    def test_gaming(self, rows):
        runs = rows["gaming"]["study"]["runs"]
        ((method, (lr, trajectories)),) = TINY.long.items()
        assert [(run["method"], run["lr"], run["pull"]) for run in runs] == [(method, lr, 0.0), (method, lr, 100.0)]
        for run in runs:
            assert len(run["curves"]) == TINY.long_seeds
            for curve in run["curves"]:
                assert [point["trajectories"] for point in curve] == [0, trajectories // 2, trajectories]
                assert all({"reward", "second", "fid", "r1"} <= set(point) for point in curve)
                assert all(point["second"] != point["reward"] for point in curve)
        assert runs[0]["curves"] != runs[1]["curves"]

    def test_a_second_call_finds_everything_kept(self, rows, place, work, monkeypatch):
        for name in ("_train", "_tune", "ProcessPoolExecutor"):
            monkeypatch.delattr(jobs, name)
        for name, row in rows.items():
            again = studies.train(name, "tiny", work, place / "world.safetensors")
            assert again["status"] == "ok", again["reason"]
            assert json.loads(json.dumps(again["study"])) == row["study"]


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
            line.partition("[")[2].rstrip("]") for line in done.stdout.splitlines() if "test_trained_study" in line
        ]
        assert listed == names
