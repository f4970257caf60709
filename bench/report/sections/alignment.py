"""Who aligns best, and at what cost: the runs on the embedded world."""

import pandas as pd

from bench import claims, tables
from bench.alignment import reading
from bench.claims import compare
from bench.report import figures, style
from bench.report import rows as pick
from bench.report.sections.section import Records, Section


def alignment(records: Records) -> Section:
    title, rows = "Alignment", pick.aligned(records)
    if not rows:
        return Section("alignment", title, command=claims.ALIGN_COMMAND)
    case, found = rows[0]["case"], rows[0]["alignment"]
    see = (
        f"Every method fine-tunes the embedded world's base for {found['curves'][0][-1]['trajectories']} trajectories "
        f"of {case['batch']} prompts, {len(found['seeds'])} seeds each, at the learning rate that validation prompts "
        "chose from one grid. The reward is always that of finished motions on held-out prompts: of validation prompts "
        "in the figure, whose bands are 95% intervals over seeds, and of test prompts in the table."
    )
    frame = tables.alignment([r for r in pick.alignment(records) if compare.difference(rows[0], r) is None])
    return Section("alignment", title, see, lambda: figures.curves(rows), frame)


def equal(records: Records) -> Section:
    title, rows = "At equal trajectories, and at equal time", pick.aligned(records)
    if not rows:
        return Section("equal", title, command=claims.ALIGN_COMMAND)
    see = (
        "Validation metrics where all methods have seen as many prompts, and where all have had as long: the seconds "
        "after which the first run of any method was through, each seed's curve read off there."
    )
    return Section("equal", title, see, None, tables.at_equal_cost(rows))


def published(records: Records) -> Section:
    title, rows = "Beside the published table", pick.aligned(records)
    if not rows:
        return Section("published", title, command=claims.ALIGN_COMMAND)
    see = (
        "What each method changes in % of its own base, as the paper has it of MLD on HumanML3D, and here on the "
        "embedded world's test prompts with 95% intervals over seeds: another model, data and evaluator, and far less "
        "training, so that signs and order compare, not sizes. R@1 is to rise, FID and MM-Dist are to fall."
    )
    return Section("published", title, see, None, claims.alignment.beside_published(rows))


def paths(records: Records) -> Section:
    title, rows = "Reward against an independent evaluator", pick.aligned(records)
    if not rows:
        return Section("paths", title, command=claims.ALIGN_COMMAND)
    hacked = {style.label(r): reading.hacked(r["alignment"]["gain"]) for r in rows}
    if any(hacked.values()):
        worse = "; ".join(
            f"{name}: {', '.join(tables.ALIGNED[metric] for metric in of)}" for name, of in hacked.items() if of
        )
        see = (
            f"Reward hacking: the reward clearly rises while the evaluator finds clearly worse ({worse}), seed by seed."
        )
    else:
        see = "Where a method's reward is clearly better, no independent metric is clearly worse, seed by seed."
    return Section("paths", title, see, lambda: figures.paths(rows))


def pareto(records: Records) -> Section:
    title, rows = "What the alignment cost", pick.aligned(records)
    if not rows:
        return Section("pareto", title, command=claims.ALIGN_COMMAND)
    see = (
        "Memory is the live tensor bytes of one update at this small world's scale, on a CPU; its proportions are not "
        "those of the published scale. Time is of one CPU core."
    )
    frame = pd.DataFrame(
        {
            "method": row["case"]["method"],
            "peak, MiB": found["memory"]["peak"] / 2**20,
            "beyond sampling, MiB": (found["memory"]["peak"] - found["memory"]["sampling"]) / 2**20,
            **{f"gain, {name}": found["gain"][metric]["mean"] for metric, name in tables.ALIGNED.items()},
            "trajectories to DRaFT's reward": found["to_reach"]["trajectories"],
            "seconds to it": found["to_reach"]["seconds"],
            "note": found["to_reach"]["note"] or "",
        }
        for row in rows
        for found in [row["alignment"]]
    )
    return Section("pareto", title, see, lambda: figures.pareto(rows), frame)
