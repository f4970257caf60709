"""`python -m bench.report [FILE...] [--out DIR]`: Makes a report of result files: verdicts on published claims, tables,
figures and one HTML page; with --history, of how peaks and step times changed over their commits."""

import argparse
import json
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from bench import records
from bench.claims import CLAIMS
from bench.command import carry_out
from bench.records.contradictions import shortened
from bench.records.shards import lacking
from bench.report import history, output, page, sections

REPORTS = Path("reports")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code: 0, or as bench.command.carry_out."""
    options = _parser().parse_args(arguments)
    return carry_out("bench.report", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    files = options.files or [newest(REPORTS)]
    results = [records.read(file) for file in files]
    if options.history:
        return _history(files, results, options.out)
    loaded = records.merge(result.records for result in results)
    folder = options.out or files[0].parent / "report"
    output.check(folder)
    shards = [result.shard for result in results if result.shard]
    report = sections.build(loaded, lacking(shards, loaded))
    rendered = page.render(report)
    output.write(folder, rendered)
    print(_closing(folder, files, rendered, report))
    return 0


def _history(files: Sequence[Path], results: Sequence[records.Result], out: Path | None) -> int:
    folder = out or files[0].parent / "history"
    made = history.build(results)
    output.check(folder)
    output.write(folder, history.render(made))
    print(f"wrote {folder / 'index.html'}", *(section.see for section in made), sep="\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m bench.report", description=__doc__.partition(": ")[2])
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="result of pytest bench/ --benchmark-json=FILE, or FILE.partial of an interrupted run; several are merged "
        "(of a case in several, the last FILE counts) (default: the newest result under reports/)",
    )
    parser.add_argument(
        "--history",
        action="store_true",
        help="show how the peak and the step time of each case changed over the commits that the FILEs are of",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for index.html (all in one page), summary.md, figures/ and tables/, where an earlier report is "
        "replaced (default: report/ beside the first FILE, or history/)",
    )
    return parser


def newest(folder: Path) -> Path:
    """The result under `folder` that says it was written last; RecordError if there is none."""
    dated = [(_date(path), path) for path in sorted(folder.rglob("*.json"))]
    results = [(date, path) for date, path in dated if date]
    if not results:
        raise records.RecordError(
            f"no result under {folder}/: name a FILE, or make one with pytest bench/ --benchmark-json=run.json"
        )
    return max(results)[1]


def _date(path: Path) -> str:
    """When a pytest-benchmark result was written (UTC, so that dates compare as text); empty for any other file."""
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return ""
    usable = isinstance(document, dict) and isinstance(document.get("benchmarks"), list)
    return str(document.get("datetime", "")) if usable else ""


def _closing(folder: Path, files: Sequence[Path], rendered: dict[str, bytes], report: sections.Report) -> str:
    """What was written, what lacks, and the verdicts."""
    count = {suffix: sum(name.endswith(suffix) for name in rendered) for suffix in (".png", ".csv")}
    lines = [
        f"from {', '.join(map(str, files))}",
        f"wrote {folder / 'index.html'}, {folder / 'summary.md'}, {count['.png']} figures (PNG, SVG) and "
        f"{count['.csv']} tables (markdown, CSV)",
    ]
    for what, rows in report.lacking.items():
        lines += ["", f"{what}; rows that lack:", *(f"  {shortened(f'{row.kind}, {row.id}')}" for row in rows)]
    lines.append("")
    for claim, verdict in zip(CLAIMS, report.verdicts, strict=True):
        lines.append(f"{claim.id:<5}{verdict.words.upper():<19}{claim.text}")
        lines.append(textwrap.indent(textwrap.fill(verdict.finding, 100), " " * 24))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
