"""Every method on every registered backbone, at its tiny size: float64 gradients against brute force, and the bytes of
a simulation against those of a real run. What a backbone computes is held to the published modules elsewhere."""

import random
from collections import Counter
from dataclasses import dataclass, replace

import pytest
import torch
from test_definitions import (
    CLOSE,
    Problem,
    Theta,
    assert_same,
    derivative,
    easytune_reference,
    last_terms,
    scaled,
    total,
)
from test_simulated import METHODS, among, bytes_of, tiny
from torch import Tensor, nn
from torch.func import functional_call

from bench.cases import Case
from bench.meters import Reading, tracked
from bench.setup import build
from methods import BACKBONES, Backbone, Batch, Plan, Sampler, parse
from methods.alignprop import bernoulli_steps
from methods.drtune import drtune_steps
from methods.refl import refl_steps

TINY = sorted(name for name in BACKBONES if name.endswith("-tiny"))
STEPS = 4
"""Which every sampler can take, a consistency model's too."""
LENGTHS = (6, 2, 5)
PLAIN = "frozen+reward_means=true+train_mode=false"
"""Without dropout and samples of the reward's distributions: a function of the weights."""


class Guided(nn.Module):
    """A backbone's prediction as a module, so that it can be called with other weights of its denoiser."""

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.denoiser, self._backbone = backbone.denoiser, [backbone]

    def forward(self, x: Tensor, timestep: float, batch: Batch) -> Tensor:
        (backbone,) = self._backbone
        kept, backbone.denoiser = backbone.denoiser, self.denoiser
        try:
            return backbone.predict(x, timestep, batch)
        finally:
            backbone.denoiser = kept


@dataclass
class Published(Problem):
    """The definitions' problem on a registered backbone, its reward and its sampler; motions of unlike lengths."""

    steps: int = STEPS
    name: str = "mld-tiny"

    def __post_init__(self) -> None:
        case = Case("draft", self.name, self.steps, len(LENGTHS), max(LENGTHS), PLAIN, "host")
        run = build(case, "cpu")
        for network in run.networks().values():
            network.double()
        self.backbone, self.x = run.backbone, run.x.double()
        self.reward = lambda *inputs: 1e3 * run.reward(*inputs)  # so that no gradient of random weights is nothing
        inputs = {name: getattr(run.batch, name).double() for name in ("text", "null_text", "tokens")}
        mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
        self.batch = replace(run.batch, **inputs, frame_mask=mask)
        learned = ((n, p) for n, p in self.backbone.denoiser.named_parameters() if p.requires_grad)
        self.theta = {name: value.detach().clone() for name, value in learned}
        self.levels = [(c.timestep, 0.0, 0.0) for c in self.sampler.table]
        generator = torch.Generator().manual_seed(99)
        self.noises = [torch.randn(self.x.shape, generator=generator, dtype=self.x.dtype) for _ in range(self.steps)]

    @property
    def sampler(self) -> Sampler:
        return BACKBONES[self.name].sampler(self.steps)

    def eps(self, theta: Theta, x: Tensor, i: int) -> Tensor:
        """The model's output, whatever it predicts."""
        weights = {f"denoiser.{name}": value for name, value in theta.items()}
        return functional_call(Guided(self.backbone), weights, (x, self.sampler[i].timestep, self.batch))

    def x0_hat(self, x: Tensor, eps: Tensor, i: int) -> Tensor:
        return self.sampler.x0_hat(x, eps, i)

    def next(self, x: Tensor, eps: Tensor, i: int) -> Tensor:
        return self.sampler.step(x, eps, i, self.noises[i] if self.sampler[i].noise else None)


@pytest.fixture(params=TINY)
def problem(request) -> Published:
    return Published(name=request.param)


def plan_of(method: str) -> Plan:
    return parse(method).plan(STEPS, random.Random(0))


@pytest.mark.parametrize("k", [1, 2, STEPS])
def test_draft_and_alignprop(problem, k):
    expected = last_terms(problem, k)
    assert_same(problem.gradients(plan_of(f"draft:k={k}")), expected)
    assert plan_of(f"alignprop:truncation=fixed,k={k}") == plan_of(f"draft:k={k}")


