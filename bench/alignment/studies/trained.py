"""Studies that train: rewards, and fine-tuning under them. Each asks for jobs and lays their results out.

retrieval: how well rewards find motions, trained with SPL and without. spl (C9): that, and what EasyTune makes of them.
windows (C8): the one-step prediction against the noise-aware reward, by which denoising steps are optimised.
feature_noise: what a reward learns from the noise of the released code. strength: how much hangs on the reward's
quality. gaming: past the best point, when to stop without test data, and a pull to the base. settings: EasyTune beside
DRaFT-T where one setting of the benchmark is changed.

Results of fine-tuning are lists over seeds, of test metrics by name (bench.motion.metrics.METRICS).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.alignment import reading
from bench.alignment.benchmark.cases import GRID, PUBLISHED_LR, REFERENCE_SEEDS
from bench.alignment.benchmark.jobs import SELECTION_SEED
from bench.alignment.rewards import RewardConfig
from bench.alignment.studies.jobs import Jobs, Results, Training, Tuning
from bench.cases import SEEDS
from bench.motion.metrics import POOL
from bench.records.types import (
    FEATURES,
    NOISED,
    FeatureNoiseStudy,
    GamingStudy,
    LongRuns,
    Metrics,
    RetrievalStudy,
    RunsUnderReward,
    RunsUnderSetting,
    SettingsStudy,
    SplStudy,
    StrengthStudy,
    TrainedReward,
    WindowsStudy,
)
from methods.finetune import FinetuneError

STEPS = 20
"""Denoising steps of the full scale."""
NOISY = "easytune:score=noisy"
LATER = "easytune:first=10"
"""EasyTune on the second half of the steps: the one-step predictions of the first do nothing for it (study windows)."""
TUNED: Mapping[str, tuple[float, int]] = {
    "easytune": (1e-5, 8),
    NOISY: (1e-5, 8),
    LATER: (3e-5, 12),
    "draft:k=10": (1e-4, 20),
}
"""Learning rate and trajectories of each method: about 15 seconds of one core each."""
AWARE = 1.0
"""The share of noised batches of a noise-aware reward; its least timesteps are as good as clean motion."""
REWARD_BATCH = 48
"""Motions of a step of a reward's training, and SPL's pool; published: 64."""
SECOND_SEED = 100
"""Of the reward that looks on."""
PULL = 100.0
GUIDANCE = (1.0, 4.0)
"""Without guidance, and more than any world's (bench.world.check) chooses."""
Arm = tuple[str, str]
"""A setting of the study settings, and a method."""


@dataclass(frozen=True)
class Scale:
    """How long the studies take."""

    reward_seeds: int = 5
    seeds: int = SEEDS
    """Of fine-tuning, and of the rewards of `retrieval`, `windows` and `feature_noise`."""
    denoising: int = STEPS
    """Denoising steps, in training and in measuring."""
    batch: int = 16
    """Prompts a trajectory."""
    steps: int = 200
    refine: int = 60
    """Steps of a reward's first and second stage."""
    compared: int = 600
    """Steps of the two rewards that are compared under noise, which is learned slowly."""
    shares: tuple[float, ...] = (0.1, 0.3, 1.0)
    levels: tuple[int, ...] = (1, 101, 201, 301, 401, 501, 601, 701, 801, 901)
    """Timesteps."""
    windows: tuple[tuple[int, int], ...] = ((0, 20), (0, 7), (7, 14), (14, 20))
    """First denoising step and the one past the last."""
    shorter: float = 1.0
    """Share of TUNED's trajectories."""
    long: Mapping[str, tuple[float, int]] | None = None
    """Learning rate and trajectories of the gaming study; None: GAMED."""
    long_seeds: int = 2
    points: int = 6
    """Measurements of a long run."""
    trajectories: int = 20
    grid: tuple[float, ...] = GRID
    """Of the runs of `settings`, as in the alignment benchmark."""
    test: int = 256
    validation: int = 64


GAMED: Mapping[str, tuple[float, int]] = {LATER: (1e-4, 24), "draft:k=10": (3e-4, 64)}
"""Three times the learning rate of TUNED, and longer."""

