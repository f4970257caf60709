"""The alignment benchmark: every method fine-tunes the same base on the same prompts, for as many trajectories.

A method's learning rate is sought on validation prompts along one grid, from the published rate to where it gets worse
on both sides, by the evaluator (MM-Dist) and not by the reward, which would choose the rate that games it most; its
runs are then measured on test prompts that nothing was chosen on. Runs are independent and go through worker processes
of one thread each, so that a run's seconds are those of one core. Trajectories are counted, not timed: the same seed
gives the same table, all but the seconds.

cases    methods, sizes, and one case a row
worker   what a worker process runs
session  the processes, and rows as they come
row      a method beside the base, and the record of it
"""

from bench.alignment.benchmark.cases import GRID, METHODS, SEEDS, SIZES, TARGET, AlignmentCase, Size
from bench.alignment.benchmark.row import compared, digest, make_record, to_reach
from bench.alignment.benchmark.session import CLOCK, MEMORY, Benchmark

__all__ = [
    "CLOCK",
    "GRID",
    "MEMORY",
    "METHODS",
    "SEEDS",
    "SIZES",
    "TARGET",
    "AlignmentCase",
    "Benchmark",
    "Size",
    "compared",
    "digest",
    "make_record",
    "to_reach",
]
