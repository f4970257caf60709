"""Records as tables, one row a record: for the terminal, for markdown and for CSV."""

from collections.abc import Mapping, Sequence

import pandas as pd

from bench import escape
from bench.alignment import reading
from bench.meters import METERS
from bench.motion.metrics import FOLLOWED, METRICS, SHOWN
from bench.records import (
    AlignmentRecord,
    MemoryRecord,
    Record,
    RewardMemoryRecord,
    RewardStepTimeRecord,
    StepTimeRecord,
)
from bench.records.types import Alignment, Interval, MethodCase
from bench.units import GIB
from methods.rollout import PHASES


def memory(records: Sequence[Record]) -> pd.DataFrame:
    """Memory rows, GiB. A row that has no figure keeps its status and reason. Ranks are shown where some row has
    several."""
    several = any(isinstance(record, MemoryRecord) and record.case.ranks > 1 for record in records)
    rows = []
    for record in records:
        if not isinstance(record, MemoryRecord):
            continue
        case = record.case
        row = {**_case(case), **({"ranks": case.ranks, "sharding": case.sharding} if several else {})}
        row |= {"meter": case.meter, "status": record.status}
        if reading := record.reading:
            row |= {
                "held": record.plan.held if record.plan else None,
                "peak": reading.peak / GIB,
                "overhead": (reading.peak - reading.resident) / GIB,
                "resident": reading.resident / GIB,
                "sampling": reading.sampling / GIB,
                **{phase: reading.phases.get(phase, 0) / GIB for phase in PHASES},
            }
        else:
            row["reason"] = record.reason
        rows.append(row)
    return pd.DataFrame(rows)


def step_time(records: Sequence[Record]) -> pd.DataFrame:
    """Step-time rows, seconds: median and interquartile range."""
    rows = []
    for record in records:
        if not isinstance(record, StepTimeRecord):
            continue
        row = {**_case(record.case), "device": record.environment.device, "status": record.status}
        if timing := record.timing:
            for unit, spread in (
                ("update", timing.per_update),
                ("optimiser step", timing.per_optimiser_step),
                ("sample", timing.per_sample),
            ):
                row |= {f"s/{unit}": spread.median, f"IQR {unit}": spread.iqr}
            row["rounds"] = timing.rounds
            if against := timing.against:
                row[f"times {against.revision}"] = against.ratio
        else:
            row["reason"] = record.reason
        rows.append(row)
    return pd.DataFrame(rows)


def reward_training(records: Sequence[Record]) -> pd.DataFrame:
    """Rows of the reward's training, memory in GiB and step time in seconds, as they come."""
    rows = []
    for record in records:
        if not isinstance(record, RewardMemoryRecord | RewardStepTimeRecord):
            continue
        case = record.case
        row: dict = {"training": case.method, "B": case.batch, "F": case.frames, "meter": case.meter}
        row["status"] = record.status
        if isinstance(record, RewardMemoryRecord) and (reading := record.reading):
            row |= {name: getattr(reading, name) / GIB for name in ("peak", "resident", "sampling")}
            row |= {phase: reading.phases[phase] / GIB for phase in PHASES if phase != "rollout"}
        if isinstance(record, RewardStepTimeRecord) and (timing := record.timing):
            row |= {"s/step": timing.per_update.median, "IQR step": timing.per_update.iqr}
        if record.reason:
            row["reason"] = record.reason
        rows.append(row)
    return pd.DataFrame(rows)


def alignment(records: Sequence[Record]) -> pd.DataFrame:
    """Alignment rows: test metrics as mean ± half-width of the 95% interval over seeds (Student's t), the base and real
    data first; the validation reward after all trajectories, and at the time at which the first of the methods had run
    them all; then what it took to reach DRaFT's last reward."""
    chosen = [record for record in records if isinstance(record, AlignmentRecord)]
    measured = [record.alignment for record in chosen if record.alignment]
    rows: list[dict] = []
    if measured:
        real = {name: Interval(value, None) for name, value in measured[0].real.items()}
        rows += [{"method": name, **_shown(of)} for name, of in (("real data", real), ("base", measured[0].base))]
    seconds = first_end(measured)
    for record in chosen:
        row: dict = {"method": record.case.method}
        if of := record.alignment:
            curve = reading.mean_curve(of.curves)
            row |= {
                "lr": f"{of.lr:g}" + (f" ({of.at_edge} of the grid)" if of.at_edge else ""),
                **_shown(of.final),
                f"val. at {curve[-1].trajectories:.0f} traj.": curve[-1].metrics["reward"],
                f"at {seconds:.1f} s": _at(of.curves, "cpu_seconds", seconds, "reward").mean,
                "s": curve[-1].cpu_seconds,
                "traj. to goal": of.to_reach.trajectories,
                "s to goal": of.to_reach.seconds,
                "peak MiB": of.memory.peak / 2**20,
                "hacked": ", ".join(METRICS[name].label for name in reading.hacked(of.gain)),
            }
        else:
            row |= {"status": record.status, "reason": record.reason}
        rows.append(row)
    return pd.DataFrame(rows)


