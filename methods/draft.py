"""DRaFT: direct reward fine-tuning (Clark et al., ICLR 2024, arXiv 2309.17400).

The reward of x_0 is backpropagated through the last K denoising steps; DRaFT-K with K = T is full backpropagation.
DRaFT-LV lowers the variance of K = 1 by noising x_0 again n times and averaging the last step's gradients.
"""

import random
from dataclasses import dataclass

from methods.errors import InputError
from methods.plan import Plan, Score, Step, trajectory


@dataclass(frozen=True)
class DRaFT:
    """DRaFT-K. The graphs of K denoiser calls are held at once."""

    k: int = 0
    """Steps that gradients flow through; 0 means all T (DRaFT, written DRaFT-T)."""

    def plan(self, steps: int, rng: random.Random) -> Plan:
        if not 0 <= self.k <= steps:
            raise InputError(f"draft: k must be between 1 and the {steps} denoising steps (0 for all), not {self.k}")
        return last_steps(self.k or steps, steps)


@dataclass(frozen=True)
class DRaFTLV:
    """DRaFT-LV: n noisings of x_0 to the last step's noise level, each scored after that step; gradients averaged.

    The graphs live one after the other, so memory is that of DRaFT-1.
    """

    n: int = 2
    """Noisings a trajectory (the paper uses 2)."""

    def plan(self, steps: int, rng: random.Random) -> Plan:
        if self.n < 1:
            raise InputError(f"draft-lv: n must be at least 1, not {self.n}")
        last = steps - 1
        again = (
            Step(last, record=True, renoise=True, score=Score.X0, weight=1 / self.n, update=i == self.n - 1)
            for i in range(self.n)
        )
        return trajectory(steps, (*(Step(i) for i in range(steps)), *again))


def last_steps(k: int, steps: int) -> Plan:
    """Full backpropagation through the last `k` of `steps`, nothing before: DRaFT-K, and a truncated AlignProp."""
    first = steps - k
    last = steps - 1
    return trajectory(
        steps,
        (
            Step(i, record=i >= first, cut=i == first, score=Score.X0 if i == last else None, update=i == last)
            for i in range(steps)
        ),
    )
