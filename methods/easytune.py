"""EasyTune (Tan et al., ICLR 2026, arXiv 2602.07967): every denoising step is optimised by itself.

Step-wise (the method, Corollary 2): the state is cut before each optimised step, that step's prediction is scored, and
an optimiser step follows, so one denoiser call is held whatever T is.

Chain (the paper's ablation): the chain is kept and the reward is step-wise, one optimiser step on the sum at the end.
"""

import random
from dataclasses import dataclass

from methods.errors import InputError
from methods.plan import Plan, Score, Step, trajectory
from methods.samplers import Sampler

MODES = ("step", "chain", "chain-released")
SCORES = {"x0-hat": Score.X0_HAT, "noisy": Score.NOISY}


@dataclass(frozen=True)
class EasyTune:
    """EasyTune over a window of steps: one optimiser step for each of them."""

    mode: str = "step"
    """step: the method. chain: the ablation as described above, which holds every call of the window. chain-released:
    what the released code calls chain, the step-wise gradients taken along a trajectory of the weights it began with
    (one more copy of the denoiser)."""
    score: str = "x0-hat"
    """x0-hat: the one-step prediction (ODE samplers); noisy: the next state, by a noise-aware reward."""
    first: int = 0
    """First optimised step, counted forward."""
    last: int = -1
    """Last optimised step; negative counts from the end. Steps after it are not run."""

    def plan(self, steps: int, rng: random.Random) -> Plan:
        if self.mode not in MODES:
            raise InputError(f"easytune: unknown mode {self.mode!r}: choose one of {', '.join(MODES)}")
        if self.score not in SCORES:
            raise InputError(f"easytune: unknown score {self.score!r}: choose one of {', '.join(SCORES)}")
        last = self.last if self.last >= 0 else steps + self.last
        first = self.first if self.first >= 0 else steps + self.first
        if not 0 <= first <= last < steps:
            raise InputError(
                f"easytune: the window from step {self.first} to {self.last} is empty or outside the {steps} steps"
            )
        chained = self.mode == "chain"
        optimised = (
            Step(
                i,
                record=True,
                cut=not chained or i == first,
                score=SCORES[self.score],
                update=not chained or i == last,
            )
            for i in range(first, last + 1)
        )
        before = (Step(i) for i in range(first))
        return trajectory(steps, (*before, *optimised), delayed=self.mode == "chain-released")


def caveat(plan: Plan, sampler: Sampler) -> str:
    """What EasyTune's theory has against a plan on a sampler, in a sentence; empty where it has nothing.

    On an ODE the one-step prediction of every step may be scored, since the rest of the trajectory follows from it. An
    SDE still adds noise that the prediction does not have: there the noisy state is scored. Methods that score one
    prediction (ReFL, DRTune) are defined on either.
    """
    if sampler.stochastic and sum(step.score is Score.X0_HAT for step in plan.steps) > 1:
        return "x̂_0 of every step is scored, which assumes an ODE, but the sampler draws noise: use score=noisy"
    return ""
