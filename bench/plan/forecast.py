"""The law behind a peak, from a few small simulations.

The peak of each phase is, wherever activations dominate, fixed bytes (weights, optimiser state) and bytes a sample;
those are affine in the denoiser calls held and quadratic in the frames (explicit attention in decode and reward, and of
a model of raw motion in the denoiser: a further call grows by the frames as the rollout with one does). It does not
depend on the denoising steps beyond the calls that they hold, so all probes run at the fewest steps. Where motions are
scored in pieces, frames count for the motions of one piece alone, and in a batch of many pieces scoring needs less than
the denoiser's backward: the larger of the two is the peak. The law is fitted once, on DRaFT; what another method has
beyond it (a copy of the denoiser, a state) is read from one probe of that method. What the allocator reserves beyond
the peak follows no law: the forecast takes the larger share of the two probes that are nearest in size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.cases import Case
from bench.plan import draws
from bench.plan.memory import Memory
from bench.plan.simulator import Simulator
from bench.profiles import profile
from methods.rollout import PHASES

PROBE_BATCHES = (128, 512)
"""Large enough for the activations to dominate every phase but the optimiser's."""
PROBE_PIECES = (16, 1), (128, 256)
"""The same in pieces, where motions are scored in some: two with the peak in scoring, and two with it in the denoiser's
backward, which needs a thirtieth to a seventieth of what scoring needs a motion."""
PROBE_FRAMES = (60, 196, 400)
"""Two of these, besides the frames that were asked for; fewer in proportion where the models take no 400."""


@dataclass(frozen=True)
class Line:
    """Bytes of a batch: `fixed`, and so many a `sample`."""

    fixed: float = 0.0
    sample: float = 0.0

    @classmethod
    def through(cls, one: tuple[int, float], other: tuple[int, float]) -> "Line":
        """The line through two points, each a batch and its bytes."""
        sample = (other[1] - one[1]) / (other[0] - one[0])
        return cls(one[1] - one[0] * sample, sample)

    def __call__(self, batch: int) -> float:
        return self.fixed + batch * self.sample


@dataclass(frozen=True)
class Law:
    """Peak of one phase in the setting of the probes."""

    scoring: Line
    """With one call held, without what depends on the frames."""
    denoising: Line
    """With three calls held, in a batch of many pieces: what the first two add is not what a call adds (2% under
    `lean`, where autograd stops at the weights with one). Nothing where the batch is one piece."""
    call: tuple[float, ...]
    """Bytes a sample that each further held call adds, then a frame and a squared frame."""
    linear: float
    square: float
    """Bytes of each motion that is scored at once, a frame and a squared frame."""
    piece: int
    """Motions scored at once; 0: the batch."""

    def __call__(self, held: int, batch: int, frames: int) -> float:
        scored = scored_at_once(self.piece, batch) * (frames * self.linear + frames**2 * self.square)
        call = sum(part * frames**power for power, part in enumerate(self.call))
        scoring = self.scoring(batch) + scored + batch * (held - 1) * call
        return max(scoring, self.denoising(batch) + batch * max(held - 3, 0) * call)


def scored_at_once(piece: int, batch: int) -> int:
    return min(piece or batch, batch)


def reference(case: Case, held: int, batch: int, frames: int) -> Case:
    """A probe of the law in the setting of `case`: DRaFT holding a few calls, in few steps."""
    return replace(case, method=f"draft:k={held}", steps=max(2, held), batch=batch, frames=frames, seed=0)


