"""Is the world sound? What must hold before methods are compared on it, measured."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from bench.motion import metrics
from bench.world import losses
from bench.world.model import LATENT, RAW
from bench.world.world import Prompts, World
from methods import generators
from methods.rollout import states

TIMESTEPS = tuple(range(1, 1000, 98))
"""Of a schedule of 1,000 noise levels."""
STEPS = {LATENT: 50, RAW: 10}
"""Denoising steps, by the kind of backbone: one over all frames takes longer."""
GUIDANCES = (1.25, 1.5, 1.75, 2.0, 2.5)
NORM_MARGIN = 0.06
"""How far the norm of sampled latents may be from that of real ones for a guidance scale to be chosen freely."""


@dataclass(frozen=True)
class Figures:
    """The evaluator's metrics of one set of motions."""

    r_precision: tuple[float, ...]
    """Top 1, 2, 3."""
    mm_dist: float
    fid: float


def errors(world: World, split: str = "val", count: int = 256, seed: int = 0) -> dict[int, tuple[float, float]]:
    """By timestep: the squared error of x̂_0, guidance off, and that of the denoiser's `guess`, on real states."""
    state, prompts = real_latents(world, split, count, seed)
    batch = world.batch(prompts.texts, prompts.lengths)
    denoiser = world.backbone.own_denoiser
    measured: dict[int, tuple[float, float]] = {}
    with torch.no_grad(), generators.forked(world.device):
        torch.manual_seed(seed)
        for timestep in sorted({of * len(denoiser.signal) // 1000 for of in TIMESTEPS}):
            times = torch.full((len(state),), timestep, device=state.device)
            noisy, _ = losses.noised(denoiser.signal, state, times)
            guesses = denoiser(noisy, times, batch.text, batch.frame_mask), denoiser.guess(noisy, times)
            error, trivial = (_error(world, guess, state, batch.frame_mask) for guess in guesses)
            measured[timestep] = error, trivial
    return measured


def _error(world: World, guess: Tensor, state: Tensor, frame_mask: Tensor) -> float:
    """Mean squared error; of motions, over the valid frames."""
    error = (guess - state).square()
    return float((error[frame_mask] if world.config.backbone == RAW else error).mean())


def real_latents(world: World, split: str, count: int, seed: int = 0) -> tuple[Tensor, Prompts]:
    """A draw of the posterior of each of `count` real motions `[N, n, d]`, and their prompts."""
    motion, prompts = world.real(split, count, seed)
    return posteriors(world, motion, prompts.lengths, seed), prompts


def posteriors(world: World, motion: Tensor, lengths: Tensor, seed: int) -> Tensor:
    """A draw of the latent `[N, n, d]` of each motion."""
    with torch.no_grad(), generators.forked(world.device):
        torch.manual_seed(seed)
        mean, std = world.backbone.vae.encode(motion, world.frame_mask(lengths, motion.shape[1]))
        return mean + std * torch.randn_like(std)


def generate(
    world: World, prompts: Prompts, seed: int = 0, guidance: float | None = None, steps: int = 0, batch: int = 128
) -> tuple[Tensor, Tensor]:
    """Motions `[N, F, 263]` and states (latents `[N, n, d]`, or the motions again) for prompts; `guidance`: in place of
    the world's; `steps`: STEPS if 0."""
    generator = torch.Generator(world.device).manual_seed(seed)
    backbone, sampler = world.backbone, world.sampler(steps or STEPS[world.config.backbone])
    kept = backbone.config.guidance
    backbone.guide(kept if guidance is None else guidance)
    motions, latents = [], []
    try:
        for start in range(0, len(prompts), batch):
            inputs = world.batch(prompts.texts[start : start + batch], prompts.lengths[start : start + batch])
            x = backbone.initial_state(inputs, generator)
            *_, latent = states(backbone, sampler, inputs, x, generator)
            with torch.no_grad():
                motions.append(backbone.decode(latent, inputs))
            latents.append(latent)
    finally:
        backbone.guide(kept)
    longest = max(motion.shape[1] for motion in motions)
    padded = torch.cat([F.pad(motion, (0, 0, 0, longest - motion.shape[1])) for motion in motions])
    return padded, padded if world.config.backbone == RAW else torch.cat(latents)


def figures(world: World, motion: Tensor, prompts: Prompts, reference: Tensor, seed: int = 0) -> Figures:
    """Of motions for their prompts; `reference`: embeddings of real motions `[M, E]`, for FID."""
    with torch.no_grad():
        texts, motions = world.embed_texts(prompts.texts), world.embed_motions(motion, prompts.lengths)
    shares = metrics.r_precision(texts, motions, pools(len(prompts), np.random.default_rng(seed)), prompts.meanings)
    return Figures(
        tuple(float(share) for share in shares), metrics.mm_dist(texts, motions), metrics.fid(reference, motions)
    )


def pools(count: int, generator: np.random.Generator | None = None) -> NDArray[np.integer]:
    """R-precision's pools, as metrics.pools; of fewer rows than a pool has, one pool of all of them.

    Enough to choose by, and to see progress; easier than the metric, so nothing that is reported comes from it.
    """
    return metrics.pools(count, generator) if count >= metrics.POOL else np.arange(count)[None]


def chosen_and_measured(world: World, say: Callable[[str], None], repeats: int = 3, count: int = 256) -> dict:
    """Gives the world its best guidance, and measures it."""
    guidance = best_guidance(world, say, min(count, 128))
    world.config = replace(world.config, guidance=guidance)
    world.backbone.guide(guidance)
    return measured(world, repeats, count, say)


def best_guidance(world: World, say: Callable[[str], None], count: int) -> float:
    """The scale with the most R-precision (top 1) on the validation split, of those that keep the norm of latents.

    Guidance lengthens latents; where no scale keeps them within NORM_MARGIN, the one nearest to it is taken.
    """
    motion, prompts = world.real("val", count, seed=1)
    with torch.no_grad():
        reference = world.embed_motions(motion, prompts.lengths)
    norm = _norm(real_latents(world, "val", count, seed=1)[0])
    merit = {}
    for scale in GUIDANCES:
        made, latents = generate(world, prompts, guidance=scale)
        result = figures(world, made, prompts, reference)
        ratio = _norm(latents) / norm
        merit[scale] = (-max(abs(ratio - 1), NORM_MARGIN), result.r_precision[0])
        say(f"guidance {scale}: {_short(result)}, norm of latents {ratio:.3f} of real ones'")
    return max(merit, key=lambda scale: merit[scale])


def measured(world: World, repeats: int, count: int, say: Callable[[str], None]) -> dict:
    """Every figure of the soundness gate, with 95% intervals over repeats (1.96 σ/√n): other prompts, other noise.

    On the test split (the denoiser's errors: on val): real motions, the base's, those without guidance, and two
    controls: `shuffled`, real motions under each other's captions (no match of text and motion), and `noise`, decoded
    unit noise (what the linear predictor samples). The reference of FID
    is every real motion of the split, as published.
    """
    rows: dict[str, list[Figures]] = {name: [] for name in ("real", "base", "unguided", "shuffled", "noise")}
    norms = []
    every, of_every = world.real("test", len(world.clips["test"]), seed=0)
    with torch.no_grad():
        reference = world.embed_motions(every, of_every.lengths)
    for repeat in range(repeats):
        motion, prompts = world.real("test", count, seed=repeat)
        guided, latents = generate(world, prompts, seed=repeat)
        inputs = world.batch(prompts.texts, prompts.lengths)
        noise = world.backbone.initial_state(inputs, torch.Generator(world.device).manual_seed(repeat))
        turned = [(row + len(prompts) // 2) % len(prompts) for row in range(len(prompts))]
        shuffled = Prompts(
            tuple(prompts.texts[row] for row in turned), tuple(prompts.meanings[row] for row in turned), prompts.lengths
        )
        with torch.no_grad():
            of_noise = world.backbone.decode(noise, inputs)
        sets = {
            "real": (motion, prompts),
            "base": (guided, prompts),
            "unguided": (generate(world, prompts, seed=repeat, guidance=1.0)[0], prompts),
            "shuffled": (motion, shuffled),
            "noise": (of_noise, prompts),
        }
        for name, (motions, described) in sets.items():
            rows[name].append(figures(world, motions, described, reference, seed=repeat))
            say(f"repeat {repeat + 1} of {repeats}, {name}: {_short(rows[name][-1])}")
        real = posteriors(world, motion, prompts.lengths, seed=repeat)
        norms.append(_norm(latents) / _norm(real))
    by_set: dict = {
        name: {
            "r_precision": [metrics.over_repeats([result.r_precision[k] for result in every]) for k in range(3)],
            "mm_dist": metrics.over_repeats([result.mm_dist for result in every]),
            "fid": metrics.over_repeats([result.fid for result in every]),
        }
        for name, every in rows.items()
    }
    return {**by_set, "norm_of_latents": metrics.over_repeats(norms), "errors": errors(world)}


def problems(measured: dict) -> list[str]:
    """What keeps the world of `measured` from being a base to compare on; empty if it is sound."""

    def ends(name: str, metric: str) -> tuple[float, float]:
        """Of the interval; of R-precision, top 1's."""
        mean, half_width = measured[name][metric][0] if metric == "r_precision" else measured[name][metric]
        return mean - half_width, mean + half_width

    wrong = [
        f"at timestep {timestep} the denoiser errs by {error:.4f}, one that learned nothing by {trivial:.4f}"
        for timestep, (error, trivial) in measured["errors"].items()
        if error >= trivial
    ]
    norm = measured["norm_of_latents"][0]
    if not 0.9 <= norm <= 1.1:
        wrong.append(f"sampled latents have {norm:.2f} times the norm of real ones")
    for better, worse, metric in (
        ("base", "unguided", "r_precision"),
        ("base", "shuffled", "r_precision"),
        ("real", "base", "r_precision"),
        ("real", "base", "mm_dist"),
        ("base", "shuffled", "mm_dist"),
        ("real", "base", "fid"),
        ("base", "noise", "fid"),
    ):
        high, low = (better, worse) if metric == "r_precision" else (worse, better)
        if ends(high, metric)[0] <= ends(low, metric)[1]:
            wrong.append(f"{metric} of {better} is not clearly better than of {worse}")
    return wrong


def _norm(latents: Tensor) -> float:
    return float(latents.flatten(1).norm(dim=1).mean())


def _short(result: Figures) -> str:
    top = " ".join(f"{share:.3f}" for share in result.r_precision)
    return f"R-precision {top}, MM-Dist {result.mm_dist:.3f}, FID {result.fid:.3f}"
