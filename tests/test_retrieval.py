"""Retrieval metrics are their definition by brute force, mean what they say where the answer is known, and refuse."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.motion.metrics import MetricError, pools
from bench.motion.retrieval import RANKS, retrieval

few = settings(max_examples=25)


def brute(scores: np.ndarray, right: np.ndarray) -> tuple[dict[int, float], float]:
    """One pool, query by query: the mean of the first and the last rank that the best right item may take."""
    ranks = []
    for row, answers in zip(scores.tolist(), right.tolist(), strict=True):
        best = max(score for score, answer in zip(row, answers, strict=True) if answer)
        others = [score for score, answer in zip(row, answers, strict=True) if not answer]
        first, last = 1 + sum(score > best for score in others), 1 + sum(score >= best for score in others)
        ranks.append((first + last) / 2)
    return {k: 100 * np.mean([rank <= k for rank in ranks]) for k in RANKS}, np.median(ranks)


@few
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 24), same=st.booleans(), levels=st.sampled_from([2, 1000]))
def test_both_directions_by_brute_force(seed, size, same, levels):
    """With many ties or hardly any, with equal captions or none."""
    random = np.random.default_rng(seed)
    scores = random.integers(levels, size=(size, size)) + 0.6 * levels * np.eye(size)
    # Not symmetric, so that the two directions cannot be mixed up.
    equal = random.random((size, size)) < 0.2 if same else None
    right = np.eye(size, dtype=bool) if equal is None else equal | np.eye(size, dtype=bool)
    for got, expected in zip(retrieval(scores, equal), (brute(scores, right), brute(scores.T, right.T)), strict=True):
        assert got.recall == pytest.approx(expected[0])
        assert got.median_rank == expected[1]


def test_directions_are_not_mixed_up():
    """All texts find motion 0 nearest, but each motion its own text: only motions to texts is perfect."""
    scores = np.eye(4) + np.array([9.0, 0.0, 0.0, 0.0])
    to_motions, to_texts = retrieval(scores)
    assert (to_motions.recall[1], to_motions.recall[2], to_motions.median_rank) == (25.0, 100.0, 2.0)
    assert (to_texts.recall[1], to_texts.median_rank) == (100.0, 1.0)


@few
@given(seed=st.integers(0, 2**32 - 1))
def test_pools_are_the_mean_of_their_parts(seed):
    """TMR's small batches: each pool of 32 alone, then the mean of the figures; the remainder is left out."""
    random = np.random.default_rng(seed)
    scores = random.normal(size=(100, 100)) + 2 * np.eye(100)
    drawn = pools(100, np.random.RandomState(seed))
    parts = [retrieval(scores[np.ix_(pool, pool)]) for pool in drawn]
    for side, whole in enumerate(retrieval(scores, pools=drawn)):
        assert whole.median_rank == pytest.approx(np.mean([part[side].median_rank for part in parts]))
        for k in RANKS:
            assert whole.recall[k] == pytest.approx(np.mean([part[side].recall[k] for part in parts]))


def test_equal_captions_can_only_help_and_pools_are_easier_than_the_whole_set():
    """On one noisy set: what each protocol is for."""
    random = np.random.default_rng(0)
    scores = random.normal(size=(96, 96)) + 2 * np.eye(96)
    groups = np.arange(96) // 3
    plain, equal, small = (
        retrieval(scores),
        retrieval(scores, groups[:, None] == groups),
        retrieval(scores, pools=pools(96)),
    )
    for side in (0, 1):
        assert all(equal[side].recall[k] >= plain[side].recall[k] for k in RANKS)
        assert equal[side].median_rank <= plain[side].median_rank
        assert small[side].recall[1] > plain[side].recall[1]


def test_equal_embeddings_find_nothing():
    """A collapsed encoder has the mean rank of its pool, not a perfect score."""
    for side in retrieval(torch.ones(32, 32)):
        assert side.recall == dict.fromkeys(RANKS, 0.0)
        assert side.median_rank == 16.5


@pytest.mark.parametrize(
    ("similarity", "equal", "words"),
    [
        (np.zeros((3, 4)), None, r"\[3, 4\], not square: give a motion a text"),
        (np.zeros((0, 0)), None, r"\[0, 0\], not square"),
        (np.zeros(3), None, r"\[3\], not square"),
        (torch.tensor([[0.0, 1.0], [torch.nan, 0.0]]), None, "1 of 4 similarities are not finite, row 1 first"),
        (np.zeros((3, 3)), np.zeros((2, 2)), r"equal is \[2, 2\], similarities \[3, 3\]"),
    ],
)
def test_what_has_no_answer_is_refused(similarity, equal, words):
    with pytest.raises(MetricError, match=words):
        retrieval(similarity, equal)
