"""C5, C12: memory against denoising and trained steps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

import pandas as pd

from bench import cases
from bench.cases import Case
from bench.claims.compare import find
from bench.claims.measured import held, peak
from bench.claims.published import DRAFT, DRTUNE, EASYTUNE, LINE_TOLERANCE
from bench.claims.verdict import Verdict, outcome_of
from bench.records import MemoryRecord, Record
from bench.units import GIB


@dataclass(frozen=True)
class Line:
    """The line through the first and the last of some points, and how far the others stray from it (bytes)."""

    slope: Fraction
    strays: Fraction
    peak: int

    @property
    def exact(self) -> bool:
        return self.strays == 0

    @property
    def straight(self) -> bool:
        return self.strays <= LINE_TOLERANCE * self.peak

    def how(self) -> str:
        """`to the byte`, or by how much not."""
        return "to the byte" if self.exact else f"within {float(self.strays / self.peak):.2%} of the peak"


def line(points: Sequence[tuple[int, int]]) -> Line:
    """The line of (x, bytes) points; at least two different x."""
    points = sorted(points)
    (x0, first), (x1, last) = points[0], points[-1]
    slope = Fraction(last - first, x1 - x0)
    return Line(slope, max(abs(y - first - slope * (x - x0)) for x, y in points), max(y for _, y in points))


def flat(points: Sequence[tuple[int, int]]) -> Line:
    """The same for a level: how far the points lie apart."""
    values = [y for _, y in points]
    return Line(line(points).slope, Fraction(max(values) - min(values)), max(values))


_SWEPT = {"draft": "DRaFT", "alignprop": "AlignProp (trains half of them)", "drtune": "DRTune (a fifth)"}
"""What the steps matrix sweeps, by method."""


def judge_growth(records: Sequence[Record]) -> Verdict:
    """C5: linear in the denoising steps for every method but EasyTune, flat for EasyTune."""
    selected = find(records, cases.steps(), MemoryRecord)
    rows = selected.rows
    lines, entries = {}, []
    for family in dict.fromkeys(map(_family, rows)):
        mine = [row for row in rows if _family(row) == family]
        points = [(row.case.steps, peak(row)) for row in mine]
        lines[family] = flat(points) if family == EASYTUNE else line(points)
        entries.append(_growth_entry(mine, lines[family], family == EASYTUNE))
    level = lines.pop(EASYTUNE)
    good = [grows.straight and grows.slope > 0 for grows in lines.values()]
    worst = max(lines.values(), key=lambda grows: grows.strays / grows.peak)
    slopes = ", ".join(f"{_SWEPT.get(name, name)} {float(grows.slope) / GIB:.3f}" for name, grows in lines.items())
    finding = (
        f"GiB a denoising step: {slopes}, {'linear' if all(good) else 'not all linear:'} {worst.how()}; EasyTune is "
        f"{'flat' if level.straight else 'not flat:'} {level.how()}. {_held_sentence(selected.like)}"
    )
    return Verdict("C5", outcome_of([*good, level.straight]), finding, pd.DataFrame(entries), selected.provenance)


def _family(record: MemoryRecord) -> str:
    return record.case.method.partition(":")[0]


def _growth_entry(rows: Sequence[MemoryRecord], fitted: Line, level: bool) -> dict:
    calls = [(held(row), peak(row)) for row in rows]
    by_steps = {row.case.steps: peak(row) / GIB for row in rows}
    return {
        "method": _family(rows[0]),
        **{f"T = {total}": by_steps[total] for total in sorted(by_steps)},
        "GiB a step": float(fitted.slope) / GIB,
        "GiB a held call": float("nan") if level else float(line(calls).slope) / GIB,
        "strays, bytes": int(fitted.strays),
        "shape": ("flat" if level else "linear") if fitted.straight else "neither",
    }


def _held_sentence(like: Sequence[MemoryRecord]) -> str:
    """Rows that hold equally many calls at different T: their peaks say whether it is T that counts."""
    groups: dict[int, dict[int, int]] = {}
    for row in like:
        if _family(row) in (DRAFT, "alignprop", DRTUNE) and _published_scale_but_steps(row):
            groups.setdefault(held(row), {})[row.case.steps] = peak(row)
    groups = {calls: peaks for calls, peaks in groups.items() if len(peaks) > 1}
    if not groups:
        return "No two of these rows hold equally many calls at different T."
    apart = max(max(peaks.values()) / min(peaks.values()) - 1 for peaks in groups.values())
    if apart > LINE_TOLERANCE:
        return f"Rows that hold equally many calls at different T differ by up to {apart:.2%}."
    calls, peaks = max(groups.items(), key=lambda item: len(item[1]))
    return (
        f"It is the calls held at once that count, not T: rows that hold {calls} at T = "
        f"{', '.join(map(str, sorted(peaks)))} have the same peak (within {apart:.3%})."
    )


def _published_scale_but_steps(record: MemoryRecord) -> bool:
    case = record.case
    return case.id == replace(Case(), method=case.method, steps=case.steps, meter=case.meter).id


def judge_trained_steps(records: Sequence[Record]) -> Verdict:
    """C12: DRTune's memory against the steps it trains, at a fixed number of denoising steps."""
    selected = find(records, cases.trained(), MemoryRecord)
    steps = {row.case.steps for row in selected.rows}
    peers = [r for r in selected.like if r.case.steps in steps and _published_scale_but_steps(r)]
    drtune = sorted((held(r), peak(r)) for r in peers if _is_drtune_k(r))
    grows = line(drtune)
    draft = [(held(r), peak(r)) for r in peers if _family(r) == DRAFT]
    numbers = pd.DataFrame(
        {"method": r.case.method, "held calls": held(r), "peak, GiB": peak(r) / GIB}
        for r in sorted(peers, key=lambda r: (_family(r), held(r)))
        if _family(r) == DRAFT or _is_drtune_k(r)
    )
    compared = ""
    if len({calls for calls, _ in draft}) > 1:
        theirs = line(draft).slope
        saved = "nothing" if grows.slope >= theirs else f"{float(1 - grows.slope / theirs):.1%}"
        compared = (
            f" DRaFT's grows by {float(theirs) / GIB:.4f} GiB a held call: stopping the gradient at the denoiser's "
            f"input saves {saved} a step."
        )
    shape = f"{'a line' if grows.straight else 'no line:'} {grows.how()}"
    finding = (
        f"DRTune's peak grows by {float(grows.slope) / GIB:.4f} GiB a trained step ({shape} over {len(drtune)} values "
        f"of K at T = {max(steps)}).{compared}"
    )
    always = all(more > less for (_, less), (_, more) in pairwise(drtune))
    return Verdict("C12", outcome_of([always]), finding, numbers, selected.provenance)


def _is_drtune_k(record: MemoryRecord) -> bool:
    """DRTune with nothing chosen but K."""
    method = record.case.method
    return method == DRTUNE or (method.startswith("drtune:k=") and "," not in method)
