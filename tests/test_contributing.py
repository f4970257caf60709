"""CONTRIBUTING.md names files that exist, and every package of bench/; what it says of reports/ is so."""

import re
import subprocess

import pytest
from bench_command import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def test_every_file_that_it_names_is_there():
    named = {path for path in re.findall(r"`([\w./-]+/[\w./-]*)`", TEXT) if "NAME" not in path}
    assert len(named) > 40
    assert not [path for path in named if not (ROOT / path).exists()]


def test_every_package_of_bench_is_described():
    packages = {f"bench/{path.parent.name}/" for path in (ROOT / "bench").glob("*/__init__.py")}
    assert packages <= set(re.findall(r"^\| `(bench/\w+/)` \|", TEXT, re.MULTILINE))


def test_of_reports_only_records_summaries_and_the_readmes_figures_are_committed():
    listed = subprocess.run(["git", "ls-files", "reports"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this tree is no git checkout")
    shown = set(re.findall(r"!\[[^\]]*\]\((reports/[^)]+)\)", (ROOT / "README.md").read_text()))
    assert shown
    others = {path for path in listed.stdout.splitlines() if not path.endswith((".json", "/summary.md"))}
    assert others == shown
