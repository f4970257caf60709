"""What a meter gives back: one type for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from msgspec import Meta

from methods.rollout import PHASES

CATEGORIES = ("parameters", "gradients", "optimiser state", "activations", "other")
"""parameters: weights and buffers of every network; gradients: of weights; optimiser state; activations: what the
forward phases (rollout, decode, reward) allocated; other: inputs, and what the backward and optimiser phases allocated
on the way (gradients of activations, temporaries)."""

RESIDENT = "resident"
"""In place of a phase: alive before the update began."""

TIMELINE_POINTS = 400

Bytes = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Peak = Annotated[int, Meta(ge=1, le=2**63 - 1)]
"""Of an update, which holds its weights at the least."""


@dataclass(frozen=True)
class Owner:
    """Live bytes at the moment of the peak that one line of code allocated."""

    phase: str
    """The phase that allocated them (methods.rollout.PHASES), or RESIDENT."""
    category: str
    """One of CATEGORIES."""
    module: str
    """Path of the module that allocated them, or whose backward did, or whose weights they belong to; numbered modules
    are one: `reward.motion_encoder.input_blocks.*.linear1`. Empty outside of any module."""
    operator: str
    """The ATen operator, e.g. `addmm`."""
    where: str
    """`file:line` of the code that called it. Inside the backward pass, the line that started it."""
    bytes: Bytes
    tensors: Bytes


@dataclass(frozen=True)
class Reading:
    """Memory of one update, in bytes. None where a meter cannot know."""

    peak: Peak
    """The most live bytes at any moment of the update, resident bytes included. What claims and gates are judged on."""
    resident: Bytes
    """Alive between updates: parameters, optimiser state, inputs, gradients of an unfrozen reward."""
    sampling: Bytes
    """Peak of a trajectory without gradients, decoded at its end."""
    parameters: Bytes
    """Weights and buffers of every network."""
    optimiser_state: Bytes
    phases: dict[str, Bytes]
    """Peak of each phase (methods.rollout.PHASES)."""
    categories: dict[str, Bytes]
    """Live bytes at the moment of the peak by category (CATEGORIES); they add up to `peak`. Empty if unknown."""
    owners: list[Owner] = field(default_factory=list)
    """Who holds the bytes at the moment of the peak, the largest first; they add up to `peak`. Empty if unknown."""
    split: dict[str, dict[str, Bytes]] = field(default_factory=dict)
    """Bytes at the peak beyond `resident`, by the phase that allocated them and category. Empty if unknown."""
    timeline: list[tuple[float, Bytes, str]] = field(default_factory=list)
    """Live bytes over one update: (position 0..1 in allocation events, bytes, phase), thinned but keeping the peak."""
    tracked: Bytes | None = None
    """Peak of live tensors as the tracker counts them on the same device (CUDA): what `peak` has beyond it is memory
    inside kernels and the allocator's rounding."""
    allocated: Bytes | None = None
    """Peak of what CUDA's caching allocator hands out: `peak` and the unused ends of blocks. Simulated: replayed by the
    allocator's rules (allocator.py). CUDA: its counter, which is `peak` there. Host: none."""
    allocated_phases: dict[str, Bytes] = field(default_factory=dict)
    """The same for each phase. Empty if unknown."""
    reserved: Bytes | None = None
    """What that allocator has taken from the driver by the end of the update, free blocks included. Simulated:
    replayed. CUDA: its counter, `workspace` included. Host: none."""
    workspace: Bytes | None = None
    """Allocator bytes of libraries (cuBLAS) that were there before the case; not part of `peak`."""
    requested: Bytes | None = None
    """Peak of bytes asked for, before the allocator rounds (CUDA)."""
    active: Bytes | None = None
    process: Bytes | None = None
    """Memory of the process: its share of the device (NVML), or its peak resident set (host)."""
    device_used: Bytes | None = None
    """Memory in use on the whole device, other processes included (NVML)."""


def by_category(owners: Sequence[Owner]) -> dict[str, int]:
    """Bytes by category."""
    return {category: sum(o.bytes for o in owners if o.category == category) for category in CATEGORIES}


def by_phase(owners: Sequence[Owner]) -> dict[str, dict[str, int]]:
    """Bytes beyond the resident ones by phase and category."""
    return {phase: by_category([o for o in owners if o.phase == phase]) for phase in PHASES}


def thin(levels: np.ndarray, most: int = TIMELINE_POINTS) -> list[int]:
    """Positions of at most about `most` levels: in every bucket the lowest and the highest, so that no peak is lost."""
    if len(levels) <= most:
        return list(range(len(levels)))
    size = -(-2 * len(levels) // most)
    kept = []
    for start in range(0, len(levels), size):
        bucket = levels[start : start + size]
        kept += sorted({start + int(bucket.argmin()), start + int(bucket.argmax())})
    return kept
