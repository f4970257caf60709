"""C1, C2, C11: the published table."""

from collections.abc import Sequence

import pandas as pd

from bench.cases import Case
from bench.claims.compare import find, provenance
from bench.claims.measured import held, peak, reading_of
from bench.claims.published import (
    CHAINS,
    DRAFT,
    EASYTUNE,
    GB,
    MEANING,
    NAMES,
    PUBLISHED,
    PUBLISHED_BASE,
    PUBLISHED_CHAIN,
    PUBLISHED_SAVING,
    PUBLISHED_SHARE,
    TOLERANCE,
    UNITS,
    within,
)
from bench.claims.verdict import NotJudgedError, Outcome, Verdict, outcome_of
from bench.meters.reading import Reading
from bench.records import MemoryRecord, Record
from bench.units import GIB


def judge_additional_memory(records: Sequence[Record]) -> Verdict:
    """C1: EasyTune's share of DRaFT's additional memory, over every base that "additional" may be counted from."""
    selected = find(records, [Case(DRAFT), Case(EASYTUNE)], MemoryRecord)
    draft, easytune = map(reading_of, selected.rows)
    numbers = _shares(draft, easytune)
    frozen = _frozen_pair(records, selected.rows[0])
    if frozen:
        numbers["share, reward frozen"] = _shares(*frozen)["share"]
    meets = [within(share, PUBLISHED_SHARE) for share in numbers[numbers["kind"] != "computed"]["share"]]
    share = dict(zip(numbers["base"], numbers["share"], strict=True))
    finding = (
        f"EasyTune needs {share['parameters']:.1%} of DRaFT-50's memory beyond the parameters, {share['resident']:.1%} "
        f"beyond what is resident and {share['sampling']:.1%} beyond the sampling peak. Beyond the published "
        f"{PUBLISHED_BASE} it is {share[_published_base('GB')]:.1%} (GB) or {share[_published_base('GiB')]:.1%} (GiB). "
        + _matching_base_sentence(draft, easytune)
    )
    return Verdict("C1", outcome_of(meets), finding, numbers, selected.provenance)


def _frozen_pair(records: Sequence[Record], like: MemoryRecord) -> tuple[Reading, Reading] | None:
    """Readings of DRaFT and EasyTune with the reward frozen, if they were taken where `like` was."""
    try:
        wanted = [Case(method, profile="frozen") for method in (DRAFT, EASYTUNE)]
        draft, easytune = find(records, wanted, MemoryRecord).rows
    except NotJudgedError:
        return None
    return (reading_of(draft), reading_of(easytune)) if provenance(draft) == provenance(like) else None


def _published_base(unit: str) -> str:
    return f"published {PUBLISHED_BASE} {unit}"


def matching_base(draft: Reading, easytune: Reading) -> float:
    """The base, bytes, over which EasyTune needs exactly the published share: (E - b) / (D - b) = share."""
    return (easytune.peak - PUBLISHED_SHARE * draft.peak) / (1 - PUBLISHED_SHARE)


def _shares(draft: Reading, easytune: Reading) -> pd.DataFrame:
    """(E - base) / (D - base) for every base; `kind` says whether it is read from the record, published or computed."""
    resident = easytune.resident
    graphs = {phase: easytune.split.get(phase, {}).get("activations", 0) for phase in ("decode", "reward")}
    bases = [
        *((name, "read", getattr(easytune, name)) for name in ("parameters", "resident", "sampling")),
        *((_published_base(unit), "published", PUBLISHED_BASE * size) for unit, size in UNITS.items()),
        *((f"resident + graph of the {phase}", "computed", resident + size) for phase, size in graphs.items() if size),
        (f"what gives {PUBLISHED_SHARE:.2%}", "computed", matching_base(draft, easytune)),
    ]
    rows = []
    for name, kind, base in bases:
        share = (easytune.peak - base) / (draft.peak - base)
        rows.append({"base": name, "kind": kind, "GB": base / GB, "GiB": base / GIB, "share": share})
    return pd.DataFrame(rows)


def _matching_base_sentence(draft: Reading, easytune: Reading) -> str:
    """What the base that gives the published share would have to contain."""
    base = matching_base(draft, easytune)
    update = (base - easytune.resident) / (easytune.peak - easytune.resident)
    return (
        f"Exactly {PUBLISHED_SHARE:.2%} needs a base of {base / GB:.2f} GB, {base / easytune.sampling:.0f} times "
        f"our sampling peak: it would have to hold {update:.0%} of what EasyTune's own update adds to resident memory."
    )


