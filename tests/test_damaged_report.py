"""Reports of results of which one row was damaged: the row is refused in one sentence, or everything is laid out.

Mutations are seeded; MUTATIONS=10000 tries as many. Figures are drawn for the first FIGURES of each kind alone.
"""

import functools
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from damage import damaged
from sample_rows import committed, kind_of, today
from test_damaged_results import attempt

from bench import records, tables
from bench.records import Record
from bench.report import page, sections, style

TRIES = int(os.environ.get("MUTATIONS", "300"))
FIGURES = int(os.environ.get("FIGURES", "2"))


@functools.cache
def by_kind() -> dict[tuple, list[dict]]:
    """The committed rows of each kind and study."""
    groups: dict[tuple, list[dict]] = {}
    for row in committed():
        groups.setdefault(kind_of(row), []).append(row)
    return groups


@functools.cache
def whole() -> list[Record]:
    return [records.decode(row) for row in committed()]


def lay_out(loaded: Sequence[Record]) -> sections.Report:
    """Everything of a report but its figures."""
    report = sections.build(loaded)
    page.summary(report)
    page.page(report, {})
    for frame in page.all_tables(report).values():
        tables.markdown(frame)
        page.csv(frame)
    tables.for_terminal(loaded)
    return report


def draw(report: sections.Report) -> None:
    with style.look():
        for section in report.sections:
            if section.figure:
                section.figure().draw_without_rendering()


def reported(kind: tuple, path: Path, random: Random, *, figures: bool) -> str:
    """What became of one row, damaged, among all whole ones; its figures are drawn with those of its kind alone."""
    row = random.choice(by_kind()[kind])
    text = json.dumps(random.choice((row, today(row))))
    path.write_bytes(b'{"benchmarks": [{"extra_info": ' + damaged(text, random) + b"}]}")
    loaded: list[Record] = []
    ended = attempt(lambda path: loaded.extend(records.load(path)), path)
    if loaded:
        lay_out(records.merge([whole(), loaded]))
        if figures:
            beside = [other for other in whole() if other.kind == kind[0]]
            draw(sections.build(records.merge([beside, loaded])))
    return ended


def outcomes(seeds: range, folder: Path) -> Counter:
    """How many rows were read and refused, of each kind in turn."""
    counted: Counter = Counter()
    drawn: Counter = Counter()
    kinds = sorted(by_kind(), key=str)
    for seed in seeds:
        random, kind = Random(f"report {seed}"), kinds[seed % len(kinds)]
        try:
            ended = reported(kind, folder / "run.json", random, figures=drawn[kind] < FIGURES)
        except Exception as error:
            error.add_note(f"{kind}, seed {seed}")
            raise
        counted[ended] += 1
        drawn[kind] += ended == "read"
    return counted


@pytest.mark.filterwarnings("ignore")  # of what is drawn of odd figures
def test_damage_is_refused_in_a_sentence_or_reported(tmp_path):
    counted = outcomes(range(TRIES), tmp_path)
    assert counted["read"] + counted["refused"] == TRIES
    assert min(counted.values()) > TRIES / 10
