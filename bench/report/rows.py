"""Which rows of a result belong in one figure: rows of one place (meter, device, torch) and one scale, never a mix."""

from collections.abc import Callable, Sequence
from dataclasses import fields

from bench.cases import EMBEDDED, TABLE, Case
from bench.claims import compare, forecast
from bench.profiles import PROFILES, Profile
from methods import METHODS

_SWITCHES = {f"settings.{field.name}" for field in fields(Profile)}
"""What a profile sets: rows of two profiles differ in these, and may still stand in one figure, side by side."""

Rows = list[dict]


def memory(records: Sequence[dict]) -> Rows:
    return [r for r in records if r["kind"] == "memory"]


def step_time(records: Sequence[dict]) -> Rows:
    return [r for r in records if r["kind"] == "step_time"]


def alignment(records: Sequence[dict]) -> Rows:
    """In the methods' order; they are not run in it."""
    return sorted((r for r in records if r["kind"] == "alignment"), key=lambda r: (_order(r), r["case"]["method"]))


def good(records: Sequence[dict]) -> Rows:
    return [r for r in records if r["status"] == "ok"]


def places(records: Sequence[dict]) -> list[Rows]:
    """Records that are alike but for the profile, measured on a GPU first, then simulated, then the CPU's."""
    found: dict[str, Rows] = {}
    for rows in compare.like_sets(records):
        alike = {name: value for name, value in compare.likeness(rows[0]).items() if name not in _SWITCHES}
        found.setdefault(str(alike), []).extend(rows)
    return list(found.values())


def profiles(records: Sequence[dict]) -> list[str]:
    """Profiles in the order in which they are shown: those a claim is judged under and compared with, then others."""
    found = dict.fromkeys(r["case"]["profile"] for r in records)
    return sorted(found, key=lambda name: (*PROFILES, name).index(name))


def scale(record: dict) -> tuple:
    """What rows share beyond place and profile when only the method differs between them."""
    return tuple(record["case"][name] for name in ("backbone", "steps", "batch", "frames", "seed"))


PUBLISHED_SCALE = scale({"case": vars(Case())})


def family(record: dict) -> str:
    """The method's name without its options."""
    return record["case"]["method"].partition(":")[0]


def table(records: Sequence[dict]) -> Rows:
    """Memory rows of one place and one scale, any status: where most of the table's methods are, then the published
    scale, then measured rows."""
    groups = [group for place in places(memory(records)) for group in _by(scale, place)]

    def worth(group: Rows) -> tuple:
        return len({family(r) for r in group if of_table(r)}), scale(group[0]) == PUBLISHED_SCALE

    return max(groups, key=worth, default=[])


def table_rows(rows: Sequence[dict], profile: str) -> Rows:
    """Of those the methods of the published table under one profile, in the table's order."""
    found = [r for r in rows if r["case"]["profile"] == profile and of_table(r)]
    return sorted(found, key=_order)


def of_table(record: dict) -> bool:
    """A method of the table (DRTune by its share of trained steps), or one from outside."""
    method = record["case"]["method"]
    return method in TABLE or is_fifth(record) or family(record) not in METHODS


