"""Remembers what operations on meta tensors return, so that the next one of the same shapes is a mere allocation.

Most shape functions of meta tensors are Python and take 0.2 to 2 ms; a denoising loop asks them the same few questions
thousands of times. The answer of a functional operation depends on its arguments' shapes, strides and types alone, so
that what one case has asked is known to all that follow in this process (`execute`).
"""

import functools
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from bench.meters import without_data
from bench.meters.without_data import REDUCTION

MISSING = object()
MOST_ANSWERS = 50_000
"""Of a kilobyte each. Then all are forgotten: those of the cases that follow are few."""


class MetaCache:
    """Runs an operation as `Tracker.execute` does, from memory where it can."""

    def __init__(self) -> None:
        self._operators: dict[Callable, tuple[str, dict[tuple, Any]]] = {}  # kind, and answers by key
        self._count = 0

    def __call__(self, func, args: tuple, kwargs: dict):
        kind, answers = self._operators.get(func) or self._operators.setdefault(func, (_kind(func), {}))
        if kind == VIEW:
            return func(*args, **kwargs)
        if kind == REDUCED:
            return without_data.execute(func, args, kwargs)
        key = _key(args, kwargs, exact=kind == FUNCTIONAL)
        if key is None:
            return func(*args, **kwargs)
        answer = answers.get(key, MISSING)
        if answer is MISSING:
            before = _extents(args) if kind == IN_PLACE else None
            out = func(*args, **kwargs)
            if kind == FUNCTIONAL:
                answers[key] = _describe(out, args)
            else:
                # Writing into a tensor that holds nothing changes nothing, unless it was resized.
                answers[key] = True if _extents(args) == before else None
            self._count += 1
            if self._count > MOST_ANSWERS:
                self._operators.clear()
                self._count = 0
            return out
        if answer is None:
            return func(*args, **kwargs)
        if kind == IN_PLACE:
            return args[0] if func._schema.returns else None
        outputs, nest = answer
        return nest([x and torch.empty_strided(x[0], x[1], dtype=x[2], device="meta") for x in outputs])


execute = MetaCache()

FUNCTIONAL, IN_PLACE, REDUCED, VIEW = "functional", "in place", "reduced", "view"


def _kind(func) -> str:
    """FUNCTIONAL: every result is fresh. IN_PLACE: writes to its first argument, and returns that or nothing. VIEW:
    anything else. REDUCED: a loss of without_data. The last two are never answered from memory."""
    schema = func._schema
    if func in REDUCTION:
        return REDUCED
    if not schema.is_mutable:
        fresh = bool(schema.returns) and all(r.alias_info is None for r in schema.returns)
        return FUNCTIONAL if fresh else VIEW
    written = [a.alias_info is not None and a.alias_info.is_write for a in schema.arguments]
    writes = all(r.alias_info is not None and r.alias_info.is_write for r in schema.returns)
    return IN_PLACE if written[0] and sum(written) == 1 and writes and len(schema.returns) <= 1 else VIEW


def _extents(args: tuple) -> list[tuple]:
    tensors = [x for x in tree_flatten(args)[0] if isinstance(x, Tensor)]
    return [(x.untyped_storage()._cdata, x.untyped_storage().nbytes(), x.shape, x.stride()) for x in tensors]


def _key(args: tuple, kwargs: dict, exact: bool) -> tuple | None:
    """Everything that the shape of an operator's result can depend on; None where an argument is not a meta tensor or
    plain value.

    `exact` false leaves out what floats are worth (an optimiser's change at every step).
    """
    try:
        parts = [_part(arg, exact) for arg in args]
        for name, value in kwargs.items():
            parts.append((name, _part(value, exact)))
    except _NoKeyError:
        return None
    return tuple(parts)


class _NoKeyError(Exception):
    """An argument that cannot be part of a key."""


def _part(arg, exact: bool):
    if isinstance(arg, Tensor):
        if arg.is_meta:
            return arg.shape, arg.stride(), arg.dtype
        raise _NoKeyError
    kind = type(arg)
    if kind is int or kind is bool or (exact and kind is float):
        return kind, arg  # 1, True and 1.0 are equal
    if kind is float:
        return float
    if kind is list or kind is tuple:
        return tuple([_part(x, exact) for x in arg])
    if kind.__hash__ is None:
        raise _NoKeyError
    return arg


def _describe(out, args: tuple) -> tuple | None:
    """(shape, stride, dtype) of every output, and what nests a list of outputs; None unless they are fresh, dense meta
    tensors."""
    outputs, structure = tree_flatten(out)
    inputs = {x.untyped_storage()._cdata for x in tree_flatten(args)[0] if isinstance(x, Tensor)}
    described: list[tuple | None] = []
    for x in outputs:
        if x is None:
            described.append(None)
            continue
        if not isinstance(x, Tensor) or x.device.type != "meta" or x.storage_offset():
            return None
        storage = x.untyped_storage()
        extent = (
            1 + sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True)) if x.numel() else 0
        )
        # An output that aliases an input, or has room to spare, is not what an allocation of its shape would give.
        if storage._cdata in inputs or storage.nbytes() != extent * x.element_size():
            return None
        described.append((tuple(x.shape), x.stride(), x.dtype))
    if isinstance(out, Tensor):
        return described, operator.itemgetter(0)
    if type(out) is tuple and len(out) == len(outputs):
        return described, tuple
    return described, functools.partial(tree_unflatten, treespec=structure)
