"""The studies of the reward: what it sees under noise, which steps to optimise, SPL, how much depends on the
reward, and how it is gamed; then what the paper's reviewers asked."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import pandas as pd
from matplotlib.figure import Figure

from bench import claims
from bench.alignment.reading import decided, hacked, of_seeds, over_seeds, paired, stopping_point
from bench.alignment.reading import figure as value_of
from bench.claims import Verdict, compare
from bench.claims.base_model import study
from bench.claims.measured import alignment_of, study_of
from bench.claims.rewards import metric_cells, recalls, recalls_by_level, reward_recall, trained_study, where
from bench.claims.verdict import NotJudgedError
from bench.labels import method_label
from bench.motion.metrics import METRICS
from bench.records import RewardMemoryRecord, RewardStepTimeRecord, StudyRecord
from bench.records.types import (
    FEATURES,
    NOISED,
    STATES,
    FeatureNoiseStudy,
    GamingStudy,
    Interval,
    LongRuns,
    Noise,
    Point,
    SplStudy,
    StrengthStudy,
    WindowsStudy,
    fields,
)
from bench.report import figures
from bench.report import rows as pick
from bench.report.sections.section import Records, Section
from bench.tables import interval
from methods.rewards.noise import NoiseConfig

FOLLOWS = 0.5
"""A score that correlates as well as this with the final one ranks a good trajectory above a bad one."""
ABOVE_CHANCE = 2
"""R-precision of so many times chance is clearly above it."""
ON_RUN = ("reward", "second", "r1", "mm_dist", "fid")
"""Followed in long runs; `second` is a reward that is not optimised."""
R = TypeVar("R", RewardMemoryRecord, RewardStepTimeRecord)
STEP_COSTS = claims.command("", "'memory or step_time'")


def noise(records: Records) -> Section:
    title, record = "What the reward knows in the middle of denoising", _study_of_base(records, "noise")
    if record is None:
        return Section("noise", title, command=claims.base_studies())
    study, trained = study_of(record, Noise), _trained(records, "windows")
    at, chance = study.timestep, study.chance[0]
    least = ABOVE_CHANCE * chance
    see = (
        f"Captions are told apart up to timestep {_reach(at, study.precision_aware, least)} by the world's reward with "
        f"the timestep given, {_reach(at, study.precision_clean, least)} without it. Trajectories of one prompt are "
        f"ranked up to {_reach(at, study.within_aware, FOLLOWS)} with it, {_reach(at, study.within_clean, FOLLOWS)} "
        f"without it, and {_reach(at, study.within_predicted, FOLLOWS)} on the one-step prediction."
    )
    note = (
        f"Captions are told apart where R-precision is at least {ABOVE_CHANCE} times chance ({chance:.1%}). "
        f"Trajectories are ranked where scores correlate at {FOLLOWS} or more with those of the finished motions. "
        "These are of one world and one seed of noise, so without intervals."
    )
    if trained is not None:
        result = study_of(trained, WindowsStudy)
        seeds = len(result.rewards["clean"])
        see += f" {_of_trained(result, seeds)}" if seeds > 1 else ""
        note += f" Rewards trained alike are {'paired by seed' if seeds > 1 else 'undecided'}: {where(trained, seeds)}"
    frame = pd.DataFrame(fields(study))
    return Section("noise", title, see, lambda: figures.noise(record, trained), frame, note=note)


def _of_trained(study: WindowsStudy, seeds: int) -> str:
    """Of the rewards that the study windows trained: at how many levels their R@1 clearly differs."""
    aware, clean = (recalls_by_level(study.rewards[arm]) for arm in ("aware", "clean"))
    sides = decided([paired(a, c, "R@1") for a, c in zip(aware, clean, strict=True)], seeds)
    return (
        f"Trained alike, a noise-aware reward is clearly better than a clean one at {sides.count(1)} of {len(sides)} "
        f"noise levels, worse at {sides.count(-1)}."
    )


def _reach(timesteps: Sequence[float], values: Sequence[float], least: float) -> str:
    """Up to which timestep a figure has at least a value, at every smaller one as well: `601`, or `none`."""
    reached = None
    for timestep, value in sorted(zip(timesteps, values, strict=True)):
        if not value >= least:  # NaN reaches nothing
            break
        reached = timestep
    return "none" if reached is None else f"{reached:.0f}"


def windows(records: Records) -> Section:
    title = "Which steps to optimise, and what to score there"
    return _judged(records, "windows", title, claims.rewards.judge_noise_aware, figures.windows)


def feature_noise(records: Records) -> Section:
    title, record = "Noise on the motion, as released", _trained(records, "feature_noise")
    if record is None:
        return Section("feature_noise", title, command=claims.study_command("feature_noise"))
    study = study_of(record, FeatureNoiseStudy)
    gains = {noised: _gains(study, noised) for noised in NOISED}
    released = [(at, gain) for at, gain in gains[FEATURES] if at <= NoiseConfig.max_timestep]
    on_features, while_released, on_states = map(_best, (gains[FEATURES], released, gains[STATES]))
    see = (
        "On motion with noise as released, noise-aware rewards change text-to-motion R@1 by at most "
        f"{on_features}. Up to timestep {NoiseConfig.max_timestep}, where that noise ends, it is {while_released}. On "
        f"decoded states, which a rollout of this latent backbone scores, it is at most {on_states}."
    )
    note = (
        "The rewards are trained on motion with noisy features, as in the released code, and given the timestep; they "
        "are compared with rewards trained alike on clean motion, in pools of 32. "
        f"{where(record, len(study.rewards['clean'][STATES]))}"
    )
    return Section("feature_noise", title, see, lambda: figures.feature_noise(record), _noised_table(study), note=note)


def _gains(study: FeatureNoiseStudy, noised: str) -> list[tuple[int, Interval]]:
    """By timestep, what the noise-aware rewards are ahead of the clean ones, paired by seed."""
    ours, theirs = (recalls_by_level(study.rewards[arm][noised]) for arm in ("aware", "clean"))
    return [(at, paired(a, b, "R@1")) for at, a, b in zip(study.levels, ours, theirs, strict=True)]


def _best(gains: Sequence[tuple[int, Interval]]) -> str:
    measured = [(gain.mean, at, gain) for at, gain in gains if gain.mean is not None]
    if not measured:
        return "not measured"
    _, at, gain = max(measured, key=lambda one: one[0])
    return f"{interval(gain, '+.1f')} points (timestep {at})"


def _noised_table(study: FeatureNoiseStudy) -> pd.DataFrame:
    rows = []
    for noised in NOISED:
        arms = (recalls_by_level(study.rewards[arm][noised]) for arm in ("clean", "aware"))
        for clean, aware, (at, gain) in zip(*arms, _gains(study, noised), strict=True):
            rows.append(
                {
                    "noise on": noised,
                    "timestep": at,
                    "trained clean": interval(of_seeds(clean, "R@1"), ".1f"),
                    "noise-aware": interval(of_seeds(aware, "R@1"), ".1f"),
                    "difference": interval(gain, "+.1f"),
                }
            )
    return pd.DataFrame(rows)


def spl(records: Records) -> Section:
    return _judged(records, "spl", "What SPL adds to the reward", claims.rewards.judge_spl, figures.spl)


def _judged(
    records: Records, name: str, title: str, judge: Callable[[Records], Verdict], draw: Callable[[StudyRecord], Figure]
) -> Section:
    record = _trained(records, name)
    if record is None:
        return Section(name, title, command=claims.study_command(name))
    verdict = judge(records)
    return Section(name, title, verdict.finding, lambda: draw(record), verdict.numbers)


def strength(records: Records) -> Section:
    title, record = "How much depends on the reward", _trained(records, "strength")
    if record is None:
        return Section("strength", title, command=claims.study_command("strength"))
    study = study_of(record, StrengthStudy)
    see = f"{_strength(record)} {where(record, len(study.base))}"
    note = (
        "The base is fine-tuned under rewards that were trained on a share of the clips, with SPL and without. "
        "Differences are paired by seed. Each reward was trained once: its own seed is not in the intervals."
    )
    return Section("strength", title, see, lambda: figures.strength(record), _strength_table(study), note=note)


def _strength(record: StudyRecord) -> str:
    """What the evaluator's R@1 gains from the weakest reward to the strongest, by method, in a sentence."""
    study = study_of(record, StrengthStudy)
    ordered = sorted(study.rewards, key=reward_recall)
    weak, strong = ordered[0], ordered[-1]
    gains = [
        f"{interval(paired(strong.runs[method], weak.runs[method], 'r1'), '+.3f')} ({_label(method, record)})"
        for method in strong.runs
    ]
    return (
        f"From the weakest reward (text-to-motion R@1 {reward_recall(weak):.1f}%) to the strongest "
        f"({reward_recall(strong):.1f}%) the evaluator's R@1 changes by {' and '.join(gains)}."
    )


