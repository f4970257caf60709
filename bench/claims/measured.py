"""What good records measured. The loader has seen to it that it is there; a type checker cannot know."""

from typing import TypeVar

from bench.claims.verdict import NotJudgedError
from bench.meters.reading import Reading
from bench.records import AlignmentRecord, MemoryRecord, Record, StepTimeRecord, StudyRecord
from bench.records.types import Alignment, Interval, PlanSummary, Timing

T = TypeVar("T")


def reading_of(record: MemoryRecord) -> Reading:
    return _there(record.reading, record, "reading")


def timing_of(record: StepTimeRecord) -> Timing:
    return _there(record.timing, record, "timing")


def plan_of(record: MemoryRecord | StepTimeRecord) -> PlanSummary:
    return _there(record.plan, record, "plan")


def alignment_of(record: AlignmentRecord) -> Alignment:
    return _there(record.alignment, record, "alignment")


def study_of(record: StudyRecord, kind: type[T]) -> T:
    """What a study measured, of the type that its name stands for."""
    return _there(record.study if isinstance(record.study, kind) else None, record, "results")


def peak(record: MemoryRecord) -> int:
    """Bytes."""
    return reading_of(record).peak


def held(record: MemoryRecord) -> int:
    """Denoiser calls that the row's plan holds at once."""
    return plan_of(record).held


def flops_of_a_step(record: MemoryRecord) -> float:
    """FLOPs of an update by its optimiser steps; 0 where they were not counted."""
    return (record.flops or 0) / plan_of(record).updates


def mean_of(value: Interval, what: str) -> float:
    """Over seeds."""
    if value.mean is None:
        raise NotJudgedError(f"{what} was not measured.")
    return value.mean


def _there(value: T | None, record: Record, what: str) -> T:
    if value is None:
        raise NotJudgedError(f"The record {record.case.id} holds no {what}: measure it again.")
    return value
