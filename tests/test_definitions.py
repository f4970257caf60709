"""Each method's gradient is its paper's formula, evaluated here by other means: plain loops and autograd, in float64.

The references never share weights between steps: every denoiser call gets a copy θ_i of its own. A method's gradient is
then a sum over i of derivatives in θ_i, and what a method leaves out is a term or a factor left out.
"""

import random
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import functional_call
from toys import Recorder, run, toy

from methods import Batch, Plan, Sampler, Score, Step, ddim, parse, sample, trajectory
from methods.alignprop import bernoulli_steps
from methods.drtune import drtune_steps
from methods.refl import refl_steps

CLOSE = {"rtol": 1e-10, "atol": 1e-12}
QUICK = settings(max_examples=15)
STEPS = 6
UNUSED = random.Random(0)

Theta = dict[str, Tensor]


def alphas(steps: int) -> list[tuple[int, float, float]]:
    """(t, ᾱ_t, ᾱ_t') of DDIM's steps in sampling order, by the schedule's definition."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float32) ** 2
    bar = torch.cumprod(1 - betas, 0).tolist()
    stride = 1000 // steps
    times = [1 + stride * j for j in reversed(range(steps))]
    return [(t, bar[t], bar[t - stride] if t >= stride else bar[0]) for t in times]


@dataclass
class Problem:
    """The toy with its denoiser as a function of explicit weights, and DDIM written out (Song et al. 2021, eq. 12)."""

    steps: int = STEPS
    eta: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        self.backbone, self.reward, self.batch, self.x = toy(self.seed)
        self.levels = alphas(self.steps)
        self.theta: Theta = {n: p.detach().clone() for n, p in self.backbone.denoiser.named_parameters()}
        generator = torch.Generator().manual_seed(99)
        self.noises = [torch.randn(self.x.shape, generator=generator, dtype=self.x.dtype) for _ in range(self.steps)]

    @property
    def sampler(self) -> Sampler:
        return ddim(self.steps, self.eta)

    def copies(self, theta: Theta | None = None) -> list[Theta]:
        """θ_0..θ_{T-1}, equal in value and independent."""
        theta = theta or self.theta
        return [{n: p.clone().requires_grad_() for n, p in theta.items()} for _ in range(self.steps)]

    def eps(self, theta: Theta, x: Tensor, i: int) -> Tensor:
        """Guided noise prediction, from two calls."""
        t = self.levels[i][0]
        with_text = functional_call(self.backbone.denoiser, theta, (x, t, self.batch.text))
        without = functional_call(self.backbone.denoiser, theta, (x, t, self.batch.null_text))
        return without + self.backbone.guidance * (with_text - without)

    def x0_hat(self, x: Tensor, eps: Tensor, i: int) -> Tensor:
        _, a, _ = self.levels[i]
        return (x - (1 - a) ** 0.5 * eps) / a**0.5

    def next(self, x: Tensor, eps: Tensor, i: int) -> Tensor:
        _, a, a_next = self.levels[i]
        sigma = self.eta * ((1 - a_next) / (1 - a)) ** 0.5 * (1 - a / a_next) ** 0.5
        state = a_next**0.5 * self.x0_hat(x, eps, i) + (1 - a_next - sigma**2) ** 0.5 * eps
        return state + sigma * self.noises[i] if self.eta else state

    def chain(self, thetas: list[Theta]) -> tuple[list[Tensor], list[Tensor]]:
        """States x_0..x_T (sampling order) and one-step predictions, all in one graph."""
        states, predictions = [self.x], []
        for i, theta in enumerate(thetas):
            eps = self.eps(theta, states[-1], i)
            predictions.append(self.x0_hat(states[-1], eps, i))
            states.append(self.next(states[-1], eps, i))
        return states, predictions

    def states(self) -> list[Tensor]:
        with torch.no_grad():
            return self.chain(self.copies())[0]

    def score(self, latent: Tensor, timestep: int | None = None) -> Tensor:
        """Mean reward of a decoded latent."""
        return self.reward(self.backbone.decode(latent, self.batch), self.batch, timestep).mean()

    def objective(self, latent: Tensor) -> Tensor:
        """Its gradient in the latent, as a vector."""
        latent = latent.detach().requires_grad_()
        return torch.autograd.grad(self.score(latent), latent)[0]

    def rollout(self, plan: Plan, lr: float = 0.0, clip: float = 1e9, generator: torch.Generator | None = None):
        """The code under test on the same problem: its Outcome, and an Updater that kept the gradients."""
        updater = Recorder(torch.optim.SGD(self.backbone.denoiser.parameters(), lr=lr), clip=clip)
        generator = generator or torch.Generator().manual_seed(99)
        outcome = run(plan, self.backbone, self.sampler, self.reward, self.batch, self.x, updater, generator)
        return outcome, updater

    def gradients(self, plan: Plan) -> Theta:
        """d objective / dθ of a plan with one update (of the maximised objective: the loss has the other sign)."""
        _, updater = self.rollout(plan)
        (gradients,) = updater.gradients
        return {n: -g for n, g in zip(self.theta, gradients, strict=True)}


def derivative(value: Tensor, theta: Theta) -> Theta:
    return dict(zip(theta, torch.autograd.grad(value, list(theta.values()), retain_graph=True), strict=True))


def total(terms: list[Theta]) -> Theta:
    return {name: sum(term[name] for term in terms) for name in terms[0]}


def scaled(theta: Theta, factor: float) -> Theta:
    return {name: factor * value for name, value in theta.items()}


def assert_same(got: Theta, expected: Theta) -> None:
    assert any(value.abs().max() > 1e-3 for value in expected.values()), "a gradient of nothing shows nothing"
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, **CLOSE, msg=lambda message, n=name: f"{n}: {message}")


def last_terms(problem: Problem, k: int) -> Theta:
    """DRaFT-K, equation 2: the derivatives of r(x_0) in the weights of the last K steps alone."""
    thetas = problem.copies()
    states, _ = problem.chain(thetas)
    reward = problem.score(states[-1])
    return total([derivative(reward, theta) for theta in thetas[problem.steps - k :]])


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_draft_is_full_backpropagation(eta):
    """DRaFT-T, here with one set of weights for all steps and nothing cut: the plain derivative of r(x_0)."""
    problem = Problem(eta=eta)
    theta = {name: value.clone().requires_grad_() for name, value in problem.theta.items()}
    states, _ = problem.chain([theta] * problem.steps)
    expected = derivative(problem.score(states[-1]), theta)
    assert_same(problem.gradients(parse("draft").plan(STEPS, UNUSED)), expected)
    outcome, _ = problem.rollout(parse("draft").plan(STEPS, UNUSED))
    torch.testing.assert_close(outcome.state, states[-1].detach(), **CLOSE)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("k", range(1, STEPS + 1))
def test_draft_k_is_the_last_k_terms(k, eta):
    problem = Problem(eta=eta)
    assert_same(problem.gradients(parse(f"draft:k={k}").plan(STEPS, UNUSED)), last_terms(problem, k))


@pytest.mark.parametrize("cut", range(STEPS))
def test_alignprop_with_a_cut_is_draft(cut):
    """Truncation at s keeps the T - s last steps, whichever truncation drew it."""
    problem = Problem()
    plan = parse(f"alignprop:truncation=fixed,k={STEPS - cut}").plan(STEPS, UNUSED)
    assert_same(problem.gradients(plan), last_terms(problem, STEPS - cut))


@pytest.mark.parametrize("truncation", ["uniform", "gaussian"])
def test_alignprop_that_draws_is_draft(truncation):
    problem, rng = Problem(), random.Random(3)
    for _ in range(4):
        plan = parse(f"alignprop:truncation={truncation}").plan(STEPS, rng)
        assert_same(problem.gradients(plan), last_terms(problem, plan.recorded))


def test_alignprop_fixed_keeps_half_by_default():
    problem = Problem()
    plan = parse("alignprop:truncation=fixed").plan(STEPS, UNUSED)
    assert_same(problem.gradients(plan), last_terms(problem, STEPS // 2))


@QUICK
@given(steps=st.integers(2, 8), data=st.data())
def test_alignprop_bernoulli_freezes_the_other_predictions(steps, data):
    """Steps left out contribute constants ε_i, while x_t still carries gradient through the sampler's own terms."""
    problem = Problem(steps=steps)
    kept = data.draw(st.sets(st.integers(0, steps - 1), min_size=1))
    theta = {name: value.clone().requires_grad_() for name, value in problem.theta.items()}
    frozen = [problem.eps(problem.theta, x, i) for i, x in enumerate(problem.states()[:-1])]
    x = problem.x
    for i in range(steps):
        x = problem.next(x, problem.eps(theta, x, i) if i in kept else frozen[i], i)
    expected = derivative(problem.score(x), theta)
    assert_same(problem.gradients(bernoulli_steps(frozenset(kept), steps)), expected)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_draft_lv_averages_the_last_step_over_noisings(n):
    """DRaFT-LV (algorithm 2): x_1 = √ᾱ_1 x_0 + √(1-ᾱ_1) ε_j, one step, reward; the mean of n such gradients.

    The noisings are drawn one after the other, each from the end that the one before reached.
    """
    problem = Problem()
    t, a, _ = problem.levels[-1]
    generator = torch.Generator().manual_seed(7)
    end = problem.states()[-1]
    terms = []
    for _ in range(n):
        noise = torch.randn(end.shape, generator=generator, dtype=end.dtype)
        x1 = a**0.5 * end + (1 - a) ** 0.5 * noise
        theta = problem.copies()[0]
        x0 = problem.next(x1, problem.eps(theta, x1, STEPS - 1), STEPS - 1)
        terms.append(derivative(problem.score(x0), theta))
        end = x0.detach()
    plan = parse(f"draft-lv:n={n}").plan(STEPS, UNUSED)
    outcome, updater = problem.rollout(plan, generator=torch.Generator().manual_seed(7))
    got = {name: -g for name, g in zip(problem.theta, updater.gradients[0], strict=True)}
    assert_same(got, scaled(total(terms), 1 / n))
    assert len(outcome.rewards) == n
    assert t == 1


