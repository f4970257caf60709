"""Retrieval metrics of texts and motions, in both directions: recall at several ranks, and the median rank.

Conventions of TMR (Petrovich et al. 2023): recalls in per cent, ranks from 1. Its protocols are arguments here: "all"
is the plain call; "all with threshold" gives `equal` (losses.equal_captions at EQUAL_CAPTIONS); "small batches" gives
`pools` (metrics.pools with RandomState(0)).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from bench.motion.metrics import MetricError

RANKS = (1, 2, 3, 5, 10)
EQUAL_CAPTIONS = 0.95
"""TMR's threshold for captions that say the same, on its scale from 0 to 1."""


@dataclass(frozen=True)
class Retrieval:
    """One direction."""

    recall: dict[int, float]
    """Per cent of queries with a right answer among the first k, for each k of RANKS."""
    median_rank: float


def retrieval(
    similarity: ArrayLike | Tensor,
    equal: ArrayLike | Tensor | None = None,
    pools: NDArray[np.integer] | None = None,
) -> tuple[Retrieval, Retrieval]:
    """Texts to motions and motions to texts, by a similarity matrix `[N, N]` whose pairs share a row and a column.

    Similarities are cosines for TMR and the reward, negative distances for the published evaluator. With `equal`
    `[N, N]` bool (texts by motions) an item of an equal caption is right as well as the own one, and the best right one
    counts. With `pools` `[P, n]` each query looks in its pool alone, and both figures are means over pools.
    A right item that ties with wrong ones has the mean of their ranks, so that equal embeddings find nothing.
    MetricError for a matrix that is not square or not finite, or `equal` of another shape.
    """
    scores = _array(similarity).astype(np.float64)
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1] or not len(scores):
        raise MetricError(f"similarities are {list(scores.shape)}, not square: give a motion a text")
    broken = ~np.isfinite(scores)
    if broken.any():
        raise MetricError(
            f"{broken.sum()} of {broken.size} similarities are not finite, row {broken.any(axis=1).argmax()} first: "
            "look for NaN in those embeddings"
        )
    right = np.eye(len(scores), dtype=bool)
    if equal is not None:
        if _array(equal).shape != scores.shape:
            raise MetricError(
                f"equal is {list(_array(equal).shape)}, similarities {list(scores.shape)}: give one for each"
            )
        right |= _array(equal).astype(bool)
    pools = np.arange(len(scores))[None] if pools is None else pools
    within = pools[:, :, None], pools[:, None, :]
    scores, right = scores[within], right[within]
    return _direction(scores, right), _direction(scores.swapaxes(1, 2), right.swapaxes(1, 2))


def _direction(scores: NDArray[np.float64], right: NDArray[np.bool_]) -> Retrieval:
    """Of queries by items, `[P, n, n]` both."""
    best = np.where(right, scores, -np.inf).max(axis=-1, keepdims=True)
    better = (~right & (scores > best)).sum(axis=-1)
    tied = (~right & (scores == best)).sum(axis=-1)
    rank = 1 + better + tied / 2
    recall = {k: 100 * float((rank <= k).mean()) for k in RANKS}
    return Retrieval(recall, float(np.median(rank, axis=-1).mean()))


def _array(values: ArrayLike | Tensor) -> NDArray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
