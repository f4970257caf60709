"""Runs that were divided, as `pytest bench/ --shard 1/3` divides them: who measures what, and what lacks at the end.

Each file of such a run says which shard it is, and lists the rows of all shards, so that whoever merges some of the
files can name the rest.
"""

from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta, Struct

from bench.records.types import Record, Size

TOGETHER = ("alignment", "step_time")
"""Kinds whose rows one shard measures: updates are timed in turn, and DRaFT's last reward is every method's goal."""


class ShardRow(Struct, frozen=True, array_like=True):
    """A row of the whole run."""

    kind: str
    """Of its record; the reward's training is as the methods' updates: `memory`, `step_time`."""
    id: str
    """Of its case."""
    shard: Size
    """The number of the shard that measures it."""


class Shard(Struct, frozen=True):
    """Which share of a run a file holds, and the rows of all shares."""

    number: Size
    of: Size
    rows: Annotated[list[ShardRow], Meta(min_length=1)]


def deal(rows: Iterable[tuple[str, str]], shards: int) -> list[ShardRow]:
    """Rows, (kind, id), in turn to so many shards, in order of kind and id whatever order they come in."""
    ordered = sorted(rows)
    turns = {hand: number % shards + 1 for number, hand in enumerate(dict.fromkeys(map(_hand, ordered)))}
    return [ShardRow(*row, turns[_hand(row)]) for row in ordered]


def _hand(row: tuple[str, str]) -> tuple[str, str]:
    """What is dealt as one."""
    kind, _ = row
    return (kind, "") if kind in TOGETHER else row


def row_of(record: Record) -> tuple[str, str]:
    """A record's kind and id, as ShardRow has them."""
    return record.kind.removeprefix("reward_"), record.case.id


def lacking(shards: Iterable[Shard], records: Iterable[Record]) -> dict[str, list[ShardRow]]:
    """The rows of some shards' whole runs that are not among the records, by `shard 2 of 3 is missing`, or by
    `shard 2 of 3 lacks 3 of 15 rows`."""
    there = set(map(row_of, records))
    dealt: dict[tuple[int, int], list[ShardRow]] = {}
    for of, row in dict.fromkeys((shard.of, row) for shard in shards for row in shard.rows):
        dealt.setdefault((of, row.shard), []).append(row)
    found = {}
    for (of, number), rows in sorted(dealt.items()):
        left = [row for row in rows if (row.kind, row.id) not in there]
        if left:
            what = "is missing" if left == rows else f"lacks {len(left)} of {len(rows)} rows"
            found[f"shard {number} of {of} {what}"] = left
    return found
