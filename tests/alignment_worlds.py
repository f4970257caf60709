"""A world with random weights and few clips, for tests of what is built on a world."""

import functools

import numpy as np
import torch

from bench.world import World, data, procedural, untrained
from bench.world.model import WorldConfig

CLIPS = 900


@functools.cache
def _clips() -> dict[str, torch.Tensor]:
    """The splits of the first CLIPS clips; a few are enough to train on."""
    splits: dict[str, list[int]] = {}
    for number in range(CLIPS):
        splits.setdefault(procedural.clip(data.SEED, number).split, []).append(number)
    splits["train"] = splits["train"][:40]
    return {split: torch.tensor(numbers) for split, numbers in splits.items()}


@functools.cache
def _statistics() -> data.Statistics:
    rows = [data.clip_features(procedural.clip(data.SEED, number)) for number in _clips()["train"][:20].tolist()]
    return data.statistics(np.concatenate(rows))


def untrained_world() -> World:
    """Equal every time."""
    torch.manual_seed(0)
    made = untrained(WorldConfig(), _statistics(), _clips())
    for network in made.networks().values():
        network.eval().requires_grad_(False)
    made.backbone.denoiser.requires_grad_(True)
    return made
