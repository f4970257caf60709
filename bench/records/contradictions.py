"""What no measurement could have written, though every field by itself is right: lists that do not match, names that
refer to nothing, parts that are more than the whole. Looked for once, where a record is loaded, so that whoever reads
one may index, zip and look up.

Each check yields what is wrong, as the end of `the record ID, ...`; only the first is asked for.
"""

import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from itertools import pairwise
from typing import Protocol

from msgspec import structs

from bench import devices
from bench.cases import alignment_id, case_id, study_id
from bench.meters import METERS
from bench.meters.reading import CATEGORIES, RESIDENT, Reading
from bench.motion.metrics import METRICS, POOL
from bench.motion.retrieval import RANKS
from bench.records import types
from bench.records.types import Metrics, Record, TrainedReward, measured
from bench.reward_cases import reward_case_id
from methods.rollout import PHASES

MOST_CHARACTERS = 200
"""Of what a message repeats from a file."""
Wrongs = Iterator[str]
DIRECTIONS = ("text_to_motion", "motion_to_text")
RANKED = (*(f"R@{k}" for k in RANKS), "MedR")


def shortened(value: object) -> str:
    """A value from a file as it may stand in a message: on one line, not long, and without a terminal's controls."""
    text = value if isinstance(value, str) else reprlib.repr(value)
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + "…"


def contradiction(record: Record) -> str | None:
    """How a record's fields contradict one another, if they do."""
    return next(_of_record(record), None)


def _of_record(record: Record) -> Wrongs:
    result = measured(record)
    if record.ok and result is None:
        yield "with status ok and no figures"
    if not record.ok and result is not None:
        yield f"with status {record.status} and figures"
    match record:
        case types.MemoryRecord() | types.StepTimeRecord():
            yield from _id(record.case.id, case_id(record.case))
            if record.ok and record.plan is None:
                yield "with status ok and no plan"
            yield from _plan(record.plan, record.case.steps)
        case types.RewardMemoryRecord() | types.RewardStepTimeRecord():
            yield from _id(record.case.id, reward_case_id(record.case))
        case types.AlignmentRecord():
            case = record.case
            made = alignment_id(case.method, case.world, case.steps, case.batch, case.size, case.seeds, case.device)
            yield from _id(case.id, made)
            yield from _device(case.device, record.environment)
            yield from _plan(record.plan, case.steps)
        case types.StudyRecord():
            of_study = record.case
            made = study_id(of_study.name, of_study.world, of_study.scale, of_study.device)
            yield from _id(of_study.id, made)
            yield from _device(of_study.device, record.environment)
    if record.kind.endswith("memory") and record.simulated != METERS[record.case.meter].simulated:
        yield f"whose field simulated is not that of its meter, {record.case.meter}"
    match result:
        case Reading():
            yield from _reading(result)
        case types.Timing():
            yield from _timing(result)
        case types.Alignment():
            assert isinstance(record, types.AlignmentRecord)
            yield from _alignment(result, record.case)
        case None:
            pass
        case study:
            assert isinstance(record, types.StudyRecord)
            yield from _study(study, record.case)


def _id(written: str, made: str) -> Wrongs:
    if written != made:
        yield f"whose field case.id is not that of its case, {shortened(made)}"


def _device(device: str, where: types.Environment) -> Wrongs:
    if not devices.decides(device) and where.cuda:
        yield f"whose field environment.cuda is {shortened(where.cuda)}, and its device the CPU"


def _plan(plan: types.PlanSummary | None, steps: int) -> Wrongs:
    if plan is None:
        return
    marks = {"calls": ".o#SUsu", "recorded": "o#SU", "scores": "SUsu", "updates": "Uu"}  # methods.plan.Plan.grid
    if strange := set(plan.grid) - {*marks["calls"], *"|~"}:
        yield f"whose field plan.grid has marks of no plan, {_listed(strange)}"
    for name, counted in marks.items():
        if (count := sum(plan.grid.count(mark) for mark in counted)) != getattr(plan, name):
            yield f"whose field plan.{name} is {getattr(plan, name)}, in its grid there are {count}"
    if plan.total != steps:
        yield f"whose field plan.total is {plan.total}, of {steps} denoising steps"
    if plan.held > plan.recorded:
        yield f"whose field plan.held is {plan.held} of {plan.recorded} recorded calls"
    drawn = plan.held_over_draws
    yield from _ascending("plan.held_over_draws", (drawn.least, *drawn.quartiles, drawn.most), strictly=False)


# Readings and times.


class Held(Protocol):
    """Whose bytes they are (bench.meters.reading.Owner)."""

    @property
    def phase(self) -> str: ...
    @property
    def category(self) -> str: ...


