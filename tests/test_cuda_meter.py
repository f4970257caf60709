"""The cuda meter without a GPU: what it says then, and its arithmetic over counters that are faked."""

import contextlib
import dataclasses
import os
import sys
import types

import pytest
import torch

from bench import memory
from bench.cases import Case
from bench.meters import MeterUnavailableError, cuda, host
from bench.setup import build

CASE = Case("easytune", backbone="mld-tiny", steps=3, batch=2, frames=4, meter="cuda")

needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


@needs_no_gpu
def test_without_a_gpu_it_says_so_and_names_the_mend():
    with pytest.raises(MeterUnavailableError, match=r"found no GPU.*--meter simulated"):
        cuda.measure(CASE)
    row = memory.measure(CASE)
    assert row.status == "unavailable"
    assert "no GPU" in row.reason


class FakeAllocator:
    """torch.cuda's counters, moved by hand."""

    def __init__(self) -> None:
        self.live = self.peak = self.resets = 0

    def allocate(self, size: int) -> None:
        self.live += size
        self.peak = max(self.peak, self.live)

    def reset(self, _device: object = None) -> None:
        self.peak = self.live
        self.resets += 1

    def stats(self, _device: object = None) -> dict:
        return {
            "allocated_bytes.all.peak": self.peak,
            "requested_bytes.all.peak": self.peak - 7,
            "active_bytes.all.peak": self.peak + 5,
            "reserved_bytes.all.peak": 2 * self.peak,
        }


@pytest.fixture
def allocator(monkeypatch) -> FakeAllocator:
    fake = FakeAllocator()
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", fake.reset)
    monkeypatch.setattr(torch.cuda, "memory_stats", fake.stats)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: fake.live)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    return fake


def test_peaks_are_kept_per_phase_and_in_total(allocator):
    peaks = cuda.AllocatorPeaks()
    allocator.allocate(100)
    with peaks.observe("rollout"):
        allocator.allocate(50)
        allocator.allocate(-40)
    with peaks.observe("reward"):
        allocator.allocate(300)
        allocator.allocate(-350)
    with peaks.observe("rollout"):
        allocator.allocate(10)
    peaks.collect()
    assert peaks.phases == {"rollout": 150, "reward": 410}
    assert peaks.totals == {"peak": 410, "requested": 403, "active": 415, "reserved": 820}


def test_a_peak_between_phases_counts_in_the_total(allocator):
    peaks = cuda.AllocatorPeaks()
    allocator.allocate(900)
    allocator.allocate(-900)
    with peaks.observe("decode"):
        allocator.allocate(10)
    assert peaks.totals["peak"] == 900
    assert peaks.phases == {"decode": 10}


def test_a_reading_leaves_the_workspace_out_of_the_peak_and_reports_it(allocator, monkeypatch):
    """The whole meter, with the case run on the CPU and the counters moved by its phases."""
    workspace, resident, transient = 1000, 5000, 70_000
    monkeypatch.setattr(cuda, "warm_libraries", lambda: allocator.allocate(workspace))
    monkeypatch.setattr(cuda, "nvml_memory", lambda: (123, 456))
    real_read = cuda.read
    monkeypatch.setattr(cuda, "read", lambda case, device, enter: real_read(case, "cpu", enter=enter))

    def build_on_cpu(case, device):
        assert device == "cuda"
        run = build(case, "cpu")
        allocator.allocate(resident)
        update = run.update

        def moved(plan=None, phases=None):
            def observe(phase):
                return wrap(phases(phase)) if phases else contextlib.nullcontext()

            return update(plan, observe)

        @contextlib.contextmanager
        def wrap(context):
            with context:
                allocator.allocate(transient)
                yield
                allocator.allocate(-transient)

        run.update = moved
        return run

    monkeypatch.setattr(cuda, "build", build_on_cpu)
    reading = cuda.measure(CASE)
    assert reading.workspace == workspace
    assert reading.resident == resident
    assert reading.peak == resident + transient
    assert reading.phases == dict.fromkeys(reading.phases, resident + transient)
    assert (reading.allocated, reading.allocated_phases) == (reading.peak, reading.phases)  # the card's, not replayed
    assert reading.reserved == 2 * (workspace + resident + transient)
    assert reading.requested == workspace + resident + transient - 7
    assert (reading.process, reading.device_used) == (123, 456)
    assert reading.tracked == sum(reading.categories.values())


def fake_nvml(monkeypatch, **changes) -> None:
    class NVMLError(Exception):
        pass

    def fail(*_):
        raise NVMLError

    process = types.SimpleNamespace(pid=os.getpid(), usedGpuMemory=11)
    module = {
        "NVMLError": NVMLError,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        "nvmlDeviceGetComputeRunningProcesses": lambda handle: [types.SimpleNamespace(pid=1, usedGpuMemory=5), process],
        "nvmlDeviceGetMemoryInfo": lambda handle: types.SimpleNamespace(used=17),
        **{name: fail for name, value in changes.items() if value is None},
    }
    monkeypatch.setitem(sys.modules, "pynvml", types.SimpleNamespace(**module))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: types.SimpleNamespace(uuid="abc"))


def test_nvml_tells_this_process_from_the_device(monkeypatch):
    fake_nvml(monkeypatch)
    assert cuda.nvml_memory() == (11, 17)


def test_a_driver_that_says_nothing_costs_only_its_figures(monkeypatch):
    fake_nvml(monkeypatch, nvmlInit=None)
    assert cuda.nvml_memory() == (None, None)


def test_out_of_memory_is_a_row_with_its_reason(monkeypatch):
    def no_room(case, enter):
        enter("reward")
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(cuda, "measure", no_room)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "a GPU")
    monkeypatch.setattr(torch.cuda.memory, "_snapshot", dict)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (0, 8 * 2**30))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 7 * 2**30)
    row = memory.measure(CASE)
    assert row.status == "oom"
    assert "does not fit" in row.reason
    assert "8.00 GiB" in row.reason
    assert "in the phase reward" in row.reason


PHASES = ("building", "warm-up", "sampling", "rollout", "decode", "reward", "backward", "optimiser")


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (torch.OutOfMemoryError("no room"), "oom"),
        (MemoryError(), "oom"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"), "oom"),
        (RuntimeError("shapes do not match"), "failed"),
        (SystemExit(3), "failed"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_whatever_happens_in_whichever_phase_is_a_row_that_names_it(phase, error, status, monkeypatch):
    """Where there is no GPU too."""

    def fail(case, enter):
        enter(phase)
        raise error

    monkeypatch.setattr(host, "measure", fail)
    row = memory.measure(dataclasses.replace(CASE, meter="host"))
    assert row.status == status
    assert f"in the phase {phase}" in row.reason
    assert "\n" not in row.reason


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_simulator_is_within_two_percent():
    from bench.meters import simulated

    case = Case("drtune:k=5", steps=10, batch=32, meter="cuda")
    measured = cuda.measure(case)
    assert simulated.measure(case).peak == pytest.approx(measured.peak, rel=0.02)
    assert measured.tracked <= measured.peak
