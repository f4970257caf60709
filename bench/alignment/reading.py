"""What finished runs amount to: intervals over seeds, learning rate, time to a reward, when to stop, reward hacking.

An interval here is a 95% interval over seeds by Student's t: how far other training runs would move a mean. That of a
measurement over its repeats, 1.96 σ/√n, is another one (bench.motion.metrics.over_repeats). Where a conclusion rests on
several comparisons at once, `decided` corrects for their number, and `simultaneous` widens what is shown of them.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise

from msgspec import structs

from bench.motion.metrics import JUDGED, METRICS
from bench.records.types import MOST_SEEDS, Edge, Interval, Point

T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Student's t at 97.5% for 1 to 9 degrees of freedom: of 2 to MOST_SEEDS seeds."""
assert len(T_QUANTILES) == MOST_SEEDS - 1
TOTALS = tuple(field.name for field in structs.fields(Point) if field.name != "metrics")
"""What a point has beside its metrics, and a curve can be followed along."""

Curve = Sequence[Point]
"""One run's points, in order."""
Figures = Mapping[str, float | None]
"""Of one run, by name; None, or left out, for what was not measured."""


def over_seeds(values: Sequence[float | None]) -> Interval:
    """Mean and half-width of the 95% interval over seeds by Student's t, which few seeds call for: at three it is 2.5
    standard deviations. None for what one seed does not give, and for a metric that was not measured."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return Interval(None, None)
    if len(known) == 1:
        return Interval(known[0], None)
    half_width = T_QUANTILES[len(known) - 2] * statistics.stdev(known) / len(known) ** 0.5
    return Interval(statistics.fmean(known), half_width)


def of_seeds(runs: Sequence[Figures], name: str) -> Interval:
    """over_seeds of a figure of runs, one of each seed."""
    return over_seeds([run.get(name) for run in runs])


def paired(ours: Sequence[Figures], theirs: Sequence[Figures], name: str) -> Interval:
    """over_seeds of a figure's differences, ours less theirs, run by run: runs of equal seeds share their noise, so
    that much of what differs between seeds cancels. One of each seed, in the same order of seeds."""
    pairs = [(run.get(name), other.get(name)) for run, other in zip(ours, theirs, strict=True)]
    return over_seeds([None if a is None or b is None else a - b for a, b in pairs])


def side(difference: Interval) -> int:
    """1 where an interval lies above 0, -1 where it lies below; 0 where it holds 0, or one seed gave none."""
    mean, half_width = difference.mean, difference.half_width
    if mean is None or half_width is None or abs(mean) <= half_width:
        return 0
    return 1 if mean > 0 else -1


def decided(differences: Sequence[Interval], seeds: int) -> list[int]:
    """The side of each difference over `seeds` seeds, 0 where it is undecided: all that is said of them together is
    false with a probability of 5% at most, by Holm's correction (Holm 1979) of Student's t-tests."""
    chances = [_chance(difference, seeds) for difference in differences]
    sides = [0] * len(differences)
    for rank, index in enumerate(sorted(range(len(chances)), key=chances.__getitem__)):
        if chances[index] > 0.05 / (len(chances) - rank):
            break  # nor is any that is less sure
        sides[index] = 1 if (differences[index].mean or 0) > 0 else -1
    return sides


def simultaneous(differences: Sequence[tuple[Interval, int]]) -> list[Interval]:
    """Intervals of differences, each over so many seeds, that hold all at once with a probability of 95%: widened by
    Bonferroni's correction. One that has no interval counts for none."""
    many = sum(difference.half_width is not None for difference, _ in differences)
    return [
        difference
        if difference.half_width is None
        else Interval(
            difference.mean, difference.half_width * quantile(0.05 / many, seeds - 1) / T_QUANTILES[seeds - 2]
        )
        for difference, seeds in differences
    ]


def quantile(chance: float, degrees: int) -> float:
    """What Student's t with so many degrees of freedom is further from 0 than with a probability: `beyond`, inverted by
    bisection."""
    low, high = 0.0, 1.0
    while beyond(high, degrees) > chance:
        low, high = high, 2 * high
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if beyond(middle, degrees) > chance else (low, middle)
    return high


