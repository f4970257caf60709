"""Levers: what makes a method fit that does not, the one that changes least first."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.cases import Case
from bench.plan import draws
from bench.plan.forecast import Forecast, reference
from bench.plan.headroom import Budget
from bench.plan.memory import Memory
from bench.plan.search import Limit
from bench.plan.simulator import SimulationError, Simulator
from bench.profiles import LEAN, Profile, profile

SWITCHES = ("reward_frozen=true", "attention=fused", f"score={LEAN.score}")
"""Exact, tried alone and together, those first that cost no time: gradients are left out that nobody uses; the same
arithmetic comes in another order; and decode and reward run in pieces, which keep a GPU less busy."""
ROUNDED = "precision=bf16"

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
    """Profiles to try instead of `spec`, the one that changes least first: each switch alone that is as released, then
    the first two of them, then all; then `lean`, with what `spec` sets and `lean` does not."""
    fresh = [switch for switch in SWITCHES if _as_released(profile(spec), switch)]
    together = [fresh[:count] for count in range(2, len(fresh) + 1)]
    tried = ["+".join([spec, *switches]) for switches in [*([switch] for switch in fresh), *together]]
    # It computes calls again, and compares a reward's means, not draws. The gradient is that of a frozen reward, to the
    # last digits: it comes before bf16, which rounds it.
    lean = "+".join(["lean", *(switch for switch in spec.split("+")[1:] if _as_released(LEAN, switch))])
    tried += [lean, *([f"{lean}+{ROUNDED}"] if _as_released(profile(lean), ROUNDED) else [])]
    return [other for other in tried if profile(other) != profile(spec)]


def _as_released(of: Profile, switch: str) -> bool:
    name = switch.partition("=")[0]
    return getattr(of, name) == getattr(Profile(), name)


class Levers:
    """What each profile would need, predicted from one simulation for all methods."""

    def __init__(self, budget: Budget, simulator: Simulator, *, quick: bool) -> None:
        """`quick`: without bf16, whose simulation takes ten times as long."""
        self._budget = budget
        self._simulator = simulator
        self._quick = quick

    def begin(self, cases: dict[Case, Forecast]) -> None:
        """Starts the simulations that `best` will ask for first, so that no core idles until then."""
        self._simulator.add(draws.stand_in(levers[0].case) for levers in self._likely(cases).values() if levers)

    def best(self, cases: dict[Case, Forecast]) -> dict[Case, Lever | None]:
        """For each case the first profile that makes it fit, if there is one; a profile that cannot be simulated is
        none."""
        if not self._quick:
            self.begin(cases)
        sure = self._fitting if self._quick else self._confirmed
        return {case: next(filter(None, map(sure, levers)), None) for case, levers in self._likely(cases).items()}

    def _likely(self, cases: dict[Case, Forecast]) -> dict[Case, list[Lever]]:
        """For each case the profiles that are predicted to make it fit, or nearly, in order."""
        likely: dict[Case, list[Lever]] = {case: [] for case in cases}
        first = next(iter(cases), None)
        tried = candidates(first.profile) if first else []
        if self._quick:
            tried = [spec for spec in tried if profile(spec).precision == "fp32"]
        for number, spec in enumerate(tried):
            if all(any(map(self._fitting, levers)) for levers in likely.values()):
                break
            # bf16 takes long to simulate, so that it waits until nothing else helps.
            alike = [other for other in tried[number:] if profile(other).precision == profile(spec).precision]
            self._simulator.read(self._probe(case, other) for case in cases for other in alike)
            for case, forecast in cases.items():
                with contextlib.suppress(SimulationError):
                    lever = self._predicted(case, forecast, spec)
                    if self._budget.needs(lever.case, lever.reserved) <= (1 + NEAR) * self._budget.size:
                        likely[case].append(lever)
        return likely

    def _fitting(self, lever: Lever) -> Lever | None:
        return lever if self._budget.fits(lever.case, lever.reserved) else None

    def _confirmed(self, lever: Lever) -> Lever | None:
        small = draws.stand_in(lever.case)
        try:
            memory = Memory.of(self._simulator.reading(small))
        except SimulationError:
            return None
        return self._fitting(
            replace(lever, peak=memory.peak, reserved=memory.reserved, confirmed=True, simulated_steps=small.steps)
        )

    def _probe(self, case: Case, spec: str) -> Case:
        return replace(reference(case, 2, case.batch, case.frames), profile=spec)

    def _predicted(self, case: Case, forecast: Forecast, spec: str) -> Lever:
        """DRaFT-2 under the profile, with as many calls as the method holds, and what the method has beyond DRaFT."""
        reading = self._simulator.reading(self._probe(case, spec))
        # A little too much under bf16, whose rounded weights are kept once for all calls.
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
