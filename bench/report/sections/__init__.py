"""What the report shows, in order: of every section one sentence that says what to see, a figure and a table.

A section without data in the records keeps its title and says which command would fill it.

section    what a section is
memory     peaks, what counts as additional, phases, owners, the time line, every row
levers     what is left of the methods' differences when the levers of memory are pulled for all alike
plans      memory predicted by the plan: against the steps, call by call, over random draws
time       how long an update takes
alignment  who aligns best, and at what cost
real_motion fine-tuning and rewards on worlds of real motion
motions    what a prompt's motion was before fine-tuning, and is after
studies    the gradient along the chain, and what the reward sees under noise
rewards    the reward's studies: noise, windows of steps, SPL, how much depends on the reward, how it is gamed
reward_training  what a step of the reward's training costs
meters     simulated against measured
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import pandas as pd

from bench import claims
from bench.claims import Verdict
from bench.meters import METERS
from bench.records.shards import ShardRow
from bench.report.sections.alignment import alignment, equal, pareto, paths, published, reward_levels
from bench.report.sections.levers import levers
from bench.report.sections.memory import OWNERS, base, memory, owners, peaks, split, timeline
from bench.report.sections.meters import meters
from bench.report.sections.motions import in_place, travelling, turning
from bench.report.sections.plans import plans, random_methods, steps
from bench.report.sections.real_motion import real_motion, real_rewards
from bench.report.sections.reward_training import reward_training
from bench.report.sections.rewards import feature_noise, gaming, noise, reviewers, spl, strength, windows
from bench.report.sections.section import Records, Section
from bench.report.sections.studies import chain, similarity
from bench.report.sections.time import step_time


@dataclass(frozen=True)
class Report:
    """Everything that is shown."""

    verdicts: list[Verdict]
    runs: pd.DataFrame
    """Where the rows come from, and how they ended."""
    caveat: str
    """What a reader should know about those rows, if anything."""
    sections: list[Section]
    lacking: Mapping[str, list[ShardRow]]
    """Rows of shards that are not there, see bench.records.shards."""


SIMULATED = (
    "Simulated rows count the bytes of live tensors as CUDA would allocate them, on no device: workspaces of kernels, "
    "fragmentation and the CUDA context are not in them."
)


SECTIONS = (
    peaks,
    base,
    levers,
    steps,
    split,
    owners,
    timeline,
    plans,
    random_methods,
    step_time,
    alignment,
    equal,
    reward_levels,
    published,
    paths,
    pareto,
    in_place,
    travelling,
    turning,
    real_motion,
    chain,
    similarity,
    noise,
    windows,
    feature_noise,
    spl,
    strength,
    gaming,
    real_rewards,
    reward_training,
    reviewers,
    meters,
    memory,
)
"""In the order in which they are shown."""

FILES = tuple(make([]).name for make in SECTIONS)
"""Stems of the sections' files."""


def build(records: Records, lacking: Mapping[str, list[ShardRow]] = MappingProxyType({})) -> Report:
    """`lacking`: as Report's."""
    caveats = [f"{what.capitalize()}." for what in lacking]
    caveats += [SIMULATED] if any(METERS[r.case.meter].simulated for r in records) else []
    return Report(
        claims.judge(records), runs(records), " ".join(caveats), [make(records) for make in SECTIONS], lacking
    )


def runs(records: Records) -> pd.DataFrame:
    """One row a device and commit: what was run there, and how many rows ended how."""
    counted: dict[tuple, dict[str, int]] = {}
    for record in records:
        where = record.environment
        device = "none (simulated)" if METERS[record.case.meter].simulated else where.device
        source = (
            record.kind.replace("_", " "),
            record.case.meter,
            device,
            where.torch,
            where.commit,
        )
        ends = counted.setdefault(source, {})
        ends[record.status] = ends.get(record.status, 0) + 1
    columns = ["measured", "meter", "device", "torch", "commit"]
    return pd.DataFrame(
        {**dict(zip(columns, source, strict=True)), "rows": ", ".join(f"{count} {end}" for end, count in ends.items())}
        for source, ends in counted.items()
    )


__all__ = ["FILES", "OWNERS", "SECTIONS", "Report", "Section", "build", "runs"]
