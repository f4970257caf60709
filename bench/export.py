"""`python -m bench.export FILE... --format NAME --out FILE`: Writes peaks and step times in a format of a benchmark
tracker.

github: for benchmark-action/github-action-benchmark, tool customSmallerIsBetter; GiB and seconds.
bencher: Bencher Metric Format, for bencher run --adapter json; bytes and, as Bencher's latency, nanoseconds.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import records
from bench.claims.compare import provenance
from bench.command import carry_out
from bench.meters import Reading
from bench.records import Record, measured
from bench.records.types import Timing
from bench.units import GIB
from methods.files import write_atomically

STEP_TIME = "step time"


@dataclass(frozen=True)
class Figure:
    """One that a tracker follows, and that is better when it is smaller."""

    record: Record
    name: str
    """`peak memory`, or STEP_TIME."""
    value: float
    """Bytes, or seconds of an update."""
    bounds: tuple[float, float] | None = None
    """Least and most seconds; None of memory, which is read once."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code: 0, or as bench.command.carry_out."""
    options = _parser().parse_args(arguments)
    return carry_out("bench.export", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    loaded = records.merge(map(records.load, options.files))
    figures = [figure for record in loaded for figure in _figures(record)]
    if not figures:
        raise records.RecordError("no memory and no step time was measured in these files: run pytest bench/")
    _check_unique(figures)
    write_atomically(options.out, json.dumps(FORMATS[options.format](figures), indent=1) + "\n")
    print(f"wrote {options.out}: {len(figures)} figures of {len(loaded)} rows")
    return 0


def _parser() -> argparse.ArgumentParser:
    about, _, formats = __doc__.partition(": ")[2].partition("\n\n")
    parser = argparse.ArgumentParser(
        "python -m bench.export",
        description=about,
        epilog=formats,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="result of pytest bench/; several are merged",
    )
    parser.add_argument("--format", required=True, choices=FORMATS, help="of the tracker, see below")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="where to write")
    return parser


def _figures(record: Record) -> Iterator[Figure]:
    """None of a row that was not measured, nor of alignment and studies."""
    match measured(record):
        case Reading() as reading:
            sizes = {"peak": reading.peak, "allocated": reading.allocated, "reserved": reading.reserved}
            yield from (Figure(record, f"{name} memory", size) for name, size in sizes.items() if size is not None)
        case Timing(per_update=times):
            yield Figure(record, STEP_TIME, times.median, (times.min, times.max))


def _check_unique(figures: Sequence[Figure]) -> None:
    """Trackers know a figure by its name: RecordError for a case of two devices or torch versions."""
    seen: dict[tuple[str, str], Record] = {}
    for figure in figures:
        record = figure.record
        other = seen.setdefault((record.case.id, figure.name), record)
        if other is not record:
            both = " and ".join(f"{provenance(r)} ({r.environment.device})" for r in (other, record))
            raise records.RecordError(f"{record.case.id} was measured twice, {both}: export them apart")


def github(figures: Sequence[Figure]) -> list[dict[str, object]]:
    """github-action-benchmark's "Generic JSON format" (its README): name, unit and value; range and extra are text."""
    return [_point(figure) for figure in figures]


def _point(figure: Figure) -> dict[str, object]:
    record = figure.record
    point: dict[str, object] = {
        "name": f"{record.case.id}: {figure.name}",
        "unit": "GiB",
        "value": figure.value / GIB,
        "extra": f"{provenance(record)}\ncommit {record.environment.commit}",
    }
    if figure.bounds:
        least, most = figure.bounds
        point |= {"unit": "s", "value": figure.value, "range": f"{least:.4g} to {most:.4g}"}
    return point


def bencher(figures: Sequence[Figure]) -> dict[str, dict[str, dict[str, float]]]:
    """Bencher Metric Format (https://bencher.dev/docs/reference/bencher-metric-format): benchmark, measure, metric."""
    benchmarks: dict[str, dict[str, dict[str, float]]] = {}
    for figure in figures:
        measure, metric = figure.name.replace(" ", "-"), {"value": figure.value}
        if figure.bounds:  # the measure that every project has, in nanoseconds
            seconds = (figure.value, *figure.bounds)
            measure = "latency"
            metric = {name: 1e9 * s for name, s in zip(("value", "lower_value", "upper_value"), seconds, strict=True)}
        benchmarks.setdefault(figure.record.case.id, {})[measure] = metric
    return benchmarks


FORMATS = {"github": github, "bencher": bencher}


if __name__ == "__main__":
    sys.exit(main())
