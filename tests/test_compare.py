"""`python -m bench.compare`: two files of memory rows, as markdown for a pull request."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from bench_command import ROOT
from gate_cases import TINY, changed

from bench.cases import Case
from bench.compare import main
from bench.gate import baseline


@pytest.fixture(scope="module")
def results(tmp_path_factory, clean) -> dict[str, Path]:
    """Files of rows: a result, one that grew, one of another torch, and a baseline of the first."""
    folder = tmp_path_factory.mktemp("compare")
    rows = [clean(Case("easytune", **TINY)), clean(Case("draft", **TINY))]
    owners = [dict(o) for o in rows[1]["reading"]["owners"]]
    at = next(i for i, o in enumerate(owners) if o["module"].startswith("reward.motion_encoder") and o["where"])
    owners[at]["bytes"] += 2**20
    grown = changed(rows[1], peak=rows[1]["reading"]["peak"] + 2**20, owners=owners)
    older = [{**row, "environment": {**row["environment"], "torch": "2.6.0"}} for row in rows]
    files = {"old": rows, "new": [rows[0], grown], "other": older}
    paths = {name: folder / f"{name}.json" for name in files}
    for name, content in files.items():
        paths[name].write_text(json.dumps({"benchmarks": [{"extra_info": row} for row in content]}))
    paths["baseline"] = folder / "baseline.json"
    baseline.save(paths["baseline"], baseline.updated([], rows))
    return paths


@pytest.mark.parametrize("old", ["old", "baseline"])
def test_compare_prints_markdown_with_the_culprit_and_the_ratio(old, results, clean, capsys):
    assert main([str(results[old]), str(results["new"])]) == 1
    printed = capsys.readouterr().out
    assert printed.startswith("### Memory: 1 grew, 1 same")
    table = [line for line in printed.splitlines() if line.startswith("| draft-")]
    easytune, draft = (clean(Case(method, **TINY))["reading"] for method in ("easytune", "draft"))
    ratio = (draft["peak"] - draft["resident"]) / (easytune["peak"] - easytune["resident"])
    grown = (draft["peak"] + 2**20 - draft["resident"]) / (easytune["peak"] - easytune["resident"])
    cells = [cell.strip() for cell in table[0].strip("|").split("|")]
    assert cells[1] == "grew"
    assert cells[5:7] == [f"{ratio:.3f}", f"{grown:.3f}"]
    assert "+1.00 MiB" in printed
    assert "- reward · activations · reward.motion_encoder" in printed or "- resident" in printed
    assert "<details>" in printed


def test_compare_of_equal_files_is_0_and_of_unlike_ones_2(results, capsys):
    """The unlike ones in a process of their own: what a CI step sees."""
    assert main([str(results["old"]), str(results["baseline"])]) == 0
    command = [sys.executable, "-m", "bench.compare", results["old"], results["other"]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "torch (" in done.stderr
    assert "2.6.0" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("bad", ["missing.json", "empty.json"])
def test_compare_says_what_is_wrong_with_a_file(bad, results, tmp_path, capsys):
    (tmp_path / "empty.json").write_text("")
    assert main([str(results["old"]), str(tmp_path / bad)]) == 2
    said = capsys.readouterr().err
    assert bad in said
    assert said.count("\n") == 1
