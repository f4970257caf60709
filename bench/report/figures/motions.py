"""What fine-tuning did to a motion: stick figures over time, row by row."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.alignment.motions import Joints
from bench.claims.compare import place
from bench.records import AlignmentRecord
from bench.report import stick, style
from bench.report.figures.common import legend
from bench.report.stick import SIDES
from bench.report.style import FAINT, INK, SOFT

MOMENTS = 12
_COLUMN, _ROW, _NAMES, _PATH = 1.5, 2.15, 3.2, 2.0
"""Metres that a moment, a row, the names and the path from above take of the picture."""
_FLOOR = np.array([1.0, 0.0, 1.0])


def motions(rows: Sequence[AlignmentRecord], kind: str) -> Figure:
    """The prompt of a kind (see bench.alignment.motions): real motion, base and methods, one row each, at moments in
    time with the root's path so far on the floor, and its whole path from above."""
    shown = stick.shown(rows, kind)
    assert shown is not None, f"no motion of kind {kind}: the section has no figure then"
    across = _NAMES + MOMENTS * _COLUMN + _PATH
    figure = style.canvas(style.HEAD + 0.2 + style.WIDTH / across * _ROW * len(shown.packed))
    axes = figure.add_subplot()
    style.margins(figure, 0, 0, 0.05)
    axes.set_axis_off()
    axes.set_xlim(0, across)
    axes.set_aspect("equal", anchor="SW")
    axes.set_ylim(-_ROW * (len(shown.packed) - 1) - 0.4, _ROW + 0.1)
    columns = _NAMES + _COLUMN * (np.arange(MOMENTS) + 0.5)
    moved = shown.motions
    frames = np.linspace(0, min(map(len, moved.values())) - 1, MOMENTS).round().astype(int)
    for column, frame in zip(columns, frames, strict=True):
        axes.text(column, _ROW - 0.2, f"{frame / shown.fps:.1f} s", ha="center", fontsize=8, color=SOFT)
    reach = max(0.5, *(float(np.linalg.norm(joints[:, 0] * _FLOOR, axis=-1).max()) for joints in moved.values()))
    for row, (name, joints) in enumerate(moved.items()):
        floor = -_ROW * row
        axes.text(0.15, floor + 0.8, name.replace(", ", ",\n"), va="center", fontsize=9, color=INK)
        axes.plot([_NAMES, across], [floor - 0.38] * 2, color=FAINT, linewidth=0.6)
        for column, frame in zip(columns, frames, strict=True):
            _pose(axes, joints, frame, np.array([column, floor]))
        _from_above(axes, joints[:, 0], reach, np.array([across - _PATH / 2, floor + 0.7]))
    _scale(axes, reach, across)
    case, caption = rows[0].case, textwrap.shorten(shown.text, 85, placeholder=" …")
    where = f"size {case.size}; {place(rows[0])}"
    style.title(figure, f"“{caption}”", f"{case.world} world, test prompt, seed 0, same noise; {where}")
    legend(
        figure,
        [
            *(Line2D([], [], color=SIDES[side], linewidth=2, label=f"the body's {side}") for side in ("left", "right")),
            Line2D([], [], color=SOFT, linewidth=1, label="path of the root"),
        ],
    )
    return figure


def _pose(axes: Axes, joints: Joints, frame: int, origin: np.ndarray) -> None:
    """The body of one frame, its root above `origin`; of its path so far what the column has room for."""
    root = joints[frame, 0] * _FLOOR
    path = stick.project(joints[: frame + 1, 0] * _FLOOR - root)
    path = path[np.abs(path[:, 0]) < _COLUMN / 2] + origin
    axes.plot(*path.T, color=SOFT, linewidth=1)
    body = stick.project(joints[frame] - root) + origin
    for side, chain in stick.LIMBS:
        axes.plot(*body[list(chain)].T, color=SIDES[side], linewidth=1.1, solid_joinstyle="round")
    axes.plot(*body[stick.HEAD], color=INK, marker="o", markersize=3, linestyle="none")


def _from_above(axes: Axes, root: np.ndarray, reach: float, origin: np.ndarray) -> None:
    """The whole path of the root, the viewer below the picture; `reach` metres are half of the column."""
    path = stick.from_above(root) * (_PATH / 2 - 0.2) / reach + origin
    axes.plot(*path.T, color=SOFT, linewidth=1)
    axes.plot(*path[0], color=SOFT, marker="o", markersize=2.5, linestyle="none")
    axes.plot(*path[-1], color=INK, marker="s", markersize=2.5, linestyle="none")


def _scale(axes: Axes, reach: float, across: float) -> None:
    """Above the last column: what it shows, and half a metre of it."""
    middle, half = across - _PATH / 2, 0.25 * (_PATH / 2 - 0.2) / reach
    axes.text(middle, _ROW - 0.2, "from above", ha="center", fontsize=8, color=SOFT)
    axes.plot([middle - half, middle + half], [_ROW - 0.4] * 2, color=SOFT, linewidth=1)
    axes.text(middle + half + 0.06, _ROW - 0.4, "0.5 m", va="center", fontsize=6.5, color=SOFT)
