"""Why one reading is larger than another: who holds more live bytes at the moment of the peak."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.gate.baseline import Owner
from bench.units import gib, signed_gib

SHOWN = 5
"""Changes named in a message; the largest come first."""


@dataclass(frozen=True)
class Change:
    """Bytes at the peak that one module gained or lost in one phase and category."""

    phase: str
    category: str
    module: str
    bytes: int
    """New less old."""
    operator: str
    """The operator whose part of the change is largest."""
    where: str
    """`file:line` of that operator's largest allocation in the new reading; empty if it has none left."""

    def __str__(self) -> str:
        cause = ", ".join(filter(None, (self.operator, self.where)))
        return f"{self.phase} · {self.category} · {self.module or '(no module)'} {signed_gib(self.bytes)} ({cause})"


def changes(old: Sequence[Owner], new: Sequence[Owner]) -> list[Change]:
    """What changed between the owners of two rows, the largest growth first."""
    by_module: dict[tuple[str, str, str], dict[str, int]] = {}
    for sign, owners in ((-1, old), (1, new)):
        for o in owners:
            operators = by_module.setdefault(o.key[:3], {})
            operators[o.operator] = operators.get(o.operator, 0) + sign * o.bytes
    lines = {o.key: o.where for o in new}
    moved = []
    for module, operators in by_module.items():
        total = sum(operators.values())
        if total:
            main = max(operators, key=lambda name: (operators[name] * (1 if total > 0 else -1), name))
            moved.append(Change(*module, total, main, lines.get((*module, main), "")))
    return sorted(moved, key=lambda c: (-c.bytes, c.phase, c.category, c.module))


def listed(moved: Sequence[Change], grew: bool) -> list[str]:
    """The changes that explain a growth (or a shrinkage), a line each, the largest first; the rest as one sum."""
    ordered = list(moved) if grew else list(reversed(moved))
    meant = [c for c in ordered if (c.bytes > 0) is grew]
    lines = [str(c) for c in meant[:SHOWN]]
    rest = sum(c.bytes for c in moved) - sum(c.bytes for c in meant[:SHOWN])
    others = len(moved) - len(meant[:SHOWN])
    return lines + ([f"{others} more changes, {signed_gib(rest)} together"] if others else [])


def size_change(old: int, new: int) -> str:
    """`16.41 GiB → 17.02 GiB (+0.61 GiB, +3.7%)`."""
    percent = f", {100 * (new / old - 1):+.2g}%" if old else ""
    return f"{gib(old)} → {gib(new)} ({signed_gib(new - old)}{percent})"
