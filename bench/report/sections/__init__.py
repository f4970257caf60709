"""What the report shows, in order: questions, verdicts, then chapters of sections (CHAPTERS).

A section is a few sentences that say what to see, a figure and a table. Without data in the records it keeps its title
and says which command would fill it.

section    what a section is
questions  the first screen: one sentence, one number and one small figure a question
memory     peaks, what counts as additional, phases, owners, the time line, every row
levers     what is left of the methods' differences when the levers of memory are pulled for all alike, an update and to
           equal levels of reward
backbones  the same methods on every backbone: where EasyTune's advantage is large, and where it is nothing
plans      memory predicted by the plan: against the steps, call by call, over random draws
time       how long an update takes
alignment  who aligns best, and at what cost
settings   under which settings EasyTune is ahead of the others, and under which behind
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
from bench.report.sections.backbones import backbones
from bench.report.sections.levers import levers, to_equal_reward
from bench.report.sections.memory import OWNERS, base, memory, owners, peaks, split, timeline
from bench.report.sections.meters import meters
from bench.report.sections.motions import in_place, travelling, turning
from bench.report.sections.plans import plans, random_methods, steps
from bench.report.sections.questions import QUESTIONS, Question
from bench.report.sections.real_motion import real_motion, real_rewards
from bench.report.sections.reward_training import reward_training
from bench.report.sections.rewards import feature_noise, gaming, noise, reviewers, spl, strength, windows
from bench.report.sections.section import Records, Section
from bench.report.sections.settings import settings
from bench.report.sections.studies import chain, similarity
from bench.report.sections.time import step_time


@dataclass(frozen=True)
class Report:
    """Everything that is shown."""

    verdicts: list[Verdict]
    questions: list[Question]
    """Of the first screen."""
    runs: pd.DataFrame
    """Where the rows come from, and how they ended."""
    caveat: str
    """What a reader should know about those rows, if anything."""
    chapters: dict[str, list[Section]]
    """By title, in order; the verdicts stand before them."""
    lacking: Mapping[str, list[ShardRow]]
    """Rows of shards that are not there, see bench.records.shards."""

    @property
    def sections(self) -> list[Section]:
        return [section for chapter in self.chapters.values() for section in chapter]


SIMULATED = (
    "Simulated rows count the bytes of live tensors as CUDA would allocate them, on no device: workspaces of kernels, "
    "fragmentation and the CUDA context are not in them."
)


CHAPTERS = {
    "Memory": (
        peaks,
        base,
        levers,
        to_equal_reward,
        backbones,
        steps,
        split,
        owners,
        timeline,
        random_methods,
        meters,
        memory,
    ),
    "Time": (step_time,),
    "Alignment": (
        alignment,
        equal,
        reward_levels,
        published,
        paths,
        pareto,
        settings,
        in_place,
        travelling,
        turning,
        real_motion,
    ),
    "Reward": (
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
    ),
    "Methods": (
        plans,
        chain,
    ),
}
"""By title: their sections, all in the order in which they are shown."""

SECTIONS = tuple(make for chapter in CHAPTERS.values() for make in chapter)
FILES = tuple(make([]).name for make in SECTIONS)
"""Stems of the sections' files."""


def build(records: Records, lacking: Mapping[str, list[ShardRow]] = MappingProxyType({})) -> Report:
    """`lacking`: as Report's."""
    caveats = [f"{what.capitalize()}." for what in lacking]
    caveats += [SIMULATED] if any(METERS[r.case.meter].simulated for r in records) else []
    asked = [ask(records) for ask in QUESTIONS]
    chapters = {title: [make(records) for make in chapter] for title, chapter in CHAPTERS.items()}
    return Report(claims.judge(records), asked, runs(records), " ".join(caveats), chapters, lacking)


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


__all__ = ["CHAPTERS", "FILES", "OWNERS", "SECTIONS", "Question", "Report", "Section", "build", "runs"]
