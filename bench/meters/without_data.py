"""Operations on tensors without data (meta or fake ones) whose results would hold other memory with data."""

from collections.abc import Callable

import torch
from torch import Tensor

REDUCTION: dict[Callable, int] = {
    torch.ops.aten.smooth_l1_loss.default: 2,
    torch.ops.aten.mse_loss.default: 2,
    torch.ops.aten.soft_margin_loss.default: 2,
    torch.ops.aten.binary_cross_entropy.default: 3,
}
"""Losses that on a device compute every element in the memory of their result, reduce it there and hand out a scalar of
that memory; and where among their arguments the reduction is. Without data the result is a scalar of its own."""
NONE, MEAN = 0, 1


def execute(func: Callable, args: tuple, kwargs: dict):
    """Runs an operation, with the memory that its results would hold with data."""
    position = REDUCTION.get(func)
    if position is None:
        return func(*args, **kwargs)
    args = args + (None, MEAN)[len(args) - position - 1 :] if len(args) <= position else args
    if args[position] == NONE:
        return func(*args, **kwargs)
    elements: Tensor = func(*args[:position], NONE, *args[position + 1 :], **kwargs)
    return elements.as_strided((), ())
