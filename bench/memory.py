"""Measures the memory of a case and turns whatever happens into a record: a sweep never dies of one case."""

import torch

from bench.cases import Case
from bench.meters import METERS, MeterUnavailableError
from bench.records import MemoryRecord, RewardMemoryRecord, make
from bench.reward_cases import RewardCase
from bench.units import gib


def measure(case: Case | RewardCase) -> MemoryRecord | RewardMemoryRecord:
    """The memory record of one case, read in this process. Never raises but for an interrupt."""
    try:
        reading = METERS[case.meter](case)
    except MeterUnavailableError as error:
        return make.memory(case, "unavailable", str(error))
    except (torch.OutOfMemoryError, MemoryError):
        return make.memory(case, "oom", out_of_memory(case))
    except Exception as error:
        return make.memory(case, "failed", one_sentence(error))
    return make.memory(case, "ok", reading=reading)


def out_of_memory(case: Case | RewardCase) -> str:
    if not torch.cuda.is_available():
        return f"{case.id} does not fit in this machine's memory: lower the batch"
    _, total = torch.cuda.mem_get_info()
    reached = torch.cuda.max_memory_allocated()
    return (
        f"{case.id} does not fit: {gib(reached)} were allocated when the next request failed, "
        f"on a device of {gib(total)} (lower --batch, or simulate to see what it would need)"
    )


def one_sentence(error: BaseException) -> str:
    """The first line of an exception, with its type where the message alone would not say what happened."""
    text = str(error).strip().split("\n")[0]
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}"
