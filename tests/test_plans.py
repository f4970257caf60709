"""Plans: how many denoiser calls each method records and holds, what is refused, and how methods are written."""

import random
import re
from collections import Counter
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods import METHODS, Plan, Score, Step, parse, register, spec, trajectory
from methods.alignprop import AlignProp, bernoulli_steps
from methods.draft import DRaFT, DRaFTLV, last_steps
from methods.drtune import DRTune, drtune_steps
from methods.easytune import EasyTune
from methods.errors import InputError
from methods.refl import ReFL, refl_steps

QUICK = settings(max_examples=60)
T = st.integers(2, 60)
SEEDS = st.integers(0, 2**32 - 1)
UNUSED = random.Random(0)


def indices(plan: Plan) -> list[int]:
    return [step.index for step in plan.steps]


def trained(plan: Plan) -> list[int]:
    return [step.index for step in plan.steps if step.record]


@st.composite
def drawn(draw) -> Plan:
    """A plan of any method with any valid options at any number of steps."""
    steps = draw(T)
    k, m = st.integers(1, steps), st.integers(2, steps)
    first = draw(st.integers(0, steps - 1))
    window = {"first": st.just(first), "last": st.integers(first, steps - 1)}
    method = draw(
        st.one_of(
            st.builds(DRaFT, k=st.integers(0, steps)),
            st.builds(DRaFTLV, n=st.integers(1, 5)),
            st.builds(AlignProp, truncation=st.sampled_from(["uniform", "gaussian"])),
            st.builds(AlignProp, truncation=st.just("fixed"), k=st.integers(0, steps)),
            st.builds(AlignProp, truncation=st.just("bernoulli"), p=st.floats(0.05, 1)),
            st.builds(DRTune, k=k, m=m, variant=st.sampled_from(["paper", "released"])),
            st.builds(ReFL, m=m, variant=st.sampled_from(["paper", "released"])),
            st.builds(
                EasyTune,
                mode=st.sampled_from(["step", "chain", "chain-released"]),
                score=st.sampled_from(["x0-hat", "noisy"]),
                **window,
            ),
        )
    )
    return method.plan(steps, random.Random(draw(SEEDS)))


# What a plan is.


@QUICK
@given(plan=drawn())
def test_every_plan_can_be_run(plan):
    """It passes trajectory's own checks, starts at the first step, runs forward, and ends in an optimiser step."""
    assert trajectory(plan.total, plan.steps).steps == plan.steps
    once = [index for index, step in zip(indices(plan), plan.steps, strict=True) if not step.renoise]
    assert once == list(range(len(once)))
    assert plan.steps[-1].update
    assert plan.scores >= plan.updates >= 1


@QUICK
@given(plan=drawn())
def test_segments_part_a_plan_where_the_state_is_cut(plan):
    segments = plan.segments()
    assert tuple(step for segment in segments for step in segment) == plan.steps
    for segment in segments[1:]:
        assert segment[0].cut or segment[0].renoise
    assert not any(step.cut or step.renoise for segment in segments for step in segment[1:])


@QUICK
@given(plan=drawn())
def test_held_is_between_what_a_segment_must_and_could_hold(plan):
    """Never more than is recorded, and no less than an even share of it among the segments."""
    assert 1 <= plan.held <= plan.recorded
    assert plan.held * len(plan.segments()) >= plan.recorded


# What sets each method's memory: calls recorded and calls held.


@QUICK
@given(steps=T, data=st.data())
def test_draft_holds_k(steps, data):
    k = data.draw(st.integers(0, steps))
    plan = DRaFT(k).plan(steps, UNUSED)
    kept = k or steps
    assert trained(plan) == list(range(steps - kept, steps))
    assert (plan.recorded, plan.held, plan.updates, plan.scores) == (kept, kept, 1, 1)
    assert plan.steps[-1].score is Score.X0
    assert plan.steps[steps - kept].cut, "nothing of the earlier steps may be kept alive"


@QUICK
@given(steps=T, n=st.integers(1, 6))
def test_draft_lv_holds_one_whatever_n(steps, n):
    plan = DRaFTLV(n).plan(steps, UNUSED)
    assert indices(plan) == [*range(steps), *[steps - 1] * n]
    assert (plan.recorded, plan.held, plan.updates, plan.scores) == (n, 1, 1, n)
    assert sum(step.weight for step in plan.steps if step.score) == pytest.approx(1)


