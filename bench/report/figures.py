"""The figures. Each takes the rows it draws (see rows) and gives a matplotlib figure; bytes are drawn as GiB (2^30).

No figure mixes places: the subtitle names the one it shows, and says "simulated" where no device was used.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.path import Path
from matplotlib.ticker import LogLocator, NullFormatter

from bench.claims import compare, forecast, published, table
from bench.report import rows as pick
from bench.report import style
from bench.report.style import FAINT, INK, SOFT
from bench.units import GIB
from methods.rollout import PHASES

Rows = Sequence[dict]


def where(record: dict) -> str:
    """Scale and place of a row, for a subtitle."""
    case = record["case"]
    return f"{case['backbone'].upper()}, T = {case['steps']}, {_size(record)}"


def headline(text: str, record: dict) -> str:
    """A title, which says so where the data are simulated."""
    return f"{text} (simulated)" if record["case"]["meter"] == "simulated" else text


def _size(record: dict) -> str:
    case = record["case"]
    return f"batch {case['batch']}, {case['frames']} frames; {compare.provenance(record)}"


# Peaks.


def peaks(rows: Rows) -> Figure:
    """Peak of every method by profile, with the published peak beside it where the scale is the published one."""
    profiles = [p for p in pick.profiles(rows) if pick.table_rows(rows, p)]
    methods = list(dict.fromkeys(style.label(r) for p in profiles for r in pick.table_rows(rows, p)))
    figure = style.canvas(style.HEAD + 0.95 + (0.3 + 0.18 * len(profiles)) * len(methods))
    axes = figure.add_subplot()
    style.place(figure, 1.35, 0.3, 0.55)
    published = pick.scale(rows[0]) == pick.PUBLISHED_SCALE
    thick = 0.76 / max(2, len(profiles))
    for number, profile in enumerate(profiles):
        for row in pick.table_rows(rows, profile):
            y = methods.index(style.label(row)) + (number - (len(profiles) - 1) / 2) * thick
            _peak_bar(axes, row, y, 0.95 * thick, _SHADES[min(number, 2)])
            if published and profile == "paper":
                _published_mark(axes, row, y)
    axes.set_yticks(range(len(methods)), methods)
    axes.set_ylim(len(methods) - 0.5, -0.85 if published else -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("peak of one update, GiB, resident memory included")
    axes.grid(axis="x")
    style.bare(axes, "left")
    if published:
        _base_marks(axes, next(iter(pick.good(rows)), None))
    _profile_legend(figure, profiles, published)
    style.title(figure, headline("Peak memory of one update, by method", rows[0]), where(rows[0]))
    return figure


_SHADES = (1.0, 0.45, 0.2)
"""How much of a method's colour the first, second, third profile keeps."""


def _peak_bar(axes: Axes, row: dict, y: float, thick: float, share: float) -> None:
    """The peak as a bar; a row without one as a hatched stub with its status."""
    shade = style.tint(style.colour(row), share)
    if row["status"] != "ok":
        corner, size = (0, y - 0.45 * thick), (0.08, 0.9 * thick)
        stub = Rectangle(corner, *size, facecolor="white", edgecolor=style.colour(row), hatch="////")
        stub.set_transform(axes.get_yaxis_transform())  # no length: its width is a share of the axes
        axes.add_artist(stub)
        words = {"oom": "out of memory", "unavailable": "meter not available here"}.get(row["status"], row["status"])
        axes.text(0.09, y, words, transform=axes.get_yaxis_transform(), va="center", fontsize=9)
        return
    peak = row["reading"]["peak"] / GIB
    axes.barh(y, peak, thick, color=shade)
    style.note(axes, style.short(peak), (peak, y), (-5, 0), ha="right", color=style.on(shade))


def _published_mark(axes: Axes, row: dict, y: float) -> None:
    """The published figure as the interval between its two readings as GB and as GiB."""
    value = published.PUBLISHED.get(row["case"]["method"])
    if value is None:
        return
    low = value * published.GB / GIB
    axes.plot([low, value], [y, y], color=INK, linewidth=1.6, marker="|", markersize=11, markeredgewidth=1.6)
    style.note(axes, f"{value:.2f}", (value, y), (6, 0))


