"""The planner's arithmetic: sizes, the law behind a peak, and the search for a limit."""

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.cases import Case
from bench.lane import Desk
from bench.meters import allocator, simulated
from bench.plan import draws, frontier, headroom, size
from bench.plan.axes import Axis
from bench.plan.estimate import EstimateJob
from bench.plan.forecast import fit
from bench.plan.headroom import Budget
from bench.plan.memory import Memory
from bench.plan.search import Confirmation, largest
from methods.errors import InputError
from methods.memory import Savings


@given(st.integers(1, 10**6), st.sampled_from(["KiB", "MiB", "GiB", "TiB", "KB", "MB", "GB", "TB"]), st.booleans())
def test_a_size_is_its_number_times_its_unit(number, unit, spaced):
    base = 1024 if unit[1] == "i" else 1000
    expected = number * base ** ("KMGT".index(unit[0]) + 1)
    assert size.parse(f"{number}{' ' if spaced else ''}{unit}") == expected
    assert size.parse(f"{number}.0{unit.lower()}") == expected


@given(st.text())
def test_any_other_text_is_refused_with_the_accepted_forms(text):
    with pytest.raises(InputError, match="write it as 24GiB"):
        size.parse(f"{text} or so")


@given(st.integers(1, 2**50))
def test_a_size_that_is_named_as_enough_is_enough(needed):
    assert size.parse(size.enough(needed)) >= needed


def test_headroom_is_the_sum_of_its_items_and_can_be_replaced():
    case = Case()
    assert Budget(10**10).needs(case, 10**9) == 10**9 + (400 + 64) * 2**20
    assert Budget(10**9, headroom.parse("0")).fits(case, 10**9)
    assert not Budget(10**9, headroom.parse("0")).fits(case, 10**9 + 1)
    assert Budget(10**9, headroom.parse("1MB")).needs(case, 10**9) == 10**9 + 10**6
    assert headroom.parse("default") is headroom.DEFAULT
    assert all(item.source.endswith(".") for item in headroom.DEFAULT)


def test_fused_attention_in_bf16_needs_its_accumulator():
    """67 MB a call at the published scale, and a number a query: `[256, 4, 256, 64]` and `[256, 4, 256]` of float32."""
    sums = 4 * 256 * 4 * 256
    both = "frozen+attention=fused+precision=bf16"
    assert headroom.accumulators(Case(profile=both)) == 64 * sums + sums == 68_157_440
    assert headroom.accumulators(Case(profile=both, frames=300)) == 65 * sums * 384 // 256
    assert headroom.accumulators(Case(profile=both, frames=60, batch=128)) == 65 * sums // 2  # the denoiser's
    of_frames = Case(backbone="mdm", profile=both)  # 512 wide, its batch doubled, and a token for every frame
    assert headroom.accumulators(of_frames) == 4 * 2 * 256 * 256 * (512 + 4)
    assert headroom.accumulators(replace(of_frames, profile="lean+precision=bf16")) == 4 * 8 * 256 * (256 + 4)
    for profile in ("paper", "frozen+attention=fused", "paper+precision=bf16"):
        assert headroom.accumulators(Case(profile=profile)) == 0
    assert Budget(10**10).needs(Case(profile=both), 0) == (400 + 64) * 2**20 + 65 * sums


@given(st.integers(0, 3000), st.integers(1, 1000))
def test_the_largest_that_fits_is_found(edge, most):
    assert largest(lambda n: n <= edge, most) == min(edge, most)


@given(
    fixed=st.integers(0, 10**6),
    slope=st.integers(1, 1000),
    square=st.integers(0, 10),
    jumps=st.sampled_from([0.0, 0.03, 0.3]),
    budget=st.integers(1, 10**7),
    off=st.sampled_from([0.1, 1.0, 10.0]),
    asked=st.integers(1, 500),
    estimated=st.none() | st.integers(1, 600),
)
def test_confirmation_ends_at_a_limit_from_any_forecast(fixed, slope, square, jumps, budget, off, asked, estimated):
    """Also where what is reserved jumps up and down from one value to the next, and where the limit was estimated."""

    def memory(n: int) -> Memory:
        peak = fixed + slope * n + square * n * n
        return Memory({"reward": peak}, round(peak * (1 + jumps * (n * 7919 % 13) / 13)))

    case = Case()
    axis = Axis("batch", 500, asked, lambda n: replace(case, batch=n))
    forecast = SimpleNamespace(of=lambda case: Memory({"reward": 1 + round(off * slope * case.batch)}, fixed))
    search = Confirmation(axis, Budget(budget, ()), forecast)
    search.asked = [asked]
    if estimated:
        search.expect(estimated)
    rounds = 0
    while wanted := search.wanted():
        for n, case_of_n in wanted.items():
            search.learn(n, case_of_n, memory(n))
        search.settle()
        rounds += 1
        assert rounds < 20
    limit = search.limit()
    assert limit.memory == (memory(limit.value) if limit.value else None)
    assert limit.memory is None or (limit.memory.reserved <= budget and limit.value in search.whole)
    assert limit.beyond == (None if limit.most else memory(limit.value + 1))
    assert limit.beyond is None or limit.beyond.reserved > budget
    assert (limit.value >= asked) == (memory(asked).reserved <= budget)
    if not jumps:
        assert limit.value == largest(lambda n: memory(n).reserved <= budget, 500)


