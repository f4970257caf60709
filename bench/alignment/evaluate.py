"""How well a denoiser of a world is aligned: the held-out reward, and the field's metrics by the independent evaluator.

The reward here is the reward model's score of finished motions (x_0), in eval mode and under a fixed noise seed: never
the one seen inside a trajectory, which training inflates for the prompts it trains on.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from bench.motion import metrics
from bench.motion.metrics import METRICS, Array, OverRepeats, over_repeats
from bench.world import AnyWorld, Prompts
from methods import Reward, generators, sample
from methods.errors import InputError
from methods.interface import Batch

CHUNK = 16
"""Prompts sampled at once: larger ones leave a core's cache, and take longer a prompt."""
POOL_DRAWS = 5
"""Shuffles into R-precision's pools: who shares a pool by chance weighs less."""
REFERENCE = 512
REFERENCE_SEED = 0
"""How many real motions FID compares with, and what draws them: the same ones for everything measured on a split."""


def evaluate(
    world: AnyWorld,
    split: str = "test",
    count: int = 256,
    repeats: int = 3,
    seed: int = 0,
    steps: int = 50,
    denoiser: nn.Module | None = None,
    real: Array | None = None,
) -> dict[str, OverRepeats]:
    """METRICS of the motions that the world's backbone makes of the first `count` prompts of a split, over `repeats`
    noise seeds (drawn from `seed`) of `steps` denoising steps, each with a 95% interval over those repeats (1.96 σ/√n).

    `denoiser` is measured in place of the world's; `real` is what `reference` gives, where it is at hand. The same
    arguments give the same numbers on a device; torch's global generators are left as they were. MultiModality compares
    repeats, and is NaN for one; so is a single repeat's interval, and R-precision of fewer prompts than its pools hold.
    InputError for a split or a number that cannot be measured.
    """
    if repeats < 1:
        raise InputError(f"repeats must be at least 1, not {repeats}")
    prompts = world.prompts(split, count)
    texts = world.embed_texts(prompts.texts)
    real = reference(world, split) if real is None else real
    rows: list[dict[str, float]] = []
    embedded = []
    with measuring(world, denoiser):
        for number in range(repeats):
            noise = 1000 * seed + number
            motion, rewards = generate(world, prompts, noise, steps)
            embedded.append(world.embed_motions(motion, prompts.lengths))
            rows.append(of_one_repeat(texts, embedded[-1], real, prompts, noise) | {"reward": float(rewards.mean())})
    result = {name: over_repeats([row[name] for row in rows]) for name in METRICS if name in rows[0]}
    return result | {"multimodality": _multimodality(embedded)}


def means(metrics: Mapping[str, OverRepeats]) -> dict[str, float]:
    """The means of what could be measured."""
    return {name: value.mean for name, value in metrics.items() if math.isfinite(value.mean)}


def evaluate_real(world: AnyWorld, split: str = "test", count: int = 256) -> dict[str, OverRepeats]:
    """The same of `count` real motions of a split with their captions: what there is to reach.

    They are none of those that FID compares with. MultiModality is NaN: the real data has one motion a text.
    """
    first = _reference_size(world, split)
    motion, prompts = world.real(split, first + count, REFERENCE_SEED)
    others = slice(first, None)
    described = Prompts(prompts.texts[others], prompts.meanings[others], prompts.lengths[others])
    motion = motion[others, : int(described.lengths.max())]
    with measuring(world, None):
        rewards = score(world.reward, motion, world.batch(described.texts, described.lengths), REFERENCE_SEED)
        embedded = world.embed_motions(motion, described.lengths)
    row = of_one_repeat(
        world.embed_texts(described.texts), embedded, reference(world, split), described, REFERENCE_SEED
    )
    row |= {"reward": float(rewards.mean()), "multimodality": float("nan")}
    return {name: over_repeats([row[name]]) for name in METRICS}


