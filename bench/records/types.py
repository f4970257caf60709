"""What a record is, kind by kind. A record is one row of a result; everything in it explains itself.

Types are decoded and checked once, where a file is loaded (see load); from there on every field is what it says here.
Sizes are bytes, times seconds. Fields that a kind of row cannot have are not in it.
"""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct, field, structs

from bench.labels import method_label
from bench.meters import METERS, Reading

SCHEMA = 2
"""1: before records were typed; those are brought up to date where they are read (see upgrade)."""

Status = Literal["ok", "oom", "unavailable", "failed"]
"""ok; oom: did not fit; unavailable: the meter needs what this machine lacks; failed: anything else, see `reason`."""
Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""Of 64 bits, as every integer of a record: tables and arrays hold no larger ones."""
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Seconds = Annotated[float, Meta(ge=0)]
MeterName = Annotated[str, Meta(pattern=f"^({'|'.join(METERS)})$")]
Metrics = dict[str, float | None]
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
    shorter: float | None = None
    long: dict[str, tuple[float, Integer]] | None = None
    long_seeds: Integer | None = None
    points: Integer | None = None
    test: Integer | None = None
    validation: Integer | None = None


# What was measured: cases.


class MethodCase(Struct, frozen=True, omit_defaults=True):
    """As bench.cases.Case, with its id."""

    method: str
    backbone: str
    steps: Count
    batch: Count
    frames: Count
    profile: str
    meter: MeterName
    seed: Integer
    id: str
    reward: str = ""
    """Empty: the backbone's default."""

    @property
    def label(self) -> str:
        return method_label(self.method, self.steps)


class RewardTrainingCase(Struct, frozen=True):
    """As bench.reward_cases.RewardCase, with its id."""

    method: str
    spl: bool
    pool: Integer | None
    reward: str
    batch: Count
    frames: Count
    profile: str
    meter: MeterName
    seed: Integer
    id: str

    @property
    def label(self) -> str:
        if not self.spl:
            return "the reward's pre-training"
        return "SPL" if self.pool is None else f"SPL, pool of {self.pool}"


class AlignmentCase(Struct, frozen=True):
    """As bench.alignment.benchmark.AlignmentCase, with what its size says."""

    method: str
    world: str
    steps: Count
    batch: Count
    size: str
    seeds: Count
    id: str

    meter: ClassVar[str] = "host"
    """Of the memory that stands beside it."""

    @property
    def label(self) -> str:
        return method_label(self.method, self.steps)


class StudyCase(Struct, frozen=True, omit_defaults=True):
    name: str
    world: str
    steps: Count
    """Denoising steps."""
    id: str
    scale: str | None = None
    """None: a study that does not train."""

    meter: ClassVar[str] = "host"


# What came out: a method's plan, times, alignment.


class HeldOverDraws(Struct, frozen=True):
    """Denoiser calls held at once, over many draws of a method's plan."""

    draws: Count
    least: Count
    quartiles: tuple[Integer, Integer, Integer]
    most: Count


class PlanSummary(Struct, frozen=True):
    """The plan as it was drawn (methods.plan.Plan); where it is random, how many calls other draws hold at once."""

    grid: str
    total: Count
    calls: Count
    recorded: Count
    held: Count
    scores: Count
    updates: Count
    held_over_draws: HeldOverDraws


class Spread(Struct, frozen=True):
    """Median, least, most and the quartiles' distance, seconds."""

    median: Seconds
    min: Seconds
    max: Seconds
    iqr: Seconds


class Against(Struct, frozen=True):
    """Times of another revision, update by update."""

    revision: str
    ratio: Annotated[float, Meta(gt=0)]
    """Median of `ratios`."""
    ratio_of_fastest: Annotated[float, Meta(gt=0)]
    ratios: list[Annotated[float, Meta(gt=0)]]
    """New over old, a pair each."""


class Timing(Struct, frozen=True, omit_defaults=True):
    rounds: Annotated[int, Meta(ge=1)]
    interleaved: bool
    seconds_per_update: list[Seconds]
    per_update: Spread
    per_optimiser_step: Spread
    per_sample: Spread
    against: Against | None = None


class Interval(Struct, frozen=True):
    """A mean over seeds, and the half-width of its 95% interval by Student's t; None for what was not measured, or what
    one seed does not give."""

    mean: float | None
    half_width: Annotated[float, Meta(ge=0)] | None


class Point(Struct, frozen=True):
    """Where a fine-tuning run was measured: totals since its start, and metrics on validation prompts."""

    trajectories: float
    updates: float
    samples: float
    seconds: Seconds
    cpu_seconds: Seconds
    metrics: Metrics


Curve = list[Point]


