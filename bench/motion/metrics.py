"""The field's metrics over embeddings of texts and motions: R-precision, MM-Dist, FID, Diversity, MultiModality.

Conventions of Guo et al. 2022. Embeddings are `[N, D]`, arrays or tensors; text and motion of one pair share a row.
Everything is computed in float64. What is random is drawn by the caller or from the generator given.
"""

from collections.abc import Hashable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from methods.errors import InputError

POOL = 32
"""Motions among which each text must find its match."""
DIVERSITY_PAIRS = 300
MULTIMODALITY_PAIRS = 10

Embeddings = ArrayLike | Tensor
Array = NDArray[np.floating]
Generator = np.random.Generator | np.random.RandomState
"""The second one gives the published code's draws."""


class MetricError(InputError):
    """A metric cannot be computed; the message is one sentence that names what is wrong and the mend."""


class Metric(NamedTuple):
    """What a figure of motions is called, and how it is read."""

    name: str
    """In records."""
    label: str
    """In tables and figures, as the field writes it."""
    direction: Literal["higher", "lower", "as real data"]
    """Which values are better."""
    independent: bool
    """Judged by the evaluator, on which no method is trained; the reward is not."""

    @property
    def sign(self) -> int:
        """1 where higher is better, -1 where lower is, 0 where neither is."""
        return {"higher": 1, "lower": -1, "as real data": 0}[self.direction]

    @property
    def arrow(self) -> str:
        return {"higher": "↑", "lower": "↓", "as real data": "→"}[self.direction]


METRICS = {
    metric.name: metric
    for metric in (
        Metric("reward", "reward", "higher", independent=False),
        Metric("r1", "R@1", "higher", independent=True),
        Metric("r2", "R@2", "higher", independent=True),
        Metric("r3", "R@3", "higher", independent=True),
        Metric("mm_dist", "MM-Dist", "lower", independent=True),
        Metric("fid", "FID", "lower", independent=True),
        Metric("diversity", "Diversity", "as real data", independent=True),
        Metric("multimodality", "MModality", "as real data", independent=True),
    )
}
"""What bench.alignment.evaluate measures, by name. reward: of held-out prompts; r1 to r3: R-precision, pools of 32,
equal meanings are equal; the last two: of the motions alone."""
SHOWN = ("reward", "r1", "fid", "mm_dist", "multimodality")
"""Those in a table of results: of R-precision the strictest, which the others follow."""
FOLLOWED = ("reward", "r1", "mm_dist", "fid")
"""Those that are followed while a method trains: the reward, and what the evaluator says of quality."""
JUDGED = tuple(name for name in SHOWN if METRICS[name].independent and METRICS[name].sign)
"""What the evaluator says of quality: R@1, FID and MM-Dist."""


class OverRepeats(NamedTuple):
    """`mean` ± `half_width`: a 95% interval over repeats of a measurement, 1.96 σ/√n.

    It says how far other noise or other pools would move a figure. How far other training runs would is another
    question, with another interval: Student's t over seeds (bench.alignment.reading.over_seeds).
    """

    mean: float
    half_width: float


def over_repeats(values: Sequence[float]) -> OverRepeats:
    """Mean and 1.96 σ/√n of one metric's repeats, σ over n, as published; the half-width of a single repeat is NaN."""
    if not len(values):
        raise MetricError("a 95% interval over repeats needs at least one repeat, not 0: run the metric first")
    half_width = 1.96 * np.std(values) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return OverRepeats(float(np.mean(values)), float(half_width))