@QUICK
@given(steps=st.integers(2, 8), eta=st.sampled_from([0.0, 1.0]), data=st.data())
def test_drtune_is_linear_in_the_trained_predictions(steps, eta, data):
    """With the denoiser's input stopped, x̂_0 (the prediction where it stops) is Σ c_i ε_θ(x̄_i) + const, with c_i a
    product of the sampler's own factors: the gradient is Σ over trained i of c_i · ∂ε_θ(x̄_i)/∂θ · ∂r/∂x̂_0."""
    k = data.draw(st.integers(1, steps))
    stride = steps // k
    offset = data.draw(st.integers(0, steps - 1 - (k - 1) * stride))
    stop = data.draw(st.integers(offset, steps - 1))
    trained = range(offset, offset + k * stride, stride)
    problem = Problem(steps=steps, eta=eta)
    states = problem.states()
    prediction = problem.x0_hat(states[stop], problem.eps(problem.theta, states[stop], stop), stop)
    pull = problem.objective(prediction)
    factor = dict.fromkeys(range(stop + 1), 0.0)  # c_i of the prediction at `stop`
    _, a, _ = problem.levels[stop]
    factor[stop] = -(((1 - a) / a) ** 0.5)
    carried = a**-0.5  # d x̂_0 / d x_stop, then further back
    for i in reversed(range(stop)):
        _, a, a_next = problem.levels[i]
        sigma2 = eta**2 * (1 - a_next) / (1 - a) * (1 - a / a_next)
        factor[i] = carried * ((1 - a_next - sigma2) ** 0.5 - (a_next * (1 - a) / a) ** 0.5)
        carried *= (a_next / a) ** 0.5
    terms = []
    for i in trained:
        if i <= stop:
            theta = problem.copies()[0]
            terms.append(derivative((factor[i] * problem.eps(theta, states[i], i) * pull).sum(), theta))
    plan = drtune_steps(trained, stop, steps)
    assert_same(problem.gradients(plan), total(terms))
    torch.testing.assert_close(problem.backbone.decoded[-1], prediction, **CLOSE)


