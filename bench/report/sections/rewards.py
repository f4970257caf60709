"""What the studies of the reward found: what it sees under noise, which steps to optimise, SPL, how much hangs on the
reward, and how it is gamed; then what the paper's reviewers asked."""

from collections.abc import Callable, Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from bench import claims
from bench.alignment.reading import Curve, hacked, of_seeds, paired, stopping_point
from bench.alignment.rewards.config import FEATURES, NOISED, STATES
from bench.claims import Verdict, compare
from bench.claims.base_model import study
from bench.claims.rewards import own_recall, recalls, recalls_by_level, told, trained_study, where
from bench.claims.verdict import NotJudgedError
from bench.report import figures, style
from bench.report import rows as pick
from bench.report.sections.section import Records, Section
from bench.tables import ALIGNED, interval
from methods.rewards.noise import NoiseConfig

FOLLOWS = 0.5
"""A score that correlates as well as this with the final one tells a good trajectory from a bad one."""
ABOVE_CHANCE = 2
"""R-precision of so many times chance is clearly above it."""
ON_RUN = ("reward", "second", "r1", "mm_dist", "fid")
"""Followed in long runs; `second` is the reward that looks on."""
REVIEWERS = ("strength", "gaming", "spl")
STEP_COSTS = claims.command("", "'memory or step_time'")


def noise(records: Records) -> Section:
    title, record = "What the reward knows in the middle of denoising", _study_of_base(records, "noise")
    if record is None:
        return Section("noise", title, command=claims.STUDIES_COMMAND)
    rows, trained = record["study"], _trained(records, "windows")
    at, chance = rows["timestep"], rows["chance"][0]
    told_so = _reach(at, rows["precision_aware"], ABOVE_CHANCE * chance)
    see = (
        f"Given the timestep, the world's reward tells captions apart (R-precision of at least {ABOVE_CHANCE} times "
        f"chance, {chance:.1%}) {told_so}, without it {_reach(at, rows['precision_clean'], ABOVE_CHANCE * chance)}. "
        f"Among trajectories of one prompt a score correlates at {FOLLOWS} or more with that of the finished motion: "
        f"of the noisy state with its timestep {_reach(at, rows['within_aware'], FOLLOWS)}, without it "
        f"{_reach(at, rows['within_clean'], FOLLOWS)}, of the one-step prediction "
        f"{_reach(at, rows['within_predicted'], FOLLOWS)}."
    )
    frame = pd.DataFrame(rows)
    if trained is not None:
        see += f" {_of_trained(trained['study'], 100 * ABOVE_CHANCE * chance)} {where(trained, 1)}"
    return Section("noise", title, see, lambda: figures.noise(record, trained), frame)


def _of_trained(found: dict, least: float) -> str:
    """Of the two rewards that the study windows trained, against a least R@1 in per cent."""
    levels = {
        name: [recalls(level, "pools").get("R@1", 0.0) for level in own["levels"]]
        for name, own in found["rewards"].items()
    }
    reach = {name: _reach(found["levels"], own, least) for name, own in levels.items()}
    clean = {name: recalls(own["retrieval"], "pools").get("R@1", 0.0) for name, own in found["rewards"].items()}
    at, aware, other = max(
        zip(found["levels"], levels["aware"], levels["clean"], strict=True), key=lambda one: one[1] - one[2]
    )
    return (
        f"Of two rewards trained alike, the noise-aware one does so {reach['aware']} and the one trained on clean "
        f"motion {reach['clean']}; the first is furthest ahead at timestep {at}, with {aware:.1f}% of R@1 against "
        f"{other:.1f}%, and on clean motion they have {clean['aware']:.1f}% and {clean['clean']:.1f}%."
    )


def _reach(timesteps: Sequence[float], values: Sequence[float], least: float) -> str:
    """Up to which timestep a figure has at least a value, at every smaller one as well."""
    reached = None
    for timestep, value in sorted(zip(timesteps, values, strict=True)):
        if not value >= least:  # NaN reaches nothing
            break
        reached = timestep
    return "at no timestep" if reached is None else f"up to timestep {reached:.0f}"


def windows(records: Records) -> Section:
    title = "Which steps to optimise, and what to score there"
    return _judged(records, "windows", title, claims.rewards.judge_noise_aware, figures.windows)