def _strength_table(study: StrengthStudy) -> pd.DataFrame:
    rows: list[dict] = [{"method": "base", **metric_cells(study.base)}]
    for reward in (*study.rewards, study.of_world):
        recall = recalls(reward.retrieval)
        for method, runs in reward.runs.items():
            rows.append(
                {
                    "method": method,
                    "reward of": "the world" if reward.share is None else f"{reward.share:.0%} of the clips",
                    "SPL": "yes" if reward.spl else "no",
                    **{f"reward's {name}": f"{recall[name]:.2f}" for name in ("R@1", "R@5", "MedR")},
                    **metric_cells(runs),
                    "R@1 − base": interval(paired(runs, study.base, "r1"), "+.3f"),
                }
            )
    return pd.DataFrame(rows, columns=list(rows[-1])).fillna("")


def gaming(records: Records) -> Section:
    title, record = "Is the reward gamed, and when to stop", _trained(records, "gaming")
    if record is None:
        return Section("gaming", title, command=claims.study_command("gaming"))
    runs = study_of(record, GamingStudy).runs
    see = f"{_past_the_stop(runs)} {_pulled(runs, record)}{where(record, len(runs[0].curves))}"
    note = (
        f"Measured on validation prompts. Learning rates: {_rates(runs, record)}. A run is stopped once a second "
        "reward (same data, another seed, never optimised) has not risen for two measurements. That needs neither test "
        "data nor the evaluator."
    )
    return Section("gaming", title, see, lambda: figures.gaming(record), _gaming_table(runs, record), note=note)


