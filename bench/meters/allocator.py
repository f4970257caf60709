"""PyTorch's CUDA caching allocator, replayed: what a sequence of allocations and frees takes of a card, without one.

The rules are those of c10/cuda/CUDACachingAllocator.cpp and its settings, the same from torch 2.6 to 2.13, for one
stream:

- a request is rounded up to 512 bytes; up to 1 MiB it is served by the small pool, above by the large one;
- of the pool's free blocks the smallest that is large enough is taken, of equal ones that at the lowest address;
- what is left of it becomes a free block of its own: in the small pool from 512 bytes on, in the large pool above 1 MiB
  alone, so that up to 1 MiB stays in the block, unused;
- where no free block is large enough, a segment is taken from the driver: 2 MiB in the small pool; in the large pool
  20 MiB for less than 10 MiB, else the request rounded up to 2 MiB;
- a block that is freed merges with free neighbours of its segment; segments are kept.

Not replayed: what the allocator gives back to the driver once the card is full. `reserved` is therefore what a run
takes of a card that it never fills; on a smaller one it may still run, and frees segments at the cost of time. Segments
are taken to lie at rising addresses; where the driver puts them is not documented, and matters only among free blocks
of equal size.
"""

import math
import os
from bisect import bisect_left, insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from methods.errors import InputError

MIB = 2**20
ROUNDING = 512
SMALL = MIB
"""The largest request of the small pool; also what a block of the large pool may hold unused."""
SMALL_SEGMENT, LARGE_SEGMENT = 2 * MIB, 20 * MIB
LARGE_REQUEST = 10 * MIB
"""From here on a segment is as large as the request, rounded up to SEGMENT_ROUNDING."""
SEGMENT_ROUNDING = 2 * MIB

Events = Sequence[tuple[int, int, str]]
"""(serial number of a tensor's storage; bytes asked for, negative where they are freed; phase), in order: see
tracker.Allocation."""

VARIABLES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
"""Where torch reads the allocator's settings: the first that is set (torch 2.13; older ones know the first alone)."""
NOT_REPLAYED = ("backend", "roundup_power2_divisions", "large_segment_size_mb", "max_non_split_rounding_mb")
"""Settings that change what is taken of a card, and that the replay does not know. Others change nothing of it."""


@dataclass(frozen=True)
class Settings:
    """The allocator's settings that the replay knows, with torch's defaults."""

    expandable_segments: bool = False
    """One segment a pool, which grows by whole pages (2 MiB in the small pool, 20 in the large one); every remainder is
    split off."""
    max_split_size_mb: int | None = None
    """Blocks of this many MiB or more are not split, and serve no smaller request; None: there is no limit."""

    @property
    def max_split_size(self) -> float:
        """Bytes."""
        return math.inf if self.max_split_size_mb is None else self.max_split_size_mb * MIB

    def record(self) -> dict[str, bool | int | str]:
        """JSON types only."""
        most = "unlimited" if self.max_split_size_mb is None else self.max_split_size_mb
        return {"expandable_segments": self.expandable_segments, "max_split_size_mb": most}


DEFAULT = Settings()


def settings(environment: Mapping[str, str] | None = None) -> Settings:
    """The settings that torch would run under in this environment; InputError for one that it would refuse, or that
    cannot be replayed."""
    environment = os.environ if environment is None else environment
    name = next((name for name in VARIABLES if name in environment), None)
    if name is None:
        return Settings()
    options = dict(_option(part, name) for part in _parts(environment[name]))
    for option in NOT_REPLAYED:
        if option in options and (option, options[option]) != ("backend", "native"):
            raise InputError(f"{name} sets {option}, which the simulator cannot replay: leave it out")
    expandable, most = options.get("expandable_segments", "False"), options.get("max_split_size_mb")
    if expandable not in ("True", "False"):
        raise InputError(f"{name}: expandable_segments is True or False, not {expandable!r}")
    if most is not None and not (most.isascii() and most.isdigit() and int(most) >= LARGE_SEGMENT // MIB):
        raise InputError(f"{name}: max_split_size_mb is a whole number from {LARGE_SEGMENT // MIB} on, not {most!r}")
    return Settings(expandable == "True", None if most is None else int(most))


def _parts(text: str) -> list[str]:
    """Options are parted by commas, except inside a list in brackets."""
    parts, depth = [""], 0
    for letter in "".join(text.split()):
        depth += (letter == "[") - (letter == "]")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part for part in parts if part]


def _option(part: str, name: str) -> tuple[str, str]:
    option, colon, value = part.partition(":")
    if not colon:
        raise InputError(f"{name}: {part!r} is not an option: write option:value")
    return option, value


@dataclass(frozen=True)
class Replay:
    """What the allocator held in the last stretch of a run, in bytes."""

    allocated: int
    """The most that was handed out at any moment."""
    reserved: int
    """Taken from the driver by the end, by all stretches: nothing is given back."""
    phases: dict[str, int]
    """The most that was handed out in each phase."""


