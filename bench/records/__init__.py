"""Records: one row of a result, of one type a kind, and the files that they travel in.

types     what a record is, kind by kind
make      records of what was measured here
load      records from files, decoded and checked once
contradictions  what no measurement could have written
upgrade   rows of the first schema version as rows of today
"""

from bench.records import make
from bench.records.load import RecordError, decode, load, merge
from bench.records.types import (
    AlignmentRecord,
    MemoryRecord,
    Record,
    RewardMemoryRecord,
    RewardStepTimeRecord,
    StepTimeRecord,
    StudyRecord,
    measured,
)

__all__ = [
    "AlignmentRecord",
    "MemoryRecord",
    "Record",
    "RecordError",
    "RewardMemoryRecord",
    "RewardStepTimeRecord",
    "StepTimeRecord",
    "StudyRecord",
    "decode",
    "load",
    "make",
    "measured",
    "merge",
]
