"""The first screen: what the suite is asked, each with one sentence, one number and one small figure, or a command."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

from matplotlib.figure import Figure

from bench import claims
from bench.alignment.reading import decided, paired
from bench.claims import Outcome
from bench.claims.alignment import gained
from bench.claims.measured import alignment_of, peak, reading_of
from bench.claims.published import EASYTUNE
from bench.motion.metrics import METRICS
from bench.records import AlignmentRecord, MemoryRecord
from bench.report import figures
from bench.report import rows as pick
from bench.report.sections.memory import shares
from bench.report.sections.section import Records
from bench.tables import interval
from bench.units import GIB
from methods import METHODS


@dataclass(frozen=True)
class Question:
    """A question to the records; `name` is that of its figure, which no section has."""

    name: str
    asks: str
    chapter: str
    """Where the answer comes from: "Verdicts", or one of CHAPTERS."""
    answer: str = ""
    """A sentence of at most 30 words; empty where the records have none."""
    number: str = ""
    """The one that counts."""
    of: str = ""
    """What the number is."""
    figure: Callable[[], Figure] | None = None
    command: str = ""
    """What answers it, or goes on from the answer."""


_PLURAL = {
    Outcome.HOLDS: "hold",
    Outcome.IN_PART: "hold in part",
    Outcome.UNDECIDED: "are undecided",
    Outcome.FAILS: "do not hold",
}


def do_claims_hold(records: Records) -> Question:
    asks, verdicts = "Do the published efficiency claims hold?", claims.judge(records)
    judged = [verdict for verdict in verdicts if verdict.outcome is not Outcome.NOT_JUDGED]
    if not judged:
        return Question("question_claims", asks, "Verdicts", command=claims.command("--matrix published"))
    whole = Counter(verdict.outcome for verdict in judged if not verdict.here)
    counts = [
        f"{whole[outcome]} {outcome if whole[outcome] == 1 else words}"
        for outcome, words in _PLURAL.items()
        if whole[outcome]
    ]
    smaller = len(judged) - whole.total()
    answer = f"At the published scale {', '.join(counts) or 'none was judged'}"
    if smaller:
        answer += f"; {smaller} more {'was' if smaller == 1 else 'were'} asked of something smaller, which settles none"
    words = {verdict.claim: verdict.words for verdict in verdicts}
    return Question(
        "question_claims",
        asks,
        "Verdicts",
        f"{answer}.",
        f"{whole[Outcome.HOLDS]} of {whole.total()}",
        "claims judged at the published scale hold as written",
        lambda: figures.by_verdict(words),
    )


def where_bytes_go(records: Records) -> Question:
    asks = "Where do the bytes go?"
    rows = [row for row in _released(records) if reading_of(row).split]
    if not rows:
        return Question("question_bytes", asks, "Memory", command=claims.command("--matrix published"))
    row = next((row for row in rows if row.case.method == EASYTUNE), rows[0])
    parts = shares(row)
    most = max(parts, key=parts.__getitem__)
    name = row.case.label
    return Question(
        "question_bytes",
        asks,
        "Memory",
        f"Of {name}'s peak, {peak(row) / GIB:.2f} GiB: {', '.join(f'{part} {of:.1%}' for part, of in parts.items())}.",
        f"{parts[most]:.0%}",
        f"of {name}'s peak: {most}",
        lambda: figures.by_phase(rows),
    )


def what_fits(records: Records) -> Question:
    asks, command = "What fits on my card?", "python -m bench.plan --budget 24GiB"
    rows = _released(records)
    if not rows:
        return Question("question_fits", asks, "Memory", command=command)
    pulled = pick.levers(records)
    sets = [rows, pulled[-1]] if pulled and pick.scale(pulled[-1][0].case) == pick.scale(rows[0].case) else [rows]
    ranges = [_range([taken(row) for row in of]) for of in sets]
    answer = f"At batch {rows[0].case.batch} an update takes {ranges[0]} GiB as released"
    if len(sets) > 1:
        answer += f", and {ranges[1]} with every lever pulled"
    return Question(
        "question_fits",
        asks,
        "Memory",
        f"{answer}. Other batches, lengths and cards:",
        f"{ranges[0]} GiB",
        f"at batch {rows[0].case.batch}, from the smallest method to the largest",
        lambda: figures.bars(sets, taken),
        command,
    )


def taken(row: MemoryRecord) -> int:
    """Bytes that the allocator takes from the device, where the row knows them; else live bytes."""
    return reading_of(row).reserved or peak(row)


def _range(sizes: list[int]) -> str:
    low, high = (f"{size / GIB:.2f}" for size in (min(sizes), max(sizes)))
    return low if low == high else f"{low} to {high}"


def did_memory_grow(records: Records) -> Question:
    """Of two trees, or a tree and the committed baseline: records of one say nothing of it."""
    gate = "pytest bench/ -m memory --matrix gate --memory-baseline reports/baselines/simulated.json"
    return Question("question_gate", "Did a change cost memory?", "Memory", command=gate)


def who_aligns_best(records: Records) -> Question:
    """By R@1 of test prompts, every pair of methods compared seed by seed, all pairs corrected together; so are the
    gains over the base."""
    asks, rows = "Who aligns best for a given time and memory?", _of_equal_seeds(records)
    if not rows:
        return Question("question_alignment", asks, "Alignment", command=claims.ALIGN_COMMAND)
    finals = [alignment_of(row).finals for row in rows]
    pairs = list(combinations(range(len(rows)), 2))
    sides = decided([paired(finals[a], finals[b], "r1") for a, b in pairs], len(alignment_of(rows[0]).seeds))
    best = max(range(len(rows)), key=lambda n: _gain(rows[n]) or 0.0)
    winners = [a if side > 0 else b for (a, b), side in zip(pairs, sides, strict=True) if side]
    ahead = winners.count(best) == len(rows) - 1 > 0
    gain = interval(gained(rows)[best]["r1", ""], "+.3f")
    found = f"{rows[best].case.label} gains most {METRICS['r1'].label}, {gain} over the base"
    return Question(
        "question_alignment",
        asks,
        "Alignment",
        f"{found}, and {'is' if ahead else 'is not'} clearly ahead of every other method ({rows[0].case.world} world).",
        f"{len(winners)} of {len(pairs)}",
        "pairs of methods differ clearly, all compared at once",
        lambda: figures.gains(rows),
    )


def _of_equal_seeds(records: Records) -> list[AlignmentRecord]:
    rows = [row for row in pick.aligned(records) if _gain(row) is not None]
    return [row for row in rows if alignment_of(row).seeds == alignment_of(rows[0]).seeds]


def _gain(row: AlignmentRecord) -> float | None:
    return alignment_of(row).gain["r1"].mean


def how_does_mine_compare(records: Records) -> Question:
    """Of methods from outside this suite."""
    asks, rows = "How does my method compare?", _released(records)
    mine = [row for row in rows if pick.family(row.case) not in METHODS]
    if not mine:
        command = claims.command("-p my_method --method my-method --method easytune")
        return Question("question_mine", asks, "Methods", command=command)
    row = mine[0]
    less = sum(peak(other) < peak(row) for other in rows)
    return Question(
        "question_mine",
        asks,
        "Methods",
        f"{row.case.label} peaks at {peak(row) / GIB:.2f} GiB: {less} of {len(rows) - 1} others need less.",
        f"{peak(row) / GIB:.2f} GiB",
        f"is the peak of {row.case.label}",
        lambda: figures.bars([rows]),
    )


def _released(records: Records) -> list[MemoryRecord]:
    """Good rows of the table under the first profile that has any."""
    rows = pick.good(pick.table(records))
    return next((of for profile in pick.profiles(rows) if (of := pick.table_rows(rows, profile))), [])


QUESTIONS = (do_claims_hold, where_bytes_go, what_fits, did_memory_grow, who_aligns_best, how_does_mine_compare)
"""In the order of the README."""
