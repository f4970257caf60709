"""Judging: every figure to the byte, both ways, like with like; each outcome has its words and its exit status."""

import os
import subprocess
import sys

import pytest
import torch
from bench_command import ROOT
from gate_cases import TINY, changed, shifted

from bench.cases import Case
from bench.gate import baseline
from bench.gate.growth import SHOWN, changes
from bench.gate.judge import EXIT_STATUS, NOTHING_MEASURED, Outcome, compare, judge, judge_all
from bench.gate.session import Gate


@pytest.fixture(scope="module")
def committed(tmp_path_factory, clean):
    """The file of a baseline of one row."""
    path = tmp_path_factory.mktemp("gate") / "baseline.json"
    baseline.save(path, baseline.updated([], [clean(Case("easytune", **TINY))]))
    return path


def test_an_unchanged_tree_passes_10_times_in_10(committed):
    """In fresh processes, under other hash seeds and thread counts."""
    program = (
        "import pathlib, sys, torch; from bench.cases import Case; from bench.gate import baseline;"
        "from bench.gate.judge import judge; from bench.memory import measure;"
        "rows = baseline.load(pathlib.Path(sys.argv[1]));"
        "case = Case(**{k: v for k, v in rows[0]['case'].items() if k != 'id'});"
        "found = [(torch.set_num_threads(1 + n % 4), judge(measure(case), rows))[1] for n in range(5)];"
        "print(*(f.outcome for f in found))"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, committed],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in (1, 2)
    ]
    assert [process.communicate(timeout=300)[0].split() for process in running] == [["same"] * 5] * 2


def test_every_figure_is_held_to_the_byte_and_shrinking_fails_as_well(clean):
    row = clean(Case(**TINY))
    peak, sampling = row["reading"]["peak"], row["reading"]["sampling"]
    assert compare(row, row).outcome is Outcome.SAME
    assert compare(row, changed(row, peak=peak + 512)).outcome is Outcome.GREW
    assert compare(row, changed(row, peak=peak - 512)).outcome is Outcome.SHRANK
    below = compare(row, changed(row, sampling=sampling + 512))
    assert below.outcome is Outcome.GREW
    assert "sampling" in below.lines[0]
    assert "below the peak" in below.lines[0]


def test_a_measured_row_has_a_margin_both_ways(clean):
    row = {**clean(Case(**TINY)), "margin": 0.01}
    peak = row["reading"]["peak"]
    assert compare(row, changed(row, peak=int(peak * 1.009))).outcome is Outcome.SAME
    assert compare(row, changed(row, peak=int(peak * 1.011))).outcome is Outcome.GREW
    assert compare(row, changed(row, peak=int(peak * 0.985))).outcome is Outcome.SHRANK
    assert baseline.MARGINS["simulated"] == 0 < baseline.MARGINS["host"] < baseline.MARGINS["cuda"]


def test_the_message_names_the_largest_changes_and_sums_up_the_rest(clean):
    case = Case(**TINY)
    row, other = clean(case), clean(Case(**{**TINY, "batch": 4}))
    finding = compare(row, {**other, "case": row["case"]})
    assert finding.lines[0].startswith(f"{case.id}: ")
    assert len(finding.lines) == 1 + SHOWN + 1
    assert "more changes" in finding.lines[-1]
    sizes = [c.bytes for c in changes(row["reading"]["owners"], other["reading"]["owners"])]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        ("environment", "torch", "1.13.1"),
        ("settings", "attention", "fused"),
        ("settings", "reward_frozen", True),
        ("settings", "optimizer", "SGD"),
    ],
)
def test_unlike_rows_are_refused_with_the_field_and_both_values(where, name, value, clean):
    row = clean(Case(**TINY))
    other = {**row, where: {**row[where], name: value}}
    finding = judge(row, [other])
    assert finding.outcome is Outcome.UNLIKE
    ours = str(row[where][name]).partition("+")[0]
    assert f"{name} ({value} and {ours})" in finding.lines[0]


def test_a_device_is_part_of_the_key_of_measured_rows_only(clean):
    row = clean(Case(**TINY))
    elsewhere = {**row, "environment": {**row["environment"], "device": "another machine"}}
    assert judge(row, [elsewhere]).outcome is Outcome.SAME
    on_host = {**row, "case": {**row["case"], "meter": "host"}}
    elsewhere = {**on_host, "environment": elsewhere["environment"]}
    assert "device" in judge(on_host, [elsewhere]).lines[0]


def test_missing_and_new_cases_are_both_told(clean):
    one, two = clean(Case(**TINY)), clean(Case("draft", **TINY))
    found = {f.id: f.outcome for f in judge_all([one], [two])}
    assert found == {one["case"]["id"]: Outcome.NEW, two["case"]["id"]: Outcome.MISSING}


OUTCOMES = [
    # edit of the baseline, methods measured, exit status, words of the section
    (lambda text: text, ["easytune"], None, ["1 within their margins"]),
    (lambda text: shifted(text, -512), ["easytune"], EXIT_STATUS[Outcome.GREW], ["1 memory grew", "+512 B"]),
    (lambda text: shifted(text, 512), ["easytune"], EXIT_STATUS[Outcome.SHRANK], ["1 memory shrank", "-512 B"]),
    (lambda text: _of_torch(text, "2.6.0"), ["easytune"], EXIT_STATUS[Outcome.UNLIKE], ["1 refused", "torch (2.6.0 "]),
    (lambda text: text, ["draft"], EXIT_STATUS[Outcome.MISSING], ["1 missing", "1 new"]),
    (lambda text: text, ["easytune", "draft"], EXIT_STATUS[Outcome.NEW], ["1 new", "1 within"]),
    (lambda text: text, [], NOTHING_MEASURED, ["nothing was measured"]),
]


@pytest.mark.parametrize(("edit", "methods", "status", "words"), OUTCOMES)
def test_each_outcome_has_its_words_and_exit_status(edit, methods, status, words, committed, tmp_path, clean):
    path = tmp_path / "baseline.json"
    path.write_text(edit(committed.read_text()))
    gate = Gate(path, update=False)
    rows = [clean(Case(method, **TINY)) for method in methods]
    failed = [row for row in rows if gate.check(row) is not None]
    lines, found = gate.finish(rows, whole=True)
    assert found == status
    assert gate.failed == len(failed)
    for word in words:
        assert word in "\n".join(lines)


def test_an_aborted_run_does_not_call_its_unmeasured_cases_missing(committed, clean):
    gate = Gate(committed, update=False)
    lines, _ = gate.finish([clean(Case("draft", **TINY))], whole=False)
    assert "missing" not in "\n".join(lines)


def _of_torch(text: str, version: str) -> str:
    return text.replace(torch.__version__.partition("+")[0], version)
