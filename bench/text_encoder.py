"""The weights of sentence-t5-large, which MLD and its reward read: released code keeps it on the device while it
trains, so that published memory figures hold it. It is never called; the shapes are those of its configuration files.
"""

import torch
from torch import nn

WORDS, WIDTH, FEEDFORWARD, HEADS, LAYERS, BUCKETS, SENTENCE = 32_128, 1024, 4096, 16, 24, 32, 768
_LAYER = [*[(WIDTH, WIDTH)] * 4, (FEEDFORWARD, WIDTH), (WIDTH, FEEDFORWARD), (WIDTH,), (WIDTH,)]
"""Queries, keys, values and output, the feed-forward's two matrices, and two norms; none has a bias."""
SHAPES = [(WORDS, WIDTH), (BUCKETS, HEADS), *_LAYER * LAYERS, (WIDTH,), (SENTENCE, WIDTH)]
"""Of T5-large's encoder (Raffel et al. 2020; 334.9 million weights): its words, the relative positions, which all
layers share, the layers, and the last norm; then the projection to a sentence (Ni et al. 2022)."""


def resident() -> nn.Module:
    """Frozen weights of these shapes, in float32, on torch's default device; what they hold is not set."""
    return nn.ParameterList(torch.empty(shape) for shape in SHAPES).requires_grad_(False)
