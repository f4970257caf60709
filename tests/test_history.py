"""`python -m bench.report --history`: lines over commits, what they join, and what is marked as changed."""

import dataclasses
import json
from datetime import UTC, datetime

import pandas as pd
import pytest
from bench_command import ROOT
from gate_cases import elsewhere
from msgspec import structs
from test_claims import raised, read, row, timed
from test_report import contents, save

from bench import identity
from bench.cases import Case
from bench.gate import paired
from bench.meters.reading import Owner
from bench.records import MemoryRecord, RecordError, Result, StepTimeRecord
from bench.report import __main__ as command
from bench.report import history, style
from bench.report.history.lines import lines
from bench.units import GIB

COMMITS = ("aaa", "bbb", "ccc")
PEAK = 20 * GIB


def of_commits(*records, commits=COMMITS):
    """A result of each record, at one commit after the other, a day apart; git knows none of them."""
    return [
        Result(f"{commit}.json", [elsewhere(record, commit=commit)], datetime(2026, 1, day, tzinfo=UTC))
        for day, (commit, record) in enumerate(zip(commits, records, strict=False), 1)
    ]


def words(results, kind=MemoryRecord):
    (line,) = lines(results, kind)
    return [point.change.word for point in line]


def test_rows_are_in_order_of_date_whatever_order_the_files_come_in():
    results = of_commits(*(row(Case("draft"), peak=PEAK + n) for n in range(3)))
    (line,) = lines(results[::-1], MemoryRecord)
    assert [point.state.commit for point in line] == list(COMMITS)
    assert [point.change.word for point in line] == ["", "grew", "grew"]


def test_a_commit_that_git_knows_is_dated_by_it(monkeypatch):
    """The older commit was measured last."""
    dates = {"aaa": datetime(2026, 3, 1, tzinfo=UTC), "bbb": datetime(2026, 2, 1, tzinfo=UTC)}
    monkeypatch.setattr(identity, "commit_date", dates.get)
    (line,) = lines(of_commits(*[row(Case("draft"))] * 3), MemoryRecord)
    assert [point.state.commit for point in line] == ["ccc", "bbb", "aaa"]


def test_git_dates_the_commits_of_this_repository_alone():
    head = identity.commit()
    if head is None:
        pytest.skip("this tree is in no repository")
    clean = head.removesuffix("-dirty")
    assert identity.commit_date(clean) <= datetime.now(UTC)
    for unknown in (f"{clean}-dirty", "0" * 40, "", "--help", "a b", f"{clean}:README.md"):
        assert identity.commit_date(unknown) is None


def test_of_a_case_measured_twice_at_a_commit_the_later_result_counts():
    """Also where git does not know the commit: it has the date of its first result."""
    results = of_commits(*(row(Case("draft"), peak=PEAK + n) for n in (0, 7, 7)), commits=("a", "a", "b"))
    (line,) = lines(results, MemoryRecord)
    assert [point.state.date.day for point in line] == [1, 3]
    assert [point.change.word for point in line] == ["", ""]
    assert line[0].value == (PEAK + 7) / GIB


def test_trees_that_were_changed_since_one_commit_are_told_apart_by_when_they_were_measured():
    results = of_commits(*(row(Case("draft"), peak=PEAK + n) for n in range(3)), commits=["aaa-dirty"] * 3)
    assert words(results) == ["", "grew", "grew"]


def test_a_row_without_any_date_is_refused_with_its_file():
    (result,) = of_commits(row(Case("draft")))
    with pytest.raises(RecordError, match=r"run\.json\.partial does not say when .* aaa: give the JSON"):
        lines([Result("run.json.partial", result.records)], MemoryRecord)


# What a line joins.


@pytest.mark.parametrize(
    "changed",
    [
        lambda record: elsewhere(record, torch="2.12.0"),
        lambda record: elsewhere(record, device="another CPU"),
        lambda record: structs.replace(record, settings=structs.replace(record.settings, threads=2)),
        lambda record: structs.replace(record, settings=structs.replace(record.settings, precision="bf16")),
    ],
    ids=["torch", "device", "threads", "precision"],
)
def test_rows_that_cannot_be_compared_are_never_joined(changed):
    one, two = timed("draft", [1.0]), changed(timed("draft", [9.0]))
    assert not lines(of_commits(one, two), StepTimeRecord)
    commits = ("a", "b", "c", "d")
    joined = lines(of_commits(one, two, one, two, commits=commits), StepTimeRecord)
    assert sorted([point.state.commit for point in line] for line in joined) == [["a", "c"], ["b", "d"]]
    assert not any(point.change.word for line in joined for point in line)


def test_simulated_rows_of_two_machines_are_one_line():
    """Their bytes are the same everywhere."""
    assert words(of_commits(row(Case("draft")), row(Case("draft"), device="another CPU"))) == ["", ""]


def test_a_case_of_one_commit_or_without_a_figure_has_no_line():
    results = of_commits(row(Case("draft")), row(Case("draft"), status="oom"), row(Case("refl")))
    assert not lines(results, MemoryRecord)
    with pytest.raises(RecordError, match="no case was measured alike at two commits"):
        history.build(results)


# What is marked.


@pytest.mark.parametrize(("meter", "margin"), [("simulated", 0.0), ("host", 0.001), ("cuda", 0.01)])
def test_memory_is_marked_beyond_its_meters_margin(meter, margin):
    first, most = row(Case("draft", meter=meter), peak=PEAK), int(margin * PEAK)
    for extra, word in ((most, ""), (-most, ""), (most + 1, "grew"), (-most - 1, "shrank")):
        assert words(of_commits(first, raised(first, extra))) == ["", word]


