"""Records explain themselves; what no measurement could have written, and files that are not ours or not whole, are
refused in one sentence."""

import dataclasses
import json
from pathlib import Path

import made_studies
import pytest
from msgspec import structs

from bench import records
from bench.cases import Case
from bench.meters import simulated
from bench.records import AlignmentRecord, MemoryRecord, RecordError, StudyRecord, make, measured
from bench.records.types import SCHEMA, GamingStudy
from bench.reward_cases import RewardCase

CASE = Case("drtune:k=2,m=3", backbone="mld-tiny", steps=6, batch=2, frames=4)
REFERENCE = Path(__file__).parent.parent / "reports" / "reference" / "cpu"


@pytest.fixture(scope="module")
def row() -> MemoryRecord:
    return make.memory(CASE, "ok", reading=simulated.measure(CASE))


def edited(record, *path: str, value: object) -> dict:
    """A record's JSON with another value at a path; the key goes where the value is Ellipsis."""
    whole = part = json.loads(json.dumps(make.to_json(record)))
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    if value is ...:
        del part[path[-1]]
    return whole


def save(path: Path, rows) -> Path:
    """As pytest-benchmark writes them."""
    benchmarks = [{"extra_info": row if isinstance(row, dict) else make.to_json(row)} for row in rows]
    path.write_text(json.dumps({"benchmarks": benchmarks, "version": "5"}))
    return path


def test_a_record_survives_json_and_says_what_it_was(row, tmp_path):
    (loaded,) = records.load(save(tmp_path / "run.json", [row]))
    assert loaded == row
    assert (loaded.schema, loaded.kind, loaded.ok, loaded.simulated) == (SCHEMA, "memory", True, True)
    assert (loaded.case.id, loaded.case.label) == (CASE.id, "DRTune, K = 2, m = 3")
    assert loaded.settings.attention == "explicit"
    assert loaded.environment.torch
    assert measured(loaded) == row.reading


@pytest.mark.parametrize(
    "make_record",
    [
        made_studies.noise,
        made_studies.windows,
        made_studies.feature_noise,
        made_studies.spl,
        made_studies.strength,
        made_studies.gaming,
        lambda: made_studies.own_retrieval("walks"),
        lambda: make.memory(RewardCase(spl=True), "oom", "it did not fit"),
        lambda: make.step_time(CASE, "unavailable", "no GPU"),
        lambda: make.step_time(RewardCase(), "failed", "x"),
    ],
)
def test_every_kind_survives_json(make_record, tmp_path):
    record = make_record()
    assert records.load(save(tmp_path / "run.json", [record])) == [record]


def test_a_random_plan_is_reported_as_a_distribution(row):
    draws = row.plan.held_over_draws
    assert draws.draws == make.PLAN_DRAWS
    assert draws.least <= draws.quartiles[0] <= draws.quartiles[2] <= draws.most == 2
    assert draws.least <= row.plan.held <= draws.most


# Files that are not ours, or not whole.


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["empty"]),
        ('{"benchmarks": [', ["not whole JSON"]),
        ("[]", ["not a pytest-benchmark result"]),
        ('{"benchmarks": []}', ["no record of this suite"]),
        ('{"benchmarks": [{"extra_info": {"mine": 1}}]}', ["not of this suite"]),
        ('{"benchmarks": [{"extra_info": {"schema": 99}}]}', ["version 99", f"versions 1 and {SCHEMA}"]),
        ('{"benchmarks": [{"extra_info": {"schema": true}}]}', ["version True"]),
        ('{"benchmarks": [{"extra_info": {"schema": 2, "kind": "memory"}}]}', ["one without a case", "status"]),
        ('{"benchmarks": [{"extra_info": {"schema": 2, "figure": NaN}}]}', ["NaN", "no figure"]),
        ('{"benchmarks": ' + "[" * 100_000 + "]" * 100_000 + "}", ["nested too deeply"]),
    ],
)
def test_a_foreign_or_cut_file_is_refused(tmp_path, text, words):
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(RecordError) as error:
        records.load(path)
    for word in [str(path), *words]:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_one_that_is_no_text_are_refused(tmp_path):
    with pytest.raises(RecordError, match="cannot read"):
        records.load(tmp_path / "none.json")
    (tmp_path / "image.json").write_bytes(b"\x89PNG\xff")
    with pytest.raises(RecordError, match="not a text file"):
        records.load(tmp_path / "image.json")


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        (("status",), "great", "status"),
        (("kind",), "speed", "kind"),
        (("settings",), 3, "settings"),
        (("environment",), ..., "environment"),
        (("case", "steps"), -1, "case.steps"),
        (("case", "steps"), "six", "case.steps"),
        (("case", "meter"), "guess", "case.meter"),
        (("plan", "held"), ..., "plan"),
        (("reading", "peak"), -1, "reading.peak"),
        (("reading", "peak"), 1.5, "reading.peak"),
        (("reading", "phases"), {"rollout": None}, "reading.phases"),
        (("reading",), None, "no figures"),
    ],
)
def test_what_no_measurement_writes_is_refused_and_the_field_is_named(row, tmp_path, path, value, word):
    file = save(tmp_path / "run.json", [row, edited(row, *path, value=value)])
    with pytest.raises(RecordError) as error:
        records.load(file)
    for part in (str(file), CASE.id, word):
        assert part in str(error.value)


