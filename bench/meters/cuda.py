"""The cuda meter: the allocator's own counters over a real update on a GPU, with the process's and the device's memory.

Two passes. The allocator pass reads torch.cuda's peak counters, phase by phase, in a process whose cuBLAS workspaces
already exist (they are reported apart, as `workspace`). The tracked pass counts live tensors as the other meters do; it
gives categories and the timeline, and what it lacks to the allocator's peak is memory inside kernels and rounding.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace

import torch

from bench.cases import Case
from bench.meters.errors import MeterUnavailableError
from bench.meters.reading import Reading
from bench.meters.tracked import Enter, read, unheard
from bench.reward_cases import RewardCase
from bench.reward_setup import build_reward
from bench.setup import build
from methods.rollout import PHASES

COUNTERS = {
    "peak": "allocated_bytes.all.peak",
    "requested": "requested_bytes.all.peak",
    "active": "active_bytes.all.peak",
    "reserved": "reserved_bytes.all.peak",
}


class AllocatorPeaks:
    """Peaks of the CUDA caching allocator, in total and per phase, since `restart()`.

    The counters are reset when a phase begins, so their maximum over all windows is the total peak. Reading them is a
    host-side look-up: no synchronisation. `device`: a GPU; None for the one that is current.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device
        self.restart()

    def restart(self) -> None:
        torch.cuda.reset_peak_memory_stats(self.device)
        self.totals = dict.fromkeys(COUNTERS, 0)
        self.phases: dict[str, int] = {}

    def collect(self) -> int:
        """Folds the counters into the totals; returns the allocated peak since the last reset."""
        stats = torch.cuda.memory_stats(self.device)
        for name, counter in COUNTERS.items():
            self.totals[name] = max(self.totals[name], stats.get(counter, 0))
        return stats.get(COUNTERS["peak"], 0)

    @contextlib.contextmanager
    def observe(self, phase: str) -> Iterator[None]:
        """An observer of methods.rollout."""
        self.collect()
        torch.cuda.reset_peak_memory_stats(self.device)
        try:
            yield
        finally:
            self.phases[phase] = max(self.phases.get(phase, 0), self.collect())


def measure(case: Case | RewardCase, enter: Enter = unheard) -> Reading:
    """Runs `case` on the first GPU.

    MeterUnavailableError without one; torch.OutOfMemoryError where it does not fit; InputError if its options do not.
    """
    if not torch.cuda.is_available():
        raise MeterUnavailableError(
            "the cuda meter found no GPU (torch.cuda.is_available() is false): "
            "use --meter simulated, which needs none, or run on a machine with a CUDA device and a CUDA build of torch"
        )
    warm_libraries()
    workspace = torch.cuda.memory_allocated()
    enter("building")
    run = build(case, "cuda") if isinstance(case, Case) else build_reward(case, "cuda")
    enter("warm-up")
    run.warm_up()
    run.update()  # a full update, so that the allocator's caches and every lazy buffer are as in the long run
    resident = torch.cuda.memory_allocated()
    peaks = AllocatorPeaks()
    enter("sampling")
    run.sample()
    peaks.collect()
    sampling = peaks.totals["peak"]
    peaks.restart()

    def observe(phase: str) -> contextlib.AbstractContextManager:
        enter(phase)
        return peaks.observe(phase)

    run.update(phases=observe)
    peaks.collect()
    process, device_used = nvml_memory()
    del run
    torch.cuda.empty_cache()
    tracked = read(case, "cuda", enter=enter)
    peak = peaks.totals["peak"] - workspace
    phases = {phase: max(peaks.phases.get(phase, 0) - workspace, 0) for phase in PHASES}
    return replace(
        tracked,
        peak=peak,
        resident=resident - workspace,
        sampling=sampling - workspace,
        phases=phases,
        tracked=tracked.peak,
        allocated=peak,
        allocated_phases=phases,
        workspace=workspace,
        requested=peaks.totals["requested"],
        active=peaks.totals["active"],
        reserved=peaks.totals["reserved"],
        process=process,
        device_used=device_used,
    )


def warm_libraries(device: torch.device | str = "cuda") -> None:
    """Makes cuBLAS allocate its workspaces, of the forward and of the autograd thread, before anything is counted."""
    x = torch.randn(64, 64, device=device, requires_grad=True)
    (x @ x).sum().backward()
    torch.bmm(x[None], x[None]).sum().backward()
    del x
    torch.cuda.synchronize(device)


def nvml_memory() -> tuple[int | None, int | None]:
    """(bytes of this process, bytes in use) on the first visible GPU, from NVML; None where the driver does not say."""
    import pynvml

    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(0).uuid}")
        processes = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        of_process = next((p.usedGpuMemory for p in processes if p.pid == os.getpid()), None)
        return of_process, pynvml.nvmlDeviceGetMemoryInfo(handle).used
    except (pynvml.NVMLError, AttributeError):
        return None, None
