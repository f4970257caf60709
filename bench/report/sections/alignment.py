"""Who aligns best, and at what cost: the runs on the embedded world."""

import pandas as pd

from bench import claims, tables
from bench.alignment import reading
from bench.cases import is_published
from bench.claims import compare
from bench.claims.measured import alignment_of
from bench.claims.published import PUBLISHED_SPEEDUP
from bench.motion.metrics import METRICS
from bench.report import figures
from bench.report import rows as pick
from bench.report.filters import Filters, Mark
from bench.report.sections.section import Records, Section


def alignment(records: Records) -> Section:
    title, rows = "What each method gains", pick.aligned(records)
    if not rows:
        return Section("alignment", title, command=claims.ALIGN_COMMAND)
    case, first = rows[0].case, alignment_of(rows[0])
    see = (
        f"Every method fine-tunes the {case.world} world's base for {first.curves[0][-1].trajectories:g} trajectories "
        f"of {case.batch} prompts, {len(first.seeds)} seeds each, at the learning rate that validation prompts chose "
        "from one grid."
    )
    note = (
        "The reward is that of finished motions: on validation prompts in the figure, on test prompts in the table. "
        "Bands are 95% intervals over seeds (Student's t)."
    )
    frame = tables.alignment([r for r in pick.alignment(records) if compare.difference(rows[0], r) is None])
    return Section("alignment", title, see, lambda: figures.curves(rows), frame, note=note)


def equal(records: Records) -> Section:
    title, rows = "At equal trajectories, and at equal time", pick.aligned(records)
    if not rows:
        return Section("equal", title, command=claims.ALIGN_COMMAND)
    see = (
        "Validation metrics where all methods have run as many trajectories, and where all have had as long: until the "
        "first run of any method ended. Each seed's curve is read at that point."
    )
    return Section("equal", title, see, None, tables.at_equal_cost(rows))


def reward_levels(records: Records) -> Section:
    title, rows = "Time and FLOPs to equal levels of reward and of the evaluator", pick.aligned(records)
    table = claims.alignment.to_levels(rows, records)
    if not len(table):
        return Section("levels", title, command=claims.ALIGN_COMMAND)
    own = table[table["method"].isin(claims.alignment.HOW)]
    saved = {claims.alignment.FASTER: "times faster", claims.alignment.LESS_WORK: "times fewer FLOPs"}
    best = [f"{own[of].max():.2f} {what}" for of, what in saved.items() if of in own and own[of].notna().any()]
    see = (
        "What each method takes to be as good as DRaFT-T after four shares of its gain, by the reward and by the "
        f"evaluator. Published is EasyTune {PUBLISHED_SPEEDUP} times faster, which seems to be of this; "
        f"its best here is {' and '.join(best) or 'none'}."
    )
    note = (
        "Read off mean validation curves, so without intervals; a cell is empty where a method never gets there. FLOPs "
        "are an update's, by torch's counter, times the trajectories: the mean over draws of the plan, on motions of "
        "the longest length."
    )
    return Section("levels", title, see, None, table, note=note)


def published(records: Records) -> Section:
    title, rows = "Beside the published table", pick.aligned(records)
    if not rows:
        return Section("published", title, command=claims.ALIGN_COMMAND)
    see = (
        "What each method changes, in % of its base: as published, of MLD on HumanML3D, and here on test prompts "
        f"of the {rows[0].case.world} world. R@1 should rise, FID and MM-Dist should fall."
    )
    if not is_published(rows[0].case.world):
        see += " Model, data and evaluator differ: compare signs and order, not sizes."
    return Section("published", title, see, None, claims.alignment.beside_published(rows))


def paths(records: Records) -> Section:
    title, rows = "Reward against an independent evaluator", pick.aligned(records)
    if not rows:
        return Section("paths", title, command=claims.ALIGN_COMMAND)
    by_metric: dict[str, list[str]] = {}
    for row in rows:
        for metric in reading.hacked(alignment_of(row).gain):
            by_metric.setdefault(METRICS[metric].label, []).append(row.case.label)
    if by_metric:
        flagged = (
            f"{'every method' if len(names) == len(rows) else ', '.join(names)} by {metric}"
            for metric, names in by_metric.items()
        )
        see = (
            "Flagged for reward hacking, a better reward than the base's and a worse metric of the evaluator's: "
            f"{'; '.join(flagged)}."
        )
    else:
        see = "No method is flagged for reward hacking: a better reward, and an independent metric that is worse."
    note = (
        "A flag is a warning and no finding: each difference is paired by seed and clear by its own 95% interval, "
        "without a correction for how many are asked."
    )
    return Section("paths", title, see, lambda: figures.paths(rows), note=note)


def pareto(records: Records) -> Section:
    title, rows = "What the alignment cost", pick.aligned(records)
    if not rows:
        return Section("pareto", title, command=claims.ALIGN_COMMAND)
    on_cpu = compare.place(rows[0]) == "CPU"
    gained = claims.alignment.gained(rows)
    clear = [row.case.label for row, gains in zip(rows, gained, strict=True) if reading.side(gains["r1", ""]) > 0]
    see = (
        "What alignment costs: the gain over the base against the peak of one update, and against the time of all "
        f"trajectories. Intervals hold for all methods at once; R@1 clearly rises with {', '.join(clear) or 'none'}."
    )
    note = (
        "Gains are of test prompts, paired by seed with the base under the same noise. Intervals are 95% over seeds by "
        "Student's t, widened by Bonferroni's correction for all methods and both metrics. A gain "
        "per minute is each seed's own. Memory is the live tensor bytes of one update at this world's scale, on "
        f"{'a CPU' if on_cpu else compare.place(rows[0])}; it cannot stand for the published scale. Time is of "
        f"{'one CPU core' if on_cpu else 'runs that had it to themselves'}. Points of "
        "almost equal cost stand side by side."
    )
    frame = pd.DataFrame(
        {
            "method": row.case.method,
            "peak, MiB": measured.memory.peak / 2**20,
            "beyond sampling, MiB": (measured.memory.peak - measured.memory.sampling) / 2**20,
            "minutes": reading.mean_curve(measured.curves)[-1].cpu_seconds / 60,
            **{
                f"{METRICS[metric].label} gained{per}": tables.interval(gains[metric, per], "+.3f")
                for metric, per in gains
            },
            "trajectories to DRaFT's reward": measured.to_reach.trajectories,
            "seconds to it": measured.to_reach.seconds,
            "note": measured.to_reach.note or "",
        }
        for row, gains in zip(rows, gained, strict=True)
        for measured in [alignment_of(row)]
    )
    marks = [
        Mark({"Method": row.case.label, "Backbone, by world": row.case.world}, alignment_of(row).memory.peak / 2**20)
        for row in rows
    ]
    return Section("pareto", title, see, lambda: figures.pareto(rows), frame, filters=Filters(marks, "MiB"), note=note)