def test_drtune_draws_make_such_plans():
    """What the method draws is a plan of the formula above, in both variants."""
    rng = random.Random(5)
    for text in ("drtune:k=2,m=3", "drtune:k=3,m=1", "drtune:k=4,m=4,variant=released"):
        method = parse(text)
        for _ in range(20):
            plan = method.plan(STEPS, rng)
            first = min(step.index for step in plan.steps if step.record)
            stride = STEPS // method.k
            trained = range(first, first + method.k * stride, stride)
            assert trained[-1] < STEPS
            assert plan == drtune_steps(trained, plan.steps[-1].index, STEPS)


@pytest.mark.parametrize("stop", range(STEPS))
def test_refl_is_the_one_step_prediction(stop):
    """∂ r(x̂_0(x̄_t))/∂θ at one step, nothing before it."""
    problem = Problem()
    theta = problem.copies()[0]
    x = problem.states()[stop]
    prediction = problem.x0_hat(x, problem.eps(theta, x, stop), stop)
    assert_same(problem.gradients(refl_steps(stop, STEPS)), derivative(problem.score(prediction), theta))


def easytune_reference(
    problem: Problem, first: int, last: int, lr: float, clip: float, score: str
) -> tuple[list[Theta], Theta]:
    """Corollary 2 as an algorithm: at each step the one direct term, then an SGD step; the next state comes from the
    weights before it. Returns the gradients and the weights at the end."""
    theta = {name: value.clone() for name, value in problem.theta.items()}
    x = problem.x
    gradients = []
    for i in range(last + 1):
        leaves = {name: value.clone().requires_grad_() for name, value in theta.items()}
        eps = problem.eps(leaves, x, i)
        state = problem.next(x, eps, i)
        if i >= first:
            if score == "noisy":
                following = problem.levels[i + 1][0] if i + 1 < problem.steps else 0
                reward = problem.score(state, following)
            else:
                reward = problem.score(problem.x0_hat(x, eps, i))
            gradient = derivative(reward, leaves)
            gradients.append(gradient)
            norm = sum((g**2).sum() for g in gradient.values()).sqrt()
            shrink = min(1.0, float(clip / (norm + 1e-6)))
            theta = {name: value + lr * shrink * gradient[name] for name, value in theta.items()}
        x = state.detach()
    return gradients, theta


