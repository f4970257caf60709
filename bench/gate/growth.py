"""Why one reading is larger than another: who holds more live bytes at the moment of the peak."""

from collections.abc import Sequence
from dataclasses import dataclass

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


def changes(old: Sequence[dict], new: Sequence[dict]) -> list[Change]:
    """What changed between the owners of two readings (Reading.owners, as JSON), the largest growth first."""
    by_operator: dict[tuple[str, str, str, str], int] = {}
    for sign, owners in ((-1, old), (1, new)):
        for o in owners:
            key = (o["phase"], o["category"], o["module"], o["operator"])
            by_operator[key] = by_operator.get(key, 0) + sign * o["bytes"]
    by_module: dict[tuple[str, str, str], dict[str, int]] = {}
    for (phase, category, module, operator), size in by_operator.items():
        by_module.setdefault((phase, category, module), {})[operator] = size
    found = []
    for place, operators in by_module.items():
        total = sum(operators.values())
        if total:
            main = max(operators, key=lambda name: (operators[name] * (1 if total > 0 else -1), name))
            found.append(Change(*place, total, main, _where(new, (*place, main))))
    return sorted(found, key=lambda c: (-c.bytes, c.phase, c.category, c.module))


def _where(owners: Sequence[dict], key: tuple) -> str:
    """The largest allocation's line; owners come largest first."""
    lines = (o["where"] for o in owners if (o["phase"], o["category"], o["module"], o["operator"]) == key)
    return next(lines, "")


def told(found: Sequence[Change], grew: bool) -> list[str]:
    """The changes that explain a growth (or a shrinkage), a line each, the largest first; the rest as one sum."""
    ordered = list(found) if grew else list(reversed(found))
    meant = [c for c in ordered if (c.bytes > 0) is grew]
    lines = [str(c) for c in meant[:SHOWN]]
    rest = sum(c.bytes for c in found) - sum(c.bytes for c in meant[:SHOWN])
    others = len(found) - len(meant[:SHOWN])
    return lines + ([f"{others} more changes, {signed_gib(rest)} together"] if others else [])


def size_change(old: int, new: int) -> str:
    """`16.41 GiB → 17.02 GiB (+0.61 GiB, +3.7%)`."""
    percent = f", {100 * (new / old - 1):+.2g}%" if old else ""
    return f"{gib(old)} → {gib(new)} ({signed_gib(new - old)}{percent})"