def _past_the_stop(runs: Sequence[LongRuns]) -> str:
    """A sentence on all runs, each of several seeds."""
    gamed, seeds = sum(map(_gamed, runs)), sum(len(run.curves) for run in runs)
    return f"Past the stop, the reward rose while the evaluator's R@1 fell in {gamed} of {seeds} long runs."


def _rates(runs: Sequence[LongRuns], record: StudyRecord) -> str:
    """By method."""
    rates = dict.fromkeys((_label(run.method, record), f"{run.lr:g}") for run in runs)
    return "; ".join(f"{rate} for {label}" for label, rate in rates)


def _moments(run: LongRuns) -> dict[str, list[Point]]:
    """Points at the run's start, where each seed's would have been stopped, and at its end: one a seed."""
    return {
        "start": [curve[0] for curve in run.curves],
        "stop": [curve[stopping_point(curve)] for curve in run.curves],
        "end": [curve[-1] for curve in run.curves],
    }


def _mean(points: Sequence[Point], name: str) -> float | None:
    """Of a total or a metric, over seeds."""
    return over_seeds([value_of(point, name) for point in points]).mean


def _gamed(run: LongRuns) -> int:
    """In how many seeds the reward rose after the stop while the evaluator's R@1 fell."""
    at = _moments(run)
    changes = [
        {name: paired([end.metrics], [stop.metrics], name).mean or 0.0 for name in ("reward", "r1")}
        for stop, end in zip(at["stop"], at["end"], strict=True)
    ]
    return sum(change["reward"] > 0 > change["r1"] for change in changes)


def _pulled(runs: Sequence[LongRuns], record: StudyRecord) -> str:
    """What the pull to the base changed of R@1 at the end, by method; a space after it."""
    free = {run.method: run for run in runs if not run.pull}
    changes = []
    for run in runs:
        if not run.pull or run.method not in free:
            continue
        pulled, alone = ([point.metrics for point in _moments(of)["end"]] for of in (run, free[run.method]))
        change = paired(pulled, alone, "r1")
        if change.mean is not None:
            changes.append(f"{interval(change, '+.3f')} ({_label(run.method, record)})")
    return f"The pull to the base changes R@1 at the end by {' and '.join(changes)}. " if changes else ""


def _gaming_table(runs: Sequence[LongRuns], record: StudyRecord) -> pd.DataFrame:
    """Means over seeds at three moments of every run."""
    names = {name: METRICS[name].label if name in METRICS else "second reward" for name in ON_RUN}
    return pd.DataFrame(
        {
            "run": _run_label(run, record),
            "lr": f"{run.lr:g}",
            "at": moment,
            "updates": _mean(points, "updates"),
            **{label: _mean(points, name) for name, label in names.items()},
            "seeds where the reward rose and R@1 fell": f"{_gamed(run)} of {len(points)}" if moment == "end" else "",
        }
        for run in runs
        for moment, points in _moments(run).items()
    )


