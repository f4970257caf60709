"""Finds limits: by the forecast, then by simulating the answer and its neighbour until one fits and one does not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.cases import Case
from bench.plan.axes import Axis
from bench.plan.forecast import Forecast
from bench.plan.headroom import Budget
from bench.plan.simulator import SimulationError, Simulator


@dataclass(frozen=True)
class Limit:
    """The largest value on one axis that fits."""

    axis: str
    value: int
    """0 where not even 1 fits."""
    case: Case | None
    """The case at the limit; None where not even 1 fits."""
    most: bool
    """Whether it is the largest value there is, whatever the budget."""
    confirmed: bool
    """Simulated at the full number of steps, the neighbour too; otherwise both are foretold."""
    phases: dict[str, int] = field(default_factory=dict)
    """Peak of each phase at the limit; empty where not even 1 fits."""
    next_peak: int | None = None
    """Peak one further, which does not fit; None at the largest value there is."""

    @property
    def peak(self) -> int | None:
        return max(self.phases.values(), default=None)


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


def foretold(axis: Axis, forecast: Forecast, budget: Budget) -> Limit:
    """The limit by the forecast alone."""
    value = largest(lambda n: budget.fits(forecast.peak(axis.at(n))), axis.most)
    most = value == axis.most
    return Limit(
        axis.name,
        value,
        axis.at(value) if value else None,
        most,
        confirmed=False,
        phases=forecast.of(axis.at(value)) if value else {},
        next_peak=None if most else forecast.peak(axis.at(value + 1)),
    )


@dataclass
class Confirmation:
    """The search for one limit with exact peaks, from a guess on."""

    axis: Axis
    budget: Budget
    guess: int
    """What to simulate next, with its neighbour; the limit once `settled`."""
    known: dict[int, dict[str, int]] = field(default_factory=dict)
    """Simulated peaks of the phases."""
    error: SimulationError | None = None
    """Why the search was given up."""

    def wanted(self) -> list[int]:
        """Values whose peaks are to be simulated next; none once the limit is settled."""
        pair = () if self.error else (self.guess, self.guess + 1)
        return [n for n in pair if 1 <= n <= self.axis.most and n not in self.known]

    def settle(self) -> None:
        """Moves the guess to where the line through the last two exact needs meets the budget, until that is where it
        stands already."""
        fitting = [n for n in self.known if self.budget.fits(self._peak(n))]
        low = max(fitting, default=0)
        high = min((n for n in self.known if n not in fitting), default=self.axis.most + 1)
        if high - low == 1:
            self.guess = low
            return
        # The neighbours that were simulated last, or the only one there is.
        at = [n for n in (self.guess, self.guess + 1) if n in self.known]
        slope = (self._peak(at[-1]) - self._peak(at[0])) if len(at) == 2 else 0
        room = self.budget.size - self.budget.needs(self._peak(at[0]))
        step = int(room // slope) if slope > 0 else (1 if room >= 0 else -1)
        self.guess = min(max(at[0] + step, low), high - 1)

    def limit(self) -> Limit:
        most = self.guess == self.axis.most
        return Limit(
            self.axis.name,
            self.guess,
            self.axis.at(self.guess) if self.guess else None,
            most,
            confirmed=True,
            phases=self.known.get(self.guess, {}),
            next_peak=None if most else self._peak(self.guess + 1),
        )

    def _peak(self, n: int) -> int:
        return max(self.known[n].values())


def confirm(searches: Sequence[Confirmation], simulator: Simulator) -> None:
    """Settles all of them, a round of simulations at a time; a search whose simulation gives no figure is given up."""
    while wanted := [(search, search.wanted()) for search in searches if search.wanted()]:
        simulator.read(search.axis.at(n) for search, values in wanted for n in values)
        for search, values in wanted:
            try:
                search.known |= {n: simulator.reading(search.axis.at(n)).phases for n in values}
                search.settle()
            except SimulationError as error:
                search.error = error
