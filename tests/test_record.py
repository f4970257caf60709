"""Records explain themselves; files that are not ours, or not whole, are refused in one sentence."""

import json

import pytest
from bench.journal import Journal
from bench.record import RecordError

from bench import record
from bench.cases import Case
from bench.meters import simulated

CASE = Case("drtune:k=2,m=3", backbone="mld-tiny", steps=6, batch=2, frames=4)


@pytest.fixture(scope="module")
def row() -> dict:
    return record.make("memory", CASE, "ok", reading=simulated.measure(CASE).record())


def benchmark_json(rows) -> str:
    return json.dumps({"benchmarks": [{"extra_info": row} for row in rows], "version": "5"})


def test_a_record_survives_json_and_says_what_it_was(row, tmp_path):
    path = tmp_path / "run.json"
    path.write_text(benchmark_json([row]))
    (loaded,) = record.load(path)
    assert loaded == json.loads(json.dumps(row))
    assert loaded["schema"] == record.SCHEMA
    assert loaded["case"]["id"] == CASE.id
    assert loaded["settings"]["attention"] == "explicit"
    assert loaded["environment"]["torch"]
    assert loaded["simulated"] is True


def test_a_random_plan_is_reported_as_a_distribution(row):
    draws = row["plan"]["held_over_draws"]
    assert draws["draws"] == record.PLAN_DRAWS
    assert draws["least"] <= draws["quartiles"][0] <= draws["quartiles"][2] <= draws["most"] == 2
    assert draws["least"] <= row["plan"]["held"] <= draws["most"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["empty"]),
        ('{"benchmarks": [', ["not whole JSON"]),
        ("[]", ["not a pytest-benchmark result"]),
        ('{"benchmarks": []}', ["no record of this suite"]),
        ('{"benchmarks": [{"extra_info": {"mine": 1}}]}', ["not of this suite"]),
        ('{"benchmarks": [{"extra_info": {"schema": 99}}]}', ["version 99", "version 1"]),
        ('{"benchmarks": [{"extra_info": {"schema": 1, "kind": "memory"}}]}', ["'case'"]),
    ],
)
def test_a_foreign_or_cut_file_is_refused(tmp_path, text, words):
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(RecordError) as error:
        record.load(path)
    for word in [str(path), *words]:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_an_edited_record_is_refused(row, tmp_path):
    path = tmp_path / "run.json"
    for edit in ({"status": "great"}, {"reading": None}, {"kind": "speed"}, {"settings": 3}):
        path.write_text(benchmark_json([{**row, **edit}]))
        with pytest.raises(RecordError):
            record.load(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(RecordError, match="cannot read"):
        record.load(tmp_path / "none.json")


def test_a_later_file_replaces_rows_of_the_same_case_and_device(row):
    newer = {**row, "status": "failed", "reason": "x", "reading": None}
    elsewhere = {**row, "environment": {**row["environment"], "device": "another"}}
    assert record.merge([[row, elsewhere], [newer]]) == [newer, elsewhere]


class TestJournal:
    def test_a_killed_run_keeps_its_whole_rows(self, row, tmp_path):
        result = tmp_path / "run.json"
        Journal(result, resume=False).add(row)
        partial = tmp_path / "run.json.partial"
        partial.write_text(partial.read_text() + '{"schema": 1, "ki')
        assert len(record.load(partial)) == 1
        resumed = Journal(result, resume=True)
        assert resumed.kept(record.key(row), row["environment"]["commit"]) == json.loads(json.dumps(row))
        assert resumed.kept(record.key(row), "another commit") is None
        assert len(partial.read_text().splitlines()) == 1

    def test_it_goes_once_the_result_holds_every_row(self, row, tmp_path):
        result = tmp_path / "run.json"
        journal = Journal(result, resume=False)
        journal.add(row)
        journal.close()
        assert (tmp_path / "run.json.partial").exists()  # the result was never written
        result.write_text(benchmark_json([row]))
        journal.close()
        assert not (tmp_path / "run.json.partial").exists()

    def test_a_fresh_run_begins_a_fresh_journal(self, row, tmp_path):
        Journal(tmp_path / "run.json", resume=False).add(row)
        Journal(tmp_path / "run.json", resume=False)
        assert not (tmp_path / "run.json.partial").exists()
