"""What every part of the report is made of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from bench.records import Record
from bench.report.animation import Animation
from bench.report.filters import Filters

Records = Sequence[Record]


@dataclass(frozen=True)
class Section:
    """One part of the report; `name` is the stem of its files."""

    name: str
    title: str
    see: str = ""
    """What to see, in at most 60 words and sentences of at most 30; empty where there is no data."""
    figure: Callable[[], Figure] | None = None
    table: pd.DataFrame | None = None
    animation: Animation | None = None
    """The figure's motions, for the page."""
    filters: Filters | None = None
    """What the page may hide of the figure and its table."""
    command: str = ""
    """What would fill it."""
    note: str = ""
    """How it was measured, where a reader may want to know."""