class TriedRate(Struct, frozen=True, omit_defaults=True):
    """A learning rate with what its run ended with, or why it did not."""

    lr: float
    metrics: Metrics
    reason: str | None = None


class ShownMotion(Struct, frozen=True):
    """One prompt's motions, each packed as bench.alignment.motions.pack does."""

    kind: str
    text: str
    fps: Annotated[int, Meta(ge=1, le=1000)]
    real: str
    base: str
    tuned: str


class AlignmentMemory(Struct, frozen=True):
    peak: Count
    resident: Count
    sampling: Count
    what: str


class ToReach(Struct, frozen=True):
    """What the method needed to reach a reward; None for what it never reached, with `note` saying why."""

    of: str
    reward: float | None
    trajectories: float | None
    seconds: Seconds | None
    peak_bytes: Count | None
    note: str | None


class Alignment(Struct, frozen=True):
    """A method's runs beside the base (bench.alignment.benchmark)."""

    method: str
    lr: float
    grid: list[float]
    at_edge: str | None
    lr_by_reward: float | None
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


# What came out: studies.


class Retrieval(Struct, frozen=True):
    """Retrieval by direction and figure ("text_to_motion", "R@1"): among all, and in pools of 32 where there are as
    many."""

    count: Count
    all: dict[str, dict[str, float]]
    pools: dict[str, dict[str, float]] | None


class RewardTraining(Struct, frozen=True):
    val: Retrieval
    mined: float | None
    """Share of SPL's texts that gave a pair; None without SPL."""


class TrainedReward(Struct, frozen=True):
    """What a trained reward retrieves on the test split: clean, and at each level of noise that was asked for."""

    retrieval: Retrieval
    levels: list[Retrieval]
    training: RewardTraining | None
    """None: the world's reward, which was not trained here."""


class Chain(Struct, frozen=True, tag_field="name", tag="chain"):
    """By denoising step, see bench.alignment.studies.base_model.chain."""

    coefficient: list[float]
    coefficient_reward: list[float]
    through_chain: list[float]
    stepwise: list[float]
    timestep: list[Integer]


class Similarity(Struct, frozen=True, tag_field="name", tag="similarity"):
    """By denoising step, see bench.alignment.studies.base_model.similarity."""

    timestep: list[Integer]
    signal: list[float]
    noisy: list[float]
    predicted: list[float]
    noisy_reward: list[float]
    predicted_reward: list[float]
    clean_reward: list[float]
    other: list[float]


class Noise(Struct, frozen=True, tag_field="name", tag="noise"):
    """By denoising step, see bench.alignment.studies.base_model.noise."""

    timestep: list[float]
    correlation_aware: list[float]
    within_aware: list[float]
    correlation_clean: list[float]
    within_clean: list[float]
    correlation_predicted: list[float]
    within_predicted: list[float]
    precision_aware: list[float]
    precision_clean: list[float]
    chance: list[float]


class RetrievalStudy(Struct, frozen=True, tag_field="name", tag="retrieval"):
    """Of the studies that train, here and below: see bench.alignment.studies.trained."""

    rewards: dict[str, list[TrainedReward]]
    """By arm, one a seed."""


class SplStudy(Struct, frozen=True, tag_field="name", tag="spl"):
    rewards: dict[str, list[TrainedReward]]
    runs: dict[str, list[Metrics]]
    base: list[Metrics]
    method: str
    lr: float


class WindowsStudy(Struct, frozen=True, tag_field="name", tag="windows"):
    windows: list[tuple[Integer, Integer]]
    runs: dict[str, list[list[Metrics]]]
    base: list[Metrics]
    levels: list[Integer]
    rewards: dict[str, TrainedReward]
    lr: float


class FeatureNoiseStudy(Struct, frozen=True, tag_field="name", tag="feature_noise"):
    levels: list[Integer]
    rewards: dict[str, dict[str, list[TrainedReward]]]


class RunsUnderReward(Struct, frozen=True, omit_defaults=True):
    """Fine-tuning runs of each method under one reward, over seeds."""

    retrieval: Retrieval
    runs: dict[str, list[Metrics]]
    share: float | None = None
    """Of the clips that the reward was trained on; None: the world's."""
    spl: bool | None = None


class StrengthStudy(Struct, frozen=True, tag_field="name", tag="strength"):
    rewards: list[RunsUnderReward]
    of_world: RunsUnderReward = field(name="own")
    base: list[Metrics]


class LongRuns(Struct, frozen=True):
    method: str
    lr: float
    pull: float
    curves: list[Curve]


class GamingStudy(Struct, frozen=True, tag_field="name", tag="gaming"):
    runs: list[LongRuns]


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
