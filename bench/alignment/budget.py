"""A memory budget of fine-tuning: which levers of the rollout to pull so that an update fits, chosen by simulation.

Counted are the live tensor bytes of one update: weights, optimiser state, gradients, inputs and activations. Of all
choices that fit, the one that computes fewest denoiser calls again is taken, and of those the one with the largest
pieces: a call costs its forward once more, small pieces only keep the processor less busy.
"""

import bisect
import copy
import random
from dataclasses import dataclass, replace

import psutil
import torch

from bench.cases import Case
from bench.meters.meta_cache import MetaCache
from bench.meters.tracker import Tracker
from bench.plan import draws, size
from bench.plan.frontier import choices, piece_sizes
from bench.setup import WithoutData, draw_plan
from bench.units import gib
from bench.world import AnyWorld
from methods import PHASES, Backbone, Batch, Plan, Reward, Sampler, Savings, parse, rollout, sample
from methods.errors import InputError
from methods.finetune import FinetuneConfig, make_updater


@dataclass(frozen=True)
class Choice:
    """Levers, and what an update needs with them."""

    savings: Savings
    peak: int
    """Bytes, simulated."""
    without: int
    """Bytes of an update with no lever pulled."""


def parse_budget(text: str) -> int:
    """Bytes of `2GiB`, or of `auto`: all that this machine has. InputError for anything else."""
    return psutil.virtual_memory().total if text == "auto" else size.parse(text, "memory")


def largest_plan(method: str, steps: int) -> Plan:
    """Of a random plan's draws, the one that holds the most denoiser calls."""
    return draw_plan(draws.worst(Case(method, steps=steps)))


def longest(base: AnyWorld, prompts: int) -> Batch:
    """Inputs of a trajectory whose motions are all as long as the world's longest."""
    return base.batch(base.prompts("train", prompts).texts, torch.full((prompts,), base.longest))


def choose(
    budget: int, config: FinetuneConfig, backbone: Backbone, reward: Reward, sampler: Sampler, batch: Batch
) -> Choice:
    """The levers under which an update of `config` on a batch of this shape needs at most `budget` bytes, as fast as
    may be; InputError, which names the least that does and what makes it, where none do."""
    plan = largest_plan(config.method, len(sampler))
    known: dict[Savings, Need] = {}

    def need(savings: Savings) -> Need:
        if savings not in known:
            known[savings] = simulate(savings, plan, config, backbone, reward, sampler, batch)
        return known[savings]

    def fits(savings: Savings) -> bool:
        return need(savings).peak <= budget

    sizes = piece_sizes(len(batch)) if getattr(reward, "per_motion", True) else [0]
    ordered = choices(sizes, range(plan.held - 1, -1, -1))
    first = bisect.bisect(ordered, False, key=fits)
    if first == len(ordered):
        floor = need(ordered[-1])
        raise InputError(
            f"--memory {gib(budget)} is less than an update needs with every lever pulled: {gib(floor.peak)}, in the "
            f"phase {floor.phase} (weights and optimiser state alone {gib(floor.resident)}): ask for "
            f"{size.enough(floor.peak)} or more, or lower --batch"
        )
    fastest = next(of for motions in sizes if fits(of := replace(ordered[first], score=motions)))
    return Choice(fastest, need(fastest).peak, need(Savings()).peak)


@dataclass(frozen=True)
class Need:
    """Live bytes of one update."""

    resident: int
    """Before it."""
    sampling: int
    """Peak of a trajectory without gradients."""
    phases: dict[str, int]
    """Peaks by phase."""

    @property
    def peak(self) -> int:
        return max(self.phases.values())

    @property
    def phase(self) -> str:
        """The one with the peak."""
        return max(self.phases, key=lambda name: self.phases[name])


def simulate(
    savings: Savings,
    plan: Plan,
    config: FinetuneConfig,
    backbone: Backbone,
    reward: Reward,
    sampler: Sampler,
    batch: Batch,
) -> Need:
    """What an update of `plan` needs, on copies without data."""
    tracker = Tracker(MetaCache(), "meta")
    with torch.random.fork_rng(devices=[]), tracker:
        backbone, reward = (copy.deepcopy(part).to("meta") for part in (backbone, reward))  # type: ignore[union-attr]
        for network in (backbone.denoiser, *reward.networks().values()):
            network.train(config.train_mode)
        beside = [copy.deepcopy(backbone.denoiser) for asked in (config.ema, config.pull) if asked]
        batch = batch.to("meta")
        updater = make_updater(backbone.denoiser, config)
        updater.check_finite = False
        state = backbone.initial_state(batch)
        inputs = (backbone, sampler, reward, batch, state, updater)
        rollout(parse("draft:k=1").plan(len(sampler), random.Random(0)), *inputs)  # makes the optimiser's state
        tracker.restart()
        resident = tracker.live
        sample(backbone, sampler, batch, state, savings=WithoutData(**vars(savings)))
        sampling = tracker.peak
        tracker.restart()
        rollout(plan, *inputs, phases=tracker.observe, savings=WithoutData(**vars(savings)))
    del beside  # what an average and a pull hold, alive until here
    return Need(resident, sampling, {phase: tracker.phase_peaks[phase] for phase in PHASES})
