"""What a record is, kind by kind. A record is one row of a result; everything in it explains itself.

Types are decoded and checked once, where a file is loaded (see load); from there on every field is what it says here.
Sizes are bytes, times seconds. Fields that a kind of row cannot have are not in it.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field, structs

from bench.labels import method_label
from bench.meters import METERS, Reading
from methods.parallel import SHARDINGS

SCHEMA = 2
"""1: before records were typed; those are brought up to date where they are read (see upgrade)."""

Status = Literal["ok", "oom", "unavailable", "failed"]
"""ok; oom: did not fit; unavailable: the meter needs what this machine lacks; failed: anything else, see `reason`."""
Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""Of 64 bits, as every integer of a record: tables and arrays hold no larger ones."""
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Size = Annotated[int, Meta(ge=1, le=2**63 - 1)]
"""Of what is run: none of it is empty."""
MOST = 1e30
"""Of any figure: what is larger overflows where it is summed, squared and drawn."""
Real = Annotated[float, Meta(ge=-MOST, le=MOST)]
Seconds = Annotated[float, Meta(ge=0, le=MOST)]
Elapsed = Annotated[float, Meta(gt=0, le=MOST)]
"""Seconds that an update took."""
Ratio = Annotated[float, Meta(gt=0, le=MOST)]
Norm = Annotated[float, Meta(ge=0, le=MOST)]
Sharding = Annotated[str, Meta(pattern=f"^({'|'.join(SHARDINGS)})$")]
MeterName = Annotated[str, Meta(pattern=f"^({'|'.join(METERS)})$")]
DeviceType = Annotated[str, Meta(pattern=f"^({'|'.join(meter.device for meter in METERS.values() if meter.device)})$")]
"""Of a torch device."""
MOST_SEEDS = 10
"""Of whatever was repeated over seeds: as many as intervals are known for (bench.alignment.reading.T_QUANTILES)."""
Metrics = dict[str, Real | None]
"""Figures by the name of their metric (bench.motion.metrics.METRICS); None for what could not be measured."""


# Where and how.


class Environment(Struct, frozen=True, omit_defaults=True):
    """Where a row was measured, and of which code."""

    torch: str | None = None
    python: str | None = None
    machine: str | None = None
    system: str | None = None
    cpus: Integer | None = None
    commit: str | None = None
    code: str | None = None
    """Digest of the code that ran, third parties' methods included (bench.identity)."""
    device: str | None = None
    cuda: str | None = None
    """CUDA's version, of rows of a GPU."""


class Settings(Struct, frozen=True, omit_defaults=True):
    """Every setting that changes bytes or time, as in effect."""

    reward_frozen: bool
    train_mode: bool
    attention: str
    precision: str
    optimizer: str
    reward_means: bool = False
    skip_unused: bool = False
    used_only: bool = False
    encode_once: bool = False
    score: Integer = 0
    crop: bool = False
    recompute: bool = False
    kept: Integer = 0
    text_encoder: bool = False
    lora: Integer = 0
    compile: bool = False
    matmul_precision: str | None = None
    threads: Integer | None = None
    # Of a GPU.
    cublas_workspace: str | None = None
    cudnn_benchmark: bool | None = None
    cudnn_deterministic: bool | None = None
    allow_tf32: bool | None = None
    allocator: dict[str, str | Integer | float | bool] | str | None = None


class AlignmentSettings(Struct, frozen=True):
    """A profile's switches, a size's (bench.alignment.benchmark.cases.Size), and the digest of the world's file."""

    reward_frozen: bool
    train_mode: bool
    attention: str
    precision: str
    steps: Count
    batch: Count
    prompts: Count
    warm_up: Count
    trajectories: Count
    measured: tuple[Integer, ...]
    selection: Count
    grid: tuple[float, ...]
    validation: Count
    test: Count
    repeats: Count
    optimizer: str
    threads: Count
    world: str | None


class StudySettings(Struct, frozen=True, omit_defaults=True):
    """Threads, the digest of the world's file, and a scale's sizes (bench.alignment.studies.trained.Scale)."""

    threads: Count
    world: str | None = None
    reward_seeds: Integer | None = None
    seeds: Integer | None = None
    denoising: Integer | None = None
    batch: Integer | None = None
    steps: Integer | None = None
    refine: Integer | None = None
    compared: Integer | None = None
    shares: tuple[float, ...] | None = None
    levels: tuple[Integer, ...] | None = None
    windows: tuple[tuple[Integer, Integer], ...] | None = None
    shorter: Real | None = None
    long: dict[str, tuple[float, Integer]] | None = None
    long_seeds: Integer | None = None
    points: Integer | None = None
    trajectories: Integer | None = None
    grid: tuple[float, ...] | None = None
    test: Integer | None = None
    validation: Integer | None = None


