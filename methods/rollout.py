"""The one denoising loop that every method shares: it runs a plan and lets gradients flow where the plan says."""

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from methods.interface import Backbone, Batch, Reward
from methods.memory import NONE, Piece, Predict, Recompute, Savings, Scoring
from methods.plan import Plan, Score, Step
from methods.samplers import Sampler
from methods.sharding import is_sharded, let_go
from methods.update import RewardError, Updater

PHASES = ("rollout", "decode", "reward", "backward", "optimiser")
"""The phases of an update, as they are announced to an observer."""

FORWARD_PHASES = PHASES[:3]
"""Those that compute what is differentiated."""

Phases = Callable[[str], contextlib.AbstractContextManager]
"""An observer: called with a phase's name, the context it returns is open while that phase runs."""


def unobserved(phase: str) -> contextlib.AbstractContextManager:
    return contextlib.nullcontext()


Randn = Callable[[Tensor], Tensor]
"""Unit noise in the shape of a state."""

OnUpdate = Callable[[list[Tensor], Tensor], None]
"""Called after each optimiser step with the `[B]` rewards behind it and the gradient norm before clipping, detached and
on the device. The rollout itself keeps neither, so that its memory does not grow with the number of updates."""


@torch.no_grad()
def states(backbone: Backbone, sampler: Sampler, batch: Batch, x: Tensor, generator=None) -> Iterator[Tensor]:
    """The states of a trajectory, x_T (which is `x`) to x_0, one after the other and without gradients."""
    yield x
    for index in range(len(sampler)):
        out = backbone.predict(x, sampler[index].timestep, batch)
        x = sampler.step(x, out, index, _randn(x, generator) if sampler[index].noise else None)
        yield x


def sample(
    backbone: Backbone, sampler: Sampler, batch: Batch, x: Tensor, generator=None, savings: Savings = NONE
) -> Tensor:
    """Motions `[B, F, D]` from the initial state `x`, without gradients."""
    for state in states(backbone, sampler, batch, x, generator):
        x = state
    with torch.no_grad():
        motions = None
        for piece in savings.pieces(batch):
            motion = backbone.decode(piece.of(x), piece.inputs(batch))
            if piece.rows is None:
                return motion
            if motions is None:
                motions = motion.new_zeros(*batch.frame_mask.shape, motion.shape[-1])
            motions[piece.rows, : motion.shape[1]] = motion
        assert motions is not None  # a batch has a prompt
        return motions


def rollout(
    plan: Plan,
    backbone: Backbone,
    sampler: Sampler,
    reward: Reward,
    batch: Batch,
    x: Tensor,
    updater: Updater,
    *,
    generator: torch.Generator | None = None,
    phases: Phases = unobserved,
    on_update: OnUpdate | None = None,
    savings: Savings = NONE,
) -> Tensor:
    """Runs one trajectory from the initial state `x` (x_T, `[B, ...]`) and every optimiser step that the plan asks for;
    returns the last state, x_0 if the plan runs to the end.

    The objective is the batch mean of the rewards times each score's weight; it is maximised. Noise of a stochastic
    sampler and of re-noising comes from `generator`. Scores are backpropagated one at a time down to the latent that
    was scored, so the decoder's and the reward's graphs never outlive their score; from there on backpropagation waits
    until the end of the segment (Plan.segments), where several scores may share one chain. `savings`: what is computed
    in pieces or once more to hold less memory, with the same gradient.

    RewardError if the reward has the wrong shape, or (see Updater) is not finite.
    """
    scores: list[tuple[Tensor, Tensor]] = []  # latents of this segment that were scored, and d objective / d latent
    unstepped: list[Tensor] = []  # rewards since the last optimiser step
    in_pieces = Scoring(savings, reward, batch)
    with phases("reward") if savings.encode_once else contextlib.nullcontext():
        prompts = savings.prompts(reward, batch)
    recompute = Recompute(backbone, check=updater.check_finite)
    randn = functools.partial(updater.share.randn if updater.share else _randn, generator=generator)
    steps = zip(plan.steps, (*plan.steps[1:], None), savings.recomputed(plan), strict=True)
    with _learner(backbone, plan) as hand_over, _gradients_cleared_on_error(updater):
        for step, following, again in steps:
            with phases("rollout"):
                predict = recompute if again else backbone.predict
                latent, x = _advance(step, predict, sampler, batch, x, randn)
            if step.score is not None:
                rewards, gradient = _score(step, backbone, sampler, reward, batch, prompts, in_pieces, latent, phases)
                if updater.share is not None:
                    gradient.mul_(updater.share.scale)
                scores.append((latent, gradient))
                unstepped.append(rewards)
            del latent
            if scores and (following is None or following.cut or following.renoise):
                with phases("backward"):
                    torch.autograd.backward([latent for latent, _ in scores], [gradient for _, gradient in scores])
                scores.clear()
                x = x.detach()
            if step.update:
                with phases("optimiser"):
                    hand_over()
                    norm = updater.apply(unstepped)
                if on_update is not None:
                    on_update(unstepped, norm)
                unstepped = []
    return x.detach()


