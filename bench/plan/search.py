"""Finds limits: by the forecast, then by simulating the answer and its neighbour until one fits and one does not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.cases import Case
from bench.plan import draws
from bench.plan.axes import Axis
from bench.plan.forecast import Forecast
from bench.plan.headroom import Budget
from bench.plan.memory import Memory
from bench.plan.simulator import SimulationError, Simulator


@dataclass(frozen=True)
class Limit:
    """The largest value on one axis that fits, while one more does not.

    What the allocator reserves goes up and down by a few percent from one value to the next, with how sizes fall into
    its blocks: a value somewhat below the limit may need more than the limit itself. What was asked for is never
    doubtful: it fits where, and only where, the limit is not below it.
    """

    axis: str
    value: int
    """0 where not even 1 fits."""
    case: Case | None
    """The case at the limit; None where not even 1 fits."""
    most: bool
    """Whether it is the largest value there is, whatever the budget."""
    confirmed: bool
    """Simulated, at all the steps, and its neighbour at the fewest that hold as many calls; otherwise both are
    predicted."""
    memory: Memory | None = None
    """At the limit; None where not even 1 fits."""
    beyond: Memory | None = None
    """One further, which does not fit; None at the largest value there is."""


def largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest number up to `most` that fits, 0 if none does; `fits` does not turn true again."""
    low, high = 0, 1
    while high <= most and fits(high):
        low, high = high, high * 2
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def predicted(axis: Axis, forecast: Forecast, budget: Budget) -> Limit:
    """The limit by the forecast alone."""
    value = largest(lambda n: budget.fits(axis.at(n), forecast.of(axis.at(n)).reserved), axis.most)
    most = value == axis.most
    return Limit(
        axis.name,
        value,
        axis.at(value) if value else None,
        most,
        confirmed=False,
        memory=forecast.of(axis.at(value)) if value else None,
        beyond=None if most else forecast.of(axis.at(value + 1)),
    )


DOUBTFUL = 0.1
"""Share of the budget within which a prediction says nothing sure of whether something fits."""
FEW = 4
"""Simulations of a search after which the slope is no guide any longer: what is left is halved."""


@dataclass
class Confirmation:
    """The search for one limit with simulated figures, from the predicted one on."""

    axis: Axis
    budget: Budget
    forecast: Forecast
    known: dict[int, Memory] = field(default_factory=dict)
    """Simulated so far."""
    whole: set[int] = field(default_factory=set)
    """Those simulated at all the denoising steps; others at the fewest that hold as many calls, where what is reserved
    may differ by a segment."""
    beside: tuple[int, ...] = ()
    """Simulated together with the first guess, where that was estimated: the limit is not far then, and the bytes left
    say nothing, because what is reserved jumps there."""
    error: SimulationError | None = None
    """Why the search was given up."""

    def __post_init__(self) -> None:
        self.guess = max(1, predicted(self.axis, self.forecast, self.budget).value)
        """What to simulate next; the limit once nothing is `wanted`, 0 where not even 1 fits."""
        needs = self.budget.needs(self.axis.at(self.axis.asked), self._predicted(self.axis.asked).reserved)
        self.asked = [self.axis.asked] if abs(needs / self.budget.size - 1) < DOUBTFUL else []

    @property
    def of_batch(self) -> bool:
        """Whether the limit is a batch, so that one simulation estimates it."""
        return self.axis.name == "batch" and self.guess < self.axis.most

    @property
    def start(self) -> tuple[Case, int]:
        """The first guess, in few steps, and the bytes that the allocator may reserve there."""
        case = self.axis.at(self.guess)
        return draws.stand_in(case), self.budget.size - self.budget.needs(case, 0)

    def expect(self, value: int) -> None:
        """Begins at a limit that was estimated: it and its neighbour decide it if it is right."""
        self.guess = min(value, self.axis.most - 1)
        self.beside = (self.guess + 1,)

    def wanted(self) -> dict[int, Case]:
        """What is to be simulated next, by value: the guess, and what was asked for where that is in doubt, in few
        steps; then the limit in all of them."""
        values = () if self.error else dict.fromkeys((self.guess, *self.beside, *self.asked))
        new = [n for n in values if n and n not in self.known]
        if new or self.error or not self.guess or self.guess in self.whole:
            # At the largest value there is nothing to look for further on, and at once all the steps are run.
            return {n: self.axis.at(n) if n == self.axis.most else draws.stand_in(self.axis.at(n)) for n in new}
        return {self.guess: self.axis.at(self.guess)}

    def learn(self, n: int, case: Case, memory: Memory) -> None:
        """Takes in the simulation of a case that was wanted."""
        self.known[n] = memory
        if case == self.axis.at(n):
            self.whole.add(n)

    def settle(self) -> None:
        """Moves the guess to where the budget would be used up by steps as large as predicted, until a value fits and
        the next does not."""
        fitting = [n for n in self.known if self._room(n) >= 0]
        fitting = [n for n in fitting if all(n < asked or asked in fitting for asked in self.asked)]
        low = max(fitting, default=0)
        high = min((n for n in self.known if n > low), default=self.axis.most + 1)
        if high - low == 1:
            self.guess = low
            return
        bounded, start = low > 0 and high in self.known, low or high
        step = 0 if self.beside else round(self._room(start) / self._slope(start))
        step = max(step, 1) if low else min(step, -1)
        if not bounded:  # further each time, so that a slope which is far off does not matter
            step *= 2 ** max(0, len(self.known) - 2)
        self.guess = min(start + step, self.axis.most)
        if not low < self.guess < high or (bounded and (self.beside or len(self.known) > FEW)):
            self.guess = (low + high) // 2

    def _slope(self, n: int) -> int:
        """Bytes that one step more is predicted to reserve beside `n`, at least one."""
        at = min(n, self.axis.most - 1)
        live = self._predicted(at + 1).peak - self._predicted(at).peak if at else 0
        return max(1, live * self.known[n].reserved // self.known[n].peak)

    def _predicted(self, n: int) -> Memory:
        return self.forecast.of(self.axis.at(n))

    def limit(self) -> Limit:
        most = self.guess == self.axis.most
        return Limit(
            self.axis.name,
            self.guess,
            self.axis.at(self.guess) if self.guess else None,
            most,
            confirmed=True,
            memory=self.known.get(self.guess),
            beyond=None if most else self.known[self.guess + 1],
        )

    def _room(self, n: int) -> int:
        """Bytes of the budget that are left."""
        return self.budget.size - self.budget.needs(self.axis.at(n), self.known[n].reserved)


def confirm(searches: Sequence[Confirmation], simulator: Simulator) -> None:
    """Settles all of them, a round of simulations at a time; a search whose simulation gives no figure is given up."""
    batches = [search for search in searches if search.of_batch]
    simulator.add(case for search in searches if search not in batches for case in search.wanted().values())
    limits = simulator.estimate(dict(search.start for search in batches))
    for search in batches:
        if limit := limits.get(search.start[0]):
            search.expect(limit)
    while wanted := [(search, search.wanted()) for search in searches if search.wanted()]:
        simulator.read(case for _, cases in wanted for case in cases.values())
        for search, cases in wanted:
            try:
                for n, case in cases.items():
                    search.learn(n, case, Memory.of(simulator.reading(case)))
                search.settle()
            except SimulationError as error:
                search.error = error
