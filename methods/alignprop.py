"""AlignProp (Prabhudesai et al. 2023, arXiv 2310.03739): backpropagation through a random number of last steps.

The paper draws one truncation point a trajectory. EasyTune's code for AlignProp keeps instead each step's denoiser call
in the graph independently with a probability; it can be had as `truncation=bernoulli`.
"""

import random
from dataclasses import dataclass

from methods.draft import last_steps
from methods.errors import InputError
from methods.plan import Plan, Score, Step, trajectory

TRUNCATIONS = ("uniform", "gaussian", "fixed", "bernoulli")


@dataclass(frozen=True)
class AlignProp:
    """AlignProp. How many denoiser calls are held is random, except for `fixed`."""

    truncation: str = "uniform"
    """uniform: K from 1 to T, evenly (paper); gaussian: the cut s is int(N(0.84 T, 0.1 T)), drawn again until
    1 <= s <= T - 1 (N(42, 5) at T = 50, the original code's default); fixed: always the same K; bernoulli: EasyTune's
    released variant, in which a step left out still passes gradient along x_t, only not through the denoiser."""
    k: int = 0
    """For fixed: the last steps that gradients flow through (the cut is s = T - k); 0 means half of them."""
    p: float = 0.1
    """For bernoulli: probability of a step to be kept; a draw without any step is drawn again."""

    def plan(self, steps: int, rng: random.Random) -> Plan:
        if self.truncation == "fixed":
            if not 0 <= self.k <= steps:
                raise InputError(
                    f"alignprop: k must be between 1 and the {steps} denoising steps (0 for half), not {self.k}"
                )
            return last_steps(self.k or max(1, steps // 2), steps)
        if self.truncation == "uniform":
            return last_steps(rng.randint(1, steps), steps)
        if self.truncation == "gaussian":
            if steps < 2:
                raise InputError("alignprop: gaussian truncation needs at least 2 denoising steps")
            cut = 0
            while not 1 <= cut <= steps - 1:
                cut = int(rng.gauss(0.84 * steps, 0.1 * steps))
            return last_steps(steps - cut, steps)
        if self.truncation == "bernoulli":
            return bernoulli_steps(self._kept(steps, rng), steps)
        raise InputError(f"alignprop: unknown truncation {self.truncation!r}: choose one of {', '.join(TRUNCATIONS)}")

    def _kept(self, steps: int, rng: random.Random) -> frozenset[int]:
        if not 0.001 <= self.p <= 1:
            raise InputError(f"alignprop: p must be between 0.001 and 1, not {self.p}")
        kept: frozenset[int] = frozenset()
        while not kept:
            kept = frozenset(i for i in range(steps) if rng.random() < self.p)
        return kept


def bernoulli_steps(kept: frozenset[int], steps: int) -> Plan:
    """The plan of one Bernoulli outcome: the steps in `kept` record a graph, and the state is never cut."""
    last = steps - 1
    return trajectory(
        steps,
        (Step(i, record=i in kept, score=Score.X0 if i == last else None, update=i == last) for i in range(steps)),
    )