def _advance(
    step: Step, predict: Predict, sampler: Sampler, batch: Batch, x: Tensor, randn: Randn
) -> tuple[Tensor, Tensor]:
    """The denoiser call of one step: the latent to score (the next state if none is), and the next state."""
    if step.cut or step.renoise:
        x = x.detach()
    if step.renoise:
        x = sampler.add_noise(x, randn(x), step.index)
    with torch.set_grad_enabled(step.record):
        out = predict(x.detach() if step.stop_input else x, sampler[step.index].timestep, batch)
    state = sampler.step(x, out, step.index, randn(x) if sampler[step.index].noise else None)
    return (sampler.x0_hat(x, out, step.index) if step.score is Score.X0_HAT else state), state


def _score(
    step: Step,
    backbone: Backbone,
    sampler: Sampler,
    reward: Reward,
    batch: Batch,
    prompts: Tensor | None,
    in_pieces: Scoring,
    latent: Tensor,
    phases: Phases,
) -> tuple[Tensor, Tensor]:
    """Rewards `[B]` of a latent, and the gradient of -weight·mean(rewards) with respect to it."""
    timestep = max(sampler[step.index].next_timestep, 0) if step.score is Score.NOISY else None

    def score(piece: Piece) -> tuple[Tensor, Tensor]:
        call: Callable[..., Tensor] = reward
        if prompts is not None:
            call = functools.partial(call, prompts=piece.of(prompts))
        weight, inputs = step.weight * piece.share, piece.inputs(batch)
        return _score_piece(weight, backbone, call, inputs, piece.of(latent), timestep, phases)

    def score_all(pieces: list[Piece]) -> tuple[Tensor, Tensor]:
        if pieces[0].rows is None:
            return score(pieces[0])
        rewards, gradient = latent.new_empty(len(latent)), torch.empty_like(latent)
        for piece in pieces:
            rewards[piece.rows], gradient[piece.rows] = score(piece)
        return rewards, gradient

    return in_pieces(score_all)


def _score_piece(
    weight: float,
    backbone: Backbone,
    reward: Callable[..., Tensor],
    batch: Batch,
    latent: Tensor,
    timestep: float | None,
    phases: Phases,
) -> tuple[Tensor, Tensor]:
    """The same of motions that are scored together."""
    leaf = latent.detach().requires_grad_()
    with phases("decode"):
        motion = backbone.decode(leaf, batch)
    with phases("reward"):
        rewards = reward(motion, batch, timestep)
        if rewards.shape != (len(batch),):
            raise RewardError(
                f"the reward returned shape {tuple(rewards.shape)} for {len(batch)} motions, expected "
                f"({len(batch)},): return one number a motion; the update is refused"
            )
        loss = -weight * rewards.mean()
    del motion
    with phases("backward"):
        loss.backward()
    assert leaf.grad is not None  # loss.backward() has just made it
    return rewards.detach(), leaf.grad


@contextlib.contextmanager
def _learner(backbone: Backbone, plan: Plan) -> Iterator[Callable[[], None]]:
    """Yields what moves gradients to the weights that learn, before an optimiser step.

    Usually those are the denoiser's own. In a delayed plan a copy of the denoiser samples the whole trajectory, and its
    gradients are handed to the original. Of a sharded denoiser the gathered weights are such a copy.
    """
    learner: nn.Module = backbone.denoiser
    if is_sharded(learner):
        try:
            yield (lambda: None) if plan.delayed else functools.partial(let_go, learner)
        finally:
            let_go(learner)
        return
    if not plan.delayed:
        yield lambda: None
        return

    def hand_over() -> None:
        for target, source in zip(learner.parameters(), backbone.denoiser.parameters(), strict=True):
            target.grad, source.grad = source.grad, None

    backbone.denoiser = copy.deepcopy(learner)
    try:
        yield hand_over
    finally:
        backbone.denoiser = learner


@contextlib.contextmanager
def _gradients_cleared_on_error(updater: Updater) -> Iterator[None]:
    try:
        yield
    except BaseException:
        updater.optimizer.zero_grad()
        raise


def _randn(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)
