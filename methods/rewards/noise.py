"""Noisy inputs for a reward that shall score motions in the middle of denoising (EasyTune's noise-aware reward)."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from methods.errors import InputError
from methods.samplers import alphas_cumprod

MODES = {"M0T0": (False, False), "M1T0": (True, False), "M0T1": (False, True), "M1T1": (True, True)}
"""Which encoders get the time token, that of motions (M) and that of texts (T), by the released names."""
_SIGNAL = alphas_cumprod().double().sqrt()
_SIGMA = (1 - alphas_cumprod().double()).sqrt()


@dataclass(frozen=True)
class NoiseConfig:
    """How often and how much a batch is noised. InputError for an option outside its range."""

    probability: float
    """Of a whole batch being noised (released: 1 - NoiseThr)."""
    max_timestep: int = 500
    """Timesteps are uniform over 0 to this one, which is among them (500 is fixed in the released code)."""
    mode: str = "M1T0"

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise InputError(f"noise: probability must be between 0 and 1, not {self.probability}")
        if not 0 <= self.max_timestep < len(_SIGNAL):
            raise InputError(
                f"noise: max_timestep must be between 0 and {len(_SIGNAL) - 1}, the schedule's last, "
                f"not {self.max_timestep}"
            )
        if self.mode not in MODES:
            raise InputError(f"noise: unknown mode {self.mode!r}: choose one of {', '.join(MODES)}")


class Noised(NamedTuple):
    """What the encoders get."""

    values: Tensor
    """`[B, ...]`, noisy or as they were."""
    motion_timestep: Tensor | None
    """`[B]` integers; None where this encoder gets no time token, and for a clean batch."""
    text_timestep: Tensor | None
    """As motion_timestep."""


def add_noise(clean: Tensor, timestep: Tensor) -> Tensor:
    """√ᾱ_t·clean + √(1-ᾱ_t)·ε of motions or latents `[B, ...]` at `timestep` `[B]`, by MLD's schedule (scaled_linear,
    0.00085 to 0.012 over 1000 steps).

    InputError for timesteps that are not one integer a row within the schedule.
    """
    if timestep.shape != clean.shape[:1] or timestep.is_floating_point():
        raise InputError(
            f"noise: timesteps are {timestep.dtype} {list(timestep.shape)} for {len(clean)} motions: "
            "give each motion one integer"
        )
    outside = (timestep < 0) | (timestep >= len(_SIGNAL))
    if outside.any():
        raise InputError(
            f"noise: timestep {int(timestep[outside][0])} is outside the schedule: use 0 to {len(_SIGNAL) - 1}"
        )
    signal, sigma = (part.to(clean)[timestep].reshape(-1, *[1] * (clean.ndim - 1)) for part in (_SIGNAL, _SIGMA))
    return signal * clean + sigma * torch.randn_like(clean)


def noise(clean: Tensor, config: NoiseConfig) -> Noised:
    """One batch of motions or latents `[B, ...]` as it is to be trained on.

    Drawn from torch's global generator, in this order: whether to noise, on the CPU; then, if so, timesteps and noise.
    A clean batch has no timestep, as when a clean motion is scored (EasyTune's released fine-tuning passes the random
    one even then).
    """
    if torch.rand(()).item() >= config.probability:
        return Noised(clean, None, None)
    timestep = torch.randint(config.max_timestep + 1, (len(clean),), device=clean.device)
    of_motion, of_text = (timestep if token else None for token in MODES[config.mode])
    return Noised(add_noise(clean, timestep), of_motion, of_text)
