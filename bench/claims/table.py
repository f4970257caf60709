"""C1, C2, C11: the published table."""

from collections.abc import Mapping, Sequence

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
from methods.rollout import FORWARD_PHASES

BEFORE = "before backward, GB"
"""The peak of the phases before the backward pass. The released code resets the allocator's counter before it reads
what it calls "after backward", so published figures may be these."""


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
    """C2: the published peaks against ours, in both units; of the whole update, and before its backward pass. One
    reading that meets them all is enough."""
    selected = find(records, [Case(method) for method in (*PUBLISHED, *CHAINS)], MemoryRecord)
    peaks = {row.case.method: reading_of(row) for row in selected.rows}
    sampling = peaks[EASYTUNE].sampling
    numbers = pd.DataFrame(
        [
            *(
                {"row": NAMES[method]} | _beside_peak(published, peaks[method])
                for method, published in PUBLISHED.items()
            ),
            *({"row": name} | _beside_peak(PUBLISHED_CHAIN, peaks[method]) for method, name in CHAINS.items()),
            {"row": "base: sampling without gradients", **_beside(PUBLISHED_BASE, sampling), BEFORE: sampling / GB},
        ]
    )
    outcomes, met = zip(*(_peaks_met(numbers, column) for column in ("ours, GB", BEFORE)), strict=True)
    failing = outcomes.count(Outcome.FAILS)
    outcome = Outcome.HOLDS if Outcome.HOLDS in outcomes else Outcome.FAILS if failing == 2 else Outcome.IN_PART
    ratios, chains = numbers["ours / published GB"], [peaks[method].peak / GB for method in CHAINS]
    finding = (
        f"The order is {'not ' if outcomes[0] is Outcome.FAILS else ''}the published one. {_within(met[0])}. Ours are "
        f"{_range(ratios)} of the published (GB), sampling {ratios.iloc[-1]:.2f}; the chain takes {chains[0]:.2f} GB "
        f"as described, {chains[1]:.2f} as released. "
    )
    before = numbers[BEFORE] / numbers["published"]
    if numbers[BEFORE].equals(numbers["ours, GB"]):
        finding += (
            "Before the backward pass, all that the released counter may have read, they are the same to the byte."
        )
    else:
        finding += (
            f"Before the backward pass, all that the released counter may have read, ours are {_range(before)}, in "
            f"{'another' if outcomes[1] is Outcome.FAILS else 'the published'} order. {_within(met[1])}."
        )
    return Verdict("C2", outcome, finding, numbers, selected.provenance)


def _peaks_met(numbers: pd.DataFrame, column: str) -> tuple[Outcome, dict[str, list[str]]]:
    """What becomes of the claim by a column of bytes in GB, and the rows that meet the published figure, by unit."""
    ours, published = numbers[column], numbers["published"]
    met = {
        unit: numbers["row"][[within(*pair) for pair in zip(ours * GB / size, published, strict=True)]].tolist()
        for unit, size in UNITS.items()
    }
    tuned = slice(len(PUBLISHED))
    if not ours[tuned].rank().equals(published[tuned].rank()):
        return Outcome.FAILS, met
    return Outcome.HOLDS if any(map(_all_rows_met, met.values())) else Outcome.IN_PART, met


def _all_rows_met(names: Sequence[str]) -> bool:
    """One of the chain's two readings is enough; every other row counts."""
    chains = set(CHAINS.values())
    return len(set(names) - chains) == len(PUBLISHED) + 1 and bool(chains & set(names))


def _within(met: Mapping[str, Sequence[str]]) -> str:
    rows = {unit: ", ".join(names) or "none" for unit, names in met.items()}
    return (
        f"Within {TOLERANCE:.0%} lie {rows['GB']} if GB means {MEANING['GB']} bytes, {rows['GiB']} if {MEANING['GiB']}"
    )


def _range(ratios: pd.Series) -> str:
    """Of the methods, without the chain and the base."""
    tuned = ratios[: len(PUBLISHED)]
    return f"{tuned.min():.2f} to {tuned.max():.2f}"


def _beside(published: float, ours: float) -> dict:
    """A published figure, ours in bytes, their ratios."""
    return {
        "published": published,
        "ours, GB": ours / GB,
        "ours, GiB": ours / GIB,
        **{f"ours / published {unit}": ours / size / published for unit, size in UNITS.items()},
    }


def _beside_peak(published: float, reading: Reading) -> dict:
    """The same of a peak, with that of the forward phases, and what nvidia-smi would show where that was read."""
    before = max(reading.phases[phase] for phase in FORWARD_PHASES)
    shown = {"reserved": reading.reserved, "process": reading.process}
    return {
        **_beside(published, reading.peak),
        BEFORE: before / GB,
        **{f"{key}, GiB": size / GIB for key, size in shown.items() if size},
    }


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
