"""Records as tables, one row a record: for the terminal, for markdown and for CSV."""

from collections.abc import Mapping, Sequence

import pandas as pd

from bench.alignment import reading
from bench.units import GIB
from methods.rollout import PHASES


def memory(records: Sequence[dict]) -> pd.DataFrame:
    """Memory rows, GiB. A row that has no figure keeps its status and reason."""
    rows = []
    for record in records:
        if record["kind"] != "memory":
            continue
        row = {**_case(record), "meter": record["case"]["meter"], "status": record["status"]}
        if reading := record.get("reading"):
            row |= {
                "held": record["plan"]["held"],
                "peak": reading["peak"] / GIB,
                "overhead": (reading["peak"] - reading["resident"]) / GIB,
                "resident": reading["resident"] / GIB,
                "sampling": reading["sampling"] / GIB,
                **{phase: reading["phases"].get(phase, 0) / GIB for phase in PHASES},
            }
        else:
            row["reason"] = record["reason"]
        rows.append(row)
    return pd.DataFrame(rows)


def step_time(records: Sequence[dict]) -> pd.DataFrame:
    """Step-time rows, seconds: median and interquartile range."""
    rows = []
    for record in records:
        if record["kind"] != "step_time":
            continue
        row = {**_case(record), "device": record["environment"].get("device"), "status": record["status"]}
        if timing := record.get("timing"):
            for unit in ("update", "optimiser_step", "sample"):
                spread = timing[f"per_{unit}"]
                row[f"s/{unit.replace('_', ' ')}"] = spread["median"]
                row[f"IQR {unit.replace('_', ' ')}"] = spread["iqr"]
            row["rounds"] = timing["rounds"]
            if against := timing.get("against"):
                row[f"times {against['revision']}"] = against["ratio"]
        else:
            row["reason"] = record["reason"]
        rows.append(row)
    return pd.DataFrame(rows)


def reward_training(records: Sequence[dict]) -> pd.DataFrame:
    """Rows of the reward's own training, memory in GiB and step time in seconds, as they come."""
    rows = []
    for record in records:
        if record["kind"] not in ("reward_memory", "reward_step_time"):
            continue
        case = record["case"]
        row = {"training": case["method"], "B": case["batch"], "F": case["frames"], "meter": case["meter"]}
        row["status"] = record["status"]
        if reading := record.get("reading"):
            row |= {name: reading[name] / GIB for name in ("peak", "resident", "sampling")}
            row |= {phase: reading["phases"][phase] / GIB for phase in PHASES if phase != "rollout"}
        if timing := record.get("timing"):
            row |= {"s/step": timing["per_update"]["median"], "IQR step": timing["per_update"]["iqr"]}
        if record["reason"]:
            row["reason"] = record["reason"]
        rows.append(row)
    return pd.DataFrame(rows)


ALIGNED = {"reward": "reward", "r1": "R@1", "fid": "FID", "mm_dist": "MM-Dist", "multimodality": "MModality"}


def alignment(records: Sequence[dict]) -> pd.DataFrame:
    """Alignment rows: test metrics as mean ± half-width of the 95% interval over seeds, the base and real data first;
    the validation reward after all trajectories, and at the time at which the first of the methods had run them all;
    then what it took to reach DRaFT's last reward."""
    own = [record for record in records if record["kind"] == "alignment"]
    found = [record["alignment"] for record in own if record["status"] == "ok"]
    rows: list[dict] = []
    if found:
        real = {name: {"mean": value, "half_width": None} for name, value in found[0]["real"].items()}
        rows += [{"method": name, **_aligned(of)} for name, of in (("real data", real), ("base", found[0]["base"]))]
    seconds = first_end(found)
    for record in own:
        row = {"method": record["case"]["method"]}
        if of := record.get("alignment"):
            curve = reading.mean_curve(of["curves"])
            goal = of["to_reach"]
            row |= {
                "lr": f"{of['lr']:g}" + (f" ({of['at_edge']} of the grid)" if of["at_edge"] else ""),
                **_aligned(of["final"]),
                f"val. at {curve[-1]['trajectories']:.0f} traj.": curve[-1]["reward"],
                f"at {seconds:.1f} s": _at(of["curves"], "cpu_seconds", seconds, "reward")["mean"],
                "s": curve[-1]["cpu_seconds"],
                "traj. to goal": goal["trajectories"],
                "s to goal": goal["seconds"],
                "peak MiB": of["memory"]["peak"] / 2**20,
                "hacked": ", ".join(ALIGNED[name] for name in reading.hacked(of["gain"])),
            }
        else:
            row |= {"status": record["status"], "reason": record["reason"]}
        rows.append(row)
    return pd.DataFrame(rows)