class Figures(Protocol):
    """What a reading (bench.meters.reading.Reading) and a row of the gate's baseline both have."""

    @property
    def peak(self) -> int: ...
    @property
    def resident(self) -> int: ...
    @property
    def phases(self) -> Mapping[str, int]: ...
    @property
    def owners(self) -> Sequence[Held]: ...


def of_figures(figures: Figures) -> Wrongs:
    """What is wrong with the figures of a reading, or of a baseline's row."""
    yield from _names("phases", figures.phases, PHASES)
    if figures.peak < max(figures.resident, *figures.phases.values()):
        yield f"with a peak of {figures.peak} bytes, which is less than one of its parts"
    for owner in figures.owners:
        if owner.phase not in (RESIDENT, *PHASES) or owner.category not in CATEGORIES:
            yield f"with an owner of phase {shortened(owner.phase)}, category {shortened(owner.category)}"


def _reading(reading: Reading) -> Wrongs:
    yield from of_figures(reading)
    if reading.categories:
        yield from _names("reading.categories", reading.categories, CATEGORIES)
    if reading.split:
        yield from _names("reading.split", reading.split, PHASES)
        for phase, parts in reading.split.items():
            yield from _names(f"reading.split.{phase}", parts, CATEGORIES)
    if strange := {phase for _, _, phase in reading.timeline} - {*PHASES, ""}:  # "": between two
        yield f"whose field reading.timeline has an unknown phase, {_listed(strange)}"


def _timing(timing: types.Timing) -> Wrongs:
    seconds = {"timing.seconds_per_update": timing.seconds_per_update}
    if timing.against:
        seconds["timing.against.ratios"] = timing.against.ratios
    yield from _lengths(seconds, timing.rounds, "rounds")
    for name in ("per_update", "per_optimiser_step", "per_sample"):
        spread = getattr(timing, name)
        yield from _ascending(f"timing.{name}", (spread.min, spread.median, spread.max), strictly=False)


# Alignment.


def _alignment(alignment: types.Alignment, case: types.AlignmentCase) -> Wrongs:
    if alignment.method != case.method:
        yield f"whose field alignment.method is not that of its case, {shortened(case.method)}"
    of_seeds = {f"alignment.{name}": getattr(alignment, name) for name in ("seeds", "curves", "finals", "bases")}
    yield from _seeds(of_seeds, case.seeds)
    yield from _curves("alignment.curves", alignment.curves)
    yield from _metrics("alignment.finals", alignment.finals, METRICS)
    yield from _metrics("alignment.bases", [*alignment.bases, alignment.real], METRICS)
    for name in ("final", "base", "gain"):
        intervals = getattr(alignment, name)
        yield from _names(f"alignment.{name}", intervals, METRICS)
        for metric, interval in intervals.items():
            if interval.mean is None and interval.half_width is not None:
                yield f"whose field alignment.{name}.{metric} has a half_width and no mean"
    tried = [rate.lr for rate in alignment.selection]
    for name, rates in (("selection", tried), ("lr", [alignment.lr]), ("lr_by_reward", [alignment.lr_by_reward])):
        known = alignment.grid if name == "selection" else [*tried, *([None] if name == "lr_by_reward" else [])]
        for rate in rates:
            if rate not in known:
                yield f"whose field alignment.{name} has a rate that was not tried, {rate}"
    kinds = [motion.kind for motion in alignment.motions]
    if len(set(kinds)) < len(kinds):
        yield f"whose field alignment.motions has one kind twice ({_listed(kinds)})"
    if alignment.memory.peak < alignment.memory.resident:
        yield "whose field alignment.memory.peak is less than resident"


def _curves(field: str, curves: Sequence[types.Curve]) -> Wrongs:
    """Of runs that were measured after the same trajectories."""
    first = [point.trajectories for point in curves[0]]
    if not first:
        yield f"whose field {field}[0] is empty"
    for number, curve in enumerate(curves):
        if [point.trajectories for point in curve] != first:
            yield f"whose field {field}[{number}] is measured after other trajectories than the first"
        for total, strictly in (("trajectories", True), ("cpu_seconds", True), ("updates", False)):
            yield from _ascending(f"{field}[{number}], {total},", [getattr(p, total) for p in curve], strictly=strictly)
    yield from _metrics(field, [point.metrics for curve in curves for point in curve], (*METRICS, "second"))


# Studies.


