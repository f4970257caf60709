"""Other plugins and their options: each works with `pytest bench/`, or is refused in one sentence; no run ends
without its result and without a word."""

import importlib.util
import os
import re
import subprocess
import sys
import tomllib

import pytest
from bench_command import ROOT, SCALE, bench_here

from bench import records
from bench.options import MARKERS

ONE = [*SCALE, "-m", "memory", "--method", "refl:m=2"]
WORKFLOW = (ROOT / ".github" / "workflows" / "checks.yml").read_text()


def refused(done, tmp_path, word):
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("ERROR:")]
    assert len(lines) == 1
    assert word in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not list(tmp_path.glob("*.json*"))


@pytest.mark.parametrize("option", ["--benchmark-disable", "--benchmark-skip"])
def test_a_run_that_would_write_no_result_is_refused(option, tmp_path):
    refused(bench_here(*ONE, option, f"--benchmark-json={tmp_path / 'run.json'}"), tmp_path, option)


def test_without_a_result_it_need_not_be_timed_by_pytest_benchmark(clean):
    done = bench_here(*ONE, "--benchmark-disable", record=clean)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "memory, GiB" in done.stdout


def test_without_pytest_benchmark_nothing_is_measured(tmp_path):
    refused(bench_here(*ONE, "-p", "no:benchmark"), tmp_path, "pytest-benchmark")


@pytest.mark.skipif(importlib.util.find_spec("xdist") is None, reason="pytest-xdist is not installed")
@pytest.mark.parametrize("options", [["-n", "2"], ["-d", "--tx", "2*popen"]], ids=str)
def test_tests_spread_over_processes_are_refused(options, tmp_path):
    refused(bench_here(*ONE, *options, f"--benchmark-json={tmp_path / 'run.json'}"), tmp_path, "-n")


def test_a_run_that_a_spread_test_starts_writes_its_result(tmp_path, clean, monkeypatch):
    """Tests of another suite, over processes: what these start inherits pytest-xdist's environment, and is whole."""
    result = tmp_path / "run.json"
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    done = bench_here(*ONE, f"--benchmark-json={result}", record=clean)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(records.load(result)) == 1


def elsewhere(folder, *arguments):
    """`pytest` in a folder that is not this tree, which holds the package."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--collect-only", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_an_installed_package_is_measured_from_any_folder(tmp_path):
    """By its path with every option; by --pyargs with pytest's own: a conftest found so late has none of its own."""
    by_path = elsewhere(tmp_path, ROOT / "bench", *ONE)
    assert by_path.returncode == 0, by_path.stdout + by_path.stderr
    assert "test_memory[refl-m2-mld-tiny-T4-B2-F5-paper-simulated]" in by_path.stdout
    by_name = elsewhere(tmp_path, "--pyargs", "bench", "-m", "memory")
    assert by_name.returncode == 0, by_name.stdout + by_name.stderr
    assert "test_memory[easytune-mld-T50-B256-F196-paper-simulated]" in by_name.stdout
    assert "PytestUnknownMarkWarning" not in by_name.stdout


def test_what_is_refused_is_refused_in_a_sentence_by_pyargs_too(tmp_path):
    done = elsewhere(tmp_path, "--pyargs", "bench", "--benchmark-disable", "--benchmark-json=run.json")
    assert done.returncode == pytest.ExitCode.INTERRUPTED
    assert "\n--benchmark-disable writes no result: leave it out, or leave out --benchmark-json\n" in done.stdout
    assert "conftest.py" not in done.stdout + done.stderr
    assert not list(tmp_path.glob("*.json*"))


def test_every_marker_of_the_suite_is_known():
    text = "".join(path.read_text() for path in (ROOT / "bench").glob("test_*.py"))
    assert {marker.partition(":")[0] for marker in MARKERS} == set(re.findall(r"mark\.(\w+)[,\]]", text))


def test_the_workflow_runs_the_ends_of_every_range_that_the_package_accepts():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (legs,) = re.findall(r"include:\n(.*?)\n    steps:", WORKFLOW, re.DOTALL)
    assert re.findall(r"python: \"([\d.]+)\"", legs)[0] == project["requires-python"].removeprefix(">=")
    oldest = next(line for line in legs.splitlines() if "torch==" in line)
    newest = next(line for line in legs.splitlines() if "--upgrade" in line)
    for name in ("torch", "pytest", "pytest-benchmark"):
        (needed,) = [need for need in project["dependencies"] if re.match(rf"{name}[<>=]", need)]
        least = re.search(r">=([\d.]+)", needed).group(1)
        assert re.search(rf" {name}=={re.escape(least)}(\.\*)?( |$)", oldest), (name, least)
        assert f" {name}" in newest
        assert "<" not in needed, "a newest version that is not accepted needs a leg of its own"
