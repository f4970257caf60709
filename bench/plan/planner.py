"""From a budget to an answer for every method."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from bench.cases import Case
from bench.plan import axes, draws
from bench.plan.axes import Axis
from bench.plan.forecast import Forecast, predict, probes
from bench.plan.headroom import Budget
from bench.plan.levers import Lever, Levers, fewer
from bench.plan.memory import Memory
from bench.plan.search import Confirmation, Limit, confirm, largest, predicted
from bench.plan.simulator import SimulationError, Simulator
from bench.plan.size import enough
from bench.records.make import PLAN_DRAWS
from bench.setup import draw_plan
from methods.errors import InputError


@dataclass(frozen=True)
class Answer:
    """What a budget allows one method."""

    case: Case
    """The method in the setting that was asked for, under its worst draw."""
    limits: dict[str, Limit] = field(default_factory=dict)
    """By axis: `batch`, `frames`, and `k` for methods that have it. Empty if a simulation gave no figure."""
    fits: bool = False
    """Whether the batch that was asked for fits."""
    lever: Lever | None = None
    """For a method that does not fit: the cheapest change that makes it."""
    least: int | None = None
    """Where nothing fits: the budget that batch 1 needs."""
    region: tuple[tuple[int, int], ...] = ()
    """(calls held, largest batch) as predicted: for every K, or for the calls that the method always holds."""
    reason: str | None = None
    """Why there is no answer: the reason of a simulation that gave no figure."""

    @property
    def note(self) -> str:
        """What to know before the figures are believed."""
        random = draws.is_random(self.case.method, self.case.steps)
        return f"worst of {PLAN_DRAWS} draws" if random else ""


def requested(methods: Sequence[str], like: Case) -> list[Case]:
    """The methods' cases in the setting of `like`, each once, under their worst draws; InputError for one that is
    none."""
    cases = dict.fromkeys(replace(like, method=method) for method in methods)
    for case in cases:
        draw_plan(case)
    return [draws.worst(case) for case in cases]


class Planner:
    """Answers for cases of one setting, from the forecast (`quick`) or confirmed by simulation."""

    def __init__(self, cases: Sequence[Case], budget: Budget, simulator: Simulator, *, quick: bool) -> None:
        self._cases = cases
        self._budget = budget
        self._simulator = simulator
        self._quick = quick
        self._levers = Levers(budget, simulator, quick=quick)

    def answers(self) -> list[Answer]:
        """One for each case, in order; InputError, which names a budget that would do, where no method fits at all."""
        self._simulator.read(probes(self._cases))
        forecasts: dict[Case, Forecast] = {}
        answers = {}
        for case in self._cases:
            try:
                forecasts[case] = predict(case, self._simulator)
            except SimulationError as error:
                answers[case] = Answer(case, reason=str(error))
        limits: dict[Case, dict[str, Limit]] = {}
        for case, result in self._limits(forecasts).items():
            if isinstance(result, SimulationError):
                answers[case] = Answer(case, reason=str(result))
            else:
                limits[case] = result
        tight = {case: forecasts[case] for case in limits if limits[case]["batch"].value < case.batch}
        levers = {
            case: lever or fewer([limits[case].get("k"), limits[case]["batch"]])
            for case, lever in self._levers.best(tight).items()
        }
        if limits and len(tight) == len(limits) and not any(levers.values()):
            self._refuse_if_nothing_fits(limits, forecasts)
        for case, by_axis in limits.items():
            lever = levers.get(case)
            answers[case] = Answer(
                case,
                by_axis,
                fits=case not in tight,
                lever=lever,
                least=self._least(case) if case in tight and not lever else None,
                region=self._region(forecasts[case], case, by_axis.get("k")),
            )
        return [answers[case] for case in self._cases]

    def _limits(self, forecasts: dict[Case, Forecast]) -> dict[Case, dict[str, Limit] | SimulationError]:
        every: dict[Case, dict[str, Axis]] = {case: axes.of(case) for case in forecasts}
        first = {
            case: {name: predicted(axis, forecasts[case], self._budget) for name, axis in of.items()}
            for case, of in every.items()
        }
        if self._quick:
            return dict(first)
        self._levers.begin({case: forecasts[case] for case, of in first.items() if of["batch"].value < case.batch})
        searches = {
            case: [Confirmation(axis, self._budget, forecasts[case]) for axis in of.values()]
            for case, of in every.items()
        }
        confirm([search for of in searches.values() for search in of], self._simulator)
        return {
            case: next((s.error for s in of if s.error), None) or {s.axis.name: s.limit() for s in of}
            for case, of in searches.items()
        }

    def _refuse_if_nothing_fits(self, limits: dict[Case, dict[str, Limit]], forecasts: dict[Case, Forecast]) -> None:
        if any(limit.value for by_axis in limits.values() for limit in by_axis.values()):
            return
        cheapest = min(limits, key=lambda case: forecasts[case].of(replace(case, batch=1)).reserved)
        least = self._least(cheapest)
        raise InputError(
            f"a budget of {enough(self._budget.size)} holds no method even at batch 1: the least that would do is "
            f"{enough(least)}, for {cheapest.method}"
        )

    def _least(self, case: Case) -> int:
        one = replace(case, batch=1)
        return self._budget.needs(one, Memory.of(self._simulator.reading(one)).reserved)

    def _region(self, forecast: Forecast, case: Case, k: Limit | None) -> tuple[tuple[int, int], ...]:
        calls = range(1, case.steps + 1) if k else [draws.held(case)]
        return tuple((held, self._most(forecast, held, case)) for held in calls)

    def _most(self, forecast: Forecast, held: int, case: Case) -> int:
        def fits(n: int) -> bool:
            return self._budget.fits(replace(case, batch=n), forecast.at(held, n, case.frames).reserved)

        return largest(fits, axes.MOST_BATCH)