def at_equal_cost(records: Sequence[AlignmentRecord]) -> pd.DataFrame:
    """Validation metrics of good alignment rows as mean ± half-width of the 95% interval over seeds (Student's t): at
    equal trajectories (all of them), then at equal time, which is when the first run of any method ended. Each seed's
    curve is read off there, linear between its points."""
    measured = [(record.case.method, record.alignment) for record in records if record.alignment]
    trajectories = measured[0][1].curves[0][-1].trajectories
    seconds = first_end([of for _, of in measured])
    rows = []
    for axis, position, unit in (("trajectories", trajectories, "trajectories"), ("cpu_seconds", seconds, "s")):
        for method, of in measured:
            row: dict = {"at": f"{position:.4g} {unit}", "method": method}
            for name, column in (("trajectories", "trajectories"), ("updates", "updates"), ("cpu_seconds", "s")):
                row[column] = _at(of.curves, axis, position, name).mean
            row |= {METRICS[name].label: interval(_at(of.curves, axis, position, name)) for name in FOLLOWED}
            rows.append(row)
    return pd.DataFrame(rows)


def first_end(measured: Sequence[Alignment]) -> float:
    """Seconds after which the first run of any method was through: every curve reaches there. 0 without runs."""
    return min((curve[-1].cpu_seconds for of in measured for curve in of.curves), default=0.0)


def _at(curves: Sequence[reading.Curve], axis: str, position: float, name: str) -> Interval:
    """Mean and interval over seeds of a figure at a position of their curves; None of what was not measured."""
    return reading.over_seeds([reading.value_at(curve, axis, position, name) for curve in curves])


def _shown(metrics: Mapping[str, Interval]) -> dict[str, str]:
    return {METRICS[name].label: interval(metrics[name]) for name in SHOWN}


def interval(value: Interval, form: str = ".3f") -> str:
    """`0.612 ± 0.014` of an interval over seeds; the mean alone of a single seed, nothing without a mean. `form` is the
    mean's; the half-width has as many figures, and no sign."""
    if value.mean is None:
        return ""
    spread = "" if value.half_width is None else f" ± {value.half_width:{form.lstrip('+')}}"
    return f"{value.mean:{form}}{spread}"


def _case(case: MethodCase) -> dict:
    names = {"method": case.method, "backbone": case.backbone, "profile": case.profile}
    return {**names, "T": case.steps, "B": case.batch, "F": case.frames}


def text(frame: pd.DataFrame) -> str:
    """For a terminal."""
    return _text_cells(frame).to_string(index=False)


def markdown(frame: pd.DataFrame) -> str:
    """A GitHub table."""
    numeric, columns, rows = cells(frame)
    lines = [
        "| " + " | ".join(map(escape.markdown, columns)) + " |",
        "| " + " | ".join("---:" if right else "---" for right in numeric) + " |",
    ]
    lines += ["| " + " | ".join(map(escape.markdown, row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def cells(frame: pd.DataFrame) -> tuple[list[bool], list[str], list[list[str]]]:
    """For tables of markup: which columns hold numbers, their names, and the rows as text."""
    numeric = [pd.api.types.is_numeric_dtype(frame[column]) for column in frame]
    return numeric, [str(column) for column in frame], _text_cells(frame).to_numpy(dtype=object).tolist()


def _text_cells(frame: pd.DataFrame) -> pd.DataFrame:
    """Cells as text: floats with three figures behind the point at most, nothing for what is not known."""
    return frame.map(
        lambda cell: "" if pd.isna(cell) else f"{cell:.3f}" if isinstance(cell, float) and cell % 1 else _whole(cell)
    )


def _whole(cell: object) -> str:
    return f"{cell:.0f}" if isinstance(cell, float) else str(cell)


def for_terminal(records: Sequence[Record]) -> list[tuple[str, str]]:
    """What `pytest bench/` shows of its rows: titles, and text below each."""
    sections = []
    if len(frame := memory(records)):
        simulated = any(record.simulated for record in records)
        note = "\nsimulated: no device was used; bench/README.md says what it leaves out" if simulated else ""
        sections.append(("memory, GiB (peak of one update, and of each phase)", text(frame) + note))
    if len(frame := step_time(records)):
        sections.append(("step time, seconds (median of interleaved rounds)", text(frame)))
    if len(frame := reward_training(records)):
        sections.append(("one step of the reward's training: memory, GiB, and seconds", text(frame)))
    if len(frame := alignment(records)):
        aligned = [record for record in records if isinstance(record, AlignmentRecord)]
        worlds = ", ".join(sorted({record.case.world for record in aligned}))
        gpus = {f"on {record.environment.device}, " for record in aligned if METERS[record.case.meter].device != "cpu"}
        how = f"{''.join(sorted(gpus))}test prompts, 95% intervals over seeds by Student's t"
        clock = next((record.alignment.clock for record in aligned if record.alignment), "")
        sections.append(
            (
                f"alignment, {worlds} motion ({how})",
                f"{text(frame)}\ns: {clock}; goal: the validation reward that DRaFT ends with",
            )
        )
    return sections
