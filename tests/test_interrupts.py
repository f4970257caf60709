"""Ctrl-C and SIGTERM of the commands that train, as real processes: one sentence and its exit code, at once."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bench_command import ALWAYS, ROOT, heed_interrupts
from test_user_data import Letters, write

from bench.command import carry_out
from bench.motion.text import build_table
from bench.world import user_data
from methods.errors import InputError

SIGNALS = ((signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated"))
SECONDS = 10.0
"""Far more than it takes (0.1 s alone on a machine): tests run beside others."""


def started(module: str, *arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )


def ended(process: subprocess.Popen, number: int) -> tuple[int, str]:
    began = time.monotonic()
    process.send_signal(number)
    errors = process.communicate(timeout=60)[1]
    assert time.monotonic() - began < SECONDS
    return process.returncode, errors


def loading(process: subprocess.Popen) -> None:
    """Returns once torch is being loaded into the process."""
    maps = Path(f"/proc/{process.pid}/maps")
    while "libtorch" not in maps.read_text():
        assert process.poll() is None
        time.sleep(0.01)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the moment is read from /proc")
@pytest.mark.parametrize(
    ("module", "arguments", "signal_"),
    [
        ("bench.alignment.finetune", ["--out"], SIGNALS[0]),
        ("bench.alignment.pretrain", ["--quick", "--out", "world", "--work"], SIGNALS[1]),
        ("bench.alignment.rewards", ["--out", "reward", "--work"], SIGNALS[0]),
        ("bench.compare", ["one", "other", "--"], SIGNALS[1]),
    ],
)
def test_while_a_command_is_loading(module, arguments, signal_, tmp_path):
    number, code, said = signal_
    with started(module, *arguments, tmp_path / "folder") as process:
        loading(process)
        assert ended(process, number) == (code, f"\n{module}: {said}\n")
    assert not (tmp_path / "folder").exists()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the moment is read from /proc")
@pytest.mark.parametrize(("number", "code", "said"), SIGNALS)
def test_while_pytest_is_loading(number, code, said, tmp_path):
    result = tmp_path / "run.json"
    with started("pytest", *ALWAYS, "-m", "memory", "--matrix", "quick", f"--benchmark-json={result}") as process:
        loading(process)
        assert ended(process, number) == (code, f"\npytest: {said}\n")
    assert not result.exists()


@pytest.mark.parametrize(("number", "code", "said"), SIGNALS)
def test_while_a_world_is_made(number, code, said, tmp_path):
    folder = write(tmp_path / "motion")
    build_table(Letters(), tmp_path / "table", user_data.read("arrays", folder).texts)
    of = ["--data", f"arrays:{folder}", "--text-encoder", tmp_path / "table", "--quick", "--work", tmp_path / "work"]
    with started("bench.alignment.pretrain", *of, "--out", tmp_path / "world") as process:
        for line in process.stdout:
            if "clips; Plan" in line:  # training begins
                break
        found, errors = ended(process, number)
    assert found == code, errors
    assert f"\nbench.alignment.pretrain: {said}: the same command goes on from" in errors
    assert "Traceback" not in errors
    assert not list(tmp_path.rglob("*.part"))
    assert not (tmp_path / "world").exists()


def test_while_clips_are_made_for_a_reward(tmp_path):
    with started("bench.alignment.rewards", "--out", tmp_path / "reward", "--work", tmp_path / "work") as process:
        while not (tmp_path / "work" / ".lock").exists():
            assert process.poll() is None
            time.sleep(0.01)
        code, errors = ended(process, signal.SIGTERM)
    assert code == 143, errors
    assert errors.startswith("\nbench.alignment.rewards: terminated: the same command goes on from")
    assert len(errors.splitlines()) == 2
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize(("number", "code", "said"), SIGNALS)
@pytest.mark.parametrize(
    "other", [InputError("not a whole file"), ValueError("no shape")], ids=lambda e: type(e).__name__
)
def test_where_a_library_raises_another_error_in_its_place(number, code, said, other, capsys):
    """As torch does, interrupted while it reads a file: the file is whole."""

    def run() -> int:
        try:
            os.kill(os.getpid(), number)
            time.sleep(SECONDS)
        except KeyboardInterrupt:
            raise other from None
        return 0

    before = signal.signal(number, signal.default_int_handler)
    try:
        assert carry_out("a command", run) == code
    finally:
        signal.signal(number, before)
    assert capsys.readouterr().err == f"\na command: {said}\n"
