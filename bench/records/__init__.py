"""Records: one row of a result, of one type a kind, and the files that they travel in.

types     what a record is, kind by kind
make      records of what was measured here
load      records from files, decoded and checked once
shards    the shares of a run that was divided, and what lacks of them
contradictions  what no measurement could have written
upgrade   rows of the first schema version as rows of today
"""

from bench.records import make
from bench.records.load import RecordError, Result, decode, load, merge, read
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
    "Result",
    "RewardMemoryRecord",
    "RewardStepTimeRecord",
    "StepTimeRecord",
    "StudyRecord",
    "decode",
    "load",
    "make",
    "measured",
    "merge",
    "read",
]
