"""What every figure shares: titles that say where the data come from, and the legend."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.claims import compare
from bench.labels import backbone_label
from bench.meters import METERS
from bench.motion.metrics import METRICS
from bench.records.types import Interval
from bench.report.rows import MethodRecord


def where(record: MethodRecord) -> str:
    """Scale and device of a row, for a subtitle."""
    return f"{models(record)}, T = {record.case.steps}, {size(record)}"


def models(record: MethodRecord) -> str:
    """Which backbone, and which reward where it is not the backbone's default."""
    backbone, reward = backbone_label(record.case.backbone), record.case.reward
    return f"{backbone}, reward {reward}" if reward else backbone


def headline(text: str, record: MethodRecord) -> str:
    """A title, which says so where the data are simulated."""
    return f"{text} (simulated)" if METERS[record.case.meter].simulated else text


def size(record: MethodRecord) -> str:
    case = record.case
    return f"batch {case.batch}, {case.frames} frames; {compare.provenance(record)}"


def metric(name: str) -> str:
    """A metric's label, with an arrow to what is better."""
    return f"{METRICS[name].label} {METRICS[name].arrow}"


def mark(axes: Axes, x: Interval, y: Interval, **look: Any) -> None:
    """A point with its intervals; nothing where one of the two was not measured."""
    if x.mean is not None and y.mean is not None:
        axes.errorbar(x.mean, y.mean, y.half_width or 0, x.half_width, **look)


def exactly(value: float) -> Interval:
    """What has no interval, for `mark`."""
    return Interval(value, None)


def legend(figure: Figure, handles: Sequence, columns: int = 6) -> None:
    """One row under the subtitle; tighter where there are more than eight."""
    height = figure.get_figheight()
    tight = len(handles) > 8
    figure.legend(
        handles=list(handles),
        loc="upper left",
        bbox_to_anchor=(0.010, 1 - 0.62 / height),
        ncols=max(columns, len(handles)) if tight else columns,
        fontsize=8 if tight else 9,
        handlelength=1.1 if tight else 1.4,
        columnspacing=0.8 if tight else 1.4,
        handletextpad=0.5,
        borderaxespad=0,
        borderpad=0,
    )
