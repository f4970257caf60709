"""LoRA (Hu et al., ICLR 2022): a network's weights stay as they are, and updates of low rank to some of them learn.

Layers, key names and beginning are PEFT's, so that PEFT loads what is learnt into the published modules.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from methods import checkpoint
from methods.errors import InputError
from methods.files import write_atomically

LAYERS = ("self_attn", "multihead_attn", "linear1", "linear2")
"""Those that are adapted, by torch's names for them in a transformer's layer: attention (the fused projection of query,
key and value; for that of the output see `save`) and the feed-forward network."""

FILES = ("adapter_config.json", "adapter_model.safetensors")
"""An adapter as PEFT reads it."""


class LowRank(nn.Module):
    """The weight `[m, n]` plus B A, with A `[rank, n]` and B `[m, rank]`; B begins at 0.

    The sum is made anew in every call, and a recorded call keeps it for the backward pass: a copy of the adapted
    weights, where computing the update from the layer's input would keep little. But torch fuses attention's
    projections, and reads their weight alone.
    """

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        self.lora_A = nn.Parameter(weight.new_empty(rank, weight.shape[1]))
        self.lora_B = nn.Parameter(weight.new_zeros(len(weight), rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        return torch.addmm(weight, self.lora_B, self.lora_A)


def adapt(network: nn.Module, rank: int) -> None:
    """From here on updates of `rank` to the weights of LAYERS learn, and nothing else in `network`; its output is at
    first what it was. A is drawn from torch's global generator. InputError for a network without such layers."""
    weights = list(_weights(network))
    if not weights:
        raise InputError(
            f"{type(network).__name__} has no layer that LoRA adapts ({', '.join(LAYERS)}): train all of it, without "
            "lora"
        )
    network.requires_grad_(False)
    for _, module, name in weights:
        parametrize.register_parametrization(module, name, LowRank(getattr(module, name), rank))


def merge(network: nn.Module) -> None:
    """Adds the updates to the weights, under whose names they then are alone."""
    for _, module, name in list(_weights(network)):
        merged = nn.Parameter(getattr(module, name).detach(), requires_grad=False)
        # As parametrize.remove_parametrizations, which would spoil copies of the network: they share the class.
        module.__class__ = type(module).__bases__[0]
        del module.parametrizations
        module.register_parameter(name, merged)


def save(network: nn.Module, folder: Path) -> list[Path]:
    """Writes the adapter of a network into a folder, for `peft.PeftModel.from_pretrained`; the paths.

    PEFT adapts attention's output projection with the others, and adds that update twice (0.17 and 0.21 do;
    huggingface/peft#3774). So it never learns here, and an update of 0 is written.
    """
    tensors, layers, rank = {}, set(), 0
    for path, module, name in _weights(network):
        low_rank = module.get_submodule(f"parametrizations.{name}.0")
        assert isinstance(low_rank, LowRank)  # by `adapt`
        a, b = low_rank.lora_A.detach(), low_rank.lora_B.detach()
        rank = len(a)
        layers.add(path.rpartition(".")[2])
        updates = {path: (a, b)}
        if isinstance(module, nn.MultiheadAttention):
            updates[f"{path}.base_layer.out_proj"] = (a.clone(), b.new_zeros(module.embed_dim, rank))
        for of, (a, b) in updates.items():
            tensors[f"base_model.model.{of}.lora_A.weight"] = a
            tensors[f"base_model.model.{of}.lora_B.weight"] = b
    # The update is B A itself: PEFT's is lora_alpha / r of it.
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": sorted(layers)}
    paths = [folder / name for name in FILES]
    write_atomically(paths[0], json.dumps(config, indent=1) + "\n")
    checkpoint.save_tensors(tensors, paths[1])
    return paths


def _weights(network: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """The adapted weights: the layer's path, the layer, and the weight's name in it."""
    for path, module in network.named_modules():
        if path.rpartition(".")[2] not in LAYERS:
            continue
        if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:  # of one width, fused
            yield path, module, "in_proj_weight"
        elif isinstance(module, nn.Linear):
            yield path, module, "weight"
