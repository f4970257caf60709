"""Counts live tensor bytes, exactly, at every operation.

A dispatch mode sees each operation's outputs; a weak reference to each new storage shows when it dies. Sizes are
rounded up to 512 bytes, as the CUDA caching allocator does. Nothing depends on what the tensors hold, so the count is
the same for meta tensors, which hold nothing (the simulated meter), and for real ones (the host meter).

Autograd itself behaves otherwise under a dispatch mode, and on meta tensors: where gradients meet it adds them into a
new tensor, and it scatters into a copy of the zeros that it has just made, where it works in place otherwise (ATen:
`isTensorSubclassLike`). Such a copy takes the place of the tensor that dies right after it.
"""

import contextlib
import operator
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from bench.meters.origin import Modules, calling_line
from bench.meters.reading import RESIDENT, Owner, thin
from methods.rollout import FORWARD_PHASES

ROUNDING = 512
NUMBER = torch.ops.aten.lift_fresh.default
"""The operator that a tensor made of Python's numbers comes from."""
ADDED = torch.ops.aten.add.Tensor
OUT_OF_PLACE = {
    ADDED,
    torch.ops.aten.index_put.default,
    torch.ops.aten.masked_scatter.default,
    torch.ops.aten.scatter.src,
    torch.ops.aten.scatter.value,
    torch.ops.aten.scatter_add.default,
}
"""What autograd does, under a dispatch mode, instead of an operation in place on the first argument, or on either term
of a sum."""


Allocation = tuple[int, int, str]
"""A storage that was allocated or freed:

- its serial number;
- bytes as asked for, before any rounding; negative where they are freed, and never 0;
- the phase it happened in (methods.rollout.PHASES, empty outside of any), or RESIDENT: alive at restart().
"""


def run_as_is(func, args: tuple, kwargs: dict):
    return func(*args, **kwargs)


def _has_parts(kind: type) -> bool:
    """Whether tensors of a type are made of others, as torch.distributed's of a rank's part."""
    return hasattr(kind, "__tensor_flatten__")


def _parts(tensor: Tensor) -> tuple[Tensor, ...]:
    """What a tensor is made of that has no storage, a sparse one or of a type of its own."""
    if _has_parts(type(tensor)):
        parts = (getattr(tensor, name) for name in tensor.__tensor_flatten__()[0])  # type: ignore[attr-defined]
        return tuple(part for part in parts if isinstance(part, Tensor))
    if tensor.layout is torch.sparse_coo:
        return tensor._indices(), tensor._values()
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return tensor.crow_indices(), tensor.col_indices(), tensor.values()
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return tensor.ccol_indices(), tensor.row_indices(), tensor.values()
    return ()


def _storages(tensor: Tensor) -> list[torch.UntypedStorage]:
    return [part.untyped_storage() for part in _parts(tensor) or (tensor,)]


def _by_autograd() -> bool:
    """Whether the operation that is being tracked, in a backward pass, was called by autograd's C++ code, which works
    in place unless it records a graph. (The backward of a Python function has a frame.)"""
    if torch.is_grad_enabled():
        return False
    caller = sys._getframe(2).f_back  # of __torch_dispatch__; none in the thread of a device
    return caller is None or caller.f_code.co_filename == torch.autograd.graph.__file__


