"""Which rows of a result belong in one figure: rows of one meter, device, torch and scale, never a mix."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import TypeVar

from bench.cases import EMBEDDED, TABLE, Case, at, is_published
from bench.claims import compare, forecast
from bench.claims.alignment import is_evidence
from bench.claims.measured import alignment_of, plan_of
from bench.claims.published import DRAFT, DRTUNE, EASYTUNE
from bench.profiles import LEVERS, PROFILES, Profile
from bench.records import AlignmentRecord, MemoryRecord, Record, StepTimeRecord, StudyRecord
from bench.records.make import described
from bench.records.types import MethodCase, Settings
from bench.records.types import fields as fields_of
from methods import METHODS

_SWITCHES = {f"settings.{field.name}" for field in fields(Profile)}
"""What a profile sets: rows of two profiles differ in these, and may still stand in one figure, side by side."""

MethodRecord = MemoryRecord | StepTimeRecord
"""Of one update of a method."""
R = TypeVar("R", bound=Record)
M = TypeVar("M", bound=MethodRecord)
Pairs = list[tuple[MemoryRecord, MemoryRecord]]


def memory(records: Sequence[Record]) -> list[MemoryRecord]:
    return [r for r in records if isinstance(r, MemoryRecord)]


def step_time(records: Sequence[Record]) -> list[StepTimeRecord]:
    return [r for r in records if isinstance(r, StepTimeRecord)]


def alignment(records: Sequence[Record]) -> list[AlignmentRecord]:
    """In the methods' order; they are not run in it."""
    return sorted(
        (r for r in records if isinstance(r, AlignmentRecord)), key=lambda r: (_order(r.case.method), r.case.method)
    )


def good(records: Sequence[R]) -> list[R]:
    return [r for r in records if r.ok]


def comparable(records: Sequence[M]) -> list[list[M]]:
    """Records in sets that are alike but for the profile: measured on a GPU first, then simulated, then the CPU's."""
    sets: dict[str, list[M]] = {}
    for rows in compare.like_sets(records):
        alike = {name: value for name, value in compare.likeness(rows[0]).items() if name not in _SWITCHES}
        sets.setdefault(str(alike), []).extend(rows)
    return list(sets.values())


def profiles(records: Sequence[MethodRecord]) -> list[str]:
    """Profiles in the order in which they are shown: those a claim is judged under and compared with, then others; the
    others of the levers' section are left to it."""
    named = {r.case.profile for r in records}
    if named >= set(LEVERS.values()):
        named -= set(LEVERS.values()) - {"paper", "frozen"}
    return sorted(sorted(named), key=lambda name: (*PROFILES, name).index(name))


def levers(records: Sequence[Record]) -> list[list[MemoryRecord]]:
    """Good memory rows of one device and scale, a list a lever in order, each in the methods' order: where most levers
    were pulled. Empty where there are fewer than three: paper and frozen alone have sections of their own."""
    groups = [
        group for rows in comparable(_planned(good(memory(records)))) for group in _by(lambda r: scale(r.case), rows)
    ]
    by_lever = [[table_rows(group, spec) for spec in LEVERS.values()] for group in groups]
    pulled = [[rows for rows in group if rows] for group in by_lever]
    best = max(pulled, key=len, default=[])
    return best if len(best) > 2 else []


def backbones(records: Sequence[Record]) -> list[list[MemoryRecord]]:
    """Good memory rows of one device and scale, a list a backbone, each in the methods' order: those that have both
    DRaFT and EasyTune, at the steps of most rows. Empty where that is one backbone alone."""
    best: list[list[MemoryRecord]] = []
    for like in compare.like_sets(_planned(good(memory(records)))):
        for group in _by(lambda r: (*_without_backbone(r.case), r.case.profile), like):
            found = []
            for of_backbone in _by(lambda r: (r.case.backbone, r.case.reward), group):
                at_steps = [
                    table_rows(rows, rows[0].case.profile) for rows in _by(lambda r: (r.case.steps,), of_backbone)
                ]
                rows = max(at_steps, key=lambda rows: (len(rows), rows[0].case.steps if rows else 0))
                if {DRAFT, EASYTUNE} <= {row.case.method for row in rows}:
                    found.append(rows)
            best = max(best, found, key=len)
    return best if len(best) > 1 else []