def _base_marks(axes: Axes, row: dict | None) -> None:
    """What the published base is, and what sampling takes here."""
    low, high = published.PUBLISHED_BASE * published.GB / GIB, published.PUBLISHED_BASE
    axes.axvspan(low, high, color=FAINT, zorder=0, linewidth=0)
    style.note(axes, f"published base {high}", (high, -0.75), (4, 0), color=SOFT)
    if row:
        sampling = row["reading"]["sampling"] / GIB
        axes.axvline(sampling, color=INK, linewidth=1.2, linestyle=(0, (2, 2)), zorder=3)
        style.note(axes, f"sampling without gradients {style.short(sampling)}", (sampling, -0.75), (4, 0), color=SOFT)


def _profile_legend(figure: Figure, profiles: Sequence[str], published: bool) -> None:
    names = {"paper": "reward not frozen, as released (paper)", "frozen": "reward frozen (frozen)"}
    handles: list = [
        Patch(color=style.tint("#444444", _SHADES[min(n, 2)]), label=names.get(profile, profile))
        for n, profile in enumerate(profiles)
    ]
    if published:
        mark = Line2D([], [], color=INK, marker="|", markersize=10, markeredgewidth=1.6, linewidth=1.6)
        mark.set_label("published figure, read as GB (left) or GiB (right)")
        handles.append(mark)
    _legend(figure, handles)


def _legend(figure: Figure, handles: Sequence, columns: int = 6) -> None:
    """One row under the subtitle."""
    height = figure.get_figheight()
    figure.legend(
        handles=list(handles),
        loc="upper left",
        bbox_to_anchor=(0.010, 1 - 0.62 / height),
        ncols=columns,
        fontsize=9,
        handlelength=1.4,
        columnspacing=1.4,
        handletextpad=0.5,
        borderaxespad=0,
        borderpad=0,
    )


# Steps.


def steps(rows: Rows) -> Figure:
    """Left: memory against denoising steps, with what the plan foretells. Right: the same rows against calls held."""
    figure = style.canvas(style.HEAD + 4.2)
    left, right = figure.subplots(1, 2, sharey=True, gridspec_kw={"width_ratios": [1.25, 1]})
    style.place(figure, 0.6, 0.2, 0.55, wspace=0.48)
    start = forecast.anchor(rows)
    for points in pick.lines(rows).values():
        _step_line(left, points, start)
    _held_points(right, rows, start)
    if start:
        _common_floor(left, start)
        _common_floor(right, start)
    left.set_xlabel("denoising steps T")
    left.set_ylabel("peak, GiB")
    left.set_xticks(sorted({r["case"]["steps"] for of in pick.lines(rows).values() for r in of}))
    right.set_xlabel("denoiser calls held at once")
    for axes in (left, right):
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.grid(axis="y")
        axes.tick_params(axis="y", labelleft=True, length=0)
    first = rows[0]
    style.title(
        figure,
        headline(_steps_title(rows), first),
        f"{first['case']['backbone'].upper()}, profile {first['case']['profile']}, {_size(first)}",
    )
    handles = [Line2D([], [], color=SOFT, marker="o", markersize=5, label="peak")]
    if start:
        handles.append(_hollow("foretold by the plan, from EasyTune's row alone"))
    _legend(figure, handles)
    return figure


def _steps_title(rows: Rows) -> str:
    """Says what to see only where it is to be seen: every row foretold by its held calls alone."""
    errors = [row["error"] for row in forecast.forecast(rows).to_dict("records")]
    if errors and max(map(abs, errors)) < 0.02:
        return "Memory grows with the calls held, not with the denoising steps"
    return "Memory against denoising steps, and against the calls held"


def _hollow(label: str) -> Line2D:
    return Line2D([], [], color=INK, marker="o", markersize=9, markerfacecolor="none", linestyle="none", label=label)


