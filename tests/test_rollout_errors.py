"""A reward or gradient that cannot be used: one clear sentence, and nothing has changed."""

import copy
import random
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from toys import Outcome, ToyReward, run, toy

from methods import RewardError, Updater, ddim, parse, rollout
from methods.errors import InputError

STEPS = 5
METHODS = ["draft", "draft:k=1", "draft-lv", "alignprop:truncation=bernoulli,p=0.5", "drtune:k=2", "refl:m=1"]
EVERY_METHOD = [*METHODS, "easytune", "easytune:mode=chain", "easytune:mode=chain-released"]


class Spoilt:
    """A reward that is `spoil(rewards)` from its call number `after` on."""

    def __init__(self, reward: ToyReward, spoil: Callable[[Tensor], Tensor], after: int = 0):
        self.reward, self.spoil, self.after = reward, spoil, after
        self.calls = 0

    def __call__(self, motion, batch, timestep=None):
        rewards = self.reward(motion, batch, timestep)
        self.calls += 1
        return self.spoil(rewards) if self.calls > self.after else rewards

    def networks(self):
        return {}


def one_is(value: float) -> Callable[[Tensor], Tensor]:
    """Replaces the first motion's reward."""
    return lambda rewards: torch.cat([rewards[:1] * 0 + value, rewards[1:]])


class InfiniteGradient(torch.autograd.Function):
    """The identity, with an infinite derivative."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("inf")


NOT_FINITE = {
    "nan reward": (one_is(float("nan")), "the reward is not finite (NaN or inf): the update is refused"),
    "inf reward": (one_is(float("inf")), "the reward is not finite (NaN or inf): the update is refused"),
    "two infinities": (
        lambda r: r * 0 + torch.tensor([float("inf"), -float("inf")]),
        "the reward is not finite (NaN or inf): the update is refused",
    ),
    "inf gradient": (
        InfiniteGradient.apply,
        "the gradient is not finite although the reward is: the update is refused",
    ),
}
SHAPES = {
    "batch mean": (lambda r: r.mean(), "the reward returned shape () for 2 motions, expected (2,)"),
    "column": (lambda r: r[:, None], "the reward returned shape (2, 1) for 2 motions, expected (2,)"),
    "one too few": (lambda r: r[:1], "the reward returned shape (1,) for 2 motions, expected (2,)"),
}


class Trial:
    """One AdamW update done (so that the optimiser has a state to spoil), and a snapshot of everything since."""

    def __init__(self, **options):
        self.backbone, self.reward, self.batch, self.x = toy()
        self.denoiser = self.backbone.denoiser
        optimizer = torch.optim.AdamW(self.denoiser.parameters(), lr=0.01)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: 1 / (1 + n))
        self.updater = Updater(optimizer, schedule=schedule, **options)
        self.run("refl:m=1", self.reward)
        self.before = self.state()

    def run(self, text: str, reward) -> Outcome:
        plan = parse(text).plan(STEPS, random.Random(4))
        noise = torch.Generator().manual_seed(0)
        return run(plan, self.backbone, ddim(STEPS), reward, self.batch, self.x, self.updater, noise)

    def state(self) -> list[dict]:
        return copy.deepcopy(
            [self.denoiser.state_dict(), self.updater.optimizer.state_dict(), self.updater.schedule.state_dict()]
        )

    def assert_untouched(self) -> None:
        """Weights, optimiser state, schedule bit for bit; no gradient left; the denoiser in its place."""
        assert_identical(self.state(), self.before)
        assert all(p.grad is None for p in self.denoiser.parameters())
        assert self.backbone.denoiser is self.denoiser


def assert_identical(a, b) -> None:
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_identical(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for left, right in zip(a, b, strict=True):
            assert_identical(left, right)
    elif isinstance(a, Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b


def assert_one_sentence(error: Exception, begins: str) -> None:
    message = str(error)
    assert message.startswith(begins)
    assert "\n" not in message
    assert len(message) < 200


@pytest.mark.parametrize("fault", NOT_FINITE)
@pytest.mark.parametrize("text", EVERY_METHOD)
def test_what_is_not_finite_is_refused(text, fault):
    """Whatever the method, and also where only one motion of the batch is bad."""
    spoil, says = NOT_FINITE[fault]
    trial = Trial()
    with pytest.raises(RewardError) as caught:
        trial.run(text, Spoilt(trial.reward, spoil))
    assert_one_sentence(caught.value, says)
    trial.assert_untouched()


@pytest.mark.parametrize("fault", SHAPES)
@pytest.mark.parametrize("text", EVERY_METHOD)
def test_a_reward_of_the_wrong_shape_is_refused(text, fault):
    """A mean over the batch, in particular, would train silently at another scale."""
    spoil, says = SHAPES[fault]
    trial = Trial()
    with pytest.raises(RewardError) as caught:
        trial.run(text, Spoilt(trial.reward, spoil))
    assert_one_sentence(caught.value, says)
    trial.assert_untouched()


def test_a_reward_error_is_a_method_error():
    """So that a caller needs to catch one type for all that a user can mend."""
    assert issubclass(RewardError, InputError)


@pytest.mark.parametrize("spoil", [NOT_FINITE["nan reward"][0], SHAPES["batch mean"][0]])
@pytest.mark.parametrize("mode", ["step", "chain-released"])
def test_updates_before_the_refused_one_stay(mode, spoil):
    """EasyTune updates as it goes: a fault at the third reward leaves the weights as the second update left them."""
    whole, broken = Trial(), Trial()
    whole.run(f"easytune:mode={mode},last=1", whole.reward)
    with pytest.raises(RewardError):
        broken.run(f"easytune:mode={mode}", Spoilt(broken.reward, spoil, after=2))
    broken.before = whole.state()
    broken.assert_untouched()
    assert not torch.equal(whole.denoiser.Wx, Trial().denoiser.Wx)


@pytest.mark.parametrize("text", ["draft-lv:n=3", "easytune:mode=chain"])
def test_a_fault_in_any_score_of_an_update_refuses_it(text):
    """An update that gathers several rewards is refused for the last of them as for the first."""
    trial = Trial()
    with pytest.raises(RewardError, match="the reward is not finite"):
        trial.run(text, Spoilt(trial.reward, NOT_FINITE["nan reward"][0], after=2))
    trial.assert_untouched()


def fails_with(error: BaseException) -> Callable[[Tensor], Tensor]:
    def spoil(rewards: Tensor) -> Tensor:
        raise error

    return spoil


@pytest.mark.parametrize("error", [ValueError("reward server is away"), KeyboardInterrupt()])
@pytest.mark.parametrize(("text", "after"), [("draft-lv:n=3", 1), ("draft", 0), ("easytune:mode=chain-released", 0)])
def test_any_error_leaves_no_gradient_and_the_denoiser_in_its_place(text, after, error):
    """Also an interruption by the user: the next trajectory must not begin with half a gradient."""
    trial = Trial()
    with pytest.raises(type(error)):
        trial.run(text, Spoilt(trial.reward, fails_with(error), after))
    trial.assert_untouched()


def test_the_denoiser_is_back_after_a_delayed_trajectory_and_was_away_during_it():
    """chain-released samples with a copy; the backbone's own denoiser is the one that learns."""
    trial = Trial()
    seen = []

    def note(rewards):
        seen.append(trial.backbone.denoiser)
        return rewards

    trial.run("easytune:mode=chain-released", Spoilt(trial.reward, note))
    assert trial.backbone.denoiser is trial.denoiser
    assert len(seen) == STEPS
    assert all(module is not trial.denoiser for module in seen)
    assert not torch.equal(trial.denoiser.Wx, trial.before[0]["Wx"])
    assert torch.equal(seen[-1].Wx, trial.before[0]["Wx"])