# What was measured: cases.


class MethodCase(Struct, frozen=True, omit_defaults=True):
    """As bench.cases.Case, with its id."""

    method: str
    backbone: str
    steps: Size
    batch: Size
    frames: Size
    profile: str
    meter: MeterName
    seed: Integer
    id: str
    reward: str = ""
    """Empty: the backbone's default."""
    ranks: Size = 1
    sharding: Sharding = "none"

    @property
    def label(self) -> str:
        return method_label(self.method, self.steps)


class RewardTrainingCase(Struct, frozen=True):
    """As bench.reward_cases.RewardCase, with its id."""

    method: str
    spl: bool
    pool: Integer | None
    reward: str
    batch: Size
    frames: Size
    profile: str
    meter: MeterName
    seed: Integer
    id: str

    @property
    def label(self) -> str:
        if not self.spl:
            return "the reward's pre-training"
        return "SPL" if self.pool is None else f"SPL, pool of {self.pool}"


def _meter_of(device: str) -> str:
    return next(meter.name for meter in METERS.values() if meter.device == device)


class AlignmentCase(Struct, frozen=True, omit_defaults=True):
    """As bench.alignment.benchmark.AlignmentCase, with what its size says."""

    method: str
    world: str
    steps: Size
    batch: Size
    size: str
    seeds: Size
    id: str
    device: DeviceType = "cpu"

    @property
    def meter(self) -> str:
        """Of the memory that stands beside it."""
        return _meter_of(self.device)

    @property
    def label(self) -> str:
        return method_label(self.method, self.steps)


class StudyCase(Struct, frozen=True, omit_defaults=True):
    name: str
    world: str
    steps: Size
    """Denoising steps."""
    id: str
    scale: str | None = None
    """None: a study that does not train."""
    device: DeviceType = "cpu"

    @property
    def meter(self) -> str:
        return _meter_of(self.device)


# What came out: a method's plan, times, alignment.


class HeldOverDraws(Struct, frozen=True):
    """Denoiser calls held at once, over many draws of a method's plan."""

    draws: Size
    least: Count
    quartiles: tuple[Integer, Integer, Integer]
    most: Count


class PlanSummary(Struct, frozen=True):
    """The plan as it was drawn (methods.plan.Plan); where it is random, how many calls other draws hold at once."""

    grid: str
    total: Size
    calls: Size
    recorded: Size
    held: Size
    scores: Size
    updates: Size
    held_over_draws: HeldOverDraws


class Spread(Struct, frozen=True):
    """Median, least, most and the quartiles' distance, seconds."""

    median: Elapsed
    min: Elapsed
    max: Elapsed
    iqr: Seconds


class Against(Struct, frozen=True):
    """Times of another revision, update by update."""

    revision: str
    ratio: Ratio
    """Median of `ratios`."""
    ratio_of_fastest: Ratio
    ratios: list[Ratio]
    """New over old, a pair each."""


class Timing(Struct, frozen=True, omit_defaults=True):
    rounds: Annotated[int, Meta(ge=1)]
    interleaved: bool
    seconds_per_update: list[Elapsed]
    per_update: Spread
    per_optimiser_step: Spread
    per_sample: Spread
    against: Against | None = None


class Interval(Struct, frozen=True):
    """A mean over seeds, and the half-width of its 95% interval by Student's t; None for what was not measured, or what
    one seed does not give."""

    mean: Real | None
    half_width: Norm | None


class Point(Struct, frozen=True):
    """Where a fine-tuning run was measured: totals since its start, and metrics on validation prompts."""

    trajectories: Real
    updates: Real
    samples: Real
    seconds: Seconds
    cpu_seconds: Seconds
    metrics: Metrics


Curve = list[Point]


class TriedRate(Struct, frozen=True, omit_defaults=True):
    """A learning rate with what its run ended with, or why it did not."""

    lr: Real
    metrics: Metrics
    reason: str | None = None


MotionKind = Literal["place", "way", "turn"]
"""By the real motion, see bench.alignment.motions.KINDS."""
PackedMotion = Annotated[str, Meta(pattern=r"\A([A-Za-z0-9+/]{176})+\Z")]
"""A motion of one frame or more, 176 characters each, as bench.alignment.motions.pack writes it."""


class ShownMotion(Struct, frozen=True):
    """One prompt's motions."""

    kind: MotionKind
    text: str
    fps: Annotated[int, Meta(ge=1, le=1000)]
    real: PackedMotion
    base: PackedMotion
    tuned: PackedMotion


