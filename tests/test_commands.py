"""`pytest bench/` as a user runs it, at a tiny size: rows, files, exit codes, sentences."""

import json
import re
from dataclasses import replace

import pytest
import torch
from bench_command import ROOT, SCALE, TIME_SCALE, bench, bench_here
from msgspec import structs

import methods
from bench import records
from bench.alignment.benchmark import METHODS, SEEDS
from bench.alignment.benchmark.cases import REFERENCE_SEEDS, SIZES
from bench.alignment.studies import TRAINED
from bench.alignment.studies.trained import SCALES
from bench.cases import MATRICES, Case
from bench.lane import Kept, Lane
from bench.memory import MemoryJob
from bench.meters import METERS
from bench.profiles import PROFILES
from bench.records.make import to_json

README = (ROOT / "README.md").read_text()
OF_METHODS = (ROOT / "methods" / "README.md").read_text()


def test_memory_and_time_of_chosen_methods_reach_the_json_and_the_terminal(tmp_path):
    result = tmp_path / "run.json"
    chosen = ["--method", "easytune", "--method", "draft:k=2", "--meter", "host"]
    done = bench(*SCALE, *TIME_SCALE, "--rounds", "2", *chosen, f"--benchmark-json={result}")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = records.load(result)
    assert [(row.kind, row.case.method, row.status) for row in rows] == [
        ("memory", "easytune", "ok"),
        ("memory", "draft:k=2", "ok"),
        ("step_time", "easytune", "ok"),
        ("step_time", "draft:k=2", "ok"),
    ]
    assert all(row.reading.process > row.reading.peak for row in rows[:2])
    assert "memory, GiB" in done.stdout
    assert "step time, seconds" in done.stdout
    assert not result.with_name("run.json.partial").exists()
    timing = rows[2].timing
    assert timing.rounds == len(timing.seconds_per_update) == 2
    assert timing.per_optimiser_step.median == pytest.approx(timing.per_update.median / 4)
    assert timing.per_sample.median == pytest.approx(timing.per_update.median / 2)
    # pytest-benchmark's own statistics are of the same rounds.
    stats = json.loads(result.read_text())["benchmarks"][2]["stats"]
    assert stats["data"] == pytest.approx(timing.seconds_per_update)


def test_a_case_that_cannot_be_measured_is_a_row_and_the_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = tmp_path / "run.json"
    meters = ["--meter", "cuda", "--meter", "simulated"]
    done = bench_here(*SCALE, *meters, "-m", "memory", "--method", "refl:m=2", f"--benchmark-json={result}")
    rows = records.load(result)
    assert [(row.case.meter, row.status) for row in rows] == [("cuda", "unavailable"), ("simulated", "ok")]
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 skipped" in done.stdout
    assert "no GPU" in rows[0].reason


def readme_example(first_line: str) -> str:
    """The code block of the methods' README that begins with a line."""
    return next(
        block for block in re.findall(r"```python\n(.*?)```", OF_METHODS, re.DOTALL) if block.startswith(first_line)
    )


def test_an_aborted_run_is_resumed(tmp_path, clean):
    """What was measured is taken over, and nothing else: not a row that was cut, not one that was edited since."""
    result = tmp_path / "run.json"
    methods = ("easytune", "refl:m=2", "draft:k=2")
    chosen = [*SCALE, "-m", "memory", *(f"--method={m}" for m in methods), f"--benchmark-json={result}"]
    cases = [Case(method, backbone="mld-tiny", steps=4, batch=2, frames=5) for method in methods]
    partial = tmp_path / "run.json.partial"
    kept, lane = Kept(partial), Lane()
    for case, peak in zip(cases, (123456789, 234567891, 345678912), strict=True):
        row = clean(case)
        row = structs.replace(row, reading=replace(row.reading, peak=peak))
        kept.add(lane.key(MemoryJob(case)), "memory", case.id, to_json(row))
    lane.close()
    kept.close()
    first, second, third = partial.read_text().splitlines()
    partial.write_text(f"{first}\n{second.replace('234567891', '234567892')}\n{third[:500]}")
    result.write_text("")
    done = bench_here(*chosen, "--resume", record=clean)
    assert done.returncode == 0, done.stdout + done.stderr
    peaks = [row.reading.peak for row in records.load(result)]
    assert peaks == [123456789, clean(cases[1]).reading.peak, clean(cases[2]).reading.peak]
    assert not partial.exists()


