"""ReFL: reward feedback learning (Xu et al., ImageReward, NeurIPS 2023, arXiv 2304.05977).

One step near the end is trained: no gradient before it, and its one-step prediction x̂_0 is scored. As in EasyTune's
comparison the objective is the reward itself; ImageReward's hinge relu(2 - r) has the same gradient (up to its factor
1e-3) for a reward below 2, and its pre-training loss is in neither released code.
"""

import random
from dataclasses import dataclass

from methods.errors import InputError
from methods.plan import Plan, Score, Step, trajectory

VARIANTS = ("paper", "released")


@dataclass(frozen=True)
class ReFL:
    """ReFL. One denoiser call is held."""

    m: int = 10
    """The trained step is a random one of the last m."""
    variant: str = "paper"
    """paper: any of the last m steps; released: EasyTune's code, which leaves out the first of them (m at least 2)."""

    def plan(self, steps: int, rng: random.Random) -> Plan:
        if self.variant not in VARIANTS:
            raise InputError(f"refl: unknown variant {self.variant!r}: choose one of {', '.join(VARIANTS)}")
        least = 1 if self.variant == "paper" else 2
        if not least <= self.m <= steps:
            raise InputError(f"refl: m must be between {least} and the {steps} denoising steps, not {self.m}")
        return refl_steps(rng.randint(steps - self.m + least - 1, steps - 1), steps)


def refl_steps(stop: int, steps: int) -> Plan:
    """The plan whose only trained step is `stop`."""
    before = (Step(i) for i in range(stop))
    return trajectory(steps, (*before, Step(stop, record=True, cut=True, score=Score.X0_HAT, update=True)))
