"""What a history shows: what changed beyond the gates' margins, peaks and step times over commits."""

from collections.abc import Sequence

import pandas as pd

from bench.claims import compare
from bench.claims.measured import reading_of, timing_of
from bench.gate import paired
from bench.gate.judge import Outcome
from bench.meters import METERS
from bench.records import MemoryRecord, RecordError, Result, StepTimeRecord
from bench.report import page
from bench.report.history.figure import figure
from bench.report.history.lines import Line, Point, lines, states_of
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
    sections = [_changes([*memory, *step_time])]
    if memory:
        sections.append(_section("history_memory", "Peak memory", "GiB", memory))
    if step_time:
        section = _section("history_step_time", "Step time", "s", step_time)
        sections.append(section)
    return sections


def render(sections: Sequence[Section]) -> dict[str, bytes]:
    """As bench.report.page.render."""
    figures = page.draw(sections)
    texts = {"index.html": page.html("history.html", figures, title=TITLE, sections=sections)}
    return page.collect(figures, texts, {s.name: s.table for s in sections if s.table is not None})


def _changes(every: Sequence[Line]) -> Section:
    points = [point for line in every for point in line if point.changed]
    states = states_of(every)
    counted = f"{len(every)} cases over {len(states)} commits, from {states[0]} to {states[-1]}: "
    see = counted + (f"{len(points)} changes beyond the gates' margins." if points else "no change beyond a margin.")
    ordered = sorted(points, key=lambda point: point.state)
    return Section("history_changes", "What changed", see, table=pd.DataFrame(map(_change, ordered)))


def _change(point: Point) -> dict[str, object]:
    words = "step time" if isinstance(point.record, StepTimeRecord) else "memory"
    return {**_where(point), "": f"{words} {point.change.outcome}", "change": point.change.words, "by": point.change.by}


def _section(name: str, title: str, unit: str, drawn: Sequence[Line]) -> Section:
    counts = [sum(any(p.change.outcome is o for p in line) for line in drawn) for o in (Outcome.GREW, Outcome.SHRANK)]
    panels: dict[str, list[Line]] = {}
    for line in drawn:
        panels.setdefault(_place(line[-1]), []).append(line)
    what = f"{title} over commits: {counts[0]} of {len(drawn)} cases grew, {counts[1]} shrank"
    margins = ", ".join(f"{METERS[m].margin:.1%} ({m})" for m in dict.fromkeys(line[0].record.case.meter for line in drawn))
    if unit == "s":
        margins = f"{paired.MARGIN} times as long; runs on different days differ by chance, --step-time-against compares in one"
    see = f"{what}. The gate's margin: {margins}. No line joins rows of unlike devices, torch versions or settings."
    rows = pd.DataFrame(_row(point) for line in drawn for point in line)
    return Section(name, title, see, lambda: figure(panels, unit, what), rows)


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
    return row | {"": str(point.change.outcome) if point.changed else ""}


def _where(point: Point) -> dict[str, object]:
    return {"case": point.record.case.id, "date": f"{point.state.date:%Y-%m-%d}", "commit": point.state.commit}