@given(st.integers(1, 3000), st.integers(2, 4), st.integers(1, 60))
def test_choices_begin_with_the_whole_and_end_with_everything_saved(motions, parts, held):
    sizes = frontier.piece_sizes(motions, parts)
    assert sizes[0] == 0
    assert all(one <= -(-before // parts) for before, one in pairwise([motions, *sizes[1:]]))
    assert sizes[-1] == (1 if motions > 1 else 0)
    of = frontier.choices(sizes, range(held - 1, -1, -1))
    assert of[0] == Savings()
    assert of[-1] == Savings(sizes[-1], recompute=True)
    assert len(set(of)) == len(of) == len(sizes) + held


def test_a_random_method_is_planned_for_the_draw_that_holds_the_most():
    case = Case("alignprop", steps=6)
    assert draws.is_random("alignprop", 6)
    assert draws.held(draws.worst(case)) == 6
    for fixed in ("draft", "refl:m=2", "drtune:k=2"):
        assert not draws.is_random(fixed, 6)


@pytest.mark.parametrize("backbone", ["mld-tiny", "mdm-tiny"])
def test_the_law_holds_where_calls_grow_with_the_frames_and_where_they_do_not(backbone):
    """More calls and more frames than any probe has, both at once."""
    case = Case("draft", backbone, steps=4, batch=64, frames=60)
    laws = fit(case, SimpleNamespace(reading=simulated.measure))
    peaks = simulated.measure(replace(case, method="draft:k=3", frames=120, batch=256)).phases
    for phase, law in laws.items():
        assert law(3, 256, 120) == pytest.approx(peaks[phase], rel=0.01), phase


@pytest.mark.parametrize("profile", ["paper", "lean"])
def test_another_batch_makes_the_same_allocations_in_proportion(profile):
    """To the byte, where as many motions are left over for the last piece."""
    seen = []

    def replay(stretches, settings):
        seen.append(stretches)
        return allocator.replay(stretches, settings)

    for batch in (1001, 1409):
        simulated.measure(Case("easytune", "mld-tiny", 2, batch, 40, profile), replay=replay)
    one, other = ([[(size, phase) for _, size, phase in events] for events in stretches] for stretches in seen)
    grown = [[(size, phase) for _, size, phase in events] for events in allocator.of_batch(seen[0], 1001, 1409)]
    assert one != grown == other


@pytest.mark.parametrize("method", ["draft", "easytune"])
def test_a_limit_is_estimated_from_one_simulation_near_it(method):
    """To a segment or two, which other motions that are left over for the last piece may take."""
    case = Case(method, "mld-tiny", 3, 5003, 40, "lean")
    room = simulated.measure(replace(case, batch=5101)).reserved
    limit = EstimateJob(case, room).run(Desk(None, print, lambda _: None))
    reserved = simulated.measure(replace(case, batch=limit)).reserved
    assert abs(reserved - room) <= 2 * allocator.SEGMENT_ROUNDING


def test_k_is_an_axis_only_where_it_changes_the_calls_held():
    has_k = {method: draws.has_k(method, 6) for method in ("draft", "alignprop:truncation=fixed", "drtune:k=2")}
    assert all(has_k.values())
    assert not any(draws.has_k(method, 6) for method in ("alignprop", "refl:m=2", "easytune", "draft-lv"))


def test_stand_ins_hold_as_many_calls_in_fewer_steps():
    assert draws.stand_in(Case("easytune")).steps == 2
    assert draws.stand_in(Case("refl")).steps == 10
    assert draws.stand_in(Case("drtune")).steps == 10
    assert draws.stand_in(Case("draft")).steps == 50
    assert draws.stand_in(Case("alignprop:truncation=fixed")).steps == 25
    assert draws.held(draws.surrogate(Case("draft"))) == 2