@QUICK
@given(steps=T, seed=SEEDS, truncation=st.sampled_from(["uniform", "gaussian"]))
def test_alignprop_holds_the_drawn_last_steps(steps, seed, truncation):
    plan = AlignProp(truncation=truncation).plan(steps, random.Random(seed))
    assert plan == last_steps(plan.recorded, steps)
    assert 1 <= plan.held <= (steps if truncation == "uniform" else steps - 1)


@QUICK
@given(steps=T, data=st.data())
def test_alignprop_fixed_holds_k_or_half(steps, data):
    k = data.draw(st.integers(0, steps))
    plan = AlignProp(truncation="fixed", k=k).plan(steps, UNUSED)
    assert plan == last_steps(k or max(1, steps // 2), steps)


@QUICK
@given(steps=T, seed=SEEDS, p=st.floats(0.01, 1))
def test_alignprop_bernoulli_holds_all_it_records_and_cuts_nothing(steps, seed, p):
    plan = AlignProp(truncation="bernoulli", p=p).plan(steps, random.Random(seed))
    assert plan == bernoulli_steps(frozenset(trained(plan)), steps)
    assert 1 <= plan.held == plan.recorded
    assert len(plan.segments()) == 1
    assert p < 1 or plan.recorded == steps


@QUICK
@given(steps=T, seed=SEEDS, variant=st.sampled_from(["paper", "released"]), data=st.data())
def test_drtune_holds_the_trained_steps_before_its_stop(steps, seed, variant, data):
    k = data.draw(st.integers(1, steps))
    m = data.draw(st.integers(1 if variant == "paper" else 2, steps))
    plan = DRTune(k, m, variant).plan(steps, random.Random(seed))
    stop = plan.steps[-1].index
    first, stride = trained(plan)[0], steps // k
    assert trained(plan) == [i for i in range(first, first + k * stride, stride) if i <= stop]
    assert first + (k - 1) * stride < steps, "all K trained steps lie within the trajectory"
    assert stop >= steps - m + (variant == "released")
    assert 1 <= plan.held == plan.recorded <= k
    assert m > 1 or plan.recorded == k
    assert all(step.stop_input for step in plan.steps)
    assert plan.steps[-1].score is Score.X0_HAT


@QUICK
@given(steps=T, seed=SEEDS, variant=st.sampled_from(["paper", "released"]), data=st.data())
def test_refl_holds_one_of_the_last_m(steps, seed, variant, data):
    m = data.draw(st.integers(1 if variant == "paper" else 2, steps))
    plan = ReFL(m, variant).plan(steps, random.Random(seed))
    assert trained(plan) == [plan.steps[-1].index]
    assert steps - m + (variant == "released") <= trained(plan)[0] < steps
    assert (plan.recorded, plan.held, plan.updates, plan.scores) == (1, 1, 1, 1)
    assert plan == refl_steps(trained(plan)[0], steps)


@QUICK
@given(steps=T, mode=st.sampled_from(["step", "chain", "chain-released"]), data=st.data())
def test_easytune_holds_one_whatever_the_window_except_in_a_chain(steps, mode, data):
    first = data.draw(st.integers(0, steps - 1))
    last = data.draw(st.integers(first, steps - 1))
    counted_back = data.draw(st.booleans())
    options = {"first": first, "last": last - steps if counted_back else last}
    plan = EasyTune(mode=mode, **options).plan(steps, UNUSED)
    window = last - first + 1
    assert indices(plan) == list(range(last + 1))
    assert trained(plan) == list(range(first, last + 1))
    assert plan.scores == window
    assert plan.held == (window if mode == "chain" else 1)
    assert plan.updates == (1 if mode == "chain" else window)
    assert plan.delayed == (mode == "chain-released")


def test_easytune_optimises_every_step_by_default():
    assert trained(EasyTune().plan(50, UNUSED)) == list(range(50))
    assert EasyTune(first=-3).plan(50, UNUSED) == EasyTune(first=47).plan(50, UNUSED)


def test_grid_shows_every_kind_of_step():
    """And with it, at a glance, what each method is."""
    assert DRaFT(k=2).plan(5, UNUSED).grid() == "...|#U"
    assert DRaFTLV(n=2).plan(3, UNUSED).grid() == "...~S~U"
    assert EasyTune(first=2).plan(5, UNUSED).grid() == "..|U|U|U"
    assert EasyTune(mode="chain", first=2).plan(5, UNUSED).grid() == "..|SSU"
    assert refl_steps(2, 5).grid() == "..|U"
    assert last_steps(3, 6).grid() == "...|##U"
    assert drtune_steps(range(1, 5, 2), 3, 6).grid() == ".o.U"
    assert drtune_steps(range(0, 4, 2), 3, 6).grid() == "o.ou"
    assert bernoulli_steps(frozenset({1, 3}), 6).grid() == ".#.#.u"


# What is refused.


@pytest.mark.parametrize(
    ("text", "steps", "says"),
    [
        ("draft:k=51", 50, "draft: k must be between 1 and the 50 denoising steps (0 for all), not 51"),
        ("draft:k=-1", 50, "draft: k must be between 1 and the 50 denoising steps (0 for all), not -1"),
        ("draft-lv:n=0", 50, "draft-lv: n must be at least 1, not 0"),
        ("alignprop:truncation=fixed,k=51", 50, "alignprop: k must be between 1 and the 50 denoising steps"),
        ("alignprop:truncation=fixed,k=-1", 50, "alignprop: k must be between 1 and the 50 denoising steps"),
        ("alignprop:truncation=gaussian", 1, "alignprop: gaussian truncation needs at least 2 denoising steps"),
        ("alignprop:truncation=bernoulli,p=0", 50, "alignprop: p must be between 0.001 and 1, not 0.0"),
        ("alignprop:truncation=bernoulli,p=1.5", 50, "alignprop: p must be between 0.001 and 1, not 1.5"),
        ("alignprop:truncation=bernoulli,p=nan", 50, "alignprop: p must be between 0.001 and 1, not nan"),
        (
            "alignprop:truncation=half",
            50,
            "alignprop: unknown truncation 'half': choose one of uniform, gaussian, fixed, bernoulli",
        ),
        ("drtune:k=0", 50, "drtune: k must be between 1 and the 50 denoising steps, not 0"),
        ("drtune:k=51", 50, "drtune: k must be between 1 and the 50 denoising steps, not 51"),
        ("drtune:m=0", 50, "drtune: m must be between 1 and the 50 denoising steps, not 0"),
        ("drtune:m=51", 50, "drtune: m must be between 1 and the 50 denoising steps, not 51"),
        ("drtune:m=1,variant=released", 50, "drtune: m must be between 2 and the 50 denoising steps, not 1"),
        ("drtune:variant=old", 50, "drtune: unknown variant 'old': choose one of paper, released"),
        ("refl:m=0", 50, "refl: m must be between 1 and the 50 denoising steps, not 0"),
        ("refl:m=51", 50, "refl: m must be between 1 and the 50 denoising steps, not 51"),
        ("refl:m=1,variant=released", 50, "refl: m must be between 2 and the 50 denoising steps, not 1"),
        ("refl:variant=old", 50, "refl: unknown variant 'old': choose one of paper, released"),
        ("easytune:mode=all", 50, "easytune: unknown mode 'all': choose one of step, chain, chain-released"),
        ("easytune:score=x1", 50, "easytune: unknown score 'x1': choose one of x0-hat, noisy"),
        (
            "easytune:first=5,last=4",
            50,
            "easytune: the window from step 5 to 4 is empty or outside the 50 steps",
        ),
        ("easytune:last=50", 50, "easytune: the window from step 0 to 50 is empty or outside the 50 steps"),
        ("easytune:first=-51", 50, "easytune: the window from step -51 to -1 is empty or outside the 50 steps"),
        ("easytune:last=-51", 50, "easytune: the window from step 0 to -51 is empty or outside the 50 steps"),
    ],
)
def test_a_bad_option_is_named_with_its_range(text, steps, says):
    with pytest.raises(InputError, match=f"^{re.escape(says)}"):
        parse(text).plan(steps, random.Random(0))


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ([], "must end in an optimiser step"),
        ([Step(0, record=True, score=Score.X0)], "must end in an optimiser step"),
        ([Step(5, record=True, score=Score.X0, update=True)], r"outside 0\.\.2"),
        ([Step(-1, record=True, score=Score.X0, update=True)], r"outside 0\.\.2"),
        ([Step(0, score=Score.X0, update=True)], "no recorded denoiser call leads to"),
        (
            [Step(0, record=True), Step(1, record=True, cut=True), Step(2, cut=True, score=Score.X0, update=True)],
            "no recorded denoiser call leads to",
        ),
        (
            [
                Step(0, record=True, score=Score.X0_HAT, update=True),
                Step(1, record=True, score=Score.X0_HAT, update=True),
            ],
            "must end its segment",
        ),
        (
            [Step(0, score=Score.X0_HAT), Step(1, record=True, score=Score.X0, update=True)],
            "no recorded denoiser call leads to",
        ),
        (
            [Step(0, record=True, update=True), Step(1, record=True, cut=True, score=Score.X0, update=True)],
            "needs a score since the last one",
        ),
    ],
)
def test_a_plan_that_cannot_run_is_refused_however_it_is_made(steps, says):
    """For methods registered from outside: the mistake shows when the plan is made."""
    good = trajectory(3, [Step(0, record=True, score=Score.X0, update=True)])
    for make in (
        lambda: trajectory(3, steps),
        lambda: Plan(tuple(steps), 3),
        lambda: replace(good, steps=tuple(steps)),
    ):
        with pytest.raises(ValueError, match=says):
            make()


