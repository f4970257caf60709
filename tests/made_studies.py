"""Made-up records of the studies of the reward, for tests of what is read off them.

Numbers are drawn from fixed seeds about given means. Between seeds they differ much, between runs of one seed a
twentieth of that, as where runs share their noise.
"""

import math
import random
from collections.abc import Mapping, Sequence

from bench.records import StudyRecord
from bench.records.types import (
    Environment,
    FeatureNoiseStudy,
    GamingStudy,
    LongRuns,
    Metrics,
    Noise,
    Point,
    Retrieval,
    RetrievalStudy,
    RewardTraining,
    RunsUnderReward,
    RunsUnderSetting,
    SettingsStudy,
    SplStudy,
    StrengthStudy,
    Study,
    StudyCase,
    StudySettings,
    TrainedReward,
    WindowsStudy,
)

STEPS = 20
LEVELS = (1, 101, 201, 301, 401, 501, 601, 701, 801, 901)
WINDOWS = ((0, 20), (0, 7), (7, 14), (14, 20))
BASE = 0.45


def row(study: Study, scale: str | None = "full", world: str = "embedded") -> StudyRecord:
    """A record as bench.alignment.studies makes it; `scale` None is of a study without training."""
    name = str(type(study).__struct_config__.tag)
    words = [name, *([world] if world != "embedded" else []), *([scale] if scale not in (None, "full") else [])]
    return StudyRecord(
        status="ok",
        case=StudyCase(name, world, STEPS, "-".join(words), scale),
        settings=StudySettings(threads=1, **({} if scale is None else {"steps": 400, "refine": 120, "seeds": 3})),
        environment=Environment(device="a CPU", torch="2.13.0"),
        study=study,
    )


def runs(r1: float, seeds: int = 3, spread: float = 0.03) -> list[Metrics]:
    """Test metrics over seeds: the better R@1, the better MM-Dist, FID and reward. Equal seeds share most noise."""
    found = []
    for seed in range(seeds):
        own = r1 + random.Random(seed).gauss(0, spread) + random.Random(f"{seed} {r1:.3f}").gauss(0, spread / 20)
        found.append(
            {"r1": own, "r2": own + 0.15, "r3": own + 0.2, "mm_dist": 4 - 2 * own, "fid": 2 - own, "reward": own + 0.2}
        )
    return found


def retrieval(r1: float, seed: int = 0) -> Retrieval:
    """Text-to-motion R@1 of about `r1` per cent among all."""
    own = r1 + random.Random(seed).gauss(0, 1) + random.Random(f"{seed} {r1:.3f}").gauss(0, 0.2)
    direction = {f"R@{k}": min(100.0, own * k**0.5) for k in (1, 2, 3, 5, 10)} | {"MedR": 200 / own}
    pool = {name: min(100.0, 2 * value) for name, value in direction.items()} | {"MedR": 1.5}
    directions = ("text_to_motion", "motion_to_text")
    return Retrieval(1000, {name: {**direction} for name in directions}, {name: {**pool} for name in directions})


def trained(r1: float, seed: int = 0, levels: Sequence[Retrieval] = (), mined: float | None = None) -> TrainedReward:
    """A reward that retrieves `r1` on clean motion."""
    return TrainedReward(retrieval(r1, seed), list(levels), RewardTraining(retrieval(r1), mined))


def noise() -> StudyRecord:
    """The score told the timestep follows the final one from timestep 751 on, its R-precision is never lost."""
    timestep = [float(1 + 50 * n) for n in reversed(range(STEPS))]
    clean = [1 - t / 1000 for t in timestep]
    study = Noise(
        timestep=timestep,
        **{f"correlation_{name}": [c**power for c in clean] for name, power in (("aware", 0.3), ("clean", 1.5))},
        **{f"within_{name}": [c**power for c in clean] for name, power in (("aware", 0.5), ("clean", 2))},
        correlation_predicted=[math.sin(c * math.pi / 2) for c in clean],
        within_predicted=[c**0.7 for c in clean],
        precision_aware=[0.10 + 0.5 * c for c in clean],
        precision_clean=[0.04 + 0.56 * c**3 for c in clean],
        chance=[0.04] * STEPS,
    )
    return row(study, scale=None)


def windows(gains: Mapping[str, tuple[float, ...]] | None = None, seeds: int = 3, scale: str = "full") -> StudyRecord:
    """`gains[score]`: what R@1 gains over the base in each window."""
    gains = gains or {"x0-hat": (0.06, 0.01, 0.03, 0.05), "noisy": (0.075, 0.04, 0.03, 0.035)}
    levels = {
        "aware": [retrieval(38 - 0.03 * level, level) for level in LEVELS],
        "clean": [retrieval(40 * math.exp(-level / 250), level) for level in LEVELS],
    }
    study = WindowsStudy(
        windows=list(WINDOWS),
        runs={score: [runs(BASE + gain, seeds) for gain in of] for score, of in gains.items()},
        base=runs(BASE, seeds),
        levels=list(LEVELS),
        rewards={arm: [trained(40, seed, of) for seed in range(seeds)] for arm, of in levels.items()},
        lr=1e-5,
    )
    return row(study, scale)