def reference(world: AnyWorld, split: str) -> Array:
    """The evaluator's embeddings `[N, E]` of the real motions that FID compares with."""
    motion, prompts = world.real(split, _reference_size(world, split), REFERENCE_SEED)
    with measuring(world, None):
        return world.embed_motions(motion, prompts.lengths).cpu().numpy()


def _reference_size(world: AnyWorld, split: str) -> int:
    """Half of a small split: the other half is what real data is measured by."""
    return min(REFERENCE, world.size(split) // 2)


def generate(world: AnyWorld, prompts: Prompts, seed: int, steps: int) -> tuple[Tensor, Tensor]:
    """Motions `[N, F, 263]`, padded with zeros to the longest, and their rewards `[N]`; equal seeds, equal bytes."""
    generator = torch.Generator(world.device).manual_seed(seed)
    sampler = world.sampler(steps)
    motions: dict[int, Tensor] = {}
    rewards = torch.empty(len(prompts), device=world.device)
    # Texts of about one length share a chunk: the less padding, the less there is to compute.
    order = sorted(range(len(prompts)), key=lambda row: len(prompts.texts[row].split()))
    for start in range(0, len(order), CHUNK):
        rows = order[start : start + CHUNK]
        batch = world.batch([prompts.texts[row] for row in rows], prompts.lengths[rows])
        state = world.backbone.initial_state(batch, generator)
        motion = sample(world.backbone, sampler, batch, state, generator)
        rewards[rows] = score(world.reward, motion, batch, seed + start)
        motions |= zip(rows, motion, strict=True)
    return pad_sequence([motions[row] for row in range(len(prompts))], batch_first=True), rewards


def score(reward: Reward, motion: Tensor, batch: Batch, seed: int, timestep: float | None = None) -> Tensor:
    """Rewards `[B]` of finished motions (of noisy ones with a `timestep`), the same for the same seed: a reward may
    draw from the global generators."""
    with torch.no_grad(), generators.forked(motion.device):
        torch.manual_seed(seed)
        return reward(motion, batch, timestep)


def of_one_repeat(
    texts: Tensor, motions: Tensor, real: Array, prompts: Prompts, seed: int, pool_draws: int = POOL_DRAWS
) -> dict[str, float]:
    """The evaluator's metrics of one set of motions, from embeddings `[N, E]`."""
    rng = np.random.default_rng(seed)
    precision = np.full(3, np.nan)
    if len(prompts) >= metrics.POOL:  # of a smaller pool it would be another, easier figure under the same name
        pools = np.concatenate([metrics.pools(len(prompts), rng) for _ in range(pool_draws)])
        precision = metrics.r_precision(texts, motions, pools, prompts.meanings)
    return {
        **{f"r{top}": float(share) for top, share in enumerate(precision, start=1)},
        "mm_dist": metrics.mm_dist(texts, motions),
        "fid": metrics.fid(real, motions),
        "diversity": metrics.diversity(motions, rng, min(metrics.DIVERSITY_PAIRS, len(motions))),
    }


def _multimodality(repeats: Sequence[Tensor]) -> OverRepeats:
    """MultiModality over every pair of repeats `[N, E]`, which needs no 30 motions a text.

    The published draw of pairs may meet in one motion, at no distance; with few repeats it would, often.
    """
    pairs = [float(torch.linalg.vector_norm(a - b, dim=-1).mean()) for a, b in combinations(repeats, 2)]
    return over_repeats(pairs) if pairs else OverRepeats(float("nan"), float("nan"))


@contextlib.contextmanager
def measuring(world: AnyWorld, denoiser: nn.Module | None) -> Iterator[None]:
    """Every network in eval mode, and `denoiser` in place of the world's; as before, afterwards."""
    kept = world.backbone.denoiser
    world.backbone.denoiser = kept if denoiser is None else denoiser
    networks = [*world.networks().values(), world.backbone.denoiser]
    modes = {module: module.training for network in networks for module in network.modules()}
    try:
        for network in networks:
            network.eval()
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        world.backbone.denoiser = kept
