"""`python -m bench.export`: what github-action-benchmark and Bencher take, by their own documentation."""

import json
import re
from pathlib import Path
from typing import Annotated

import msgspec
import pytest
from msgspec import Meta, Struct
from test_claims import read, row, timed
from test_report import save

from bench import export
from bench.cases import Case
from bench.units import GIB


class Point(Struct, forbid_unknown_fields=True):
    """README of benchmark-action/github-action-benchmark, "Generic JSON format": an entry needs name, unit and value;
    range (the results' variance) and extra (context) are optional, and text."""

    name: str
    unit: str
    value: float
    range: str | None = None
    extra: str | None = None


class Metric(Struct, forbid_unknown_fields=True):
    """bencher.dev/docs/reference/bencher-metric-format, JSON Schema: three numbers, of which value is required."""

    value: float
    lower_value: float | None = None
    upper_value: float | None = None


Name = Annotated[str, Meta(min_length=1, max_length=1024)]
Slug = Annotated[str, Meta(min_length=1, max_length=64, pattern="^[a-z0-9]+(-[a-z0-9]+)*$")]
"""Of a measure: names and slugs have at most 64 characters."""
BMF = dict[Name, dict[Slug, Metric]]


@pytest.fixture
def exported(tmp_path):
    """records, format -> the text that the command writes."""

    def text(records, form: str) -> str:
        path, out = save(tmp_path / "run.json", records), tmp_path / "out.json"
        assert export.main([str(path), "--format", form, "--out", str(out)]) == 0
        return out.read_text()

    return text


def sample():
    """A CUDA allocator's figures, a row without them, a step time, and one that failed."""
    draft = read(row(Case("draft"), peak=30 * GIB + 2**19), allocated=31 * GIB, reserved=32 * GIB)
    return [draft, row(Case("refl")), timed("draft", [2.0, 1.5, 2.25]), row(Case("easytune"), status="oom")]


def test_github_takes_every_figure_under_a_name_of_its_own(exported):
    points = msgspec.json.decode(exported(sample(), "github"), type=list[Point])
    by_name = {point.name: point for point in points}
    draft, time = Case("draft").id, Case("draft", batch=2, meter="host").id
    assert list(by_name) == [
        *(f"{draft}: {name} memory" for name in ("peak", "allocated", "reserved")),
        f"{Case('refl').id}: peak memory",
        f"{time}: step time",
    ]
    peak, step = by_name[f"{draft}: peak memory"], by_name[f"{time}: step time"]
    assert (peak.unit, peak.value * GIB, peak.range) == ("GiB", 30 * GIB + 2**19, None)
    assert peak.extra == "simulated, torch 2.13.0\ncommit abc"
    assert (step.unit, step.value, step.range) == ("s", 2.0, "1.5 to 2.25")


def test_bencher_takes_bytes_and_nanoseconds_with_their_bounds(exported):
    """Latency, which every project has, is in nanoseconds there."""
    text = exported(sample(), "bencher")
    benchmarks = msgspec.json.decode(text, type=BMF)
    assert "null" not in text  # a bound that is not known is left out
    draft = benchmarks[Case("draft").id]
    assert {name: metric.value for name, metric in draft.items()} == {
        "peak-memory": 30 * GIB + 2**19,
        "allocated-memory": 31 * GIB,
        "reserved-memory": 32 * GIB,
    }
    latency = benchmarks[Case("draft", batch=2, meter="host").id]["latency"]
    assert (latency.lower_value, latency.value, latency.upper_value) == (1.5e9, 2e9, 2.25e9)
    assert Case("easytune").id not in benchmarks


def test_memory_and_time_of_one_id_are_two_measures_of_one_benchmark(exported):
    records = [row(Case("draft", batch=2, meter="host")), timed("draft", [2.0])]
    (measures,) = msgspec.json.decode(exported(records, "bencher"), type=BMF).values()
    assert set(measures) == {"peak-memory", "latency"}
    assert len(json.loads(exported(records, "github"))) == 2


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([row(Case("draft"), status="oom")], "no memory and no step time was measured"),
        (
            [row(Case("draft")), row(Case("draft"), torch="2.12.0")],
            "was measured twice, simulated, torch 2.13.0 (a CPU, 2 cores) and simulated, torch 2.12.0 (a CPU, 2 cores)",
        ),
    ],
)
def test_what_a_tracker_cannot_take_is_refused_in_a_sentence(records, words, tmp_path, capsys):
    path, out = save(tmp_path / "run.json", records), tmp_path / "out.json"
    assert export.main([str(path), "--format", "github", "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert not out.exists()


def test_the_readmes_commands_name_formats_that_there_are():
    readme = (Path(__file__).parents[1] / "bench" / "README.md").read_text()
    assert set(re.findall(r"python -m bench\.export .*--format (\w+)", readme)) == set(export.FORMATS)
