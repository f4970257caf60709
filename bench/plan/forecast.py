"""The law behind a peak, from a few small simulations.

The peak of each phase is, wherever activations dominate, fixed bytes (weights, optimiser state) and bytes a sample;
those are affine in the denoiser calls held and quadratic in the frames (explicit attention in decode and reward, and of
a model of raw motion in the denoiser: a further call grows by the frames as the rollout with one does). It does not
depend on the denoising steps beyond the calls that they hold, so all probes run at the fewest steps. The law is fitted
once, on DRaFT; what another method has beyond it (a copy of the denoiser, a state) is read from one probe of its own.
What the allocator reserves beyond the peak follows no law: the forecast takes the largest share of the probes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.cases import Case
from bench.plan import draws
from bench.plan.memory import Memory
from bench.plan.simulator import Simulator
from methods.rollout import PHASES

PROBE_BATCHES = (128, 512)
"""Large enough for the activations to dominate every phase but the optimiser's."""
PROBE_FRAMES = (60, 196, 400)
"""Two of these, besides the frames that were asked for; fewer in proportion where the models take no 400."""


@dataclass(frozen=True)
class Law:
    """Peak of one phase in the setting of the probes: `fixed` + batch × bytes a sample."""

    fixed: float
    sample: float
    """Bytes a sample with one call held, at `frames`."""
    call: float
    """Bytes a sample that each further held call adds, at `frames`."""
    call_linear: float
    call_square: float
    """What that grows by, as `linear` and `square`."""
    linear: float
    square: float
    """Bytes a sample by frames beyond `frames`, and by their square."""
    frames: int

    def __call__(self, held: int, batch: int, frames: int) -> float:
        beyond = frames - self.frames
        call = self.call + beyond * self.call_linear + beyond**2 * self.call_square
        return self.fixed + batch * (self.sample + beyond * self.linear + beyond**2 * self.square + (held - 1) * call)


def reference(case: Case, held: int, batch: int, frames: int) -> Case:
    """A probe of the law in the setting of `case`: DRaFT holding one call or two, in two steps."""
    return replace(case, method=f"draft:k={held}", steps=2, batch=batch, frames=frames, seed=0)


@dataclass(frozen=True)
class Forecast:
    """A method's peaks at any scale, foretold."""

    laws: dict[str, Law]
    """By phase (methods.rollout.PHASES)."""
    beyond: dict[str, float]
    """Bytes that the method has beyond the law, by phase."""
    share: float
    """Reserved bytes over live ones: the most of the probes."""

    def at(self, held: int, batch: int, frames: int) -> Memory:
        """The method at this scale."""
        phases = {phase: round(law(held, batch, frames) + self.beyond[phase]) for phase, law in self.laws.items()}
        return Memory(phases, round(self.share * max(phases.values())))

    def of(self, case: Case) -> Memory:
        """A case of this method, in the setting that the law was fitted in."""
        return self.at(draws.held(case), case.batch, case.frames)

    def excess(self, case: Case) -> int:
        """What the method's peak has beyond DRaFT's with as many calls held."""
        return self.of(case).peak - round(
            max(law(draws.held(case), case.batch, case.frames) for law in self.laws.values())
        )


def probes(cases: Sequence[Case]) -> list[Case]:
    """All that is simulated for the forecasts of `cases`, which share backbone, frames and profile."""
    return [*_reference_probes(cases[0]).values(), *map(_own_probe, cases)]


def foretell(case: Case, simulator: Simulator) -> Forecast:
    """The forecast for a case's method; SimulationError if a probe gives no figure."""
    laws, own = fit(case, simulator), _own_probe(case)
    phases = simulator.reading(own).phases
    beyond = {phase: phases[phase] - law(draws.held(own), own.batch, own.frames) for phase, law in laws.items()}
    readings = [simulator.reading(probe) for probe in probes([case])]
    return Forecast(laws, beyond, max(Memory.of(reading).reserved / reading.peak for reading in readings))


def _own_probe(case: Case) -> Case:
    return replace(draws.surrogate(case), batch=PROBE_BATCHES[0])


def _reference_probes(case: Case) -> dict[tuple[int, int, int], Case]:
    """The law's five probes, by (held, batch, frames); the first is the one that the others are compared with."""
    few, many = PROBE_BATCHES
    share = min(1, case.most_frames / max(PROBE_FRAMES))
    lengths = (max(1, round(share * frames)) for frames in PROBE_FRAMES)
    near, far = sorted(lengths, key=lambda frames: abs(frames - case.frames))[1:]
    scales = [(1, few, case.frames), (1, many, case.frames), (2, few, case.frames), (1, few, near), (1, few, far)]
    return {scale: reference(case, *scale) for scale in scales}


def fit(case: Case, simulator: Simulator) -> dict[str, Law]:
    """The law in the setting of `case`, by phase; SimulationError if a probe gives no figure."""
    scales = {scale: simulator.reading(probe).phases for scale, probe in _reference_probes(case).items()}
    (few, many), frames = PROBE_BATCHES, case.frames
    (base, more, called, near, far), lengths = scales.values(), [scale[2] for scale in scales][3:]
    laws: dict[str, Law] = {}
    for phase in PHASES:  # the rollout first, whose growth is that of a call
        sample = (more[phase] - base[phase]) / (many - few)
        # Through the two other frame counts: linear d + square d² is what each adds a sample.
        (d, e), (y, z) = [n - frames for n in lengths], [(at[phase] - base[phase]) / few for at in (near, far)]
        square = (z / e - y / d) / (e - d)
        linear = y / d - square * d
        call = (called[phase] - base[phase]) / few
        one = laws.get("rollout", Law(0, sample, call, 0, 0, linear, square, frames))
        laws[phase] = Law(
            fixed=base[phase] - few * sample,
            sample=sample,
            call=call,
            call_linear=call * one.linear / one.sample,
            call_square=call * one.square / one.sample,
            linear=linear,
            square=square,
            frames=frames,
        )
    return laws