# How methods are written.


def test_spec_round_trip_of_the_defaults():
    for name, method in METHODS.items():
        assert parse(name) == method()
        assert spec(method()) == name


@QUICK
@given(
    method=st.one_of(
        st.builds(DRaFT, k=st.integers(-5, 60)),
        st.builds(DRaFTLV, n=st.integers(0, 9)),
        st.builds(
            AlignProp,
            truncation=st.sampled_from(["uniform", "gaussian", "fixed", "bernoulli"]),
            k=st.integers(0, 60),
            p=st.floats(0, 1),
        ),
        st.builds(DRTune, k=st.integers(0, 60), m=st.integers(0, 60), variant=st.sampled_from(["paper", "released"])),
        st.builds(ReFL, m=st.integers(0, 60), variant=st.sampled_from(["paper", "released"])),
        st.builds(
            EasyTune,
            mode=st.sampled_from(["step", "chain", "chain-released"]),
            score=st.sampled_from(["x0-hat", "noisy"]),
            first=st.integers(-60, 60),
            last=st.integers(-60, 60),
        ),
    )
)
def test_spec_round_trip(method):
    """Every method can be written down and read back, and is written in one way only."""
    assert parse(spec(method)) == method
    assert spec(parse(spec(method))) == spec(method)


def test_spec_names_only_what_is_not_default():
    assert spec(EasyTune(mode="chain", last=-1)) == "easytune:mode=chain"
    assert parse("draft:k=0") == DRaFT()
    assert spec(parse("drtune:m=20,k=7")) == "drtune:k=7,m=20"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ddpo", "unknown method 'ddpo': choose one of draft, draft-lv, alignprop, drtune, refl, easytune"),
        ("", "unknown method '': choose one of draft, draft-lv, alignprop, drtune, refl, easytune"),
        ("DRaFT", "unknown method 'DRaFT': choose one of draft, draft-lv, alignprop, drtune, refl, easytune"),
        ("drtune:n=3", "method 'drtune' has no option 'n': its options are k, m, variant"),
        ("drtune:k=3,n=3", "method 'drtune' has no option 'n': its options are k, m, variant"),
        ("draft:k=ten", "method 'draft': k='ten' is not a whole number"),
        ("draft:k=2.5", "method 'draft': k='2.5' is not a whole number"),
        ("draft:k=", "method 'draft': k='' is not a whole number"),
        ("alignprop:p=often", "method 'alignprop': p='often' is not a number"),
        ("draft:k", "method 'draft': write option k once, as k=value"),
        ("draft:k=1,k=2", "method 'draft': write option k once, as k=value"),
    ],
)
def test_what_cannot_be_read_is_named(text, says):
    with pytest.raises(InputError, match=f"^{re.escape(says)}$"):
        parse(text)