@QUICK
@given(
    steps=st.integers(1, 8),
    score=st.sampled_from(["x0-hat", "noisy"]),
    eta=st.sampled_from([0.0, 1.0]),
    clip=st.sampled_from([0.05, 1e9]),
    data=st.data(),
)
def test_easytune_is_the_direct_term_at_every_step(steps, score, eta, clip, data):
    """Every gradient of a trajectory, with the weights moving (and clipped) between them, over any window."""
    first = data.draw(st.integers(0, steps - 1))
    last = data.draw(st.integers(first, steps - 1))
    problem = Problem(steps=steps, eta=eta)
    expected, weights = easytune_reference(problem, first, last, lr=0.05, clip=clip, score=score)
    plan = parse(f"easytune:score={score},first={first},last={last}").plan(steps, UNUSED)
    outcome, updater = problem.rollout(plan, lr=0.05, clip=clip)
    assert len(updater.gradients) == len(expected) == last - first + 1
    for gradients, reference in zip(updater.gradients, expected, strict=True):
        assert_same({name: -g for name, g in zip(problem.theta, gradients, strict=True)}, reference)
    assert_same({n: p.detach() for n, p in problem.backbone.denoiser.named_parameters()}, weights)
    norms = [sum((g**2).sum() for g in gradient.values()).sqrt() for gradient in expected]
    torch.testing.assert_close(torch.stack(outcome.gradient_norms), torch.stack(norms), **CLOSE)


@QUICK
@given(steps=st.integers(1, 8), score=st.sampled_from(["x0-hat", "noisy"]), data=st.data())
def test_easytune_chain_sums_every_reward_through_the_chain(steps, score, data):
    """The ablation: Σ_i r_i, each through every denoiser call of the window before it; nothing before the window."""
    first = data.draw(st.integers(0, steps - 1))
    last = data.draw(st.integers(first, steps - 1))
    problem = Problem(steps=steps)
    thetas = problem.copies()
    states, predictions = problem.chain(thetas)
    window = range(first, last + 1)
    if score == "noisy":
        following = [t for t, _, _ in problem.levels[1:]] + [0]
        rewards = [problem.score(states[i + 1], following[i]) for i in window]
    else:
        rewards = [problem.score(predictions[i]) for i in window]
    terms = []
    for i, reward in zip(window, rewards, strict=True):
        terms += [derivative(reward, thetas[j]) for j in range(first, i + 1)]
    plan = parse(f"easytune:mode=chain,score={score},first={first},last={last}").plan(steps, UNUSED)
    assert_same(problem.gradients(plan), total(terms))
    outcome, _ = problem.rollout(plan)
    torch.testing.assert_close(torch.stack(outcome.rewards).mean(1), torch.stack(rewards).detach(), **CLOSE)


def test_easytune_chain_released_keeps_the_trajectory_of_the_old_weights():
    """The released chain code: direct terms along the trajectory of the first weights, applied one after the other."""
    problem = Problem()
    gradients = []
    for i, x in enumerate(problem.states()[:-1]):
        theta = problem.copies()[0]
        gradients.append(derivative(problem.score(problem.x0_hat(x, problem.eps(theta, x, i), i)), theta))
    outcome, updater = problem.rollout(parse("easytune:mode=chain-released").plan(STEPS, UNUSED), lr=0.05)
    for got, expected in zip(updater.gradients, gradients, strict=True):
        assert_same({name: -g for name, g in zip(problem.theta, got, strict=True)}, expected)
    weights = {name: value + 0.05 * total(gradients)[name] for name, value in problem.theta.items()}
    assert_same({n: p.detach() for n, p in problem.backbone.denoiser.named_parameters()}, weights)
    torch.testing.assert_close(outcome.state, Problem().states()[-1], **CLOSE)


