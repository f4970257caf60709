"""The record of one case: everything in it explains itself, JSON types only, under a version.

Records travel in pytest-benchmark's JSON, as a benchmark's `extra_info`; a journal file holds one a line.
"""

import dataclasses
import functools
import json
import os
import platform
import random
import statistics
import subprocess
from collections.abc import Iterable
from pathlib import Path

import torch

from bench.cases import Case
from bench.meters import allocator
from bench.profiles import profile
from bench.reward_cases import RewardCase
from bench.setup import draw_plan
from methods import Plan
from methods.errors import InputError

SCHEMA = 1
STATUSES = ("ok", "oom", "unavailable", "failed")
"""ok; oom: did not fit; unavailable: the meter needs what this machine lacks; failed: anything else, see `reason`."""
PLAN_DRAWS = 1000
MEASURED = {
    "memory": "reading",
    "step_time": "timing",
    "reward_memory": "reading",
    "reward_step_time": "timing",
    "alignment": "alignment",
    "study": "study",
}
"""Kinds of records, and the field that holds what was measured (see bench/alignment/: benchmark, studies)."""
GIVE = "give a JSON written by pytest bench/ --benchmark-json"
AGAIN = "run the benchmark again"


class RecordError(InputError):
    """A file of results cannot be used; the message is one sentence that names it and the mend."""


def make(measure: str, case: Case | RewardCase, status: str, reason: str | None = None, **measured) -> dict:
    """A record of a "memory" or "step_time" measurement. `measured`: `reading` or `timing`, as JSON types."""
    return {
        "schema": SCHEMA,
        "kind": kind(measure, case),
        "case": {**dataclasses.asdict(case), "method": case.method, "id": case.id},
        "status": status,
        "reason": reason,
        "simulated": case.meter == "simulated",
        "plan": _plan(case) if isinstance(case, Case) else None,
        "settings": settings(case),
        "environment": environment(case.meter == "cuda"),
        **measured,
    }


def kind(measure: str, case: Case | RewardCase) -> str:
    """Of a "memory" or "step_time" record: the training of a reward has kinds of its own, since it has no plan."""
    return measure if isinstance(case, Case) else f"reward_{measure}"


def _plan(case: Case) -> dict | None:
    try:
        return describe_plan(case, draw_plan(case))
    except ValueError:
        return None  # the options do not fit the case: `reason` says so


def describe_plan(case: Case, plan: Plan) -> dict:
    """The plan as it was drawn; where it is random, how many calls other draws hold at once."""
    held = sorted(case.resolve().plan(case.steps, random.Random(draw)).held for draw in range(PLAN_DRAWS))
    return {
        "grid": plan.grid(),
        "total": plan.total,
        "calls": len(plan.steps),
        "recorded": plan.recorded,
        "held": plan.held,
        "scores": plan.scores,
        "updates": plan.updates,
        "held_over_draws": {
            "draws": PLAN_DRAWS,
            "least": held[0],
            "quartiles": [int(q) for q in statistics.quantiles(held, n=4)],
            "most": held[-1],
        },
    }


def settings(case: Case | RewardCase) -> dict:
    """Every setting that changes bytes or time, as in effect."""
    effective = {
        **dataclasses.asdict(profile(case.profile)),
        "optimizer": "AdamW, foreach",
        "matmul_precision": torch.get_float32_matmul_precision(),
        "threads": torch.get_num_threads(),
    }
    if case.meter == "simulated":
        effective["allocator"] = allocator.settings().record()  # as assumed for `allocated` and `reserved`
    if case.meter == "cuda":
        effective |= {
            "cublas_workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG", "default"),
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "cudnn_deterministic": torch.backends.cudnn.deterministic,
            "allow_tf32": torch.backends.cuda.matmul.allow_tf32,
            # What the allocator took, not what the environment asked for: the variable was ignored by some versions.
            "allocator": _allocator_settings(),
        }
    return effective


def _allocator_settings() -> dict | str:
    if not torch.cuda.is_available():
        return "no GPU"
    found = torch.cuda.memory._snapshot().get("allocator_settings", {})
    return {key: value for key, value in found.items() if isinstance(value, str | int | float | bool)}


def environment(with_gpu: bool) -> dict:
    """Where it was measured: versions, commit, device."""
    found = dict(_host_environment())
    if with_gpu:
        found["device"] = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
        found["cuda"] = torch.version.cuda
    return found


