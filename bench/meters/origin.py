"""Where an allocation came from: the module whose forward ran, the operator, and the line of code.

Modules are followed by torch's global forward hooks. Backward operations run outside any forward; the module whose
operation they differentiate is found by autograd's sequence number, which counts on with every recorded operation.
"""

import bisect
import functools
import re
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.autograd import _get_sequence_nr
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

ROOT = Path(__file__).parents[2]
_TORCH, _METERS, _STANDARD = Path(torch.__file__).parent, Path(__file__).parent, Path(sysconfig.get_path("stdlib"))
_INSTALLED = Path(sysconfig.get_path("purelib"))


class Modules:
    """Knows, while its context is open, which module's forward is running."""

    def __init__(self, networks: Callable[[], Mapping[str, nn.Module]]) -> None:
        """`networks` gives the root modules by name; it is asked again when a module is met that nobody has named."""
        self._networks = networks
        # Weak: a module (and its weights) must not live longer for being watched.
        self._names: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()
        self._running: list[str] = []
        self._sequence: list[int] = []  # where in autograd's count the module changed,
        self._entered: list[str] = []  # and to which

    def __enter__(self) -> "Modules":
        self._hooks = [
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave, always_call=True),
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _enter(self, module: nn.Module, _args: object) -> None:
        name = self._names.get(module)
        if name is None:
            self._names.update((each, name) for name, each in named_modules(self._networks()))
            name = self._names.setdefault(module, type(module).__name__)
        self._running.append(name)
        self._mark(name)

    def _leave(self, _module: nn.Module, _args: object, _output: object) -> None:
        self._running.pop()
        self._mark(self._running[-1] if self._running else "")

    def _mark(self, name: str) -> None:
        number = _get_sequence_nr()
        if self._sequence and self._sequence[-1] == number:
            self._entered[-1] = name
        else:
            self._sequence.append(number)
            self._entered.append(name)

    def current(self) -> str:
        """The innermost module whose forward, or the backward of whose forward, is running; empty outside of any."""
        if self._running:
            return self._running[-1]
        node = torch._C._current_autograd_node()
        if node is None:
            return ""
        position = bisect.bisect_right(self._sequence, node._sequence_nr()) - 1
        # A leaf's node counts as the last of all: it belongs to no operation.
        return self._entered[position] if 0 <= position < len(self._entered) - 1 else ""


def named_modules(networks: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """Every module of every network by its path, numbered ones as one: `denoiser.encoder.input_blocks.*.linear1`."""
    for root, network in networks.items():
        for path, module in network.named_modules():
            yield wildcard(f"{root}.{path}" if path else root), module


@functools.cache
def wildcard(path: str) -> str:
    """A module's path with numbers replaced by `*`."""
    return re.sub(r"(?<=\.)\d+(?=\.|$)", "*", path)


_paths: dict[str, str | None] = {}
_lines: dict[tuple[str, int], str] = {}


def calling_line() -> str:
    """`file:line` of the innermost frame that is neither torch's nor the meter's; empty if there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        filename = frame.f_code.co_filename
        known = _paths[filename] if filename in _paths else _paths.setdefault(filename, reported_path(filename))
        if known is not None:
            line = (filename, frame.f_lineno)
            return _lines.get(line) or _lines.setdefault(line, f"{known}:{frame.f_lineno}")
        frame = frame.f_back
    return ""


def reported_path(filename: str) -> str | None:
    """How a file is called in a report: from the repository's root, the package's, or the working folder's. None for
    code that allocates on behalf of others: torch, the meters, the standard library."""
    path = Path(filename)
    if filename.startswith("<") or path.is_relative_to(_TORCH) or path.is_relative_to(_METERS):
        return None
    for root in (_INSTALLED, ROOT, Path.cwd()):
        if path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    return None if path.is_relative_to(_STANDARD) else path.name