def feature_noise(records: Records) -> Section:
    title, record = "Noise on the motion, as released", _trained(records, "feature_noise")
    if record is None:
        return Section("feature_noise", title, command=claims.study_command("feature_noise"))
    found = record["study"]
    gains = {noised: _gains(found, noised) for noised in NOISED}
    released = [(at, gain) for at, gain in gains[FEATURES] if at <= NoiseConfig.max_timestep]
    on_features, while_released, on_states = (_best(own) for own in (gains[FEATURES], released, gains[STATES]))
    see = (
        "Rewards trained on motion whose features are noised, as in the released code, and told the timestep, against "
        "rewards trained alike on clean motion: on motion noised so, text-to-motion R@1 in pools of 32 is at best "
        f"{on_features}; as far as the released noise goes, to timestep {NoiseConfig.max_timestep}, {while_released}. "
        f"On decoded states, which a rollout of this latent backbone scores, it is at best {on_states}. "
        f"{where(record, len(found['rewards']['clean'][STATES]))}"
    )
    return Section("feature_noise", title, see, lambda: figures.feature_noise(record), _noised_table(found))


def _gains(found: dict, noised: str) -> list[tuple[int, dict]]:
    """By timestep, what the noise-aware rewards are ahead of the clean ones, paired by seed."""
    ours, theirs = (recalls_by_level(found["rewards"][arm][noised]) for arm in ("aware", "clean"))
    return [(at, paired(a, b, "R@1")) for at, a, b in zip(found["levels"], ours, theirs, strict=True)]


def _best(gains: Sequence[tuple[int, dict]]) -> str:
    at, gain = max(gains, key=lambda one: one[1]["mean"])
    return f"{interval(gain, '+.1f')} points higher (timestep {at})"


def _noised_table(found: dict) -> pd.DataFrame:
    rows = []
    for noised in NOISED:
        arms = (recalls_by_level(found["rewards"][arm][noised]) for arm in ("clean", "aware"))
        for clean, aware, (at, gain) in zip(*arms, _gains(found, noised), strict=True):
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
    records: Records, name: str, title: str, judge: Callable[[Records], Verdict], draw: Callable[[dict], Figure]
) -> Section:
    record = _trained(records, name)
    if record is None:
        return Section(name, title, command=claims.study_command(name))
    verdict = judge(records)
    return Section(name, title, verdict.finding, lambda: draw(record), verdict.numbers)


def strength(records: Records) -> Section:
    title, record = "How much hangs on the reward", _trained(records, "strength")
    if record is None:
        return Section("strength", title, command=claims.study_command("strength"))
    found = record["study"]
    see = (
        "The base fine-tuned under rewards that were trained on a share of the clips, with SPL and without: "
        f"{_strength(record)}. {where(record, len(found['base']))}"
    )
    return Section("strength", title, see, lambda: figures.strength(record), _strength_table(found))


def _strength(record: dict) -> str:
    """What the evaluator's R@1 gains from the weakest reward to the strongest, by method."""
    ordered = sorted(record["study"]["rewards"], key=own_recall)
    weak, strong = ordered[0], ordered[-1]
    base, own = record["study"]["base"], record["study"]["own"]
    gains = [
        f"{_label(method, record)} {interval(paired(strong['runs'][method], weak['runs'][method], 'r1'), '+.3f')} (the "
        f"weakest is {interval(paired(weak['runs'][method], base, 'r1'), '+.3f')} over the base)"
        for method in strong["runs"]
    ]
    own_gains = [
        f"{_label(method, record)} {interval(paired(runs, base, 'r1'), '+.3f')}" for method, runs in own["runs"].items()
    ]
    return (
        f"from the weakest reward (text-to-motion R@1 {own_recall(weak):.1f}%) to the strongest "
        f"({own_recall(strong):.1f}%) the evaluator's R@1 after fine-tuning changes by {', '.join(gains)}, paired by "
        f"seed; under the world's own reward ({own_recall(own):.1f}%), which was trained longer, on noisy motion and "
        f"on what an optimiser would try, it is {', '.join(own_gains)} over the base"
    )


