"""Records of what was measured here: a case with what came of it, the settings in effect, and where."""

import functools
import os
import platform
import random
import statistics
from dataclasses import asdict

import msgspec
import torch

from bench import devices, identity
from bench.cases import Case
from bench.meters import METERS, allocator
from bench.meters.reading import Reading
from bench.profiles import profile
from bench.records.types import (
    Environment,
    HeldOverDraws,
    MemoryRecord,
    MethodCase,
    PlanSummary,
    Record,
    RewardMemoryRecord,
    RewardStepTimeRecord,
    RewardTrainingCase,
    Settings,
    Status,
    StepTimeRecord,
    Timing,
)
from bench.reward_cases import RewardCase
from bench.setup import draw_plan
from methods import Method, Plan
from methods.registry import third_party_modules

PLAN_DRAWS = 1000


def memory(
    case: Case | RewardCase,
    status: Status,
    reason: str | None = None,
    reading: Reading | None = None,
    flops: int | None = None,
) -> MemoryRecord | RewardMemoryRecord:
    """The record of a memory case of either kind; the reward's training has no count of FLOPs."""
    if isinstance(case, RewardCase):
        return RewardMemoryRecord(
            status=status,
            reason=reason,
            case=described(case),
            simulated=METERS[case.meter].simulated,
            settings=settings(case),
            environment=environment(case.meter),
            reading=reading,
        )
    return MemoryRecord(
        status=status,
        reason=reason,
        case=described(case),
        simulated=METERS[case.meter].simulated,
        plan=plan_of(case),
        settings=settings(case),
        environment=environment(case.meter),
        reading=reading,
        flops=flops,
    )


def step_time(
    case: Case | RewardCase, status: Status, reason: str | None = None, timing: Timing | None = None
) -> StepTimeRecord | RewardStepTimeRecord:
    """The record of a step-time case of either kind."""
    where = environment(case.meter)
    if isinstance(case, RewardCase):
        return RewardStepTimeRecord(
            status=status,
            reason=reason,
            case=described(case),
            settings=settings(case),
            environment=where,
            timing=timing,
        )
    return StepTimeRecord(
        status=status,
        reason=reason,
        case=described(case),
        plan=plan_of(case),
        settings=settings(case),
        environment=where,
        timing=timing,
    )


@functools.singledispatch
def described(case):
    """A case as it stands in a record."""
    raise TypeError(case)


@described.register
def _(case: Case) -> MethodCase:
    return MethodCase(**asdict(case), id=case.id)


@described.register
def _(case: RewardCase) -> RewardTrainingCase:
    return RewardTrainingCase(**asdict(case), method=case.method, id=case.id)


def plan_of(case: Case) -> PlanSummary | None:
    """None where the options do not fit the case: the record's reason says so."""
    try:
        return summary(case, draw_plan(case))
    except ValueError:
        return None


def summary(case: Case, plan: Plan) -> PlanSummary:
    """The plan as it was drawn; where it is random, how many calls other draws hold at once."""
    held = sorted(held_in_draws(case.resolve(), case.steps))
    low, middle, high = (int(quartile) for quartile in statistics.quantiles(held, n=4))
    return PlanSummary(
        grid=plan.grid(),
        total=plan.total,
        calls=len(plan.steps),
        recorded=plan.recorded,
        held=plan.held,
        scores=plan.scores,
        updates=plan.updates,
        held_over_draws=HeldOverDraws(PLAN_DRAWS, held[0], (low, middle, high), held[-1]),
    )


def held_in_draws(method: Method, steps: int) -> list[int]:
    """How many denoiser calls a method's plan holds at once in each of PLAN_DRAWS draws, by seed."""
    untouched, rng = random.Random(0), random.Random(0)
    held = method.plan(steps, rng).held
    if rng.getstate() == untouched.getstate():
        return [held] * PLAN_DRAWS  # nothing was drawn: the plan is the same for every seed
    return [method.plan(steps, random.Random(seed)).held for seed in range(PLAN_DRAWS)]


def settings(case: Case | RewardCase) -> Settings:
    """Every setting that changes bytes or time, as in effect in this process."""
    effective = Settings(
        **asdict(profile(case.profile)),
        optimizer="AdamW, foreach",
        matmul_precision=torch.get_float32_matmul_precision(),
        threads=torch.get_num_threads(),
    )
    if METERS[case.meter].simulated:
        return msgspec.structs.replace(effective, allocator=allocator.settings().record())  # as assumed for `reserved`
    if METERS[case.meter].device == "cpu":
        return effective
    return msgspec.structs.replace(
        effective,
        cublas_workspace=os.environ.get("CUBLAS_WORKSPACE_CONFIG", "default"),
        cudnn_benchmark=torch.backends.cudnn.benchmark,
        cudnn_deterministic=torch.backends.cudnn.deterministic,
        allow_tf32=torch.backends.cuda.matmul.allow_tf32,
        # What the allocator took, not what the environment asked for: the variable was ignored by some versions.
        allocator=_allocator_settings(),
    )


def _allocator_settings() -> dict | str:
    if not torch.cuda.is_available():
        return "no GPU"
    in_effect = torch.cuda.memory._snapshot().get("allocator_settings", {})
    return {key: value for key, value in in_effect.items() if isinstance(value, str | int | float | bool)}


def environment(meter: str = "host", device: torch.device | None = None) -> Environment:
    """Where this process measures by a meter, or on a device: versions, code, device."""
    device = device or torch.device(METERS[meter].device or "cpu")
    return Environment(
        torch=str(torch.__version__),  # a class of its own, which JSON does not know
        python=platform.python_version(),
        machine=platform.machine(),
        system=platform.system(),
        cpus=os.cpu_count(),
        commit=identity.commit(),
        code=identity.code(tuple(third_party_modules())),
        device=devices.name(device),
        cuda=torch.version.cuda if device.type == "cuda" else None,
    )


def to_json(record: Record) -> dict:
    """JSON types only, as it stands in a file."""
    return msgspec.to_builtins(record)
