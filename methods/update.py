"""One optimiser step: clip, check, step, zero."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from methods.errors import InputError
from methods.parallel import Share
from methods.sharding import whole


class RewardError(InputError):
    """A reward or its gradient cannot be used; no weight was changed by the update that raised it."""


@dataclass
class Updater:
    """Applies the gradients of a denoiser: gradient clipping, optimiser step, schedule, zero_grad."""

    optimizer: torch.optim.Optimizer
    clip: float = 1.0
    """Largest gradient norm (as released: 1.0); math.inf for none."""
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None
    """Stepped once per optimiser step, as released."""
    check_finite: bool = True
    """Refuse a reward or gradient that is not finite. Costs one device synchronisation an update, and needs real data
    (a simulated run turns it off)."""
    share: Share | None = None
    """Of the batch, where several ranks have one each: gradients are averaged over them before they are clipped."""

    def apply(self, rewards: list[Tensor]) -> Tensor:
        """Steps the optimiser on the gradients at hand and clears them; returns their norm before clipping.

        RewardError, with the optimiser, the schedule and the weights untouched and the gradients cleared, when one of
        `rewards` (the `[B]` rewards behind these gradients) or the gradient norm is not finite.
        """
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        if self.share is not None:
            rewards = [self.share.exchange(parameters, rewards)]  # all ranks refuse, or none
        norm = whole(nn.utils.clip_grad_norm_(parameters, self.clip))
        try:
            if self.check_finite:
                self._refuse_not_finite(rewards, norm)
            self.optimizer.step()
            # A scope of autocast that the caller has open keeps copies of the weights, cast before this step.
            torch.clear_autocast_cache()
            if self.schedule is not None:
                self.schedule.step()
        finally:
            self.optimizer.zero_grad()
        return norm

    @staticmethod
    def _refuse_not_finite(rewards: list[Tensor], norm: Tensor) -> None:
        finite = torch.stack([torch.stack([r.detach().double().sum() for r in rewards]).sum(), norm.double()]).tolist()
        if not math.isfinite(finite[0]):
            raise RewardError(
                "the reward is not finite (NaN or inf): the update is refused, the weights are as before it"
            )
        if not math.isfinite(finite[1]):
            raise RewardError(
                "the gradient is not finite although the reward is: the update is refused, the weights are as before it"
            )
