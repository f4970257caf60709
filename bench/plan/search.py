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


def doubtful(axis: Axis, forecast: Forecast, budget: Budget) -> bool:
    """Whether what was asked for is predicted so near to the budget that it must be simulated."""
    case = axis.at(axis.asked)
    return abs(budget.needs(case, forecast.of(case).reserved) / budget.size - 1) < DOUBTFUL


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


@dataclass
class Confirmation:
    """The search for one limit with simulated figures, from a guess on."""

    axis: Axis
    budget: Budget
    guess: int
    """What to simulate next, with its neighbour; the limit once nothing is `wanted`."""
    asked: Sequence[int] = ()
    """The value that was asked for, if it is in doubt whether it fits."""
    known: dict[int, Memory] = field(default_factory=dict)
    """Simulated so far."""
    whole: set[int] = field(default_factory=set)
    """Those simulated at all the denoising steps; others at the fewest that hold as many calls, where what is reserved
    may differ by a segment."""
    error: SimulationError | None = None
    """Why the search was given up."""

    def wanted(self) -> dict[int, Case]:
        """What is to be simulated next, by value: the guess, its neighbour and what was asked for where that is in
        doubt, in few steps, and then the guess in all of them; nothing once the limit is settled."""
        values = () if self.error else dict.fromkeys((self.guess, self.guess + 1, *self.asked))
        new = [n for n in values if 1 <= n <= self.axis.most and n not in self.known]
        if new or self.error or not self.guess or self.guess in self.whole:
            return {n: draws.stand_in(self.axis.at(n)) for n in new}
        return {self.guess: self.axis.at(self.guess)}

    def learn(self, n: int, case: Case, memory: Memory) -> None:
        """Takes in the simulation of a case that was wanted."""
        self.known[n] = memory
        if case == self.axis.at(n):
            self.whole.add(n)

    def settle(self) -> None:
        """Moves the guess to where the budget would be used up if every further step took as much as the live bytes of
        the last two values differ by, until a value fits and the next does not."""
        fitting = [n for n in self.known if self._needs(n) <= self.budget.size]
        fitting = [n for n in fitting if all(n < asked or asked in fitting for asked in self.asked)]
        low = max(fitting, default=0)
        high = min((n for n in self.known if n > low), default=self.axis.most + 1)
        if high - low == 1:
            self.guess = self._ahead(low)
            return
        # The neighbours that were simulated last, or the only one there is.
        at = [n for n in (self.guess, self.guess + 1) if n in self.known]
        slope = (self.known[at[-1]].peak - self.known[at[0]].peak) if len(at) == 2 else 0
        room = self.budget.size - self._needs(at[0])
        step = int(room // slope) if slope > 0 else (1 if room >= 0 else -1)
        self.guess = min(max(at[0] + step, low), high - 1)
        if self.guess == low and high in self.known:
            self.guess = (low + high) // 2  # reserved bytes stand still here, so that the line leads nowhere

    def _ahead(self, low: int) -> int:
        """A larger value than `low`, which fits while the next does not, if by the live bytes two more steps would fit;
        `low` where there is none that is not known to be too large."""
        slope = self.known[low + 1].peak - self.known[low].peak if low in self.known and low + 1 in self.known else 0
        steps = int((self.budget.size - self._needs(low)) // slope) if slope > 0 else 0
        too_large = min((n for n in self.known if n > low + 1), default=self.axis.most + 1)
        return low + steps if 1 < steps < too_large - low else low

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

    def _needs(self, n: int) -> int:
        return self.budget.needs(self.axis.at(n), self.known[n].reserved)


def confirm(searches: Sequence[Confirmation], simulator: Simulator) -> None:
    """Settles all of them, a round of simulations at a time; a search whose simulation gives no figure is given up."""
    while wanted := [(search, search.wanted()) for search in searches if search.wanted()]:
        simulator.read(case for _, cases in wanted for case in cases.values())
        for search, cases in wanted:
            try:
                for n, case in cases.items():
                    search.learn(n, case, Memory.of(simulator.reading(case)))
                search.settle()
            except SimulationError as error:
                search.error = error