def _common_floor(axes: Axes, start: dict) -> None:
    """What every method needs alike: EasyTune's peak without its one denoiser call."""
    floor = (start["reading"]["peak"] - forecast.one_call(start)) / GIB
    axes.axhspan(0, floor, color="#F1F3F4", zorder=0, linewidth=0)
    text = "decode, reward and resident\nmemory: alike for every method"
    axes.text(
        0.5, floor / 2, text, transform=axes.get_yaxis_transform(), ha="center", va="center", fontsize=9.5, color=SOFT
    )


def _step_line(axes: Axes, points: Rows, start: dict | None) -> None:
    shade = style.colour(points[0])
    x, y = [r["case"]["steps"] for r in points], [r["reading"]["peak"] / GIB for r in points]
    axes.plot(x, y, color=shade, marker="o", markersize=4.5, linewidth=1.8)
    if start:
        expected = [forecast.foretold(start, r["plan"]["held"]) / GIB for r in points]
        axes.plot(x, expected, "o", markersize=9, markerfacecolor="none", markeredgecolor=INK, markeredgewidth=0.8)
    style.note(axes, _line_label(points), (x[-1], y[-1]), (9, 0), fontsize=9.5, color=style.ink(shade))


def _line_label(points: Rows) -> str:
    """What is swept: DRaFT holds all steps, AlignProp half of them, DRTune a fifth."""
    held = {r["plan"]["held"] / r["case"]["steps"] for r in points}
    name = style.label(points[0]).partition(",")[0].partition("-")[0]
    share = {1.0: "K = T", 0.5: "K = T/2", 0.2: "K = T/5"}.get(next(iter(held))) if len(held) == 1 else None
    return f"{name}, {share}" if share else name


_RINGS = {"draft": 12, "alignprop": 9, "drtune": 6.5}
"""Marker sizes: methods that hold equally many calls have equal peaks, and show as rings around each other."""