SCALES = {
    "reference": Scale(reward_seeds=REFERENCE_SEEDS, seeds=REFERENCE_SEEDS, long_seeds=REFERENCE_SEEDS),
    "full": Scale(),
    "tiny": Scale(
        reward_seeds=2,
        seeds=1,
        denoising=12,
        batch=4,
        steps=2,
        refine=2,
        compared=2,
        shares=(0.5,),
        levels=(1, 901),
        windows=((0, 12), (10, 12)),
        shorter=0.03,
        long={"draft:k=10": (3e-4, 2)},
        long_seeds=1,
        points=2,
        trajectories=1,
        grid=(PUBLISHED_LR,),
        test=32,
        validation=32,
    ),
}
"""reference: as many seeds as the alignment benchmark's size of that name. full: the same in less time. tiny: whether
it runs."""


def retrieval(jobs: Jobs, scale: Scale) -> RetrievalStudy:
    """How well rewards find motions by text: `rewards[arm]`, one a reward seed, of the arms of `spl` but the released
    one. It is for worlds of real motion, beside the embedded one's `spl`: without
    fine-tuning, since their splits may hold fewer prompts than that needs."""
    recipes = {arm: recipe for arm, recipe in _recipes(scale).items() if arm != "released"}
    trained = _each_seed(recipes, scale.seeds)
    return RetrievalStudy(_by_seed(trained, jobs.run(_flat(trained))))


def _recipes(scale: Scale) -> dict[str, RewardConfig]:
    """Arms that share a first stage: `pretrained` ends there, `control` and `spl` go on for as many steps, without and
    with SPL (`released`: as the released code has it; `k1`: as the paper, but every text that does not rank its
    motion first gives a pair)."""
    first = RewardConfig(batch=REWARD_BATCH, steps=scale.steps, refine=0)
    return {
        "pretrained": first,
        "control": replace(first, refine=scale.refine),
        "spl": replace(first, refine=scale.refine, spl=True),
        "released": replace(first, refine=scale.refine, spl=True, variant="released"),
        "k1": replace(first, refine=scale.refine, spl=True, top=1),
    }


def _each_seed(recipes: Mapping[str, RewardConfig], seeds: int) -> dict[str, list[Training]]:
    return {arm: [Training(replace(recipe, seed=seed)) for seed in range(seeds)] for arm, recipe in recipes.items()}


def _by_seed(trained: Mapping[str, Sequence[Training]], results: Results) -> dict[str, list[TrainedReward]]:
    return {arm: results.rewards(seeds) for arm, seeds in trained.items()}


def spl(jobs: Jobs, scale: Scale) -> SplStudy:
    """`rewards[arm]`: one a reward seed, of every arm of `_recipes`. `runs[arm]`: test
    metrics of EasyTune under the rewards of control and spl, run i under reward i; `base`: of the base."""
    trained = _each_seed(_recipes(scale), scale.reward_seeds)
    tuned = {
        arm: [_tuning(scale, LATER, seed, reward=training.reward) for seed, training in enumerate(trained[arm])]
        for arm in ("control", "spl")
    }
    base = [_base(scale, seed) for seed in range(scale.reward_seeds)]
    results = jobs.run([*_flat(trained), *_flat(tuned), *base])
    return SplStudy(
        rewards=_by_seed(trained, results),
        runs={arm: results.final(runs) for arm, runs in tuned.items()},
        base=results.final(base),
        method=LATER,
        lr=TUNED[LATER][0],
    )


def windows(jobs: Jobs, scale: Scale) -> WindowsStudy:
    """EasyTune by window of denoising steps and by what is scored, as many trajectories each.

    `windows`: [first, past the last] denoising step. `runs[score]`: for each window test metrics over seeds; score
    x0-hat is the one-step prediction, noisy the noise-aware reward. `base`. `rewards[arm]`: of a reward trained on
    clean motion and of a noise-aware one, by seed, retrieval on clean motions and at each of `levels` (timesteps), for
    the second with its time token.
    """
    clean = RewardConfig(batch=REWARD_BATCH, steps=scale.compared, refine=0)
    trained = {
        arm: [Training(replace(recipe, seed=seed), scale.levels) for seed in range(scale.seeds)]
        for arm, recipe in {"clean": clean, "aware": replace(clean, noise=AWARE)}.items()
    }
    tuned = {
        (score, window): [
            _tuning(scale, _windowed(score, window), seed, like=score_method) for seed in range(scale.seeds)
        ]
        for score, score_method in (("x0-hat", "easytune"), ("noisy", NOISY))
        for window in scale.windows
    }
    base = [_base(scale, seed) for seed in range(scale.seeds)]
    results = jobs.run([*_flat(trained), *_flat(tuned), *base])
    return WindowsStudy(
        windows=list(scale.windows),
        runs={
            score: [results.final(tuned[score, window]) for window in scale.windows] for score in ("x0-hat", "noisy")
        },
        base=results.final(base),
        levels=list(scale.levels),
        rewards=_by_seed(trained, results),
        lr=TUNED["easytune"][0],
    )


