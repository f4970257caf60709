"""A dask cluster in place of this machine's processes: the same results to the last bit, through a worker's death."""

import os
import re
import socket
from pathlib import Path

import pytest
from bench_command import ROOT, bench
from test_lane import ran

from bench import records
from bench.lane import Lane, cluster
from bench.records.make import to_json
from methods.errors import InputError
from tests.lane_jobs import Small

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=[1])
def address(request, tmp_path_factory):
    """Of a scheduler with two workers."""
    found = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests"), found])
    folder = tmp_path_factory.mktemp("dask")
    options = {"n_workers": 2, "threads_per_worker": request.param, "dashboard_address": None}
    with distributed.LocalCluster(**options, local_directory=str(folder)) as made:
        yield made.scheduler_address
    os.environ["PYTHONPATH"] = found


def test_jobs_are_done_by_other_processes_and_errors_come_back(address):
    with cluster.connected(address) as engine:
        made = Lane(engine=engine)
        good, bad = made.submit_all([Small("good"), Small("bad", "raise")])
        done = made.wait(good)
        assert (done["value"], done["pid"] == os.getpid()) == (9, False)
        with pytest.raises(ValueError, match="bad cannot be done"):
            made.wait(bad)
        made.close()


def test_a_worker_that_is_killed_loses_nothing(address, tmp_path):
    log = tmp_path / "log"
    with cluster.connected(address) as engine:
        made = Lane(engine=engine)
        futures = made.submit_all([Small(name, what, log=str(log)) for name, what in (("a", "die once"), ("b", ""))])
        assert [made.wait(future)["value"] for future in futures] == [9, 9]
        made.close()
    assert ran(log).count("a") == 2  # it was begun again


def test_a_table_is_that_of_this_machine_to_the_last_bit(address, tmp_path):
    options = ["-m", "alignment", "--align", "tiny", "--align-seeds", "1", "--method", "refl", "-k", "test_alignment"]
    found = []
    for name, further in (("here", []), ("there", ["--workers", address])):
        done = bench(*options, *further, f"--benchmark-json={tmp_path / name}")
        assert done.returncode == 0, done.stdout
        [row] = records.load(tmp_path / name)
        found.append(_without_seconds(to_json(row.alignment)))
    assert found[0] == found[1]


def _without_seconds(value: object) -> object:
    if isinstance(value, dict):
        return {name: _without_seconds(part) for name, part in value.items() if "seconds" not in name}
    return [_without_seconds(part) for part in value] if isinstance(value, list) else value


@pytest.mark.parametrize("address", [2], indirect=True)
def test_workers_of_several_threads_are_refused(address):
    with pytest.raises(InputError, match="2 threads: start it with --nthreads 1"), cluster.connected(address):
        pass


def test_workers_of_other_code_are_refused_by_name(address, monkeypatch):
    ours = cluster._about(())
    monkeypatch.setattr(cluster.identity, "code", lambda modules: "another")
    expected = rf"tcp://\S+ has another code \({ours['code']}, here another\): update it"
    with pytest.raises(InputError, match=expected), cluster.connected(address):
        pass


def test_workers_of_another_torch_are_refused_by_name(address, monkeypatch):
    theirs = cluster.identity.versions()
    monkeypatch.setattr(cluster.identity, "versions", lambda: {**theirs, "torch": "2.5"})
    expected = rf"tcp://\S+ has another torch \({re.escape(theirs['torch'])}, here 2.5\): update it"
    with pytest.raises(InputError, match=expected), cluster.connected(address):
        pass


def test_a_scheduler_that_is_not_there_is_one_sentence(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(cluster, "SECONDS", 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(InputError, match=f"no dask scheduler answers at {nobody}"), cluster.connected(nobody):
        pass
    assert bench("--workers", "here", "-m", "memory", "--method", "refl").returncode == 4