def replay(stretches: Sequence[Events], settings: Settings = DEFAULT) -> Replay:
    """Replays consecutive stretches of one run, each with the blocks and segments that those before it left behind.

    A stretch may come twice, and may begin with what is alive already: an allocation of what is there, and a free of
    what is gone, change nothing. So what the first of two updates makes and leaves alive is not made again.
    """
    allocator = CachingAllocator(settings)
    blocks, allocate, free = allocator.blocks, allocator.allocate, allocator.free
    for events in stretches:
        phases: dict[str, int] = {}
        peak, now = allocator.allocated, None
        for serial, size, phase in events:
            if phase != now:  # what is alive as a phase begins counts in it
                phases[phase] = max(phases.get(phase, 0), allocator.allocated)
                now = phase
            if size < 0:
                if serial in blocks:
                    free(serial)
            elif serial not in blocks:
                allocate(serial, size)
                if allocator.allocated > phases[phase]:
                    phases[phase] = allocator.allocated
        peak = max([peak, *phases.values()])
    return Replay(peak, allocator.reserved, phases)


Replayer = Callable[[Sequence[Events], Settings], Replay]
"""`replay`, or what stands for it."""


def of_batch(stretches: Sequence[Events], batch: int, other: int) -> list[Events]:
    """The stretches of a run of one batch as they would be with another: what the batch divides is taken to grow with
    it."""
    return [
        [(serial, size if size % batch else size // batch * other, phase) for serial, size, phase in events]
        for events in stretches
    ]


@dataclass
class _Pool:
    """One of the two pools: its free blocks, by size and by either end."""

    segment: int
    """Bytes of a segment for the pool's small requests, and of an expandable segment's page."""
    top: int
    """Address of the next segment; of an expandable one, where it ends."""
    free: list[tuple[int, int]] = field(default_factory=list)
    """(size, address), sorted: the first that is large enough fits best."""
    starts: dict[int, int] = field(default_factory=dict)
    """Address of a free block -> its size."""
    ends: dict[int, int] = field(default_factory=dict)
    """Where a free block ends -> its address."""

    def add(self, address: int, size: int) -> None:
        """A free block, merged with the free blocks that touch it. Segments never touch each other."""
        end = address + size
        before, after = self.ends.get(address), self.starts.get(end)
        if after is not None:
            self.remove(end, after)
            end += after
        if before is not None:
            self.remove(before, address - before)
            address = before
        self.starts[address] = end - address
        self.ends[end] = address
        insort(self.free, (end - address, address))

    def remove(self, address: int, size: int) -> None:
        self.take(bisect_left(self.free, (size, address)))

    def take(self, position: int) -> tuple[int, int]:
        """Address and size of the free block at this position of `free`, no longer free."""
        size, address = self.free.pop(position)
        del self.starts[address], self.ends[address + size]
        return address, size


_LARGE_POOL = 2**50
"""Where the large pool's addresses begin, far above the small pool's."""


class CachingAllocator:
    """The allocator's state: who holds which bytes, and what was taken from the driver."""

    def __init__(self, settings: Settings = DEFAULT) -> None:
        self._expandable = settings.expandable_segments
        self._max_split = settings.max_split_size
        self._small = _Pool(SMALL_SEGMENT, top=0)
        self._large = _Pool(LARGE_SEGMENT, top=_LARGE_POOL)
        self.blocks: dict[int, tuple[int, int]] = {}
        """By serial number: address and size of the block that holds it."""
        self.allocated = 0
        """Bytes of all blocks that hold something."""
        self.reserved = 0
        """Bytes of all segments."""

    def allocate(self, serial: int, size: int) -> None:
        """Finds or makes a block for `size` bytes, more than none."""
        size = -(-size // ROUNDING) * ROUNDING
        pool = self._pool(size)
        address, room = self._best(pool, size) or self._take(pool, size)
        if self._splits(pool, size, room):
            pool.add(address + size, room - size)
            room = size
        self.blocks[serial] = address, room
        self.allocated += room

    def free(self, serial: int) -> None:
        """Gives a block back to its pool."""
        address, size = self.blocks.pop(serial)
        self.allocated -= size
        (self._small if address < _LARGE_POOL else self._large).add(address, size)

    def _pool(self, size: int) -> _Pool:
        return self._small if size <= SMALL else self._large

    def _best(self, pool: _Pool, size: int) -> tuple[int, int] | None:
        """Address and size of the free block that fits best, no longer free."""
        position = bisect_left(pool.free, (size, 0))
        if self._expandable and position + 1 < len(pool.free) and sum(pool.free[position]) == pool.top:
            position += 1  # the block at the end can grow, and is spared where another will do
        if position == len(pool.free):
            return None
        room = pool.free[position][0]
        oversize = room >= self._max_split
        if oversize and (size < self._max_split or room >= size + LARGE_SEGMENT):
            return None
        return pool.take(position)

    def _take(self, pool: _Pool, size: int) -> tuple[int, int]:
        """Address and size of a new segment, or of the expandable one's free end, grown to hold `size`."""
        if self._expandable:
            address = pool.ends.get(pool.top, pool.top)
            room = pool.top - address
            if room:
                pool.remove(address, room)
            # None where the end has room, and was passed over for being too large to split (_best).
            grown = -(-max(size - room, 0) // pool.segment) * pool.segment
            pool.top += grown
        else:
            address, room = pool.top, 0
            whole = pool is self._large and size >= LARGE_REQUEST
            grown = -(-size // SEGMENT_ROUNDING) * SEGMENT_ROUNDING if whole else pool.segment
            pool.top += grown + SEGMENT_ROUNDING  # a gap, so that segments do not merge
        self.reserved += grown
        return address, room + grown

    def _splits(self, pool: _Pool, size: int, room: int) -> bool:
        if pool is self._small or self._expandable:
            return room - size >= ROUNDING
        return size < self._max_split and room - size > SMALL
