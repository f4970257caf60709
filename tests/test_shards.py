"""`pytest bench/ --shard I/N`: shares that together are one run, and a report that names what lacks of them."""

import json
from collections import Counter
from pathlib import Path

import pytest
from bench_command import SCALE as OF_CASES
from bench_command import TIME_SCALE, bench_here
from gate_cases import TINY
from test_report import save

from bench import records
from bench.cases import Case
from bench.gate import baseline
from bench.gate.judge import EXIT_STATUS, Outcome
from bench.records import RecordError
from bench.records.make import to_json
from bench.records.shards import Shard, ShardRow, deal, lacking
from bench.report import __main__ as report

METHODS = ("draft", "draft:k=1", "easytune", "refl:m=2")
SCALE = ["-m", "memory", *OF_CASES, *(word for method in METHODS for word in ("--method", method))]
SHARES = 3


def ids(path: Path) -> list[str]:
    return sorted(record.case.id for record in records.load(path))


@pytest.fixture(scope="module")
def run(tmp_path_factory, clean) -> dict[str, Path]:
    """The results of a whole run, and of its shards by number."""
    folder = tmp_path_factory.mktemp("shards")
    paths = {"whole": folder / "whole.json"} | {str(n): folder / f"{n}.json" for n in range(1, SHARES + 1)}
    for name, path in paths.items():
        share = [] if name == "whole" else ["--shard", f"{name}/{SHARES}"]
        done = bench_here(*SCALE, *share, "--benchmark-json", path, record=clean)
        assert done.returncode == 0, done.stdout
    return paths


def test_shards_merged_are_one_run(run):
    shards = [records.read(run[str(n)]) for n in range(1, SHARES + 1)]
    merged = records.merge(shard.records for shard in shards)
    whole = records.load(run["whole"])
    assert len(whole) == len(METHODS)
    assert sum(len(shard.records) for shard in shards) == len(whole)

    def by_id(rows):
        return {row.case.id: to_json(row) for row in rows}

    assert by_id(merged) == by_id(whole)
    assert not lacking([shard.shard for shard in shards], merged)


def test_a_run_without_shard_says_nothing_of_shards(run):
    assert "shard" not in json.loads(run["whole"].read_text())
    assert records.read(run["whole"]).shard is None


def test_the_report_names_the_shard_that_is_missing_and_the_rows_that_lack(run, tmp_path, capsys):
    given = [str(run["1"]), str(run["3"])]
    assert report.main([*given, "--out", str(tmp_path / "report")]) == 0
    said = capsys.readouterr().out
    assert "shard 2 of 3 is missing; rows that lack:\n" in said
    for name in ids(run["2"]):
        assert f"  memory, {name}\n" in said
    for name in (*ids(run["1"]), *ids(run["3"])):
        assert name not in said
    lacks = (tmp_path / "report" / "tables" / "lacking.csv").read_text()
    for text in (lacks, (tmp_path / "report" / "summary.md").read_text(), (tmp_path / "report/index.html").read_text()):
        assert "hard 2 of 3 is missing" in text
        assert all(name in text for name in ids(run["2"]))
    assert report.main([*given, str(run["2"]), "--out", str(tmp_path / "report")]) == 0
    assert "lack" not in capsys.readouterr().out
    assert not (tmp_path / "report" / "tables" / "lacking.csv").exists()


def test_a_shard_whose_run_was_cut_short_lacks_the_rest(run, tmp_path, capsys):
    document = json.loads(run["1"].read_text())
    assert len(document["benchmarks"]) == 2
    del document["benchmarks"][0]
    cut = tmp_path / "cut.json"
    cut.write_text(json.dumps(document))
    assert report.main([*map(str, (cut, run["2"], run["3"])), "--out", str(tmp_path / "report")]) == 0
    assert "shard 1 of 3 lacks 1 of 2 rows; rows that lack:\n" in capsys.readouterr().out


def test_rows_measured_in_another_run_do_not_lack(run):
    shard = records.read(run["1"]).shard
    assert lacking([shard], records.load(run["1"])).keys() == {"shard 2 of 3 is missing", "shard 3 of 3 is missing"}
    assert not lacking([shard], records.load(run["whole"]))


# Who measures what.


def test_rows_are_dealt_in_turn_whatever_order_they_come_in():
    rows = [("memory", f"case-{n:02}") for n in range(11)] + [("study", name) for name in ("chain", "noise")]
    dealt = deal(reversed(rows), 3)
    assert dealt == deal(rows, 3)
    assert [(row.kind, row.id) for row in dealt] == rows
    assert [row.shard for row in dealt] == [1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1]