def _rounded(size: Any) -> Any:
    """Bytes, of one storage or an array of them, rounded up as the allocator does."""
    return -(-size // ROUNDING) * ROUNDING


@contextlib.contextmanager
def uncompiled() -> Iterator[None]:
    """While open, nothing is compiled, and what was compiled before runs as it was written: torch.compile would trace
    the tracker too."""

    def compile_nothing(model: Callable | None = None, **_options):
        return model if model is not None else lambda function: function

    with contextlib.ExitStack() as stack:
        if "torch._dynamo" in sys.modules:  # else nothing was compiled yet, and importing it takes seconds
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(mock.patch.object(torch, "compile", compile_nothing))
        yield


class _Live(weakref.ref[torch.UntypedStorage]):
    """A live storage."""

    __slots__ = ("address", "serial", "size")
    address: int
    serial: int
    size: int
    """Bytes that it had when it was last seen."""


class _Copy(NamedTuple):
    """An allocation that autograd may have made for the dispatch mode alone."""

    serial: int
    of: set[int]
    """Serial numbers of what autograd would have worked on in place. It dies next, if nobody else needs it."""


class Tracker(TorchDispatchMode):
    """Live bytes of every storage that an operation made while the mode was on."""

    def __init__(
        self, execute: Callable[[Callable, tuple, dict], object] = run_as_is, device: str | None = None
    ) -> None:
        """`execute` runs an operation; another one may answer from memory (meta_cache). Only what is on a
        `device` of this type counts; None: everything does."""
        super().__init__()
        self._execute = execute
        # (An attribute of tensors: cheaper than their device.)
        self._here = operator.attrgetter(f"is_{device}") if device else lambda _: True
        self.phase = ""
        self._born: dict[int, _Live] = {}  # by address
        self._bytes: list[int] = []  # by serial number: as asked for
        self._phases: list[str] = []  # by serial number: the phase it was born in
        self._origins: list[tuple[str, OpOverload, str]] = []  # by serial number: module, operator, line of code
        self._modules: Modules | None = None
        self._categories: dict[int, str] = {}  # by serial number, where the phase does not say it
        self._resident = 0  # how many of the events stand for what was alive at the last restart()
        self._events: list[int] = []  # serial number, or ~serial number for a death
        self._changes: list[tuple[int, str]] = [(0, "")]  # (event, the phase that begins with it)
        self._copy: _Copy | None = None  # the last allocation, where autograd works in place without a dispatch mode

    # The mode.

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # the guard costs as much as a small operation; see uncompiled()

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            stack.enter_context(uncompiled())
            stack.enter_context(mock.patch.object(torch.UntypedStorage, "resize_", self._resizing()))
            result = super().__enter__()
            self._open = stack.pop_all()
        return result

    def __exit__(self, *error: object):
        super().__exit__(*error)
        self._open.close()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if any(map(_has_parts, types)):
            return NotImplemented  # the operations on its parts come here, too
        out = self._execute(func, args, kwargs or {})
        if isinstance(out, Tensor):
            self._see(out, func, args)
        else:
            self._see_all(out, func, args)
        return out

    def _see_all(self, outputs, func, args: tuple) -> None:
        """The tensors among an operation's outputs, which may be nested in tuples and lists."""
        if isinstance(outputs, (tuple, list)):
            for out in outputs:
                if isinstance(out, Tensor):
                    self._see(out, func, args)
                else:
                    self._see_all(out, func, args)

    def _see(self, tensor: Tensor, func, args: tuple) -> None:
        try:
            storage = tensor.untyped_storage()
        except NotImplementedError:
            for part in _parts(tensor):
                self._see(part, func, args)
            return
        address = storage._cdata
        known = self._born.get(address)
        size = storage.nbytes()
        if known is None:
            if not self._here(tensor):
                return
            # On a CPU, a number that Python gave is taken for one that a run on another device keeps on the CPU: an
            # optimiser counts its steps in such tensors.
            counts = not (func is NUMBER and tensor.is_cpu and tensor.dim() == 0)
            module = self._modules.current() if self._modules else ""
            serial = self._bear(storage, size if counts else 0, (module, func, calling_line()))
            if torch._C._current_graph_task_id() != -1 and func in OUT_OF_PLACE and _by_autograd():
                self._copy = _Copy(serial, self._serials(args if func is ADDED else args[:1]))
        elif known.size != size:
            self._resize(storage, known)

    def _bear(self, storage: torch.UntypedStorage, counted: int, origin: tuple[str, OpOverload, str]) -> int:
        """Notes a new storage, of which `counted` bytes count, and returns its serial number."""
        self._copy = None
        live = _Live(storage, self._die)
        live.address, live.serial, live.size = storage._cdata, len(self._bytes), storage.nbytes()
        self._born[live.address] = live
        self._bytes.append(counted)
        self._phases.append(self.phase)
        self._origins.append(origin)
        self._events.append(live.serial)
        return live.serial

    def _resize(self, storage: torch.UntypedStorage, old: _Live) -> None:
        """A storage is given another size: the new memory is allocated before the old is freed."""
        counts = self._bytes[old.serial] == old.size
        serial = self._bear(storage, storage.nbytes() if counts else 0, self._origins[old.serial])
        if old.serial in self._categories:
            self._categories[serial] = self._categories[old.serial]
        self._free(old.serial)

    def _resizing(self) -> Callable:
        """UntypedStorage.resize_, which is no operation that a dispatch mode sees."""
        resize, seen = torch.UntypedStorage.resize_, self._born

        def resize_(storage: torch.UntypedStorage, size: int):
            result = resize(storage, size)
            known = seen.get(storage._cdata)
            if known is not None and known.size != storage.nbytes():
                self._resize(storage, known)
            return result

        return resize_

    def _die(self, dead: _Live) -> None:
        if self._born.get(dead.address) is dead:
            del self._born[dead.address]
        self._free(dead.serial)

    def _free(self, serial: int) -> None:
        copy, self._copy = self._copy, None
        if copy is not None and serial in copy.of and self._bytes[serial] == self._bytes[copy.serial]:
            # In place without a dispatch mode: the new memory is the old.
            self._events.insert(len(self._events) - 1, ~serial)
        else:
            self._events.append(~serial)

    def _serials(self, tensors: Iterable[Tensor | None]) -> set[int]:
        """Of the live storages of tensors."""
        addresses = [storage._cdata for x in tensors if isinstance(x, Tensor) for storage in _storages(x)]
        return {self._born[address].serial for address in addresses if address in self._born}

    # What the meter tells the tracker.

    @contextlib.contextmanager
    def observe(self, phase: str) -> Iterator[None]:
        """Everything allocated inside belongs to `phase` (methods.rollout.Phases)."""
        self._enter(phase)
        try:
            yield
        finally:
            self._enter("")

    def _enter(self, phase: str) -> None:
        self._copy = None
        self.phase = phase
        self._changes.append((len(self._events), phase))

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
            for serial in self._serials([tensor]):
                serials.add(serial)
                self._origins[serial] = (module, *self._origins[serial][1:])
        self._categories |= dict.fromkeys(serials, category)
        return sum(_rounded(self._bytes[serial]) for serial in serials)

    def restart(self) -> None:
        """Forgets peaks and history; what is alive stays and counts."""
        self._copy = None
        self._events = sorted(live.serial for live in self._born.values())
        self._resident = len(self._events)
        self._changes = [(0, RESIDENT), (self._resident, self.phase)]

    # What the tracker tells the meter, about the time since restart().

    @property
    def live(self) -> int:
        """Live bytes now."""
        return int(self._levels()[-1])

    @property
    def peak(self) -> int:
        """The most live bytes at any moment."""
        return int(self._levels()[self._resident :].max())

    @property
    def phase_peaks(self) -> dict[str, int]:
        """The most live bytes in each phase, what was alive as it began included."""
        levels = self._levels()
        peaks: dict[str, int] = {}
        for phase, start, end in self._stretches():
            if phase not in ("", RESIDENT):
                peaks[phase] = max(peaks.get(phase, 0), int(levels[start : end + 1].max()))
        return peaks

    def allocations(self) -> list[Allocation]:
        """What an allocator would be asked for: first what was alive at restart(), in order of birth, then every
        allocation and free since, in order."""
        sizes = self._bytes
        changes = [(s, sizes[s]) if s >= 0 else (~s, -sizes[~s]) for s in self._events]
        phases = self._event_phases()
        return [(serial, size, phase) for (serial, size), phase in zip(changes, phases, strict=True) if size]

    def at_peak(self) -> list[Owner]:
        """Who holds the live bytes at the (first) moment of the peak, the largest first."""
        moment = self._resident + int(self._levels()[self._resident :].argmax())
        alive: dict[int, None] = {}
        for event in self._events[:moment]:
            if event >= 0:
                alive[event] = None
            else:
                del alive[~event]
        resident = set(self._events[: self._resident])
        held: dict[tuple[str, str, str, str, str], list[int]] = {}
        for serial in filter(self._bytes.__getitem__, alive):  # of what counts
            phase = RESIDENT if serial in resident else self._phases[serial] or "rollout"
            module, func, line = self._origins[serial]
            key = phase, self._category(serial), module, func.overloadpacket.__name__, line
            held.setdefault(key, []).append(_rounded(self._bytes[serial]))
        owners = [Owner(*origin, sum(sizes), len(sizes)) for origin, sizes in held.items()]
        return sorted(owners, key=lambda o: (-o.bytes, o.phase, o.category, o.module, o.operator, o.where))

    def _category(self, serial: int) -> str:
        return self._categories.get(serial) or ("activations" if self._phases[serial] in FORWARD_PHASES else "other")

    def timeline(self) -> list[tuple[float, int, str]]:
        """Live bytes after each event since restart(), thinned: (position 0..1, bytes, phase)."""
        levels, phases = self._levels()[self._resident + 1 :], self._event_phases()[self._resident :]
        return [(round(event / len(levels), 5), int(levels[event]), phases[event]) for event in thin(levels)]

    def _levels(self) -> np.ndarray:
        """Live bytes before the first event, and after each."""
        events = np.array(self._events, dtype=np.int64)
        sizes = _rounded(np.array(self._bytes, dtype=np.int64))
        freed = events < 0
        changes = sizes[np.where(freed, ~events, events)]
        return np.concatenate([[0], np.cumsum(np.where(freed, -changes, changes))])

    def _event_phases(self) -> list[str]:
        """The phase of each event."""
        return [phase for phase, start, end in self._stretches() for _ in range(start, end)]

    def _stretches(self) -> Iterator[tuple[str, int, int]]:
        """Each phase with its first event and the one after its last."""
        ends = [start for start, _ in self._changes[1:]]
        for (start, phase), end in zip(self._changes, [*ends, len(self._events)], strict=True):
            yield phase, start, end
