"""The table of meters: one row each, light to import, and nothing about a meter listed anywhere else."""

import subprocess
import sys

import msgspec
import pytest
from bench_command import ROOT

from bench.cases import Case
from bench.meters import METERS
from bench.records.types import MeterName
from methods.errors import InputError


def test_each_meter_measures_in_the_module_of_its_name():
    for name, meter in METERS.items():
        assert name == meter.name
        assert (ROOT / "bench" / "meters" / f"{name}.py").is_file()


def test_the_facts_that_gate_claims_and_workers_go_by():
    facts = [(m.name, m.trust, m.margin, m.alone, m.simulated) for m in sorted(METERS.values(), key=lambda m: m.trust)]
    assert facts == [
        ("cuda", 1, 0.01, False, False),
        ("simulated", 2, 0.0, False, True),
        ("host", 3, 0.001, True, False),
    ]


def test_the_table_and_the_cases_load_no_meter():
    """Cases are listed and refused without them."""
    modules = [meter.module for meter in METERS.values()] + ["bench.meters.tracker"]
    script = f"import sys, bench.cases, bench.options; print([m for m in {modules} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_meter_without_a_row_is_neither_a_case_nor_a_record():
    with pytest.raises(InputError, match="unknown meter 'abacus': choose one of simulated, host, cuda"):
        Case(meter="abacus")
    for name in ("abacus", "simulated2", ""):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(name, MeterName)
    assert [msgspec.convert(name, MeterName) for name in METERS] == [*METERS]