def _chance(difference: Interval, seeds: int) -> float:
    """How likely a mean as far from 0 is where there is no difference; 1 where one seed, or none, gave it."""
    mean, half_width = difference.mean, difference.half_width
    if mean is None or half_width is None or mean == 0:
        return 1.0
    return 0.0 if half_width == 0 else beyond(abs(mean) / half_width * T_QUANTILES[seeds - 2], seeds - 1)


def beyond(t: float, degrees: int) -> float:
    """The probability that Student's t with so many degrees of freedom is further from 0 than `t` ≥ 0: exact, by the
    finite sums of Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    angle = math.atan(t / degrees**0.5)
    odd = degrees % 2
    term, total = math.cos(angle) if odd else 1.0, 0.0
    for factor in range(2 + odd, degrees + 1, 2):
        total += term
        term *= (factor - 1) / factor * math.cos(angle) ** 2
    total *= math.sin(angle)
    return 1 - (2 / math.pi * (angle + total) if odd else total)


def figure(point: Point, name: str) -> float | None:
    """A total or a metric of a point; None for what was not measured."""
    return getattr(point, name) if name in TOTALS else point.metrics.get(name)


def stopping_point(curve: Curve, name: str = "second", patience: int = 2) -> int:
    """Where a run is stopped by a score that it is not trained on: the index of its best point so far (the first of
    equal ones) as soon as `patience` measurements in a row have not risen above it; the last index if that never comes.

    Early stopping as it is usual (Prechelt 1998, "Early stopping, but when?"). It asks for no test data, and not for
    the evaluator that judges the run.
    """
    best, most = 0, -float("inf")
    for index, point in enumerate(curve):
        score = figure(point, name)
        if score is not None and score > most:
            best, most = index, score
        elif index - best >= patience:
            return best
    return len(curve) - 1


def mean_curve(curves: Sequence[Curve]) -> list[Point]:
    """The mean of runs that were measured after the same trajectories."""
    return [
        Point(
            **{total: statistics.fmean(getattr(point, total) for point in points) for total in TOTALS},
            metrics={name: of_seeds([point.metrics for point in points], name).mean for name in points[0].metrics},
        )
        for points in zip(*curves, strict=True)
    ]


def along(curve: Curve, axis: str, name: str) -> list[tuple[float, float]]:
    """Where along a total the curve has which value of a figure; points that lack it are left out."""
    return [(getattr(point, axis), value) for point in curve if (value := figure(point, name)) is not None]


def reach(curve: Curve, level: float, axis: str, name: str = "reward") -> float | None:
    """Where along `axis` a metric of the curve is first as good as a level, linear between its points; None where it
    never is."""
    points, sign = along(curve, axis, name), METRICS[name].sign
    if points and sign * points[0][1] >= sign * level:
        return points[0][0]
    for (start, before), (end, after) in pairwise(points):
        if sign * after >= sign * level:
            return start + (level - before) / (after - before) * (end - start)
    return None


def value_at(curve: Curve, axis: str, position: float, name: str) -> float | None:
    """A figure of the curve at a position along `axis`, linear between its points; None past its end."""
    for (start, before), (end, after) in pairwise(along(curve, axis, name)):
        if start <= position <= end:
            return before + (position - start) / (end - start) * (after - before)
    return None


def choose(tried: Mapping[float, Figures], by: str = "mm_dist") -> float | None:
    """The learning rate whose run ended with the best figure, the lower of equal ones; None if none has it.

    Not by the reward: the rate with the highest one is that which games it most.
    """
    sign = METRICS[by].sign
    finished = {lr: -sign * value for lr, metrics in tried.items() if (value := metrics.get(by)) is not None}
    return min(sorted(finished), key=finished.__getitem__, default=None)


def untried(tried: Mapping[float, Figures], grid: Sequence[float], start: float) -> list[float]:
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


def edge(lr: float, grid: Sequence[float]) -> Edge | None:
    """Which edge of the grid a chosen learning rate is at, so that a better one may lie beyond it."""
    edges: dict[float, Edge] = {min(grid): "lowest", max(grid): "highest"}
    return edges.get(lr)


def hacked(gain: Mapping[str, Interval]) -> list[str]:
    """The independent metrics that are clearly worse than the base's, where the reward is clearly better: both by the
    95% interval of the gain over seeds (Student's t), seed by seed under equal noise. Their presence is reward hacking.
    """
    if side(gain["reward"]) < 1:
        return []
    return [name for name in JUDGED if side(gain[name]) == -METRICS[name].sign]
