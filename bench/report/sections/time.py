"""How long an update takes."""

from bench import claims, tables
from bench.cases import Case
from bench.claims import compare
from bench.claims.measured import timing_of
from bench.meters import METERS
from bench.report import figures
from bench.report import rows as pick
from bench.report.sections.section import Records, Section


def step_time(records: Records) -> Section:
    title, rows = "Step time", pick.timed(records)
    if not rows:
        return Section("step_time", title, command=claims.command("", "step_time"))
    case = rows[0].case
    interleaved = all(timing_of(row).interleaved for row in pick.good(rows))
    how = "methods interleaved round by round" if interleaved else "methods one after the other"
    see = f"Real updates, {how}, at batch {case.batch} ({compare.provenance(rows[0])})."
    if METERS[case.meter].device != "cuda":
        see += f" This is a CPU: the published times are of a GPU at batch {Case().batch}."
    return Section("step_time", title, see, lambda: figures.step_time(rows), tables.step_time(rows))
