"""The prompts that a world is fine-tuned on: of its training split, never another."""

import torch

from bench.world import AnyWorld
from methods import Batch
from methods.finetune import Draw


def training_prompts(world: AnyWorld, count: int | None = None) -> Draw:
    """Batches of prompts drawn, with replacement, from the first `count` of the training split (None: as many as
    the world says), on the world's device.

    None is made ahead of need: one of 16 takes 0.7 ms of a core, and a trajectory of the embedded world a second.
    """
    prompts = world.prompts("train", count or world.training_prompts)

    def draw(size: int, generator: torch.Generator) -> Batch:
        rows = torch.randint(len(prompts), (size,), generator=generator, device=generator.device).tolist()
        return world.batch([prompts.texts[row] for row in rows], prompts.lengths[rows])

    return draw
