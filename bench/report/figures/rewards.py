"""The studies of the reward: what it sees under noise, what SPL adds, how much depends on it, how it is gamed."""

import statistics
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bench.alignment.reading import Curve, Figures, of_seeds, paired, side, stopping_point
from bench.alignment.reading import figure as value_of
from bench.claims.compare import place
from bench.claims.measured import study_of
from bench.claims.rewards import RECALLS, is_tiny, recalls, recalls_by_level, reward_recall
from bench.labels import method_label
from bench.motion.metrics import FOLLOWED, METRICS, POOL
from bench.records import StudyRecord
from bench.records.types import (
    FEATURES,
    STATES,
    FeatureNoiseStudy,
    GamingStudy,
    Noise,
    SplStudy,
    StrengthStudy,
    WindowsStudy,
)
from bench.report import style
from bench.report.figures.common import exactly, legend, mark
from bench.report.figures.common import metric as labelled
from bench.report.style import COLOURS, INK, OTHER_METHOD, SOFT

TIMED, UNTIMED, PREDICTED = COLOURS["drtune"], COLOURS["draft"], COLOURS["easytune"]
"""The noisy state with its timestep, without it, and the one-step prediction."""
DASHED, DOTTED = (0, (4, 2)), (0, (1, 2))
SCORED = {"x0-hat": ("one-step prediction x̂₀", PREDICTED), "noisy": ("noise-aware reward of the noisy state", TIMED)}
DIFFERENCES = {
    ("spl", "control"): ("SPL − control", COLOURS["easytune"]),
    ("released", "control"): ("SPL as released − control", OTHER_METHOD),
    ("k1", "control"): ("SPL, K = 1 − control", COLOURS["alignprop"]),
    ("control", "pretrained"): ("control − pre-trained", SOFT),
}
AMONG: tuple[tuple[Literal["all", "pools"], str], ...] = (("all", "all test motions"), ("pools", "pools of 32"))
EVALUATED = tuple(name for name in FOLLOWED if METRICS[name].independent)


def noise(record: StudyRecord, windows: StudyRecord | None) -> Figure:
    """By timestep: correlation of the score with that of the finished motion, and R-precision of noised real motions by
    the world's reward; with a record of the study windows also by the two rewards trained in it."""
    result = study_of(record, Noise)
    figure, ((left, right),) = _panels("What the reward knows in the middle of denoising", record, 1, 2, 3.4)
    looks = {"aware": TIMED, "clean": UNTIMED, "predicted": PREDICTED}
    correlations = (
        (TIMED, result.correlation_aware, result.within_aware),
        (UNTIMED, result.correlation_clean, result.within_clean),
        (PREDICTED, result.correlation_predicted, result.within_predicted),
    )
    for shade, over_all, within in correlations:
        left.plot(result.timestep, over_all, color=shade, linewidth=0.8, alpha=0.7)
        left.plot(result.timestep, within, color=shade, linewidth=2)
    left.axhline(0, color=SOFT, linewidth=1)
    left.set_ylabel("correlation with the final score")
    for shade, precision in ((TIMED, result.precision_aware), (UNTIMED, result.precision_clean)):
        right.plot(result.timestep, [100 * value for value in precision], color=shade, linewidth=2)
    right.plot(result.timestep, [100 * value for value in result.chance], color=INK, linewidth=1, linestyle=DOTTED)
    right.set_ylabel("R-precision of noised real motions, %")
    extra = [Line2D([], [], color=INK, linewidth=1, linestyle=DOTTED, label="chance")]
    if windows is not None:
        trained = study_of(windows, WindowsStudy)
        for name in ("aware", "clean"):
            look: dict[str, Any] = {
                "color": looks[name],
                "linewidth": 1.2,
                "linestyle": DASHED,
                "marker": "o",
                "markersize": 3,
            }
            shares = [of_seeds(level, "R@1") for level in recalls_by_level(trained.rewards[name])]
            means = [share.mean if share.mean is not None else float("nan") for share in shares]
            right.errorbar(trained.levels, means, [share.half_width or 0 for share in shares], **look)
        extra.append(Line2D([], [], **look | {"color": SOFT}))
        extra[-1].set_label("rewards trained here, over seeds")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.set_xlabel("timestep of the denoiser call")
        axes.invert_xaxis()
    widths = {"full: within prompts": 2, "thin: over all": 0.8}
    lines = [Line2D([], [], color=SOFT, linewidth=w, label=text) for text, w in widths.items()]
    left.legend(handles=lines, fontsize=9, loc="upper left")
    right.legend(handles=extra, fontsize=9)
    names = ("noisy state, timestep given", "noisy state, timestep not given", "one-step prediction x̂₀ (left)")
    pairs = zip(names, looks.values(), strict=True)
    legend(figure, [Line2D([], [], color=shade, linewidth=2, label=name) for name, shade in pairs])
    return figure