def _without_backbone(case: MethodCase) -> tuple:
    return (case.batch, case.frames, case.seed, case.ranks, case.sharding)


def scale(case: MethodCase) -> tuple:
    """What cases share beyond meter and profile when only the method differs between them."""
    return (case.steps, *_without_steps(case))


def _without_steps(case: MethodCase) -> tuple:
    return (case.backbone, case.reward, *_without_backbone(case))


PUBLISHED_SCALE = scale(described(Case()))


def family(case: MethodCase) -> str:
    """The method's name without its options."""
    return case.method.partition(":")[0]


def table(records: Sequence[Record]) -> list[MemoryRecord]:
    """Memory rows of one device and one scale, any status: where most of the table's methods are, then the published
    scale, then measured rows."""
    groups = [group for rows in comparable(memory(records)) for group in _by(lambda r: scale(r.case), rows)]

    def worth(group: list[MemoryRecord]) -> tuple:
        methods = {family(r.case) for r in group if of_table(r.case)}
        return len(methods), scale(group[0].case) == PUBLISHED_SCALE

    return max(groups, key=worth, default=[])


def table_rows(rows: Sequence[M], profile: str) -> list[M]:
    """Of those the methods of the published table under one profile, in the table's order."""
    of_profile = [r for r in rows if r.case.profile == profile and of_table(r.case)]
    return sorted(of_profile, key=lambda r: _order(r.case.method))


def of_table(case: MethodCase) -> bool:
    """A method of the table, as it is there or as it is at the case's steps, or one from outside."""
    of_steps = (at(method, case.steps) for method in TABLE)
    return case.method in (*TABLE, *of_steps) or family(case) not in METHODS


def is_fifth(case: MethodCase) -> bool:
    """DRTune training a fifth of the steps, as the table's 10 of 50, and nothing else changed."""
    return case.method == at(DRTUNE, case.steps)


def sweeps(records: Sequence[Record]) -> list[MemoryRecord]:
    """Good memory rows of one device, profile and scale but for the steps: where most methods were run at several T."""
    groups = []
    for rows in comparable(_planned(good(memory(records)))):
        groups += _by(lambda r: (*_without_steps(r.case), r.case.profile), rows)
    best = max(groups, key=lambda group: len(lines(group)), default=[])
    return best if lines(best) else []


def _planned(rows: Sequence[M]) -> list[M]:
    return [r for r in rows if r.plan is not None]


def lines(rows: Sequence[MemoryRecord]) -> dict[str, list[MemoryRecord]]:
    """Rows of one method at several T, by what is swept; DRTune with a fifth of the steps is one method as well."""
    by_method: dict[str, list[MemoryRecord]] = {}
    for row in rows:
        by_method.setdefault(row.case.method, []).append(row)
        if is_fifth(row.case):
            by_method.setdefault("drtune, a fifth", []).append(row)
    ordered = {name: sorted(of, key=lambda r: r.case.steps) for name, of in by_method.items()}
    return {name: of for name, of in ordered.items() if len({r.case.steps for r in of}) > 1}


def timed(records: Sequence[Record]) -> list[StepTimeRecord]:
    """Step-time rows of one device, scale and profile, any status: where most methods are, the largest batch first."""
    groups = []
    for rows in comparable(step_time(records)):
        groups += _by(lambda r: (*scale(r.case), r.case.profile), rows)
    return max(groups, key=lambda group: (len(group), group[0].case.batch), default=[])


def aligned(records: Sequence[Record]) -> list[AlignmentRecord]:
    """Good alignment rows of one world, device and size: of a published world before the embedded one, then the longest
    runs, then where most methods are."""
    judged = [r for r in good(alignment(records)) if is_evidence(r.case.world)]
    last = max((is_published(r.case.world), r.case.world) for r in judged)[1] if judged else None
    sets = compare.like_sets([r for r in judged if r.case.world == last])
    return max(sets, key=_length_and_methods, default=[])


