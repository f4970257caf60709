"""What a rollout may do to hold less memory: score in pieces, compute again instead of keeping.

The gradient stays what it is, for every plan; only when and how often something is computed changes. No method knows
of it.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from methods import generators
from methods.errors import InputError
from methods.interface import Backbone, Batch, Reward
from methods.plan import Plan

SAME = 1e-2
"""Share of an output's norm by which the same call may differ when it is computed again: kernels of a GPU need not add
in the same order twice."""

Predict = Callable[[Tensor, float, Batch], Tensor]
"""Backbone.predict as it is called."""


@dataclass(frozen=True)
class Piece:
    """Motions that are decoded and scored together."""

    rows: slice | Tensor | None = None
    """Where they are in the batch; None: the batch as it is."""
    frames: int | None = None
    """As long as they are taken to be; None: as the batch is."""
    share: float = 1.0
    """Of the batch's motions."""

    def of(self, whole: Tensor) -> Tensor:
        """The rows of a `[B, ...]` tensor. The batch as it is stays the same object: even a view of it would change
        what attention takes for one and the same query and key."""
        return whole if self.rows is None else whole[self.rows]

    def inputs(self, batch: Batch) -> Batch:
        """What belongs to these motions: views of it where rows follow each other, else copies."""
        return batch if self.rows is None else batch.rows(self.rows, self.frames)


@dataclass(frozen=True)
class Savings:
    """The levers of a rollout, each with what it costs. By default none is pulled."""

    score: int = 0
    """Motions decoded and scored at once, 0 for the whole batch. Small pieces keep a GPU less busy."""
    crop: bool = False
    """Pieces are made of motions of like length, each as long as its longest motion. Looks at the lengths once a
    trajectory."""
    recompute: bool = False
    """A recorded denoiser call keeps its input alone and runs once more in the backward pass: one forward more."""
    kept: int = 0
    """Calls of each segment, its last ones, that keep their graph although the others are computed again."""
    encode_once: bool = False
    """The prompts are encoded for the reward once a trajectory (Reward.encode_prompts), without gradients: for a frozen
    reward that draws nothing for its text."""

    def __post_init__(self) -> None:
        for name in ("score", "kept"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must be 0 or more, not {getattr(self, name)}")

    def pieces(self, batch: Batch) -> list[Piece]:
        """The batch in pieces of at most `score` motions, the last of what is left over; cropped ones begin with the
        longest, so that the memory of the first serves all."""
        size = min(self.score or len(batch), len(batch))
        if self.crop:
            lengths = _lengths(batch.frame_mask)
            order = sorted(range(len(batch)), key=lambda row: -lengths[row])
        elif size == len(batch):
            return [Piece()]
        pieces = []
        for first in range(0, len(batch), size):
            last = min(first + size, len(batch))
            rows: slice | Tensor = slice(first, last)
            if self.crop and order[rows] != list(range(first, last)):
                rows = torch.tensor(order[rows], device=batch.frame_mask.device)
            frames = lengths[order[first]] if self.crop else None
            pieces.append(Piece(rows, frames, (last - first) / len(batch)))
        return pieces

    def recomputed(self, plan: Plan) -> list[bool]:
        """For each step of the plan, in order, whether its denoiser call is computed again in the backward pass."""
        again: list[bool] = []
        for segment in plan.segments():
            left = sum(step.record for step in segment) - self.kept if self.recompute else 0
            for step in segment:
                again.append(step.record and left > 0)
                left -= step.record
        return again

    def prompts(self, reward: Reward, batch: Batch) -> Tensor | None:
        """The prompts as the reward encodes them, where that is done once; InputError where it cannot."""
        if not self.encode_once:
            return None
        if not hasattr(reward, "encode_prompts"):
            raise InputError(
                f"{type(reward).__name__} has no method encode_prompts, so its prompts cannot be encoded once a "
                "trajectory: give it one, or leave encode_once out"
            )
        with torch.no_grad():
            return reward.encode_prompts(batch)


NONE = Savings()


def _lengths(frame_mask: Tensor) -> list[int]:
    """Frames to the last valid one, of each row of a `[B, F]` mask; 1 at least."""
    frames = torch.arange(1, frame_mask.shape[1] + 1, device=frame_mask.device)
    return (frame_mask * frames).amax(1).clamp(min=1).tolist()


def check_per_motion(reward: Reward, pieces: list[Piece]) -> None:
    """InputError for a reward that compares the motions of a batch with each other, where they come in pieces."""
    if len(pieces) > 1 and not getattr(reward, "per_motion", True):
        raise InputError(
            f"{type(reward).__name__} scores the motions of a batch together (per_motion is false), so they cannot be "
            "scored in pieces: leave score out"
        )


class Recompute:
    """Denoiser calls that keep their input alone. The first one's output is held against what it was, since a backbone
    that is no function of its inputs would be given the gradient of something else.

    check: whether tensors hold data that can be compared. InputError, in the backward pass, for such a backbone.
    """

    def __init__(self, backbone: Backbone, check: bool) -> None:
        self._backbone = backbone
        self._check = check
        self._compared = False

    def __call__(self, x: Tensor, timestep: float, batch: Batch) -> Tensor:
        compare = not self._compared
        self._compared = True
        # What requires a gradient makes autograd record the call where the state itself requires none.
        anchor = torch.empty(0, device=x.device, requires_grad=True)
        predict = self._backbone.predict
        return _Call.apply(anchor, x, lambda x: predict(x, timestep, batch), self._compare if compare else None)

    def _compare(self, again: Tensor, before: Tensor) -> None:
        difference = torch.linalg.vector_norm(again.detach() - before) / torch.linalg.vector_norm(before)
        if self._check and float(difference) > SAME:
            raise InputError(
                f"{type(self._backbone).__name__}.predict is no function of its inputs: computed again it gave another "
                f"output, by {float(difference):.1%}, so its gradient would be wrong: draw its noise from torch's "
                "generators alone, or leave recompute out"
            )


class _Call(torch.autograd.Function):
    """A function of one tensor that keeps the tensor, and not its graph."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, x: Tensor, function: Callable, compare: Callable | None) -> Tensor:  # type: ignore[override]
        ctx.function, ctx.compare, ctx.circumstances = function, compare, Circumstances(x.device)
        out = function(x)
        ctx.save_for_backward(x, *([out.detach()] if compare else []))
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor | None, None, None]:  # type: ignore[override]
        x, *before = ctx.saved_tensors
        x = x.detach().requires_grad_(ctx.needs_input_grad[1])
        with ctx.circumstances.again(), torch.enable_grad():
            out = ctx.function(x)
        if ctx.compare is not None:
            ctx.compare(out, *before)
        torch.autograd.backward(out, gradient)
        return None, x.grad, None, None


class Circumstances:
    """What a computation depends on beside its inputs: the states of torch's generators, and autocast."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._states = generators.states(device)
        self._precision = None
        if torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type):
            self._precision = torch.get_autocast_dtype(device.type)

    @contextmanager
    def again(self) -> Iterator[None]:
        """While open they are as they were; the generators are put back afterwards."""
        with generators.forked(self._device), self._autocast():
            generators.set_states(self._states, self._device)
            yield

    def _autocast(self) -> AbstractContextManager:
        if self._precision is None:
            return nullcontext()
        return torch.autocast(self._device.type, dtype=self._precision)
