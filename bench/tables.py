"""Records as tables, one row a record: for the terminal, for markdown and for CSV."""

from collections.abc import Sequence

import pandas as pd

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
