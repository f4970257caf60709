"""`pytest bench/` as a user runs it, at a tiny size: rows, files, exit codes, sentences."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench import record

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
TINY = ["--backbone", "mld-tiny", "--steps", "4", "--batch", "2", "--frames", "5"]
TIMED = ["--time-steps", "4", "--time-batch", "2", "--time-frames", "5", "--rounds", "2"]


def bench(*arguments: object, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pytest", "bench/", "-q", "-p", "no:cacheprovider", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(folder), **environment}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def test_memory_and_time_of_chosen_methods_reach_the_json_and_the_terminal(tmp_path):
    result = tmp_path / "run.json"
    methods = ["--method", "easytune", "--method", "draft:k=2"]
    done = bench(*TINY, *TIMED, *methods, f"--benchmark-json={result}")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = record.load(result)
    assert [(row["kind"], row["case"]["method"], row["status"]) for row in rows] == [
        ("memory", "easytune", "ok"),
        ("memory", "draft:k=2", "ok"),
        ("step_time", "easytune", "ok"),
        ("step_time", "draft:k=2", "ok"),
    ]
    assert "memory, GiB" in done.stdout
    assert "step time, seconds" in done.stdout
    assert not result.with_name("run.json.partial").exists()
    timing = rows[2]["timing"]
    assert timing["rounds"] == len(timing["seconds_per_update"]) == 2
    assert timing["per_optimiser_step"]["median"] == pytest.approx(timing["per_update"]["median"] / 4)
    assert timing["per_sample"]["median"] == pytest.approx(timing["per_update"]["median"] / 2)
    # pytest-benchmark's own statistics are of the same rounds.
    stats = json.loads(result.read_text())["benchmarks"][2]["stats"]
    assert stats["data"] == pytest.approx(timing["seconds_per_update"])


def test_a_case_that_cannot_be_measured_is_a_row_and_the_others_go_on(tmp_path):
    result = tmp_path / "run.json"
    meters = ["--meter", "cuda", "--meter", "simulated", "--meter", "host"]
    done = bench(
        *TINY, *meters, "-m", "memory", "--method", "refl:m=2", f"--benchmark-json={result}", CUDA_VISIBLE_DEVICES=""
    )
    rows = record.load(result)
    assert [(row["case"]["meter"], row["status"]) for row in rows] == [
        ("cuda", "unavailable"),
        ("simulated", "ok"),
        ("host", "ok"),
    ]
    assert done.returncode == 0
    assert "1 skipped" in done.stdout
    assert "no GPU" in rows[0]["reason"]
    assert rows[2]["reading"]["process"] > 0


def readme_example(first_line: str) -> str:
    """The README's code block that begins with a line."""
    return next(
        block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if block.startswith(first_line)
    )


def test_the_readmes_third_party_method_is_measured_without_touching_this_tree(tmp_path):
    (tmp_path / "every_other.py").write_text(readme_example("# every_other.py"))
    result = tmp_path / "run.json"
    arguments = ["-p", "every_other", "--method", "every-other:offset=1", "-m", "memory", f"--benchmark-json={result}"]
    done = bench(*TINY, *arguments, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = record.load(result)
    assert row["plan"]["updates"] == 2
    assert row["reading"]["peak"] > row["reading"]["resident"]


def test_an_aborted_run_is_resumed(tmp_path):
    result = tmp_path / "run.json"
    chosen = [*TINY, "-m", "memory", "--method", "easytune", "--method", "refl:m=2", f"--benchmark-json={result}"]
    assert bench(*chosen).returncode == 0
    rows = record.load(result)
    marked = {**rows[0], "reading": {**rows[0]["reading"], "peak": 123456789}}
    result.with_name("run.json.partial").write_text(json.dumps(marked) + "\n" + json.dumps(rows[1])[:50])
    result.write_text("")
    assert bench(*chosen, "--resume").returncode == 0
    peaks = {row["case"]["method"]: row["reading"]["peak"] for row in record.load(result)}
    assert peaks == {"easytune": 123456789, "refl:m=2": rows[1]["reading"]["peak"]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method", "ppo"], ["'ppo'", "draft", "easytune"]),
        (["--method", "draft:k=99"], ["k", "50", "99"]),
        (["--matrix", "huge"], ["'huge'", "published"]),
        (["--batch", "-1"], ["batch", "-1"]),
        (["--profile", "lean-and-mean"], ["'lean-and-mean'", "paper"]),
        (["--rounds", "0"], ["--rounds", "0"]),
        (["--method", "easytune:first=50"], ["window", "50"]),
        (["--benchmark-json=/dev/null/run.json"], ["cannot write", "/dev/null"]),
    ],
)
def test_bad_options_are_refused_in_one_sentence_before_anything_runs(arguments, words):
    done = bench(*arguments)
    assert done.returncode == 4
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("ERROR:")]
    assert len(lines) == 1
    for word in words:
        assert word in lines[0]
    assert "Traceback" not in done.stdout + done.stderr


def test_cases_can_be_listed_without_running_them():
    done = bench("--collect-only", "--matrix", "published", "-m", "memory")
    assert done.returncode == 0
    listed = [line for line in done.stdout.splitlines() if "::test_memory[" in line]
    assert listed[0] == "bench/test_memory.py::test_memory[draft-mld-T50-B256-F196-paper-simulated]"
    assert len(listed) == 5


def test_the_readme_has_two_commands_that_set_everything_up():
    """.ci/run takes the second from there; tox and these share one set of versions."""
    commands = [line for line in README.splitlines() if line.startswith("python3 -m venv")]
    assert len(commands) == 2
    assert all("-c constraints.txt -e '.[dev]'" in command for command in commands)
    assert "pytest bench/ --benchmark-json=run.json" in commands[0]
    assert commands[0].endswith("bench.report run.json --out report")
    assert commands[1].endswith("pytest tests/")
