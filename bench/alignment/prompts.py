"""The prompts that a world is fine-tuned on: of its training split, never another."""

import torch

from bench.world import World
from methods import Batch
from methods.finetune import Draw


def training_prompts(world: World, count: int = 1024) -> Draw:
    """Batches of prompts drawn, with replacement, from the first `count` of the training split, on the world's device.

    None is made ahead of need: one of 16 takes 0.7 ms of a core, and a trajectory of the embedded world a second.
    """
    prompts = world.prompts("train", count)

    def draw(size: int, generator: torch.Generator) -> Batch:
        rows = torch.randint(len(prompts), (size,), generator=generator, device=generator.device).tolist()
        return world.batch([prompts.texts[row] for row in rows], prompts.lengths[rows])

    return draw