def pools(count: int, generator: Generator | None = None) -> NDArray[np.integer]:
    """Rows `[P, 32]` of R-precision's pools among `count` rows: shuffled, or in their order without a generator.

    The remainder is in no pool. MetricError for fewer than 32.
    """
    if count < POOL:
        raise MetricError(f"R-precision needs at least {POOL} text-motion pairs, not {count}: use more test prompts")
    order = np.arange(count) if generator is None else generator.permutation(count)
    return order[: count // POOL * POOL].reshape(-1, POOL)


def r_precision(
    texts: Embeddings, motions: Embeddings, pools: NDArray[np.integer], captions: Sequence[Hashable] | None = None
) -> Array:
    """Shares `[3]` of texts that have their motion among the nearest 1, 2 and 3 of their pool.

    With `captions` (one a row, text or group ids), a motion whose caption equals the text's is right as well. The
    published convention has none: only the text's own motion is right, though its caption be in the pool twice.
    Of equally near motions the one earlier in the pool comes first, so that equal embeddings score as chance.
    """
    texts, motions = _paired(texts, motions)
    captions = range(len(texts)) if captions is None else captions
    if len(captions) != len(texts):
        raise MetricError(f"there are {len(captions)} captions for {len(texts)} pairs: give one a pair")
    known: dict[Hashable, int] = {}
    labels = np.array([known.setdefault(caption, len(known)) for caption in captions])[pools]
    distance = torch.cdist(
        torch.from_numpy(texts[pools]),
        torch.from_numpy(motions[pools]),
        compute_mode="donot_use_mm_for_euclid_dist",  # the other mode sees equal embeddings as slightly apart
    )
    nearest = np.argsort(distance.numpy(), axis=-1, kind="stable")[..., :3]
    right = np.take_along_axis(labels[:, None, :], nearest, axis=-1) == labels[:, :, None]
    return np.maximum.accumulate(right, axis=-1).mean(axis=(0, 1))


def mm_dist(texts: Embeddings, motions: Embeddings) -> float:
    """Mean Euclidean distance between a text and its motion, over all pairs (published: those in a pool)."""
    texts, motions = _paired(texts, motions)
    return float(np.linalg.norm(texts - motions, axis=-1).mean())


def fid(real: Embeddings, generated: Embeddings) -> float:
    """Fréchet distance of two sets `[N, D]` and `[M, D]`, each taken as a Gaussian (covariance over N-1).

    With fewer samples than dimensions it is still defined, and computed, but mostly shows how few there are: compare
    only sets of equal size then.
    """
    real, generated = _embeddings(real, "real motions"), _embeddings(generated, "generated motions")
    if real.shape[1] != generated.shape[1]:
        raise MetricError(f"real embeddings are {real.shape[1]} wide, generated {generated.shape[1]}: use one model")
    if min(len(real), len(generated)) < 2:
        raise MetricError(f"FID needs 2 motions a set, not {min(len(real), len(generated))}: generate more")
    a, b = _root_of_covariance(real), _root_of_covariance(generated)
    # The trace of √(AᵀA BᵀB) is the sum of the singular values of ABᵀ: no matrix root, none of its cancellation.
    overlap = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(((real.mean(0) - generated.mean(0)) ** 2).sum() + (a**2).sum() + (b**2).sum() - 2 * overlap)


def diversity(motions: Embeddings, generator: Generator, pairs: int = DIVERSITY_PAIRS) -> float:
    """Mean Euclidean distance of `pairs` random pairs: two draws without replacement (which may meet in one motion)."""
    motions = _embeddings(motions, "motions")
    if len(motions) < pairs:
        raise MetricError(f"Diversity over {pairs} pairs needs as many motions, not {len(motions)}: lower pairs")
    first, second = (motions[generator.choice(len(motions), pairs, replace=False)] for _ in range(2))
    return float(np.linalg.norm(first - second, axis=-1).mean())


def multimodality(motions: Embeddings, generator: Generator, pairs: int = MULTIMODALITY_PAIRS) -> float:
    """Mean Euclidean distance of pairs of motions `[texts, repeats, D]` of one text; all texts share the draw."""
    motions = _embeddings(motions, "motions", ndim=3)
    repeats = motions.shape[1]
    if repeats < pairs:
        raise MetricError(f"MultiModality over {pairs} pairs needs as many motions a text, not {repeats}: lower pairs")
    first, second = (motions[:, generator.choice(repeats, pairs, replace=False)] for _ in range(2))
    return float(np.linalg.norm(first - second, axis=-1).mean())


def _root_of_covariance(embeddings: Array) -> Array:
    """`R` with `RᵀR` the covariance."""
    return np.linalg.qr(embeddings - embeddings.mean(0), mode="r") / np.sqrt(len(embeddings) - 1)


def _paired(texts: Embeddings, motions: Embeddings) -> tuple[Array, Array]:
    texts, motions = _embeddings(texts, "texts"), _embeddings(motions, "motions")
    if texts.shape != motions.shape:
        raise MetricError(f"texts are {list(texts.shape)}, motions {list(motions.shape)}: give a motion a text")
    return texts, motions


def _embeddings(values: Embeddings, name: str, ndim: int = 2) -> Array:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != ndim or not len(values):
        raise MetricError(f"embeddings of {name} must have {ndim} axes and a row or more, not {list(values.shape)}")
    broken = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    if broken.any():
        raise MetricError(
            f"{broken.sum()} of {len(values)} embeddings of {name} are not finite, row {broken.argmax()} first: "
            "look for NaN in those motions"
        )
    return values