@pytest.fixture
def ours(monkeypatch):
    """A copy of the registry, so that a test can register."""
    monkeypatch.setattr("methods.registry.METHODS", dict(METHODS))
    monkeypatch.setattr("methods.registry._REGISTERED_BY", {})


@dataclass(frozen=True)
class FromOutside:
    """A method of someone else's: one trained step, given by a float option."""

    at: float = 0.5

    def plan(self, steps: int, rng: random.Random) -> Plan:
        return refl_steps(int(self.at * (steps - 1)), steps)


@pytest.mark.usefixtures("ours")
def test_a_method_can_be_registered_from_outside():
    """It is parsed, written and planned like the others; an unregistered one is told what to do."""
    with pytest.raises(InputError, match=r"FromOutside is not a registered method: call .*register first"):
        spec(FromOutside())
    register("from-outside", FromOutside)
    method = parse("from-outside:at=0.25")
    assert method == FromOutside(0.25)
    assert spec(method) == "from-outside:at=0.25"
    assert trained(method.plan(5, UNUSED)) == [1]
    with pytest.raises(InputError, match=r"unknown method 'x': choose one of .*easytune, from-outside$"):
        parse("x")


@pytest.mark.usefixtures("ours")
def test_a_registered_name_cannot_be_taken():
    with pytest.raises(InputError, match="'draft' is registered already: choose another name"):
        register("draft", FromOutside)
    assert parse("draft") == DRaFT()


