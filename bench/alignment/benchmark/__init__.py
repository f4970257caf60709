"""The alignment benchmark: every method fine-tunes the same base on the same prompts, for as many trajectories.

A method's learning rate is sought on validation prompts along one grid, from the published rate to where it gets worse
on both sides, by the evaluator (MM-Dist) and not by the reward, which would choose the rate that games it most; its
runs are then measured on test prompts that nothing was chosen on. Runs are independent and go through worker processes
of one thread each, so that a run's seconds are those of one core. Trajectories are counted, not timed: the same seed
gives the same table, all but the seconds.

cases    methods, sizes, and one case a row
jobs     what worker processes do
runs     a method's jobs, and the record that they amount to
"""

from bench.alignment.benchmark.cases import GRID, METHODS, SEEDS, SIZES, TARGET, AlignmentCase, Size, seeds_of
from bench.alignment.benchmark.jobs import MEMORY
from bench.alignment.benchmark.runs import CLOCK, AlignmentRuns, compared, made, to_reach

__all__ = [
    "CLOCK",
    "GRID",
    "MEMORY",
    "METHODS",
    "SEEDS",
    "SIZES",
    "TARGET",
    "AlignmentCase",
    "AlignmentRuns",
    "Size",
    "compared",
    "made",
    "seeds_of",
    "to_reach",
]