def _strength_table(found: dict) -> pd.DataFrame:
    rows: list[dict] = [{"method": "base", **told(found["base"])}]
    for reward in (*found["rewards"], found["own"]):
        own = recalls(reward["retrieval"])
        for method, runs in reward["runs"].items():
            rows.append(
                {
                    "method": method,
                    "reward of": f"{reward['share']:.0%} of the clips" if "share" in reward else "the world's own",
                    "SPL": "yes" if reward.get("spl") else "no",
                    **{f"reward's {name}": f"{own[name]:.2f}" for name in ("R@1", "R@5", "MedR")},
                    **told(runs),
                    "R@1 − base": interval(paired(runs, found["base"], "r1"), "+.3f"),
                }
            )
    return pd.DataFrame(rows, columns=list(rows[-1])).fillna("")


def gaming(records: Records) -> Section:
    title, record = "Is the reward gamed, and when to stop", _trained(records, "gaming")
    if record is None:
        return Section("gaming", title, command=claims.study_command("gaming"))
    runs = record["study"]["runs"]
    see = (
        "Long runs at a learning rate three times too high, measured on validation prompts. A run is stopped once a "
        "second reward (same data, another seed, never optimised) has not risen for two measurements, which needs no "
        f"test data and not the evaluator. {' '.join(_ended(run, record) for run in runs)} {_pulled(runs, record)}"
        f"{where(record, len(runs[0]['curves']))}"
    )
    return Section("gaming", title, see, lambda: figures.gaming(record), _gaming_table(runs, record))


def _moments(run: Mapping) -> dict[str, Curve]:
    """Points at the run's start, where each seed's would have been stopped, and at its end: one a seed."""
    curves = run["curves"]
    return {
        "start": [curve[0] for curve in curves],
        "stop": [curve[stopping_point(curve)] for curve in curves],
        "end": [curve[-1] for curve in curves],
    }


def _gamed(run: Mapping) -> int:
    """In how many seeds the reward rose after the stop while the evaluator's R@1 fell."""
    at = _moments(run)
    pairs = zip(at["stop"], at["end"], strict=True)
    return sum(end["reward"] > stop["reward"] and end["r1"] < stop["r1"] for stop, end in pairs)


def _ended(run: Mapping, record: dict) -> str:
    at = _moments(run)

    def change(name: str, form: str = ".3f") -> str:
        stop, end = (of_seeds(at[moment], name)["mean"] for moment in ("stop", "end"))
        return f"{stop:{form}} → {end:{form}}"

    return (
        f"{_run_label(run, record)}, from the stop to the end: updates {change('updates', '.0f')}, "
        f"reward {change('reward')}, second {change('second')}, R@1 {change('r1')}, MM-Dist {change('mm_dist')}, "
        f"FID {change('fid')}; the reward rose and R@1 fell in {_gamed(run)} of {len(run['curves'])} seeds."
    )


def _pulled(runs: Sequence[Mapping], record: dict) -> str:
    """What the pull to the base changed at the end, by method; a space after it."""
    free = {run["method"]: run for run in runs if not run["pull"]}
    changes = []
    for run in runs:
        if not run["pull"] or run["method"] not in free:
            continue
        ends = (_moments(run)["end"], _moments(free[run["method"]])["end"])
        mean = {name: paired(*ends, name)["mean"] for name in ("reward", "r1", "fid")}
        changes.append(
            f"{_label(run['method'], record)} by {mean['reward']:+.3f} of reward, {mean['r1']:+.3f} of R@1 and "
            f"{mean['fid']:+.3f} of FID"
        )
    return f"The pull to the base changes the end of {'; of '.join(changes)}. " if changes else ""


def _gaming_table(runs: Sequence[Mapping], record: dict) -> pd.DataFrame:
    """Means over seeds at three moments of every run."""
    names = {"updates": "updates", "second": "second reward", **ALIGNED}
    return pd.DataFrame(
        {
            "run": _run_label(run, record),
            "lr": f"{run['lr']:g}",
            "at": moment,
            "updates": of_seeds(points, "updates")["mean"],
            **{names[name]: of_seeds(points, name)["mean"] for name in ON_RUN},
            "seeds where the reward rose and R@1 fell": f"{_gamed(run)} of {len(points)}" if moment == "end" else "",
        }
        for run in runs
        for moment, points in _moments(run).items()
    )


def reviewers(records: Records) -> Section:
    title = "Three questions of the paper's reviewers"
    if all(_trained(records, name) is None for name in REVIEWERS):
        return Section("reviewers", title, command=claims.study_command(*REVIEWERS))
    answers = (_how_much_hangs, _is_gamed, _is_worth)
    see = " ".join(_answered(records, name, answer) for name, answer in zip(REVIEWERS, answers, strict=True))
    return Section("reviewers", title, see)


