"""What a method's plan says of its memory: against the steps, call by call, and over random draws."""

import pandas as pd

from bench import claims
from bench.claims import forecast
from bench.claims.measured import plan_of
from bench.report import figures
from bench.report import rows as pick
from bench.report.sections.section import Records, Section
from bench.units import GIB


def steps(records: Records) -> Section:
    title, rows = "Memory against denoising steps", pick.sweeps(records)
    if not rows:
        return Section("steps", title, command=claims.command("--matrix steps"))
    frame = _forecast(rows)
    see = "Left, every method against T. Right, the same rows against the denoiser calls whose graphs are held at once."
    if len(frame):
        worst = frame.loc[frame["error, %"].abs().idxmax()]
        see += (
            f" The plan's prediction, from EasyTune's row alone, is off by at most {abs(worst['error, %']):.2f}% "
            f"({worst['method']}, T = {worst['T']}, over {len(frame)} rows)."
        )
    return Section("steps", title, see, lambda: figures.steps(rows), frame)


def _forecast(rows: Records) -> pd.DataFrame:
    frame = forecast.forecast(rows)
    if not len(frame):
        return frame
    shown = frame[["method", "profile", "T", "held"]].copy()
    shown["peak"], shown["predicted"] = frame["peak"] / GIB, frame["predicted"] / GIB
    shown["error, %"] = 100 * frame["error"]
    return shown


def plans(records: Records) -> Section:
    title, rows = "The plans", pick.plans(records)
    if not rows:
        return Section("plans", title, command=claims.command("--matrix quick"))
    see = (
        "All methods run one denoising loop. A plan says which of its calls record a graph, and where the state is cut."
    )
    frame = pd.DataFrame(
        {
            "method": row.case.method,
            **{name: getattr(plan_of(row), name) for name in ("calls", "recorded", "held", "scores", "updates")},
            "plan": plan_of(row).grid,
        }
        for row in rows
    )
    return Section("plans", title, see, lambda: figures.plans(rows), frame)


def random_methods(records: Records) -> Section:
    title, pairs = "Methods whose memory is random", pick.random_methods(records)
    if not pairs:
        return Section(
            "random", title, command=claims.command("--method alignprop --method drtune:m=10 --method easytune")
        )
    see = (
        "How many calls these methods hold is drawn anew for every trajectory. The peaks here are predicted from the "
        "held calls of many draws and from EasyTune's row. The one draw that was run is in the table of all rows."
    )
    return Section("random", title, see, lambda: figures.random_peaks(pairs), _random_table(pairs))


def _random_table(pairs: pick.Pairs) -> pd.DataFrame:
    rows = []
    for record, start in pairs:
        held = plan_of(record).held_over_draws
        low, middle, high = held.quartiles
        points = {"least": held.least, "quartile 1": low, "median": middle, "quartile 3": high, "most": held.most}
        rows.append(
            {
                "method": record.case.method,
                "profile": record.case.profile,
                "T": record.case.steps,
                "draws": held.draws,
                **{f"held, {name}": count for name, count in points.items()},
                **{f"predicted GiB, {name}": forecast.predicted(start, count) / GIB for name, count in points.items()},
            }
        )
    return pd.DataFrame(rows)
