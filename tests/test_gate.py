"""The memory gate finds every byte, says whose it is, and never cries wolf."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_commands import ROOT, bench

from bench import record
from bench.cases import Case, matrix
from bench.gate import baseline, paired
from bench.gate.growth import SHOWN, changes
from bench.gate.judge import EXIT_STATUS, NOTHING_MEASURED, Outcome, compare, judge, judge_all
from bench.gate.session import Gate
from bench.runner import measure
from methods import rollout
from methods.rewards import spm
from methods.transformer import LearnedPositions

LARGE = {"steps": 3, "batch": 256, "frames": 196}
"""The published size, whose proportions the messages must get right; few steps, so that it is quick."""
TINY = {"backbone": "mld-tiny", "steps": 4, "batch": 2, "frames": 5}


def measured(case: Case) -> dict:
    row = measure(case)
    assert row["status"] == "ok", row["reason"]
    return json.loads(json.dumps(row))


@pytest.fixture(scope="module")
def clean():
    """case -> its row, measured from the unchanged code, once."""
    rows: dict[Case, dict] = {}
    return lambda case: rows.setdefault(case, measured(case))


# Mutations: what a careless change of the code does to memory. Each is caught, and laid at the right door.


def reward_left_unfrozen(patch):
    patch.setattr(spm.Spm, "requires_grad_", lambda self, requires_grad=True: self)


def explicit_attention(patch):
    patch.setattr("bench.setup.set_attention_kernel", lambda network, kernel: None)


def float_dropout_masks(patch):
    """A mask of four bytes an element, as the CPU's dropout keeps it."""

    def dropout(x, p=0.5, training=True, inplace=False):
        return x * torch.empty_like(x).bernoulli_(1 - p) if training and p > 0 else x

    patch.setattr("bench.meters.lowering.dropout", dropout)


def graph_leaked_between_steps(patch):
    """The latents of all steps are kept, and backpropagation does not free their graphs."""
    leaked = []
    score, backward = rollout.__globals__["_score"], torch.autograd.backward

    def keep(step, backbone, sampler, reward, batch, latent, phases):
        leaked.append(latent)
        return score(step, backbone, sampler, reward, batch, latent, phases)

    patch.setitem(rollout.__globals__, "_score", keep)

    def keeping(tensors, gradients=None, _retain=None, *rest, **options):
        # Of the chain alone (a list of latents): the decoder's and the reward's graphs are freed as ever.
        return backward(tensors, gradients, isinstance(tensors, list) or None, *rest, **options)

    patch.setattr(torch.autograd, "backward", keeping)


MUTATIONS = [
    # mutation, case, phase, category, module that must head the list
    (reward_left_unfrozen, Case(**LARGE, profile="frozen"), "reward", "activations", "reward.motion_encoder."),
    (
        explicit_attention,
        Case(**LARGE, profile="paper+attention=fused"),
        "reward",
        "activations",
        "reward.motion_encoder.input_blocks.*.self_attn",
    ),
    (float_dropout_masks, Case(**LARGE), "reward", "activations", "reward.motion_encoder."),
    (graph_leaked_between_steps, Case(**LARGE), "rollout", "activations", "denoiser.encoder."),
]


@pytest.mark.parametrize(("mutation", "case", "phase", "category", "module"), MUTATIONS)
def test_a_mutation_is_caught_and_attributed(mutation, case, phase, category, module, clean, monkeypatch):
    mutation(monkeypatch)
    after = measured(case)
    monkeypatch.undo()
    finding = compare(clean(case), after)
    assert finding.outcome is Outcome.GREW
    first = changes(clean(case)["reading"]["owners"], after["reading"]["owners"])[0]
    assert (first.phase, first.category) == (phase, category)
    assert first.module.startswith(module)
    assert first.where.startswith("methods/") or mutation is float_dropout_masks
    assert str(first) in finding.lines[1]
    # What the list adds up to is what the peak grew by.
    total = sum(c.bytes for c in changes(clean(case)["reading"]["owners"], after["reading"]["owners"]))
    assert total == after["reading"]["peak"] - clean(case)["reading"]["peak"] > 0