ON_CURVE = ("reward", "r1", "mm_dist", "fid")
"""What is followed while a method trains: the reward, and what an independent evaluator says of it."""


def at_equal_cost(records: Sequence[dict]) -> pd.DataFrame:
    """Validation metrics of good alignment rows as mean ± half-width of the 95% interval over seeds: at equal
    trajectories (all of them), then at equal time, which is when the first run of any method ended. Each seed's curve
    is read off there, linear between its points."""
    found = [record["alignment"] for record in records]
    trajectories, seconds = found[0]["curves"][0][-1]["trajectories"], first_end(found)
    rows = []
    for axis, position, unit in (("trajectories", trajectories, "trajectories"), ("cpu_seconds", seconds, "s")):
        for record, of in zip(records, found, strict=True):
            row = {"at": f"{position:.4g} {unit}", "method": record["case"]["method"]}
            for name, column in (("trajectories", "trajectories"), ("updates", "updates"), ("cpu_seconds", "s")):
                row[column] = _at(of["curves"], axis, position, name)["mean"]
            row |= {ALIGNED[name]: interval(_at(of["curves"], axis, position, name)) for name in ON_CURVE}
            rows.append(row)
    return pd.DataFrame(rows)


def first_end(found: Sequence[dict]) -> float:
    """Seconds after which the first run of any method was through: every curve reaches there. 0 without runs."""
    return min((curve[-1]["cpu_seconds"] for of in found for curve in of["curves"]), default=0.0)


def _at(curves: Sequence[reading.Curve], axis: str, position: float, name: str) -> dict:
    """Mean and interval over seeds of a figure at a position of their curves; None of what was not measured."""
    known = [curve for curve in curves if name in curve[0]]
    return reading.over_seeds([reading.value_at(curve, axis, position, name) for curve in known])


def _aligned(metrics: dict) -> dict[str, str]:
    return {column: interval(metrics[name]) for name, column in ALIGNED.items()}


def interval(value: Mapping[str, float | None], form: str = ".3f") -> str:
    """`0.612 ± 0.014` of a `mean` and a `half_width`; the mean alone without one, nothing without a mean. `form` is
    the mean's; the half-width has as many figures, and no sign."""
    mean, half_width = value["mean"], value["half_width"]
    if mean is None:
        return ""
    return f"{mean:{form}}" + ("" if half_width is None else f" ± {half_width:{form.lstrip('+')}}")


def _case(record: dict) -> dict:
    case = record["case"]
    names = {"method": "method", "profile": "profile", "T": "steps", "B": "batch", "F": "frames"}
    return {column: case[name] for column, name in names.items()}


def text(frame: pd.DataFrame) -> str:
    """For a terminal."""
    return _shown(frame).to_string(index=False)


def markdown(frame: pd.DataFrame) -> str:
    """A GitHub table."""
    shown = _shown(frame)
    numeric = [pd.api.types.is_numeric_dtype(frame[column]) for column in frame]
    lines = [
        "| " + " | ".join(map(str, shown.columns)) + " |",
        "| " + " | ".join("---:" if right else "---" for right in numeric) + " |",
    ]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in shown.values]
    return "\n".join(lines) + "\n"


def _shown(frame: pd.DataFrame) -> pd.DataFrame:
    """Cells as text: floats with three figures behind the point at most, nothing for what is not known."""
    return frame.map(
        lambda cell: "" if pd.isna(cell) else f"{cell:.3f}" if isinstance(cell, float) and cell % 1 else _whole(cell)
    )


def _whole(cell: object) -> str:
    return f"{cell:.0f}" if isinstance(cell, float) else str(cell)
