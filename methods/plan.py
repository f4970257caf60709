"""A method, written as data: what happens at each denoising step of one trajectory.

Step indices count forward in sampling: i = 0 is the noisiest step, i = T - 1 the last. In the papers' notation
(t counts down from T to 1) i = T - t.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Score(StrEnum):
    """What the reward reads after a step."""

    X0 = "x0"
    """The end of the trajectory, decoded."""
    X0_HAT = "x0_hat"
    """The one-step prediction of x_0 made at this step, decoded."""
    NOISY = "noisy"
    """The next state x_{i+1} itself, decoded, with its timestep: needs a noise-aware reward."""


@dataclass(frozen=True)
class Step:
    """One denoiser call and what follows it."""

    index: int
    """Forward index of the denoising step."""
    record: bool = False
    """The denoiser call records a graph; otherwise it runs without one (its output counts as a constant)."""
    cut: bool = False
    """The whole state is detached before the step: no gradient reaches what came earlier."""
    stop_input: bool = False
    """The denoiser's input alone is detached; the state still carries gradient past the denoiser (DRTune)."""
    renoise: bool = False
    """The state is first replaced by fresh noise added to the (detached) end of the trajectory (DRaFT-LV)."""
    score: Score | None = None
    """What is scored after this step, if anything."""
    weight: float = 1.0
    """Factor of this score in the objective."""
    update: bool = False
    """An optimiser step follows."""


@dataclass(frozen=True)
class Plan:
    """The steps of one trajectory, in order; steps after the last one are not run.

    ValueError, however it is made, for one that cannot be run: a step outside the trajectory, a score that no recorded
    denoiser call leads to, or an optimiser step without a score, within a segment or missing at the end.
    """

    steps: tuple[Step, ...]
    total: int
    """T, the number of denoising steps of the sampler (the plan may stop earlier)."""
    delayed: bool = False
    """The trajectory is sampled with the weights it began with although updates happen on the way (EasyTune's released
    "chain" code: one more copy of the denoiser)."""

    def __post_init__(self) -> None:
        if any(not 0 <= step.index < self.total for step in self.steps):
            raise ValueError(f"a plan's step lies outside 0..{self.total - 1}")
        unstepped = 0
        for segment in self.segments():
            recorded = False
            for step in segment:
                recorded |= step.record
                unstepped += step.score is not None
                if step.score is not None and not recorded:
                    raise ValueError("a plan scores a state that no recorded denoiser call leads to")
                if step.update and not unstepped:
                    raise ValueError("an optimiser step needs a score since the last one")
                if step.update and step is not segment[-1]:
                    raise ValueError("an optimiser step must end its segment: cut the state after it")
                unstepped *= not step.update
        if not self.steps or not self.steps[-1].update:
            raise ValueError("a plan must end in an optimiser step")

    @property
    def updates(self) -> int:
        """Optimiser steps in one trajectory."""
        return sum(step.update for step in self.steps)

    @property
    def scores(self) -> int:
        """Reward evaluations in one trajectory."""
        return sum(step.score is not None for step in self.steps)

    @property
    def recorded(self) -> int:
        """Denoiser calls that record a graph."""
        return sum(step.record for step in self.steps)

    @property
    def held(self) -> int:
        """The most denoiser calls whose graphs are alive at once: what sets a method's memory apart.

        A graph lives until the backward pass that ends its segment; segments end where the state is cut.
        """
        return max((sum(step.record for step in segment) for segment in self.segments()), default=0)

    def segments(self) -> list[tuple[Step, ...]]:
        """Runs of steps that gradients can cross: each begins where the state is cut off from what came before."""
        segments: list[list[Step]] = []
        for step in self.steps:
            if step.cut or step.renoise or not segments:
                segments.append([])
            segments[-1].append(step)
        return [tuple(segment) for segment in segments]

    def grid(self) -> str:
        """The plan as one character a step, for records and drawings.

        `.` no graph, `o` graph with the denoiser's input detached, `#` graph, `S`/`U` the same where a score / a score
        and an optimiser step follow (`s`/`u` when the call itself recorded no graph); `|` before a step that records a
        graph marks a cut, `~` a fresh noising.
        """
        cells = []
        for step in self.steps:
            if step.renoise:
                cells.append("~")
            elif step.cut and step.record:
                cells.append("|")
            if step.score is None:
                cells.append(("o" if step.stop_input else "#") if step.record else ".")
            else:
                mark = "U" if step.update else "S"
                cells.append(mark if step.record else mark.lower())
        return "".join(cells)


def trajectory(total: int, steps: Iterable[Step], *, delayed: bool = False) -> Plan:
    """A plan of `steps` out of `total`; errors as of Plan."""
    return Plan(tuple(steps), total, delayed)
