"""`pytest bench/ --memory-baseline`, as CI runs it: its words, its files and its exit status."""

import re

import pytest
import torch
from bench_command import ROOT, bench, bench_here
from bench_command import SCALE as OF_CASES
from gate_cases import TINY, changed, shifted
from msgspec import structs

from bench.cases import Case
from bench.gate import baseline
from bench.gate.judge import EXIT_STATUS, NOTHING_MEASURED, Outcome
from bench.memory import measure

SCALE = ["-m", "memory", *OF_CASES]


@pytest.fixture(scope="module")
def committed(tmp_path_factory, clean):
    """A baseline as the command writes it."""
    path = tmp_path_factory.mktemp("gate") / "baseline.json"
    update = ["--memory-baseline", path, "--memory-baseline-update"]
    done = bench_here(*SCALE, "--method", "easytune", *update, record=clean)
    assert done.returncode == 0, done.stdout
    assert "1 rows, ready to commit" in done.stdout
    return path


def test_a_grown_case_fails_its_test_and_the_run_with_the_gates_own_status(committed, tmp_path):
    """In a process of its own: what a CI step sees."""
    path = tmp_path / "baseline.json"
    path.write_text(shifted(committed.read_text(), -1024))
    done = bench(*SCALE, "--method", "easytune", "--memory-baseline", path, CI="true")
    assert done.returncode == EXIT_STATUS[Outcome.GREW], done.stdout
    assert "1 memory grew" in done.stdout.partition("memory gate")[2]
    assert "+1.00 KiB" in done.stdout.partition("short test summary")[2]  # the line a CI log is searched for


def test_an_unchanged_case_passes(committed, clean):
    done = bench_here(*SCALE, "--method", "easytune", "--memory-baseline", committed, record=clean)
    assert done.returncode == 0, done.stdout
    assert "1 within their margins" in done.stdout


def test_nothing_measured_fails_on_its_own(committed, clean):
    done = bench_here(*SCALE, "--method", "easytune", "--memory-baseline", committed, "-k", "nothing", record=clean)
    assert done.returncode == NOTHING_MEASURED
    assert "nothing was measured" in done.stdout


def test_a_case_that_failed_otherwise_keeps_pytests_own_status(committed, clean, tmp_path):
    """Even beside one that grew: the gate's status says that nothing but memory is wrong."""
    path = tmp_path / "baseline.json"
    path.write_text(shifted(committed.read_text(), -1024))

    def measured(case):
        if case.method != "draft":
            return clean(case)
        return structs.replace(clean(case), status="failed", reason="no such luck", reading=None)

    methods = ["--method", "easytune", "--method", "draft"]
    done = bench_here(*SCALE, *methods, "--memory-baseline", path, record=measured)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "no such luck" in done.stdout
    assert "1 memory grew" in done.stdout


def test_rows_of_a_gpu_that_a_machine_without_one_skips_are_missing(committed, tmp_path, monkeypatch, clean):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (row,) = baseline.load(committed)
    of_gpu = structs.replace(row.case, meter="cuda", id=row.case.id.replace("simulated", "cuda"))
    path = tmp_path / "baseline.json"
    baseline.save(path, [row, structs.replace(row, case=of_gpu)])
    options = ["--method", "easytune", "--meter", "simulated", "--meter", "cuda", "--memory-baseline", path]
    done = bench_here(*SCALE, *options, record=lambda case: clean(case) if case.meter == "simulated" else measure(case))
    assert done.returncode == EXIT_STATUS[Outcome.MISSING], done.stdout
    assert "1 passed, 1 skipped" in done.stdout
    assert "1 missing" in done.stdout
    assert "1 within their margins" in done.stdout


def test_a_run_that_stops_at_its_first_failure_says_what_it_did_not_reach(tmp_path, clean):
    """Not the gate's status, which says of a whole run that nothing but memory is wrong; and not 0."""
    path = tmp_path / "baseline.json"
    methods = ("easytune", "draft", "refl:m=2")
    cases = [Case(method, **TINY) for method in methods]
    baseline.save(path, [baseline.cut_down(clean(case)) for case in cases])
    path.write_text(path.read_text().replace('"margin": 0.0', '"margin": 0.5'))

    def measured(case):
        record = clean(case)
        peak = 3 * record.reading.peak if case.method == "draft" else record.reading.peak
        return changed(record, peak=peak)

    options = [word for method in methods for word in ("--method", method)]
    done = bench_here(*SCALE, *options, "--memory-baseline", path, "-x", record=measured)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    section = done.stdout.partition("memory gate")[2]
    assert "1 memory grew" in section
    assert "1 within their margins" in section
    assert "1 not reached" in section
    assert "missing" not in section


def test_an_update_is_refused_while_cases_fail_and_leaves_the_file_alone(committed, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    path = tmp_path / "baseline.json"
    path.write_bytes(committed.read_bytes())
    options = ["--method", "easytune", "--meter", "simulated", "--meter", "cuda"]
    done = bench_here(*SCALE, *options, "--memory-baseline", path, "--memory-baseline-update")
    assert done.returncode != 0
    assert "was left as it was: 1 of 2 cases failed" in done.stdout
    assert path.read_bytes() == committed.read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--memory-baseline", "no-such-file.json"], "there is no baseline no-such-file.json"),
        (["--memory-baseline-update"], "needs --memory-baseline FILE"),
    ],
)
def test_a_gate_that_cannot_start_is_one_sentence(options, words):
    done = bench_here(*SCALE, "--method", "easytune", *options)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert words in done.stderr


def test_the_workflow_and_ci_run_the_commands_that_the_readmes_give():
    readmes = [(ROOT / path).read_text() for path in ("README.md", "bench/README.md")]
    workflow = (ROOT / ".github" / "workflows" / "memory.yml").read_text()
    commands = [line.partition("run: ")[2].split(" | ")[0] for line in workflow.splitlines() if " run: " in line]
    assert len(commands) == 3
    for command in commands:
        assert any(command in readme for readme in readmes), command
    assert any("--memory-baseline reports/baselines/simulated.json" in command for command in commands)
    taken = re.findall(r"grep '([^']+)' ([\w/]+\.md)", (ROOT / ".ci" / "run").read_text())
    assert len(taken) == 2
    for pattern, page in taken:
        assert re.search(pattern, (ROOT / page).read_text(), re.MULTILINE), f"{page} has no line for .ci/run: {pattern}"
