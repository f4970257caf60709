"""`python -m bench.report` as a user runs it: files that open, right numbers, equal bytes, sentences for bad input."""

import base64
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib.image
import pandas as pd
import pytest
from markupsafe import escape
from matplotlib.figure import Figure
from msgspec import structs, to_builtins
from test_claims import CALL, FLOOR, raised, read, row, rows, timed

from bench import cases, claims
from bench.cases import TABLE, Case
from bench.labels import method_label
from bench.meters.reading import Owner
from bench.records import MemoryRecord, Record
from bench.records.types import HeldOverDraws
from bench.report import __main__ as command
from bench.report import figures, output, page, sections, style
from bench.report import rows as pick
from bench.report.figures.plans import cells
from bench.units import GIB

ROOT = Path(__file__).parent.parent
FIGURES = {"peaks", "base", "backbones", "steps", "split", "timeline", "plans", "step_time"}


def sample() -> list[Record]:
    """Every row of the default matrix, and step times."""
    seconds = {"draft": 2.0, "easytune": 20.0}
    return [*rows(cases.default()), *(timed(method, [seconds.get(method, 1.0)] * 3) for method in TABLE)]


def save(path: Path, records: list[Record], written: str = "2026-01-01T00:00:00+00:00") -> Path:
    path.write_text(json.dumps({"benchmarks": [{"extra_info": to_builtins(r)} for r in records], "datetime": written}))
    return path


