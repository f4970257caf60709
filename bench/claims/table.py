"""C1, C2, C11: the published table."""

from collections.abc import Sequence

import pandas as pd

from bench.cases import Case
from bench.claims.compare import find, provenance
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
from bench.units import GIB


def judge_additional_memory(records: Sequence[dict]) -> Verdict:
    """C1: EasyTune's share of DRaFT's additional memory, over every base that "additional" may be counted from."""
    found = find(records, [Case(DRAFT), Case(EASYTUNE)])
    draft, easytune = found.rows
    numbers = _shares(draft["reading"], easytune["reading"])
    frozen = _frozen_pair(records, draft)
    if frozen:
        numbers["share, reward frozen"] = _shares(*frozen)["share"]
    meets = [within(share, PUBLISHED_SHARE) for share in numbers[numbers["kind"] != "computed"]["share"]]
    share = dict(zip(numbers["base"], numbers["share"], strict=True))
    finding = (
        f"EasyTune needs {share['parameters']:.1%} of DRaFT-50's memory beyond the parameters, {share['resident']:.1%} "
        f"beyond what is resident and {share['sampling']:.1%} beyond the sampling peak; beyond the published "
        f"{PUBLISHED_BASE} it is {share[_published_base('GB')]:.1%} (GB) or {share[_published_base('GiB')]:.1%} (GiB). "
        + _matching_base_sentence(draft["reading"], easytune["reading"])
    )
    return Verdict("C1", outcome_of(meets), finding, numbers, found.provenance)


def _frozen_pair(records: Sequence[dict], like: dict) -> tuple[dict, dict] | None:
    """Readings of DRaFT and EasyTune with the reward frozen, if they were taken where `like` was."""
    try:
        draft, easytune = find(records, [Case(method, profile="frozen") for method in (DRAFT, EASYTUNE)]).rows
    except NotJudgedError:
        return None
    return (draft["reading"], easytune["reading"]) if provenance(draft) == provenance(like) else None


def _published_base(unit: str) -> str:
    return f"published {PUBLISHED_BASE} {unit}"


def matching_base(draft: dict, easytune: dict) -> float:
    """The base, bytes, over which EasyTune needs exactly the published share: (E - b) / (D - b) = share."""
    return (easytune["peak"] - PUBLISHED_SHARE * draft["peak"]) / (1 - PUBLISHED_SHARE)


def _shares(draft: dict, easytune: dict) -> pd.DataFrame:
    """(E - base) / (D - base) for every base; `kind` says whether it is read from the record, published or computed."""
    resident = easytune["resident"]
    graphs = {phase: easytune["split"].get(phase, {}).get("activations", 0) for phase in ("decode", "reward")}
    bases = [
        *((name, "read", easytune[name]) for name in ("parameters", "resident", "sampling")),
        *((_published_base(unit), "published", PUBLISHED_BASE * size) for unit, size in UNITS.items()),
        *((f"resident + graph of the {phase}", "computed", resident + size) for phase, size in graphs.items() if size),
        (f"what gives {PUBLISHED_SHARE:.2%}", "computed", matching_base(draft, easytune)),
    ]
    rows = []
    for name, kind, base in bases:
        share = (easytune["peak"] - base) / (draft["peak"] - base)
        rows.append({"base": name, "kind": kind, "GB": base / GB, "GiB": base / GIB, "share": share})
    return pd.DataFrame(rows)


def _matching_base_sentence(draft: dict, easytune: dict) -> str:
    """What the base that gives the published share would have to contain."""
    base = matching_base(draft, easytune)
    update = (base - easytune["resident"]) / (easytune["peak"] - easytune["resident"])
    return (
        f"Exactly {PUBLISHED_SHARE:.2%} needs a base of {base / GB:.2f} GB, {base / easytune['sampling']:.0f} times "
        f"our sampling peak: it would have to hold {update:.0%} of what EasyTune's own update adds to resident memory."
    )


