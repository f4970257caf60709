"""Filters in the report's page: what the template lays out, and filter.js hides of a figure and its table.

Nothing is loaded from elsewhere. Without scripts no filter is shown, and figure and table stay whole.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Mark:
    """A row of the section's table, and what the figure draws of it: the parts named `part(its index, ...)`."""

    choices: dict[str, str]
    """What it is, by the name of a filter."""
    memory: float


@dataclass(frozen=True)
class Filters:
    """Of the rows of a table, in their order."""

    marks: Sequence[Mark]
    unit: str
    """Of the marks' memory."""

    @property
    def choices(self) -> dict[str, list[str]]:
        """Every value of every choice once, in the order of the rows."""
        return {name: list(dict.fromkeys(mark.choices[name] for mark in self.marks)) for name in self.marks[0].choices}

    @property
    def memory(self) -> tuple[int, int]:
        """Whole numbers around every mark's."""
        sizes = [mark.memory for mark in self.marks]
        return int(min(sizes)), int(max(sizes)) + 1

    @property
    def data(self) -> list[dict[str, object]]:
        """JSON types, for filter.js."""
        return [asdict(mark) for mark in self.marks]


def part(row: int, *numbers: int) -> str:
    """The id, in the SVG, of one of the things that a figure draws of a row; filter.js finds them by its beginning."""
    return "-".join(map(str, ("row", row, *numbers)))
