"""The step-time gate: this tree against another revision of it, on this machine, in one run.

Times of different runs on a shared machine differ by more than what a gate should catch. So both revisions are alive at
once, each in a process of its own, and updates alternate between them: a slow minute falls on both sides alike. A case
is slower if the median of the ratios, round by round, says so and the ratio of the two sides' fastest updates as well:
interference makes an update slower, never faster.
"""

import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from msgspec import structs

from bench import identity, step_time
from bench.cases import Case
from bench.lane import Desk
from bench.records import Record, RecordError, RewardStepTimeRecord, StepTimeRecord, make, measured
from bench.records.types import Against, Timing
from bench.reward_cases import RewardCase

ROOT = Path(__file__).parents[2]
WORKER = Path(__file__).with_name("timed_worker.py")
NEWER = {"reward": "", "ranks": 1, "sharding": "none"}
"""Fields of a case, at their usual values, that older revisions do not know."""
MARGIN = 1.25
"""A case fails if it takes more than this times as long as at the other revision. Loose: times are noisy even so."""


class Side:
    """A process that runs updates with the code in a folder."""

    def __init__(self, name: str, folder: Path) -> None:
        """`name`: how a message calls this side."""
        self._name = name
        # -P: the worker's own folder, which is part of this tree, must not shadow the other tree's modules.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER)],
            # Passive: the threads of the side that waits must not spin on the other side's cores.
            env={**os.environ, "PYTHONPATH": str(folder), "OMP_WAIT_POLICY": "PASSIVE"},
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **request) -> float:
        """Seconds that the request took; SideError with the worker's own sentence."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            answer = json.loads(self._process.stdout.readline())
        except (BrokenPipeError, ValueError):
            raise SideError(f"{self._name}: its process died, most likely for memory: lower --time-batch") from None
        if "error" in answer:
            raise SideError(f"{self._name}: {answer['error']}")
        return answer["seconds"]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class SideError(RuntimeError):
    """One side cannot run a case."""


def check(revision: str) -> None:
    """RecordError if there is no such revision."""
    _archive(revision, "bench/__init__.py")


@contextlib.contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """A folder with the packages of a revision."""
    archived = io.BytesIO(_archive(revision, "bench", "methods"))
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=archived) as archive:
        archive.extractall(folder, filter="data")
        yield Path(folder)


def _archive(revision: str, *paths: str) -> bytes:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), "archive", "--format=tar", revision, *paths], capture_output=True
        )
    except FileNotFoundError:
        raise RecordError("--step-time-against needs git, which is not on this machine") from None
    if done.returncode:
        reason = done.stderr.decode().strip().splitlines()[0].removeprefix("fatal: ")
        raise RecordError(f"--step-time-against {revision}: {reason}; name a commit, branch or tag of this repository")
    return done.stdout


@dataclass(frozen=True)
class PairedJob:
    """Times the updates of some cases, each paired with one of a revision."""

    cases: tuple[Case | RewardCase, ...]
    rounds: int
    revision: str

    kind: ClassVar[str] = "paired step time"
    result: ClassVar = step_time.Records
    alone: ClassVar[bool] = True
    card: ClassVar[bool] = False

    @property
    def id(self) -> str:
        return f"step time of {len(self.cases)} cases, paired with {self.revision}"

    @property
    def inputs(self) -> Mapping[str, str | None]:
        """What the revision's name stands for today."""
        return {"revision": identity.key(_archive(self.revision, "bench", "methods").hex())}

    def run(self, desk: Desk) -> step_time.Records:
        return measure([case for case in self.cases if isinstance(case, Case)], self.rounds, self.revision, desk.say)


def measure(
    cases: Sequence[Case], rounds: int, revision: str, progress: Callable[[str], None] = lambda _: None
) -> step_time.Records:
    """The step-time records of `cases` at this tree, in their order, each with `timing.against`: how it compares with
    the revision."""
    with checkout(revision) as folder, contextlib.ExitStack() as stack:
        sides = {"new": Side("this tree", ROOT), "old": Side(f"revision {revision}", folder)}
        for side in sides.values():
            stack.callback(side.close)
        return [_measure(case, rounds, revision, sides, progress) for case in cases]


def _measure(
    case: Case, rounds: int, revision: str, sides: dict[str, Side], progress: Callable[[str], None]
) -> StepTimeRecord | RewardStepTimeRecord:
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    try:
        for side in sides.values():
            side.ask(build={name: value for name, value in asdict(case).items() if value != NEWER.get(name)})
        for number in range(rounds):
            progress(f"round {number + 1} of {rounds}, paired with {revision}: {case.id}")
            # Who goes first changes, so that neither side always finds the caches as the other left them.
            for name in sorted(sides, reverse=bool(number % 2)):
                seconds[name].append(sides[name].ask(update=True))
    except SideError as error:
        return make.step_time(case, "failed", str(error))
    ratios = [new / old for new, old in zip(seconds["new"], seconds["old"], strict=True)]
    against = Against(
        revision=revision,
        ratio=statistics.median(ratios),
        ratio_of_fastest=min(seconds["new"]) / min(seconds["old"]),
        ratios=ratios,
    )
    timing = structs.replace(step_time.summary(case, seconds["new"]), against=against)
    return make.step_time(case, "ok", timing=timing)


def slower(record: Record, margin: float) -> str | None:
    """What to fail a step-time record with, if it was paired and is slower than the margin allows."""
    timing = measured(record)
    against = timing.against if isinstance(timing, Timing) else None
    if against is None or min(against.ratio, against.ratio_of_fastest) <= margin:
        return None
    low, high = min(against.ratios), max(against.ratios)
    return (
        f"slower: {record.case.id} takes {against.ratio:.2f} times as long as at {against.revision} "
        f"(median of {len(against.ratios)} pairs, {low:.2f} to {high:.2f}; fastest to fastest "
        f"{against.ratio_of_fastest:.2f}; the gate allows {margin:.2f})"
    )
