"""A world: a small text-to-motion diffusion model with its reward and evaluator, pre-trained on two cores.

`load()` gives the committed one, of procedural motion; `python -m bench.alignment.pretrain` makes it, or one of a
folder of one's own motion, which `load(path)` gives. `load("published:FOLDER")` gives one of published models and data;
`pretrained` loads the others alone, as a World.
"""

from bench.world.any_world import AnyWorld, digest, inputs, load, name_of
from bench.world.world import WEIGHTS, Prompts, World, untrained
from bench.world.world import load as pretrained

__all__ = ["WEIGHTS", "AnyWorld", "Prompts", "World", "digest", "inputs", "load", "name_of", "pretrained", "untrained"]