def _study(study: types.Study, case: types.StudyCase) -> Wrongs:
    name = str(type(study).__struct_config__.tag)
    if name != case.name:
        yield f"whose field study.name, {name}, is not that of its case, {shortened(case.name)}"
    match study:
        case types.Chain():
            yield from _by_step(study, case.steps)
            for part in ("through_chain", "stepwise"):
                if not sum(getattr(study, part)) > 0:
                    yield f"whose field study.{part} is 0 at every step"
        case types.Similarity():
            yield from _by_step(study, case.steps)
            if not all(other < 1 for other in study.other):
                yield "whose field study.other makes motions of other meanings equal (it is to be less than 1)"
        case types.Noise():
            yield from _by_step(study, case.steps)
        case types.RetrievalStudy():
            arms = [arm for arm in types.ARMS if arm != types.RELEASED]
            yield from _arms(study.rewards, arms)
        case types.SplStudy():
            yield from _arms(study.rewards, types.ARMS)
            yield from _runs("study", study.runs, types.TUNED_ARMS, study.base)
            yield from _seeds({"study.base": study.base}, len(study.rewards["spl"]))
        case types.WindowsStudy():
            yield from _windows(study, case.steps)
        case types.FeatureNoiseStudy():
            yield from _feature_noise(study)
        case types.StrengthStudy():
            yield from _strength(study)
        case types.GamingStudy():
            yield from _gaming(study)
        case types.SettingsStudy():
            yield from _settings(study)


def _by_step(study: types.Chain | types.Similarity | types.Noise, steps: int) -> Wrongs:
    yield from _lengths(
        {f"study.{name}": values for name, values in structs.asdict(study).items()}, steps, "denoising steps"
    )


def _arms(rewards: Mapping[str, Sequence[TrainedReward]], arms: Sequence[str]) -> Wrongs:
    yield from _names("study.rewards", rewards, arms)
    yield from _seeds({f"study.rewards.{arm}": seeds for arm, seeds in rewards.items()}, len(rewards[arms[0]]))
    for arm, seeds in rewards.items():
        for number, reward in enumerate(seeds):
            field = f"study.rewards.{arm}[{number}]"
            yield from _trained(field, reward, levels=())
            mined = reward.training.mined if reward.training else None
            if (mined is not None) != (arm in types.WITH_SPL):
                yield f"whose field {field}.training.mined is {mined}"


def _windows(study: types.WindowsStudy, steps: int) -> Wrongs:
    if not study.windows:
        yield "whose field study.windows is empty"
    for first, past in study.windows:
        if not 0 <= first < past <= steps:
            yield f"whose field study.windows has one that is none of {steps} denoising steps, {first} to {past}"
    yield from _names("study.runs", study.runs, types.SCORED)
    for score, runs in study.runs.items():
        yield from _lengths({f"study.runs.{score}": runs}, len(study.windows), "windows")
        by_window = {str(number): of_window for number, of_window in enumerate(runs)}
        yield from _runs(f"study, scored {score},", by_window, by_window, study.base)
    yield from _names("study.rewards", study.rewards, types.COMPARED)
    yield from _seeds({f"study.rewards.{arm}": of for arm, of in study.rewards.items()}, len(study.rewards["clean"]))
    for arm, seeds in study.rewards.items():
        for number, reward in enumerate(seeds):
            yield from _trained(f"study.rewards.{arm}[{number}]", reward, study.levels)
    yield from _levels(study.levels)


def _feature_noise(study: types.FeatureNoiseStudy) -> Wrongs:
    yield from _levels(study.levels)
    yield from _names("study.rewards", study.rewards, types.COMPARED)
    for arm, by_noised in study.rewards.items():
        field = f"study.rewards.{arm}"
        yield from _names(field, by_noised, types.NOISED)
        count = len(study.rewards["clean"][types.STATES])
        yield from _seeds({f"{field}.{noised}": seeds for noised, seeds in by_noised.items()}, count)
        for noised, seeds in by_noised.items():
            for number, reward in enumerate(seeds):
                yield from _trained(f"{field}.{noised}[{number}]", reward, study.levels)


def _strength(study: types.StrengthStudy) -> Wrongs:
    if not study.rewards:
        yield "whose field study.rewards is empty"
    methods = study.of_world.runs
    if not methods:
        yield "whose field study.own.runs is empty"
    for number, under in enumerate([*study.rewards, study.of_world]):
        of_world = under is study.of_world
        field = "study.own" if of_world else f"study.rewards[{number}]"
        for name in ("share", "spl"):
            if (getattr(under, name) is None) != of_world:
                yield f"whose field {field}.{name} is {getattr(under, name)}"
        yield from _retrieval(f"{field}.retrieval", under.retrieval)
        yield from _runs(field, under.runs, methods, study.base)