# What is random. Bounds are far outside chance (five standard errors or more), and the seeds are fixed besides.


def draws(method, count: int, steps: int = 50) -> list[Plan]:
    rng = random.Random(1)
    return [method.plan(steps, rng) for _ in range(count)]


def assert_even(values: list[int], possible: range) -> None:
    """Every possible value comes up about equally often, and no other."""
    counts = Counter(values)
    assert sorted(counts) == list(possible)
    expected = len(values) / len(possible)
    assert all(abs(count - expected) < 5 * expected**0.5 for count in counts.values())


def test_equal_seeds_draw_equal_plans():
    for text in ("alignprop", "alignprop:truncation=gaussian", "alignprop:truncation=bernoulli", "drtune:m=9", "refl"):
        assert draws(parse(text), 5) == draws(parse(text), 5)
        assert len(set(draws(parse(text), 20))) > 1


def test_alignprop_uniform_covers_every_truncation_evenly():
    assert_even([plan.held for plan in draws(AlignProp(), 3000)], range(1, 51))


def test_alignprop_gaussian_cuts_where_the_original_cuts():
    """The original's draw at T = 50 has mean 40.97 and standard deviation 4.42, 5% below 33 and above 48."""
    for steps in (50, 100):
        cuts = sorted(steps - plan.held for plan in draws(AlignProp(truncation="gaussian"), 2000, steps))
        mean = sum(cuts) / len(cuts)
        deviation = (sum((cut - mean) ** 2 for cut in cuts) / len(cuts)) ** 0.5
        if steps == 50:
            assert mean == pytest.approx(40.97, abs=0.5)
            assert deviation == pytest.approx(4.42, abs=0.35)
            assert (cuts[100], cuts[1900]) == (pytest.approx(33, abs=1), pytest.approx(48, abs=1))
        assert mean / steps == pytest.approx(0.82, abs=0.01)
        assert cuts[0] >= 1
        assert cuts[-1] <= steps - 1


def test_alignprop_bernoulli_keeps_each_step_with_the_same_probability():
    plans = draws(AlignProp(truncation="bernoulli", p=0.1), 1500)
    counts = Counter(index for plan in plans for index in trained(plan))
    # An empty draw is drawn again, which raises the probability by 1 / (1 - 0.9^50).
    expected = 1500 * 0.1 / (1 - 0.9**50)
    assert all(abs(counts[index] - expected) < 5 * expected**0.5 for index in range(50))


@pytest.mark.parametrize(("variant", "first"), [("paper", 40), ("released", 41)])
def test_refl_and_drtune_stop_evenly_over_the_last_m(variant, first):
    """The paper's last m steps; the released code leaves out the first of them."""
    refl = draws(ReFL(m=10, variant=variant), 1500)
    drtune = draws(DRTune(k=5, m=10, variant=variant), 1500)
    for plans in (refl, drtune):
        assert_even([plan.steps[-1].index for plan in plans], range(first, 50))


@pytest.mark.parametrize(
    ("variant", "k", "offsets"),
    [("paper", 10, range(5)), ("paper", 7, range(8)), ("released", 10, range(1)), ("released", 7, range(2))],
)
def test_drtune_offsets_are_even_over_what_fits(variant, k, offsets):
    """Paper: every offset that fits K steps spaced by ⌊T/K⌋. Released: always 0 where K divides T."""
    plans = draws(DRTune(k=k, m=2, variant=variant), 1500)
    assert_even([trained(plan)[0] for plan in plans], offsets)
