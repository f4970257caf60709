"""The host meter: live tensor bytes of a real CPU run, and the process's peak resident set. The simulator's own check."""

import resource
import sys
from dataclasses import replace

from bench.cases import Case
from bench.meters.reading import Reading
from bench.meters.tracked import read


def measure(case: Case) -> Reading:
    """Runs one update of `case` on the CPU; MethodError if its options do not fit."""
    return replace(read(case, "cpu"), process=peak_resident_set())


def peak_resident_set() -> int:
    """Bytes; of the whole life of the process, so it means something in a fresh process only."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