def _held_points(axes: Axes, rows: Rows, start: dict | None) -> None:
    for row in sorted(rows, key=lambda r: -_RINGS.get(pick.family(r), 4)):
        size = _RINGS.get(pick.family(row), 4)
        x, y = row["plan"]["held"], row["reading"]["peak"] / GIB
        axes.plot(x, y, "o", color=style.colour(row), markersize=size, markeredgecolor="white", markeredgewidth=0.7)
    if start:
        ends = [1, max(r["plan"]["held"] for r in rows)]
        expected = [forecast.foretold(start, held) / GIB for held in ends]
        axes.plot(ends, expected, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        text = f"foretold: every further\ncall adds {forecast.one_call(start) / GIB:.3g} GiB"
        axes.text(0.05, 0.93, text, transform=axes.transAxes, va="top", fontsize=9.5, color=INK)


# Where the bytes are.


def split(rows: Rows) -> Figure:
    """Bytes at the peak beyond the resident ones, stacked by the phase that allocated them."""
    profiles = pick.profiles(rows)
    figure = style.canvas(style.HEAD + 0.75 + 0.40 * len(rows))
    axes = figure.add_subplot()
    style.place(figure, 1.95, 0.3, 0.55)
    heights = [y + 0.5 * profiles.index(r["case"]["profile"]) for y, r in enumerate(rows)]
    longest = max(map(_beyond_resident, rows))
    hatched = [_stack(axes, row, y, longest) for y, row in zip(heights, rows, strict=True)]
    names = [f"{style.label(r)}  ({r['case']['profile']})" for r in rows]
    axes.set_yticks(heights, names)
    axes.set_ylim(heights[-1] + 0.6, -0.6)
    resident = sorted(
        {f"{style.short(r['reading']['resident'] / GIB)} {r['case']['profile']}" for r in rows}, reverse=True
    )
    axes.set_xlabel(f"GiB at the peak beyond resident memory ({', '.join(resident)})")
    axes.grid(axis="x")
    style.bare(axes, "left")
    style.title(
        figure, headline("Where the bytes are at the peak, by the phase that allocated them", rows[0]), where(rows[0])
    )
    handles = [Patch(color=style.PHASE_COLOURS[p], label=_PHASE_NAMES[p]) for p in PHASES[:3]]
    if any(hatched):
        handles.append(Patch(facecolor="white", edgecolor=SOFT, hatch="////", label="not activations"))
    _legend(figure, handles)
    return figure


_PHASE_NAMES = {
    "rollout": "rollout: graphs of denoiser calls",
    "decode": "decode: the VAE's graph",
    "reward": "reward: its graph",
}


def _stack(axes: Axes, row: dict, y: float, longest: float) -> bool:
    """One bar: a segment for every phase and category that is more than a hairline; whether any was hatched."""
    reach, hatched = 0.0, False
    for phase in PHASES:
        for category, size in row["reading"]["split"].get(phase, {}).items():
            width, shade, plain = size / GIB, style.PHASE_COLOURS[phase], category == "activations"
            if width > 0.002 * longest:
                hatch = None if plain else "////"
                hatched |= not plain
                axes.barh(y, width, 0.72, left=reach, color=shade, hatch=hatch, edgecolor="white", linewidth=0.8)
            if width > 0.04 * longest:
                style.note(axes, style.short(width), (reach + width / 2, y), (0, 0), ha="center", color=style.on(shade))
            reach += width
    style.note(axes, style.short(reach), (reach, y), (5, 0), fontweight="bold")
    return hatched


def _beyond_resident(row: dict) -> float:
    """GiB at the peak that were not resident."""
    return sum(sum(of.values()) for of in row["reading"]["split"].values()) / GIB


# Timeline.


def timeline(rows: Rows) -> Figure:
    """Live bytes over one update, a panel a method, coloured by phase."""
    figure = style.canvas(style.HEAD + 0.55 + 0.98 * len(rows))
    panels = figure.subplots(len(rows), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    style.place(figure, 2.0, 0.65, 0.5, hspace=0.2)
    for axes, row in zip(panels, rows, strict=True):
        _live_bytes(axes, row)
    panels[0].set_ylim(0, max(r["reading"]["peak"] for r in rows) / GIB * 1.08)
    panels[0].set_xlim(0, 1)
    panels[-1].set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])
    panels[-1].set_xlabel("allocations and releases of one update (not time)")
    style.title(figure, headline("Live memory over one update, GiB", rows[0]), where(rows[0]))
    _legend(figure, [Patch(color=style.PHASE_COLOURS[phase], label=phase) for phase in PHASES])
    return figure


def _live_bytes(axes: Axes, row: dict) -> None:
    points = row["reading"]["timeline"]
    for phase, run in _runs(points):
        shade = style.PHASE_COLOURS.get(phase, FAINT)
        axes.fill_between([p[0] for p in run], [p[1] / GIB for p in run], color=shade, linewidth=0)
    axes.plot([p[0] for p in points], [p[1] / GIB for p in points], color=style.colour(row), linewidth=0.8)
    peak = row["reading"]["peak"] / GIB
    axes.axhline(peak, color=style.colour(row), linewidth=0.8, linestyle=(0, (3, 3)))
    axes.text(
        1.008,
        peak,
        style.short(peak),
        transform=axes.get_yaxis_transform(),
        va="center",
        fontsize=9.5,
        fontweight="bold",
    )
    axes.set_yticks([0, 10, 20, 30] if peak > 5 else axes.get_yticks())
    axes.text(
        -0.05,
        0.5,
        style.label(row),
        transform=axes.transAxes,
        ha="right",
        va="center",
        fontsize=10,
        color=style.ink(style.colour(row)),
        fontweight="bold",
    )
    axes.tick_params(length=0, labelsize=8.5)


def _runs(points: Sequence) -> Iterator[tuple[str, list]]:
    """Stretches of one phase, each from the last point of the stretch before."""
    start = 0
    for phase, run in groupby(range(1, len(points)), key=lambda n: points[n][2]):
        end = list(run)[-1]
        yield phase, list(points[start : end + 1])
        start = end


# Plans.