BAD = [
    (["--method", "ppo"], ["'ppo'", "draft", "easytune"]),
    (["--method", "draft:k=99"], ["k", "50", "99"]),
    (["--matrix", "huge"], ["'huge'", "published"]),
    (["--batch", "-1"], ["batch", "-1"]),
    (["--profile", "lean-and-mean"], ["'lean-and-mean'", "paper"]),
    (["--rounds", "0"], ["--rounds", "0"]),
    (["--method", "easytune:first=50"], ["window", "50"]),
    (["--align", "vast"], ["'vast'", "full", "quick", "tiny"]),
    (["--align", "tiny", "--align-seeds", "0"], ["seeds", "0"]),
    (["--matrix", "quick", "--device", "mps"], ["--device mps", "cpu or cuda"]),
    (["--benchmark-json=/dev/null/run.json"], ["cannot write", "/dev/null"]),
]


@pytest.mark.parametrize(("arguments", "words"), BAD)
def test_bad_options_are_refused_in_one_sentence_before_anything_runs(arguments, words):
    done = bench_here(*arguments)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("ERROR:")]
    assert len(lines) == 1
    for word in words:
        assert word in lines[0]
    assert "Traceback" not in done.stdout + done.stderr


def test_a_refusal_loads_neither_the_embedded_world_nor_the_tables():
    """What a run does not need it does not wait for; and the exit status is the process's own."""
    done = bench("--method", "ppo", PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: unknown method 'ppo'" in done.stderr
    loaded = set(re.findall(r"\b(bench\.[\w.]+)$", done.stderr, re.MULTILINE))
    assert "bench.options" in loaded
    assert not any(name.startswith("bench.alignment") or name == "bench.tables" for name in loaded)


def test_the_help_names_every_choice_and_the_usual_number_of_seeds():
    """The embedded world's sizes and studies are not imported for it, so that they are written there by hand."""
    text = " ".join(bench_here("--help").stdout.split())
    for name in (*MATRICES, *PROFILES, *METERS, *methods.METHODS, *methods.BACKBONES, *methods.REWARDS):
        assert name in text
    for option, names in (("--align=SIZE", SIZES), ("--study=NAME", TRAINED), ("--study-scale=SCALE", SCALES)):
        words = re.findall(r"[\w-]+", text.partition(option)[2].partition(" --")[0])
        assert set(names) <= set(words), option
    assert (
        text.partition("--align-seeds=N")[2]
        .partition(" --")[0]
        .endswith(f"(default: {SEEDS}; {REFERENCE_SEEDS} at the size reference)")
    )


def test_cases_can_be_listed_without_running_them():
    done = bench_here("--collect-only", "--matrix", "published", "-m", "memory")
    assert done.returncode == 0
    listed = [line for line in done.stdout.splitlines() if "::test_memory[" in line]
    assert listed[0] == "bench/test_memory.py::test_memory[draft-mld-T50-B256-F196-paper-simulated]"
    assert len(listed) == 5


def test_alignment_rows_are_listed_unless_other_cases_are_chosen():
    def listed(*arguments):
        done = bench_here("--collect-only", *arguments)
        assert done.returncode == 0, done.stdout
        return [line for line in done.stdout.splitlines() if "::test_alignment[" in line]

    assert len(listed()) == len(METHODS)
    assert not listed("--matrix", "quick")
    (one,) = listed("--method", "refl", "-m", "alignment")
    assert "[refl-embedded-" in one


def test_the_readme_has_two_commands_that_set_everything_up():
    """.ci/run takes the second from there; tox and these share one set of versions."""
    commands = [line for line in README.splitlines() if line.startswith("python3 -m venv")]
    assert len(commands) == 2
    assert all("pip install -q -c constraints.txt -e " in command for command in commands)
    assert "pytest bench/ --benchmark-json=run.json" in commands[0]
    assert commands[0].endswith("bench.report run.json --out report")
    assert commands[1].endswith("pytest tests/")
