"""What a person may have edited: a key that stands twice is refused, by where it stands, in every file that is read."""

import contextlib
import json

import pytest
from sample_rows import memory_row
from test_damaged_results import baseline_file
from test_data import line, read

from bench import compare, records, step_time
from bench.gate import baseline
from bench.lane.kept import Kept
from bench.motion.clip import DataError
from bench.strict_json import DoubledKeyError, parse

DOUBLED = {
    '{"a": 1, "a": 1}': "a",
    '{"a": [{"b": {}}, {"b": {"c": 1, "d": 0, "c": 2}}]}': "a[1].b.c",
    '[[{"\\u0061": 1, "a": 2}]]': "[0][0].a",
    '{"x": {"y": {"a": 1, "a": 2}}, "x": 3}': "a",  # hidden by another x
}


@pytest.mark.parametrize("text", DOUBLED)
def test_a_key_that_stands_twice_is_refused_by_where_it_stands(text):
    with pytest.raises(DoubledKeyError) as refused:
        parse(text)
    assert str(refused.value) == f"has the field {DOUBLED[text]} twice"


@pytest.mark.parametrize("text", ['{"a": {"a": {"a": 1}}, "b": [{"a": 1}, {"a": 2}]}', "[]", "7", '"a"', "null"])
def test_other_json_is_read_as_python_reads_it(text):
    assert parse(text) == json.loads(text)


NO_JSON = {
    "": "truncated",
    "{": "truncated",
    "[NaN]": "no figures",
    "[1e999]": "range",
    '"\\ud800"': "truncated",
    "[" * 9999: "too deeply",
}


@pytest.mark.parametrize("text", NO_JSON)
def test_what_is_no_json_is_refused(text):
    with pytest.raises(ValueError, match=NO_JSON[text]):
        parse(text)


def twice(document: object, old: str, new: str) -> str:
    """JSON of which one fact is followed by another value for it."""
    text = json.dumps(document)
    assert text.count(old) >= 1
    return text.replace(old, f"{old}, {new}", 1)


def test_results_and_baselines_with_a_key_twice_are_refused_by_file_and_field(tmp_path, capsys):
    row = memory_row()
    peak = f'"peak": {row["reading"]["peak"]}'
    (tmp_path / "run.json").write_text(twice({"benchmarks": [{"extra_info": row}]}, peak, '"peak": 1'))
    whole = json.loads(baseline_file(None))
    margin = f'"margin": {whole["rows"][0]["margin"]}'
    (tmp_path / "baseline.json").write_text(twice(whole, margin, '"margin": 0.9'))
    for name, load, field in (
        ("run.json", records.load, "benchmarks[0].extra_info.reading.peak"),
        ("baseline.json", baseline.load, "rows[0].margin"),
    ):
        path = tmp_path / name
        with pytest.raises(records.RecordError) as refused:
            load(path)
        assert str(path) in str(refused.value)
        assert f"has the field {field} twice" in str(refused.value)
        assert compare.main([str(path), str(path)]) == 2


def test_a_line_of_a_journal_with_a_key_twice_is_refused_and_never_taken_over(tmp_path):
    path = tmp_path / "run.json.partial"
    with contextlib.closing(Kept(path)) as kept:
        for name in ("a", "b"):
            kept.add(name, "memory", name, memory_row())
    first, second = path.read_text().splitlines()
    path.write_text(f'{first}\n{second.replace("{", """{"key": "b", """, 1)}\n')
    with pytest.raises(records.RecordError, match="line 2, has the field key twice"):
        records.load(path)
    with contextlib.closing(Kept(path)) as kept:
        assert kept.get("a") is not None
        assert kept.get("b") is None, "it is measured again"


def test_a_caption_line_with_a_key_twice_is_refused(tmp_path):
    text = json.dumps(line("a"))
    with pytest.raises(DataError, match=r"line 1 is no usable caption line \(it has the field id twice\)"):
        read(tmp_path, text.replace('"id"', '"id": "b", "id"', 1))


@pytest.mark.parametrize(
    "text", ["", '{"a": [1.5', '{"a": [0]}', '{"a": [1.5], "a": [2.5]}', "[" * 9999, '{"a": 7}', "7"]
)
def test_times_of_an_earlier_try_that_were_damaged_are_taken_again(text, tmp_path):
    kept = tmp_path / "seconds.json"
    assert step_time._read(kept) == {}
    kept.write_text('{"a": [1.5, 2]}')
    assert step_time._read(kept) == {"a": [1.5, 2.0]}
    kept.write_text(text)
    assert step_time._read(kept) == {}