def test_step_time_is_marked_beyond_the_step_time_gates_margin():
    seconds = (1.0, paired.MARGIN, 2 * paired.MARGIN, 2.0, 1.0)  # 1.25, 2, 0.8 and 0.5 times as long
    results = of_commits(*(timed("draft", [s]) for s in seconds), commits="abcde")
    assert words(results, StepTimeRecord) == ["", "", "slower", "", "faster"]


def test_who_holds_the_growth_is_named():
    case = Case("draft")
    owner = Owner("reward", "activations", "reward.dropout", "native_dropout", "methods/transformer.py:75", PEAK, 1)
    old, new = (
        read(row(case, peak=size), owners=[dataclasses.replace(owner, bytes=size)]) for size in (PEAK, PEAK + 2**20)
    )
    (line,) = lines(of_commits(old, new), MemoryRecord)
    assert line[1].change.sizes == "20.00 GiB → 20.00 GiB (+1.00 MiB, +0.0049%)"
    assert line[1].change.by.startswith("reward · activations · reward.dropout +1.00 MiB (native_dropout")


# The files.


def made(tmp_path, results):
    paths = [
        save(tmp_path / f"{n}.json", result.records, result.written.isoformat()) for n, result in enumerate(results)
    ]
    assert command.main([*map(str, paths), "--history", "--out", str(tmp_path / "out")]) == 0
    return tmp_path / "out"


def sample():
    """Four commits: DRaFT grows at the last, ReFL is of two torch versions, and its update takes longer and longer."""
    results = []
    for n, commit in enumerate("abcd"):
        rows = [row(Case("draft"), peak=PEAK + (n == 3) * GIB), row(Case("refl"), torch=f"2.{12 + n // 2}.0")]
        records = [elsewhere(record, commit=commit) for record in (*rows, timed("refl", [1.0 + n]))]
        results.append(Result(f"{commit}.json", records, datetime(2026, 1, n + 1, tzinfo=UTC)))
    return results


def test_the_files_hold_tables_and_figures_of_every_row(tmp_path, capsys):
    folder = made(tmp_path, sample())
    assert "no change" not in capsys.readouterr().out
    assert set(contents(folder)) == {"index.html"} | {
        f"{kind}/{name}.{suffix}"
        for kind, suffixes, names in (
            ("tables", ("md", "csv"), history.FILES),
            ("figures", ("png", "svg"), history.FILES[1:]),
        )
        for suffix in suffixes
        for name in names
    }
    memory = pd.read_csv(folder / "tables" / "history_memory.csv")
    draft = memory[memory["case"] == Case("draft").id]
    assert draft["peak, GiB"].tolist() == [20, 20, 20, 21]
    assert draft["commit"].tolist() == list("abcd")
    assert len(memory) == 8
    changes = pd.read_csv(folder / "tables" / "history_changes.csv")
    assert changes.iloc[:, 3].tolist() == ["slower", "slower", "grew", "slower"]
    page = (folder / "index.html").read_text()
    assert page.count("<img") == 2
    assert "20.00 GiB → 21.00 GiB" in page
    assert "http" not in page.partition("base64")[0]


def test_a_figure_has_a_line_a_case_broken_where_rows_are_unlike():
    sections = {section.name: section for section in history.build(sample())}
    with style.look():
        (axes,) = sections["history_memory"].figure().axes
    drawn = [line.get_xdata().tolist() for line in axes.lines if line.get_linestyle() != "None"]
    assert sorted(drawn) == [[0, 1], [0, 1, 2, 3], [2, 3]]
    assert [text.get_text() for text in axes.texts] == ["DRaFT-50"]
    assert axes.get_title("left") == "simulated, torch 2.13.0, 2.12.0"


def test_a_panel_holds_one_device():
    one, other = (row(Case("draft", meter="cuda"), device=device) for device in ("GPU A", "GPU B"))
    results = of_commits(one, one, other, other, commits="abcd")
    (_, memory) = history.build(results)
    with style.look():
        titles = [axes.get_title("left") for axes in memory.figure().axes]
    assert titles == ["measured on GPU A, torch 2.13.0", "measured on GPU B, torch 2.13.0"]


def test_equal_input_gives_equal_bytes_and_a_report_is_replaced(tmp_path):
    first = contents(made(tmp_path, sample()))
    (tmp_path / "out" / "summary.md").write_text("of a report")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert contents(made(tmp_path, sample())) == first | {"notes.txt": b"mine"}


def test_markup_in_a_record_is_text(tmp_path):
    records = [row(Case("draft")), row(Case("draft"))]
    page = (made(tmp_path, of_commits(*records, commits=("<b>", "<i>"))) / "index.html").read_text()
    assert "<b>" not in page
    assert "&lt;b&gt;" in page


def test_committed_results_make_a_history(tmp_path, capsys):
    """The command of bench/README.md."""
    reference = ROOT / "reports" / "reference" / "cpu" / "step_time.json"
    document = json.loads(reference.read_text())
    for benchmark in document["benchmarks"]:
        benchmark["extra_info"]["environment"]["commit"] = "another"
    (tmp_path / "other.json").write_text(json.dumps(document))
    files = [str(reference), str(tmp_path / "other.json")]
    assert command.main([*files, "--history", "--out", str(tmp_path / "out")]) == 0
    assert "Step time of 5 cases: 0 slower, 0 faster." in capsys.readouterr().out
