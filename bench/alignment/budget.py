"""A memory budget of fine-tuning: which levers of the rollout to pull so that an update fits, chosen by simulation; and
what an update takes, simulated or on a GPU.

Counted are the live tensor bytes of one update: weights, optimiser state, gradients, inputs and activations. Of all
choices that fit, the one that computes fewest denoiser calls again is taken, and of those the one with the largest
pieces: a call costs its forward once more, small pieces only keep the processor less busy.
"""

import bisect
import copy
import random
import statistics
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch

from bench import devices, flops
from bench.cases import Case
from bench.meters import meta_cache
from bench.meters.cuda import AllocatorPeaks, warm_libraries
from bench.meters.tracker import Tracker
from bench.plan import draws, headroom, size
from bench.plan.frontier import choices, piece_sizes
from bench.plan.search import largest
from bench.records.make import PLAN_DRAWS
from bench.setup import WithoutData, draw_plan
from bench.units import gib
from bench.world import AnyWorld
from methods import (
    PHASES,
    Backbone,
    Batch,
    Plan,
    Reward,
    Sampler,
    Savings,
    Updater,
    generators,
    lora,
    parse,
    rollout,
    sample,
)
from methods.errors import InputError
from methods.finetune import FinetuneConfig, make_updater

META = torch.device("meta")
LIVE = 0.95
"""Of what the allocator reserves, the share that live tensors make up at the least: it is 2.6 to 4.8% above them in the
published table (bench/README.md)."""


@dataclass(frozen=True)
class Choice:
    """Levers, and what an update needs with them."""

    savings: Savings
    peak: int
    """Bytes, simulated."""
    without: int
    """Bytes of an update with no lever pulled."""


def parse_budget(text: str, device: torch.device) -> int:
    """Bytes of `2GiB`, or of `auto`: `room` on the device. InputError for anything else."""
    return room(device) if text == "auto" else size.parse(text, "memory")


def room(device: torch.device) -> int:
    """Bytes of live tensors that the device holds: all that a machine has; of a GPU without what the planner keeps free
    (bench.plan.headroom), and what the allocator reserves beyond them."""
    total = devices.memory(device)
    return total if device == devices.CPU else int(LIVE * (total - headroom.Budget(total).needs(Case(), 0)))


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
            known[savings] = count(savings, plan, config, backbone, reward, sampler, batch)
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


def advice(
    config: FinetuneConfig,
    backbone: Backbone,
    reward: Reward,
    sampler: Sampler,
    longest: Callable[[int], Batch],
    device: torch.device,
) -> str:
    """What to do where an update of `config` did not fit on the device, as the end of a sentence: by simulation, with
    batches of so many prompts, as long as they can be (`longest`)."""
    plan, has = largest_plan(config.method, len(sampler)), room(device)

    def takes(prompts: int) -> int:
        return count(config.savings, plan, config, backbone, reward, sampler, longest(prompts)).peak

    needed = takes(config.batch)
    told = f"by simulation an update takes {gib(needed)}, and {devices.name(device)} has room for {gib(has)}"
    if needed <= has:
        return f"{told}: other processes hold the rest, so end these, or lower --batch"
    mends = [f"--batch {most}"] if (most := largest(lambda n: takes(n) <= has, config.batch - 1)) else []
    try:
        choose(has, config, backbone, reward, sampler, longest(config.batch))
        mends.append("--memory auto")
    except InputError:  # says what would do, which is more than there is
        pass
    return f"{told}: {'begin again with ' + ' or '.join(mends) if mends else 'not even batch 1 fits there'}"


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


class Allocated:
    """A GPU's allocator as a tracker of live bytes, without what was there before, the workspaces of libraries among
    it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        warm_libraries(device)
        self._before = torch.cuda.memory_allocated(device)
        self._peaks = AllocatorPeaks(device)
        self.restart, self.observe = self._peaks.restart, self._peaks.observe

    @property
    def live(self) -> int:
        return torch.cuda.memory_allocated(self._device) - self._before

    @property
    def peak(self) -> int:
        """Since `restart`."""
        self._peaks.collect()
        return self._peaks.totals["peak"] - self._before

    @property
    def phase_peaks(self) -> dict[str, int]:
        return {phase: peak - self._before for phase, peak in self._peaks.phases.items()}

    @property
    def reserved(self) -> int:
        """The most that the allocator took from the driver, all that was there before included."""
        self._peaks.collect()
        return self._peaks.totals["reserved"]


def count(
    savings: Savings,
    plan: Plan,
    config: FinetuneConfig,
    backbone: Backbone,
    reward: Reward,
    sampler: Sampler,
    batch: Batch,
    device: torch.device = META,
) -> Need:
    """What an update of `plan` needs, on copies: simulated, which takes no data, or run for real on a GPU."""
    counted: Tracker | Allocated = Tracker(meta_cache.execute, "meta") if device == META else Allocated(device)
    if device == META:
        savings = WithoutData(**vars(savings))
    with counted if isinstance(counted, Tracker) else nullcontext(), generators.forked(device):
        backbone, reward, updater = _copies(config, backbone, reward, device)
        beside = [copy.deepcopy(backbone.denoiser) for asked in (config.ema, config.pull) if asked]
        batch = batch.to(device)
        state = backbone.initial_state(batch)
        inputs = (backbone, sampler, reward, batch, state, updater)
        rollout(parse("draft:k=1").plan(len(sampler), random.Random(0)), *inputs)  # makes the optimiser's state
        counted.restart()
        resident = counted.live
        sample(backbone, sampler, batch, state, savings=savings)
        sampling = counted.peak
        counted.restart()
        rollout(plan, *inputs, phases=counted.observe, savings=savings)
    del beside  # what an average and a pull hold, alive until here
    return Need(resident, sampling, {phase: counted.phase_peaks[phase] for phase in PHASES})


def operations(config: FinetuneConfig, backbone: Backbone, reward: Reward, sampler: Sampler, batch: Batch) -> float:
    """FLOPs of an update (bench.flops) with no lever pulled, the mean over draws of the method's plan."""
    with generators.forked(META):
        backbone, reward, updater = _copies(config, backbone, reward, META)
        batch = batch.to(META)
        parts = flops.Parts(backbone, sampler, reward, batch, backbone.initial_state(batch), updater)
        method, steps = parse(config.method), len(sampler)
        drawn = (method.plan(steps, random.Random(seed)) for seed in range(PLAN_DRAWS))
        return statistics.fmean(parts.update(plan, Savings()) for plan in drawn)


def _copies(
    config: FinetuneConfig, backbone: Backbone, reward: Reward, device: torch.device
) -> tuple[Backbone, Reward, Updater]:
    """What an update of `config` runs on, on another device."""
    backbone, reward = (copy.deepcopy(part).to(device) for part in (backbone, reward))  # type: ignore[union-attr]
    for network in (backbone.denoiser, *reward.networks().values()):
        network.train(config.train_mode)
    if config.lora:
        lora.adapt(backbone.denoiser, config.lora)
    updater = make_updater(backbone.denoiser, config)
    updater.check_finite = device != META
    return backbone, reward, updater
