"""Simulated rows against those measured on a GPU."""

from collections.abc import Sequence

import pandas as pd

from bench import claims
from bench.claims.measured import peak, reading_of
from bench.records import MemoryRecord
from bench.report import figures
from bench.report import rows as pick
from bench.report.sections.section import Records, Section
from bench.units import GIB


def meters(records: Records) -> Section:
    title, pairs = "Simulated against measured", pick.pairs(records)
    if not pairs:
        return Section("meters", title, command=claims.command("--matrix published --meter simulated --meter cuda"))
    frame = _meters_table(pairs)
    ratios = frame["simulated / allocated"]
    see = (
        f"The same cases simulated and measured on {pairs[0][1].environment.device}: simulated peaks are "
        f"{ratios.min():.3f} to {ratios.max():.3f} of what the allocator counted."
    )
    return Section("meters", title, see, lambda: figures.meters(pairs), frame)


def _meters_table(pairs: Sequence[tuple[MemoryRecord, MemoryRecord]]) -> pd.DataFrame:
    """GiB of every counter of the measured rows, and what the simulation is of them."""
    rows = []
    for simulated, measured in pairs:
        case, reading, expected = measured.case, reading_of(measured), peak(simulated)
        named = {"allocated": "peak", **{n: n for n in ("tracked", "requested", "reserved", "workspace", "process")}}
        sizes = {name: getattr(reading, source) for name, source in named.items()}
        compared = ("allocated", "tracked", "requested")
        rows.append(
            {
                "method": case.method,
                "profile": case.profile,
                "T": case.steps,
                "B": case.batch,
                "simulated": expected / GIB,
                **{name: size / GIB if size is not None else None for name, size in sizes.items()},
                **{f"simulated / {name}": expected / sizes[name] if sizes[name] else None for name in compared},
            }
        )
    return pd.DataFrame(rows)
