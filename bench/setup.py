"""The one function that turns a case into something that can run. Every meter and the step timer go through it, so
that what is timed, measured and simulated is the same thing."""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily

from bench import text_encoder
from bench.cases import Case
from bench.profiles import Profile, profile
from bench.reward_cases import RewardCase
from methods import (
    Backbone,
    Batch,
    Plan,
    Reward,
    Sampler,
    Score,
    Step,
    Updater,
    easytune,
    lora,
    rollout,
    sample,
    trajectory,
)
from methods.entries import BackboneEntry, example_batch
from methods.errors import InputError, one_sentence
from methods.memory import Piece, Savings
from methods.parallel import Ranks, Share
from methods.registry import pair
from methods.rollout import FORWARD_PHASES, OnUpdate, Phases, unobserved
from methods.sharding import let_go, mesh_of, shard
from methods.transformer import set_attention_kernel, skip_unused

LEARNING_RATE = 1e-5
"""As published."""


@dataclass
class Run:
    """A case on a device, ready to run updates."""

    case: Case
    plan: Plan
    backbone: Backbone
    reward: Reward
    sampler: Sampler
    batch: Batch
    x: Tensor
    """The initial state x_T."""
    updater: Updater
    autocast: Callable[[], AbstractContextManager]
    generator: torch.Generator | None
    """Source of the noise of stochastic samplers and re-noising; None on the meta device."""
    savings: Savings
    """The levers that the profile pulls."""
    text_encoder: nn.Module | None
    """Resident beside the models, and never called."""

    def update(
        self, plan: Plan | None = None, phases: Phases = unobserved, on_update: OnUpdate | None = None
    ) -> Tensor:
        """One update: a trajectory of `plan` (default: the case's own) with all its optimiser steps; the last state."""

        @contextmanager
        def observe(phase: str) -> Iterator[None]:
            # A scope of autocast keeps the copies that it has cast of weights. Each call of a network has its own, so
            # that it sees what the optimiser did; the backward pass runs outside of any, as torch recommends.
            with phases(phase), self.autocast() if phase in FORWARD_PHASES else nullcontext():
                yield

        return rollout(
            plan or self.plan,
            self.backbone,
            self.sampler,
            self.reward,
            self.batch,
            self.x,
            self.updater,
            generator=self.generator,
            phases=observe,
            on_update=on_update,
            savings=self.savings,
        )

    def warm_up(self) -> None:
        """The shortest update that creates what persists: the optimiser's state, and the gradients of an unfrozen
        reward (which nobody clears, as released). Memory is read after it."""
        last = len(self.sampler) - 1
        self.update(trajectory(last + 1, [Step(last, record=True, score=Score.X0, update=True)]))

    def sample(self) -> Tensor:
        """A trajectory without gradients, and its decoded motion."""
        with self.autocast():
            motions = sample(self.backbone, self.sampler, self.batch, self.x, self.generator, self.savings)
        let_go(self.backbone.denoiser)
        return motions

    def networks(self) -> dict[str, nn.Module]:
        beside = {"text_encoder": self.text_encoder} if self.text_encoder else {}
        return {**self.backbone.networks(), **self.reward.networks(), **beside}


def draw_plan(case: Case) -> Plan:
    """The plan that the case's seed draws; InputError where the method's options do not fit the case, or where the
    method, which may be anybody's, makes no plan of it."""
    try:
        plan = case.resolve().plan(case.steps, random.Random(case.seed))
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{case.method} makes no plan of {case.steps} steps: {one_sentence(error)}") from None
    if not isinstance(plan, Plan):
        raise InputError(f"{case.method} makes no plan of {case.steps} steps: it returns a {type(plan).__name__}")
    return plan


def caveat(case: Case) -> str:
    """What the theory has against a case that can be planned, in a sentence; empty where it has nothing."""
    said = easytune.caveat(draw_plan(case), case.sampler())
    return f"{case.method} on {case.backbone}: {said}" if said else ""


