"""CONTRIBUTING.md names files that exist, and every package of bench/; what it says of reports/ is so; links lead where
they say."""

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


PAGES = sorted(path for path in ROOT.glob("**/README.md") if not {"node_modules", ".venv"} & set(path.parts))


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(page):
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, target


def test_of_reports_only_records_summaries_and_the_readmes_figures_are_committed():
    listed = subprocess.run(["git", "ls-files", "reports"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this tree is no git checkout")
    shown = set(re.findall(r"!\[[^\]]*\]\((reports/[^)]+)\)", (ROOT / "README.md").read_text()))
    assert shown
    others = {path for path in listed.stdout.splitlines() if not path.endswith((".json", "/summary.md"))}
    assert others == shown | {"reports/README.md"}
