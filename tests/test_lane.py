"""The lane: nothing finished is lost, nothing of other code or inputs is reused, no worker outlives its run."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch
from bench_command import heed_interrupts

from bench import identity
from bench.cases import Case
from bench.lane import Kept, Lane, WorkerDiedError, Workers
from bench.memory import MemoryJob
from bench.meters import METERS
from methods.errors import InputError
from tests.lane_jobs import Small

ROOT = Path(__file__).parent.parent


@contextlib.contextmanager
def lane(path: Path | None = None, say=lambda line: None):
    kept = Kept(path)
    made = Lane(kept, say)
    try:
        yield made
    finally:
        made.close()
        kept.close()


def ran(log: Path) -> list[str]:
    return log.read_text().split("\n")[:-1] if log.exists() else []


def test_results_come_back_and_progress_is_told():
    lines: list[str] = []
    with lane(say=lines.append) as made:
        futures = made.submit_all([Small("a", value=2), Small("b", value=3)])
        assert [made.wait(future)["value"] for future in futures] == [4, 9]
        assert made.submit(Small("a", value=2)) is futures[0], "the same job is done once"
    assert lines[-1].startswith("2 of 2")


def test_what_work_raises_is_raised_and_a_worker_survives_it():
    with lane() as made:
        bad, leaver, good = made.submit_all([Small("bad", "raise"), Small("leaver", "leave"), Small("good")])
        with pytest.raises(ValueError, match="bad cannot be done"):
            made.wait(bad)
        with pytest.raises(RuntimeError, match="SystemExit: 7"):  # ends neither the worker nor the run
            made.wait(leaver)
        assert made.wait(good)["value"] == 9


def test_a_death_ends_one_job_and_names_its_phase():
    with lane() as made:
        futures = made.submit_all([Small("dies", "die"), *(Small(f"good {n}", value=n) for n in range(4))])
        with pytest.raises(WorkerDiedError) as caught:
            made.wait(futures[0])
        assert (caught.value.exit_code, caught.value.phase, caught.value.killed) == (-signal.SIGSEGV, "working", False)
        assert [made.wait(future)["value"] for future in futures[1:]] == [0, 1, 4, 9]


def test_a_job_killed_beside_others_is_tried_again_alone(tmp_path):
    log = tmp_path / "log"
    with lane() as made:
        futures = made.submit_all([Small("victim", "die once", log=str(log)), Small("other")])
        assert [made.wait(future)["value"] for future in futures] == [9, 9]
    assert ran(log) == ["victim", "victim"]


def test_jobs_for_a_gpu_run_on_all_of_them_and_see_one_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,3")
    with lane() as made:
        futures = made.submit_all([Small(str(number), "look", card=True) for number in range(4)])
        done = sorted((made.wait(future) for future in futures), key=lambda one: one["started"])
    assert len({one["pid"] for one in done}) == 4  # fresh processes
    assert {one["card"] for one in done} == {5, 3}
    for card in (5, 3):
        there = [one for one in done if one["card"] == card]
        assert all(one["ended"] < other["started"] for one, other in itertools.pairwise(there))
    assert done[1]["started"] < done[0]["ended"]  # beside each other


def test_memory_on_a_gpu_is_measured_on_one_card_and_other_memory_on_none():
    cards = {meter: MemoryJob(Case(meter=meter)).card for meter in METERS}
    assert cards == {"simulated": False, "host": False, "cuda": True}


def test_jobs_that_need_the_machine_run_after_the_others_and_one_by_one():
    with lane() as made:
        jobs = [Small("alone 1", alone=True), Small("alone 2", alone=True), Small("beside", value=1)]
        alone, again, beside = (made.wait(future) for future in made.submit_all(jobs))
    assert beside["started"] < min(alone["started"], again["started"])
    assert alone["pid"] != again["pid"], "each in a fresh process"


def test_a_finished_result_is_kept_and_taken_over(tmp_path):
    path, log = tmp_path / "run.json.partial", tmp_path / "log"
    jobs = [Small("a", value=2, log=str(log)), Small("b", value=3, log=str(log))]
    with lane(path) as made:
        first = [made.wait(future) for future in made.submit_all(jobs)]
    with lane(path) as made:
        assert [made.wait(future) for future in made.submit_all(jobs)] == first
    assert sorted(ran(log)) == ["a", "b"]
    with contextlib.closing(Kept(path, resume=False)):
        assert not path.exists(), "without --resume nothing is taken over"


@pytest.mark.parametrize("change", ["value", "input", "code", "versions", "damage"], ids=lambda what: f"other {what}")
def test_a_result_of_anything_else_is_not_taken_over(tmp_path, change, monkeypatch):
    path, log = tmp_path / "run.json.partial", tmp_path / "log"
    with lane(path) as made:
        made.wait(made.submit(Small("a", log=str(log), inputs={"world": "1"})))
    job = Small("a", log=str(log), inputs={"world": "1"})
    with lane() as made:
        key = made.key(job)
        if change == "value":
            job = Small("a", value=4, log=str(log), inputs={"world": "1"})
        elif change == "input":
            job = Small("a", log=str(log), inputs={"world": "2"})
        elif change == "code":
            monkeypatch.setattr(identity, "code", lambda modules=(): "other")
        elif change == "versions":
            monkeypatch.setattr(identity, "versions", lambda: {"torch": "0.1"})
        else:
            line = json.loads(path.read_text())
            line["result"]["value"] = 10
            path.write_text(json.dumps(line) + "\n")
        other = made.key(job)
    assert (other == key) is (change == "damage")
    with contextlib.closing(Kept(path)) as kept:
        assert kept.get(other) is None


def test_lines_that_were_cut_hide_no_others(tmp_path):
    path = tmp_path / "run.json.partial"
    with contextlib.closing(Kept(path)) as kept:
        for name in ("a", "b", "c"):
            kept.add(name, "small", name, {"value": 1})
    first, second, third = path.read_text().splitlines()
    path.write_text(f"{first[:20]}\n{second}\n{second[:30]}{third}\n{third}")
    with contextlib.closing(Kept(path)) as kept:
        assert [kept.get(name) is not None for name in ("a", "b", "c")] == [False, True, True]
        kept.add("d", "small", "d", {"value": 2})
    with contextlib.closing(Kept(path)) as kept:
        assert [kept.get(name) is not None for name in ("b", "c", "d")] == [True, True, True]


def test_a_job_goes_on_from_its_folder(tmp_path):
    path, log = tmp_path / "run.json.partial", tmp_path / "log"
    job = Small("long", "count on", value=5, log=str(log))
    with lane(path) as made, pytest.raises(WorkerDiedError):
        made.wait(made.submit(job))
    with lane(path) as made:
        assert made.wait(made.submit(job))["value"] == 25
    steps = [line for line in ran(log) if line.startswith("step")]
    assert steps == [f"step {n}" for n in range(5)], "no step was done twice"
    assert not list((tmp_path / "run.json.partial.work").iterdir()), "the folder goes once the result is kept"


def test_two_runs_do_not_write_into_one_file(tmp_path):
    with (
        contextlib.closing(Kept(tmp_path / "run.json.partial")),
        pytest.raises(InputError, match="another run is writing to"),
    ):
        Kept(tmp_path / "run.json.partial")


def test_closing_does_not_wait_for_what_runs():
    with lane() as made:
        future = made.submit(Small("slow", "wait"))
        while not _workers():
            time.sleep(0.05)
        began = time.monotonic()
    assert time.monotonic() - began < 2
    assert future.cancelled()
    assert not _workers()


def _workers(of: int | None = None) -> list[psutil.Process]:
    """The worker processes of a process: children of the server that they fork off."""
    children = psutil.Process(of).children(recursive=True)
    own = of or os.getpid()
    return [child for child in children if child.ppid() != own and child.status() != psutil.STATUS_ZOMBIE]


def test_workers_end_with_a_parent_that_was_killed(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(
        "import sys\n"
        "from bench.lane import Lane\nfrom tests.lane_jobs import Small\n"
        "if __name__ == '__main__':\n"
        "    made = Lane()\n"
        "    made.wait(made.submit(Small('slow', 'wait', log=sys.argv[1])))\n"
    )
    log = tmp_path / "log"
    run = subprocess.Popen([sys.executable, str(script), str(log)], env={**os.environ, "PYTHONPATH": str(ROOT)})
    while not ran(log):
        time.sleep(0.1)
    assert _workers(run.pid)
    left = psutil.Process(run.pid).children(recursive=True)
    run.kill()
    run.wait()
    _, alive = psutil.wait_procs(left, timeout=5)
    assert not alive


def test_a_row_is_kept_once_though_it_holds_tuples(tmp_path):
    path = tmp_path / "run.partial"
    for _ in range(2):
        kept = Kept(path)
        kept.add_row("memory", "a case", {"quartiles": (1, 2)})
        kept.close()
    assert path.read_text().count("\n") == 1


PRESSED = """
import os, signal, threading, time
from bench.lane import Workers
from multiprocessing.forkserver import _forkserver

