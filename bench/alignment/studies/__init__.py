"""Measurements beside the benchmark that claims and doubts hang on: of the base model, and of rewards and runs.

base_model    chain (C6), similarity (C7), noise (C8): seconds, without training
trained       retrieval, spl (C9), windows (C8), feature_noise, strength, gaming, settings: minutes each, in worker
              processes
jobs          what both are made of; an interrupted study goes on from the results that were kept
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from bench import devices, identity
from bench.alignment.studies import trained
from bench.alignment.studies.jobs import OF_BASE, Jobs, OfBase
from bench.cases import EMBEDDED, study_id
from bench.lane import Lane
from bench.records import StudyRecord, make, types
from bench.world import WEIGHTS, name_of
from methods.errors import InputError, one_sentence

STEPS = {"chain": 50, "similarity": 50, "noise": trained.STEPS}
"""Denoising steps of the studies of the base model."""
TRAINED: Mapping[str, Callable[[Jobs, trained.Scale], types.Study]] = {
    "retrieval": trained.retrieval,
    "spl": trained.spl,
    "windows": trained.windows,
    "feature_noise": trained.feature_noise,
    "strength": trained.strength,
    "gaming": trained.gaming,
    "settings": trained.settings,
}


@dataclass(frozen=True)
class StudyCase:
    """One study on a world; InputError for a name or a scale that there is not."""

    name: str
    scale: str | None = None
    """One of trained.SCALES; None: a study of the base model."""
    world: str = EMBEDDED
    device: str = "cpu"
    """Type of the device that it runs on."""

    def __post_init__(self) -> None:
        known = OF_BASE if self.scale is None else TRAINED
        if self.name not in known:
            raise InputError(f"unknown study {self.name!r}: choose one of {', '.join(known)}")
        if self.scale is not None and self.scale not in trained.SCALES:
            raise InputError(f"unknown scale {self.scale!r}: choose one of {', '.join(trained.SCALES)}")

    @property
    def id(self) -> str:
        return study_id(self.name, self.world, self.scale, self.device)


class StudyRuns:
    """The records of studies of one world. `folder`: where rewards that studies train are kept."""

    def __init__(
        self,
        lane: Lane,
        cases: Sequence[StudyCase],
        folder: Path,
        weights: Path = WEIGHTS,
        device: torch.device = devices.CPU,
    ) -> None:
        self._lane, self._folder, self._weights, self._device = lane, folder, weights, device
        for case in cases:
            if case.scale is None:
                lane.submit(self._of_base(case))

    def _of_base(self, case: StudyCase) -> OfBase:
        return OfBase(self._weights, case.name, STEPS[case.name], str(self._device))

    def record(self, case: StudyCase) -> StudyRecord:
        """Waits for a study. Never raises but for an interrupt."""
        try:
            if case.scale is None:
                return self._made(case, "ok", study=self._lane.wait(self._lane.submit(self._of_base(case))))
            jobs = Jobs(self._lane, self._folder, self._weights, str(self._device))
            return self._made(case, "ok", study=TRAINED[case.name](jobs, trained.SCALES[case.scale]))
        except Exception as error:
            return self._made(case, "failed", one_sentence(error))

    def _made(
        self, case: StudyCase, status: types.Status, reason: str | None = None, study: types.Study | None = None
    ) -> StudyRecord:
        scale = None if case.scale is None else trained.SCALES[case.scale]
        return StudyRecord(
            status=status,
            reason=reason,
            case=types.StudyCase(
                case.name, case.world, scale.denoising if scale else STEPS[case.name], case.id, case.scale, case.device
            ),
            settings=types.StudySettings(
                threads=1, world=identity.file(self._weights), **(asdict(scale) if scale else {})
            ),
            environment=make.environment(device=self._device),
            study=study,
        )


def cases_of(
    weights: Path, names: Sequence[str], scale: str | None = None, device: torch.device = devices.CPU
) -> list[StudyCase]:
    """The named studies on the world in a file, on a device."""
    return [StudyCase(name, scale, name_of(weights), device.type) for name in dict.fromkeys(names)]


__all__ = ["OF_BASE", "STEPS", "TRAINED", "Jobs", "StudyCase", "StudyRuns", "cases_of"]
