"""The embedded world: a small text-to-motion diffusion model with its reward and evaluator, pre-trained on two cores.

`load()` gives the committed one; `python -m bench.alignment.pretrain` makes it.
"""

from bench.alignment.world.world import WEIGHTS, Prompts, World, load, untrained

__all__ = ["WEIGHTS", "Prompts", "World", "load", "untrained"]
