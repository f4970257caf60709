"""The gate in one run of `pytest bench/ --memory-baseline FILE [--memory-baseline-update]`."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.gate import baseline
from bench.gate.judge import EXIT_STATUS, NOTHING_MEASURED, Finding, Outcome, exit_status, judge, judge_all, report
from bench.records import MemoryRecord, Record
from methods.errors import InputError
from methods.files import check_writable

REFUSED = 1


@dataclass
class Gate:
    """A baseline, and the findings on the run's rows."""

    path: Path
    update: bool
    """Write the baseline instead of judging by it."""
    rows: list[baseline.Row] = field(init=False)
    failed: int = 0
    """Cases that this gate made fail."""

    def __post_init__(self) -> None:
        """InputError for a baseline that cannot be used or written; an update needs none, but does not overwrite a
        broken one."""
        self.rows = [] if self.update and not self.path.exists() else baseline.load(self.path)
        if self.update:
            check_writable(self.path)

    def check(self, record: MemoryRecord) -> Finding | None:
        """What to fail a measured case with, if anything."""
        if self.update:
            return None
        finding = judge(baseline.cut_down(record), self.rows)
        if finding.outcome is Outcome.SAME:
            return None
        self.failed += 1
        return finding

    def finish(
        self, records: Sequence[Record], whole: bool, elsewhere: Collection[str] = ()
    ) -> tuple[list[str], int | None]:
        """The section for the terminal, and the run's exit status (None: as pytest has it).

        `records`: what the run measured; `whole`: it ran to its end; `elsewhere`: ids of cases that other shards of the
        run measure, which are not missing. A case that was tried and gave no figures is missing. A case that a run
        which stopped early did not come to is neither missing nor passed: it is counted by itself, and such a run does
        not end as if all were well.
        """
        memory = [record for record in records if isinstance(record, MemoryRecord)]
        measured = [baseline.cut_down(record) for record in memory if record.ok]
        failures = {record.case.id: f"{record.status}: {record.reason}" for record in memory if not record.ok}
        if self.update:
            return self._write(measured, len(failures), whole)
        if elsewhere and whole and not memory:
            return ["this shard has no memory case: others compare with the baseline"], None
        if not measured:
            return [f"nothing was measured, so nothing was compared with {self.path}"], NOTHING_MEASURED
        findings = judge_all(measured, [row for row in self.rows if row.case.id not in elsewhere], failures)
        lines: list[str] = []
        status = 0
        if not whole:
            reached = [f for f in findings if f.outcome is not Outcome.MISSING or f.id in failures]
            if skipped := len(findings) - len(reached):
                lines, status = [f"{skipped} not reached: the run stopped before them"], EXIT_STATUS[Outcome.MISSING]
            findings = reached
        return [*report(findings), *lines, f"baseline: {self.path}"], exit_status(findings) or status or None

    def _write(self, measured: Sequence[baseline.Row], failed: int, whole: bool) -> tuple[list[str], int | None]:
        if not whole or failed:
            why = "the run was aborted" if not whole else f"{failed} of {failed + len(measured)} cases failed"
            return [f"{self.path} was left as it was: {why}; mend that, then update"], REFUSED
        if not measured:
            return [f"{self.path} was left as it was: no memory case was measured"], NOTHING_MEASURED
        findings = judge_all(measured, self.rows)
        try:
            baseline.save(self.path, baseline.updated(self.rows, measured))
        except InputError as error:
            return [str(error)], REFUSED
        return [*report(findings), f"{self.path} written: {len(measured)} rows, ready to commit"], None
