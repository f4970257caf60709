"""Differentiable-reward fine-tuning of diffusion models: one rollout, five methods, in pure torch.

from methods import ddim, parse, rollout, Updater
plan = parse("easytune").plan(steps=50, rng=random.Random(0))
rollout(plan, backbone, ddim(50), reward, batch, backbone.initial_state(batch), Updater(optimizer))
"""

from methods.errors import InputError
from methods.interface import Backbone, Batch, Method, Reward
from methods.plan import Plan, Score, Step, trajectory
from methods.registry import METHODS, parse, register, spec
from methods.rollout import PHASES, rollout, sample
from methods.samplers import Sampler, ddim
from methods.update import RewardError, Updater

__all__ = [
    "METHODS",
    "PHASES",
    "Backbone",
    "Batch",
    "InputError",
    "Method",
    "Plan",
    "Reward",
    "RewardError",
    "Sampler",
    "Score",
    "Step",
    "Updater",
    "ddim",
    "parse",
    "register",
    "rollout",
    "sample",
    "spec",
    "trajectory",
]