@pytest.mark.parametrize("fault", NOT_FINITE)
def test_unchecked_lets_it_pass(fault):
    """check_finite=False costs no synchronisation and so cannot refuse: a simulated run has no values to look at."""
    trial = Trial(check_finite=False)
    outcome = trial.run("draft", Spoilt(trial.reward, NOT_FINITE[fault][0]))
    assert len(outcome.rewards) == len(outcome.gradient_norms) == 1
    assert not (outcome.rewards[0].isfinite().all() and outcome.gradient_norms[0].isfinite())
    assert trial.updater.schedule.last_epoch == 2
    assert all(p.grad is None for p in trial.denoiser.parameters())


def test_unchecked_still_refuses_a_wrong_shape():
    """The shape is known without looking at any value."""
    trial = Trial(check_finite=False)
    with pytest.raises(RewardError, match=r"expected \(2,\)"):
        trial.run("draft", Spoilt(trial.reward, SHAPES["batch mean"][0]))
    trial.assert_untouched()


@pytest.mark.parametrize("text", EVERY_METHOD)
def test_a_good_trajectory_after_a_refused_one_is_as_if_nothing_had_happened(text):
    """Nothing of the refused trajectory is left anywhere that counts."""
    clean, recovered = Trial(), Trial()
    with pytest.raises(RewardError):
        recovered.run(text, Spoilt(recovered.reward, NOT_FINITE["inf gradient"][0]))
    clean.run(text, clean.reward)
    recovered.run(text, recovered.reward)
    assert_identical(recovered.state(), clean.state())


@pytest.mark.parametrize("clip", [1e-3, float("inf")])
def test_gradients_are_clipped_only_above_the_limit(clip):
    """The norm reported is the one before clipping; with SGD at rate 1 the step shows what was applied."""
    trial = Trial()
    trial.updater = Updater(torch.optim.SGD(trial.denoiser.parameters(), lr=1.0), clip=clip)
    before = copy.deepcopy(trial.denoiser.state_dict())
    norm = trial.run("draft", trial.reward).gradient_norms[0].item()
    after = trial.denoiser.state_dict()
    moved = torch.cat([(after[name] - before[name]).flatten() for name in before]).norm().item()
    assert norm > 0.1
    assert moved == pytest.approx(min(norm, clip), rel=1e-4)


@pytest.mark.parametrize(("text", "updates", "scores"), [("easytune", STEPS, STEPS), ("draft-lv:n=3", 1, 3)])
def test_each_update_is_told_once_and_nothing_of_it_is_kept(text, updates, scores):
    """on_update comes after the optimiser step, with the rewards behind it; then the rollout lets go of them, so that
    memory does not grow with the number of updates."""
    trial = Trial()
    told, held, weights = [], [], [trial.denoiser.Wx.detach().clone()]

    def note(rewards: list[Tensor], norm: Tensor) -> None:
        assert all(reference() is None for reference in held)
        assert not any(value.requires_grad for value in (*rewards, norm))
        assert not torch.equal(trial.denoiser.Wx, weights[-1])
        held.extend(weakref.ref(value) for value in (*rewards, norm))
        weights.append(trial.denoiser.Wx.detach().clone())
        told.append((torch.stack(rewards), norm.clone()))

    plan = parse(text).plan(STEPS, random.Random(4))
    noise = torch.Generator().manual_seed(0)
    inputs = (trial.backbone, ddim(STEPS), trial.reward, trial.batch, trial.x, trial.updater)
    rollout(plan, *inputs, generator=noise, on_update=note)
    assert len(told) == updates
    assert sum(len(rewards) for rewards, _ in told) == scores
    assert all(rewards.shape[1:] == (2,) and norm > 0 for rewards, norm in told)