def _windowed(score: str, window: tuple[int, int]) -> str:
    first, stop = window
    return f"easytune:score={score},first={first},last={stop - 1}"


def feature_noise(jobs: Jobs, scale: Scale) -> FeatureNoiseStudy:
    """Rewards trained on clean motion, and on motion whose features are noised, as released: what the second is good
    for, on such motion and on the states that a rollout of the backbone scores.

    `rewards[arm][noised]`: of clean and aware, on features and states (rewards.config.NOISED), a result a reward seed,
    with retrieval at each of `levels` (timesteps); aware is given the timestep.
    """
    clean = RewardConfig(batch=REWARD_BATCH, steps=scale.compared, refine=0)
    trained = {
        (arm, noised): [Training(replace(recipe, seed=seed), scale.levels, noised) for seed in range(scale.seeds)]
        for arm, recipe in {"clean": clean, "aware": replace(clean, noise=AWARE, noised=FEATURES)}.items()
        for noised in NOISED
    }
    results = jobs.run(_flat(trained))
    return FeatureNoiseStudy(
        levels=list(scale.levels),
        rewards={
            arm: {noised: results.rewards(trained[arm, noised]) for noised in NOISED} for arm in ("clean", "aware")
        },
    )


def strength(jobs: Jobs, scale: Scale) -> StrengthStudy:
    """Fine-tuning under rewards of unequal quality: trained on a share of the clips, with SPL and without.

    `rewards`: a list of `share`, `spl`, `retrieval`, and `runs[method]`, test metrics over seeds; `of_world`: the same
    of the world's reward, which was trained longer, with noise, and with what an optimiser would try on it. `base`.
    """
    recipe = RewardConfig(batch=REWARD_BATCH, steps=scale.steps, refine=scale.refine)
    trained = {
        (share, with_spl): Training(replace(recipe, share=share, spl=with_spl))
        for share in scale.shares
        for with_spl in (False, True)
    }
    rows = [*trained.values()]
    of_world = Training(None)
    methods = (LATER, "draft:k=10")
    tuned = {
        (row, method): [_tuning(scale, method, seed, reward=row.reward) for seed in range(scale.seeds)]
        for row in (*rows, of_world)
        for method in methods
    }
    base = [_base(scale, seed) for seed in range(scale.seeds)]
    results = jobs.run([*rows, of_world, *_flat(tuned), *base])

    def under(row: Training, share: float | None = None, with_spl: bool | None = None) -> RunsUnderReward:
        runs = {method: results.final(tuned[row, method]) for method in methods}
        return RunsUnderReward(results.trained[row].retrieval, runs, share, with_spl)

    return StrengthStudy(
        rewards=[under(row, share, with_spl) for (share, with_spl), row in trained.items()],
        of_world=under(of_world),
        base=results.final(base),
    )


def gaming(jobs: Jobs, scale: Scale) -> GamingStudy:
    """Long runs at a learning rate three times too high, with a pull to the base and without.

    `runs`: a list of `method`, `lr`, `pull`, and `curves` (validation, one a seed): the held-out reward that is
    optimised, `second`, the score of another reward of the same data and another seed, and the evaluator's metrics.
    Both rewards are trained as published.
    """
    reward = RewardConfig(batch=REWARD_BATCH, steps=scale.steps, refine=0)
    second = replace(reward, seed=SECOND_SEED)
    runs = {
        (method, lr, pull): [
            replace(
                _tuning(scale, method, seed, reward=reward),
                lr=lr,
                trajectories=trajectories,
                second=second,
                pull=pull,
                measured=tuple(round(trajectories * point / scale.points) for point in range(1, scale.points)),
            )
            for seed in range(scale.long_seeds)
        ]
        for method, (lr, trajectories) in (scale.long or GAMED).items()
        for pull in (0.0, PULL)
    }
    results = jobs.run(_flat(runs))
    return GamingStudy(
        [
            LongRuns(method, lr, pull, [results.tuned[one].curve for one in seeds])
            for (method, lr, pull), seeds in runs.items()
        ]
    )


