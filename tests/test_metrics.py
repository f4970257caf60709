"""Metrics are the published ones, mean what they say on sets whose answer is known, and refuse what has none."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from parity.vectors import deviation, load, randn

from bench.motion.metrics import (
    FOLLOWED,
    JUDGED,
    METRICS,
    SHOWN,
    MetricError,
    diversity,
    fid,
    mm_dist,
    multimodality,
    over_repeats,
    pools,
    r_precision,
)

VECTORS = load("metrics")
SETS = ["gt", "gen"]
SEEDS = st.integers(0, 2**32 - 1)
few = settings(max_examples=20)


def published(case: str, name: str, value) -> None:
    """`value` is the published output, within the vectors' tolerance."""
    assert deviation(value, VECTORS.output(case, name), VECTORS.meaning["tolerance"]) <= 1, name


@pytest.fixture(scope="module")
def embeddings() -> dict[str, torch.Tensor]:
    """The inputs that the vectors' formulas describe."""
    text = randn("met.text", [640, 64])
    return {
        "text": text,
        "gt": text + 2.2 * randn("met.gt", [640, 64]),
        "gen": 0.6 * text + 0.1 + 1.5 * randn("met.gen", [640, 64]),
    }


@pytest.mark.parametrize("name", SETS)
def test_published_metrics_in_order(embeddings, name):
    """As text-to-motion computes them, and its draws of Diversity."""
    case, texts, motions = "t2m_no_shuffle", embeddings["text"], embeddings[name]
    published(case, f"r_precision_{name}", r_precision(texts, motions, pools(640)))
    published(case, f"mm_dist_{name}", mm_dist(texts, motions))
    published(case, f"matching_score_direct_{name}", mm_dist(texts, motions))
    published(case, f"diversity300_{name}", diversity(motions, np.random.RandomState(7)))


def test_published_fid(embeddings):
    real, generated = embeddings["gt"], embeddings["gen"]
    published("t2m_no_shuffle", "fid_gen_vs_gt", fid(real, generated))
    published("t2m_no_shuffle", "fid_gt_vs_gt", fid(real, real))
    published("t2m_no_shuffle", "fid_first320_vs_last320", fid(real[:320], real[320:]))


def test_published_metrics_shuffled(embeddings):
    """As MLD and EasyTune compute them: all rows are shuffled first."""
    case = "mld_TM2TMetrics"
    order = VECTORS.output(case, "perm")
    random = np.random.RandomState(7)
    for name, prefix in (("gen", ""), ("gt", "gt_")):  # in this order, they share the draws
        texts, motions = embeddings["text"], embeddings[name]
        precision = r_precision(texts, motions, order.reshape(-1, 32))
        for k in range(3):
            published(case, f"{prefix}R_precision_top_{k + 1}", precision[k])
        published(case, f"{prefix}Matching_score", mm_dist(texts, motions))
        published(case, f"{prefix}Diversity", diversity(motions[order], random))
    published(case, "FID", fid(embeddings["gt"], embeddings["gen"]))


def test_published_multimodality():
    motions = randn("met.mm", [10, 30, 64]) + 2 * randn("met.mm_c", [10, 1, 64])
    published("t2m_multimodality", "multimodality10", multimodality(motions, np.random.RandomState(11)))
    published("mld_MMMetrics", "MultiModality", multimodality(motions, np.random.RandomState(11)))


def test_draws_are_the_published_ones():
    """A motion that is its own index tells which pairs were drawn."""
    random = np.random.RandomState(7)
    first, second = (random.choice(640, 300, replace=False) for _ in range(2))
    published("diversity_indices", "first", first)
    published("diversity_indices", "second", second)
    index = np.arange(640.0)[:, None]
    assert diversity(index, np.random.RandomState(7)) == pytest.approx(np.abs(first - second).mean())
    first, second = (VECTORS.output("t2m_multimodality", f"{name}_idx") for name in ("first", "second"))
    index = np.arange(30.0)[None, :, None].repeat(3, axis=0)
    assert multimodality(index, np.random.RandomState(11)) == pytest.approx(np.abs(first - second).mean())


@few
@given(seed=SEEDS)
def test_r_precision_of_equal_embeddings_is_1(seed):
    texts = np.random.default_rng(seed).normal(size=(70, 8))
    assert r_precision(texts, texts, pools(70, np.random.default_rng(seed))).tolist() == [1, 1, 1]


@few
@given(seed=SEEDS)
def test_r_precision_of_independent_embeddings_is_chance(seed):
    """k in 32, within six standard errors."""
    rng = np.random.default_rng(seed)
    count = 3200
    result = r_precision(rng.normal(size=(count, 8)), rng.normal(size=(count, 8)), pools(count, rng))
    chance = np.arange(1, 4) / 32
    assert (np.abs(result - chance) < 6 * np.sqrt(chance * (1 - chance) / count)).all()


