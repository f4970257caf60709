"""Levers: what makes a method fit that does not, the one that changes least first."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.cases import Case
from bench.plan import draws
from bench.plan.forecast import Forecast, reference
from bench.plan.headroom import Budget
from bench.plan.memory import Memory
from bench.plan.search import Limit
from bench.plan.simulator import Simulator
from bench.profiles import profile

SWITCHES = (("reward_frozen", "true"), ("attention", "fused"), ("precision", "bf16"))
"""In order of what they change: nothing of the denoiser's gradients; the order of the same arithmetic; the rounding."""

NEAR = 0.03
"""Share of the budget by which a forecast may be too high: a lever that close is simulated before it is dismissed."""


@dataclass(frozen=True)
class Lever:
    """A change that makes a method fit at the batch and frames that were asked for, or the nearest thing to them."""

    text: str
    """What to change, as options of the commands."""
    case: Case
    """The method with the change."""
    peak: int
    reserved: int
    confirmed: bool
    """Simulated; otherwise predicted."""
    simulated_steps: int | None = None
    """Denoising steps of the simulation behind `peak`, fewer than the case's where they hold as many calls; None where
    it is predicted."""


def candidates(spec: str) -> list[str]:
    """Profiles to try instead of `spec`: each switch that it lacks alone, then the first two, then all."""
    fresh = [f"{name}={value}" for name, value in SWITCHES if not _has(spec, name, value)]
    singles = [[switch] for switch in fresh]
    together = [fresh[:count] for count in range(2, len(fresh) + 1)]
    return ["+".join([spec, *switches]) for switches in singles + together]


def _has(spec: str, name: str, value: str) -> bool:
    return str(getattr(profile(spec), name)).lower() == value


class Levers:
    """What each profile would need, predicted from one simulation for all methods."""

    def __init__(self, budget: Budget, simulator: Simulator, *, quick: bool) -> None:
        """`quick`: without bf16, whose simulation takes ten times as long."""
        self._budget = budget
        self._simulator = simulator
        self._quick = quick

    def switches(self, cases: dict[Case, Forecast]) -> dict[Case, list[Lever]]:
        """For each case the profiles that are predicted to make it fit, or nearly, the best first."""
        fitting: dict[Case, list[Lever]] = {case: [] for case in cases}
        first = next(iter(cases), None)
        tried = candidates(first.profile) if first else []
        if self._quick:
            tried = [spec for spec in tried if profile(spec).precision == "fp32"]
        for number, spec in enumerate(tried):
            if all(any(map(self.fits, of)) for of in fitting.values()):
                break
            # bf16 takes long to simulate, and its two probes have a core each: those of one precision go together.
            alike = [other for other in tried[number:] if profile(other).precision == profile(spec).precision]
            self._simulator.read(self._probe(case, other) for case in cases for other in alike)
            for case, forecast in cases.items():
                lever = self._predicted(case, forecast, spec)
                if self._budget.needs(lever.case, lever.reserved) <= (1 + NEAR) * self._budget.size:
                    fitting[case].append(lever)
        return fitting

    def fits(self, lever: Lever) -> bool:
        return self._budget.fits(lever.case, lever.reserved)

    def begin(self, wished: dict[Case, list[Lever]]) -> None:
        """Starts the simulations that `confirm` will ask for first."""
        self._simulator.add(draws.stand_in(levers[0].case) for levers in wished.values() if levers)

    def confirm(self, wished: dict[Case, list[Lever]]) -> dict[Case, Lever | None]:
        """The first lever of each list that fits when it is simulated."""
        self.begin(wished)
        return {case: next(filter(None, map(self._confirmed, levers)), None) for case, levers in wished.items()}

    def _confirmed(self, lever: Lever) -> Lever | None:
        small = draws.stand_in(lever.case)
        memory = Memory.of(self._simulator.reading(small))
        sure = replace(lever, peak=memory.peak, reserved=memory.reserved, confirmed=True, simulated_steps=small.steps)
        return sure if self.fits(sure) else None

    def _probe(self, case: Case, spec: str) -> Case:
        return replace(reference(case, 2, case.batch, case.frames), profile=spec)

    def _predicted(self, case: Case, forecast: Forecast, spec: str) -> Lever:
        """DRaFT-2 under the profile, with as many calls as the method holds, and what the method has beyond DRaFT."""
        reading = self._simulator.reading(self._probe(case, spec))
        # A little too much under bf16, whose rounded weights are kept once for all calls: what is predicted to fit does.
        call = reading.split["rollout"]["activations"] // 2
        peak = reading.peak + (draws.held(case) - 2) * call + forecast.excess(case)
        reserved = round(peak * Memory.of(reading).reserved / reading.peak)
        return Lever(f"--profile {spec}", replace(case, profile=spec), peak, reserved, confirmed=False)


def fewer(limits: Sequence[Limit | None]) -> Lever | None:
    """The last resort: the largest K that fits, or else the largest batch."""
    for limit in limits:
        if limit and limit.case and limit.memory:
            text = f"--method {limit.case.method}" if limit.axis == "k" else f"--batch {limit.value}"
            steps = limit.case.steps if limit.confirmed else None
            return Lever(text, limit.case, limit.memory.peak, limit.memory.reserved, limit.confirmed, steps)
    return None