def settings(jobs: Jobs, scale: Scale) -> SettingsStudy:
    """EasyTune beside DRaFT-T where one setting of the alignment benchmark is changed, as many trajectories each, at
    the learning rate that a run on validation prompts chose from the grid for that method in that setting.

    `runs`: of each setting and method, test metrics over seeds. EasyTune sees noisy states by the noise-aware reward;
    in the benchmark's own setting also one-step predictions, and the first half of the steps or the second alone.
    """
    half = scale.denoising // 2
    windows = ((0, half), (half, scale.denoising))
    narrower = [_windowed(score, window) for score in ("noisy", "x0-hat") for window in windows]
    changes: dict[str, tuple[dict[str, Any], Sequence[str]]] = {
        "the benchmark's": ({}, ("draft", NOISY, "easytune", *narrower)),
        **{f"guidance {by:g}": ({"guidance": by}, ("draft", NOISY)) for by in GUIDANCE},
        **{f"{steps} steps": ({"steps": steps}, ("draft", NOISY)) for steps in (half, 2 * scale.denoising)},
        **{f"batch {size}": ({"batch": size}, ("draft", NOISY)) for size in (scale.batch // 2, 2 * scale.batch)},
        "a pull to the base": ({"pull": PULL}, ("draft", NOISY)),
    }
    arms = {
        (setting, method): replace(_like(scale), method=method, trajectories=scale.trajectories, **changed)
        for setting, (changed, methods) in changes.items()
        for method in methods
    }
    rates = _rates(jobs, scale, arms)
    tuned = {arm: [replace(one, lr=rates[arm], seed=seed) for seed in range(scale.seeds)] for arm, one in arms.items()}
    results = jobs.run(_flat(tuned))
    return SettingsStudy([RunsUnderSetting(*arm, rates[arm], results.final(of)) for arm, of in tuned.items()])


def _rates(jobs: Jobs, scale: Scale, arms: Mapping[Arm, Tuning]) -> dict[Arm, float]:
    """The learning rate of each, chosen as in the alignment benchmark. FinetuneError where none trains one."""
    tried: dict[Arm, dict[float, Metrics]] = {arm: {} for arm in arms}
    while True:
        untried = [(arm, lr) for arm in arms for lr in reading.untried(tried[arm], scale.grid, PUBLISHED_LR)]
        if not untried:
            break
        work = [
            replace(arms[arm], lr=lr, seed=SELECTION_SEED, measured=(scale.trajectories,), test=POOL)
            for arm, lr in untried
        ]
        tuned = jobs.run(work, stopped=True).tuned
        for (arm, lr), one in zip(untried, work, strict=True):
            tried[arm][lr] = {} if tuned[one].reason else tuned[one].curve[-1].metrics
            if not tried[arm][lr] and lr == min(scale.grid):
                raise FinetuneError(f"{one.label}: {tuned[one].reason}")
    return {arm: best for arm, of in tried.items() if (best := reading.choose(of)) is not None}


def _tuning(
    scale: Scale, method: str, seed: int, reward: RewardConfig | None = None, like: str | None = None
) -> Tuning:
    """A run with the learning rate and length of `like`, the method itself if None."""
    lr, trajectories = TUNED[like or method]
    trajectories = max(1, round(scale.shorter * trajectories))
    return replace(_like(scale), method=method, lr=lr, trajectories=trajectories, seed=seed, reward=reward)


def _like(scale: Scale) -> Tuning:
    return Tuning(steps=scale.denoising, batch=scale.batch, test=scale.test, validation=scale.validation)


def _base(scale: Scale, seed: int) -> Tuning:
    return Tuning(seed=seed, steps=scale.denoising, test=scale.test, validation=scale.validation)


def _flat(work: Mapping[Any, Sequence[Any]]) -> list[Any]:
    return [one for several in work.values() for one in several]