def test_what_a_message_repeats_of_a_file_is_short_and_on_one_line(row):
    with pytest.raises(RecordError) as error:
        records.decode(edited(row, "case", "id", value=["x\n" * 10_000]))
    assert len(str(error.value)) < 1000
    assert "\n" not in str(error.value)


def test_a_later_file_replaces_rows_of_the_same_case_and_device(row):
    newer = structs.replace(row, status="failed", reason="x", reading=None)
    elsewhere = structs.replace(row, environment=structs.replace(row.environment, device="another"))
    assert records.merge([[row, elsewhere], [newer]]) == [newer, elsewhere]


# Journals.


def lines(*rows: dict) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_a_journal_that_was_cut_keeps_its_whole_rows(row, tmp_path):
    partial, whole = tmp_path / "run.json.partial", make.to_json(row)
    partial.write_text(lines(whole) + '{"schema": 2, "ki')  # a kill
    assert records.load(partial) == [row]
    partial.write_text(lines(whole) + lines(whole)[:50] + "\n" + lines(whole))  # a full disk
    assert records.load(partial) == [row, row]
    partial.write_text('{"schema": 2, "ki')
    with pytest.raises(RecordError, match="no whole record"):
        records.load(partial)


def test_a_journal_of_results_by_job_gives_those_that_are_records(row, tmp_path):
    partial = tmp_path / "run.json.partial"
    others = ({"value": 3}, 3.0, None, "schema", ["schema"])
    kept = [{"key": "k", "result": result} for result in (make.to_json(row), *others)]
    partial.write_text(lines(*kept))
    assert records.load(partial) == [row]


# Rows of schema version 1, as they were published.


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("memory", {"memory", "reward_memory"}),
        ("step_time", {"step_time", "reward_step_time"}),
        ("alignment", {"alignment"}),
        ("base_model", {"study"}),
        ("studies", {"study"}),
        ("real_cmu", {"alignment"}),
        ("real_rewards_cmu", {"study"}),
    ],
)
def test_published_files_load_and_say_the_same_once_written_again(name, kinds):
    loaded = records.load(REFERENCE / f"{name}.json")
    assert {record.kind for record in loaded} <= kinds
    assert all(record.ok and measured(record) is not None for record in loaded)
    assert [records.decode(json.loads(json.dumps(make.to_json(record)))) for record in loaded] == loaded


def published(name: str) -> list[tuple[dict, records.Record]]:
    """The rows of a published file as they stand in it, and as they are loaded."""
    path = REFERENCE / f"{name}.json"
    rows = [b["extra_info"] for b in json.loads(path.read_text())["benchmarks"]]
    return list(zip(rows, records.load(path), strict=True))


def test_of_an_old_memory_row_every_figure_is_kept():
    for old, record in published("memory"):
        assert isinstance(record.reading.peak, int)
        new = dataclasses.asdict(record.reading)
        assert {name: new[name] for name in ("peak", "resident", "sampling", "phases", "split")} == {
            name: old["reading"][name] for name in ("peak", "resident", "sampling", "phases", "split")
        }


def test_an_old_alignment_row_has_its_metrics_apart_from_its_totals():
    for old, record in published("real_cmu"):
        assert isinstance(record, AlignmentRecord)
        assert record.case.world == old["case"]["backbone"] == "cmu"
        for theirs, ours in zip(old["alignment"]["curves"], record.alignment.curves, strict=True):
            for before, point in zip(theirs, ours, strict=True):
                totals = {name: value for name, value in structs.asdict(point).items() if name != "metrics"}
                assert totals | point.metrics == before
                assert not set(totals) & set(point.metrics)
        for before, rate in zip(old["alignment"]["selection"], record.alignment.selection, strict=True):
            assert {"lr": rate.lr} | rate.metrics == {n: v for n, v in before.items() if n != "reason"}
        assert record.alignment.gain["r1"].mean == old["alignment"]["gain"]["r1"]["mean"]


def test_an_old_row_of_a_rewards_training_names_the_reward():
    trained = [(old, record) for old, record in published("step_time") if record.kind.startswith("reward_")]
    assert {(old["case"]["backbone"], record.case.reward) for old, record in trained} == {("mld", "spm")}


def test_an_old_study_has_its_name_and_its_world():
    names = {record.case.id: record.case.name for _, record in [*published("studies"), *published("real_rewards_cmu")]}
    assert names["spl"] == "spl"
    assert names["retrieval-cmu"] == "retrieval"
    studies = {record.case.name: (old, record) for old, record in published("studies")}
    old, record = studies["gaming"]
    assert isinstance(record, StudyRecord)
    assert isinstance(record.study, GamingStudy)
    run, theirs = record.study.runs[0], old["study"]["runs"][0]
    assert run.curves[0][-1].metrics["second"] == theirs["curves"][0][-1]["second"]
    old, record = studies["windows"]
    (reward,) = record.study.rewards["aware"]  # of one seed, once
    assert reward.training.val.all == old["study"]["rewards"]["aware"]["training"]["val"]["all"]
