"""What is read off finished runs: intervals over seeds, learning rate, time to a reward, when to stop, reward hacking.

Points are dicts of numbers by name (see finetune.Curve.evaluations); a curve is a list of them, in order.
"""

import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise

T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Student's t at 97.5% for 1 to 9 degrees of freedom."""
MOST_SEEDS = len(T_QUANTILES) + 1
LOWER_IS_BETTER = ("mm_dist", "fid")
JUDGED_INDEPENDENTLY = ("r1", "fid", "mm_dist")
"""What the evaluator, which no method is trained on, says about quality."""

Curve = Sequence[Mapping[str, float]]
Summary = Mapping[str, Mapping]
"""`mean` and `half_width` by metric."""


def over_seeds(values: Sequence[float | None]) -> dict[str, float | None]:
    """Mean and half-width of the 95% interval by Student's t, which few seeds call for: at three it is 2.5 standard
    deviations. None for what one seed cannot tell, and for a metric that was not measured."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return {"mean": None, "half_width": None}
    if len(known) == 1:
        return {"mean": known[0], "half_width": None}
    half_width = T_QUANTILES[len(known) - 2] * statistics.stdev(known) / len(known) ** 0.5
    return {"mean": statistics.fmean(known), "half_width": half_width}


def of_seeds(runs: Curve, name: str) -> dict[str, float | None]:
    """over_seeds of a figure of runs, one point a run."""
    return over_seeds([run.get(name) for run in runs])


def paired(ours: Curve, theirs: Curve, name: str) -> dict[str, float | None]:
    """over_seeds of a figure's differences, ours less theirs, run by run: runs of equal seeds share their noise, so
    that much of what differs between seeds cancels. Points are one a run, in the same order of seeds."""
    pairs = [(own.get(name), other.get(name)) for own, other in zip(ours, theirs, strict=True)]
    return over_seeds([None if a is None or b is None else a - b for a, b in pairs])


def side(difference: Mapping[str, float | None]) -> int:
    """1 where an interval lies above 0, -1 where it lies below; 0 where it holds 0, or one seed gave none."""
    mean, half_width = difference["mean"], difference["half_width"]
    if mean is None or half_width is None or abs(mean) <= half_width:
        return 0
    return 1 if mean > 0 else -1


def stopping_point(curve: Curve, name: str = "second", patience: int = 2) -> int:
    """Where a run is stopped by a score that it is not trained on: the index of its best point so far (the first of
    equal ones) as soon as `patience` measurements in a row have not risen above it; the last index if that never comes.

    Early stopping as it is usual (Prechelt 1998, "Early stopping, but when?"). It asks for no test data, and not for
    the evaluator that judges the run.
    """
    best = 0
    for index, point in enumerate(curve):
        if point[name] > curve[best][name]:
            best = index
        elif index - best >= patience:
            return best
    return len(curve) - 1


def mean_curve(curves: Sequence[Curve]) -> list[dict[str, float]]:
    """The mean of runs that were measured after the same trajectories."""
    return [
        {name: statistics.fmean(point[name] for point in points) for name in points[0]}
        for points in zip(*curves, strict=True)
    ]


def reach(curve: Curve, reward: float, axis: str) -> float | None:
    """Where along `axis` the curve first has a reward, linear between its points; None where it never does."""
    if curve[0]["reward"] >= reward:
        return curve[0][axis]
    for before, after in pairwise(curve):
        if after["reward"] >= reward:
            share = (reward - before["reward"]) / (after["reward"] - before["reward"])
            return before[axis] + share * (after[axis] - before[axis])
    return None


def value_at(curve: Curve, axis: str, position: float, name: str) -> float | None:
    """A figure of the curve at a position along `axis`, linear between its points; None past its end."""
    for before, after in pairwise(curve):
        if before[axis] <= position <= after[axis]:
            share = (position - before[axis]) / (after[axis] - before[axis])
            return before[name] + share * (after[name] - before[name])
    return None


def choose(tried: Mapping[float, Mapping[str, float]], by: str = "mm_dist") -> float | None:
    """The learning rate whose run ended with the best figure, the lower of equal ones; None if none has it.

    Not by the reward: the rate with the highest one is that which games it most.
    """
    way = 1 if by in LOWER_IS_BETTER else -1
    finished = {lr: way * found[by] for lr, found in tried.items() if by in found}
    return min(sorted(finished), key=finished.__getitem__, default=None)


def untried(tried: Mapping[float, Mapping[str, float]], grid: Sequence[float], start: float) -> list[float]:
    """The learning rates of the grid to try next: `start` and the one above it, then the neighbours of the best one so
    far (see `choose`), or the next below all where none could train; none once the best lies between two that were
    tried, or at an edge of the grid.

    It finds the best of the whole grid where quality rises and then falls along it, as it does from rates that do too
    little to rates that do harm, and spends nothing on those beyond.
    """
    rates = sorted(grid)
    if not tried:
        return rates[rates.index(start) :][:2]
    best = choose(tried)
    at = rates.index(min(tried) if best is None else best)
    return [rate for rate in rates[max(0, at - 1) : at + 2] if rate not in tried]


def edge(lr: float, grid: Sequence[float]) -> str | None:
    """Which edge of the grid a chosen learning rate is at, so that a better one may lie beyond it."""
    return {min(grid): "lowest", max(grid): "highest"}.get(lr)


def hacked(gain: Summary) -> list[str]:
    """The independent metrics that are clearly worse than the base's, where the reward is clearly better: both by the
    95% interval of the gain, seed by seed under equal noise. Their presence is reward hacking."""
    if side(gain["reward"]) < 1:
        return []
    return [name for name in JUDGED_INDEPENDENTLY if side(gain[name]) == (1 if name in LOWER_IS_BETTER else -1)]
