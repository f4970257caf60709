"""Judging: every figure to the byte, both ways, like with like; each outcome has its words and its exit status."""

import json
import math
import os
import subprocess
import sys

import pytest
import torch
from bench_command import ROOT
from gate_cases import TINY, changed, elsewhere, shifted
from msgspec import structs

from bench.cases import Case
from bench.gate import baseline
from bench.gate.baseline import cut_down
from bench.gate.growth import SHOWN, changes
from bench.gate.judge import EXIT_STATUS, NOTHING_MEASURED, Outcome, compare, judge, judge_all
from bench.gate.session import Gate


@pytest.fixture(scope="module")
def committed(tmp_path_factory, clean):
    """The file of a baseline of one row."""
    path = tmp_path_factory.mktemp("gate") / "baseline.json"
    baseline.save(path, [cut_down(clean(Case("easytune", **TINY)))])
    return path


@pytest.mark.parametrize(("seeds", "times"), [((1,), 2), pytest.param((1, 2), 5, marks=pytest.mark.slow)])
def test_an_unchanged_tree_passes_every_time(committed, seeds, times):
    """In fresh processes, under other hash seeds and thread counts."""
    program = (
        "import json, pathlib, sys, torch; from bench.cases import Case; from bench.gate import baseline;"
        "from bench.gate.judge import judge; from bench.memory import measure;"
        "rows = baseline.load(pathlib.Path(sys.argv[1]));"
        "case = Case(**json.loads(sys.argv[2]));"
        "times = range(int(sys.argv[3]));"
        "measured = [(torch.set_num_threads(1 + n % 4), measure(case, count_flops=False))[1] for n in times];"
        "print(*(judge(baseline.cut_down(record), rows).outcome for record in measured))"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, committed, json.dumps({"method": "easytune", **TINY}), str(times)],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in seeds
    ]
    assert [process.communicate(timeout=300)[0].split() for process in running] == [["same"] * times] * len(seeds)


def test_every_figure_is_held_to_the_byte_and_shrinking_fails_as_well(clean):
    record = clean(Case(**TINY))
    row, peak, sampling = cut_down(record), record.reading.peak, record.reading.sampling

    def against(**reading):
        return compare(row, cut_down(changed(record, **reading)))

    assert against().outcome is Outcome.SAME
    assert against(peak=peak + 512).outcome is Outcome.GREW
    assert against(peak=peak - 512).outcome is Outcome.SHRANK
    below = against(sampling=sampling + 512)
    assert below.outcome is Outcome.GREW
    assert "sampling" in below.lines[0]
    assert "below the peak" in below.lines[0]


def test_a_figure_that_is_no_number_never_passes(clean):
    """Files with one are refused when they are read; a meter that gives one must not pass either."""
    record = clean(Case(**TINY))
    for reading in (
        {"peak": math.nan},
        {"sampling": math.nan},
        {"phases": {**record.reading.phases, "decode": math.nan}},
    ):
        assert compare(cut_down(record), cut_down(changed(record, **reading))).outcome is not Outcome.SAME


def test_a_measured_row_has_a_margin_both_ways(clean):
    record = clean(Case(**TINY))
    row, peak = structs.replace(cut_down(record), margin=0.01), record.reading.peak

    def against(share):
        return compare(row, cut_down(changed(record, peak=int(peak * share)))).outcome

    assert against(1.009) is Outcome.SAME
    assert against(1.011) is Outcome.GREW
    assert against(0.985) is Outcome.SHRANK


