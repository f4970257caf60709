"""The studies of the base model: what arrives along the chain, and how similar noised motions stay."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.claims.compare import place
from bench.claims.measured import study_of
from bench.records import StudyRecord
from bench.records.types import Chain, Similarity
from bench.report import style
from bench.report.figures.common import legend
from bench.report.style import INK, SOFT


def chain(record: StudyRecord) -> Figure:
    """Claim C6: the chain coefficient by step, and how the gradient is shared out over the steps."""
    result = study_of(record, Chain)
    figure, (left, right) = _pair("What of a gradient at x₀ arrives at earlier steps", record, result.timestep)
    steps = range(len(result.timestep))
    left.plot(steps, result.coefficient_reward, color=style.COLOURS["draft"], linewidth=2)
    left.plot(steps, result.coefficient, color=SOFT, linewidth=1.5, linestyle=(0, (4, 3)))
    left.set_ylim(bottom=0)
    left.set_ylabel("chain coefficient  ‖(∂x₀/∂xᵢ₊₁)ᵀv‖ / ‖v‖")
    left.legend(["v: the reward's gradient", "v: random"], fontsize=9, loc="lower right")
    for norms, method in ((result.through_chain, "draft"), (result.stepwise, "easytune")):
        total = sum(norms)
        right.plot(steps, [value / total for value in norms], color=style.COLOURS[method], linewidth=2)
    right.set_ylabel("share of all steps' gradient norms")
    right.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    right.set_ylim(bottom=0)
    right.legend(["DRaFT-T: through the chain", "EasyTune: its own step's x̂₀"], fontsize=9)
    return figure


def similarity(record: StudyRecord) -> Figure:
    """Claim C7: similarity to the clean motion in the reward's space, and the scores, by step."""
    result = study_of(record, Similarity)
    figure, (left, right) = _pair("How much of a motion the reward still sees under noise", record, result.timestep)
    steps = range(len(result.timestep))
    lines = (
        ("the noised motion", "drtune", result.noisy, result.noisy_reward),
        ("the one-step prediction x̂₀", "easytune", result.predicted, result.predicted_reward),
    )
    for label, method, similar, scores in lines:
        left.plot(steps, similar, color=style.COLOURS[method], linewidth=2, label=label)
        right.plot(steps, scores, color=style.COLOURS[method], linewidth=2)
    left.axhline(result.other[0], color=INK, linewidth=1, linestyle=(0, (4, 3)), label="left: of another meaning")
    right.axhline(result.clean_reward[0], color=SOFT, linewidth=1.5, linestyle=(0, (1, 2)))
    handles, _ = left.get_legend_handles_labels()
    handles.append(Line2D([], [], color=SOFT, linewidth=1.5, linestyle=(0, (1, 2)), label="right: the clean motion"))
    legend(figure, handles)
    left.set_ylabel("cosine similarity to the clean motion")
    right.set_ylabel("score against the caption")
    return figure


def _pair(title: str, record: StudyRecord, timesteps: Sequence[float]) -> tuple[Figure, tuple[Axes, Axes]]:
    figure = style.canvas(style.HEAD + 3.2)
    left, right = figure.subplots(1, 2)
    style.margins(figure, 0.75, 0.3, 0.55)
    figure.subplots_adjust(wspace=0.28)
    ticks = sorted({round(n * (len(timesteps) - 1) / 5) for n in range(6)})
    for axes in (left, right):
        axes.set_xticks(ticks, [str(timesteps[i]) for i in ticks])
        axes.set_xlabel("timestep of the denoiser call")
        axes.grid(axis="y")
    world = f"{record.case.world} world, guided base model; left is the noisiest step"
    style.title(figure, title, f"{world}; T = {len(timesteps)}; {place(record)}")
    return figure, (left, right)
