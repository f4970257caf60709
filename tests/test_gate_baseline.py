"""The baseline file: what is saved is loaded, a diff can be read, and a broken one is refused in one sentence."""

import json
import math
import re

import pytest
import torch
from bench_command import ROOT
from gate_cases import TINY, elsewhere
from msgspec import structs

from bench.cases import Case, matrix
from bench.claims.compare import difference
from bench.gate import baseline
from bench.gate.baseline import cut_down
from bench.gate.growth import changes
from bench.gate.judge import Outcome, judge
from bench.records import RecordError
from methods.rollout import PHASES


def test_the_committed_file_is_loaded_and_saved_to_the_byte(tmp_path):
    committed = ROOT / "reports" / "baselines" / "simulated.json"
    path = tmp_path / "baseline.json"
    baseline.save(path, reversed(baseline.load(committed)))
    assert path.read_bytes() == committed.read_bytes()


def test_a_baseline_holds_several_torch_versions_and_says_which_row_is_whose(tmp_path, clean):
    record = clean(Case(**TINY))
    row, older = cut_down(record), cut_down(elsewhere(record, torch="2.6.0"))
    path = tmp_path / "baseline.json"
    baseline.save(path, baseline.updated([older], [row]))
    rows = baseline.load(path)
    assert {r.environment.torch for r in rows} == {"2.6.0", torch.__version__.partition("+")[0]}
    assert judge(row, rows).outcome is Outcome.SAME
    assert '"torch": "2.6.0"' in path.read_text()
    # Written again, it is the same file: stable in order, one fact a line.
    before = path.read_text()
    baseline.save(path, reversed(rows))
    assert path.read_text() == before


def test_an_update_keeps_a_margin_set_by_hand_and_drops_cases_not_measured(clean):
    row, gone = cut_down(clean(Case(**TINY))), cut_down(clean(Case("draft", **TINY)))
    (kept,) = baseline.updated([structs.replace(row, margin=0.2), gone], [row])
    assert (kept.case.id, kept.margin) == (row.case.id, 0.2)


def test_what_is_loaded_is_what_was_saved(tmp_path, clean):
    record = clean(Case(**TINY))
    path = tmp_path / "baseline.json"
    baseline.save(path, [cut_down(record)])
    (loaded,) = baseline.load(path)
    assert changes(cut_down(record).owners, loaded.owners) == []
    assert sum(owner.bytes for owner in loaded.owners) == record.reading.peak
    for figure in (*baseline.FIGURES, "phases"):
        assert getattr(loaded, figure) == getattr(record.reading, figure)
    assert loaded.case == record.case


def test_a_row_of_a_gpu_keeps_its_settings(tmp_path, clean):
    """Those of a GPU, which other rows lack, and the threads, which simulated rows leave out."""
    row = cut_down(elsewhere(clean(Case(**TINY)), device="NVIDIA H100", cuda="13.0"))
    gpu = {"allow_tf32": False, "cudnn_benchmark": True, "allocator": {"max_split_size": -1}, "threads": 3}
    row = structs.replace(
        row,
        case=structs.replace(row.case, meter="cuda", id=Case(**TINY, meter="cuda").id),
        settings=structs.replace(row.settings, **gpu),
    )
    path = tmp_path / "baseline.json"
    baseline.save(path, [row])
    (loaded,) = baseline.load(path)
    assert loaded.settings == row.settings
    assert (loaded.environment.device, loaded.environment.cuda) == ("NVIDIA H100", "13.0")
    assert difference(loaded, row) is None


NONSENSE = {
    "missing": (lambda text: None, "there is no baseline"),
    "empty": (lambda text: "", "is empty"),
    "cut off": (lambda text: text[: len(text) // 2], "is not whole JSON"),
    "another schema": (lambda text: text.replace('"schema": 1', '"schema": 7'), "has schema version 7"),
    "another file": (lambda text: '{"benchmarks": []}', "is not a memory baseline"),
    "no rows": (lambda text: '{"kind": "memory baseline", "schema": 1, "rows": []}', "holds no rows"),
    "a negative peak": (lambda text: _edited(text, peak=-5), "peak is wrong"),
    "a peak in words": (lambda text: _edited(text, peak="lots"), "peak is wrong"),
    "a peak that is true": (lambda text: _edited(text, peak=True), "got `bool`"),
    "a peak of no number": (lambda text: _edited(text, peak=math.nan), "NaN"),
    "an endless peak": (lambda text: re.sub('"peak": [0-9]+', '"peak": 1e999', text), "out of range"),
    "a negative phase": (lambda text: _edited(text, phases=_phases(-1)), "phases"),
    "a negative owner": (lambda text: _edited(text, owners=[["reward", "other", "", "", -1, 1]]), "owners[0][4]"),
    "an owner cut short": (lambda text: _edited(text, owners=[["reward", "other", ""]]), "owners[0]"),
    "an owner of no phase": (lambda text: _of_no_phase(text), "phase x"),
    "a schema that is true": (lambda text: text.replace('"schema": 1', '"schema": true'), "schema version True"),
    "nested": (lambda text: "[" * 100_000, "nested too deeply"),
    "a peak below its parts": (lambda text: _edited(text, peak=512, owners=[]), "less than one of its parts"),
    "owners that do not add up": (lambda text: _edited(text, peak=10**12), "owners of"),
    "an unknown phase": (lambda text: _edited(text, phases=_phases(1) | {"dreaming": 1}), "dreaming"),
    "a margin of 300%": (lambda text: _edited(text, margin=3), "margin is wrong"),
    "another case's id": (lambda text: _edited(text, id="easytune"), "easytune"),
    "an unknown method": (lambda text: text.replace('"method": "easytune"', '"method": "x"'), "unknown method 'x'"),
    "a field gone": (lambda text: _edited(text, settings=None), "settings"),
    "a case twice": (lambda text: _twice(text), "twice"),
}


def _phases(size: int) -> dict[str, int]:
    return dict.fromkeys(PHASES, size)


def _edited(text: str, **fields) -> str:
    document = json.loads(text)
    document["rows"][0].update(fields)
    return json.dumps(document)


def _of_no_phase(text: str) -> str:
    return _edited(text, peak=5, resident=0, phases=_phases(0), owners=[["x", "other", "", "", 5, 1]])


def _twice(text: str) -> str:
    document = json.loads(text)
    return json.dumps({**document, "rows": document["rows"] * 2})


@pytest.mark.parametrize("name", NONSENSE)
def test_a_baseline_of_no_use_is_one_sentence_that_names_it(name, tmp_path, clean):
    damage, words = NONSENSE[name]
    path = tmp_path / "baseline.json"
    baseline.save(path, [cut_down(clean(Case(**TINY)))])
    text = damage(path.read_text())
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    with pytest.raises(RecordError) as caught:
        baseline.load(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "--memory-baseline-update" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_committed_baseline_is_that_of_the_gate_matrix_and_the_pinned_torch():
    rows = baseline.load(ROOT / "reports" / "baselines" / "simulated.json")
    pinned = re.search(r"^torch==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
    ours = [row for row in rows if row.environment.torch == pinned]
    assert {row.case.id for row in ours} == {case.id for case in matrix("gate")}
