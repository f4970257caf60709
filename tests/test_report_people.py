"""The report as people read it: the first screen, chapters, short sentences, filters; of the committed records."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from msgspec import structs
from sample_rows import committed
from test_claims import read, row, rows
from test_claims_alignment import changed, interval
from test_claims_alignment import row as aligned

from bench import cases, claims, records
from bench.cases import TABLE, Case, case_id
from bench.records import MemoryRecord
from bench.report import page, sections, style
from bench.report.filters import part
from bench.report.sections import questions
from bench.units import GIB

SENTENCE, PARAGRAPH = 30, 60
"""Words at most, outside notes on methods."""


@pytest.fixture(scope="module")
def report() -> sections.Report:
    return sections.build([records.decode(row) for row in committed()])


def test_sentences_and_paragraphs_are_short(report):
    texts = {verdict.claim: verdict.finding for verdict in report.verdicts}
    texts |= {section.name: section.see for section in report.sections}
    texts |= {question.name: question.answer for question in report.questions}
    words = {name: [len(said.split()) for said in re.split(r"(?<=[.!?])\s+", text)] for name, text in texts.items()}
    assert sum(map(len, words.values())) > 60
    assert not {name: counts for name, counts in words.items() if max(counts) > SENTENCE or sum(counts) > PARAGRAPH}


# The first screen.


def test_every_question_of_the_readme_is_answered_by_the_records_or_by_a_command(report):
    answered = {question.name for question in report.questions if question.answer}
    assert answered == {"question_claims", "question_bytes", "question_fits", "question_alignment"}
    for question in report.questions:
        said = (question.answer, question.number, question.of, question.figure)
        assert all(said) if question.name in answered else (not any(said) and question.command)
    assert all(question.command and not question.answer for question in sections.build([]).questions)
    assert not {question.name for question in report.questions} & set(sections.FILES)


def test_claims_are_counted_at_the_published_scale_and_apart_from_it():
    made = [*rows(cases.published()), aligned("draft", 2.0), aligned("easytune", 2.0)]
    asked = questions.do_claims_hold(made)
    verdicts = [verdict for verdict in claims.judge(made) if verdict.outcome is not claims.Outcome.NOT_JUDGED]
    at_scale = [verdict for verdict in verdicts if not verdict.here]
    assert 0 < len(at_scale) < len(verdicts)
    assert asked.number == f"{sum(v.words == 'holds' for v in at_scale)} of {len(at_scale)}"
    assert f"{len(verdicts) - len(at_scale)} more " in asked.answer


def test_the_largest_part_of_easytunes_peak_is_named():
    asked = questions.where_bytes_go(rows(cases.published()))
    shares = {part: float(share) for part, share in re.findall(r"(\w+) (\d+\.\d)%", asked.answer)}
    assert sum(shares.values()) == pytest.approx(100, abs=0.3)
    most = max(shares, key=shares.__getitem__)
    assert asked.of == f"of EasyTune's peak: {most}"
    assert asked.number == f"{shares[most]:.0f}%"


def test_what_fits_is_read_off_what_the_allocator_takes():
    live, reserved = row(Case("draft"), peak=30 * GIB), read(row(Case("easytune"), peak=20 * GIB), reserved=22 * GIB)
    assert questions.what_fits([live, reserved]).number == "22.00 to 30.00 GiB"


@pytest.mark.parametrize(
    ("best", "number", "words"),
    [(0.9, "3 of 6", "is clearly ahead"), (0.5, "0 of 6", "is not clearly ahead")],
)
def test_who_aligns_best_is_said_only_where_all_pairs_at_once_tell(best, number, words):
    made = [aligned(method, 2.0) for method in ("draft", "alignprop", "refl")]
    ours = aligned("easytune", 2.0, r1=best)
    assert ours.alignment is not None
    ours = changed(ours, gain=ours.alignment.gain | {"r1": interval(best - 0.5 + 0.001)})
    asked = questions.who_aligns_best([*made, ours])
    assert asked.number == number
    assert words in asked.answer
    assert asked.answer.startswith("EasyTune gains most")


def from_outside(peak: int) -> MemoryRecord:
    record = row(Case("draft"), peak=peak)
    case = structs.replace(record.case, method="mine")
    return structs.replace(record, case=structs.replace(case, id=case_id(case)))


def test_a_method_from_outside_is_compared_with_the_others():
    others = [row(Case(method), peak=(20 + n) * GIB) for n, method in enumerate(TABLE)]
    asked = questions.how_does_mine_compare([*others, from_outside(22 * GIB - 1)])
    assert asked.number == "22.00 GiB"
    assert "2 of 5 others need less" in asked.answer
    assert questions.how_does_mine_compare(others).command


# Chapters.


class Outline(HTMLParser):
    """Headings and what they are called, links of the side list, ids, and what stays open."""

    VOID = ("meta", "input", "img", "br")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.side: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        of = dict(attributes)
        self.ids += [of["id"]] if "id" in of else []
        if "href" in of:
            (self.side if "nav" in self.open else self.links).append(of["href"])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_side_list_names_every_chapter_and_every_section_that_has_data(report):
    outline = Outline(page.page(report, {}))
    assert outline.open == []
    assert len(outline.ids) == len(set(outline.ids))
    assert {link.removeprefix("#") for link in (*outline.side, *outline.links)} <= set(outline.ids)
    shown = [section.name for section in report.sections if section.see]
    assert [link for link in outline.side if link.removeprefix("#") in shown] == [f"#{name}" for name in shown]
    chapters = [link for link in outline.side if link.startswith("#chapter-")]
    assert len(chapters) == 1 + len(sections.CHAPTERS)
    assert {section.name for section in report.sections} <= set(outline.ids)
    assert {f"#chapter-{question.chapter.lower()}" for question in report.questions} <= set(chapters)


def test_a_section_stands_in_one_chapter():
    assert len(sections.SECTIONS) == len(set(sections.SECTIONS)) == len(set(sections.FILES))


# Filters.


def test_what_is_drawn_of_a_row_can_be_found_by_the_filters(report):
    section = next(s for s in report.sections if s.name == "pareto")
    assert section.table is not None
    assert section.figure is not None
    with style.look():
        tree = ET.fromstring(style.svg(section.figure()))
    ids = [element.get("id", "") for element in tree.iter()]
    assert section.filters is not None
    assert len(section.filters.marks) == len(section.table)
    for number, mark in enumerate(section.filters.marks):
        assert sum(name.startswith(f"{part(number)}-") for name in ids) >= 4  # two points, each with its interval
        assert mark.memory == pytest.approx(section.table["peak, MiB"][number])
    assert set(section.filters.choices) == {"Method", "Backbone, by world"}
    least, most = section.filters.memory
    assert least <= section.table["peak, MiB"].min() <= section.table["peak, MiB"].max() <= most


def test_the_page_without_scripts_is_whole(report):
    section = next(s for s in report.sections if s.name == "pareto")
    text = page.page(replace(report, chapters={"Alignment": [section]}), {"pareto": b"<svg/>"})
    assert re.search(r'<form class="filters" data-of="pareto" hidden>', text)
    assert text.count("<img ") == 1
    still = page.page(replace(report, chapters={"Alignment": [section]}), {})
    assert "<form" not in still
