"""Fine-tuning on worlds of real motion, where records have any."""

import pandas as pd

from bench import claims, tables
from bench.report import rows as pick
from bench.report.sections.section import Records, Section

COMMAND = (
    f"pytest bench/ -m alignment --align-world mine.safetensors --benchmark-json=run.json && {claims.REPORT_COMMAND}"
)


def own_motion(records: Records) -> Section:
    title, worlds = "Real motion", pick.own_motion(records)
    if not worlds:
        return Section("own_motion", title, command=COMMAND)
    told = "; ".join(
        f"{name}: {rows[0]['alignment']['curves'][0][-1]['trajectories']} trajectories of {rows[0]['case']['batch']} "
        f"prompts, {len(rows[0]['alignment']['seeds'])} seeds"
        for name, rows in worlds.items()
    )
    see = (
        f"Short runs of small models, each pre-trained on its motion in minutes of two cores ({told}). Test prompts, "
        "95% intervals over seeds, the world's own evaluator. They show that the whole way works on real motion; they "
        "rank nothing, and say nothing of published models."
    )
    if weak := [name for name, rows in worlds.items() if _real_is_below_base(rows[0]["alignment"])]:
        see += f" Of {', '.join(weak)} the evaluator finds real motion worse than the base's: it judges nothing there."
    frames = [tables.alignment(rows).assign(motion=name) for name, rows in worlds.items()]
    frame = pd.concat(frames, ignore_index=True)
    return Section("own_motion", title, see, None, frame[["motion", *frame.columns.drop("motion")]])


def _real_is_below_base(found: dict) -> bool:
    return (found["real"]["r1"] or 0.0) < (found["base"]["r1"]["mean"] or 0.0)