def _gaming(study: types.GamingStudy) -> Wrongs:
    if not study.runs:
        yield "whose field study.runs is empty"
    for number, run in enumerate(study.runs):
        field = f"study.runs[{number}].curves"
        yield from _seeds({field: run.curves}, len(study.runs[0].curves))
        yield from _curves(field, run.curves)
    kinds = [(run.method, run.pull) for run in study.runs]
    if len(set(kinds)) < len(kinds):
        yield "whose field study.runs has a method twice with one pull"


def _settings(study: types.SettingsStudy) -> Wrongs:
    if not study.runs:
        yield "whose field study.runs is empty"
    for number, under in enumerate(study.runs):
        yield from _seeds({f"study.runs[{number}].runs": under.runs}, len(study.runs[0].runs))
    yield from _metrics("study.runs", [one for under in study.runs for one in under.runs], METRICS)
    kinds = [(under.setting, under.method) for under in study.runs]
    if len(set(kinds)) < len(kinds):
        yield "whose field study.runs has a method twice under one setting"


def _runs(field: str, runs: Mapping[str, Sequence[Metrics]], names: Iterable[str], base: Sequence[Metrics]) -> Wrongs:
    """Test metrics of runs by name, a run a seed of the base's."""
    yield from _names(f"{field}.runs", runs, names)
    yield from _seeds({f"{field}.runs.{name}": of for name, of in runs.items()} | {"study.base": base}, len(base))
    yield from _metrics(f"{field}.runs", [*base, *(one for of in runs.values() for one in of)], METRICS)


def _levels(levels: Sequence[int]) -> Wrongs:
    if not levels:
        yield "whose field study.levels is empty"
    yield from _ascending("study.levels", levels, strictly=True)


def _trained(field: str, reward: TrainedReward, levels: Sequence[int]) -> Wrongs:
    yield from _retrieval(f"{field}.retrieval", reward.retrieval)
    yield from _lengths({f"{field}.levels": reward.levels}, len(levels), "levels of noise")
    for number, level in enumerate(reward.levels):
        yield from _retrieval(f"{field}.levels[{number}]", level)
    if reward.training:
        yield from _retrieval(f"{field}.training.val", reward.training.val)


def _retrieval(field: str, retrieval: types.Retrieval) -> Wrongs:
    if (retrieval.pools is not None) != (retrieval.count >= POOL):
        yield f"whose field {field}.pools is {'not ' if retrieval.pools else ''}null, of {retrieval.count} motions"
    for kind, directions in (("all", retrieval.all), ("pools", retrieval.pools)):
        if directions is not None:
            yield from _names(f"{field}.{kind}", directions, DIRECTIONS)
            for direction, ranks in directions.items():
                yield from _names(f"{field}.{kind}.{direction}", ranks, RANKED)
                for name, value in ranks.items():
                    least, most = (1, retrieval.count) if name == "MedR" else (0, 100)
                    if not least <= value <= most:
                        yield f"whose field {field}.{kind}.{direction}.{name} is {value}, not {least} to {most}"


# What all are made of.


def _seeds(lists: Mapping[str, Sized], count: int) -> Wrongs:
    """Lists of one a seed."""
    yield from _lengths(lists, count, "seeds")
    if not 1 <= count <= types.MOST_SEEDS:
        yield f"whose field {next(iter(lists))} is of {count} seeds (1 to {types.MOST_SEEDS} can be)"


def _lengths(lists: Mapping[str, Sized], count: int, of: str) -> Wrongs:
    for name, values in lists.items():
        if len(values) != count:
            yield f"whose field {name} has {len(values)} values for {count} {of}"


def _names(field: str, names: Iterable[str], known: Iterable[str]) -> Wrongs:
    if set(names) != set(known):
        yield f"whose field {field} has {_listed(names)} instead of {_listed(known)}"


def _metrics(field: str, several: Sequence[Metrics], known: Iterable[str]) -> Wrongs:
    """All have the same figures, the reward among them; there may be some that were measured nowhere."""
    for metrics in several:
        if strange := set(metrics) - set(known):
            yield f"whose field {field} has unknown figures, {_listed(strange)}"
        yield from _names(field, metrics, several[0])
        if "reward" not in metrics:
            yield f"whose field {field} lacks the reward"


def _ascending(field: str, values: Sequence[float], *, strictly: bool) -> Wrongs:
    for before, after in pairwise(values):
        if after < before or (strictly and after == before):
            yield f"whose field {field} goes from {before} to {after}: it is to rise"


def _listed(names: Iterable[str]) -> str:
    return shortened(", ".join(names) or "nothing")