@dataclass(frozen=True)
class Forecast:
    """A method's predicted peaks at any scale."""

    laws: dict[str, Law]
    """By phase (methods.rollout.PHASES)."""
    beyond: dict[str, float]
    """Bytes that the method has beyond the law, by phase."""
    probes: Sequence[Memory]
    """The simulations behind it."""

    def at(self, held: int, batch: int, frames: int) -> Memory:
        """The method at this scale."""
        phases = {phase: round(law(held, batch, frames) + self.beyond[phase]) for phase, law in self.laws.items()}
        peak = max(phases.values())
        nearest = sorted(self.probes, key=lambda probe: abs(math.log(probe.peak / peak)))[:2]
        return Memory(phases, round(peak * max(probe.reserved / probe.peak for probe in nearest)))

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
    return [*_reference_probes(cases[0]).values(), *map(_method_probe, cases)]


def predict(case: Case, simulator: Simulator) -> Forecast:
    """The forecast for a case's method; SimulationError if a probe gives no figure."""
    laws, probe = fit(case, simulator), _method_probe(case)
    phases = simulator.reading(probe).phases
    beyond = {phase: phases[phase] - law(draws.held(probe), probe.batch, probe.frames) for phase, law in laws.items()}
    return Forecast(laws, beyond, [Memory.of(simulator.reading(probe)) for probe in probes([case])])


def _method_probe(case: Case) -> Case:
    return replace(draws.surrogate(case), batch=_batches(case)[0][0])


def _batches(case: Case) -> list[list[int]]:
    """Batches of the probes of scoring, the first of which is the one that others are compared with; of denoising."""
    piece = profile(case.profile).score
    return [[piece * pieces for pieces in pair] for pair in PROBE_PIECES] if piece else [[*PROBE_BATCHES], []]


def _reference_probes(case: Case) -> dict[tuple[int, int, int], Case]:
    """The law's probes, by (held, batch, frames): one a batch, one more call, two other frame counts."""
    scoring, denoising = _batches(case)
    share = min(1, case.most_frames / max(PROBE_FRAMES))
    lengths = (max(1, round(share * frames)) for frames in PROBE_FRAMES)
    others = sorted(lengths, key=lambda frames: abs(frames - case.frames))[1:]
    scales = [(1, batch, case.frames) for batch in scoring] + [(3, batch, case.frames) for batch in denoising]
    one_more = (4, denoising[-1], case.frames) if denoising else (2, scoring[0], case.frames)
    scales += [one_more, *((1, scoring[0], frames) for frames in others)]
    return {scale: reference(case, *scale) for scale in scales}


def fit(case: Case, simulator: Simulator) -> dict[str, Law]:
    """The law in the setting of `case`, by phase; SimulationError if a probe gives no figure."""
    scales = {scale: simulator.reading(probe).phases for scale, probe in _reference_probes(case).items()}
    piece, frames, few = profile(case.profile).score, case.frames, _batches(case)[0][0]
    *batches, (one_more, called), near, far = scales.items()
    held, many, _ = one_more
    laws: dict[str, Law] = {}
    for phase in PHASES:  # the rollout first, whose growth is that of a call
        base = batches[0][1][phase]
        # Through the two other frame counts: linear d + square d² is what each adds a motion.
        (d, y), (e, z) = (
            (scale[2] - frames, (at[phase] - base) / scored_at_once(piece, few)) for scale, at in (near, far)
        )
        square = (z / e - y / d) / (e - d)
        linear = y / d - square * (d + 2 * frames)
        motion = frames * linear + frames**2 * square
        scoring = [(n, at[phase] - scored_at_once(piece, n) * motion) for (_, n, _), at in batches[:2]]
        denoising = [(n, float(at[phase])) for (_, n, _), at in batches[2:]]
        line = Line.through(*scoring)
        call = (called[phase] - scales[held - 1, many, frames][phase]) / many
        if not laws:
            parts = (1.0, 0.0, 0.0) if piece else (line.sample, linear, square)
            whole = sum(part * frames**power for power, part in enumerate(parts))
        laws[phase] = Law(
            scoring=line,
            denoising=Line.through(*denoising) if denoising else Line(),
            call=tuple(call * part / whole for part in parts),
            linear=linear,
            square=square,
            piece=piece,
        )
    return laws
