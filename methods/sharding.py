"""Sharded fine-tuning by FSDP2: of the denoiser's weights, of their gradients and of the optimiser's state, each rank
keeps its part (Zhao et al., VLDB 2023; torch's `fully_shard`).

The first call after an optimiser step gathers all weights, which stay until the next one, whatever number of calls a
plan makes in between. Gradients are whole while a backward pass runs, and are averaged over the ranks as it ends, when
each rank keeps those of its part.
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.utils._pytree import tree_map

from methods.errors import InputError, one_sentence


def mesh_of(device: torch.device, ranks: int) -> DeviceMesh:
    """All ranks of the process group, each on a device of this type."""
    return init_device_mesh(device.type, (ranks,))


def shard(network: nn.Module, mesh: DeviceMesh) -> None:
    """From here on each of the ranks has its part of every weight; all of them call this alike. InputError for a
    network that FSDP2 does not take."""
    from torch.distributed.fsdp import fully_shard  # takes a second to import

    # What a denoiser returns may be a view, as long as nobody writes into it.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module", UserWarning)
    try:
        sharded = fully_shard(network, mesh=mesh, reshard_after_forward=False)
    except (ValueError, NotImplementedError) as error:
        raise InputError(f"FSDP2 does not take {type(network).__name__}: {one_sentence(error)}") from None
    sharded.set_reshard_after_backward(False)


def is_sharded(network: nn.Module) -> bool:
    return hasattr(network, "reshard")


def let_go(network: nn.Module) -> None:
    """Frees the gathered weights: the next call gathers them as they are then."""
    if is_sharded(network):
        network.reshard()  # type: ignore[operator]  # of FSDPModule


def is_part(value: object) -> bool:
    """Whether it is a tensor of which each rank has a part."""
    return hasattr(value, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """What a part is of, on every rank; all of them call this alike. Any other tensor is whole."""
    return tensor.full_tensor() if is_part(tensor) else tensor  # type: ignore[attr-defined]  # of DTensor


def gathered(state: Any, keep: bool) -> Any:
    """Nested containers with whole tensors in place of parts, one after the other moved to the CPU; all ranks call this
    alike. keep: whether this one wants them, or only helps others."""

    def of(leaf: Any) -> Any:
        if is_part(leaf):
            leaf = whole(leaf)
            return leaf.cpu() if keep else None
        return leaf

    return tree_map(of, state)


def like(tensor: Tensor, weight: Tensor) -> Tensor:
    """A whole tensor, which every rank has, as the weight is: on its device, and of a weight in parts this rank's
    part."""
    tensor = tensor.to(weight.device)
    if not is_part(weight):
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(weight, DTensor)
    return distribute_tensor(tensor, weight.device_mesh, weight.placements)