def _answered(records: Records, name: str, answer: Callable[[Records, dict], str]) -> str:
    record = _trained(records, name)
    if record is None:
        return f"On the study {name} nothing can be said yet: {claims.study_command(name)} runs it."
    return answer(records, record)


def _how_much_hangs(_: Records, record: dict) -> str:
    return (
        "How much hangs on the retrieval model that the reward starts from (figure strength): "
        f"{_strength(record)}{_tiny(record)}."
    )


def _is_gamed(records: Records, record: dict) -> str:
    runs = record["study"]["runs"]
    counts = ", ".join(f"{_gamed(run)} of {len(run['curves'])} ({_run_label(run, record)})" for run in runs)
    rows = pick.aligned(records)
    flagged = [style.label(row) for row in rows if hacked(row["alignment"]["gain"])]
    at_chosen = (
        f"at the learning rates of the benchmark {len(flagged)} of {len(rows)} methods are flagged (figure paths"
        f"{': ' if flagged else ''}{', '.join(flagged)})"
        if rows
        else f"the benchmark's own runs are not in these records ({claims.ALIGN_COMMAND})"
    )
    return (
        "Whether the reward is gamed (figure gaming): in long runs at three times the learning rate the reward rose "
        f"and the evaluator's R@1 fell past the stop in these seeds: {counts}{_tiny(record)}; {at_chosen}."
    )


def _is_worth(records: Records, record: dict) -> str:
    found = record["study"]
    with_spl, control = ([recalls(own["retrieval"]) for own in found["rewards"][arm]] for arm in ("spl", "control"))
    return (
        f"Whether SPL's gain is worth its cost (figure spl): text-to-motion R@1 changes by "
        f"{interval(paired(with_spl, control, 'R@1'), '+.2f')} points and the evaluator's R@1 after EasyTune by "
        f"{interval(paired(found['runs']['spl'], found['runs']['control'], 'r1'), '+.3f')}{_tiny(record)}, for "
        f"{_cost(records, record)}."
    )


def _cost(records: Records, record: dict) -> str:
    """Of a step with SPL in one without, by rows of the reward's training; in steps where there are none."""
    memory = [own["reading"]["peak"] / other["reading"]["peak"] for own, other in _with_and_without(records, "memory")]
    seconds = [
        own["timing"]["per_update"]["median"] / other["timing"]["per_update"]["median"]
        for own, other in _with_and_without(records, "step_time")
    ]
    named = (("memory", memory), ("time", seconds))
    ratios = [f"{of[0]:.3f} times the {what}" for what, of in named if of]
    if ratios:
        return f"{' and '.join(ratios)} of a step of the reward's training without it (section reward_training)"
    settings = record["settings"]
    return (
        f"{settings['refine']} steps after {settings['steps']}, which the control has too (what SPL adds to a step: "
        f"{STEP_COSTS})"
    )


def _with_and_without(records: Records, measure: str) -> list[tuple[dict, dict]]:
    """Rows of a step of the reward's training with SPL and without it, alike and of one size; a GPU's first."""
    good = [r for r in records if r["kind"] == f"reward_{measure}" and r["status"] == "ok"]
    return [
        (own, other)
        for like in compare.like_sets(good)
        for own in like
        for other in like
        if (own["case"]["method"], other["case"]["method"]) == ("reward:spl", "reward")
        and all(own["case"][name] == other["case"][name] for name in ("batch", "frames"))
    ]


def _tiny(record: dict) -> str:
    return " (at the tiny scale, which shows that it runs and no more)" if claims.rewards.is_tiny(record) else ""


def _label(method: str, record: dict) -> str:
    return style.label({"case": {"method": method, "steps": record["case"]["steps"]}})


def _run_label(run: Mapping, record: dict) -> str:
    return f"{_label(run['method'], record)}, {'pulled' if run['pull'] else 'free'}"


def _trained(records: Records, name: str) -> dict | None:
    try:
        return trained_study(records, name)
    except NotJudgedError:
        return None


def _study_of_base(records: Records, name: str) -> dict | None:
    try:
        return study(records, name)
    except NotJudgedError:
        return None