class AlignmentMemory(Struct, frozen=True):
    peak: Size
    resident: Count
    sampling: Count
    what: str


class ToReach(Struct, frozen=True):
    """What the method needed to reach a reward; None for what it never reached, with `note` saying why."""

    of: str
    reward: Real | None
    trajectories: Real | None
    seconds: Seconds | None
    peak_bytes: Count | None
    note: str | None


Edge = Literal["lowest", "highest"]


class Alignment(Struct, frozen=True):
    """A method's runs beside the base (bench.alignment.benchmark)."""

    method: str
    lr: Real
    grid: list[Real]
    at_edge: Edge | None
    lr_by_reward: Real | None
    selection: list[TriedRate]
    seeds: Annotated[list[Integer], Meta(min_length=1)]
    curves: Annotated[list[Annotated[Curve, Meta(min_length=1)]], Meta(min_length=1)]
    finals: Annotated[list[Metrics], Meta(min_length=1)]
    bases: Annotated[list[Metrics], Meta(min_length=1)]
    real: Metrics
    motions: list[ShownMotion]
    memory: AlignmentMemory
    clock: str
    final: dict[str, Interval]
    base: dict[str, Interval]
    gain: dict[str, Interval]
    to_reach: ToReach
    flops: Norm | None = None
    """Of an update, the mean over draws of its plan (bench.flops); None in rows of before they were counted."""


# What came out: studies.


ARMS = ("pretrained", "control", "spl", "released", "k1")
"""Of the studies spl and retrieval (which leaves RELEASED out): how their rewards were trained."""
RELEASED = "released"
WITH_SPL = ("spl", RELEASED, "k1")
TUNED_ARMS = ("control", "spl")
"""Whose rewards the study spl fine-tunes under."""
SCORED = ("x0-hat", "noisy")
"""In the study windows: the one-step prediction, and the noisy state by the noise-aware reward."""
STATES, FEATURES = NOISED = ("states", "features")
"""What noise is added to: latents of the backbone, which are then decoded, as a rollout scores its states; or the
motion's own features, as released, which a rollout has only where the diffusion is over features."""
COMPARED = ("clean", "aware")
"""In the studies windows and feature_noise: a reward trained on clean motion, and a noise-aware one."""


class Retrieval(Struct, frozen=True):
    """Retrieval by direction and figure ("text_to_motion", "R@1"): among all, and in pools of 32 where there are as
    many."""

    count: Count
    all: dict[str, dict[str, Real]]
    pools: dict[str, dict[str, Real]] | None


class RewardTraining(Struct, frozen=True):
    val: Retrieval
    mined: Real | None
    """Share of SPL's texts that gave a pair; None without SPL."""


class TrainedReward(Struct, frozen=True):
    """What a trained reward retrieves on the test split: clean, and at each level of noise that was asked for."""

    retrieval: Retrieval
    levels: list[Retrieval]
    training: RewardTraining | None
    """None: the world's reward, which was not trained here."""


class Chain(Struct, frozen=True, tag_field="name", tag="chain"):
    """By denoising step, see bench.alignment.studies.base_model.chain."""

    coefficient: list[Norm]
    coefficient_reward: list[Norm]
    through_chain: list[Norm]
    stepwise: list[Norm]
    timestep: list[Integer]


class Similarity(Struct, frozen=True, tag_field="name", tag="similarity"):
    """By denoising step, see bench.alignment.studies.base_model.similarity."""

    timestep: list[Integer]
    signal: list[Real]
    noisy: list[Real]
    predicted: list[Real]
    noisy_reward: list[Real]
    predicted_reward: list[Real]
    clean_reward: list[Real]
    other: list[Real]


class Noise(Struct, frozen=True, tag_field="name", tag="noise"):
    """By denoising step, see bench.alignment.studies.base_model.noise."""

    timestep: list[Real]
    correlation_aware: list[Real]
    within_aware: list[Real]
    correlation_clean: list[Real]
    within_clean: list[Real]
    correlation_predicted: list[Real]
    within_predicted: list[Real]
    precision_aware: list[Real]
    precision_clean: list[Real]
    chance: list[Real]


class RetrievalStudy(Struct, frozen=True, tag_field="name", tag="retrieval"):
    """Of the studies that train, here and below: see bench.alignment.studies.trained."""

    rewards: dict[str, list[TrainedReward]]
    """By arm, one a seed."""


class SplStudy(Struct, frozen=True, tag_field="name", tag="spl"):
    rewards: dict[str, list[TrainedReward]]
    runs: dict[str, list[Metrics]]
    base: list[Metrics]
    method: str
    lr: Real


