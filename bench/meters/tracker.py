"""Counts live tensor bytes, exactly, at every operation.

A dispatch mode sees each operation's outputs; a weak reference to each new storage tells when it dies. Sizes are
rounded up to 512 bytes, as the CUDA caching allocator does. Nothing depends on what the tensors hold, so the count is
the same for meta tensors, which hold nothing (the simulated meter), and for real ones (the host meter).
"""

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.meters.origin import Modules, calling_line
from bench.meters.reading import RESIDENT, Owner, thin
from methods.rollout import FORWARD_PHASES

ROUNDING = 512


def _execute(func, args: tuple, kwargs: dict):
    return func(*args, **kwargs)


class Allocation(NamedTuple):
    """A storage that was allocated or freed."""

    serial: int
    """Of the storage; a free has that of its allocation."""
    bytes: int
    """As asked for, before any rounding; negative where it is freed. Never 0: nothing is allocated for no bytes."""
    phase: str
    """The phase it happened in (methods.rollout.PHASES, empty outside of any), or RESIDENT: alive at restart()."""


class Tracker(TorchDispatchMode):
    """Live bytes of every storage that an operation made while the mode was on."""

    def __init__(self, execute: Callable[[Callable, tuple, dict], object] = _execute) -> None:
        """`execute` runs an operation; another one may answer from memory (meta_cache)."""
        super().__init__()
        self._execute = execute
        self.live = 0
        self.peak = 0
        self.phase = ""
        self.phase_peaks: dict[str, int] = {}
        self._born: dict[int, tuple[int, weakref.ref]] = {}  # live storages: address -> (serial number, weak reference)
        self._bytes: list[int] = []  # by serial number: as asked for
        self._sizes: list[int] = []  # by serial number: rounded
        self._phases: list[str] = []  # by serial number: the phase it was born in
        self._origins: list[tuple[str, str, str]] = []  # by serial number: module, operator, line of code
        self._modules: Modules | None = None
        self._categories: dict[int, str] = {}  # by serial number, where it is not told by the phase
        self._resident = 0  # how many of the events stand for what was alive at the last restart()
        self._events: list[tuple[int, str]] = []  # (serial number, or ~serial number for a death; phase)

    # The mode.

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and the guard against it costs as much as a small operation

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = self._execute(func, args, kwargs or {})
        if type(out) is Tensor:
            self._see(out, func)
        else:
            for leaf in tree_leaves(out):
                if isinstance(leaf, Tensor):
                    self._see(leaf, func)
        return out

    def _see(self, tensor: Tensor, func) -> None:
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address in self._born:
            return
        serial = len(self._sizes)
        exact = storage.nbytes()
        size = -(-exact // ROUNDING) * ROUNDING
        self._born[address] = (serial, weakref.ref(storage, lambda _: self._die(address, serial)))
        self._bytes.append(exact)
        self._sizes.append(size)
        self._phases.append(self.phase)
        self._origins.append(self._origin(func))
        self._events.append((serial, self.phase))
        self.live += size
        self._raise_peak()

    def _origin(self, func) -> tuple[str, str, str]:
        module = self._modules.current() if self._modules else ""
        return module, func.overloadpacket.__name__, calling_line()

    def _die(self, address: int, serial: int) -> None:
        if self._born.get(address, (None,))[0] == serial:
            del self._born[address]
        self._events.append((~serial, self.phase))
        self.live -= self._sizes[serial]

    def _raise_peak(self) -> None:
        if self.live > self.peak:
            self.peak = self.live
        if self.phase and self.live > self.phase_peaks.get(self.phase, 0):
            self.phase_peaks[self.phase] = self.live

    # What the meter tells the tracker.

    @contextlib.contextmanager
    def observe(self, phase: str) -> Iterator[None]:
        """Everything allocated inside belongs to `phase` (methods.rollout.Phases)."""
        self.phase = phase
        self._raise_peak()
        try:
            yield
        finally:
            self.phase = ""

    @contextlib.contextmanager
    def watch(self, networks: Callable[[], Mapping[str, nn.Module]]) -> Iterator[None]:
        """Inside, what is allocated is known by the module that did (see origin.Modules)."""
        with Modules(networks) as self._modules:
            try:
                yield
            finally:
                self._modules = None

    def label(self, tensors: Iterable[tuple[str, Tensor | None]], category: str) -> int:
        """Says what live tensors are: one of CATEGORIES, and the module that each belongs to. Returns their rounded
        bytes, each storage once."""
        serials = set()
        for module, tensor in tensors:
            known = None if tensor is None else self._born.get(tensor.untyped_storage()._cdata)
            if known is not None:
                serial = known[0]
                serials.add(serial)
                self._origins[serial] = (module, *self._origins[serial][1:])
        self._categories |= dict.fromkeys(serials, category)
        return sum(self._sizes[serial] for serial in serials)

    def restart(self) -> None:
        """Forgets peaks and history; what is alive stays and counts."""
        alive = sorted(serial for serial, _ in self._born.values())
        self._events = [(serial, "") for serial in alive]
        self._resident = len(self._events)
        self.peak = self.live
        self.phase_peaks = {}

    # What the tracker tells the meter, about the time since restart().

    def allocations(self) -> tuple[Allocation, ...]:
        """What an allocator would be asked for: first what was alive at restart(), in order of birth, then every
        allocation and free since, in order."""
        phases = [RESIDENT] * self._resident + [phase for _, phase in self._events[self._resident :]]
        signed = [(s, self._bytes[s]) if s >= 0 else (~s, -self._bytes[~s]) for s, _ in self._events]
        return tuple(Allocation(*s, phase) for s, phase in zip(signed, phases, strict=True) if s[1])

    def at_peak(self) -> list[Owner]:
        """Who holds the live bytes at the (first) moment of the peak, the largest first."""
        live = 0
        best, moment = -1, 0
        for position, (event, _) in enumerate(self._events):
            live += self._sizes[event] if event >= 0 else -self._sizes[~event]
            if live > best and position >= self._resident - 1:
                best, moment = live, position
        alive: dict[int, None] = {}
        for event, _ in self._events[: moment + 1]:
            if event >= 0:
                alive[event] = None
            else:
                del alive[~event]
        resident = {event for event, _ in self._events[: self._resident]}
        held: dict[tuple[str, str, str, str, str], list[int]] = {}
        for serial in alive:
            phase = RESIDENT if serial in resident else self._phases[serial] or "rollout"
            held.setdefault((phase, self._category(serial), *self._origins[serial]), []).append(self._sizes[serial])
        owners = [Owner(*origin, sum(sizes), len(sizes)) for origin, sizes in held.items()]
        return sorted(owners, key=lambda o: (-o.bytes, o.phase, o.category, o.module, o.operator, o.where))

    def _category(self, serial: int) -> str:
        return self._categories.get(serial) or ("activations" if self._phases[serial] in FORWARD_PHASES else "other")

    def timeline(self) -> list[tuple[float, int, str]]:
        """Live bytes after each event since restart(), thinned: (position 0..1, bytes, phase)."""
        live = sum(self._sizes[event] for event, _ in self._events[: self._resident])
        events = self._events[self._resident :]
        points = []
        for position, (event, phase) in enumerate(events):
            live += self._sizes[event] if event >= 0 else -self._sizes[~event]
            points.append((round(position / len(events), 5), live, phase))
        return thin(points)
