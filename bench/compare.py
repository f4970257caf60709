"""`python -m bench.compare OLD NEW`: Prints what changed between two files of memory rows, as markdown for a pull
request.

A file is a result (JSON of pytest bench/ --benchmark-json, or its .partial journal) or a baseline of the memory gate.
The exit status is diff's: 0 nothing changed, 1 something did, 2 the files cannot be compared.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bench import records, tables
from bench.command import carry_out
from bench.gate import baseline
from bench.gate.baseline import Row
from bench.gate.growth import size_change
from bench.gate.judge import HEADINGS, Finding, Outcome, judge_all
from bench.meters import METERS
from bench.records.load import read_json
from bench.units import GIB
from methods import parse, spec

REFERENCE = "easytune"
SCALE = ("backbone", "reward", "steps", "batch", "frames", "profile", "meter", "seed")
"""What a row shares with the row of the reference method beside it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; prints markdown, returns the exit status."""
    options = _parser().parse_args(arguments)
    return carry_out("bench.compare", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    old, new = read(options.old), read(options.new)
    reference = spec(parse(options.relative_to))
    findings = judge_all(new, old)
    unlike = [f for f in findings if f.outcome is Outcome.UNLIKE]
    if unlike:
        others = f" (and {len(unlike) - 1} more rows)" if len(unlike) > 1 else ""
        sentence = unlike[0].lines[0].replace("the baseline", str(options.old)).replace("baseline's", "old")
        raise records.RecordError(f"{sentence}{others}; measure both alike")
    print(markdown(findings, old, new, reference, (str(options.old), str(options.new))))
    return 0 if all(f.outcome is Outcome.SAME for f in findings) else 1


def _parser() -> argparse.ArgumentParser:
    about, _, files = __doc__.partition(": ")[2].partition("\n\n")
    parser = argparse.ArgumentParser("python -m bench.compare", description=about, epilog=files)
    for name, when in (("old", "before"), ("new", "after")):
        parser.add_argument(name, type=Path, metavar=name.upper(), help=f"result or baseline from {when} the change")
    parser.add_argument(
        "--relative-to",
        default=REFERENCE,
        metavar="METHOD",
        help="method whose overhead, its peak beyond resident memory, those of the others are divided by "
        "(default: %(default)s)",
    )
    return parser


def read(path: Path) -> list[Row]:
    """The good memory rows of a result or a baseline; RecordError where there are none."""
    if _is_baseline(path):
        return baseline.load(path)
    measured = [r for r in records.load(path) if isinstance(r, records.MemoryRecord) and r.ok]
    if not measured:
        raise records.RecordError(f"{path} holds no memory row that was measured: run pytest bench/ -m memory")
    return [baseline.cut_down(record) for record in measured]


def _is_baseline(path: Path) -> bool:
    try:
        return baseline.is_baseline(read_json(path, "", ""))
    except records.RecordError:
        return False  # whatever is wrong with it, records.load says


def markdown(
    findings: Sequence[Finding], old: Sequence[Row], new: Sequence[Row], reference: str, names: tuple[str, str]
) -> str:
    """The findings: a count, a table of what changed with who holds it, and the unchanged rows folded away."""
    counts = {outcome: sum(f.outcome is outcome for f in findings) for outcome in Outcome}
    summary = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    parts = [f"### Memory: {summary}", f"`{names[0]}` → `{names[1]}`{_simulated(new)}"]
    changed = [f for f in findings if f.outcome is not Outcome.SAME]
    if changed:
        parts.append(_table(changed, old, new, reference))
    for f in changed:
        if f.outcome in (Outcome.GREW, Outcome.SHRANK):
            parts.append(f"**{f.lines[0]}**\n" + "\n".join(f"- {line}" for line in f.lines[1:]))
    same = [f for f in findings if f.outcome is Outcome.SAME]
    if same:
        parts.append(f"<details><summary>{len(same)} {HEADINGS[Outcome.SAME]}</summary>")
        parts += [_table(same, old, new, reference), "</details>"]
    return "\n\n".join(parts)


def _simulated(rows: Sequence[Row]) -> str:
    return " (simulated: no device was used)" if all(METERS[row.case.meter].simulated for row in rows) else ""


def _table(findings: Sequence[Finding], old: Sequence[Row], new: Sequence[Row], reference: str) -> str:
    rows = []
    for f in findings:
        before, after = (None if row is None else row.peak for row in (f.old, f.new))
        rows.append(
            {
                "case": f.id,
                "": str(f.outcome),
                "old, GiB": None if before is None else before / GIB,
                "new, GiB": None if after is None else after / GIB,
                "peak": _change(before, after),
                f"overhead / {reference}'s, old": _ratio(f.old, old, reference),
                "new": _ratio(f.new, new, reference),
            }
        )
    return tables.markdown(pd.DataFrame(rows)).rstrip()


def _change(before: int | None, after: int | None) -> str | None:
    return None if before is None or after is None else size_change(before, after).partition("(")[2].rstrip(")")


def _ratio(row: Row | None, rows: Sequence[Row], reference: str) -> float | None:
    """A row's overhead (peak less resident) in that of the reference method at the same scale and settings."""
    if row is None:
        return None
    scale = {**{name: getattr(row.case, name) for name in SCALE}, "method": reference}
    for other in rows:
        if all(getattr(other.case, name) == value for name, value in scale.items()):
            return _overhead(row) / _overhead(other) if _overhead(other) else None
    return None


def _overhead(row: Row) -> int:
    return row.peak - row.resident


if __name__ == "__main__":
    sys.exit(main())