def test_alignprop_bernoulli(problem):
    theta = {name: value.clone().requires_grad_() for name, value in problem.theta.items()}
    x, kept = problem.x, {1, 3}
    for i, state in enumerate(problem.states()[:-1]):
        x = problem.next(x, problem.eps(theta, x, i) if i in kept else problem.eps(problem.theta, state, i).detach(), i)
    assert_same(problem.gradients(bernoulli_steps(frozenset(kept), STEPS)), derivative(problem.score(x), theta))


def test_drtune(problem):
    """Nothing flows through the denoiser's input; what the sampler carries past it does."""
    theta = {name: value.clone().requires_grad_() for name, value in problem.theta.items()}
    x = problem.x
    for i, state in enumerate(problem.states()[:-1]):
        out = problem.eps(theta if i in (1, 3) else problem.theta, state, i)
        before, x = x, problem.next(x, out, i)
    expected = derivative(problem.score(problem.x0_hat(before, out, STEPS - 1)), theta)
    assert_same(problem.gradients(drtune_steps(range(1, 4, 2), STEPS - 1, STEPS)), expected)


def test_draft_lv(problem):
    generator, end, terms = torch.Generator().manual_seed(99), problem.states()[-1], []
    # The trajectory before has drawn its own noise from the generator.
    for _ in range(sum(bool(c.noise) for c in problem.sampler.table)):
        torch.randn(end.shape, generator=generator, dtype=end.dtype)
    for _ in range(2):
        noise = torch.randn(end.shape, generator=generator, dtype=end.dtype)
        x, theta = problem.sampler.add_noise(end, noise, STEPS - 1), problem.copies()[0]
        x = problem.next(x, problem.eps(theta, x, STEPS - 1), STEPS - 1)
        terms.append(derivative(problem.score(x), theta))
        end = x.detach()
    assert_same(problem.gradients(plan_of("draft-lv:n=2")), scaled(total(terms), 0.5))


@pytest.mark.parametrize("stop", [1, STEPS - 1])
def test_refl(problem, stop):
    theta, x = problem.copies()[0], problem.states()[stop]
    prediction = problem.x0_hat(x, problem.eps(theta, x, stop), stop)
    assert_same(problem.gradients(refl_steps(stop, STEPS)), derivative(problem.score(prediction), theta))


@pytest.mark.parametrize("score", ["x0-hat", "noisy"])
def test_easytune(problem, score):
    """Every gradient of a trajectory, with the weights moving between them."""
    expected, weights = easytune_reference(problem, 0, STEPS - 1, lr=1e-5, clip=1e9, score=score)
    _, updater = problem.rollout(plan_of(f"easytune:score={score}"), lr=1e-5)
    for gradients, reference in zip(updater.gradients, expected, strict=True):
        assert_same({name: -g for name, g in zip(problem.theta, gradients, strict=True)}, reference)
    learned = dict(problem.backbone.denoiser.named_parameters())
    for name, value in weights.items():
        torch.testing.assert_close(learned[name].detach(), value, **CLOSE)


def test_easytune_chain(problem):
    thetas = problem.copies()
    _, predictions = problem.chain(thetas)
    rewards = [problem.score(prediction) for prediction in predictions]
    terms = [derivative(reward, thetas[j]) for i, reward in enumerate(rewards) for j in range(i + 1)]
    assert_same(problem.gradients(plan_of("easytune:mode=chain")), total(terms))


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("method", [among(method) for method in METHODS])
def test_simulated_bytes_are_those_of_a_real_run(method, name):
    """Without the CUDA lowering."""
    case = tiny(method, backbone=name)
    assert named(tracked.read(case, "meta", with_data=False)) == named(tracked.read(case, "cpu"))


def named(reading: Reading) -> dict:
    """A reading, with owners by all but their operator: the copy of a buffer is `clone` of a meta tensor, and `set_` of
    a real one."""
    owners: Counter = Counter()
    for owner in reading.owners:
        owners[owner.phase, owner.category, owner.module, owner.where] += owner.bytes
    return {**bytes_of(reading), "owners": owners}