class WindowsStudy(Struct, frozen=True, tag_field="name", tag="windows"):
    windows: list[tuple[Integer, Integer]]
    runs: dict[str, list[list[Metrics]]]
    base: list[Metrics]
    levels: list[Integer]
    rewards: dict[str, list[TrainedReward]]
    lr: Real


class FeatureNoiseStudy(Struct, frozen=True, tag_field="name", tag="feature_noise"):
    levels: list[Integer]
    rewards: dict[str, dict[str, list[TrainedReward]]]


class RunsUnderReward(Struct, frozen=True, omit_defaults=True):
    """Fine-tuning runs of each method under one reward, over seeds."""

    retrieval: Retrieval
    runs: dict[str, list[Metrics]]
    share: Real | None = None
    """Of the clips that the reward was trained on; None: the world's."""
    spl: bool | None = None


class StrengthStudy(Struct, frozen=True, tag_field="name", tag="strength"):
    rewards: list[RunsUnderReward]
    of_world: RunsUnderReward = field(name="own")
    base: list[Metrics]


class LongRuns(Struct, frozen=True):
    method: str
    lr: Real
    pull: Real
    curves: list[Curve]


class GamingStudy(Struct, frozen=True, tag_field="name", tag="gaming"):
    runs: list[LongRuns]


class RunsUnderSetting(Struct, frozen=True):
    """Fine-tuning runs of a method under a setting, over seeds."""

    setting: str
    method: str
    lr: Real
    runs: list[Metrics]


class SettingsStudy(Struct, frozen=True, tag_field="name", tag="settings"):
    runs: list[RunsUnderSetting]


Study = (
    Chain
    | Similarity
    | Noise
    | RetrievalStudy
    | SplStudy
    | WindowsStudy
    | FeatureNoiseStudy
    | StrengthStudy
    | GamingStudy
    | SettingsStudy
)


# Records.


class _Row(Struct, frozen=True, kw_only=True, tag_field="kind"):
    """What every record has."""

    schema: int = SCHEMA
    status: Status
    reason: str | None = None
    """One sentence; None where the status is ok."""
    environment: Environment

    @property
    def ok(self) -> bool:
        return self.status == "ok"

    @property
    def kind(self) -> str:
        return str(type(self).__struct_config__.tag)


class MemoryRecord(_Row, frozen=True, kw_only=True, tag="memory"):
    """Memory of one update of a method."""

    case: MethodCase
    simulated: bool
    plan: PlanSummary | None
    settings: Settings
    reading: Reading | None = None
    flops: Integer | None = None
    """Of the update, where it was simulated (bench.flops)."""


class StepTimeRecord(_Row, frozen=True, kw_only=True, tag="step_time"):
    """Time of one update of a method."""

    case: MethodCase
    simulated: bool = False
    plan: PlanSummary | None
    settings: Settings
    timing: Timing | None = None


class RewardMemoryRecord(_Row, frozen=True, kw_only=True, tag="reward_memory"):
    """Memory of one step of the reward's training, which has no plan."""

    case: RewardTrainingCase
    simulated: bool
    settings: Settings
    reading: Reading | None = None


class RewardStepTimeRecord(_Row, frozen=True, kw_only=True, tag="reward_step_time"):
    """Time of one step of the reward's training."""

    case: RewardTrainingCase
    simulated: bool = False
    settings: Settings
    timing: Timing | None = None


class AlignmentRecord(_Row, frozen=True, kw_only=True, tag="alignment"):
    """A method's fine-tuning runs on a world."""

    case: AlignmentCase
    simulated: bool = False
    plan: PlanSummary | None
    settings: AlignmentSettings
    alignment: Alignment | None = None


class StudyRecord(_Row, frozen=True, kw_only=True, tag="study"):
    """A study of the base model, or one that trains."""

    case: StudyCase
    simulated: bool = False
    settings: StudySettings
    study: Study | None = None


Record = MemoryRecord | StepTimeRecord | RewardMemoryRecord | RewardStepTimeRecord | AlignmentRecord | StudyRecord
Measured = Reading | Timing | Alignment | Study


def measured(record: Record) -> Measured | None:
    """What was measured; None of a row that has no figure."""
    match record:
        case MemoryRecord() | RewardMemoryRecord():
            return record.reading
        case StepTimeRecord() | RewardStepTimeRecord():
            return record.timing
        case AlignmentRecord():
            return record.alignment
        case StudyRecord():
            return record.study


def fields(part: Struct) -> dict[str, object]:
    """A part's fields by name, for tables that show all of them."""
    return structs.asdict(part)