def plans(rows: Rows) -> Figure:
    """Every method's plan as a row of cells, one a denoiser call; variants stand apart below the table's methods."""
    heights = [y + 0.45 * (not pick.of_table(r)) for y, r in enumerate(rows)]
    figure = style.canvas(style.HEAD + 0.65 + 0.36 * (heights[-1] + 1))
    axes = figure.add_subplot()
    style.place(figure, 2.15, 0.2, 0.5)
    for y, row in zip(heights, rows, strict=True):
        _plan_cells(axes, row, y)
    calls = max(len(cells(r["plan"]["grid"])) for r in rows)
    total = rows[0]["plan"]["total"]
    axes.set_xlim(-0.3, calls + 0.1)
    axes.set_ylim(heights[-1] + 0.5, -0.5)
    axes.set_yticks(heights, [style.label(r) for r in rows])
    ticks = [1, *range(10, total + 1, 10)] if total >= 10 else range(1, total + 1)
    axes.set_xticks([t - 0.5 for t in ticks], [str(t) for t in ticks])
    axes.set_xlabel("denoiser call, from noise (left) to motion (right)")
    style.bare(axes, "left", "bottom")
    style.title(figure, "Each method as a plan of where gradients flow", f"one trajectory, T = {total} denoising steps")
    _plan_legend(figure, noised=any("~" in r["plan"]["grid"] for r in rows))
    return figure


def cells(grid: str) -> list[str]:
    """A plan's grid (methods.plan.Plan.grid) call by call: each a mark, after `|` or `~` where one precedes it."""
    found, before = [], ""
    for mark in grid:
        if mark in "|~":
            before = mark
        else:
            found.append(before + mark)
            before = ""
    return found


def _plan_cells(axes: Axes, row: dict, y: float) -> None:
    shade = style.colour(row)
    grid = cells(row["plan"]["grid"])
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
    _legend(figure, handles, columns=7)


def _cut_mark(line: str, label: str) -> Line2D:
    """An upright line for the legend, whole or dotted."""
    dashes = [(-1.0, 1.0)] if line == "-" else [(-1.0, -0.7), (-0.4, -0.1), (0.2, 0.5), (0.8, 1.0)]
    upright = Path([(0, y) for dash in dashes for y in dash], [Path.MOVETO, Path.LINETO] * len(dashes))
    return Line2D([], [], color=INK, marker=upright, markersize=11, markeredgewidth=1.6, linestyle="none", label=label)


# Time.


def step_time(rows: Rows) -> Figure:
    """Seconds per update and per optimiser step: median, quartiles' distance, and every round."""
    shown = pick.good(rows)
    figure = style.canvas(style.HEAD + 0.75 + 0.46 * len(rows))
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    style.place(figure, 1.5, 0.35, 0.55, wspace=0.12)
    names = [style.label(r) for r in rows]
    for axes, (per, words) in zip(panels, (("update", "update"), ("optimiser_step", "optimiser step")), strict=True):
        for row in shown:
            _time_mark(axes, row, names.index(style.label(row)), per)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(f"seconds per {words} (log scale)")
        axes.grid(axis="x")
        axes.margins(x=0.12)
        style.bare(axes, "left")
    for y, row in enumerate(rows):
        if row["status"] != "ok":
            panels[0].text(0.02, y, row["status"], transform=panels[0].get_yaxis_transform(), va="center", color=SOFT)
    panels[0].set_yticks(range(len(rows)), names)
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    kind = "on a GPU" if rows[0]["case"]["meter"] == "cuda" else "on a CPU"
    style.title(figure, f"Time of a real update, {kind}", f"{where(rows[0])}")
    rounds = shown[0]["timing"]["rounds"] if shown else 0
    _legend(
        figure,
        [
            Line2D([], [], color=SOFT, marker="o", markersize=6, linestyle="none", label="median"),
            Line2D([], [], color=SOFT, linewidth=1.2, label=f"least to most of {rounds} interleaved rounds"),
        ],
    )
    return figure


