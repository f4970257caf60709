"""Reports of results of which one row was damaged: the row is refused in one sentence, or everything is laid out.

Mutations are seeded; MUTATIONS=10000 tries as many. A third of the usual number by default: each that is read makes a
report.
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

TRIES = int(os.environ.get("MUTATIONS", "100"))
DRAWN = 0.05
"""Share of the reports whose figures are drawn, which take longest."""


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


def reported(kind: tuple, path: Path, random: Random) -> str:
    """What became of one row, damaged, among all whole ones; its figures are drawn with those of its kind alone."""
    row = random.choice(by_kind()[kind])
    text = json.dumps(random.choice((row, today(row))))
    path.write_bytes(b'{"benchmarks": [{"extra_info": ' + damaged(text, random) + b"}]}")
    loaded: list[Record] = []
    ended = attempt(lambda path: loaded.extend(records.load(path)), path)
    if loaded:
        lay_out(records.merge([whole(), loaded]))
        if random.random() < DRAWN:
            beside = [other for other in whole() if other.kind == kind[0]]
            draw(sections.build(records.merge([beside, loaded])))
    return ended


def outcomes(seeds: range, folder: Path) -> Counter:
    """How many rows were read and refused, of each kind in turn."""
    counted: Counter = Counter()
    kinds = sorted(by_kind(), key=str)
    for seed in seeds:
        kind = kinds[seed % len(kinds)]
        try:
            counted[reported(kind, folder / "run.json", Random(f"report {seed}"))] += 1
        except Exception as error:
            error.add_note(f"{kind}, seed {seed}")
            raise
    return counted


@pytest.mark.filterwarnings("ignore")  # of what is drawn of odd figures
def test_damage_is_refused_in_a_sentence_or_reported(tmp_path):
    counted = outcomes(range(TRIES), tmp_path)
    assert counted["read"] + counted["refused"] == TRIES
    assert min(counted.values()) > TRIES / 20


@pytest.mark.filterwarnings("ignore:All-NaN")
@pytest.mark.parametrize("metric", ["reward", "r1", "mm_dist", "fid"])
def test_figures_and_tables_leave_out_what_was_measured_nowhere(metric):
    """R-precision needs 32 prompts, and a world may have fewer."""

    def without(value: object) -> object:
        if isinstance(value, dict):
            if metric in value:
                mean = {"mean": None, "half_width": None} if isinstance(value[metric], dict) else None
                value = {**value, metric: mean}
            return {name: without(inner) for name, inner in value.items()}
        return [without(inner) for inner in value] if isinstance(value, list) else value

    rows = [today(row) for row in committed() if row["kind"] in ("alignment", "study")]
    loaded = [records.decode(without(row)) for row in rows]
    assert all(interval.mean is None for r in loaded for name, interval in _gains(r) if name == metric)
    draw(lay_out(loaded))


def _gains(record: Record) -> list:
    alignment = getattr(record, "alignment", None)
    return list(alignment.gain.items()) if alignment else []
