"""How a reward is trained: pre-training (stage one), then the same with or without SPL (stage two)."""

from dataclasses import asdict, dataclass

from bench.records.types import NOISED, STATES
from methods.errors import InputError
from methods.rewards.noise import NoiseConfig
from methods.rewards.preference import SplConfig

STAGE_ONE = ("seed", "share", "steps", "noise", "noised", "max_timestep", "mode", "batch", "lr")
"""The options that the first stage's result depends on."""


@dataclass(frozen=True)
class RewardConfig:
    """The recipe of one reward. InputError for an option that makes no sense."""

    seed: int = 0
    share: float = 1.0
    """Of the training clips, above 0: a random subset, which a larger share of the same seed contains."""
    steps: int = 400
    """Of stage one, pre-training."""
    refine: int = 120
    """Steps of stage two (0: none)."""
    spl: bool = False
    """SPL in stage two. Without it stage two is the control: as long, from the same weights, with the same losses."""
    variant: str = "paper"
    """Of SPL: paper or released."""
    pool: int | None = None
    """Of SPL: motions among which a text is to find its match (None: those of the batch)."""
    top: int = 10
    """Of SPL: K."""
    noise: float = 0.0
    """How probable it is that a batch is noised, in both stages. 0: the reward is not noise-aware."""
    noised: str = STATES
    """One of NOISED."""
    max_timestep: int = 999
    """The whole schedule, since a rollout may score any of its steps; 500 is fixed in the released code, which leaves
    the first half of a trajectory to be scored at timesteps that were never trained."""
    mode: str = "M1T0"
    """Which encoders get the time token: see methods.rewards.noise.MODES."""
    batch: int = 64
    lr: float = 1e-3
    """Of stage one: a small network's. Published: 1e-4."""
    refine_lr: float = 1e-4
    """Of stage two, a tenth as published (1e-5)."""

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InputError(f"share must be above 0 and at most 1, not {self.share}")
        for name, least in (("steps", 1), ("refine", 0), ("batch", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be {least} or more, not {getattr(self, name)}")
        for name in ("lr", "refine_lr"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be above 0, not {getattr(self, name)}")
        NoiseConfig(self.noise, self.max_timestep, self.mode)
        if self.noised not in NOISED:
            raise InputError(f"noise is added to {' or '.join(NOISED)}, not to {self.noised!r}: choose one of these")
        SplConfig(variant=self.variant, pool=self.pool, top=self.top)
        if self.spl and not self.refine:
            raise InputError("spl is trained in stage two, which has no steps: give refine some")
        if self.pool is not None and self.pool < self.batch:
            raise InputError(f"pool must hold the batch's {self.batch} motions, not {self.pool}: enlarge it")
        if self.spl:
            self.check_pool(self.pool or self.batch)

    def check_pool(self, motions: int) -> None:
        """InputError for a pool with no more motions than SPL's K, of which none could ever be missed."""
        if motions <= self.top:
            raise InputError(
                f"spl: in a pool of {motions} motions every text's match is among the top {self.top}: enlarge "
                "share, batch or pool, or lower top"
            )

    def noise_config(self) -> NoiseConfig | None:
        """Of both stages; None where no batch is noised."""
        return NoiseConfig(self.noise, self.max_timestep, self.mode) if self.noise else None

    def spl_config(self) -> SplConfig | None:
        """Of stage two; None for the control."""
        return SplConfig(variant=self.variant, pool=self.pool, top=self.top) if self.spl else None

    def stage_one(self) -> dict:
        """What the first stage's result depends on, as JSON types."""
        return {name: getattr(self, name) for name in STAGE_ONE}

    def stage_two(self) -> dict:
        """What the second stage's result depends on beside the first's, as JSON types."""
        spl = self.spl_config()
        return {"refine": self.refine, "refine_lr": self.refine_lr, "spl": spl and asdict(spl)}