def _time_mark(axes: Axes, row: dict, y: int, per: str) -> None:
    spread, shade = row["timing"][f"per_{per}"], style.colour(row)
    axes.plot([spread["min"], spread["max"]], [y, y], color=shade, linewidth=1.6, marker="|", markersize=9)
    axes.plot(spread["median"], y, "o", color=shade, markersize=6)
    looks = {"ha": "center", "va": "bottom", "fontsize": 9.5, "color": style.ink(shade)}
    style.note(axes, f"{spread['median']:.3g} s", (spread["median"], y), (0, 6), **looks)


# What "additional memory" hangs on.


def base(pairs: Sequence[tuple[dict, dict]]) -> Figure:
    """EasyTune's share of DRaFT's memory beyond a base, against that base: claim C1 under every base at once.

    `pairs`: (DRaFT's row, EasyTune's row) of each profile, the one that is judged first.
    """
    figure = style.canvas(style.HEAD + 3.7)
    axes = figure.add_subplot()
    style.place(figure, 0.75, 0.3, 0.55)
    easytune = pairs[0][1]
    for number, (draft, row) in enumerate(pairs):
        top, low = draft["reading"]["peak"], row["reading"]["peak"]
        bases = [low * n / 200 for n in range(201)]
        shade = style.tint(style.COLOURS["easytune"], 1 if number == 0 else 0.45)
        axes.plot([b / GIB for b in bases], [(low - b) / (top - b) for b in bases], color=shade, linewidth=2)
    axes.axhline(published.PUBLISHED_SHARE, color=INK, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.text(0.2, published.PUBLISHED_SHARE + 0.008, f"published: {published.PUBLISHED_SHARE:.2%}", fontsize=9.5)
    axes.axvspan(
        published.PUBLISHED_BASE * published.GB / GIB, published.PUBLISHED_BASE, color=FAINT, zorder=0, linewidth=0
    )
    _base_points(axes, *(row["reading"] for row in pairs[0]))
    axes.set_ylim(0, 0.72)
    axes.set_xlim(0, easytune["reading"]["peak"] / GIB * 1.13)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel("base that is subtracted from both peaks, GiB")
    axes.set_ylabel("EasyTune's share of DRaFT-50")
    axes.grid(axis="y")
    text = "The published share hangs on what is called base memory"
    style.title(figure, headline(text, easytune), where(easytune))
    handles = [
        Line2D([], [], color=style.tint(style.COLOURS["easytune"], shade), linewidth=2, label=f"profile {name}")
        for (_, row), shade in zip(pairs, (1, 0.45), strict=False)
        for name in [row["case"]["profile"]]
    ]
    _legend(figure, [*handles, Patch(color=FAINT, label="published base 15.21, read as GB (left) or GiB (right)")])
    return figure


def _base_points(axes: Axes, draft: dict, easytune: dict) -> None:
    """The bases that can be named, on the curve."""
    match = table.matching_base(draft, easytune)
    marks = [
        (easytune["resident"], "resident", (5, 17)),
        (easytune["sampling"], "sampling peak", (9, 6)),
        (match, f"{match / GIB:.2f} GiB", (62, 50)),
        (published.PUBLISHED_BASE * published.GB, "15.21 GB", (51, 27)),
        (published.PUBLISHED_BASE * GIB, "15.21 GiB", (15, 8)),
    ]
    leader = {"arrowstyle": "-", "color": SOFT, "linewidth": 0.8, "shrinkB": 3, "relpos": (0, 0.5)}
    for size, text, offset in marks:
        share = (easytune["peak"] - size) / (draft["peak"] - size)
        axes.plot(size / GIB, share, "o", color=style.COLOURS["easytune"], markersize=7, markeredgecolor="white")
        arrow = leader if abs(offset[0]) > 40 else None
        style.note(axes, f"{text}: {share:.1%}", (size / GIB, share), offset, fontsize=9.5, arrowprops=arrow)


# Random methods.


def random_peaks(pairs: Sequence[tuple[dict, dict]]) -> Figure:
    """Peaks foretold for the draws of methods that hold a random number of calls: least, quartiles, most."""
    figure = style.canvas(style.HEAD + 0.6 + 0.55 * len(pairs))
    axes = figure.add_subplot()
    axes.use_sticky_edges = False  # room on both sides of the bars
    style.place(figure, 2.0, 0.5, 0.5)
    for y, (row, start) in enumerate(pairs):
        held, shade = row["plan"]["held_over_draws"], style.colour(row)
        least, most, *quartiles = (
            forecast.foretold(start, h) / GIB for h in (held["least"], held["most"], *held["quartiles"])
        )
        axes.plot([least, most], [y, y], color=shade, linewidth=1.6, marker="|", markersize=9)
        axes.barh(y, quartiles[2] - quartiles[0], 0.42, left=quartiles[0], color=style.tint(shade, 0.6))
        axes.plot([quartiles[1]] * 2, [y - 0.21, y + 0.21], color=INK, linewidth=2)
        style.note(axes, style.short(quartiles[1]), (quartiles[1], y - 0.21), (0, 3), ha="center", va="bottom")
    axes.set_yticks(range(len(pairs)), [style.label(row) for row, _ in pairs])
    axes.set_ylim(len(pairs) - 0.5, -0.6)
    axes.set_xlabel("foretold peak, GiB")
    axes.grid(axis="x")
    style.bare(axes, "left")
    draws = pairs[0][0]["plan"]["held_over_draws"]["draws"]
    style.title(
        figure, f"Random methods: peaks foretold for {draws} draws of the plan, not measured", where(pairs[0][0])
    )
    _legend(
        figure,
        [
            Patch(color=style.tint(SOFT, 0.6), label="quartiles"),
            Line2D([], [], color=INK, linewidth=2, label="median"),
            Line2D([], [], color=SOFT, linewidth=1.6, label="least to most"),
        ],
    )
    return figure


# Simulated against measured.

_BEYOND = (
    ("reserved", "reserved by the allocator", "s", "#9AA0A6"),
    ("process", "process, with the CUDA context", "D", "#5F6368"),
)


def meters(pairs: Sequence[tuple[dict, dict]]) -> Figure:
    """(simulated, measured) rows of the same cases: both peaks, their ratio, and what the device holds beyond them."""
    figure = style.canvas(style.HEAD + 0.7 + 0.42 * len(pairs))
    axes = figure.add_subplot()
    style.place(figure, 2.0, 0.7, 0.5)
    for y, (simulated, measured) in enumerate(pairs):
        _meter_bar(axes, simulated["reading"]["peak"], measured, y)
    axes.set_yticks(range(len(pairs)), [f"{style.label(m)}  ({m['case']['profile']})" for _, m in pairs])
    axes.set_ylim(len(pairs) - 0.5, -0.85)
    axes.set_xlim(left=0)
    axes.set_xlabel("peak, GiB")
    axes.text(1.01, -0.62, "ratio", transform=axes.get_yaxis_transform(), va="center", fontsize=9, color=SOFT)
    axes.grid(axis="x")
    style.bare(axes, "left")
    style.title(figure, "Peaks simulated and measured; ratio: simulated / allocated", where(pairs[0][1]))
    simulated_mark = Line2D([], [], color=INK, marker="|", markersize=11, markeredgewidth=2, linestyle="none")
    simulated_mark.set_label("simulated")
    beyond = [Line2D([], [], color=ink, marker=m, linestyle="none", label=text) for _, text, m, ink in _BEYOND]
    _legend(figure, [Patch(color=style.tint(SOFT, 0.55), label="allocated, measured"), simulated_mark, *beyond])
    return figure


def _meter_bar(axes: Axes, simulated: int, measured: dict, y: int) -> None:
    reading = measured["reading"]
    axes.barh(y, reading["peak"] / GIB, 0.6, color=style.tint(style.colour(measured), 0.55))
    axes.plot([simulated / GIB] * 2, [y - 0.38, y + 0.38], color=INK, linewidth=2)
    for name, _, marker, ink in _BEYOND:
        if reading.get(name):
            axes.plot(reading[name] / GIB, y, marker, color=ink, markersize=6)
    ratio = f"{simulated / reading['peak']:.3f}"
    axes.text(1.01, y, ratio, transform=axes.get_yaxis_transform(), va="center", fontsize=9.5)