def aligned_elsewhere(records: Sequence[Record]) -> dict[str, list[AlignmentRecord]]:
    """Good alignment rows of other worlds, by the world; of each, as `aligned`."""
    others = [r for r in good(alignment(records)) if not is_evidence(r.case.world)]
    by_world = {name: [r for r in others if r.case.world == name] for name in sorted({r.case.world for r in others})}
    return {name: max(compare.like_sets(rows), key=_length_and_methods) for name, rows in by_world.items()}


def retrieval_elsewhere(records: Sequence[Record]) -> dict[str, StudyRecord]:
    """The latest good record of the study `retrieval` of each world but the embedded one, by the world."""
    studies = [r for r in good(records) if isinstance(r, StudyRecord) and r.case.world != EMBEDDED]
    by_scale = sorted((r for r in studies if r.case.name == "retrieval"), key=lambda r: r.case.scale == "reference")
    return {r.case.world: r for r in by_scale if r.case.scale in ("full", "reference")}


def _length_and_methods(rows: Sequence[AlignmentRecord]) -> tuple[float, int]:
    return alignment_of(rows[0]).curves[0][-1].trajectories, len(rows)


def random_methods(records: Sequence[Record]) -> Pairs:
    """(record of a method that holds a random number of calls, the EasyTune row its peaks are predicted from)."""
    pairs = []
    for rows in compare.like_sets(_planned(good(memory(records)))):
        for group in _by(lambda r: (*_without_steps(r.case), r.case.profile), rows):
            start = forecast.anchor(group)
            draws = {(r.case.method, r.case.steps): r for r in group if _is_random(r)}
            pairs += [(r, start) for r in draws.values() if start]
    return sorted(pairs, key=lambda pair: (_order(pair[0].case.method), pair[0].case.method))


def _is_random(record: MemoryRecord) -> bool:
    held = plan_of(record).held_over_draws
    return held.least != held.most


def pairs(records: Sequence[Record]) -> Pairs:
    """(simulated, measured) good rows of the same case but for the meter, of one torch release and like settings."""
    rows = good(memory(records))
    simulated = {_same_case(r.case): r for r in rows if r.case.meter == "simulated"}
    measured = [r for r in rows if r.case.meter == "cuda"]
    of_one_case = [(simulated[_same_case(r.case)], r) for r in measured if _same_case(r.case) in simulated]
    return [(s, m) for s, m in of_one_case if _same_settings(s, m)]


def _same_case(case: MethodCase) -> tuple:
    return tuple(value for name, value in fields_of(case).items() if name not in ("meter", "id"))


def _same_settings(simulated: MemoryRecord, measured: MemoryRecord) -> bool:
    """Settings that both have (a GPU has more of them), and the torch release without its build."""
    ours, theirs = _given(simulated.settings), _given(measured.settings)
    shared = (set(ours) & set(theirs)) - {"threads", "allocator"}
    releases = [(r.environment.torch or "").partition("+")[0] for r in (simulated, measured)]
    return all(ours[name] == theirs[name] for name in shared) and releases[0] == releases[1]


def _given(settings: Settings) -> dict[str, object]:
    return {name: value for name, value in fields_of(settings).items() if value is not None}


def plans(records: Sequence[Record]) -> list[MethodRecord]:
    """One record a method, at the number of steps that most methods were run at: the table's first, then variants."""
    methods = [r for r in records if isinstance(r, MemoryRecord | StepTimeRecord)]
    known = [r for r in _planned(methods) if r.case.seed == 0 and not _is_other_drtune(r.case)]
    groups = _by(lambda r: (r.case.steps,), known)
    best = max(groups, key=lambda rows: (len({r.case.method for r in rows}), rows[0].case.steps), default=[])
    one = {r.case.method: r for r in reversed(best)}
    return sorted(one.values(), key=lambda r: (not of_table(r.case), _order(r.case.method), r.case.method))


def _is_other_drtune(case: MethodCase) -> bool:
    """DRTune with another share of trained steps: the same picture, denser or sparser."""
    return case.method.startswith("drtune:k=") and not is_fifth(case)


def _order(method: str) -> int:
    known = list(METHODS)
    name = method.partition(":")[0]
    return known.index(name) if name in known else len(known)


def _by(key: Callable[[M], tuple], rows: Sequence[M]) -> list[list[M]]:
    groups: dict[tuple, list[M]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return list(groups.values())
