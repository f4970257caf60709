"""C8 and C9: what the studies that train rewards, and fine-tune under them, say; of a published world where they were
run on one."""

from collections.abc import Sequence
from contextlib import suppress

import pandas as pd

from bench.alignment.reading import Figures, decided, of_seeds, over_seeds, paired
from bench.cases import is_published
from bench.claims.alignment import here_of
from bench.claims.base_model import study
from bench.claims.compare import provenance
from bench.claims.measured import mean_of, study_of
from bench.claims.verdict import NotJudgedError, Outcome, Verdict
from bench.motion.metrics import METRICS
from bench.records import Record, StudyRecord
from bench.records.types import Interval, Retrieval, RunsUnderReward, SplStudy, TrainedReward, WindowsStudy
from bench.tables import interval

AFTER = ("r1", "mm_dist", "fid", "reward")
"""What is said of a fine-tuned model: three figures of the evaluator's, and the held-out reward."""
SCORES = {"x0-hat": "x̂₀", "noisy": "noisy state"}
"""What is scored inside a trajectory, by its name in the study."""
PUBLISHED_NOISE_AWARE, PUBLISHED_ONE_STEP = 0.581, 0.568
PUBLISHED_SPL = 2.5
"""Of R@1 on HumanML3D, in "%"."""
RECALLS = ("R@1", "R@2", "R@3", "R@5", "R@10")
IN_POOLS = ("R@1", "R@3", "R@5")
AGAINST = (
    ("spl", "control"),
    ("spl", "pretrained"),
    ("released", "control"),
    ("released", "pretrained"),
    ("k1", "control"),
    ("control", "pretrained"),
)
"""Arms of the spl study that are compared, seed by seed."""


def trained_study(records: Sequence[Record], name: str) -> StudyRecord:
    """The latest good record of a study that trains: at the scale reference before full, and tiny where there is no
    other; NotJudgedError if there is none."""
    for known in (f"{name}-reference", name, f"{name}-tiny"):
        with suppress(NotJudgedError):
            return study(records, known)
    raise NotJudgedError(f"Missing: study {name} of the embedded world (pytest bench/ -m study --study {name}).")


def is_tiny(record: StudyRecord) -> bool:
    """Whether a study only shows that it runs."""
    return record.case.scale == "tiny"


def where(record: StudyRecord, seeds: int) -> str:
    """A sentence on what a study's figures are of."""
    tiny = ", at the tiny scale, which shows that it runs and no more" if is_tiny(record) else ""
    count = f"{seeds} seed{'s' if seeds > 1 else ''}"
    models = "" if is_published(record.case.world) else ", not of the published models"
    return f"Of the {record.case.world} world ({record.case.steps} steps, {count}{tiny}){models}."


def judge_noise_aware(records: Sequence[Record]) -> Verdict:
    """C8: EasyTune's R@1 over all steps with the noise-aware reward less that with the one-step prediction, paired by
    seed. It holds where that is clearly above 0, fails where it is clearly below, and is undecided otherwise; it holds
    in part where another window clearly says the opposite. What is said of all windows together is right with a
    probability of 95% (reading.decided)."""
    record = trained_study(records, "windows")
    result = study_of(record, WindowsStudy)
    clean, noisy = result.runs["x0-hat"], result.runs["noisy"]
    widths = [past - first for first, past in result.windows]
    whole = widths.index(max(widths))  # all steps
    sides = decided([paired(n, c, "r1") for c, n in zip(clean, noisy, strict=True)], len(noisy[whole]))
    change = interval(paired(noisy[whole], clean[whole], "r1"), "+.3f")
    others = [
        f"{steps_of(window)} favour {'the noisy state' if favoured > 0 else 'x̂₀'}"
        for index, (window, favoured) in enumerate(zip(result.windows, sides, strict=True))
        if favoured and index != whole
    ]
    finding = (
        f"Over all steps EasyTune ends at R@1 {interval(of_seeds(noisy[whole], 'r1'))} where the noise-aware reward "
        f"scores, and at {interval(of_seeds(clean[whole], 'r1'))} where the one-step prediction is scored. That is "
        f"{change} paired by seed (published: {PUBLISHED_NOISE_AWARE - PUBLISHED_ONE_STEP:+.3f}); by window, "
        f"{', '.join(others) or 'R@1 clearly favours neither'}."
    )
    return Verdict(
        "C8",
        _outcome(sides[whole], sides),
        f"{finding} {where(record, len(noisy[whole]))}",
        windows_table(result),
        f"{record.case.world} world, {provenance(record)}",
        here_of(record.case.world),
    )


def judge_spl(records: Sequence[Record]) -> Verdict:
    """C9: text-to-motion R@1 of rewards trained with SPL less that of the control, as many steps without it, paired by
    reward seed. Outcome as C8's, and a claim fails too where neither reading gains and the interval excludes the
    published gain; the released variant is the other reading."""
    record = trained_study(records, "spl")
    result = study_of(record, SplStudy)
    by_arm = {arm: [recalls(reward.retrieval) for reward in rewards] for arm, rewards in result.rewards.items()}
    gain = paired(by_arm["spl"], by_arm["control"], "R@1")
    released = paired(by_arm["released"], by_arm["control"], "R@1")
    tuned = interval(paired(result.runs["spl"], result.runs["control"], "r1"), "+.3f")
    pairs = mean_of(mined(result.rewards["spl"]), "SPL's share of pairs")
    finding = (
        f"SPL changes the reward's text-to-motion R@1 by {_points(gain)} points against as many steps without it "
        f"(published: {PUBLISHED_SPL:+.1f}%), as released by {_points(released)}. {pairs:.1%} of texts gave a pair. "
        f"After EasyTune the evaluator's R@1 is {tuned} against that under the control."
    )
    sides = decided([gain, released], len(by_arm["spl"]))
    # Neither a gain nor room in the interval for the published one: nothing is left of the claim.
    excluded = not any(one > 0 for one in sides) and _upper(gain) < PUBLISHED_SPL
    return Verdict(
        "C9",
        Outcome.FAILS if excluded else _outcome(sides[0], sides),
        f"{finding} {where(record, len(by_arm['spl']))}",
        spl_table(result),
        f"{record.case.world} world, {provenance(record)}",
        here_of(record.case.world),
    )


