"""Rows of schema version 1, and rows of before a study was widened, as rows of today. Works on JSON that nobody has
checked yet: what is not as it should be is left as it is, and refused when it is decoded."""

from typing import Any

TOTALS = ("trajectories", "updates", "samples", "seconds", "cpu_seconds")


def upgrade(row: dict[str, Any]) -> dict[str, Any]:
    """A row of version 1 with today's fields; a row of any other version as it is, but for the rewards of the study
    windows, which were one an arm once."""
    if row.get("schema") != 1:
        return _of_one_seed(row)
    row = {**row, "schema": 2}
    if row.get("kind") == "alignment":
        return _alignment(row)
    if row.get("kind") == "study":
        return _of_one_seed(_study(row))
    if row.get("kind") in ("reward_memory", "reward_step_time"):
        return _reward_training(row)
    return row


def _alignment(row: dict[str, Any]) -> dict[str, Any]:
    row |= {"case": _of_world(row.get("case"))}
    measured = row.get("alignment")
    if isinstance(measured, dict):
        row["alignment"] = {
            **measured,
            "curves": _each(measured.get("curves"), _curve),
            "selection": _each(measured.get("selection"), _tried),
        }
    return row


def _of_world(case: Any) -> Any:
    """The world stood as the backbone."""
    return {**case, "world": case["backbone"]} if isinstance(case, dict) and "backbone" in case else case


def _reward_training(row: dict[str, Any]) -> dict[str, Any]:
    """The backbone of the same size stood for the reward."""
    case = row.get("case")
    if not isinstance(case, dict) or "backbone" not in case:
        return row
    reward = {"mld": "spm", "mld-tiny": "spm-tiny"}.get(case["backbone"], case["backbone"])
    return {**row, "case": {**case, "reward": reward}}


def _study(row: dict[str, Any]) -> dict[str, Any]:
    """The name stood in the id alone, before the world's and the scale's."""
    case = _of_world(row.get("case"))
    if not isinstance(case, dict) or not isinstance(case.get("id"), str):
        return row
    name = case["id"].removesuffix(f"-{case.get('scale')}").removesuffix(f"-{case.get('world')}")
    row["case"] = {**case, "name": name}
    if isinstance(measured := row.get("study"), dict):
        row["study"] = {**measured, "name": name, **_CHANGED.get(name, lambda _: {})(measured)}
    return row


def _curve(points: Any) -> Any:
    return _each(points, _point)


def _point(point: Any) -> Any:
    """The metrics stood among the totals."""
    return _apart(point, TOTALS) if isinstance(point, dict) and "metrics" not in point else point


def _tried(rate: Any) -> Any:
    return _apart(rate, ("lr", "reason")) if isinstance(rate, dict) and "metrics" not in rate else rate


def _apart(row: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """A row with all but the named fields under `metrics`."""
    kept = {name: row[name] for name in names if name in row}
    return {**kept, "metrics": {name: value for name, value in row.items() if name not in names}}


def _rewards(measured: dict[str, Any]) -> dict[str, Any]:
    return {"rewards": _trained(measured.get("rewards"))}


def _trained(rewards: Any) -> Any:
    """Of the world's reward the training stood as {}."""
    if isinstance(rewards, list):
        return [_trained(reward) for reward in rewards]
    if isinstance(rewards, dict) and "training" in rewards:
        return {**rewards, "training": None if rewards["training"] == {} else rewards["training"]}
    return {name: _trained(reward) for name, reward in rewards.items()} if isinstance(rewards, dict) else rewards


def _of_one_seed(row: dict[str, Any]) -> dict[str, Any]:
    measured = row.get("study")
    if not isinstance(measured, dict) or measured.get("name") != "windows":
        return row
    rewards = measured.get("rewards")
    if isinstance(rewards, dict):
        rewards = {arm: [one] if isinstance(one, dict) else one for arm, one in rewards.items()}
    return {**row, "study": {**measured, "rewards": rewards}}


def _gaming(measured: dict[str, Any]) -> dict[str, Any]:
    def run(row: Any) -> Any:
        return {**row, "curves": _each(row.get("curves"), _curve)} if isinstance(row, dict) else row

    return {"runs": _each(measured.get("runs"), run)}


_CHANGED = {
    "retrieval": _rewards,
    "spl": _rewards,
    "windows": _rewards,
    "feature_noise": _rewards,
    "gaming": _gaming,
}


def _each(values: Any, change: Any) -> Any:
    return [change(value) for value in values] if isinstance(values, list) else values
