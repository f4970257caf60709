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
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from bench.cases import Case
from bench.meters import meta_cache
from bench.meters.lowering import cuda_lowering, views_unseen
from bench.profiles import profile
from bench.setup import Run, build, draw_plan
from methods import Savings, Score, Step, rollout, trajectory


def count(case: Case) -> int:
    """FLOPs of one update of a case: one trajectory with all its optimiser steps. Precision changes none."""
    plan, switches = draw_plan(case), profile(case.profile)
    # What decides none of the parts below is the same for all cases, so that each part is counted once.
    alike = f"{case.profile}+precision=fp32+score=0+recompute=false+kept=0"
    scale = replace(case, method="draft:k=1", steps=2, seed=0, profile=alike, ranks=1)
    without_graph = len(plan.steps) - plan.recorded + sum(switches.savings.recomputed(plan))
    total = without_graph * _call(scale, False) + plan.recorded * _call(scale, True) + _prompts(scale)
    batch = _run(scale).batch
    pieces = Counter(len(piece.inputs(batch)) for piece in Savings(score=switches.score).pieces(batch))
    for step in plan.steps:
        if step.score is not None:
            total += sum(many * _score(scale, step.score, motions) for motions, many in pieces.items())
    return total


class _Remembered(TorchDispatchMode):
    """What the counter lets run: it needs the shapes of results alone."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return meta_cache.execute(func, args, kwargs or {})


def counted(work: Callable[[], object]) -> int:
    with views_unseen(), _Remembered(), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


@functools.lru_cache(maxsize=1)
def _run(scale: Case) -> Run:
    return build(scale, "meta", with_data=False)


@functools.lru_cache(maxsize=64)
def _call(scale: Case, recorded: bool, motions: int | None = None) -> int:
    """A denoiser call, with its backward pass if it is recorded."""
    run, rows = _run(scale), slice(0, motions)
    x = run.x[rows].detach().requires_grad_(recorded)

    def call() -> None:
        with torch.set_grad_enabled(recorded):
            out = run.backbone.predict(x, run.sampler[0].timestep, run.batch.rows(rows))
        if recorded:
            out.backward(out)

    return counted(call)


@functools.lru_cache(maxsize=64)
def _prompts(scale: Case, motions: int | None = None) -> int:
    """Encoding the prompts for the reward, where that is done once."""
    run = _run(scale)
    return counted(lambda: run.savings.prompts(run.reward, run.batch.rows(slice(0, motions))))


@functools.lru_cache(maxsize=64)
def _score(scale: Case, kind: Score, motions: int) -> int:
    """Decoding and scoring so many motions and going back to their latent: what an update of one step takes beyond its
    denoiser call, and beyond the prompts where these are encoded once."""
    run, rows = _run(scale), slice(0, motions)
    plan = trajectory(len(run.sampler), [Step(0, record=True, score=kind, update=True)])
    inputs = (run.backbone, run.sampler, run.reward, run.batch.rows(rows), run.x[rows], run.updater)
    once = Savings(encode_once=run.savings.encode_once)
    with cuda_lowering():
        update = counted(lambda: rollout(plan, *inputs, savings=once))
    return update - _call(scale, True, motions) - _prompts(scale, motions)