def judge_peaks(records: Sequence[Record]) -> Verdict:
    """C2: the published peaks against ours, in both units."""
    selected = find(records, [Case(method) for method in (*PUBLISHED, *CHAINS)], MemoryRecord)
    peaks = {row.case.method: reading_of(row) for row in selected.rows}
    numbers = pd.DataFrame(
        [
            *(
                {"row": NAMES[method]} | _beside_peak(published, peaks[method])
                for method, published in PUBLISHED.items()
            ),
            *({"row": name} | _beside_peak(PUBLISHED_CHAIN, peaks[method]) for method, name in CHAINS.items()),
            {"row": "base: sampling without gradients"} | _beside(PUBLISHED_BASE, peaks[EASYTUNE].sampling),
        ]
    )
    same_order = sorted(PUBLISHED, key=PUBLISHED.__getitem__) == sorted(PUBLISHED, key=lambda m: peaks[m].peak)
    met = {unit: numbers["row"][[within(r, 1) for r in numbers[f"ours / published {unit}"]]].tolist() for unit in UNITS}
    every = any(_all_rows_met(names) for names in met.values())
    outcome = Outcome.FAILS if not same_order else Outcome.HOLDS if every else Outcome.IN_PART
    ratios, chains = numbers["ours / published GB"], [peaks[method].peak / GB for method in CHAINS]
    tuned = ratios[: len(PUBLISHED)]
    finding = (
        f"The order of the methods is {'the published one' if same_order else 'not the published one'}. Within "
        f"{TOLERANCE:.0%} lie {_named(met['GB'])} if GB means {MEANING['GB']} bytes, {_named(met['GiB'])} if "
        f"{MEANING['GiB']}. Ours are {tuned.min():.2f} to {tuned.max():.2f} of the published peaks (GB), our sampling "
        f"peak {ratios.iloc[-1]:.2f} of the published base. The chain takes {chains[0]:.2f} GB as described or "
        f"{chains[1]:.2f} as released against {PUBLISHED_CHAIN}."
    )
    return Verdict("C2", outcome, finding, numbers, selected.provenance)


def _all_rows_met(names: Sequence[str]) -> bool:
    """One of the chain's two readings is enough; every other row counts."""
    chains = set(CHAINS.values())
    return len(set(names) - chains) == len(PUBLISHED) + 1 and bool(chains & set(names))


def _named(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _beside(published: float, ours: float) -> dict:
    """A published figure, ours in bytes, their ratios."""
    return {
        "published": published,
        "ours, GB": ours / GB,
        "ours, GiB": ours / GIB,
        **{f"ours / published {unit}": ours / size / published for unit, size in UNITS.items()},
    }


def _beside_peak(published: float, reading: Reading) -> dict:
    """The same of a peak, with what nvidia-smi would show where that was read."""
    shown = {"reserved": reading.reserved, "process": reading.process}
    return _beside(published, reading.peak) | {f"{key}, GiB": size / GIB for key, size in shown.items() if size}


def judge_saving(records: Sequence[Record]) -> Verdict:
    """C11: what EasyTune saves against DRaFT, and its own peak."""
    selected = find(records, [Case(DRAFT), Case(EASYTUNE)], MemoryRecord)
    draft, easytune = selected.rows
    saved, ours = peak(draft) - peak(easytune), peak(easytune)
    calls = held(draft) - held(easytune)
    compared = {
        "saved": (PUBLISHED_SAVING, saved),
        "EasyTune's peak": (PUBLISHED[EASYTUNE], ours),
        "saved a held call": (PUBLISHED_SAVING / calls, saved / calls),
    }
    numbers = pd.DataFrame({"figure": name} | _beside(*pair) for name, pair in compared.items())
    met = {u: all(within(ratio, 1) for ratio in numbers[f"ours / published {u}"][:2]) for u in UNITS}
    agreeing = " and ".join(f"GB means {MEANING[unit]} bytes" for unit, yes in met.items() if yes)
    finding = (
        f"EasyTune saves {saved / GB:.2f} GB ({saved / GIB:.2f} GiB) at a peak of {ours / GB:.2f} GB ({ours / GIB:.2f} "
        f"GiB); {PUBLISHED_SAVING} at {PUBLISHED[EASYTUNE]:.2f} are published. "
        + (f"Within {TOLERANCE:.0%} if {agreeing}." if agreeing else f"Not within {TOLERANCE:.0%} in any unit.")
    )
    return Verdict("C11", outcome_of(list(met.values())), finding, numbers, selected.provenance)
