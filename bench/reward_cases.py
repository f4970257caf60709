"""The reward's training as cases: one optimiser step of its pre-training, or of its fine-tuning by SPL."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.cases import written_id
from bench.meters import METERS
from bench.profiles import Profile, profile
from methods.errors import InputError
from methods.registry import REWARDS, look_up
from methods.rewards.preference import SplConfig

if TYPE_CHECKING:
    from bench.records.types import RewardTrainingCase

NAMES_IN_IDS = {"spm": "mld", "spm-tiny": "mld-tiny"}
"""Ids are older than the names of rewards, and never change: they named the backbone of the same size."""


@dataclass(frozen=True)
class RewardCase:
    """One row: a step of the reward's training under one setting, read by one meter. InputError as cases.Case."""

    spl: bool = False
    """SPL beside the pre-training losses."""
    pool: int | None = None
    """Motions among which SPL's texts are to find their match (None: those of the batch)."""
    reward: str = "spm"
    """Name of a reward that can be trained, see methods.registry."""
    batch: int = 64
    """Pairs of text and motion (B), as published."""
    frames: int = 196
    """Frames a motion (F), all valid."""
    profile: str = "paper"
    """Spec of the profile, see bench.profiles; not a frozen reward's."""
    meter: str = "simulated"
    """Name of the meter, see bench.meters."""
    seed: int = 0

    def __post_init__(self) -> None:
        look_up(METERS, "meter", self.meter)
        entry = look_up(REWARDS, "reward", self.reward)
        if entry.sentences is None:
            raise InputError(f"reward {self.reward!r} cannot be trained: choose one whose entry gives its sentences")
        if self.batch < 1 or not 1 <= self.frames <= entry.most_frames:
            raise InputError(
                f"batch must be at least 1 and frames 1 to {entry.most_frames}, not {self.batch} and {self.frames}"
            )
        switches = profile(self.profile)
        if switches.reward_frozen:
            raise InputError(f"a frozen reward cannot be trained: choose another profile than {self.profile}")
        if switches != Profile(False, switches.train_mode, switches.attention, switches.precision):
            raise InputError(
                "of a profile, the reward's training takes train_mode, attention and precision alone: choose another "
                f"than {self.profile}"
            )
        if self.pool is not None and (not self.spl or self.pool < self.batch):
            raise InputError(f"a pool is SPL's and holds the batch's {self.batch} motions: {self.pool} is none")
        top = SplConfig().top
        if self.spl and self.motions < top:
            raise InputError(f"SPL needs {top} motions in its pool, not {self.motions}: enlarge the batch or the pool")

    @property
    def method(self) -> str:
        """As the spec of a method is written: reward, reward:spl or reward:spl,pool=256."""
        options = (["spl"] if self.spl else []) + ([f"pool={self.pool}"] if self.pool else [])
        return "reward" + (":" + ",".join(options) if options else "")

    @property
    def motions(self) -> int:
        """How many are encoded in a step."""
        return self.pool or self.batch

    @property
    def id(self) -> str:
        """Readable and stable, as Case.id."""
        return reward_case_id(self)


def reward_case_id(case: "RewardCase | RewardTrainingCase") -> str:
    """As bench.cases.case_id."""
    model = NAMES_IN_IDS.get(case.reward, case.reward)
    words = [case.method, model, f"B{case.batch}", f"F{case.frames}", case.profile]
    if case.seed:
        words.append(f"seed{case.seed}")
    return written_id([*words, case.meter])


def memory_matrix() -> list[RewardCase]:
    """At the published size."""
    return [RewardCase(), RewardCase(spl=True), RewardCase(spl=True, pool=256)]


def time_matrix(meter: str) -> list[RewardCase]:
    """What is timed: the published size on a GPU; on a CPU the published model and length, and a batch of 10."""
    if meter == "cuda":
        return [replace(case, meter="cuda") for case in memory_matrix()]
    return [replace(case, meter="host", batch=10, pool=case.pool and 40) for case in memory_matrix()]