def windows(record: StudyRecord) -> Figure:
    """Claim C8: what EasyTune changes by window of optimised steps and by what is scored, paired by seed, with 95%
    intervals by Student's t; every seed is a faint point."""
    study = study_of(record, WindowsStudy)
    title = "Which steps to optimise, and what to score there"
    figure, (panels,) = _panels(title, record, 1, len(EVALUATED), 3.0, seeds=len(study.base))
    names = [f"{first}–{past - 1}" for first, past in study.windows]
    for axes, metric in zip(panels, EVALUATED, strict=True):
        for number, (score, (_, shade)) in enumerate(SCORED.items()):
            for at, runs in enumerate(study.runs[score]):
                _difference(axes, at + 0.24 * (number - 0.5), runs, study.base, metric, shade)
        _categories(axes, names)
        axes.set_xlabel("steps (0: the noisiest)")
        axes.set_ylabel(f"change of {labelled(metric)}")
    legend(figure, [_point(label, shade) for label, shade in SCORED.values()])
    return figure


def feature_noise(record: StudyRecord) -> Figure:
    """By timestep: R@1 in pools of 32 of rewards trained on clean motion, and on motion with noisy features: on such
    motion, and on decoded states of the backbone. Means over reward seeds, with 95% intervals by
    Student's t."""
    study = study_of(record, FeatureNoiseStudy)
    seeds = len(study.rewards["clean"][STATES])
    figure, (panels,) = _panels("Noise on the motion, as released", record, 1, 2, 3.0, seeds=seeds)
    arms = {
        "clean": ("trained on clean motion", UNTIMED),
        "aware": ("trained on noisy features, timestep given", TIMED),
    }
    for axes, (noised, what) in zip(
        panels, ((FEATURES, "motion with noisy features"), (STATES, "decoded noisy states")), strict=True
    ):
        for arm, (_, shade) in arms.items():
            points = [of_seeds(level, "R@1") for level in recalls_by_level(study.rewards[arm][noised])]
            means = np.array([point.mean for point in points], dtype=float)
            halves = np.array([point.half_width or 0.0 for point in points])
            axes.fill_between(study.levels, means - halves, means + halves, color=shade, alpha=0.15, linewidth=0)
            axes.plot(study.levels, means, color=shade, linewidth=2, marker="o", markersize=3)
        axes.axhline(100 / POOL, color=INK, linewidth=1, linestyle=DOTTED)
        axes.set_ylim(0, 100)
        axes.set_xlabel(f"timestep, {what}")
        axes.set_ylabel("R@1 in pools of 32, %")
        axes.invert_xaxis()
    lines = [
        Line2D([], [], color=shade, linewidth=2, marker="o", markersize=3, label=name) for name, shade in arms.values()
    ]
    legend(figure, [*lines, Line2D([], [], color=INK, linewidth=1, linestyle=DOTTED, label="1 of 32")])
    return figure