@pytest.mark.parametrize("kind", ["alignment", "step_time"])
def test_what_is_measured_together_stays_together(kind):
    dealt = deal([(kind, str(n)) for n in range(5)] + [("memory", str(n)) for n in range(5)], 2)
    assert len({row.shard for row in dealt if row.kind == kind}) == 1
    counts = Counter(row.shard for row in dealt if row.kind == "memory")
    assert abs(counts[1] - counts[2]) <= 1


def test_a_case_timed_and_read_under_one_id_is_two_rows(tmp_path):
    """A CPU's memory and step time of a case have the same id."""
    options = ["--collect-only", *OF_CASES, *TIME_SCALE, "--meter", "host", "--method", "draft"]
    listed = []
    for n in (1, 2):
        done = bench_here(*options, "-m", "memory or step_time", "--shard", f"{n}/2")
        assert done.returncode == 0, done.stdout
        listed += [line.partition("::")[2] for line in done.stdout.splitlines() if "::" in line]
    name = Case("draft", **TINY, meter="host").id
    assert listed == [f"test_memory[{name}]", f"test_step_time[{name}]"]


# The gate.


def test_the_gate_misses_no_case_of_another_shard(tmp_path, clean):
    path = tmp_path / "baseline.json"
    baseline.save(path, [baseline.cut_down(clean(Case(method, **TINY))) for method in METHODS])
    gate = ["--memory-baseline", path]
    for n in range(1, SHARES + 1):
        done = bench_here(*SCALE, *gate, "--shard", f"{n}/{SHARES}", record=clean)
        assert done.returncode == 0, done.stdout
        assert "missing" not in done.stdout
    rest = SCALE[: SCALE.index("refl:m=2") - 1]  # ReFL is of no shard
    done = bench_here(*rest, *gate, "--shard", "1/3", record=clean)
    assert done.returncode == EXIT_STATUS[Outcome.MISSING], done.stdout
    assert "1 missing" in done.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--shard", "4/3"], "--shard must be I/N with I from 1 to N, such as 2/3, not '4/3'"),
        (["--shard", "0/3"], "not '0/3'"),
        (["--shard", "x"], "not 'x'"),
        (["--shard", "1/3/3"], "not '1/3/3'"),
        (["--shard", "1/١"], "--shard must be I/N"),
        (["--shard", "5/5"], "--shard 5/5 has no cases: what is chosen makes 4 shares at most"),
        (["--shard", "1/2", "-k", "nothing"], "--shard 1/2 has no cases: what is chosen makes 0 shares at most"),
        (
            ["--shard", "1/2", "--memory-baseline", "b.json", "--memory-baseline-update"],
            "a baseline holds every case, and --shard leaves some out",
        ),
    ],
)
def test_a_share_that_cannot_be_is_one_sentence(options, words):
    done = bench_here(*SCALE, *options)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert words in done.stderr + done.stdout
    assert "Traceback" not in done.stderr + done.stdout


# What a file says.


@pytest.mark.parametrize(
    ("shard", "words"),
    [
        ("1/2", "has a shard that is wrong"),
        ({"number": 0, "of": 2, "rows": [["memory", "a", 1]]}, "whose field number is wrong"),
        ({"number": 1, "of": 2, "rows": []}, "whose field rows is wrong"),
        ({"number": 1, "of": 2, "rows": [["memory", "a"]]}, "whose field rows[0] is wrong"),
        ({"number": 3, "of": 2, "rows": [["memory", "a", 1]]}, "has a shard beyond its 2"),
        ({"number": 1, "of": 2, "rows": [["memory", "a", 3]]}, "has a shard beyond its 2"),
    ],
)
def test_a_damaged_shard_is_refused_in_a_sentence(run, tmp_path, shard, words):
    path = save(tmp_path / "run.json", records.load(run["1"]))
    document = json.loads(path.read_text())
    assert records.read(path).shard is None
    path.write_text(json.dumps(document | {"shard": shard}))
    with pytest.raises(RecordError, match=r"run\.json") as refused:
        records.read(path)
    assert words in str(refused.value)


def test_runs_that_were_divided_otherwise_are_told_apart():
    one, other = Shard(1, 2, deal([("memory", "a"), ("memory", "b")], 2)), Shard(1, 1, deal([("memory", "c")], 1))
    assert lacking([one, one, other], []) == {
        "shard 1 of 1 is missing": [ShardRow("memory", "c", 1)],
        "shard 1 of 2 is missing": [ShardRow("memory", "a", 1)],
        "shard 2 of 2 is missing": [ShardRow("memory", "b", 2)],
    }
