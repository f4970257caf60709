"""How long an update takes."""

from bench import claims, tables
from bench.cases import Case
from bench.claims import compare
from bench.report import figures
from bench.report import rows as pick
from bench.report.sections.section import Records, Section


def step_time(records: Records) -> Section:
    title, rows = "Step time", pick.timed(records)
    if not rows:
        return Section("step_time", title, command=claims.command("", "step_time"))
    case = rows[0]["case"]
    see = f"Real updates, methods interleaved round by round, at batch {case['batch']} ({compare.provenance(rows[0])})."
    if case["meter"] != "cuda":
        see += f" This is a CPU: the published times are of a GPU at batch {Case().batch}."
    return Section("step_time", title, see, lambda: figures.step_time(rows), tables.step_time(rows))