@pytest.mark.parametrize("share", [0.001, 0.01])
@pytest.mark.parametrize(
    ("network", "phase", "module"),
    [("reward", "reward", "reward.query_motion_pos_encoder"), ("vae", "decode", "vae.query_pos_decoder")],
)
def test_one_more_tensor_kept_alive_is_caught_down_to_a_thousandth(network, phase, module, share, clean, monkeypatch):
    case = Case(**LARGE)
    size = int(clean(case)["reading"]["peak"] * share)
    kept = []
    forward = LearnedPositions.forward

    def keep(self, x, *args, **kwargs):
        if self.watched and not kept:
            kept.append(torch.empty(size // 4, device=x.device))  # the line to be named
        return forward(self, x, *args, **kwargs)

    owner = {"reward": spm.Spm, "vae": "methods.backbones.mld.MldVae"}[network]
    position = module.rpartition(".")[2]
    monkeypatch.setattr(LearnedPositions, "watched", False, raising=False)
    monkeypatch.setattr(LearnedPositions, "forward", keep)
    _watch_from_the_update_on(monkeypatch, owner, position)
    after = measured(case)
    monkeypatch.undo()
    finding = compare(clean(case), after)
    assert finding.outcome is Outcome.GREW
    (change,) = changes(clean(case)["reading"]["owners"], after["reading"]["owners"])
    assert (change.phase, change.category, change.module, change.operator) == (phase, "activations", module, "empty")
    assert change.bytes == pytest.approx(size, abs=512)
    assert change.where.startswith("tests/test_gate.py:")


def _watch_from_the_update_on(monkeypatch, owner, position: str) -> None:
    """Marks the module once the warm-up is over, so that the tensor is the update's and not resident."""
    from bench.setup import Run

    sample = Run.sample

    def marked(self):
        motion = sample(self)
        network = self.reward if owner is spm.Spm else self.backbone.vae
        getattr(network, position).watched = True
        return motion

    monkeypatch.setattr(Run, "sample", marked)


def test_an_unchanged_tree_passes_20_times_in_20(tmp_path):
    """In fresh processes, under other hash seeds and thread counts."""
    cases = [Case("easytune", **TINY)]
    path = tmp_path / "baseline.json"
    baseline.save(path, baseline.updated([], [measured(case) for case in cases]))
    program = (
        "import sys, pathlib, torch; from bench.cases import Case; from bench.gate import baseline;"
        "from bench.gate.judge import judge, Outcome; from bench.runner import measure;"
        f"rows = baseline.load(pathlib.Path({str(path)!r}));"
        "cases = [Case(**{k: v for k, v in r['case'].items() if k != 'id'}) for r in rows];"
        "found = [judge(measure(c), rows) for c in cases]; print(*found, torch.get_num_threads(), sep='\\n');"
        "sys.exit(any(f.outcome is not Outcome.SAME for f in found))"
    )
    waiting = list(range(20))
    running: list[subprocess.Popen] = []
    while waiting or running:
        while waiting and len(running) < 2:
            number = waiting.pop()
            environment = {**os.environ, "PYTHONHASHSEED": str(number), "OMP_NUM_THREADS": str(1 + number % 4)}
            command = [sys.executable, "-c", program]
            running.append(
                subprocess.Popen(command, cwd=ROOT, env={**environment, "PYTHONPATH": str(ROOT)}, stdout=-1, text=True)
            )
        done = running.pop(0)
        output, _ = done.communicate(timeout=120)
        assert done.returncode == 0, output


# Judging.


def changed(row: dict, **reading) -> dict:
    return {**row, "reading": {**row["reading"], **reading}}


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


# The file.


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
    "missing": (lambda text: None, "cannot read the baseline"),
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


# `pytest bench/ --memory-baseline`, as CI runs it.

SCALE = ["-m", "memory", "--backbone", "mld-tiny", "--steps", "4", "--batch", "2", "--frames", "5"]


@pytest.fixture(scope="module")
def committed(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("gate") / "baseline.json"
    done = bench(*SCALE, "--method", "easytune", "--memory-baseline", path, "--memory-baseline-update")
    assert done.returncode == 0, done.stdout
    assert "1 rows, ready to commit" in done.stdout
    return path


OUTCOMES = [
    # edit of the baseline, methods measured, exit status, words of the section
    (lambda text: text, ["easytune"], None, ["1 within their margins"]),
    (lambda text: _shifted(text, -512), ["easytune"], EXIT_STATUS[Outcome.GREW], ["1 memory grew", "+512 B"]),
    (lambda text: _shifted(text, 512), ["easytune"], EXIT_STATUS[Outcome.SHRANK], ["1 memory shrank", "-512 B"]),
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


def test_a_grown_case_fails_its_test_and_the_run_with_the_gates_own_status(committed, tmp_path):
    path = tmp_path / "baseline.json"
    path.write_text(_shifted(committed.read_text(), -1024))
    done = bench(*SCALE, "--method", "easytune", "--memory-baseline", path, CI="true")
    assert done.returncode == EXIT_STATUS[Outcome.GREW], done.stdout
    assert "1 memory grew" in done.stdout.partition("memory gate")[2]
    assert "+1.00 KiB" in done.stdout.partition("short test summary")[2]  # the line a CI log is searched for


def test_an_unchanged_case_passes(committed):
    done = bench(*SCALE, "--method", "easytune", "--memory-baseline", committed)
    assert done.returncode == 0, done.stdout
    assert "1 within their margins" in done.stdout


def _shifted(text: str, size: int) -> str:
    """The baseline with one owner, and with it every figure it is part of, larger by `size`."""
    document = json.loads(text)
    row = document["rows"][0]
    row["peak"] += size
    row["phases"] = {phase: min(peak, row["peak"]) for phase, peak in row["phases"].items()}
    next(o for o in row["owners"] if o[0] == "reward" and o[4] > 2048)[4] += size
    return json.dumps(document)


def _of_torch(text: str, version: str) -> str:
    return text.replace(torch.__version__.partition("+")[0], version)


def test_nothing_measured_fails_on_its_own(committed):
    done = bench(*SCALE, "--method", "easytune", "--memory-baseline", committed, "-k", "nothing")
    assert done.returncode == NOTHING_MEASURED
    assert "nothing was measured" in done.stdout


def test_an_update_is_refused_while_cases_fail_and_leaves_the_file_alone(committed, tmp_path):
    path = tmp_path / "baseline.json"
    path.write_bytes(committed.read_bytes())
    options = ["--method", "easytune", "--meter", "simulated", "--meter", "cuda"]
    done = bench(*SCALE, *options, "--memory-baseline", path, "--memory-baseline-update", CUDA_VISIBLE_DEVICES="")
    assert done.returncode != 0
    assert "was left as it was: 1 of 2 cases failed" in done.stdout
    assert path.read_bytes() == committed.read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--memory-baseline", "no-such-file.json"], "cannot read the baseline no-such-file.json"),
        (["--memory-baseline-update"], "needs --memory-baseline FILE"),
    ],
)
def test_a_gate_that_cannot_start_is_one_sentence(options, words):
    done = bench(*SCALE, "--method", "easytune", *options)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert words in done.stderr


# `python -m bench.compare`.


def compared(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "bench.compare", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


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
def test_compare_prints_markdown_with_the_culprit_and_the_ratio(old, results, clean):
    done = compared(results[old], results["new"])
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("### Memory: 1 grew, 1 same")
    table = [line for line in done.stdout.splitlines() if line.startswith("| draft-")]
    easytune, draft = (clean(Case(method, **TINY))["reading"] for method in ("easytune", "draft"))
    ratio = (draft["peak"] - draft["resident"]) / (easytune["peak"] - easytune["resident"])
    grown = (draft["peak"] + 2**20 - draft["resident"]) / (easytune["peak"] - easytune["resident"])
    cells = [cell.strip() for cell in table[0].strip("|").split("|")]
    assert cells[1] == "grew"
    assert cells[5:7] == [f"{ratio:.3f}", f"{grown:.3f}"]
    assert "+1.00 MiB" in done.stdout
    assert "- reward · activations · reward.motion_encoder" in done.stdout or "- resident" in done.stdout
    assert "<details>" in done.stdout


def test_compare_of_equal_files_is_0_and_of_unlike_ones_2(results):
    assert compared(results["old"], results["baseline"]).returncode == 0
    done = compared(results["old"], results["other"])
    assert done.returncode == 2
    assert "torch (" in done.stderr
    assert "2.6.0" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("bad", ["missing.json", "empty.json"])
def test_compare_says_what_is_wrong_with_a_file(bad, results, tmp_path):
    (tmp_path / "empty.json").write_text("")
    done = compared(results["old"], tmp_path / bad)
    assert done.returncode == 2
    assert bad in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_and_new_cases_are_both_told(clean):
    one, two = clean(Case(**TINY)), clean(Case("draft", **TINY))
    found = {f.id: f.outcome for f in judge_all([one], [two])}
    assert found == {one["case"]["id"]: Outcome.NEW, two["case"]["id"]: Outcome.MISSING}


# The step-time gate.

PAIRED = ["-m", "step_time", "--backbone", "mld-tiny", "--time-steps", "3", "--time-batch", "2", "--time-frames", "5"]


def test_step_time_is_paired_with_another_revision_in_one_run(tmp_path):
    result = tmp_path / "run.json"
    options = ["--method", "refl:m=2", "--rounds", "3", "--step-time-against", "HEAD", "--step-time-margin", "1000"]
    done = bench(*PAIRED, *options, f"--benchmark-json={result}", OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stdout
    (row,) = record.load(result)
    against = row["timing"]["against"]
    assert against["revision"] == "HEAD"
    assert len(against["ratios"]) == 3
    assert against["ratio"] == sorted(against["ratios"])[1]
    assert "times HEAD" in done.stdout


@pytest.mark.parametrize(
    ("median", "fastest", "fails"), [(1.5, 1.4, True), (1.5, 1.1, False), (1.1, 1.5, False), (0.9, 0.9, False)]
)
def test_slower_means_slower_by_the_median_and_by_the_fastest(median, fastest, fails):
    against = {"revision": "main", "ratio": median, "ratio_of_fastest": fastest, "ratios": [median] * 3}
    row = {"case": {"id": "easytune-x"}, "timing": {"against": against}}
    sentence = paired.slower(row, 1.25)
    assert (sentence is not None) is fails
    assert not fails or ("easytune-x" in sentence and "1.50 times as long as at main" in sentence)


def test_a_slower_tree_is_seen_and_a_side_that_fails_says_which(monkeypatch, tmp_path):
    """The other side is this tree with a rollout that sleeps, then one that cannot build."""
    for name in ("bench", "methods"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    target = tmp_path / "methods" / "update.py"
    step = "self.optimizer.step()"
    assert step in target.read_text()
    target.write_text(target.read_text().replace(step, f"__import__('time').sleep(0.3); {step}"))
    monkeypatch.setattr(paired, "checkout", lambda revision: contextlib.nullcontext(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    case = Case("refl:m=2", **{**TINY, "steps": 2, "meter": "host"})
    (row,) = paired.measure([case], 3, "slow")
    assert row["timing"]["against"]["ratio"] < 0.8  # this tree is the faster one
    assert paired.slower(row, 1.25) is None
    target.write_text("raise RuntimeError('no such luck')")
    (row,) = paired.measure([case], 3, "broken")
    assert row["status"] == "failed"
    assert row["reason"].startswith("revision broken: ")


def test_an_unknown_revision_is_one_sentence():
    done = bench(*PAIRED, "--method", "refl:m=2", "--step-time-against", "no-such-branch")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--step-time-against no-such-branch" in done.stderr
    assert "name a commit, branch or tag" in done.stderr


# CI.


def test_the_workflow_and_ci_run_the_commands_that_the_readme_gives():
    readme = (ROOT / "README.md").read_text()
    workflow = (ROOT / ".github" / "workflows" / "memory.yml").read_text()
    commands = [line.partition("run: ")[2].split(" | ")[0] for line in workflow.splitlines() if " run: " in line]
    assert len(commands) == 3
    for command in commands:
        assert command in readme
    assert any("--memory-baseline reports/baselines/simulated.json" in command for command in commands)


def test_the_committed_baseline_is_that_of_the_gate_matrix_and_the_pinned_torch():
    rows = baseline.load(ROOT / "reports" / "baselines" / "simulated.json")
    pinned = re.search(r"^torch==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
    ours = [row for row in rows if row["environment"]["torch"] == pinned]
    assert {row["case"]["id"] for row in ours} == {case.id for case in matrix("gate")}
