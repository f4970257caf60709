"""The baseline file: what is saved is loaded, a diff can be read, and a broken one is refused in one sentence."""

import json
import re

import pytest
import torch
from bench_command import ROOT
from gate_cases import TINY, changed

from bench import record
from bench.cases import Case, matrix
from bench.gate import baseline
from bench.gate.growth import changes
from bench.gate.judge import Outcome, judge


def test_a_baseline_holds_several_torch_versions_and_says_which_row_is_whose(tmp_path, clean):
    row = clean(Case(**TINY))
    older = {**changed(row, peak=row["reading"]["peak"]), "environment": {**row["environment"], "torch": "2.6.0"}}
    path = tmp_path / "baseline.json"
    baseline.save(path, baseline.updated([{**older, "margin": 0.0}], [row]))
    rows = baseline.load(path)
    assert {r["environment"]["torch"] for r in rows} == {"2.6.0", torch.__version__.partition("+")[0]}
    assert judge(row, rows).outcome is Outcome.SAME
    assert '"torch": "2.6.0"' in path.read_text()
    # Written again, it is the same file: stable in order, one fact a line.
    before = path.read_text()
    baseline.save(path, reversed(rows))
    assert path.read_text() == before


def test_an_update_keeps_a_margin_set_by_hand_and_drops_cases_not_measured(clean):
    row, gone = clean(Case(**TINY)), clean(Case("draft", **TINY))
    (kept,) = baseline.updated([{**row, "margin": 0.2}, {**gone, "margin": 0.0}], [row])
    assert (kept["case"]["id"], kept["margin"]) == (row["case"]["id"], 0.2)


def test_what_is_loaded_is_what_was_saved(tmp_path, clean):
    row = clean(Case(**TINY))
    path = tmp_path / "baseline.json"
    baseline.save(path, baseline.updated([], [row]))
    (loaded,) = baseline.load(path)
    assert changes(row["reading"]["owners"], loaded["reading"]["owners"]) == []
    for figure in (*baseline.FIGURES, "phases"):
        assert loaded["reading"][figure] == row["reading"][figure]


NONSENSE = {
    "missing": (lambda text: None, "there is no baseline"),
    "empty": (lambda text: "", "is empty"),
    "cut off": (lambda text: text[: len(text) // 2], "is not whole JSON"),
    "another schema": (lambda text: text.replace('"schema": 1', '"schema": 7'), "has schema version 7"),
    "another file": (lambda text: '{"benchmarks": []}', "is not a memory baseline"),
    "no rows": (lambda text: '{"kind": "memory baseline", "schema": 1, "rows": []}', "holds no rows"),
    "a negative peak": (lambda text: _edited(text, peak=-5), "peak = -5"),
    "a peak in words": (lambda text: _edited(text, peak="lots"), "'lots'"),
    "a peak below its parts": (lambda text: _edited(text, peak=512, owners=[]), "less than one of its parts"),
    "owners that do not add up": (lambda text: _edited(text, peak=10**12), "owners of"),
    "an unknown phase": (lambda text: _edited(text, phases={"dreaming": 1}), "dreaming"),
    "a margin of 300%": (lambda text: _edited(text, margin=3), "margin 3"),
    "another case's id": (lambda text: _edited(text, id="easytune"), "easytune"),
    "an unknown method": (lambda text: text.replace('"method": "easytune"', '"method": "x"'), "unknown method 'x'"),
    "a field gone": (lambda text: _edited(text, settings=None), "settings"),
    "a case twice": (lambda text: _twice(text), "twice"),
}


def _edited(text: str, **fields) -> str:
    document = json.loads(text)
    document["rows"][0].update(fields)
    return json.dumps(document)


def _twice(text: str) -> str:
    document = json.loads(text)
    return json.dumps({**document, "rows": document["rows"] * 2})


@pytest.mark.parametrize("name", NONSENSE)
def test_a_baseline_of_no_use_is_one_sentence_that_names_it(name, tmp_path, clean):
    damage, words = NONSENSE[name]
    path = tmp_path / "baseline.json"
    baseline.save(path, baseline.updated([], [clean(Case(**TINY))]))
    text = damage(path.read_text())
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    with pytest.raises(record.RecordError) as caught:
        baseline.load(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "--memory-baseline-update" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_committed_baseline_is_that_of_the_gate_matrix_and_the_pinned_torch():
    rows = baseline.load(ROOT / "reports" / "baselines" / "simulated.json")
    pinned = re.search(r"^torch==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
    ours = [row for row in rows if row["environment"]["torch"] == pinned]
    assert {row["case"]["id"] for row in ours} == {case.id for case in matrix("gate")}
