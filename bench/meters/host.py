"""The host meter: live tensor bytes of a real CPU run, and the process's resident set. The simulator's own check."""

import threading
from dataclasses import replace

import psutil

from bench.cases import Case
from bench.meters.reading import Reading
from bench.meters.tracked import Enter, read, unheard
from bench.reward_cases import RewardCase

POLL_SECONDS = 0.005


def measure(case: Case | RewardCase, enter: Enter = unheard) -> Reading:
    """Runs one update of `case` on the CPU; InputError if its options do not fit."""
    with ResidentSet() as resident:
        reading = read(case, "cpu", enter=enter)
    # Nothing here goes through CUDA's allocator.
    return replace(reading, allocated=None, allocated_phases={}, reserved=None, process=resident.peak)


class ResidentSet:
    """The peak resident set of this process while the context is open, polled: short spikes can be missed."""

    def __enter__(self) -> "ResidentSet":
        self.peak = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _poll(self) -> None:
        process = psutil.Process()
        while True:
            self.peak = max(self.peak, process.memory_info().rss)
            if self._done.wait(POLL_SECONDS):
                return
