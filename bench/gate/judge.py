"""The memory gate: the rows of a run against the rows of another, one finding a case.

A case fails when a figure grew, and also when it shrank beyond its margin, so that the baseline is renewed and the next
growth is seen; when it is in only one of the two; and when the two cannot be compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from bench.claims.compare import difference
from bench.gate.baseline import Row
from bench.gate.growth import changes, listed, size_change


class Outcome(StrEnum):
    """The gate's verdict on a case, the worst first."""

    GREW = "grew"
    SHRANK = "shrank"
    UNLIKE = "unlike"
    MISSING = "missing"
    NEW = "new"
    SAME = "same"


EXIT_STATUS = {Outcome.GREW: 11, Outcome.SHRANK: 12, Outcome.UNLIKE: 13, Outcome.MISSING: 14, Outcome.NEW: 15}
"""Of a run in which nothing but the gate failed; with several findings, that of the worst."""
NOTHING_MEASURED = 16

HEADINGS = {
    Outcome.GREW: "memory grew",
    Outcome.SHRANK: "memory shrank: renew the baseline with --memory-baseline-update, so that the next growth is seen",
    Outcome.UNLIKE: "refused: not measured as the baseline was",
    Outcome.MISSING: "missing: in the baseline, not measured",
    Outcome.NEW: "new: measured, not in the baseline (add it with --memory-baseline-update)",
    Outcome.SAME: "within their margins",
}


@dataclass(frozen=True)
class Finding:
    """What the gate says of one case."""

    outcome: Outcome
    id: str
    lines: tuple[str, ...]
    """The message: first what happened, then who holds the difference."""
    old: Row | None
    """The baseline's row, where one could be compared (or is all there is)."""
    new: Row | None

    def __str__(self) -> str:
        return "\n    ".join(self.lines)


def judge(row: Row, baseline: Sequence[Row]) -> Finding:
    """A measured row against the rows of a baseline."""
    name = row.case.id
    candidates = [old for old in baseline if old.case.id == name]
    if not candidates:
        return Finding(Outcome.NEW, name, (f"{name}: not in the baseline",), None, row)
    unlike = ""
    for old in candidates:
        what = difference(old, row)
        if what is None:
            return compare(old, row)
        unlike = unlike or what
    line = f"{name}: cannot be compared with the baseline, they differ in {unlike} (baseline's first)"
    return Finding(Outcome.UNLIKE, name, (line,), candidates[0], row)


def judge_all(
    rows: Sequence[Row], baseline: Sequence[Row], reasons: Mapping[str, str] = MappingProxyType({})
) -> list[Finding]:
    """Every measured row, then the baseline's cases that were not measured. `reasons`: why they were not, by id."""
    measured = {row.case.id for row in rows}
    lost = {old.case.id: old for old in baseline if old.case.id not in measured}
    findings = [judge(row, baseline) for row in rows]
    for name, old in lost.items():
        reason = f" ({reasons[name]})" if name in reasons else ""
        line = f"{name}: in the baseline, but not measured{reason}"
        findings.append(Finding(Outcome.MISSING, name, (line,), old, None))
    return findings


def compare(old: Row, new: Row) -> Finding:
    """Two like rows of a case: every figure within the old row's margin, or what changed and who holds it."""
    name = new.case.id
    before, after = old.figures, new.figures
    beyond = [figure for figure in before if not abs(after[figure] - before[figure]) <= old.margin * before[figure]]
    if not beyond:
        return Finding(Outcome.SAME, name, (f"{name}: {size_change(before['peak'], after['peak'])}",), old, new)
    grown = [figure for figure in beyond if after[figure] > before[figure]]
    # The peak speaks for the case unless it stayed while something below it changed.
    figure = "peak" if "peak" in beyond and ("peak" in grown or not grown) else (grown or beyond)[0]
    grew = bool(grown)
    what = size_change(before[figure], after[figure])
    first = f"{name}: {what}" if figure == "peak" else f"{name}: {figure} {what}, below the peak"
    moved = changes(old.owners, new.owners) if figure == "peak" else []
    lines = (first, *listed(moved, grew))
    return Finding(Outcome.GREW if grew else Outcome.SHRANK, name, lines, old, new)


def exit_status(findings: Sequence[Finding]) -> int:
    """0 if every finding is SAME."""
    return next((EXIT_STATUS[o] for o in EXIT_STATUS if any(f.outcome is o for f in findings)), 0)


def report(findings: Sequence[Finding]) -> list[str]:
    """The findings by outcome, under a heading each; the cases that are the same only counted."""
    lines = []
    for outcome in Outcome:
        those = [f for f in findings if f.outcome is outcome]
        if those:
            lines.append(f"{len(those)} {HEADINGS[outcome]}")
            lines += [f"  {f}" for f in those if outcome is not Outcome.SAME]
    return lines