def test_r_precision_of_a_generator_that_makes_one_motion_is_chance():
    rng = np.random.default_rng(0)
    result = r_precision(rng.normal(size=(64, 512)), np.repeat(rng.normal(size=(1, 512)), 64, axis=0), pools(64))
    assert result.tolist() == [1 / 32, 2 / 32, 3 / 32]


def test_r_precision_by_hand():
    """On a line, texts at 0, 1, ..., 31 and each one's motion 1.4 further: those of the two texts before are nearer."""
    texts = np.arange(32.0)[:, None]
    result = r_precision(texts, texts + 1.4, pools(32))
    assert result.tolist() == [1 / 32, 2 / 32, 32 / 32]


def test_equal_captions_are_equal():
    """Which motion of a repeated caption is found does not matter; of others it does."""
    texts = np.arange(32.0)[:, None]
    motions = texts.copy()
    motions[[0, 1]] = motions[[1, 0]]
    captions = ["a man walks", "a man walks", *(f"caption {row}" for row in range(30))]
    assert r_precision(texts, motions, pools(32))[0] == 30 / 32
    assert r_precision(texts, motions, pools(32), captions)[0] == 1
    assert r_precision(texts, motions, pools(32), list(range(32)))[0] == 30 / 32
    motions[[2, 3]] = motions[[3, 2]]
    assert r_precision(texts, motions, pools(32), captions)[0] == 30 / 32


def test_pools_hold_every_row_once():
    drawn = pools(100, np.random.default_rng(0))
    assert drawn.shape == (3, 32)
    assert len(np.unique(drawn)) == 96
    assert pools(64).tolist() == np.arange(64).reshape(2, 32).tolist()
    assert np.array_equal(drawn, pools(100, np.random.default_rng(0)))


@few
@given(seed=SEEDS, few_rows=st.booleans())
def test_fid_of_a_set_with_itself_is_0_and_is_symmetric(seed, few_rows):
    """With fewer samples than dimensions as well."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(10 if few_rows else 100, 16)), 1 + rng.normal(size=(40, 16)) @ rng.normal(size=(16, 16))
    assert fid(a, a) == pytest.approx(0, abs=1e-9)
    assert fid(a, b) == pytest.approx(fid(b, a), rel=1e-9)
    assert fid(a, b) > 0
    assert fid(a, a + 2) == pytest.approx(4 * 16)  # equal covariances: what is left are the means


def test_fid_of_known_gaussians():
    """Of covariances that share their axes it is the squared distance of means and of standard deviations."""
    corners = np.array([[x, y] for x in (-1, 1) for y in (-1, 1)]) * np.sqrt(3) / 2  # covariance 1 over n-1
    assert fid(corners * [1, 2], corners * [4, 3] + [5, 0]) == pytest.approx(5**2 + 3**2 + 1**2)


def test_the_table_of_metrics_says_what_is_better_and_who_judges():
    assert {name: metric.sign for name, metric in METRICS.items() if metric.sign < 1} == {
        "mm_dist": -1,
        "fid": -1,
        "diversity": 0,
        "multimodality": 0,
    }
    assert [name for name, metric in METRICS.items() if not metric.independent] == ["reward"]
    assert set(SHOWN) | set(FOLLOWED) <= set(METRICS)
    assert JUDGED == ("r1", "fid", "mm_dist")


def test_interval_over_repeats():
    assert over_repeats([1.0, 2.0, 3.0, 4.0]) == (2.5, pytest.approx(1.96 * np.sqrt(1.25) / 2))
    assert over_repeats([3.0]).mean == 3
    assert np.isnan(over_repeats([3.0]).half_width)


GOOD = np.random.default_rng(0).normal(size=(32, 4))
NAN = np.where(np.arange(32)[:, None] == 3, np.nan, GOOD)


@pytest.mark.parametrize(
    ("compute", "said"),
    [
        (lambda: pools(31), "at least 32 text-motion pairs, not 31"),
        (lambda: r_precision(GOOD, GOOD, pools(32), ["a"]), "1 captions for 32 pairs"),
        (lambda: mm_dist(GOOD, GOOD[:5]), "texts are [32, 4], motions [5, 4]"),
        (lambda: mm_dist(GOOD, NAN), "1 of 32 embeddings of motions are not finite, row 3 first"),
        (lambda: fid(GOOD, GOOD[:, :3]), "4 wide, generated 3"),
        (lambda: fid(GOOD, GOOD[:1]), "FID needs 2 motions a set, not 1"),
        (lambda: fid(GOOD, NAN), "embeddings of generated motions are not finite"),
        (lambda: fid(GOOD, GOOD[0]), "must have 2 axes and a row or more, not [4]"),
        (lambda: diversity(GOOD, np.random.default_rng(0)), "300 pairs needs as many motions, not 32"),
        (lambda: multimodality(GOOD[None, :9], np.random.default_rng(0)), "as many motions a text, not 9"),
        (lambda: over_repeats([]), "at least one repeat"),
    ],
)
def test_what_has_no_answer_is_refused_in_one_sentence(compute, said):
    with pytest.raises(MetricError) as error:
        compute()
    assert said in str(error.value)
    assert "\n" not in str(error.value)