def is_fifth(record: dict) -> bool:
    """DRTune training a fifth of the steps, as the table's 10 of 50, and nothing else changed."""
    k = max(1, record["case"]["steps"] // 5)
    return record["case"]["method"] in (f"drtune:k={k}", "drtune" if k == 10 else "")


def sweeps(records: Sequence[dict]) -> Rows:
    """Good memory rows of one place, profile and scale but for the steps: where most methods were run at several T."""
    groups = []
    for place in places(good(memory(records))):
        groups += _by(lambda r: (*_without_steps(r), r["case"]["profile"]), place)
    best = max(groups, key=lambda group: len(lines(group)), default=[])
    return best if lines(best) else []


def _without_steps(record: dict) -> tuple:
    return tuple(record["case"][name] for name in ("backbone", "batch", "frames", "seed"))


def lines(rows: Sequence[dict]) -> dict[str, Rows]:
    """Rows of one method at several T, by what is swept; DRTune with a fifth of the steps is one method as well."""
    found: dict[str, Rows] = {}
    for row in rows:
        found.setdefault(row["case"]["method"], []).append(row)
        if is_fifth(row):
            found.setdefault("drtune, a fifth", []).append(row)
    ordered = {name: sorted(of, key=lambda r: r["case"]["steps"]) for name, of in found.items()}
    return {name: of for name, of in ordered.items() if len({r["case"]["steps"] for r in of}) > 1}


def timed(records: Sequence[dict]) -> Rows:
    """Step-time rows of one place, scale and profile, any status: where most methods are, the largest batch first."""
    groups = []
    for place in places(step_time(records)):
        groups += _by(lambda r: (*scale(r), r["case"]["profile"]), place)
    return max(groups, key=lambda group: (len(group), group[0]["case"]["batch"]), default=[])


def aligned(records: Sequence[dict]) -> Rows:
    """Good alignment rows of the embedded world, of one place and size: the longest runs, then where most methods
    are."""
    own = [r for r in good(alignment(records)) if r["case"]["backbone"] == EMBEDDED]
    return max(compare.like_sets(own), key=_length_and_methods, default=[])


def own_motion(records: Sequence[dict]) -> dict[str, Rows]:
    """Good alignment rows of other worlds, by the name of their motion; of each, as `aligned`."""
    others = [r for r in good(alignment(records)) if r["case"]["backbone"] != EMBEDDED]
    by_name = {name: [r for r in others if r["case"]["backbone"] == name] for name in _names(others)}
    return {name: max(compare.like_sets(rows), key=_length_and_methods) for name, rows in by_name.items()}


def own_retrieval(records: Sequence[dict]) -> dict[str, dict]:
    """The latest good record of the study `retrieval` of each other world, by the name of its motion."""
    others = [r for r in good(records) if r["kind"] == "study" and r["case"]["backbone"] != EMBEDDED]
    return {r["case"]["backbone"]: r for r in others if r["case"]["id"] == f"retrieval-{r['case']['backbone']}"}


def _names(records: Sequence[dict]) -> list[str]:
    return sorted({r["case"]["backbone"] for r in records})


def _length_and_methods(rows: Rows) -> tuple[int, int]:
    return rows[0]["alignment"]["curves"][0][-1]["trajectories"], len(rows)


def random_methods(records: Sequence[dict]) -> list[tuple[dict, dict]]:
    """(record of a method that holds a random number of calls, the EasyTune row its peaks are foretold from)."""
    found = []
    for rows in compare.like_sets(good(memory(records))):
        for group in _by(lambda r: (*_without_steps(r), r["case"]["profile"]), rows):
            start = forecast.anchor(group)
            draws = {(r["case"]["method"], r["case"]["steps"]): r for r in group if _is_random(r)}
            found += [(r, start) for r in draws.values() if start]
    return sorted(found, key=lambda pair: (_order(pair[0]), pair[0]["case"]["method"]))


def _is_random(record: dict) -> bool:
    held = record["plan"]["held_over_draws"]
    return held["least"] != held["most"]


def pairs(records: Sequence[dict]) -> list[tuple[dict, dict]]:
    """(simulated, measured) good rows of the same case but for the meter, of one torch release and like settings."""
    rows = good(memory(records))
    simulated = {_same_case(r): r for r in rows if r["case"]["meter"] == "simulated"}
    measured = [r for r in rows if r["case"]["meter"] == "cuda"]
    found = [(simulated[_same_case(r)], r) for r in measured if _same_case(r) in simulated]
    return [(s, m) for s, m in found if _same_settings(s, m)]


def _same_case(record: dict) -> tuple:
    return tuple(value for name, value in record["case"].items() if name not in ("meter", "id"))


def _same_settings(simulated: dict, measured: dict) -> bool:
    """Settings that both have (a GPU has more of them), and the torch release without its build."""
    ours, theirs = simulated["settings"], measured["settings"]
    shared = (set(ours) & set(theirs)) - {"threads", "allocator"}
    releases = [r["environment"].get("torch", "").partition("+")[0] for r in (simulated, measured)]
    return all(ours[name] == theirs[name] for name in shared) and releases[0] == releases[1]


def plans(records: Sequence[dict]) -> Rows:
    """One record a method, at the number of steps that most methods were run at: the table's first, then variants."""
    known = [r for r in records if r.get("plan") and r["case"]["seed"] == 0 and not _is_other_drtune(r)]
    groups = _by(lambda r: (r["case"]["steps"],), known)
    best = max(
        groups, key=lambda rows: (len({r["case"]["method"] for r in rows}), rows[0]["case"]["steps"]), default=[]
    )
    one = {r["case"]["method"]: r for r in reversed(best)}
    return sorted(one.values(), key=lambda r: (not of_table(r), _order(r), r["case"]["method"]))


def _is_other_drtune(record: dict) -> bool:
    """DRTune with another share of trained steps: the same picture, denser or sparser."""
    return record["case"]["method"].startswith("drtune:k=") and not is_fifth(record)


def _order(record: dict) -> int:
    known = list(METHODS)
    return known.index(family(record)) if family(record) in known else len(known)


def _by(key: Callable[[dict], tuple], rows: Sequence[dict]) -> list[Rows]:
    groups: dict[tuple, Rows] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return list(groups.values())
