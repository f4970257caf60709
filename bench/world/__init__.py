"""A world: a small text-to-motion diffusion model with its reward and evaluator, pre-trained on two cores.

`load()` gives the committed one, of procedural motion; `python -m bench.alignment.pretrain` makes it, or one of a
folder of one's own motion, which `load(path)` gives.
"""

from bench.world.world import WEIGHTS, Prompts, World, inputs, load, name_of, untrained

__all__ = ["WEIGHTS", "Prompts", "World", "inputs", "load", "name_of", "untrained"]