workers = Workers(1, 1)
future = workers.submit(int, "7")
while _forkserver._forkserver_pid is None:
    time.sleep(0.01)
time.sleep(0.3)
os.kill(_forkserver._forkserver_pid, signal.SIGINT)  # as Ctrl-C does, which goes to all processes of a terminal
print(future.result())
workers.submit(int, "8")
workers.shutdown(cancel_futures=True)
"""


def test_the_server_that_workers_fork_off_is_not_ended_by_ctrl_c():
    done = subprocess.run(
        [sys.executable, "-c", PRESSED],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=heed_interrupts,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n", "")


def test_closing_does_not_wait_for_a_worker_that_only_begins(monkeypatch):
    begun = threading.Event()

    def slow(self):
        begun.set()
        time.sleep(5)

    monkeypatch.setattr("multiprocessing.context.ForkServerProcess.start", slow)
    made = Workers(1, 1)
    made.submit(int, "7")
    assert begun.wait(5)
    began = time.monotonic()
    made.shutdown(cancel_futures=True)
    assert time.monotonic() - began < 2


def test_a_worker_that_cannot_begin_is_an_error_of_its_work(monkeypatch):
    def fails(self):
        raise OSError("no more processes")

    monkeypatch.setattr("multiprocessing.context.ForkServerProcess.start", fails)
    made = Workers(1, 1)
    with pytest.raises(OSError, match="no more processes"):
        made.submit(int, "7").result(10)
    made.shutdown()


LEFT = """
import os, time
from bench.lane import Workers
from multiprocessing.forkserver import _forkserver

Workers(1, 1).submit(int, "7")
while _forkserver._forkserver_pid is None:
    time.sleep(0.001)
print(_forkserver._forkserver_pid, flush=True)
os._exit(1)
"""


def test_the_server_that_workers_fork_off_ends_with_its_run_while_it_imports():
    done = subprocess.run([sys.executable, "-c", LEFT], cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=60)
    until = time.monotonic() + 5
    while psutil.pid_exists(int(done.stdout)) and psutil.Process(int(done.stdout)).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_result_is_the_same_whether_it_was_kept_or_not(tmp_path, monkeypatch):
    monkeypatch.setattr(Small, "result", dict[str, float])
    with lane(tmp_path / "run.partial") as made:
        fresh = made.wait(made.submit(Small("a")))
    with lane(tmp_path / "run.partial") as made:
        kept = made.wait(made.submit(Small("a")))
    assert json.dumps(fresh) == json.dumps(kept)
