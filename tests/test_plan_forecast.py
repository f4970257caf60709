"""The planner's arithmetic: sizes, the law behind a peak, and the search for a limit."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.cases import Case
from bench.plan import draws, headroom, size
from bench.plan.axes import Axis
from bench.plan.headroom import Budget
from bench.plan.search import Confirmation, largest
from methods.errors import InputError


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
    budget = Budget(10**10)
    assert budget.needs(10**9) == 10**9 + (400 + 64) * 2**20 + 5 * 10**7
    assert Budget(10**9, headroom.parse("0")).fits(10**9)
    assert Budget(10**9, headroom.parse("1MB")).needs(10**9) == 10**9 + 10**6
    assert headroom.parse("default") is headroom.DEFAULT
    assert all(item.source.endswith(".") for item in headroom.DEFAULT)


@given(st.integers(0, 3000), st.integers(1, 1000))
def test_the_largest_that_fits_is_found(edge, most):
    assert largest(lambda n: n <= edge, most) == min(edge, most)


@given(
    fixed=st.integers(0, 10**6),
    slope=st.integers(1, 1000),
    square=st.integers(0, 10),
    budget=st.integers(1, 10**7),
    guess=st.integers(0, 500),
)
def test_confirmation_ends_at_the_limit_from_any_guess(fixed, slope, square, budget, guess):
    def peak(n: int) -> int:
        return fixed + slope * n + square * n * n

    case = Case()
    search = Confirmation(Axis("batch", 500, lambda n: replace(case, batch=n)), Budget(budget, ()), guess)
    rounds = 0
    while wanted := search.wanted():
        search.known |= {n: {"reward": peak(n)} for n in wanted}
        search.settle()
        rounds += 1
        assert rounds < 60
    limit = search.limit()
    assert limit.value == largest(lambda n: peak(n) <= budget, 500)
    assert limit.peak == (peak(limit.value) if limit.value else None)
    assert limit.next_peak == (None if limit.most else peak(limit.value + 1))


def test_a_random_method_is_planned_for_the_draw_that_holds_the_most():
    case = Case("alignprop", steps=6)
    assert draws.is_random("alignprop", 6)
    assert draws.held(draws.worst(case)) == 6
    for fixed in ("draft", "refl:m=2", "drtune:k=2"):
        assert not draws.is_random(fixed, 6)


def test_k_is_an_axis_only_where_it_changes_the_calls_held():
    found = {method: draws.has_k(method, 6) for method in ("draft", "alignprop:truncation=fixed", "drtune:k=2")}
    assert all(found.values())
    assert not any(draws.has_k(method, 6) for method in ("alignprop", "refl:m=2", "easytune", "draft-lv"))


def test_stand_ins_hold_as_many_calls_in_fewer_steps():
    assert draws.stand_in(Case("easytune")).steps == 2
    assert draws.stand_in(Case("refl")).steps == 10
    assert draws.stand_in(Case("drtune")).steps == 10
    assert draws.stand_in(Case("draft")).steps == 50
    assert draws.held(draws.surrogate(Case("draft"))) == 2
