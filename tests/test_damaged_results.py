"""Damaged results, journals and baselines: each is read, or refused in one sentence that names it.

Mutations are seeded; MUTATIONS=10000 tries as many of each kind of file.
"""

import contextlib
import functools
import json
import os
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from bench_command import ROOT
from damage import damaged, damaged_lines
from sample_rows import memory_row, one_of_each

from bench import compare, identity, records
from bench.gate import baseline
from bench.lane.kept import Kept

TRIES = int(os.environ.get("MUTATIONS", "300"))


def result(random: Random) -> str:
    """Two rows or three, of them one of memory, for the compare."""
    chosen = [memory_row(), *random.sample(one_of_each(), random.randint(1, 2))]
    return json.dumps({"version": "5", "benchmarks": [{"name": "x", "extra_info": row} for row in chosen]})


def journal(random: Random) -> str:
    """Rows as a journal of the first version has them, and as entries that name their result, with a digest or none."""
    rows = random.sample(one_of_each(), 3)
    lines = [random.choice((row, {"key": "x", "result": row}, _summed("x", row))) for row in rows]
    return "".join(f"{json.dumps(line)}\n" for line in lines)


def _summed(key: str, row: dict) -> dict:
    """As bench.lane.kept writes it."""
    return {"key": key, "sum": identity.key(row), "result": row}


@functools.cache
def _baseline_row() -> dict:
    """The first of the committed baseline, with the owners of two phases."""
    row = json.loads((ROOT / "reports" / "baselines" / "simulated.json").read_text())["rows"][0]
    rest = row["peak"] - row["resident"]
    owners = [
        ["resident", "parameters", "a", "empty", row["resident"], 2],
        ["reward", "activations", "b", "mul", rest, 1],
    ]
    return {**row, "owners": owners}


def baseline_file(random: Random) -> str:
    row = _baseline_row()
    other = {**row, "environment": {"torch": "2.6.0"}}
    return json.dumps({"kind": "memory baseline", "schema": 1, "rows": [row, other]})


def attempt(read, path: Path) -> str:
    """How reading a file ended: "read" or "refused"; an error that is not one sentence about the file is passed on."""
    try:
        read(path)
    except records.RecordError as error:
        sentence = str(error)
        assert str(path) in sentence
        assert sentence.isprintable()  # on one line, without a terminal's controls
        assert len(sentence) < 1500
        return "refused"
    return "read"


KINDS = {
    "result": (result, damaged, "run.json", records.load),
    "journal": (journal, damaged_lines, "run.json.partial", records.load),
    "baseline": (baseline_file, damaged, "baseline.json", baseline.load),
}


def outcomes(kind: str, seeds: range, folder: Path) -> Counter:
    """What came of damaged files of a kind, by reading them and by comparing them with whole ones."""
    write, damage, name, read = KINDS[kind]
    path, whole = folder / name, folder / "whole.json"
    whole.write_text(baseline_file(Random(0)))
    counted: Counter = Counter()
    for seed in seeds:
        random = Random(f"{kind} {seed}")
        path.write_bytes(damage(write(random), random))
        counted[attempt(read, path)] += 1
        files = [str(path), str(whole)]
        random.shuffle(files)
        counted[f"compare {compare.main(files)}"] += 1
    return counted


@pytest.mark.parametrize("kind", KINDS)
def test_whole_files_are_read(kind, tmp_path):
    write, _, name, read = KINDS[kind]
    (tmp_path / name).write_text(write(Random(1)))
    assert attempt(read, tmp_path / name) == "read"


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_refused_in_a_sentence_or_harmless(kind, tmp_path, capsys):
    counted = outcomes(kind, range(TRIES), tmp_path)
    assert counted["read"] + counted["refused"] == TRIES
    assert counted["refused"] > TRIES / 4
    assert set(counted) <= {"read", "refused", "compare 0", "compare 1", "compare 2"}


FIGURES = ["NaN", "-1", "true", "1e999", "0.5", '"7"', "null", "9" * 400, "18446744073709551616"]


