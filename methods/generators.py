"""torch's global generators: the CPU's, and that of the device where the networks are, from which dropout draws, and
whatever else draws there without a generator of its own."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


def states(device: torch.device) -> list[Tensor]:
    """The state of the CPU's, then that of the device's own, if it has one."""
    return [torch.get_rng_state(), *(torch.get_device_module(own).get_rng_state(own) for own in _own(device))]


def set_states(kept: Sequence[Tensor], device: torch.device) -> None:
    """What `states` gave for a device of this type; ValueError, TypeError or RuntimeError for anything else."""
    own = _own(device)
    of_cpu, *others = kept
    for state, where in zip(others, own, strict=True):
        torch.get_device_module(where).set_rng_state(state, where)
    torch.set_rng_state(of_cpu)


@contextmanager
def forked(device: torch.device) -> Iterator[None]:
    """Whatever is drawn while it is open, the generators are as before afterwards."""
    own = _own(device)
    with torch.random.fork_rng(own, device_type=device.type if own else "cuda"):
        yield


def _own(device: torch.device) -> list[torch.device]:
    """The device, if it has a generator beside the CPU's."""
    return [] if device.type in ("cpu", "meta") else [device]