def build(case: Case, device: torch.device | str, with_data: bool = True) -> Run:
    """Backbone, reward, inputs and optimiser of a case on `device`; `with_data` false where tensors hold none (meta and
    fake ones), so that nothing may look at a value."""
    device = torch.device(device)
    plan = draw_plan(case)
    switches = profile(case.profile)
    sampler = case.sampler()
    # Networks of a meta or CUDA run are made there, not copied there: no second set of weights is ever alive.
    torch.manual_seed(case.seed)
    of_backbone, of_reward = pair(case.backbone, case.reward)
    with device:
        backbone, reward = of_backbone.at(case.steps), of_reward.build()
        beside = text_encoder.resident() if switches.text_encoder else None
    backbone.denoiser.train(switches.train_mode)
    if switches.lora:
        lora.adapt(backbone.denoiser, switches.lora)
    for network in frozen_networks(of_backbone, backbone):
        network.requires_grad_(False).eval()
    for network in reward.networks().values():
        network.train(switches.train_mode and not switches.reward_means).requires_grad_(not switches.reward_frozen)
    if switches.reward_means and hasattr(reward, "means"):
        reward.means = True
    if switches.used_only:
        unload(backbone.networks(), of_backbone.unused)
        unload(reward.networks(), of_reward.unused)
    for network in (*backbone.networks().values(), *reward.networks().values()):
        scoring = network is not backbone.denoiser
        set_attention_kernel(network, switches.kernel(scoring))
        skip_unused(network, switches.skip_unused and scoring)
    if switches.compile:
        compile_denoiser(backbone.denoiser, plan, device)
    if sharded(case):
        with unset_fake_temporarily():  # a mesh is made of numbers
            mesh = mesh_of(device, case.ranks)
        shard(backbone.denoiser, mesh)
    # foreach on every device (what CUDA picks by itself), so that all meters see the same temporaries.
    optimizer = torch.optim.AdamW(backbone.denoiser.parameters(), lr=LEARNING_RATE, weight_decay=0.0, foreach=True)
    generator = None if device.type == "meta" else torch.Generator(device).manual_seed(case.seed)
    batch = example_batch(of_backbone, of_reward, case.batch, case.frames, device, generator)
    return Run(
        case,
        plan,
        backbone,
        reward,
        sampler,
        batch,
        backbone.initial_state(batch, generator),
        # What the others would have sent may be anything.
        Updater(optimizer, check_finite=with_data and not sharded(case), share=share_of(case)),
        autocast_of(switches, device),
        generator,
        switches.savings if with_data else WithoutData(**vars(switches.savings)),
        beside,
    )


class WithoutOthers(Share):
    """A share whose other ranks are not there. What they would add is left out, which changes no size."""

    def average(self, scaled: Tensor) -> Tensor:
        return scaled.div_(self.ranks.size)


def share_of(case: Case) -> Share | None:
    """That of the rank of a case which is measured."""
    return None if case.ranks == 1 else WithoutOthers(Ranks(0, case.ranks, case.sharding), case.batch * case.ranks)


def sharded(case: Case | RewardCase) -> bool:
    """Whether the rank which is measured has but its part of the denoiser."""
    return isinstance(case, Case) and case.sharding != "none"


@contextmanager
def others(case: Case | RewardCase) -> Iterator[None]:
    """While open, a case's denoiser can be spread over ranks: torch's fake ones, which send nothing."""
    if not sharded(case):
        yield
        return
    from torch.testing._internal.distributed.fake_pg import FakeStore

    assert isinstance(case, Case)
    torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=case.ranks)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


class WithoutData(Savings):
    """The same levers where nothing is computed. Pieces of one shape hold the same bytes, so that the first two and
    the last stand for all; motions are equally long, so that there is nothing to crop."""

    def pieces(self, batch: Batch) -> list[Piece]:
        pieces = Savings(score=self.score).pieces(batch)
        return pieces if len(pieces) < 4 else [*pieces[:2], pieces[-1]]


def compile_denoiser(denoiser: nn.Module, plan: Plan, device: torch.device) -> None:
    """Its calls go through torch.compile from here on. Decoder and reward are left as they are: what they do in place
    stops the compiler. InputError where no compiler works, or a copy of the denoiser is called in its place."""
    if plan.delayed:
        raise InputError(
            "compile=true is not for a delayed plan, which samples with a copy, and copies are not compiled"
        )
    try:
        torch.compile(torch.neg)(torch.zeros(1, device=device))
    except Exception as error:
        raise InputError(
            f"compile=true needs a compiler that works for {device.type} ({one_sentence(error)}): install one, or "
            "leave it out"
        ) from None
    denoiser.compile()


def unload(networks: Mapping[str, nn.Module], unused: tuple[str, ...]) -> None:
    """Takes modules, each `network.module`, out of networks."""
    for path in unused:
        network, _, module = path.partition(".")
        delattr(networks[network], module)


def frozen_networks(entry: BackboneEntry, backbone: Backbone) -> list[nn.Module]:
    """The networks that the entry calls frozen; InputError for a name that the backbone does not have."""
    networks = backbone.networks()
    if unknown := [name for name in entry.frozen if name not in networks]:
        raise InputError(
            f"{type(backbone).__name__} has no network {unknown[0]!r} to freeze: choose among {', '.join(networks)}"
        )
    return [networks[name] for name in entry.frozen]


def autocast_of(switches: Profile, device: torch.device) -> Callable[[], AbstractContextManager]:
    """The precision of a network's calls; InputError where the device has no bf16 of its own."""
    if switches.precision == "fp32":
        return nullcontext
    if device.type == "cuda" and torch.cuda.is_available() and not torch.cuda.is_bf16_supported(False):
        raise InputError("precision=bf16 needs a GPU of compute capability 8.0 or newer: leave it out on this one")
    return lambda: torch.autocast(device.type, dtype=torch.bfloat16)
