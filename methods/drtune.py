"""DRTune: deep reward tuning (Wu et al., ECCV 2024, arXiv 2405.00760).

The gradient is stopped at the denoiser's input, so x_0 depends on the K trained steps through the sampler's linear
terms alone; the trajectory may stop early, at a one-step prediction. ∂x_t/∂θ of every trained step is still kept until
the end: memory grows with K.
"""

import random
from dataclasses import dataclass

from methods.errors import InputError
from methods.plan import Plan, Score, Step, trajectory

VARIANTS = ("paper", "released")


@dataclass(frozen=True)
class DRTune:
    """DRTune. At most K denoiser calls are held; fewer when the trajectory stops before the last trained step."""

    k: int = 10
    """Trained steps, equally spaced by ⌊T/k⌋."""
    m: int = 1
    """Early stop: the trajectory ends, at x̂_0, at a random one of its last m steps; 1 never stops early."""
    variant: str = "paper"
    """paper: the spacing's offset is uniform over every value that fits K steps, and the stop over all m last steps.
    released: EasyTune's code, whose offset is drawn from 0..T - k⌊T/k⌋ (so always 0 where k divides T) and which never
    stops at the first of the m steps (so m must be at least 2)."""

    def plan(self, steps: int, rng: random.Random) -> Plan:
        if self.variant not in VARIANTS:
            raise InputError(f"drtune: unknown variant {self.variant!r}: choose one of {', '.join(VARIANTS)}")
        if not 1 <= self.k <= steps:
            raise InputError(f"drtune: k must be between 1 and the {steps} denoising steps, not {self.k}")
        least = 1 if self.variant == "paper" else 2
        if not least <= self.m <= steps:
            raise InputError(f"drtune: m must be between {least} and the {steps} denoising steps, not {self.m}")
        stride = steps // self.k
        while True:
            # Offset first, then stop: the released order, so that its published draws can be checked.
            offsets = steps - 1 - (self.k - 1) * stride if self.variant == "paper" else steps - self.k * stride
            offset = rng.randint(0, offsets)
            stop = rng.randint(steps - self.m + least - 1, steps - 1)
            # A trajectory that stopped before its first trained step would have no gradient at all.
            if offset <= stop:
                return drtune_steps(range(offset, offset + self.k * stride, stride), stop, steps)


def drtune_steps(trained: range, stop: int, steps: int) -> Plan:
    """The plan for given trained steps and a given last step, whose one-step prediction is scored."""
    return trajectory(
        steps,
        (
            Step(
                i,
                record=i in trained,
                stop_input=True,
                score=Score.X0_HAT if i == stop else None,
                update=i == stop,
            )
            for i in range(stop + 1)
        ),
    )
