"""Kept files are whole or not there; a full disk is a sentence; one run at a time where something is kept."""

import contextlib
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from methods import checkpoint
from methods.errors import InputError
from methods.files import check_writable, locked, write_atomically


@contextlib.contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file gets larger than `size` bytes: the system refuses the write, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


WRITERS = {
    "text": lambda path: write_atomically(path, "x" * 100_000),
    "torch": lambda path: checkpoint.save_torch({"a": torch.zeros(50_000)}, path),
    "safetensors": lambda path: checkpoint.save_tensors({"a": torch.zeros(50_000)}, path),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_full_disk_is_a_sentence_and_leaves_the_old_file_alone(write, tmp_path):
    path = tmp_path / "kept"
    path.write_text("old")
    with full_disk(20_000), pytest.raises(InputError, match=r"^cannot write [^\n]*kept: [^\n]*$"):
        write(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    write(path)
    assert path.stat().st_size > 50_000
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_refused_ahead(tmp_path):
    (tmp_path / "file").write_text("")
    for path, said in (
        (tmp_path, "it is a folder"),
        (tmp_path / "file" / "inside", "choose another path"),
        (Path(os.devnull), "no regular file"),
    ):
        with pytest.raises(InputError, match=said):
            check_writable(path)
    check_writable(tmp_path / "file")
    check_writable(tmp_path / "new" / "file")


@pytest.mark.parametrize("name", ["folder", "file.json"])
def test_one_process_at_a_time_and_nothing_is_left(name, tmp_path):
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    code = f"from methods.files import locked\nwith locked({str(path)!r}): print('in', flush=True); input()"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "in\n"
        with pytest.raises(InputError, match="another run is writing to"), locked(path):
            pass
        other.kill()
    with locked(path), pytest.raises(InputError, match="another run"), locked(path):  # a killed run holds nothing
        pass
    with locked(path):
        pass
    assert not list(tmp_path.rglob("*lock*"))


def test_what_a_killed_run_left_half_written_goes(tmp_path):
    (tmp_path / ".checkpoint.pt-abc.part").write_text("half")
    (tmp_path / ".hidden").write_text("someone's")
    with locked(tmp_path / "other.json"):
        assert (tmp_path / ".checkpoint.pt-abc.part").exists()
    with locked(tmp_path):
        assert not (tmp_path / ".checkpoint.pt-abc.part").exists()
    assert [path.name for path in tmp_path.iterdir()] == [".hidden"]
