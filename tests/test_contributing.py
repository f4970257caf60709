"""CONTRIBUTING.md names files that exist, and every room of the house."""

import re

from bench_command import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def test_every_file_that_it_names_is_there():
    named = {path for path in re.findall(r"`([\w./-]+/[\w./-]*)`", TEXT) if "NAME" not in path}
    assert len(named) > 40
    assert not [path for path in named if not (ROOT / path).exists()]


def test_every_room_is_in_the_house():
    rooms = {f"bench/{path.parent.name}/" for path in (ROOT / "bench").glob("*/__init__.py")}
    assert rooms <= set(re.findall(r"^\| `(bench/\w+/)` \|", TEXT, re.MULTILINE))
