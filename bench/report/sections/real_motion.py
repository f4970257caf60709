"""Fine-tuning and rewards on worlds of real motion, where records have any."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Literal

import pandas as pd

from bench import claims, tables
from bench.alignment.reading import paired
from bench.cases import EMBEDDED, OVER_FRAMES
from bench.claims.alignment import NOISE_AWARE
from bench.claims.base_model import study
from bench.claims.measured import alignment_of, study_of
from bench.claims.rewards import recalls, retrieved
from bench.claims.verdict import NotJudgedError
from bench.labels import method_label
from bench.records import AlignmentRecord, StudyRecord
from bench.records.types import Interval, RetrievalStudy, SplStudy, TrainedReward
from bench.report import rows as pick
from bench.report.sections.section import Records, Section
from bench.tables import interval

MANY = "draft:k=10"
WORLD = "--align-world mine.safetensors"
COMMAND = claims.command(WORLD, "alignment")
REWARDS_COMMAND = claims.command(f"--study retrieval {WORLD}", "study")


def real_motion(records: Records) -> Section:
    title, worlds = "Real motion", pick.aligned_elsewhere(records)
    if not worlds:
        return Section("real_motion", title, command=COMMAND)
    see = "Fine-tuning on worlds of real motion, which rank no methods and say nothing of the published models."
    if frames := [name for name in worlds if name.endswith(OVER_FRAMES)]:
        see += f" In {', '.join(frames)} a small MDM denoises the frames themselves, without a VAE."
    if times := [f"{ratio:.1f} ({name})" for name, rows in worlds.items() if (ratio := _times_the_memory(rows))]:
        see += f" {method_label(MANY, 0)} takes {', '.join(times)} times EasyTune's memory."
    if weak := [name for name, rows in worlds.items() if _real_is_below_base(rows[0])]:
        see += (
            f" The evaluator of {', '.join(weak)} gives real motion a lower R@1 than the base's motion, so it cannot "
            "judge there."
        )
    tabled = [tables.alignment(rows).assign(motion=name) for name, rows in worlds.items()]
    frame = pd.concat(tabled, ignore_index=True)
    lengths = "; ".join(f"{name}: {_length(rows[0])}" for name, rows in worlds.items())
    note = (
        f"Test prompts, judged by each world's evaluator, with 95% intervals over seeds (Student's t). {lengths}. "
        "Memory is the live tensor bytes of one update at each world's scale."
    )
    return Section("real_motion", title, see, None, frame[["motion", *frame.columns.drop("motion")]], note=note)


def _length(row: AlignmentRecord) -> str:
    measured = alignment_of(row)
    trajectories = measured.curves[0][-1].trajectories
    return f"{trajectories:g} trajectories of {row.case.batch} prompts, {len(measured.seeds)} seeds"


def _times_the_memory(rows: Sequence[AlignmentRecord]) -> float | None:
    """A method's that holds several calls over that of EasyTune with a noise-aware reward; None where one lacks."""
    peaks = {row.case.method: alignment_of(row).memory.peak for row in rows}
    return peaks[MANY] / peaks[NOISE_AWARE] if {MANY, NOISE_AWARE} <= peaks.keys() else None


def _real_is_below_base(row: AlignmentRecord) -> bool:
    measured = alignment_of(row)
    return (measured.real["r1"] or 0.0) < (measured.base["r1"].mean or 0.0)


def real_rewards(records: Records) -> Section:
    """Retrieval by rewards of one recipe: of worlds of real motion beside the embedded one."""
    title, others = "Rewards on real motion", pick.retrieval_elsewhere(records)
    if not others:
        return Section("real_rewards", title, command=REWARDS_COMMAND)
    worlds = {name: _rewards(record) for name, record in {**_embedded(records), **others}.items()}
    changes = [f"{interval(_change(rewards, 'spl'), '+.1f')} ({name})" for name, rewards in worlds.items()]
    see = f"SPL changes the R@1 of rewards of one recipe, in points, by {', '.join(changes)}."
    note = (
        "Text to motion among each world's test clips, with 95% intervals over reward seeds (Student's t). Changes are "
        "against the arm control, as many steps without SPL: in pools of 32 where there are motions enough."
    )
    return Section("real_rewards", title, see, None, pd.DataFrame(_arms(worlds)).fillna(""), note=note)


def _embedded(records: Records) -> dict[str, StudyRecord]:
    """The embedded world's study of the same rewards."""
    for name in ("retrieval", "spl"):
        with suppress(NotJudgedError):
            return {EMBEDDED: study(records, name)}
    return {}


def _rewards(record: StudyRecord) -> dict[str, list[TrainedReward]]:
    """By arm."""
    if record.case.name == "retrieval":
        return study_of(record, RetrievalStudy).rewards
    return study_of(record, SplStudy).rewards


def _change(rewards: Mapping[str, Sequence[TrainedReward]], arm: str) -> Interval:
    """What an arm's R@1 has beyond the control's, paired by seed, in pools of 32 where there are motions enough."""
    kind: Literal["all", "pools"] = "pools" if rewards["control"][0].retrieval.pools else "all"
    ours, theirs = ([recalls(reward.retrieval, kind) for reward in rewards[name]] for name in (arm, "control"))
    return paired(ours, theirs, "R@1")


def _arms(worlds: Mapping[str, Mapping[str, Sequence[TrainedReward]]]) -> list[dict[str, object]]:
    return [
        {"motion": name, "clips": of[0].retrieval.count, "arm": arm}
        | retrieved(of)
        | {"R@1 − control": "" if arm == "control" else interval(_change(rewards, arm), "+.1f")}
        for name, rewards in worlds.items()
        for arm, of in rewards.items()
    ]