def spl(record: StudyRecord) -> Figure:
    """Claim C9: differences of text-to-motion recall between arms, paired by reward seed, with 95% intervals by
    Student's t; every seed is a faint point."""
    rewards = study_of(record, SplStudy).rewards
    title = "What SPL adds to the reward's retrieval"
    figure, (panels,) = _panels(title, record, 1, 2, 3.0, seeds=len(rewards["spl"]))
    for axes, (kind, among) in zip(panels, AMONG, strict=True):
        for number, ((ours, theirs), (_, shade)) in enumerate(DIFFERENCES.items()):
            pair = [[recalls(reward.retrieval, kind) for reward in rewards[arm]] for arm in (ours, theirs)]
            for at, name in enumerate(RECALLS):
                _difference(axes, at + 0.18 * (number - 1.5), pair[0], pair[1], name, shade)
        _categories(axes, RECALLS)
        axes.set_xlabel(f"text to motion, among {among}")
        axes.set_ylabel("difference, points")
    legend(figure, [_point(label, shade) for label, shade in DIFFERENCES.values()])
    return figure


def strength(record: StudyRecord) -> Figure:
    """The evaluator's R@1 and MM-Dist after fine-tuning against the reward's retrieval, a line a method, with 95%
    intervals over seeds by Student's t; the base's is the band."""
    study = study_of(record, StrengthStudy)
    title = "How much depends on the reward's retrieval"
    figure, (panels,) = _panels(title, record, 1, 2, 3.2, seeds=len(study.base))
    ordered = sorted(study.rewards, key=reward_recall)
    methods = list(ordered[0].runs)
    apart = 0.012 * (
        reward_recall(ordered[-1]) - reward_recall(ordered[0])
    )  # so that intervals do not hide one another
    for axes, metric in zip(panels, ("r1", "mm_dist"), strict=True):
        base = of_seeds(study.base, metric)
        if base.mean is not None:
            half_width = base.half_width or 0.0
            axes.axhspan(base.mean - half_width, base.mean + half_width, color=SOFT, alpha=0.12, linewidth=0)
            axes.axhline(base.mean, color=SOFT, linewidth=1, linestyle=DASHED)
        for number, method in enumerate(methods):
            shade, _ = _method(method, record)
            values = [of_seeds(reward.runs[method], metric) for reward in ordered]
            at = [reward_recall(reward) + apart * number for reward in ordered]
            axes.plot(at, np.array([value.mean for value in values], dtype=float), color=shade, linewidth=1.2)
            for reward, x, value in zip(ordered, at, values, strict=True):
                mark(
                    axes,
                    exactly(x),
                    value,
                    color=shade,
                    marker="o",
                    markersize=6,
                    markerfacecolor=shade if reward.spl else "white",
                    capsize=2,
                    elinewidth=1,
                )
            value = of_seeds(study.of_world.runs[method], metric)
            x = reward_recall(study.of_world) + apart * number
            mark(axes, exactly(x), value, color=shade, marker="D", markersize=6, capsize=2)
        axes.set_xlabel("the reward's text-to-motion R@1, %")
        axes.set_ylabel(f"{labelled(metric)}  after fine-tuning")
    marks = [
        Line2D([], [], color=shade, linewidth=1.5, label=label)
        for shade, label in (_method(method, record) for method in methods)
    ]
    marks += [
        Line2D([], [], color=SOFT, marker="o", linestyle="none", label="reward with SPL"),
        Line2D([], [], color=SOFT, marker="o", linestyle="none", markerfacecolor="white", label="without"),
        Line2D([], [], color=SOFT, marker="D", linestyle="none", label="the world's reward"),
        Line2D([], [], color=SOFT, linewidth=1, linestyle=DASHED, label="base"),
    ]
    legend(figure, marks)
    return figure


