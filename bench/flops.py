"""Floating-point operations of one update, counted by torch's own counter on tensors without data.

The counter knows matrix products and attention, forward and backward; the rest of an update is small beside them. What
an update repeats is counted once: a denoiser call without gradients, one with them, the scoring of a piece. The plan
says how often each is done.
"""

import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from bench.cases import Case
from bench.meters import meta_cache
from bench.meters.lowering import cuda_lowering, views_unseen
from bench.profiles import profile
from bench.setup import build, draw_plan
from methods import Backbone, Batch, Plan, Reward, Sampler, Savings, Score, Step, Updater, rollout, trajectory


def count(case: Case) -> int:
    """FLOPs of one update of a case: one trajectory with all its optimiser steps. Precision changes none."""
    # What decides none of the parts is the same for all cases, so that each part is counted once.
    alike = f"{case.profile}+precision=fp32+score=0+recompute=false+kept=0"
    parts = _parts(replace(case, method="draft:k=1", steps=2, seed=0, profile=alike, ranks=1))
    return parts.update(draw_plan(case), profile(case.profile).savings)


class _Remembered(TorchDispatchMode):
    """What the counter lets run: it needs the shapes of results alone."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return meta_cache.execute(func, args, kwargs or {})


def counted(work: Callable[[], object]) -> int:
    with views_unseen(), _Remembered(), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


@functools.lru_cache(maxsize=16)
def _parts(scale: Case) -> "Parts":
    run = build(scale, "meta", with_data=False)
    return Parts(
        run.backbone, run.sampler, run.reward, run.batch, run.x, run.updater, encode_once=run.savings.encode_once
    )


class Parts:
    """FLOPs of what updates of one model on one batch are made of, on the meta device: each is counted once, when it is
    first asked for."""

    def __init__(
        self,
        backbone: Backbone,
        sampler: Sampler,
        reward: Reward,
        batch: Batch,
        x: Tensor,
        updater: Updater,
        *,
        encode_once: bool = False,
    ) -> None:
        self._backbone, self._sampler, self._reward, self._batch = backbone, sampler, reward, batch
        self._x, self._updater, self._savings = x, updater, Savings(encode_once=encode_once)
        self._call = functools.cache(self._count_call)
        self._prompts = functools.cache(self._count_prompts)
        self._score = functools.cache(self._count_score)

    def update(self, plan: Plan, savings: Savings) -> int:
        """Of one update of a plan, with what `savings` compute again and in which pieces they score."""
        without_graph = len(plan.steps) - plan.recorded + sum(savings.recomputed(plan))
        total = without_graph * self._call(False) + plan.recorded * self._call(True) + self._prompts()
        pieces = Counter(len(piece.inputs(self._batch)) for piece in Savings(score=savings.score).pieces(self._batch))
        for step in plan.steps:
            if step.score is not None:
                total += sum(many * self._score(step.score, motions) for motions, many in pieces.items())
        return total

    def _count_call(self, recorded: bool, motions: int | None = None) -> int:
        """A denoiser call, with its backward pass if it is recorded."""
        rows = slice(0, motions)
        x = self._x[rows].detach().requires_grad_(recorded)

        def call() -> None:
            with torch.set_grad_enabled(recorded):
                out = self._backbone.predict(x, self._sampler[0].timestep, self._batch.rows(rows))
            if recorded:
                out.backward(out)

        return counted(call)

    def _count_prompts(self, motions: int | None = None) -> int:
        """Encoding the prompts for the reward, where that is done once."""
        return counted(lambda: self._savings.prompts(self._reward, self._batch.rows(slice(0, motions))))

    def _count_score(self, kind: Score, motions: int) -> int:
        """Decoding and scoring so many motions and going back to their latent: what an update of one step takes beyond
        its denoiser call, and beyond the prompts where these are encoded once."""
        rows = slice(0, motions)
        plan = trajectory(len(self._sampler), [Step(0, record=True, score=kind, update=True)])
        inputs = (self._sampler, self._reward, self._batch.rows(rows), self._x[rows], self._updater)
        with cuda_lowering():
            update = counted(lambda: rollout(plan, self._backbone, *inputs, savings=self._savings))
        return update - self._call(True, motions) - self._prompts(motions)