def _upper(difference: Interval) -> float:
    """An interval's end; infinite without one."""
    if difference.mean is None or difference.half_width is None:
        return float("inf")
    return difference.mean + difference.half_width


def _outcome(deciding: int, sides: Sequence[int]) -> Outcome:
    """Of the reading that decides, unless another one clearly says the opposite."""
    if not deciding:
        return Outcome.UNDECIDED
    if -deciding in sides:
        return Outcome.IN_PART
    return Outcome.HOLDS if deciding > 0 else Outcome.FAILS


def steps_of(window: Sequence[int]) -> str:
    """Of [first, past the last]: `steps 0 to 6`."""
    return f"steps {window[0]} to {window[1] - 1}"


def windows_table(study: WindowsStudy) -> pd.DataFrame:
    """Test metrics by window and score, means over seeds with 95% intervals (Student's t); differences are paired by
    seed."""
    rows = [{"steps": "base", "scored": "", **metric_cells(study.base)}]
    for index, window in enumerate(study.windows):
        runs = {score: study.runs[score][index] for score in SCORES}
        for score, tuned in runs.items():
            gain = interval(paired(tuned, study.base, "r1"), "+.3f")
            rows.append({"steps": steps_of(window), "scored": SCORES[score], **metric_cells(tuned), "R@1 − base": gain})
        rows.append(
            {"steps": steps_of(window), "scored": "noisy state − x̂₀", **_changes(runs["noisy"], runs["x0-hat"])}
        )
    return pd.DataFrame(rows).fillna("")


def spl_table(study: SplStudy) -> pd.DataFrame:
    """Retrieval of texts to motions by arm (all test motions, then pools of 32; per cent and ranks) and test metrics
    after EasyTune, means over seeds with 95% intervals (Student's t); then differences, paired by seed."""
    known = {
        kind: {arm: [recalls(reward.retrieval, kind) for reward in rewards] for arm, rewards in study.rewards.items()}
        for kind in ("all", "pools")
    }
    rows = []
    for arm, rewards in study.rewards.items():
        row = {"arm": arm} | retrieved(rewards)
        rows.append(row | (_after(metric_cells(study.runs[arm])) if arm in study.runs else {}))
    for ours, theirs in AGAINST:
        pair = {kind: (known[kind][ours], known[kind][theirs]) for kind in known}
        row = {"arm": f"{ours} − {theirs}"}
        row |= {name: _points(paired(*pair["all"], name)) for name in (*RECALLS, "MedR")}
        row |= {f"{name} of 32": _points(paired(*pair["pools"], name)) for name in IN_POOLS}
        if {ours, theirs} <= set(study.runs):
            row |= _after(_changes(study.runs[ours], study.runs[theirs]))
        rows.append(row)
    return pd.DataFrame(rows).fillna("")


def retrieved(rewards: Sequence[TrainedReward]) -> dict[str, str]:
    """Retrieval of texts to motions by rewards of one arm, as cells: means with 95% intervals over seeds (Student's
    t)."""
    cells = {"texts with a pair": interval(mined(rewards), ".1%")}
    for kind, names, of_pool in (("all", (*RECALLS, "MedR"), ""), ("pools", IN_POOLS, " of 32")):
        seeds = [recalls(reward.retrieval, kind) for reward in rewards]
        cells |= {f"{name}{of_pool}": interval(of_seeds(seeds, name), ".2f") for name in names}
    return cells


def mined(rewards: Sequence[TrainedReward]) -> Interval:
    """The share of texts that gave SPL a pair, over seeds; no mean of rewards trained without SPL."""
    return over_seeds([reward.training.mined if reward.training else None for reward in rewards])


def recalls_by_level(rewards: Sequence[TrainedReward]) -> list[list[dict[str, float]]]:
    """Recalls in pools of 32 at each noise level that a study measured, over its rewards' seeds."""
    return [
        [recalls(level, "pools") for level in seeds]
        for seeds in zip(*(reward.levels for reward in rewards), strict=True)
    ]


def recalls(retrieval: Retrieval, kind: str = "all") -> dict[str, float]:
    """`R@k` in per cent, and `MedR`, of texts to motions: among "all" motions, or in "pools" of 32; nothing for pools
    that the motions were too few for."""
    return ((retrieval.all if kind == "all" else retrieval.pools) or {}).get("text_to_motion", {})


def reward_recall(runs: RunsUnderReward) -> float:
    """Text-to-motion R@1 of the reward that runs were trained under, among all test motions, per cent."""
    return recalls(runs.retrieval)["R@1"]


def metric_cells(runs: Sequence[Figures]) -> dict[str, str]:
    """AFTER of runs, as cells."""
    return {METRICS[metric].label: interval(of_seeds(runs, metric)) for metric in AFTER}


def _changes(ours: Sequence[Figures], theirs: Sequence[Figures]) -> dict[str, str]:
    return {METRICS[metric].label: interval(paired(ours, theirs, metric), "+.3f") for metric in AFTER}


def _after(cells: dict[str, str]) -> dict[str, str]:
    return {f"EasyTune: {name}": cell for name, cell in cells.items()}


def _points(difference: Interval) -> str:
    return interval(difference, "+.2f")
