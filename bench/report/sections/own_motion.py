"""Fine-tuning and rewards on worlds of real motion, where records have any."""

from collections.abc import Mapping, Sequence
from contextlib import suppress

import pandas as pd

from bench import claims, tables
from bench.alignment.reading import of_seeds, paired
from bench.cases import EMBEDDED
from bench.claims.base_model import study
from bench.claims.rewards import mined, recalls, retrieved
from bench.claims.verdict import NotJudgedError
from bench.report import rows as pick
from bench.report.sections.section import Records, Section
from bench.tables import interval

OWN_WORLD = "--align-world mine.safetensors"
COMMAND = claims.command(OWN_WORLD, "alignment")
REWARDS_COMMAND = claims.command(f"--study retrieval {OWN_WORLD}", "study")


def own_motion(records: Records) -> Section:
    title, worlds = "Real motion", pick.own_motion(records)
    if not worlds:
        return Section("own_motion", title, command=COMMAND)
    told = "; ".join(
        f"{name}: {rows[0]['alignment']['curves'][0][-1]['trajectories']} trajectories of {rows[0]['case']['batch']} "
        f"prompts, {len(rows[0]['alignment']['seeds'])} seeds"
        for name, rows in worlds.items()
    )
    see = (
        f"Short runs of small models, each pre-trained on its motion in minutes of two cores ({told}). Test prompts, "
        "95% intervals over seeds, the world's own evaluator. They show that the whole way works on real motion; they "
        "rank nothing, and say nothing of published models."
    )
    if weak := [name for name, rows in worlds.items() if _real_is_below_base(rows[0]["alignment"])]:
        see += f" Of {', '.join(weak)} the evaluator finds real motion worse than the base's: it judges nothing there."
    frames = [tables.alignment(rows).assign(motion=name) for name, rows in worlds.items()]
    frame = pd.concat(frames, ignore_index=True)
    return Section("own_motion", title, see, None, frame[["motion", *frame.columns.drop("motion")]])


def _real_is_below_base(found: dict) -> bool:
    return (found["real"]["r1"] or 0.0) < (found["base"]["r1"]["mean"] or 0.0)


def own_rewards(records: Records) -> Section:
    """Retrieval by rewards of one recipe: of worlds of real motion beside the embedded one."""
    title, own = "Rewards on real motion", pick.own_retrieval(records)
    if not own:
        return Section("own_rewards", title, command=REWARDS_COMMAND)
    worlds = {**_embedded(records), **own}
    see = (
        "Rewards of one recipe on each world's motion, text to motion among its test clips; 95% intervals over reward "
        f"seeds. {' '.join(_told(name, row['study']['rewards']) for name, row in worlds.items())}"
    )
    return Section("own_rewards", title, see, None, pd.DataFrame(_arms(worlds)).fillna(""))


def _embedded(records: Records) -> dict[str, dict]:
    """The embedded world's study of the same rewards."""
    for name in ("retrieval", "spl"):
        with suppress(NotJudgedError):
            return {EMBEDDED: study(records, name)}
    return {}


def _told(name: str, rewards: Mapping[str, Sequence[dict]]) -> str:
    """A sentence: R@1 without SPL, and what SPL changes, in pools of 32 where there are motions enough."""
    first = rewards["control"][0]["retrieval"]
    kind, among = ("pools", "in pools of 32") if first["pools"] else ("all", "among all")
    found = {arm: [recalls(of["retrieval"], kind) for of in own] for arm, own in rewards.items()}
    pairs = {arm: mined(rewards[arm])["mean"] for arm in ("spl", "k1")}
    changes = {arm: interval(paired(own, found["control"], "R@1"), "+.1f") for arm, own in found.items()}
    return (
        f"{name} ({first['count']} clips, {among}): R@1 {interval(of_seeds(found['control'], 'R@1'), '.1f')}% without "
        f"SPL, which changes it by {changes['spl']} points ({pairs['spl']:.1%} of texts gave a pair), with K = 1 by "
        f"{changes['k1']} ({pairs['k1']:.0%})."
    )


def _arms(worlds: Mapping[str, dict]) -> list[dict]:
    return [
        {"motion": name, "clips": own[0]["retrieval"]["count"], "arm": arm} | retrieved(own)
        for name, record in worlds.items()
        for arm, own in record["study"]["rewards"].items()
    ]
