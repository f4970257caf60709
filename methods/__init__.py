"""Differentiable-reward fine-tuning of diffusion models: one rollout, five methods, in pure torch.

from methods import ddim, parse, rollout, Updater
plan = parse("easytune").plan(steps=50, rng=random.Random(0))
rollout(plan, backbone, ddim(50), reward, batch, backbone.initial_state(batch), Updater(optimizer))
"""

from methods.entries import BackboneEntry, RewardEntry
from methods.errors import InputError
from methods.interface import Backbone, Batch, Method, Reward
from methods.memory import Savings
from methods.plan import Plan, Score, Step, trajectory
from methods.registry import BACKBONES, METHODS, REWARDS, parse, register, register_backbone, register_reward, spec
from methods.rollout import PHASES, rollout, sample
from methods.samplers import Sampler, ddim, ddpm, flow, lcm
from methods.update import RewardError, Updater

__all__ = [
    "BACKBONES",
    "METHODS",
    "PHASES",
    "REWARDS",
    "Backbone",
    "BackboneEntry",
    "Batch",
    "InputError",
    "Method",
    "Plan",
    "Reward",
    "RewardEntry",
    "RewardError",
    "Sampler",
    "Savings",
    "Score",
    "Step",
    "Updater",
    "ddim",
    "ddpm",
    "flow",
    "lcm",
    "parse",
    "register",
    "register_backbone",
    "register_reward",
    "rollout",
    "sample",
    "spec",
    "trajectory",
]
