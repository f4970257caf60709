"""Each method's plan as a grid."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.path import Path

from bench.claims.measured import plan_of
from bench.report import rows as pick
from bench.report import style
from bench.report.figures.common import legend
from bench.report.rows import MethodRecord
from bench.report.style import INK


def plans(rows: Sequence[MethodRecord]) -> Figure:
    """Every method's plan as a row of cells, one a denoiser call; variants stand apart below the table's methods."""
    heights = [y + 0.45 * (not pick.of_table(r.case)) for y, r in enumerate(rows)]
    figure = style.canvas(style.HEAD + 0.65 + 0.36 * (heights[-1] + 1))
    axes = figure.add_subplot()
    style.margins(figure, 2.15, 0.2, 0.5)
    for y, row in zip(heights, rows, strict=True):
        _plan_cells(axes, row, y)
    calls = max(len(cells(plan_of(r).grid)) for r in rows)
    total = plan_of(rows[0]).total
    axes.set_xlim(-0.3, calls + 0.1)
    axes.set_ylim(heights[-1] + 0.5, -0.5)
    axes.set_yticks(heights, [r.case.label for r in rows])
    ticks = [1, *range(10, total + 1, 10)] if total >= 10 else range(1, total + 1)
    axes.set_xticks([t - 0.5 for t in ticks], [str(t) for t in ticks])
    axes.set_xlabel("denoiser call, from noise (left) to motion (right)")
    style.bare(axes, "left", "bottom")
    style.title(figure, "Each method as a plan of where gradients flow", f"one trajectory, T = {total} denoising steps")
    _plan_legend(figure, noised=any("~" in plan_of(r).grid for r in rows))
    return figure


def cells(grid: str) -> list[str]:
    """A plan's grid (methods.plan.Plan.grid) call by call: each a mark, after `|` or `~` where one precedes it."""
    calls, before = [], ""
    for mark in grid:
        if mark in "|~":
            before = mark
        else:
            calls.append(before + mark)
            before = ""
    return calls


def _plan_cells(axes: Axes, row: MethodRecord, y: float) -> None:
    shade = style.colour(row.case.method)
    grid = cells(plan_of(row).grid)
    stopped = any(cell.endswith("o") for cell in grid)  # the grid's S and U do not say it
    for x, cell in enumerate(grid):
        mark = cell[-1]
        recorded = mark in "o#SU"
        hatched = recorded and (mark == "o" or stopped)
        axes.add_patch(
            Rectangle(
                (x + 0.06, y - 0.34),
                0.88,
                0.68,
                linewidth=0,
                facecolor=(style.tint(shade, 0.55) if hatched else shade) if recorded else "#E9EBED",
                hatch="/////" if hatched else None,
                edgecolor=shade if hatched else None,
            )
        )
        if cell[0] in "|~":
            axes.plot([x, x], [y - 0.42, y + 0.42], color=INK, linewidth=1.6, linestyle="-" if cell[0] == "|" else ":")
        if mark in "SUsu":
            height = y - (0.13 if mark in "Uu" else 0)
            axes.plot(x + 0.5, height, "o", color="white", markersize=3.4, markeredgecolor=INK, markeredgewidth=0.7)
        if mark in "Uu":
            axes.plot(x + 0.5, y + 0.17, "^", color=INK, markersize=3.2, markeredgewidth=0)


def _plan_legend(figure: Figure, noised: bool) -> None:
    grey = "#7A7F87"
    handles = [
        Patch(color="#E9EBED", label="no graph"),
        Patch(color=grey, label="graph"),
        Patch(facecolor=style.tint(grey, 0.55), edgecolor=grey, hatch="/////", label="graph, input detached"),
        _cut_mark("-", "state cut"),
        *([_cut_mark(":", "state noised afresh")] if noised else []),
        Line2D(
            [], [], color="white", marker="o", markersize=5, markeredgecolor=INK, linestyle="none", label="reward read"
        ),
        Line2D([], [], color=INK, marker="^", markersize=5, linestyle="none", label="optimiser step"),
    ]
    legend(figure, handles, columns=7)


def _cut_mark(line: str, label: str) -> Line2D:
    """An upright line for the legend, whole or dotted."""
    dashes = [(-1.0, 1.0)] if line == "-" else [(-1.0, -0.7), (-0.4, -0.1), (0.2, 0.5), (0.8, 1.0)]
    upright = Path([(0, y) for dash in dashes for y in dash], [Path.MOVETO, Path.LINETO] * len(dashes))
    return Line2D([], [], color=INK, marker=upright, markersize=11, markeredgewidth=1.6, linestyle="none", label=label)
