"""The figures. Each takes the rows it draws (see rows) and gives a matplotlib figure; bytes are drawn as GiB (2^30).

No figure mixes devices: the subtitle names the one it shows, and says "simulated" where no device was used.
"""

from bench.report.figures.alignment import curves, pareto, paths
from bench.report.figures.base import base
from bench.report.figures.base_model import chain, similarity
from bench.report.figures.draws import random_peaks
from bench.report.figures.meters import meters
from bench.report.figures.motions import motions
from bench.report.figures.peaks import peaks
from bench.report.figures.plans import plans
from bench.report.figures.questions import bars, by_phase, by_verdict, gains
from bench.report.figures.rewards import feature_noise, gaming, noise, spl, strength, windows
from bench.report.figures.split import split
from bench.report.figures.step_time import step_time
from bench.report.figures.steps import steps
from bench.report.figures.timeline import timeline

__all__ = [
    "bars",
    "base",
    "by_phase",
    "by_verdict",
    "chain",
    "curves",
    "feature_noise",
    "gains",
    "gaming",
    "meters",
    "motions",
    "noise",
    "pareto",
    "paths",
    "peaks",
    "plans",
    "random_peaks",
    "similarity",
    "spl",
    "split",
    "step_time",
    "steps",
    "strength",
    "timeline",
    "windows",
]
