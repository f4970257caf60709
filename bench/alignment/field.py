"""The field's protocol on a world's test split: what the tables of text-to-motion papers hold (Guo et al. 2022).

A repeat draws a caption and a crop of every test clip, and generates a motion of each caption and length. R-precision
is in pools of 32, where only the own motion is right; FID is from the repeat's real motions, Diversity over 300 pairs,
MultiModality over 10 pairs of 30 motions of each of 100 texts; all as far as the clips reach. Each figure is a mean
over repeats with 1.96 σ/√n. A world with a second judge has its retrieval beside the evaluator's.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench import identity, strict_json
from bench.alignment.evaluate import generate, measuring, of_one_repeat
from bench.motion import metrics
from bench.motion.metrics import METRICS, Array, OverRepeats, over_repeats
from bench.motion.retrieval import retrieval
from bench.world import AnyWorld, Prompts
from methods.files import write_atomically
from methods.rewards.losses import cosines

REPEATS = 20
"""As published."""
TEXTS, MOTIONS = 100, 30
"""Of MultiModality: texts, and motions of each."""
REAL = "real motion"
KEPT = "metrics.json"
JUDGE = {
    "judge_r1": "TMR R@1",
    "judge_r2": "TMR R@2",
    "judge_r3": "TMR R@3",
    "judge_t2m": "TMR R@1 of all, text to motion",
    "judge_m2t": "TMR R@1 of all, motion to text",
}
"""Figures of the second judge, with their labels: in pools of 32, and among all."""

Row = dict[str, float | None]
"""Figures of one repeat by name; None for what so few clips do not give."""


class Kept(msgspec.Struct, forbid_unknown_fields=True):
    """KEPT: repeats measured so far, from which a run that was killed goes on."""

    world: str
    of: str
    """Digest of all that decides a figure; curve.json beside it says what that is."""
    repeats: dict[str, list[Row]]
    """Of real motion, and of each denoiser, in order."""


def measure(
    world: AnyWorld,
    name: str,
    denoisers: Mapping[str, nn.Module],
    of: Mapping[str, object],
    steps: int,
    repeats: int,
    folder: Path,
    say: Callable[[str], None],
) -> dict[str, dict[str, OverRepeats]]:
    """Figures of the real motion and of each denoiser in the world's backbone, by their names.

    name: of the world. of: what decides the figures, as JSON; repeats in `folder` of the same are taken over, and each
    is kept there once it is measured. The same arguments give the same numbers.
    """
    path = folder / KEPT
    kept = _kept(path, name, identity.key({**of, "steps": steps}), [REAL, *denoisers])
    for row, denoiser in {REAL: None, **denoisers}.items():
        for number in range(len(kept.repeats[row]), repeats):
            say(f"{row}: repeat {number + 1} of {repeats}")
            kept.repeats[row].append(_repeat(world, denoiser, number, steps))
            write_atomically(path, json.dumps(msgspec.to_builtins(kept), indent=1, allow_nan=False) + "\n")
    return {row: _over(rows[:repeats]) for row, rows in kept.repeats.items()}


def text(name: str, figures: Mapping[str, Mapping[str, OverRepeats]], repeats: int) -> str:
    """The table, with the world that was judged on."""
    import pandas as pd  # takes a second to import

    from bench import tables

    labels = {metric: f"{about.label} {about.arrow}" for metric, about in METRICS.items()} | JUDGE
    rows = [
        {"": labels[metric]} | {row: _written(of.get(metric)) for row, of in figures.items()}
        for metric in labels
        if any(metric in of for of in figures.values())
    ]
    return f"World: {name} (test split, {repeats} repeats, 1.96 σ/√n)\n{tables.text(pd.DataFrame(rows))}"


def _written(value: OverRepeats | None) -> str:
    if value is None:
        return "–"
    return f"{value.mean:.3f}" + (f" ± {value.half_width:.3f}" if np.isfinite(value.half_width) else "")


def _kept(path: Path, world: str, of: str, rows: list[str]) -> Kept:
    """What is in the file, if it is of the same; else nothing yet."""
    try:
        kept = msgspec.convert(strict_json.parse(path.read_text()), Kept)
        if (kept.world, kept.of, list(kept.repeats)) == (world, of, rows):
            return kept
    except (OSError, ValueError, msgspec.ValidationError):
        pass  # another run's, or none
    return Kept(world, of, {row: [] for row in rows})


def _repeat(world: AnyWorld, denoiser: nn.Module | None, seed: int, steps: int) -> Row:
    """Of a denoiser, or, where there is none, of real motion against another draw of the same."""
    real, prompts = world.real("test", world.size("test"), seed)
    with torch.no_grad(), measuring(world, denoiser):
        prompts = replace(prompts, meanings=tuple(map(str, range(len(prompts)))))  # only the own motion is right
        texts, others = world.embed_texts(prompts.texts), world.embed_motions(real, prompts.lengths).cpu().numpy()
        reward, motion, many = None, real, None
        if denoiser is None:
            again, drawn = world.real("test", world.size("test"), REPEATS + seed)
            others = world.embed_motions(again, drawn.lengths).cpu().numpy()
        else:
            motion, rewards = generate(world, prompts, seed, steps)
            reward = float(rewards.mean())
            many = _multimodality(world, prompts, seed, steps)
        embedded = world.embed_motions(motion, prompts.lengths)
        row: Row = {"reward": reward, **of_one_repeat(texts, embedded, others, prompts, seed, pool_draws=1)}
        judged = world.judged(prompts.texts, motion, prompts.lengths)
    row |= {"multimodality": many} | ({} if judged is None else _judged(*judged, seed))
    return {name: None if value is None or not np.isfinite(value) else float(value) for name, value in row.items()}


def _multimodality(world: AnyWorld, prompts: Prompts, seed: int, steps: int) -> float:
    """Of the first texts, MOTIONS of each."""
    count = min(TEXTS, len(prompts))
    some = Prompts(
        tuple(text for text in prompts.texts[:count] for _ in range(MOTIONS)),
        tuple(meaning for meaning in prompts.meanings[:count] for _ in range(MOTIONS)),
        prompts.lengths[:count].repeat_interleave(MOTIONS),
    )
    motion, _ = generate(world, some, REPEATS + seed, steps)
    embedded = world.embed_motions(motion, some.lengths).reshape(count, MOTIONS, -1)
    return metrics.multimodality(embedded, np.random.default_rng(seed))


def _judged(texts: Tensor, motions: Tensor, seed: int) -> Row:
    """The second judge's retrieval, as shares; by cosine, which is distance between vectors of unit length."""
    forth, back = retrieval(cosines(texts, motions))
    precision: Array | list[None] = [None] * 3
    if len(texts) >= metrics.POOL:
        pools = metrics.pools(len(texts), np.random.default_rng(seed))
        precision = metrics.r_precision(F.normalize(texts, dim=-1), F.normalize(motions, dim=-1), pools)
    everyone = {"judge_t2m": forth.recall[1] / 100, "judge_m2t": back.recall[1] / 100}
    return {f"judge_r{top}": share for top, share in enumerate(precision, start=1)} | everyone


def _over(rows: list[Row]) -> dict[str, OverRepeats]:
    """Of what every repeat gave."""
    names = [name for name in rows[0] if all(row[name] is not None for row in rows)] if rows else []
    return {name: over_repeats([row[name] for row in rows]) for name in names}  # type: ignore[misc]  # none is None
