"""What a history shows: what changed beyond the gates' margins, peaks and step times over commits."""

from collections.abc import Sequence

import pandas as pd

from bench.claims import compare
from bench.claims.measured import reading_of, timing_of
from bench.gate import paired
from bench.meters import METERS
from bench.records import MemoryRecord, RecordError, Result, StepTimeRecord
from bench.report import page
from bench.report.history.figure import figure
from bench.report.history.lines import WORDS, Line, Point, lines, states_of
from bench.report.sections.section import Section
from bench.units import GIB

TITLE = "Memory and step time over commits"
FILES = ("history_changes", "history_memory", "history_step_time")
"""Stems of the sections' files."""


def build(results: Sequence[Result]) -> list[Section]:
    """RecordError where no two rows can be compared."""
    memory, step_time = lines(results, MemoryRecord), lines(results, StepTimeRecord)
    if not memory and not step_time:
        raise RecordError("no case was measured alike at two commits: give results of several commits")
    meters = dict.fromkeys(line[0].record.case.meter for line in memory)
    margins = ", ".join(f"{METERS[meter].margin:.3g} of the peak of {meter} rows" for meter in meters)
    of_time = f"{paired.MARGIN} times as long; times of different runs differ by chance, --step-time-against does not"
    sections = [
        _changes([*memory, *step_time]),
        _section("history_memory", "Peak memory", margins, memory),
        _section("history_step_time", "Step time", of_time, step_time),
    ]
    return [section for section in sections if section.see]


def render(sections: Sequence[Section]) -> dict[str, bytes]:
    """As bench.report.page.render."""
    figures = page.draw(sections)
    texts = {"index.html": page.html("history.html", page.pictures_of(figures), title=TITLE, sections=sections)}
    return page.collect(figures, texts, {s.name: s.table for s in sections if s.table is not None and len(s.table)})


def _changes(every: Sequence[Line]) -> Section:
    points = sorted((point for line in every for point in line if point.change.word), key=lambda point: point.state)
    first, *_, last = states_of(every)
    counted = f"{len(points)} changes beyond the gates' margins" if points else "no change beyond a gate's margin"
    table = pd.DataFrame(map(_change, points))
    return Section("history_changes", "What changed", f"From {first} to {last}: {counted}.", table=table)


def _change(point: Point) -> dict[str, object]:
    return {**_where(point), "": point.change.word, "change": point.change.sizes, "by": point.change.by}


def _section(name: str, title: str, margin: str, drawn: Sequence[Line]) -> Section:
    if not drawn:
        return Section(name, title)
    panels: dict[str, list[Line]] = {}
    for line in drawn:
        panels.setdefault(_place(line[-1]), []).append(line)
    words = WORDS[type(drawn[0][0].record)]
    changed = {(point.change.word, point.record.case.id) for line in drawn for point in line}
    counted = ", ".join(f"{sum(word == other for other, _ in changed)} {word}" for word in words)
    what = f"{title} of {len({name for _, name in changed})} cases: {counted}"
    see = f"{what}. Margin: {margin}. No line joins rows of unlike devices, torch versions or settings."
    rows = pd.DataFrame(_row(point) for line in drawn for point in line)
    return Section(name, title, see, lambda: figure(panels, what), rows)


def _place(point: Point) -> str:
    return METERS[point.record.case.meter].origin.format(device=point.record.environment.device)


def _row(point: Point) -> dict[str, object]:
    row = {**_where(point), "measured": compare.provenance(point.record)}
    if isinstance(point.record, MemoryRecord):
        reading = reading_of(point.record)
        sizes = {"peak": reading.peak, "allocated": reading.allocated, "reserved": reading.reserved}
        row |= {f"{name}, GiB": None if size is None else size / GIB for name, size in sizes.items()}
    else:
        timing = timing_of(point.record)
        row |= {"s/update": timing.per_update.median, "IQR": timing.per_update.iqr, "rounds": timing.rounds}
    return row | {"": point.change.word}


def _where(point: Point) -> dict[str, object]:
    return {"case": point.record.case.id, "date": f"{point.state.date:%Y-%m-%d}", "commit": point.state.commit}
