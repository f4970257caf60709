"""A hostile record: what it says stands in the report as text, in every medium, and does nothing."""

import csv
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest
from msgspec import structs, to_builtins
from test_claims import row as memory_row
from test_claims_alignment import changed
from test_claims_alignment import row as alignment_row
from test_motions import body

from bench import escape, records, tables
from bench.alignment.motions import pack
from bench.cases import Case, case_id
from bench.records import AlignmentRecord, MemoryRecord, Record, RecordError
from bench.records.types import ShownMotion
from bench.report import figures, page, sections, style
from bench.report.filters import Filters, Mark

NASTY = 'a</script><img src=x onerror="alert(1)">\n# owned\n|b|`c`[d](http://e)'
FORMULA = '=HYPERLINK("http://e")'
MATHS = r"$\frac{$ costs 5"


def of_method(method: str, **case) -> MemoryRecord:
    """A memory row of a method that nobody registered, from a device of any name."""
    record = memory_row(Case("draft", **case))
    where = structs.replace(record.environment, device=NASTY, torch=NASTY, commit=NASTY)
    named = structs.replace(record.case, method=method)
    return structs.replace(record, case=structs.replace(named, id=case_id(named)), environment=where)


def failed(method: str) -> MemoryRecord:
    return structs.replace(of_method(method, seed=1), status="failed", reason=NASTY, reading=None)


def moving(caption: str) -> AlignmentRecord:
    packed = pack(body(20, 1.0))
    shown = [ShownMotion(kind, caption, 10, packed, packed, packed) for kind in ("place", "way")]
    return changed(alignment_row("draft", 2.0), motions=shown)


def hostile() -> list[Record]:
    made = [of_method(f"mine:x={NASTY}"), failed(f"mine:x={NASTY}"), of_method(FORMULA), moving(NASTY)]
    return [records.decode(to_builtins(record)) for record in made]  # a file may hold all of this


class Elements(HTMLParser):
    """Every element with its attributes, and all text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def report() -> sections.Report:
    return sections.build(hostile())


def test_in_html_it_is_text(report):
    text = page.page(report, {})
    read = Elements(text)
    assert [of for tag, of in read.elements if tag == "img"] == []
    assert not any(name.startswith("on") for _, of in read.elements for name in of)
    assert [tag for tag, _ in read.elements].count("script") == 2 + 1  # two motions, and what draws them
    assert NASTY in read.text
    label = next(of["aria-label"] for tag, of in read.elements if tag == "canvas")
    assert label == f"real motion: stick figure, “{NASTY}”"


def test_in_a_script_it_ends_no_element(report):
    section = next(s for s in report.sections if s.animation)
    animation = replace(section.animation, data={"motions": [NASTY]})
    held = with_animation(report, section, animation)
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', page.page(held, {}), re.DOTALL)
    assert "<" not in data
    assert json.loads(data) == {"motions": [NASTY]}
    row = to_builtins(moving("a caption"))
    row["alignment"]["motions"][0]["fps"] = "</script><script>alert(1)</script>"
    with pytest.raises(RecordError, match=r"whose field alignment\.motions\[0\]\.fps is wrong"):
        records.decode(row)


def with_animation(report: sections.Report, section: sections.Section, animation) -> sections.Report:
    """The report with one section alone, and another animation in it."""
    return replace(report, chapters={"Alignment": [replace(section, animation=animation)]})


def test_in_a_filter_it_is_a_label_and_ends_no_element(report):
    section = next(s for s in report.sections if s.filters)
    filters = Filters([Mark({"Method": NASTY}, 1.5), Mark({"Method": "other"}, 3.0)], "MiB")
    held = replace(report, chapters={"Alignment": [replace(section, filters=filters)]})
    text = page.page(held, {section.name: b"<svg/>"})
    read = Elements(text)
    boxes = [of for tag, of in read.elements if tag == "input" and of.get("name") == "Method"]
    assert [of["value"] for of in boxes] == [NASTY, "other"]
    assert not any(name.startswith("on") for _, of in read.elements for name in of)
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', text, re.DOTALL)
    assert "<" not in data
    assert json.loads(data) == filters.data
    (form,) = [of for tag, of in read.elements if tag == "form"]
    assert "hidden" in form  # until a script can filter


def test_in_markdown_it_stays_on_its_line_and_in_its_cell(report):
    summary = page.summary(report)
    assert "# owned" in summary
    texts = [summary, *(tables.markdown(frame) for frame in page.all_tables(report).values())]
    for text in texts:
        assert not re.search(r"^# owned", text, re.MULTILINE)
        assert "<img" not in text
        assert not re.search(r"(?<!\\)\[d\]", text)
    for frame in page.all_tables(report).values():
        lines = tables.markdown(frame).splitlines()
        assert len(lines) == len(frame) + 2
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(frame.columns) + 1}


@pytest.mark.parametrize(
    ("said", "escaped"),
    [
        (r"a\|b", r"a\\\|b"),
        ("a\r\n\u2028b", "a b"),
        ("&lt;b&gt; && c", "&amp;lt;b&amp;gt; && c"),
        ("x < y", "x &lt; y"),
        ("+0.1 ± 0.2, K = 4", "+0.1 ± 0.2, K = 4"),
    ],
)
def test_markdown_keeps_what_means_nothing_in_it(said, escaped):
    assert escape.markdown(said) == escaped


def test_in_a_spreadsheet_it_is_no_formula(report, tmp_path):
    cells = []
    for frame in page.all_tables(report).values():
        path = tmp_path / "table.csv"
        path.write_text(page.csv(frame), newline="")
        with path.open(newline="") as file:
            cells += [cell for line in csv.reader(file) for cell in line]
    assert f"'{FORMULA}" in cells
    assert not [cell for cell in cells if cell.startswith(("=", "@", "\t", "\r"))]
    assert not [cell for cell in cells if cell.startswith(("+", "-")) and not cell[1:2].isdigit()]


def test_numbers_stay_numbers_in_a_spreadsheet():
    frame = pd.DataFrame({"n": [-1, 2], "x": [-0.5, None], "gain": ["+0.056 ± 0.039", "-1.5%"], "=c": ["-1+2", "@a"]})
    lines = page.csv(frame).splitlines()
    assert lines == ["n,x,gain,'=c", "-1,-0.5,+0.056 ± 0.039,'-1+2", "2,,-1.5%,'@a"]


def test_in_a_figure_a_dollar_is_a_dollar():
    rows = [of_method(f"mine:x={MATHS}")]
    with style.look():
        drawn = {name: getattr(figures, name)(rows) for name in ("peaks", "plans", "split", "timeline")}
        drawn["motions"] = figures.motions([moving(MATHS)], "place")
        for figure in drawn.values():
            assert style.png(figure)
    labels = [label.get_text() for label in drawn["plans"].axes[0].get_yticklabels()]
    assert labels == [f"mine, x = {MATHS}"]
    assert f"“{MATHS}”" in [text.get_text() for text in drawn["motions"].texts]