def run(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "bench.report", *map(str, arguments)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """The report's folder, and how the command that made it ended."""
    folder = tmp_path_factory.mktemp("made")
    done = run(save(folder / "run.json", sample()))
    assert done.returncode == 0, done.stderr
    return folder / "report", done


def test_the_command_says_what_it_wrote_and_every_verdict(made):
    folder, done = made
    assert str(folder / "index.html") in done.stdout
    assert f"{len(FIGURES)} figures" in done.stdout
    for claim in claims.CLAIMS:
        assert re.search(rf"^{claim.id} +[A-Z ]+{re.escape(claim.text)}", done.stdout, re.MULTILINE)
    assert re.search(r"^C5 +HOLDS  ", done.stdout, re.MULTILINE)
    assert done.stderr == ""


def test_every_figure_opens_as_png_and_svg(made):
    folder, _ = made
    assert {p.stem for p in (folder / "figures").iterdir()} == FIGURES
    for name in FIGURES:
        image = matplotlib.image.imread(folder / "figures" / f"{name}.png")
        assert image.shape[1] == style.WIDTH * style.DPI
        assert image.std() > 0.05  # something is drawn
        assert ET.parse(folder / "figures" / f"{name}.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_the_page_holds_everything_and_loads_nothing(made):
    folder, _ = made
    text = (folder / "index.html").read_text()
    pictures = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', text)
    drawn = {base64.b64decode(p) for p in pictures}
    assert {(folder / "figures" / f"{name}.svg").read_bytes() for name in FIGURES} < drawn
    assert len(drawn) == len(pictures) == len(FIGURES) + 3  # and a small one of each question that is answered
    rest = re.sub(r"base64,[^\"]+", "", text)
    assert "http" not in rest
    assert "<script" not in rest
    for attribute, target in re.findall(r'(src|href)="([^"]*)"', rest):
        assert target.startswith("#") if attribute == "href" else target.startswith("data:")
    for claim in claims.CLAIMS:
        assert str(escape(claim.text)) in text
        assert str(escape(claim.command)) in text
    for anchor in re.findall(r'href="#([^"]+)"', text):
        assert f'id="{anchor}"' in text


def test_tables_read_back_with_the_right_numbers(made):
    folder, _ = made
    memory = pd.read_csv(folder / "tables" / "memory.csv")
    assert len(memory) == len(cases.default())
    draft = memory.query("method == 'draft' and backbone == 'mld' and T == 50 and profile == 'paper'")
    assert draft["peak"].item() == (FLOOR + 50 * CALL) / GIB
    steps = pd.read_csv(folder / "tables" / "steps.csv")
    assert (steps["error, %"] == 0).all()
    times = pd.read_csv(folder / "tables" / "step_time.csv").set_index("method")
    assert times.loc["easytune", "s/optimiser step"] == pytest.approx(0.4)
    verdicts = pd.read_csv(folder / "tables" / "verdicts.csv")
    assert verdicts["id"].tolist() == [claim.id for claim in claims.CLAIMS]
    for path in (folder / "tables").glob("*.csv"):
        frame = pd.read_csv(path)
        assert len(frame), path
        lines = path.with_suffix(".md").read_text().splitlines()
        assert len(lines) == len(frame) + 2
        assert {line.replace("\\|", "").count("|") for line in lines} == {len(frame.columns) + 1}


def test_the_summary_holds_every_table_and_needs_no_other_file(made):
    """In a repository it stands alone: neither figures nor tables are committed with it."""
    folder, _ = made
    text = (folder / "summary.md").read_text()
    assert "](" not in text
    for section in sections.build(sample()).sections:
        of_section = re.split(r"\n##", text.partition(f"\n### {section.title}\n")[2])[0]
        lines = [line for line in of_section.splitlines() if line.startswith("|")]
        assert len(lines) == (0 if section.table is None or not len(section.table) else len(section.table) + 2)


def test_equal_input_gives_equal_bytes(made):
    """In another process."""
    folder, _ = made
    before = contents(folder)
    assert command.main([str(folder.parent / "run.json"), "--out", str(folder.parent / "again")]) == 0
    assert contents(folder.parent / "again") == before


def test_simulated_figures_say_so_in_their_titles(monkeypatch):
    titles = []
    monkeypatch.setattr(style, "title", lambda figure, text, subtitle: titles.append(text))
    report = sections.build(sample())
    with style.look():
        for section in report.sections:
            if section.figure and section.name not in ("plans", "step_time"):
                section.figure()
    assert len(titles) == 6
    assert all("(simulated)" in title for title in titles)
    with style.look():
        figures.step_time(pick.timed(sample()))
    assert titles[-1] == "Time of a real update, on a CPU"


# Any subset of records.


def report_of(records: list[Record]) -> tuple[dict[str, sections.Section], dict[str, bytes]]:
    report = sections.build(records)
    return {s.name: s for s in report.sections}, page.render(report)


@pytest.mark.parametrize(
    ("records", "drawn"),
    [
        (rows(cases.quick()), {"peaks", "split", "timeline", "plans"}),
        ([timed(method, [1.0]) for method in TABLE], {"step_time", "plans"}),
        (rows(cases.published(), status="oom"), {"peaks", "plans"}),
        ([row(Case("draft"))], {"peaks", "split", "timeline", "plans"}),
        ([row(Case("drtune:k=3,m=2", backbone="mld-tiny", steps=4, batch=2, frames=5, seed=1))], set()),
        ([row(Case(m, profile="paper+attention=fused")) for m in TABLE], {"peaks", "split", "timeline", "plans"}),
    ],
    ids=["quick", "times", "failed", "one", "odd", "profile"],
)
def test_sections_without_data_are_left_out_with_a_command(records, drawn):
    by_name, files = report_of(records)
    assert {Path(name).stem for name in files if name.endswith(".png")} == drawn
    for section in by_name.values():
        assert bool(section.see) != bool(section.command)
    left_out = [s for s in by_name.values() if not s.see]
    assert left_out
    summary = files["summary.md"].decode()
    for section in left_out:
        assert section.command.startswith("pytest bench/")
        assert section.command in summary


def test_rows_that_did_not_fit_are_drawn_and_listed():
    records = [row(c, status="oom" if c.method == "draft" else "ok") for c in cases.published()]
    by_name, files = report_of(records)
    assert "1 of them without a figure" in by_name["memory"].see
    assert b"it did not fit" in files["tables/memory.csv"]
    with style.look():
        figure = figures.peaks(pick.table(records))
    texts = texts_of(figure)
    assert "out of memory" in texts
    assert "DRaFT-50" in texts


def texts_of(figure: Figure) -> set[str]:
    texts = {text.get_text() for axes in figure.axes for text in axes.texts}
    return texts | {label.get_text() for axes in figure.axes for label in axes.get_yticklabels()}


def test_random_methods_get_the_distribution_that_their_draws_predict():
    uniform = row(Case("alignprop"))
    draws = HeldOverDraws(1000, 1, (13, 26, 38), 50)
    uniform = structs.replace(uniform, plan=structs.replace(uniform.plan, held_over_draws=draws))
    by_name, files = report_of([uniform, row(Case("easytune"))])
    assert "figures/random.png" in files
    assert "predicted" in by_name["random"].see
    table = by_name["random"].table.iloc[0]
    assert table["predicted GiB, median"] == (FLOOR + 26 * CALL) / GIB
    assert table["held, most"] == 50


def measured(case: Case) -> MemoryRecord:
    """The CUDA row of a case: 1% more than simulated, and what lies around it."""
    simulated = row(case, device="a GPU", torch="2.13.0+cu130", cuda="13.0")
    peak, around = simulated.reading.peak, {"process": 40 * GIB, "reserved": 36 * GIB, "workspace": 2**25}
    return read(simulated, peak=int(1.01 * peak), tracked=peak, requested=peak, **around)


def test_simulated_and_measured_rows_of_a_case_are_compared():
    pairs = [("draft", "paper"), ("easytune", "paper"), ("easytune", "frozen")]
    records = [row(Case(m, profile=p)) for m, p in pairs]
    records += [measured(Case(m, profile=p, meter="cuda")) for m, p in pairs]
    by_name, files = report_of(records)
    assert "figures/meters.png" in files
    table = by_name["meters"].table
    assert len(table) == 3
    assert table["simulated / allocated"].tolist() == pytest.approx([1 / 1.01] * 3)
    assert table["simulated / tracked"].tolist() == [1, 1, 1]
    assert table["process"].tolist() == [40, 40, 40]
    # Everything else is drawn from the measured rows alone.
    assert {r.case.meter for r in pick.table(records)} == {"cuda"}
    older = [row(Case(m, profile=p), torch="2.12.0+cpu") for m, p in pairs]
    assert not report_of([*older, *records[3:]])[0]["meters"].see


def test_a_figure_never_mixes_versions():
    records = [row(case, torch=torch) for torch in ("2.12.0", "2.13.0") for case in cases.default()]
    for chosen in (pick.table(records), pick.sweeps(records)):
        assert len({r.environment.torch for r in chosen}) == 1


def test_drtune_is_drawn_as_a_line_with_a_fifth_of_the_steps_and_with_a_fixed_k():
    swept = [Case(f"drtune:k={k}", steps=t) for k, t in ((2, 10), (4, 20), (10, 50), (10, 20), (10, 10))]
    lines = pick.lines(rows(swept))
    held = {name: [r.plan.held for r in of] for name, of in lines.items()}
    assert held == {"drtune, a fifth": [2, 4, 10], "drtune": [10, 10, 10]}


# Sentences are computed from the rows that they stand beside.


def test_what_freezing_changes_is_read_off_the_peaks():
    same = [row(Case(m, profile=p), peak=peak * GIB) for m in TABLE[:2] for p, peak in (("paper", 30), ("frozen", 26))]
    assert sections.peaks(same).see.endswith("Freezing the reward changes the peak by -4.00 GiB (2 methods).")
    apart = [*same[:3], row(Case(TABLE[1], profile="frozen"), peak=31 * GIB)]
    assert "changes the peak by -4.00 to +1.00 GiB (2 methods)" in sections.peaks(apart).see
    assert "reezing" not in sections.peaks(same[:1]).see


def test_shares_of_easytunes_peak_add_up():
    see = sections.split([row(Case("easytune"))]).see
    shares = [float(share) for share in re.findall(r"(\d+\.\d)%", see.partition("EasyTune's peak:")[2])]
    assert len(shares) == 4  # rollout, decode, reward, resident: what is 0.0% is not named
    assert sum(shares) == pytest.approx(100, abs=0.2)


def test_how_often_the_reward_is_read_is_counted():
    see = sections.timeline(rows(cases.published())).see
    assert see.endswith("The reward is read once by DRaFT-50, AlignProp, DRTune, ReFL; 50 times by EasyTune.")


def test_a_share_that_does_not_fall_with_the_base_is_not_said_to():
    made = [row(Case("draft"), peak=20 * GIB), row(Case("easytune"), peak=22 * GIB)]
    assert "beyond a base does not fall" in sections.base(made).see


def test_times_that_were_not_interleaved_are_not_said_to_be():
    made = [timed(method, [1.0, 2.0]) for method in TABLE]
    assert "interleaved" in sections.step_time(made).see
    alone = [structs.replace(r, timing=structs.replace(r.timing, interleaved=False)) for r in made]
    assert "interleaved" not in sections.step_time(alone).see
    with style.look():
        words = [text.get_text() for text in sections.step_time(alone).figure().legends[0].get_texts()]
    assert words[1] == "least to most of 2 rounds"


@pytest.mark.parametrize("extra", [0, 5 * GIB])
def test_memory_is_alike_for_every_method_only_where_the_plans_predict_it(extra):
    made = [row(case) for case in cases.steps()]
    made[0] = raised(made[0], extra)
    with style.look():
        figure = figures.steps(made)
    assert any("alike for every method" in text for text in texts_of(figure)) == (extra == 0)


def test_plans_are_read_cell_by_cell():
    assert cells("..|#U") == [".", ".", "|#", "U"]
    assert cells("..~S~U") == [".", ".", "~S", "~U"]
    for record in sample():
        assert len(cells(record.plan.grid)) == record.plan.calls


@pytest.mark.parametrize(
    ("method", "label"),
    [
        ("draft", "DRaFT-50"),
        ("draft:k=1", "DRaFT-1"),
        ("alignprop", "AlignProp, uniform"),
        ("alignprop:truncation=fixed", "AlignProp, K = 25"),
        ("drtune", "DRTune, K = 10"),
        ("drtune:k=5", "DRTune, K = 5"),
        ("easytune:mode=chain-released", "EasyTune, chain as released"),
        ("mine:offset=1", "mine, offset = 1"),
    ],
)
def test_methods_are_named_as_papers_name_them(method, label):
    assert method_label(method, 50) == label


# Input and output of no use.


@pytest.fixture
def refused(capsys):
    """Runs the command; the one sentence that it ends with."""

    def sentence(*arguments: object) -> str:
        assert command.main(list(map(str, arguments))) == 2
        done = capsys.readouterr()
        assert done.out == ""
        (line,) = done.err.splitlines()
        return line

    return sentence


def test_the_command_ends_with_2_and_one_sentence(capsys):
    assert command.main(["nowhere.json"]) == 2
    sentence = "bench.report: cannot read nowhere.json: No such file or directory; check the path\n"
    assert capsys.readouterr() == ("", sentence)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file"),
        ("", "empty"),
        ('{"benchmarks": [', "not whole JSON"),
        ("[1, 2]", "not a pytest-benchmark result"),
        ('{"benchmarks": [{"extra_info": {"mine": 1}}]}', "not of this suite"),
    ],
    ids=["missing", "empty", "cut", "foreign", "other"],
)
def test_a_file_of_no_use_is_refused_in_a_sentence_and_the_old_report_stays(tmp_path, refused, text, words):
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "index.html").write_text("the old one")
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    assert words in refused(tmp_path / "run.json")
    assert contents(folder) == {"index.html": b"the old one"}


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(tmp_path, refused, monkeypatch):
    path = save(tmp_path / "run.json", [row(Case("draft"))])
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(sections, "build", None)
    assert "cannot write a report to" in refused(path, "--out", tmp_path / "file" / "report")


