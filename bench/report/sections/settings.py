"""Under which settings EasyTune is ahead of the others, and under which behind: every comparison that the records hold,
in the evaluator's R@1 and paired by seed, all of them asked at once."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import pandas as pd

from bench import claims
from bench.alignment.reading import Curve, Figures, paired, side, simultaneous, stopping_point, value_at
from bench.claims.measured import alignment_of, study_of
from bench.claims.published import DRAFT, EASYTUNE
from bench.claims.rewards import is_tiny, reward_recall, trained_study
from bench.claims.verdict import NotJudgedError
from bench.labels import method_label
from bench.motion.metrics import METRICS
from bench.records import AlignmentRecord, StudyRecord
from bench.records.types import GamingStudy, Interval, Point, SettingsStudy, StrengthStudy
from bench.report import rows as pick
from bench.report.sections.section import Records, Section
from bench.tables import first_end, interval

METRIC = "r1"
"""What is compared."""
WORDS = {1: "ahead", 0: "undecided", -1: "behind"}
COMMAND = claims.command("--study settings --study-scale reference", "study")
CPU_MINUTES = 180
"""Of COMMAND on one core, by estimate."""


@dataclass(frozen=True)
class Pair:
    """EasyTune less another method under one setting: runs, one a seed, in equal order of seeds."""

    setting: str
    easytune: str
    other: str
    ours: Sequence[Figures]
    theirs: Sequence[Figures]

    @property
    def seeds(self) -> int:
        return len(self.ours)

    @property
    def difference(self) -> Interval:
        return paired(self.ours, self.theirs, METRIC)


def settings(records: Records) -> Section:
    title = "Where EasyTune is ahead, and where behind"
    pairs = [pair for pair in _pairs(records) if pair.difference.mean is not None]
    if not pairs:
        return Section("settings", title, command=COMMAND)
    together = simultaneous([(pair.difference, pair.seeds) for pair in pairs])
    said = [WORDS[METRICS[METRIC].sign * side(difference)] for difference in together]
    single = sum(pair.seeds == 1 for pair in pairs)
    see = (
        f"Of {len(pairs)} comparisons of EasyTune with another method under one setting, all asked at once, it is "
        f"clearly ahead in {said.count('ahead')} and clearly behind in {said.count('behind')}. The other "
        f"{said.count('undecided')} are undecided, {single} of them for want of a second seed."
    )
    note = (
        f"By the evaluator's {METRICS[METRIC].label}, EasyTune's less the other's, paired by seed. Intervals hold all "
        "at once with a probability of 95% (Student's t, Bonferroni's correction over all rows that have one), and the "
        "word is the interval's. Learning rates are those that validation prompts chose; unlike in the rows of the "
        "study settings they are not chosen anew where rewards or lengths of runs differ."
    )
    if not any(isinstance(r, StudyRecord) and r.ok and r.case.name == "settings" for r in records):
        note += (
            " Windows, guidance, steps, batch and a pull to the base are in no record here; they take "
            f"{CPU_MINUTES} minutes of one core by estimate, can be interrupted, and run by: {COMMAND}"
        )
    frame = pd.DataFrame(
        {
            "setting": pair.setting,
            "EasyTune": pair.easytune,
            "against": pair.other,
            "difference in R@1": interval(difference, "+.3f"),
            "EasyTune is": word if pair.seeds > 1 else "undecided (one seed)",
            "seeds": pair.seeds,
        }
        for pair, difference, word in zip(pairs, together, said, strict=True)
    )
    return Section("settings", title, see, None, frame, note=note)


def _pairs(records: Records) -> Iterator[Pair]:
    rows = pick.aligned(records)
    for of_world in (rows, *pick.aligned_elsewhere(records).values()):
        yield from _of_benchmark(of_world)
    yield from _of_rates(rows)
    for name, of_study in (("settings", _of_settings), ("strength", _of_rewards), ("gaming", _of_long_runs)):
        try:
            record = trained_study(records, name)
        except NotJudgedError:
            continue
        if not is_tiny(record):
            yield from of_study(record)


def _ours_and_others(rows: Sequence[AlignmentRecord]) -> list[tuple[AlignmentRecord, AlignmentRecord]]:
    """Pairs of rows of equal seeds, EasyTune's with every other method's."""
    ours = [row for row in rows if _is_easytune(row.case.method)]
    others = [row for row in rows if not _is_easytune(row.case.method)]
    return [(a, b) for a, b in product(ours, others) if alignment_of(a).seeds == alignment_of(b).seeds]


def _is_easytune(method: str) -> bool:
    return method.partition(":")[0] == EASYTUNE


def _of_benchmark(rows: Sequence[AlignmentRecord]) -> Iterator[Pair]:
    """At equal trajectories on test prompts; at equal time and equal optimiser steps, against DRaFT-T, on validation
    prompts."""
    pairs = _ours_and_others(rows)
    for ours, theirs in pairs:
        finals = alignment_of(ours).finals, alignment_of(theirs).finals
        yield Pair(f"{_where(ours)}, equal trajectories", ours.case.label, theirs.case.label, *finals)
    seconds = first_end([alignment_of(row) for row in rows])
    for ours, theirs in pairs:
        if theirs.case.method == DRAFT:
            curves = alignment_of(ours).curves, alignment_of(theirs).curves
            updates = min(curve[-1].updates for of in curves for curve in of)
            for axis, at, unit in (("cpu_seconds", seconds, "s"), ("updates", updates, "optimiser steps")):
                runs = ([_at(curve, axis, at) for curve in of] for of in curves)
                setting = f"{_where(ours)}, after {at:.3g} {unit} each"
                yield Pair(setting, ours.case.label, theirs.case.label, *runs)


def _at(curve: Curve, axis: str, position: float) -> Figures:
    return {METRIC: value_at(curve, axis, position, METRIC)}


def _of_rates(rows: Sequence[AlignmentRecord]) -> Iterator[Pair]:
    """At one learning rate for both, of the runs that rates were chosen by: one seed, validation prompts."""
    for ours, theirs in _ours_and_others(rows):
        if theirs.case.method == DRAFT:
            tried = [{rate.lr: rate.metrics for rate in alignment_of(row).selection} for row in (ours, theirs)]
            for lr in sorted(set(tried[0]) & set(tried[1])):
                runs = [tried[0][lr]], [tried[1][lr]]
                yield Pair(f"{_where(ours)}, learning rate {lr:g}", ours.case.label, theirs.case.label, *runs)


def _where(row: AlignmentRecord) -> str:
    return f"{row.case.world} world"


def _of_settings(record: StudyRecord) -> Iterator[Pair]:
    study = study_of(record, SettingsStudy)
    draft = {under.setting: under.runs for under in study.runs if under.method == DRAFT}
    for under in study.runs:
        if under.method != DRAFT and under.setting in draft:
            yield Pair(under.setting, *_labels(record, under.method, DRAFT), under.runs, draft[under.setting])


def _of_rewards(record: StudyRecord) -> Iterator[Pair]:
    """By the reward that both are trained under: of the study strength. The world's is hardest to game: it was trained
    longest, with noise and with what an optimiser would try on it."""
    study = study_of(record, StrengthStudy)
    for under in (*study.rewards, study.of_world):
        if under.share is None:
            what = "the world's reward, hardened against gaming"
        else:
            what = f"a reward of {under.share:.0%} of the clips{', SPL' if under.spl else ''}"
        setting = f"{what} (retrieves {reward_recall(under):.0f}%)"
        for ours, theirs in product(*_split(under.runs)):
            yield Pair(setting, *_labels(record, ours, theirs), under.runs[ours], under.runs[theirs])


MOMENTS: Mapping[str, Callable[[Curve], Point]] = {
    "at the end": lambda curve: curve[-1],
    "stopped by a second reward": lambda curve: curve[stopping_point(curve)],
}
"""Of a long run."""


def _of_long_runs(record: StudyRecord) -> Iterator[Pair]:
    """At rates three times too high; validation prompts."""
    runs = study_of(record, GamingStudy).runs
    for pull in sorted({run.pull for run in runs}):
        curves = {run.method: run.curves for run in runs if run.pull == pull}
        for pair, (moment, point) in product(product(*_split(curves)), MOMENTS.items()):
            setting = f"long runs at a high rate, {'pulled to the base' if pull else 'free'}, {moment}"
            metrics = ([point(curve).metrics for curve in curves[method]] for method in pair)
            yield Pair(setting, *_labels(record, *pair), *metrics)


def _split(methods: Iterable[str]) -> tuple[list[str], list[str]]:
    """EasyTune's, and the others."""
    named = list(methods)
    return [m for m in named if _is_easytune(m)], [m for m in named if not _is_easytune(m)]


def _labels(record: StudyRecord, ours: str, theirs: str) -> tuple[str, str]:
    return method_label(ours, record.case.steps), method_label(theirs, record.case.steps)
