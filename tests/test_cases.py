"""Cases have stable, readable ids; what is unknown or out of range is refused with the known ones."""

import pytest

from bench.cases import MATRICES, Case, matrix
from bench.memory import measure
from bench.profiles import Profile, profile
from bench.setup import caveat, draw_plan
from methods.errors import InputError


def test_ids_are_readable_and_stable():
    assert Case().id == "easytune-mld-T50-B256-F196-paper-simulated"
    assert Case("draft:k=10", steps=20, profile="frozen").id == "draft-k10-mld-T20-B256-F196-frozen-simulated"
    assert Case("refl", seed=3, meter="host").id == "refl-mld-T50-B256-F196-paper-seed3-host"


def test_two_ways_to_write_a_method_are_one_case():
    assert Case("drtune:k=10,m=1") == Case("drtune")
    assert Case("easytune:last=-1,mode=chain") == Case("easytune:mode=chain")


@pytest.mark.parametrize("name", MATRICES)
def test_every_case_of_a_matrix_can_be_planned_and_has_an_id_of_its_own(name):
    cases = matrix(name)
    assert len({case.id for case in cases}) == len(cases) > 0
    for case in cases:
        assert draw_plan(case).updates >= 1


def test_the_published_table_is_the_papers_setting():
    for case in matrix("published"):
        assert (case.backbone, case.steps, case.batch, case.frames, case.profile) == ("mld", 50, 256, 196, "paper")
    assert [draw_plan(case).held for case in matrix("published")] == [50, 25, 10, 1, 1]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Case("nope"), ["'nope'", "draft", "easytune"]),
        (lambda: Case("draft:q=1"), ["'q'", "k"]),
        (lambda: Case("draft:k=many"), ["'many'", "whole number"]),
        (lambda: Case(backbone="sdxl"), ["'sdxl'", "mld"]),
        (lambda: Case(meter="nvidia-smi"), ["'nvidia-smi'", "simulated", "host", "cuda"]),
        (lambda: Case(batch=-4), ["batch", "at least 1", "-4"]),
        (lambda: Case(batch=0), ["batch", "at least 1"]),
        (lambda: Case(steps=0), ["steps", "1 to 999"]),
        (lambda: Case(frames=500), ["frames", "1 to 499", "500"]),
        (lambda: Case(profile="fast"), ["'fast'", "paper", "frozen"]),
        (lambda: Case(profile="paper+attention=flash"), ["'flash'", "explicit", "fused"]),
        (lambda: Case(profile="paper+speed=1"), ["'speed'", "reward_frozen"]),
        (lambda: Case(profile="paper+train_mode=1"), ["train_mode", "true or false"]),
        (lambda: draw_plan(Case("draft:k=51")), ["k", "50", "51"]),
        (lambda: draw_plan(Case("drtune:k=0")), ["k", "50", "0"]),
        (lambda: draw_plan(Case("easytune:first=40,last=30")), ["window", "40", "30"]),
        (lambda: matrix("all"), ["'all'", "published", "quick"]),
    ],
)
def test_bad_input_is_one_sentence_with_the_known_values(make, words):
    with pytest.raises(InputError) as error:
        make()
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("method", ["easytune", "easytune:mode=chain", "easytune:mode=chain-released"])
def test_scoring_the_prediction_of_every_step_of_an_sde_is_said_to_be_beyond_the_theory(method):
    said = caveat(Case(method, "mdm"))
    assert said.startswith(f"{method} on mdm: x̂_0 of every step is scored")
    assert said.endswith("use score=noisy")
    for backbone in ("mld", "flow"):
        assert caveat(Case(method, backbone)) == ""


def test_nothing_is_said_of_the_noisy_state_nor_of_methods_that_score_once():
    for method in ("easytune:score=noisy", "draft", "draft-lv", "alignprop", "drtune", "refl"):
        assert caveat(Case(method, "mdm")) == ""


def test_the_published_numbers_of_steps_of_a_backbone():
    assert Case(backbone="mdm").id == "easytune-mdm-T50-B256-F196-paper-simulated"
    assert draw_plan(Case("draft", "mdm", 1000)).held == 1000
    with pytest.raises(InputError, match=r"^steps must be 1 to 1000, not 1001$"):
        Case(backbone="mdm", steps=1001)


def test_profiles_are_switches():
    assert profile("paper") == Profile()
    assert profile("frozen+attention=fused+train_mode=false") == Profile(True, False, "fused")


def test_the_longest_motion_of_a_case_is_what_the_models_take():
    longest = Case("refl:m=2", "mld-tiny", steps=2, batch=1, frames=499)
    assert longest.most_frames == 499
    assert measure(longest).ok
    object.__setattr__(longest, "frames", 500)
    assert measure(longest).status == "failed"