def reviewers(records: Records) -> Section:
    title = "Three questions of the paper's reviewers"
    known = {name: record for name in REVIEWERS if (record := _trained(records, name))}
    if not known:
        return Section("reviewers", title, command=claims.study_command(*REVIEWERS))
    see = f"{len(known)} of {len(REVIEWERS)} have an answer in these records."
    frame = pd.DataFrame(
        {
            "question": question,
            "answer": f"{answer(records, known[name])}{_tiny(known[name])}" if name in known else "nothing yet",
            "seeds": _seeds(known[name]) if name in known else None,
            "section": name,
            "command": claims.study_command(name),
        }
        for name, (question, answer) in REVIEWERS.items()
    )
    return Section("reviewers", title, see, None, frame)


def _seeds(record: StudyRecord) -> int:
    """Of the fine-tuning runs of a study of REVIEWERS."""
    match record.study:
        case GamingStudy(runs=runs):
            return len(runs[0].curves)
        case StrengthStudy(base=base) | SplStudy(base=base):
            return len(base)
    raise TypeError(f"{record.case.name} answers no question of the reviewers")


def _how_much_depends(_: Records, record: StudyRecord) -> str:
    return _strength(record)


def _is_gamed(records: Records, record: StudyRecord) -> str:
    rows = pick.aligned(records)
    flagged = [row.case.label for row in rows if hacked(alignment_of(row).gain)]
    at_chosen = (
        f"At the benchmark's learning rates {len(flagged)} of {len(rows)} methods are flagged"
        f"{': ' if flagged else ''}{', '.join(flagged)} (section paths)."
        if rows
        else f"The benchmark's runs are not in these records ({claims.ALIGN_COMMAND})."
    )
    return f"{_past_the_stop(study_of(record, GamingStudy).runs)} {at_chosen}"


def _is_worth(records: Records, record: StudyRecord) -> str:
    study = study_of(record, SplStudy)
    with_spl, control = ([recalls(reward.retrieval) for reward in study.rewards[arm]] for arm in ("spl", "control"))
    return (
        f"Text-to-motion R@1 changes by {interval(paired(with_spl, control, 'R@1'), '+.2f')} points, the evaluator's "
        f"R@1 after EasyTune by {interval(paired(study.runs['spl'], study.runs['control'], 'r1'), '+.3f')}. It costs "
        f"{_cost(records, record)}."
    )


REVIEWERS = {
    "strength": ("How much depends on the retrieval model that the reward starts from?", _how_much_depends),
    "gaming": ("Is the reward gamed?", _is_gamed),
    "spl": ("Is SPL's gain worth its cost?", _is_worth),
}
"""By the study that answers."""


def _cost(records: Records, record: StudyRecord) -> str:
    """Of a step with SPL in one without, by rows of the reward's training; in steps where there are none."""
    memory = [
        spl.reading.peak / other.reading.peak
        for spl, other in _with_and_without(records, RewardMemoryRecord)
        if spl.reading and other.reading
    ]
    seconds = [
        spl.timing.per_update.median / other.timing.per_update.median
        for spl, other in _with_and_without(records, RewardStepTimeRecord)
        if spl.timing and other.timing
    ]
    named = (("memory", memory), ("time", seconds))
    ratios = [f"{of[0]:.3f} times the {what}" for what, of in named if of]
    if ratios:
        return f"{' and '.join(ratios)} of a step of the reward's training without it (section reward_training)"
    settings = record.settings
    return (
        f"{settings.refine} steps after {settings.steps}, which the control has too (what SPL adds to a step: "
        f"{STEP_COSTS})"
    )


def _with_and_without(records: Records, kind: type[R]) -> list[tuple[R, R]]:
    """Rows of a step of the reward's training with SPL and without it, alike and of one size; a GPU's first."""
    good: list[R] = [r for r in records if isinstance(r, kind) and r.ok]
    return [
        (spl, other)
        for like in compare.like_sets(good)
        for spl in like
        for other in like
        if (spl.case.method, other.case.method) == ("reward:spl", "reward")
        and (spl.case.batch, spl.case.frames) == (other.case.batch, other.case.frames)
    ]


def _tiny(record: StudyRecord) -> str:
    return " (at the tiny scale, which shows that it runs and no more)" if claims.rewards.is_tiny(record) else ""


def _label(method: str, record: StudyRecord) -> str:
    return method_label(method, record.case.steps)


def _run_label(run: LongRuns, record: StudyRecord) -> str:
    return f"{_label(run.method, record)}, {'pulled' if run.pull else 'free'}"


def _trained(records: Records, name: str) -> StudyRecord | None:
    try:
        return trained_study(records, name)
    except NotJudgedError:
        return None


def _study_of_base(records: Records, name: str) -> StudyRecord | None:
    try:
        return study(records, name)
    except NotJudgedError:
        return None