@pytest.mark.parametrize("value", FIGURES)
@pytest.mark.parametrize("figure", ["peak", "resident", "sampling", "decode", "bytes"])
def test_a_figure_that_is_no_number_of_bytes_is_refused(figure, value, tmp_path, capsys):
    """Wherever it stands, in a result and in a baseline; a comparison with it ends with 2."""
    row = json.loads(json.dumps(memory_row()))
    of_result = row["reading"]
    of_baseline = json.loads(baseline_file(Random(0)))
    for reading, owner in ((of_result, of_result["owners"][0]), (of_baseline["rows"][0], None)):
        if figure == "bytes":
            if owner is None:
                reading["owners"][0][4] = "?"
            else:
                owner["bytes"] = "?"
        else:
            (reading["phases"] if figure == "decode" else reading)[figure] = "?"
    files = {"run.json": {"benchmarks": [{"extra_info": row}]}, "baseline.json": of_baseline}
    for name, document in files.items():
        (tmp_path / name).write_text(json.dumps(document).replace('"?"', value))
    assert attempt(records.load, tmp_path / "run.json") == "refused"
    assert attempt(baseline.load, tmp_path / "baseline.json") == "refused"
    (tmp_path / "whole.json").write_text(baseline_file(Random(0)))
    for name in files:
        assert compare.main([str(tmp_path / name), str(tmp_path / "whole.json")]) == 2


def resumed(seeds: range, path: Path) -> Counter:
    """How many results of a damaged journal a run goes on from; none is another than was kept."""
    counted: Counter = Counter()
    for seed in seeds:
        random = Random(f"resumed {seed}")
        results = {f"key {number}": row for number, row in enumerate(random.sample(one_of_each(), 3))}
        lines = [_summed(key, row) for key, row in results.items()]
        path.write_bytes(damaged_lines("".join(f"{json.dumps(line)}\n" for line in lines), random))
        with contextlib.closing(Kept(path)) as kept:
            for key, row in results.items():
                assert kept.get(key) in (None, row), f"seed {seed}"
                counted["measured again" if kept.get(key) is None else "taken over"] += 1
    return counted


def test_no_damaged_result_is_taken_over(tmp_path):
    counted = resumed(range(TRIES), tmp_path / "run.json.partial")
    assert counted.total() == 3 * TRIES
    assert min(counted.values()) > TRIES / 4


JOURNALS = {
    "a result that is null": ('{"key": "x", "result": null}\n', 0),
    "a result that is text": ('{"key": "x", "result": "a schema"}\n', 0),
    "a result that is a list": ('{"result": ["schema"]}\n', 0),
    "no objects": ('null\n[1]\n"schema"\n7\n', 0),
    "a torn line in the middle": ('{row}\n{"schema": 1, "ki{row}\n{row}\n', 2),
    "a torn first line": ('a": 1}\n{row}\n', 1),
    "a part of a row": ('{"key": "x", "result": {"seconds": [1.0]}}\n{row}\n', 1),
}


@pytest.mark.parametrize("name", JOURNALS)
def test_a_journal_gives_its_whole_rows(name, tmp_path):
    text, whole = JOURNALS[name]
    path = tmp_path / "run.json.partial"
    path.write_text(text.replace("{row}", json.dumps(one_of_each()[0])))
    if whole:
        assert len(records.load(path)) == whole
    else:
        assert attempt(records.load, path) == "refused"


def test_a_row_of_a_journal_that_was_edited_is_refused(tmp_path):
    row = json.loads(json.dumps(memory_row()))
    path = tmp_path / "run.json.partial"
    line = _summed("x", row)
    path.write_text(json.dumps(line) + "\n")
    assert len(records.load(path)) == 1
    row["reading"]["peak"] += 1
    path.write_text(json.dumps(line) + "\n")
    with pytest.raises(records.RecordError, match=r"partial, line 1, is not as it was written"):
        records.load(path)


@pytest.mark.parametrize("path", ["\0", "no\ud800thing.json", "x" * 5000, "."], ids=["nul", "half", "long", "folder"])
def test_a_path_that_leads_to_no_file_is_refused(path, tmp_path):
    for read in (records.load, lambda path: baseline.load(Path(path))):
        with pytest.raises(records.RecordError):
            read(path)
