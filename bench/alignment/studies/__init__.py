"""Measurements beside the benchmark that claims and doubts hang on: of the base model, and of rewards and runs.

base_model    chain (C6), similarity (C7), noise (C8): seconds, without training
trained       retrieval, spl (C9), windows (C8), feature_noise, strength, gaming: minutes each, in worker processes
jobs          what the second kind is made of; an interrupted study goes on from the results that it kept
"""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from bench import record
from bench.alignment.benchmark import digest
from bench.alignment.studies import trained
from bench.alignment.studies.base_model import chain, noise, similarity
from bench.alignment.studies.jobs import Jobs
from bench.cases import EMBEDDED
from bench.runner import one_sentence
from bench.world import WEIGHTS, load, name_of

BASE_MODEL: dict[str, Callable[..., dict]] = {"chain": chain, "similarity": similarity, "noise": noise}
STEPS = {"chain": 50, "similarity": 50, "noise": trained.STEPS}
"""Denoising steps of the studies of the base model."""
TRAINED: dict[str, Callable[[Jobs, trained.Scale], dict]] = {
    "retrieval": trained.retrieval,
    "spl": trained.spl,
    "windows": trained.windows,
    "feature_noise": trained.feature_noise,
    "strength": trained.strength,
    "gaming": trained.gaming,
}


def measure(name: str, weights: Path = WEIGHTS) -> dict:
    """The record of a study of the base model in `weights`. Never raises but for an interrupt."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # operations this small are slower on two, far slower where a core is taken
    try:
        return _record(name, STEPS[name], weights, lambda: BASE_MODEL[name](load(weights), steps=STEPS[name]))
    finally:
        torch.set_num_threads(threads)


def train(
    name: str, scale: str, folder: Path, weights: Path = WEIGHTS, say: Callable[[str], None] = lambda _: None
) -> dict:
    """The record of a study that trains, at a scale of trained.SCALES; what `folder` keeps of an earlier try is not run
    again. Never raises but for an interrupt."""
    size = trained.SCALES[scale]
    row = _record(name, size.denoising, weights, lambda: TRAINED[name](Jobs(folder, weights, say), size))
    row["case"] |= {"id": row["case"]["id"] + ("" if scale == "full" else f"-{scale}"), "scale": scale}
    row["settings"] |= asdict(size)
    return row


def _record(name: str, steps: int, weights: Path, run: Callable[[], dict]) -> dict:
    motion = name_of(weights)
    row = {
        "schema": record.SCHEMA,
        "kind": "study",
        "case": {
            "id": name if motion == EMBEDDED else f"{name}-{motion}",
            "backbone": motion,
            "steps": steps,
            "meter": "host",
        },
        "status": "ok",
        "reason": None,
        "simulated": False,
        "settings": {"threads": 1, "world": digest(weights)},
        "environment": record.environment(with_gpu=False),
    }
    try:
        return {**row, "study": run()}
    except Exception as error:
        return {**row, "status": "failed", "reason": one_sentence(error)}


__all__ = ["BASE_MODEL", "STEPS", "TRAINED", "chain", "measure", "noise", "similarity", "train"]
