"""`python -m bench.compare`: two files of memory rows, as markdown for a pull request."""

import dataclasses
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bench_command import ROOT
from gate_cases import TINY, changed, elsewhere

from bench.cases import Case
from bench.compare import main
from bench.gate import baseline
from bench.records.make import to_json


@pytest.fixture(scope="module")
def results(tmp_path_factory, clean) -> dict[str, Path]:
    """Files of rows: a result, one that grew, one of another torch, and a baseline of the first."""
    folder = tmp_path_factory.mktemp("compare")
    rows = [clean(Case("easytune", **TINY)), clean(Case("draft", **TINY))]
    owners = list(rows[1].reading.owners)
    at = next(i for i, o in enumerate(owners) if o.module.startswith("reward.motion_encoder") and o.where)
    owners[at] = dataclasses.replace(owners[at], bytes=owners[at].bytes + 2**20)
    grown = changed(rows[1], peak=rows[1].reading.peak + 2**20, owners=owners)
    files = {"old": rows, "new": [rows[0], grown], "other": [elsewhere(row, torch="2.6.0") for row in rows]}
    files["same"] = rows
    paths = {name: folder / f"{name}.json" for name in files}
    for name, content in files.items():
        paths[name].write_text(json.dumps({"benchmarks": [{"extra_info": to_json(row)} for row in content]}))
    paths["baseline"] = folder / "baseline.json"
    baseline.save(paths["baseline"], map(baseline.cut_down, rows))
    return paths


@pytest.mark.parametrize("old", ["old", "baseline"])
def test_compare_prints_markdown_with_the_culprit_and_the_ratio(old, results, clean, capsys):
    assert main([str(results[old]), str(results["new"])]) == 1
    printed = capsys.readouterr().out
    assert printed.startswith("### Memory: 1 grew, 1 same")
    table = [line for line in printed.splitlines() if line.startswith("| draft-")]
    easytune, draft = (clean(Case(method, **TINY)).reading for method in ("easytune", "draft"))
    ratio = (draft.peak - draft.resident) / (easytune.peak - easytune.resident)
    grown = (draft.peak + 2**20 - draft.resident) / (easytune.peak - easytune.resident)
    cells = [cell.strip() for cell in table[0].strip("|").split("|")]
    assert cells[1] == "grew"
    assert cells[5:7] == [f"{ratio:.3f}", f"{grown:.3f}"]
    assert "+1.00 MiB" in printed
    assert "- reward · activations · reward.motion_encoder" in printed or "- resident" in printed
    assert "<details>" in printed


def test_compare_of_equal_files_is_0_and_of_unlike_ones_2(results, capsys):
    assert main([str(results["old"]), str(results["baseline"])]) == 0
    capsys.readouterr()
    assert main([str(results["old"]), str(results["other"])]) == 2
    said = capsys.readouterr().err
    assert "torch (" in said
    assert "2.6.0" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_of_another_encoding_changes_no_exit_status(encoding, results, monkeypatch):
    """Letters that it lacks (GiB → GiB) are written as escapes: 1 means that something changed, and nothing else."""
    for new, status in (("same", 0), ("new", 1), ("other", 2)):
        streams = {name: io.TextIOWrapper(io.BytesIO(), encoding) for name in ("stdout", "stderr")}
        with monkeypatch.context() as patch:
            for name, stream in streams.items():
                patch.setattr(sys, name, stream)
            assert main([str(results["old"]), str(results[new])]) == status
            out, err = (stream.buffer.getvalue() for stream in streams.values() if not stream.flush())
        if status < 2:
            assert not err
            assert b"### Memory: " in out
            assert b"\\u2192" in out  # the arrow
            out.decode(encoding)


def test_a_process_in_another_encoding_ends_with_the_commands_status(results):
    """What a CI step sees."""
    command = [sys.executable, "-m", "bench.compare", results["old"], results["new"]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=60)
    assert done.returncode == 1, done.stderr
    assert b"\\u2192" in done.stdout
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("bad", ["missing.json", "empty.json"])
def test_compare_says_what_is_wrong_with_a_file(bad, results, tmp_path, capsys):
    (tmp_path / "empty.json").write_text("")
    assert main([str(results["old"]), str(tmp_path / bad)]) == 2
    said = capsys.readouterr().err
    assert bad in said
    assert said.count("\n") == 1


def test_a_reader_that_stops_early_is_no_fault():
    """As in `bench.compare … | head`."""
    baseline = str(ROOT / "reports/baselines/simulated.json")
    command = [sys.executable, "-m", "bench.compare", baseline, baseline]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert (process.wait(60), process.stderr.read()) == (141, "")
