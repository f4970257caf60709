"""`python -m bench.report [FILE...] [--out DIR]`: Makes a report of result files: verdicts on published claims, tables,
figures and one HTML page."""

import argparse
import json
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from bench import records
from bench.claims import CLAIMS, Verdict
from bench.command import carry_out
from bench.report import output, page, sections

REPORTS = Path("reports")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code: 0, or as bench.command.carry_out."""
    options = _parser().parse_args(arguments)
    return carry_out("bench.report", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    files = options.files or [newest(REPORTS)]
    loaded = records.merge(records.load(file) for file in files)
    folder = options.out or files[0].parent / "report"
    output.check(folder)
    report = sections.build(loaded)
    rendered = page.render(report)
    output.write(folder, rendered)
    print(_closing(folder, files, rendered, report.verdicts))
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
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for index.html (all in one page), summary.md, figures/ and tables/, where an earlier report is "
        "replaced (default: report/ beside the first FILE)",
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


def _closing(folder: Path, files: Sequence[Path], rendered: dict[str, bytes], verdicts: Sequence[Verdict]) -> str:
    """What was written, and the verdicts."""
    count = {suffix: sum(name.endswith(suffix) for name in rendered) for suffix in (".png", ".csv")}
    lines = [
        f"from {', '.join(map(str, files))}",
        f"wrote {folder / 'index.html'}, {folder / 'summary.md'}, {count['.png']} figures (PNG, SVG) and "
        f"{count['.csv']} tables (markdown, CSV)",
        "",
    ]
    for claim, verdict in zip(CLAIMS, verdicts, strict=True):
        lines.append(f"{claim.id:<5}{verdict.outcome.upper():<15}{claim.text}")
        lines.append(textwrap.indent(textwrap.fill(verdict.finding, 100), " " * 20))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