def judge_peaks(records: Sequence[dict]) -> Verdict:
    """C2: the published peaks against ours, in both units."""
    found = find(records, [Case(method) for method in (*PUBLISHED, *CHAINS)])
    peaks = {row["case"]["method"]: row["reading"] for row in found.rows}
    numbers = pd.DataFrame(
        [
            *(_beside(NAMES[method], published, peaks[method], "peak") for method, published in PUBLISHED.items()),
            *(_beside(name, PUBLISHED_CHAIN, peaks[method], "peak") for method, name in CHAINS.items()),
            _beside("base: sampling without gradients", PUBLISHED_BASE, peaks[EASYTUNE], "sampling"),
        ]
    )
    same_order = sorted(PUBLISHED, key=PUBLISHED.__getitem__) == sorted(PUBLISHED, key=lambda m: peaks[m]["peak"])
    met = {unit: numbers["row"][[within(r, 1) for r in numbers[f"ours / published {unit}"]]].tolist() for unit in UNITS}
    every = any(_all_rows_met(names) for names in met.values())
    outcome = Outcome.FAILS if not same_order else Outcome.HOLDS if every else Outcome.IN_PART
    ratios, chains = numbers["ours / published GB"], [peaks[method]["peak"] / GB for method in CHAINS]
    tuned = ratios[: len(PUBLISHED)]
    finding = (
        f"The order of the methods is {'the published one' if same_order else 'not the published one'}. Within "
        f"{TOLERANCE:.0%} lie {_named(met['GB'])} if GB means {MEANING['GB']} bytes, {_named(met['GiB'])} if "
        f"{MEANING['GiB']}. Ours are {tuned.min():.2f} to {tuned.max():.2f} of the published peaks (GB), our sampling "
        f"peak {ratios.iloc[-1]:.2f} of the published base, and the chain takes {chains[0]:.2f} GB as described or "
        f"{chains[1]:.2f} as released against {PUBLISHED_CHAIN}."
    )
    return Verdict("C2", outcome, finding, numbers, found.provenance)


def _all_rows_met(names: Sequence[str]) -> bool:
    """One of the chain's two readings is enough; every other row counts."""
    chains = set(CHAINS.values())
    return len(set(names) - chains) == len(PUBLISHED) + 1 and bool(chains & set(names))


def _named(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _beside(name: str, published: float, reading: dict, what: str) -> dict:
    """One row of C2: a published figure, ours, their ratios. What nvidia-smi would show stands beside where known."""
    row = {
        "row": name,
        "published": published,
        "ours, GB": reading[what] / GB,
        "ours, GiB": reading[what] / GIB,
        **{f"ours / published {unit}": reading[what] / size / published for unit, size in UNITS.items()},
    }
    if what == "peak":
        row |= {f"{extra}, GiB": reading[extra] / GIB for extra in ("reserved", "process") if reading.get(extra)}
    return row


def judge_saving(records: Sequence[dict]) -> Verdict:
    """C11: what EasyTune saves against DRaFT, and its own peak."""
    found = find(records, [Case(DRAFT), Case(EASYTUNE)])
    draft, easytune = found.rows
    saved, peak = draft["reading"]["peak"] - easytune["reading"]["peak"], easytune["reading"]["peak"]
    calls = draft["plan"]["held"] - easytune["plan"]["held"]
    compared = {
        "saved": (PUBLISHED_SAVING, saved),
        "EasyTune's peak": (PUBLISHED[EASYTUNE], peak),
        "saved a held call": (PUBLISHED_SAVING / calls, saved / calls),
    }
    numbers = pd.DataFrame(
        {
            "figure": name,
            "published": published,
            "ours, GB": ours / GB,
            "ours, GiB": ours / GIB,
            **{f"ours / published {unit}": ours / size / published for unit, size in UNITS.items()},
        }
        for name, (published, ours) in compared.items()
    )
    met = {u: all(within(ratio, 1) for ratio in numbers[f"ours / published {u}"][:2]) for u in UNITS}
    agreeing = " and ".join(f"GB means {MEANING[unit]} bytes" for unit, yes in met.items() if yes)
    finding = (
        f"EasyTune saves {saved / GB:.2f} GB ({saved / GIB:.2f} GiB) at a peak of {peak / GB:.2f} GB ({peak / GIB:.2f} "
        f"GiB); {PUBLISHED_SAVING} at {PUBLISHED[EASYTUNE]:.2f} are published. "
        + (f"Within {TOLERANCE:.0%} if {agreeing}." if agreeing else f"Not within {TOLERANCE:.0%} in any unit.")
    )
    return Verdict("C11", outcome_of(list(met.values())), finding, numbers, found.provenance)
