"""The step-time gate: two revisions in one run, update by update."""

import contextlib
import shutil

import pytest
from bench_command import ROOT, bench_here
from gate_cases import TINY
from msgspec import structs

from bench import records, step_time
from bench.cases import Case
from bench.gate import paired
from bench.records import make
from bench.records.types import Against

PAIRED = ["-m", "step_time", "--backbone", "mld-tiny", "--time-steps", "3", "--time-batch", "2", "--time-frames", "5"]


def test_step_time_is_paired_with_another_revision_in_one_run(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    result = tmp_path / "run.json"
    options = ["--method", "refl:m=2", "--rounds", "3", "--step-time-against", "HEAD", "--step-time-margin", "1000"]
    done = bench_here(*PAIRED, *options, f"--benchmark-json={result}")
    assert done.returncode == 0, done.stdout
    (row,) = records.load(result)
    against = row.timing.against
    assert against.revision == "HEAD"
    assert len(against.ratios) == 3
    assert against.ratio == sorted(against.ratios)[1]
    assert "times HEAD" in done.stdout


@pytest.mark.parametrize(
    ("median", "fastest", "fails"), [(1.5, 1.4, True), (1.5, 1.1, False), (1.1, 1.5, False), (0.9, 0.9, False)]
)
def test_slower_means_slower_by_the_median_and_by_the_fastest(median, fastest, fails):
    case = Case("easytune", **TINY, meter="host")
    alone = step_time.summary(case, [1.0, 1.0, 1.0])
    assert paired.slower(make.step_time(case, "ok", timing=alone), 1.25) is None
    against = Against("main", ratio=median, ratio_of_fastest=fastest, ratios=[median] * 3)
    row = make.step_time(case, "ok", timing=structs.replace(alone, against=against))
    sentence = paired.slower(row, 1.25)
    assert (sentence is not None) is fails
    assert not fails or (case.id in sentence and "1.50 times as long as at main" in sentence)


def test_a_slower_tree_is_seen_and_a_side_that_fails_says_which(monkeypatch, tmp_path):
    """The other side is this tree with a rollout that sleeps, then one that cannot build."""
    for name in ("bench", "methods"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    target = tmp_path / "methods" / "update.py"
    step = "self.optimizer.step()"
    assert step in target.read_text()
    target.write_text(target.read_text().replace(step, f"__import__('time').sleep(0.3); {step}"))
    monkeypatch.setattr(paired, "checkout", lambda revision: contextlib.nullcontext(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    case = Case("refl:m=2", **{**TINY, "steps": 2, "meter": "host"})
    (row,) = paired.measure([case], 3, "slow")
    assert row.timing.against.ratio < 0.8  # this tree is the faster one
    assert paired.slower(row, 1.25) is None
    target.write_text("raise RuntimeError('no such luck')")
    (row,) = paired.measure([case], 3, "broken")
    assert row.status == "failed"
    assert row.reason.startswith("revision broken: ")


def test_an_unknown_revision_is_one_sentence():
    done = bench_here(*PAIRED, "--method", "refl:m=2", "--step-time-against", "no-such-branch")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--step-time-against no-such-branch" in done.stderr
    assert "name a commit, branch or tag" in done.stderr