def test_the_message_names_the_largest_changes_and_sums_up_the_rest(clean):
    case = Case(**TINY)
    row, other = (cut_down(clean(Case(**{**TINY, "batch": batch}))) for batch in (2, 4))
    finding = compare(row, structs.replace(other, case=row.case))
    assert finding.lines[0].startswith(f"{case.id}: ")
    assert len(finding.lines) == 1 + SHOWN + 1
    assert "more changes" in finding.lines[-1]
    sizes = [c.bytes for c in changes(row.owners, other.owners)]
    assert sizes == sorted(sizes, reverse=True)
    assert sum(sizes) == other.peak - row.peak


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
    row = cut_down(clean(Case(**TINY)))
    other = structs.replace(row, **{where: structs.replace(getattr(row, where), **{name: value})})
    finding = judge(row, [other])
    assert finding.outcome is Outcome.UNLIKE
    ours = str(getattr(getattr(row, where), name)).partition("+")[0]
    assert f"{name} ({value} and {ours})" in finding.lines[0]


def test_a_device_is_part_of_the_key_of_measured_rows_only(clean):
    row = cut_down(clean(Case(**TINY)))
    other = cut_down(elsewhere(clean(Case(**TINY)), device="another machine"))
    assert judge(row, [other]).outcome is Outcome.SAME
    on_host = structs.replace(row, case=structs.replace(row.case, meter="host"))
    assert "device" in judge(on_host, [structs.replace(other, case=on_host.case)]).lines[0]


def test_missing_and_new_cases_are_both_reported(clean):
    one, two = cut_down(clean(Case(**TINY))), cut_down(clean(Case("draft", **TINY)))
    outcomes = {f.id: f.outcome for f in judge_all([one], [two])}
    assert outcomes == {one.case.id: Outcome.NEW, two.case.id: Outcome.MISSING}


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
    lines, exit_status = gate.finish(rows, whole=True)
    assert exit_status == status
    assert gate.failed == len(failed)
    for word in words:
        assert word in "\n".join(lines)


def test_a_case_that_was_tried_and_not_measured_is_missing(tmp_path, clean):
    """Rows of a GPU in the baseline, on a machine without one: skipping them is not passing."""
    simulated = clean(Case(**TINY))
    cuda = structs.replace(
        simulated, case=structs.replace(simulated.case, meter="cuda", id=Case(**TINY, meter="cuda").id)
    )
    path = tmp_path / "baseline.json"
    baseline.save(path, map(cut_down, (simulated, cuda)))
    tried = structs.replace(cuda, status="unavailable", reason="needs a CUDA device", reading=None)
    lines, status = Gate(path, update=False).finish([simulated, tried], whole=True)
    assert status == EXIT_STATUS[Outcome.MISSING] == 14
    assert "1 missing" in "\n".join(lines)
    assert "needs a CUDA device" in "\n".join(lines)
    assert "1 within" in "\n".join(lines)
    # Where it is all there was, nothing was measured.
    assert Gate(path, update=False).finish([tried], whole=True)[1] == NOTHING_MEASURED


def test_what_an_early_stop_did_not_reach_is_neither_missing_nor_passed(tmp_path, clean):
    records = [clean(Case(method, **TINY)) for method in ("easytune", "draft", "refl:m=2")]
    path = tmp_path / "baseline.json"
    baseline.save(path, map(cut_down, records))
    gate = Gate(path, update=False)
    lines, status = gate.finish(records[:1], whole=False)
    assert "missing" not in "\n".join(lines)
    assert "2 not reached" in "\n".join(lines)
    assert status == EXIT_STATUS[Outcome.MISSING]
    # What was reached has the word: a case that grew, and one that was tried and not measured.
    grown = changed(records[0], peak=records[0].reading.peak + 512)
    assert gate.finish([grown], whole=False)[1] == EXIT_STATUS[Outcome.GREW]
    tried = structs.replace(records[1], status="failed", reason="no such luck", reading=None)
    lines, _ = gate.finish([records[0], tried], whole=False)
    assert "1 missing" in "\n".join(lines)
    assert "1 not reached" in "\n".join(lines)
    # A run that reached every row was whole enough.
    assert gate.finish(records, whole=False)[1] is None


def _of_torch(text: str, version: str) -> str:
    return text.replace(torch.__version__.partition("+")[0], version)