def feature_noise(seeds: int = 3, scale: str = "full") -> StudyRecord:
    """On noisy features the noise-aware reward gains most at the noisiest level, on states nowhere."""
    falls = {"features": {"clean": 900, "aware": 3000}, "states": {"clean": 400, "aware": 380}}
    study = FeatureNoiseStudy(
        levels=list(LEVELS),
        rewards={
            arm: {
                noised: [
                    trained(40, seed, [retrieval(40 * math.exp(-level / falls[noised][arm]), seed) for level in LEVELS])
                    for seed in range(seeds)
                ]
                for noised in falls
            }
            for arm in ("clean", "aware")
        },
    )
    return row(study, scale)


def own_retrieval(motion: str, r1: float = 20.0) -> StudyRecord:
    """The study `retrieval` of a world of real motion."""
    arms = {**spl(seeds=3).study.rewards, "control": _rewards(r1, None, 3)}
    del arms["released"]
    return row(RetrievalStudy(arms), world=motion)


def _rewards(r1: float, mined: float | None, seeds: int) -> list[TrainedReward]:
    return [trained(r1, seed, mined=mined) for seed in range(seeds)]


def spl(gain: float = 1.0, released: float = 0.4, seeds: int = 5, scale: str = "full") -> StudyRecord:
    """`gain`, `released`: points of R@1 over the control, which has 30%."""
    arms = {"pretrained": 28.0, "control": 30.0, "spl": 30 + gain, "released": 30 + released, "k1": 31.0}
    mined = {"spl": 0.004, "released": 0.003, "k1": 0.4}
    study = SplStudy(
        rewards={arm: _rewards(r1, mined.get(arm), seeds) for arm, r1 in arms.items()},
        runs={"control": runs(BASE + 0.06, seeds), "spl": runs(BASE + 0.07, seeds)},
        base=runs(BASE, seeds),
        method="easytune:first=10",
        lr=1e-5,
    )
    return row(study, scale)


def strength() -> StudyRecord:
    """The better the reward, the better what it trains; DRaFT hangs on it twice as much as EasyTune."""
    rewards = []
    for number, share in enumerate((0.1, 0.3, 1.0)):
        for with_spl in (False, True):
            r1 = 15 + 8 * number + 2 * with_spl
            gains = {"easytune:first=10": 0.002 * r1, "draft:k=10": 0.004 * r1 - 0.04}
            tuned = {method: runs(BASE + gain) for method, gain in gains.items()}
            rewards.append(RunsUnderReward(retrieval(r1), tuned, share, with_spl))
    tuned = {method: runs(BASE + 0.06) for method in ("easytune:first=10", "draft:k=10")}
    return row(StrengthStudy(rewards, RunsUnderReward(retrieval(60.0), tuned), runs(BASE)))


def gaming(peak: int = 4, points: int = 10, seeds: int = 2) -> StudyRecord:
    """Freely, the reward rises all the way, the second one and the evaluator's R@1 until measurement `peak`; pulled to
    the base, all of them rise."""
    made = []
    for method, lr, updates in (("easytune", 3e-5, 60), ("draft:k=10", 3e-4, 12)):
        for pull in (0.0, 100.0):
            curves = []
            for seed in range(seeds):
                shift = random.Random(f"{method}{seed}").gauss(0, 0.01)
                curves.append(
                    [point(n, updates, shift, n if pull else min(n, 2 * peak - n)) for n in range(points + 1)]
                )
            made.append(LongRuns(method, lr, pull, curves))
    return row(GamingStudy(made))


def settings(seeds: int = 3, gains: Mapping[str, float] | None = None) -> StudyRecord:
    """`gains[setting]`: what EasyTune's R@1 is ahead of DRaFT's."""
    gains = gains or {"the benchmark's": 0.2, "4 steps": 0.0, "batch 2": -0.2}
    made = []
    for setting, gain in gains.items():
        for method, ahead in (("draft", 0.0), ("easytune:score=noisy", gain)):
            made.append(RunsUnderSetting(setting, method, 1e-5, runs(BASE + ahead, seeds)))
    return row(SettingsStudy(made))


def point(n: int, updates: int, shift: float, good: int) -> Point:
    metrics = {
        "reward": 0.6 + 0.03 * n + shift,
        "second": 0.6 + 0.01 * good + shift,
        "r1": BASE + 0.015 * good + shift,
        "mm_dist": 3 - 0.05 * good + shift,
        "fid": 1.5 - 0.04 * good + shift,
    }
    return Point(3 * n, updates * n, 48 * n, 9.0 * n, 9.0 * n, metrics)