def test_corollary_1_full_gradient_is_a_sum_of_jacobian_products():
    """dr(x_0)/dθ = Σ_t (∂r/∂x_0) (∏ ∂x_{s-1}/∂x_s, s < t) (∂x_{t-1}/∂θ direct), every Jacobian formed explicitly."""
    problem = Problem()
    states = problem.states()
    size = problem.x.numel()
    row = problem.objective(states[-1]).reshape(1, size)  # ∂r/∂x_0
    terms = []
    for i in reversed(range(STEPS)):
        theta = problem.copies()[0]
        after = problem.next(states[i], problem.eps(theta, states[i], i), i)
        direct = {
            name: torch.stack(
                [torch.autograd.grad(entry, value, retain_graph=True)[0].flatten() for entry in after.flatten()]
            )
            for name, value in theta.items()
        }
        terms.append({name: (row @ jacobian).reshape(theta[name].shape) for name, jacobian in direct.items()})

        def step(x: Tensor, i: int = i) -> Tensor:
            return problem.next(x, problem.eps(problem.theta, x, i), i)

        row = row @ torch.autograd.functional.jacobian(step, states[i]).reshape(size, size)
    full = problem.gradients(parse("draft").plan(STEPS, UNUSED))
    assert_same(full, total(terms))
    # Leaving out the terms before the last K steps is DRaFT-K.
    for k in range(1, STEPS + 1):
        assert_same(problem.gradients(parse(f"draft:k={k}").plan(STEPS, UNUSED)), total(terms[:k]))


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_sample_is_the_same_chain_without_gradients(eta):
    problem = Problem(eta=eta)
    motion = sample(
        problem.backbone,
        problem.sampler,
        problem.batch,
        problem.x,
        generator=torch.Generator().manual_seed(99),
    )
    expected = problem.backbone.decode(problem.states()[-1], problem.batch)
    assert not motion.requires_grad
    torch.testing.assert_close(motion, expected, **CLOSE)


def test_objective_is_the_mean_over_the_batch():
    """Each motion's gradient counts the same, whatever the batch holds beside it."""
    problem = Problem()
    plan = parse("draft:k=2").plan(STEPS, UNUSED)
    both = problem.gradients(plan)
    alone = []
    for row in range(2):
        one = Problem()
        batch = one.batch
        rows = slice(row, row + 1)
        one.batch = Batch(
            batch.text[rows], batch.null_text, batch.tokens[rows], batch.token_mask[rows], batch.frame_mask[rows]
        )
        one.x = one.x[rows]
        alone.append(one.gradients(plan))
    assert_same(both, scaled(total(alone), 0.5))


@pytest.mark.parametrize("cut", range(STEPS))
def test_a_cut_stops_every_gradient_even_behind_recorded_steps(cut):
    """A plan of someone else's, which records all steps and cuts one: what is before the cut contributes nothing."""
    problem = Problem()
    last = STEPS - 1
    steps = (
        Step(i, record=True, cut=i == cut, score=Score.X0 if i == last else None, update=i == last)
        for i in range(STEPS)
    )
    assert_same(problem.gradients(trajectory(STEPS, steps)), last_terms(problem, STEPS - cut))


def test_weights_of_scores_scale_the_objective():
    """A step's weight multiplies its reward; the rewards reported stay the reward's own."""
    problem = Problem()
    plan = parse("draft:k=2").plan(STEPS, UNUSED)
    weighted = Plan(tuple(replace(step, weight=3.0) for step in plan.steps), STEPS)
    assert_same(problem.gradients(weighted), scaled(problem.gradients(plan), 3.0))
    assert torch.equal(problem.rollout(weighted)[0].rewards[0], problem.rollout(plan)[0].rewards[0])


def test_sampler_of_the_reference_is_the_one_under_test():
    """The references' own schedule and the sampler agree, so a difference above would be one of gradients."""
    for steps in range(1, 9):
        sampler: Sampler = ddim(steps)
        for c, (t, a, _) in zip(sampler.table, alphas(steps), strict=True):
            assert c.timestep == t
            assert c.signal**2 == pytest.approx(a, rel=1e-12)
