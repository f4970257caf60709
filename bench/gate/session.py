"""The gate in one run of `pytest bench/ --memory-baseline FILE [--memory-baseline-update]`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.gate import baseline
from bench.gate.judge import NOTHING_MEASURED, Finding, Outcome, exit_status, judge, judge_all, report
from bench.record import RecordError

REFUSED = 1


@dataclass
class Gate:
    """A baseline and what the run's rows were found to be against it."""

    path: Path
    update: bool
    """Write the baseline instead of judging by it."""
    rows: list[dict] = field(init=False)
    failed: int = 0
    """Cases that this gate made fail."""

    def __post_init__(self) -> None:
        """RecordError for a baseline that cannot be used; an update needs none, but does not overwrite a broken one."""
        self.rows = [] if self.update and not self.path.exists() else baseline.load(self.path)

    def check(self, row: dict) -> Finding | None:
        """What to fail a measured case with, if anything."""
        if self.update:
            return None
        found = judge(row, self.rows)
        if found.outcome is Outcome.SAME:
            return None
        self.failed += 1
        return found

    def finish(self, records: list[dict], whole: bool) -> tuple[list[str], int | None]:
        """The section for the terminal, and the run's exit status (None: as pytest has it).

        `records`: what the run measured; `whole`: it ran to its end.
        """
        memory = [r for r in records if r["kind"] == "memory"]
        good = [r for r in memory if r["status"] == "ok"]
        if self.update:
            return self._write(memory, good, whole)
        if not good:
            return [f"nothing was measured, so nothing was compared with {self.path}"], NOTHING_MEASURED
        findings = judge_all(good, self.rows)
        if not whole:
            findings = [f for f in findings if f.outcome is not Outcome.MISSING]
        tried = {r["case"]["id"] for r in memory}
        findings = [f for f in findings if f.outcome is not Outcome.MISSING or f.id not in tried]
        return [*report(findings), f"baseline: {self.path}"], exit_status(findings) or None

    def _write(self, memory: Sequence[dict], good: Sequence[dict], whole: bool) -> tuple[list[str], int | None]:
        if not whole or len(good) < len(memory):
            why = "the run was aborted" if not whole else f"{len(memory) - len(good)} of {len(memory)} cases failed"
            return [f"{self.path} was left as it was: {why}; mend that, then update"], REFUSED
        if not good:
            return [f"{self.path} was left as it was: no memory case was measured"], NOTHING_MEASURED
        findings = judge_all(good, self.rows)
        try:
            baseline.save(self.path, baseline.updated(self.rows, good))
        except RecordError as error:
            return [str(error)], REFUSED
        return [*report(findings), f"{self.path} written: {len(good)} rows, ready to commit"], None