def test_without_a_file_the_newest_result_under_reports_is_taken(tmp_path, refused, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "no result under reports/" in refused()
    (tmp_path / "reports" / "reference" / "gpu").mkdir(parents=True)
    (tmp_path / "reports" / "other.json").write_text('{"not": "a result"}')
    (tmp_path / "reports" / "broken.json").write_text("{")
    old, new = ("2026-01-01T00:00:00+00:00", "2026-02-01T00:00:00+00:00")
    newest = save(tmp_path / "reports" / "reference" / "gpu" / "run.json", [row(Case("draft"))], new)
    save(tmp_path / "reports" / "z.json", [row(Case("easytune"))], old)  # written to disk last
    assert command.main([]) == 0
    assert (newest.parent / "report" / "index.html").is_file()


def test_several_files_are_merged_and_a_later_one_wins(tmp_path, capsys):
    one = save(tmp_path / "one.json", [row(Case("draft"), peak=40 * GIB), row(Case("refl"))])
    two = save(tmp_path / "two.json", [row(Case("draft"), peak=30 * GIB), row(Case("easytune"))])
    assert command.main([str(one), str(two), "--out", str(tmp_path / "out")]) == 0
    table = pd.read_csv(tmp_path / "out" / "tables" / "memory.csv").set_index("method")
    assert set(table.index) == {"draft", "refl", "easytune"}
    assert table.loc["draft", "peak"] == 30
    assert "HOLDS IN PART" in capsys.readouterr().out


def test_an_earlier_report_is_replaced_and_what_is_not_ours_stays(tmp_path):
    output.write(tmp_path, {"index.html": b"old", "figures/steps.png": b"old", "tables/C1.csv": b"old"})
    (tmp_path / "notes.txt").write_text("mine")
    output.write(tmp_path, {"index.html": b"new", "tables/runs.csv": b"new"})
    assert contents(tmp_path) == {"index.html": b"new", "tables/runs.csv": b"new", "notes.txt": b"mine"}


def test_a_report_that_cannot_be_finished_leaves_the_earlier_one(tmp_path, monkeypatch):
    output.write(tmp_path, {"index.html": b"old"})

    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(output.OutputError, match="No space left on device"):
        output.write(tmp_path, {"index.html": b"new"})
    assert contents(tmp_path) == {"index.html": b"old"}


def test_the_files_a_report_may_have_are_all_known():
    names = {section.name for section in sections.build([]).sections}
    assert names == set(sections.FILES)


def test_the_owners_of_easytunes_peak_add_up_to_it():
    line = "methods/transformer.py:75"
    owners = [
        Owner("reward", "activations", f"reward.layer{n % 20}.linear", "addmm", line, (n + 1) * GIB, 1)
        for n in range(40)
    ]
    record = read(row(Case("easytune")), owners=owners, peak=sum(o.bytes for o in owners))
    section = sections.owners([record])
    assert len(section.table) == sections.OWNERS + 1
    assert section.table["GiB"].sum() == pytest.approx(sum(range(1, 41)))
    assert section.table["share, %"].sum() == pytest.approx(100)
    assert section.table.iloc[0]["module"] == "reward.layer19.linear"
    assert section.table.iloc[-1]["module"] == "8 others"
    assert "reward.layer19.linear" in section.see