def commit() -> str | None:
    """The commit of this code, `-dirty` if it was changed since; None outside a repository."""
    return dict(_host_environment())["commit"]  # type: ignore[return-value]


@functools.cache
def _host_environment() -> tuple[tuple[str, object], ...]:
    root = Path(__file__).parent
    describe = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        described = subprocess.run(describe, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:  # no git on this machine
        described = ""
    return (
        ("torch", torch.__version__),
        ("python", platform.python_version()),
        ("machine", platform.machine()),
        ("system", platform.system()),
        ("cpus", os.cpu_count()),
        ("commit", described or None),
        ("device", f"{platform.machine()} CPU, {os.cpu_count()} cores"),
    )


def key(record: dict) -> str:
    """What a record is about: its kind and its case."""
    return f"{record['kind']}:{record['case']['id']}"


def load(path: Path | str) -> list[dict]:
    """The records of a result file: pytest-benchmark's JSON, or a journal (one record a line).

    RecordError for a file that is missing, empty, cut off, not a result of this suite, or of another schema version.
    """
    path = Path(path)
    if path.suffix == ".partial":
        records = _from_journal(read_text(path, str(path), AGAIN), path)
    else:
        mend = f"{GIVE} (the rows of an aborted run are in {path}.partial)"
        records = _from_benchmark_json(read_json(path, str(path), mend), path)
    return [check(record, path) for record in records]


def read_text(path: Path, name: str, mend: str) -> str:
    """The text of a file. RecordError, with `name` for the file and `mend` for what to do, if it cannot be read, is no
    text, or is empty."""
    try:
        text = path.read_text()
    except OSError as error:
        raise RecordError(f"cannot read {name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RecordError(f"{name} is not a text file: {mend}") from None
    if not text.strip():
        raise RecordError(f"{name} is empty: {mend}")
    return text


def read_json(path: Path, name: str, mend: str) -> object:
    """The document of a JSON file; RecordError as `read_text`, and if the JSON is cut off or broken."""
    try:
        return json.loads(read_text(path, name, mend))
    except json.JSONDecodeError as error:
        raise RecordError(f"{name} is not whole JSON (line {error.lineno}: {error.msg}): {mend}") from None


def _from_benchmark_json(document: object, path: Path) -> list[dict]:
    if not isinstance(document, dict) or not isinstance(document.get("benchmarks"), list):
        raise RecordError(f"{path} is not a pytest-benchmark result: {GIVE}")
    records = [b["extra_info"] for b in document["benchmarks"] if isinstance(b, dict) and b.get("extra_info")]
    if not records:
        raise RecordError(f"{path} holds no record of this suite: {GIVE}")
    return records


def _from_journal(text: str, path: Path) -> list[dict]:
    """A run that was killed may have cut the last line; the lines before it are whole."""
    records = []
    for line in text.splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    if not records:
        raise RecordError(f"{path} holds no whole record: {AGAIN}")
    return records


def check(record: object, path: Path) -> dict:
    """The record itself if it is one of ours, else RecordError."""
    if not isinstance(record, dict) or "schema" not in record:
        raise RecordError(f"{path} holds rows that are not of this suite: give a JSON written by pytest bench/")
    if record["schema"] != SCHEMA:
        raise RecordError(f"{path} has schema version {record['schema']}, this suite reads version {SCHEMA}: {AGAIN}")
    wanted = {"kind": str, "case": dict, "status": str, "settings": dict, "environment": dict}
    for name, kind in wanted.items():
        if not isinstance(record.get(name), kind):
            raise RecordError(f"{path} has a record without a usable {name!r}: it was edited or cut, {AGAIN}")
    measured = MEASURED.get(record["kind"])
    if measured is None or record["status"] not in STATUSES or "id" not in record["case"]:
        raise RecordError(f"{path} has a record of an unknown kind or status: it was edited, {AGAIN}")
    if record["status"] == "ok" and not isinstance(record.get(measured), dict):
        raise RecordError(f"{path} has a record without its {measured}: it was edited or cut, {AGAIN}")
    return record


def merge(files: Iterable[list[dict]]) -> list[dict]:
    """Records of several files; a later one replaces an earlier one of the same kind, case, device and torch."""
    merged = {}
    for records in files:
        for record in records:
            where = record["environment"]
            merged[key(record), where.get("device"), where.get("torch")] = record
    return list(merged.values())