def gaming(record: StudyRecord) -> Figure:
    """Validation figures of long runs over updates, a column a run: the reward that is optimised and a second one that
    is not, then the evaluator's. Means over seeds, from the lowest to the highest as a band; a line where each seed's
    run would have been stopped."""
    runs = study_of(record, GamingStudy).runs
    lines = (("reward", "second"), ("r1",), ("mm_dist",), ("fid",))
    title = "Past the best point: is the reward gamed?"
    figure, panels = _panels(title, record, len(lines), len(runs), 1.45, seeds=len(runs[0].curves))
    figure.subplots_adjust(wspace=0.12, hspace=0.16, top=1 - (style.HEAD + 0.2) / figure.get_figheight())
    for column, run in enumerate(runs):
        shade, label = _method(run.method, record)
        stops = [curve[stopping_point(curve)].updates for curve in run.curves]
        for across, names in zip(panels, lines, strict=True):
            axes = across[column]
            for stop in stops:
                axes.axvline(stop, color=INK, linewidth=1, linestyle=DOTTED)
            for number, name in enumerate(names):
                _band(axes, run.curves, name, **({"color": INK, "linestyle": DASHED} if number else {"color": shade}))
            if column:
                axes.sharey(across[0])
            axes.label_outer()
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        panels[0, column].set_title(f"{label}, {'pulled' if run.pull else 'free'}", fontsize=9.5)
        panels[-1, column].set_xlabel("optimiser steps")
    for axes, names in zip(panels[:, 0], lines, strict=True):
        axes.set_ylabel("held-out rewards ↑" if len(names) > 1 else labelled(names[0]), fontsize=9)
    marks = [
        Line2D([], [], color=SOFT, linewidth=1.8, label="the optimised reward, and the evaluator's figures"),
        Line2D([], [], color=INK, linewidth=1.8, linestyle=DASHED, label="a second reward, not optimised"),
        Line2D([], [], color=INK, linewidth=1, linestyle=DOTTED, label="each seed's stop, or end"),
    ]
    legend(figure, marks)
    return figure


def _band(axes: Axes, curves: Sequence[Curve], name: str, **look: Any) -> None:
    """The mean of runs measured after the same trajectories, and from the lowest to the highest of them."""
    points = list(zip(*curves, strict=True))
    x = [statistics.fmean(point.updates for point in seeds) for seeds in points]
    values = np.array([[value_of(point, name) for point in seeds] for seeds in points], dtype=float)
    axes.fill_between(x, values.min(axis=1), values.max(axis=1), color=look["color"], alpha=0.15, linewidth=0)
    axes.plot(x, values.mean(axis=1), **look, linewidth=1.8)


def _difference(
    axes: Axes, x: float, ours: Sequence[Figures], theirs: Sequence[Figures], name: str, shade: str
) -> None:
    """A paired difference with its interval; filled where the interval leaves out 0."""
    value = paired(ours, theirs, name)
    if value.mean is None:
        return
    each = np.array([paired([run], [other], name).mean for run, other in zip(ours, theirs, strict=True)], dtype=float)
    axes.plot([x] * len(each), each, color=shade, marker="o", markersize=2.5, alpha=0.35, linestyle="none")
    mark(
        axes,
        exactly(x),
        value,
        color=shade,
        marker="o",
        markersize=6,
        markerfacecolor=shade if side(value) else "white",
        capsize=3,
    )


def _categories(axes: Axes, names: Sequence[str]) -> None:
    axes.axhline(0, color=SOFT, linewidth=1, linestyle=DASHED)
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.5, len(names) - 0.5)


def _point(label: str, shade: str) -> Line2D:
    return Line2D([], [], color=shade, marker="o", linestyle="none", label=label)


def _method(method: str, record: StudyRecord) -> tuple[str, str]:
    """Colour and label."""
    return style.colour(method), method_label(method, record.case.steps)


def _panels(
    title: str, record: StudyRecord, lines: int, columns: int, height: float, seeds: int | None = None
) -> tuple[Figure, np.ndarray]:
    """A figure and its axes `[lines, columns]`, each line `height` inches high."""
    figure = style.canvas(style.HEAD + lines * height + 0.3)
    panels = figure.subplots(lines, columns, squeeze=False)
    style.margins(figure, 0.75, 0.2, 0.55, wspace=0.14 * columns)
    for axes in panels.flat:
        axes.grid(axis="y")
    parts = [f"{record.case.world} world, T = {record.case.steps}"]
    parts += [f"{seeds} seed{'s' if seeds > 1 else ''}"] if seeds else []
    parts += ["tiny scale: it runs, no more"] if is_tiny(record) else []
    style.title(figure, title, f"{', '.join(parts)}; {place(record)}")
    return figure, panels
