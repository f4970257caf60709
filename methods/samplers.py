"""Samplers as tables of coefficients, and one differentiable step.

For every sampler used here both the one-step prediction x̂_0 and the next state are linear in the state and in the
model's output, so a sampler is a table of numbers and the step is two scaled additions. Gradient recording is left to
the caller. Coefficients are Python floats: no device transfer, no synchronisation, any dtype.

`ddim`, `ddpm`, `lcm` and `flow` are the samplers that published models are sampled with, by their number of steps.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from methods.errors import InputError

PREDICTION_TYPES = ("epsilon", "sample", "v_prediction")
"""What a diffusion model predicts: the noise ε, x_0, or v = √ᾱ ε - √(1-ᾱ) x_0 (Salimans & Ho 2022). One of flow
matching predicts the velocity ε - x_0."""

TRAIN_STEPS = 1000
"""Of every schedule here but MDM's newer one."""

MDM_STEPS = 50
"""Steps of the diffusion that MDM's newer checkpoint was trained with."""

LCM_STEPS = 50
"""Steps of the solver that MotionLCM-v1 was distilled from (`original_inference_steps`)."""

MOTIONLCM_V2 = {1: (799,), 2: (699, 299), 4: (699, 399, 299, 299)}
"""The timesteps of MotionLCM-v2, by the number of steps."""


@dataclass(frozen=True)
class Coefficients:
    """One denoising step: x̂_0 = x0_x·x + x0_out·out, x_next = next_x·x + next_out·out + noise·z."""

    timestep: float
    """As the model takes it: an index of its schedule, or σ·1000 for flow matching."""
    next_timestep: float
    """The timestep of the next state; -1 after the last step (clean)."""
    x0_x: float
    x0_out: float
    next_x: float
    next_out: float
    noise: float
    """Standard deviation of the fresh noise z; 0 for an ODE sampler."""
    signal: float
    """√ᾱ_t (1 - σ for flow matching), for adding noise: x_t = signal·x_0 + sigma·ε."""
    sigma: float


@dataclass(frozen=True)
class Sampler:
    """A sampler of `len(sampler)` denoising steps, indexed forward (0 is the noisiest)."""

    table: tuple[Coefficients, ...]

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> Coefficients:
        return self.table[index]

    @property
    def stochastic(self) -> bool:
        """Whether it draws noise on the way (an SDE)."""
        return any(c.noise for c in self.table)

    def x0_hat(self, x: Tensor, out: Tensor, index: int) -> Tensor:
        """The prediction of x_0 from the state `x` and the model output `out` of step `index`; shape of `x`."""
        c = self.table[index]
        return c.x0_x * x + c.x0_out * out

    def step(self, x: Tensor, out: Tensor, index: int, noise: Tensor | None = None) -> Tensor:
        """The next state; `noise` is unit noise and is needed where the step is stochastic (`table[index].noise`)."""
        c = self.table[index]
        x = c.next_x * x + c.next_out * out
        return x if noise is None else x + c.noise * noise

    def add_noise(self, x0: Tensor, noise: Tensor, index: int) -> Tensor:
        """x_t of step `index` from a clean state and unit noise (the forward process)."""
        c = self.table[index]
        return c.signal * x0 + c.sigma * noise


def alphas_cumprod(train_steps: int = TRAIN_STEPS, beta_start: float = 0.00085, beta_end: float = 0.012) -> Tensor:
    """ᾱ of the "scaled_linear" schedule that MLD was trained with, `[train_steps]`, float32 as published."""
    betas = torch.linspace(beta_start**0.5, beta_end**0.5, train_steps, dtype=torch.float32) ** 2
    return torch.cumprod(1.0 - betas, dim=0)


_ALPHAS_CUMPROD: tuple[float, ...] = tuple(alphas_cumprod().tolist())


@cache
def cosine_alphas(train_steps: int) -> tuple[float, ...]:
    """ᾱ of the cosine schedule (Nichol & Dhariwal 2021, eq. 17), its β at most .999, as MDM was trained with."""

    def level(time: float) -> float:
        return math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2

    alphas, signal = [], 1.0
    for step in range(train_steps):
        signal *= 1 - min(1 - level((step + 1) / train_steps) / level(step / train_steps), 0.999)
        alphas.append(signal)
    return tuple(alphas)


def leading(steps: int, train_steps: int, offset: int = 0) -> list[int]:
    """Timesteps one whole stride apart, down to `offset` (diffusers' "leading", guided diffusion's "ddimN")."""
    stride = train_steps // steps
    return [index * stride + offset for index in reversed(range(steps))]


def spaced(steps: int, train_steps: int) -> list[int]:
    """Timesteps spread evenly from the last to 0 (guided diffusion's "[N]"); of one step, the last."""
    return [round((train_steps - 1) * (1 - index / max(steps - 1, 1))) for index in range(steps)]


def diffusion(
    timesteps: Sequence[int],
    alphas: Sequence[float],
    final: float,
    eta: float = 0.0,
    prediction_type: str = "epsilon",
) -> Sampler:
    """DDIM (Song et al. 2021, eq. 12) over descending `timesteps` of the schedule ᾱ `alphas`, without clipping;
    `final` is ᾱ after the last step.

    `eta` = 0 is the ODE, 1 DDPM's ancestral sampler with the posterior's variance. InputError for an eta outside 0..1
    or an unknown prediction type.
    """
    if not 0 <= eta <= 1:
        raise InputError(f"eta must be between 0 (ODE) and 1 (ancestral), not {eta}")
    table = []
    for timestep, following in zip(timesteps, [*timesteps[1:], -1], strict=True):
        a = alphas[timestep]
        a_next = alphas[following] if following >= 0 else final
        noise = eta * ((1 - a_next) / (1 - a) * (1 - a / a_next)) ** 0.5
        direction = (1 - a_next - noise**2) ** 0.5
        # The next state is √ᾱ' x̂_0 + direction·ε̂.
        x0_x, x0_out, eps_x, eps_out = _x0_and_noise(a, prediction_type)
        table.append(
            Coefficients(
                timestep=timestep,
                next_timestep=following,
                x0_x=x0_x,
                x0_out=x0_out,
                next_x=a_next**0.5 * x0_x + direction * eps_x,
                next_out=a_next**0.5 * x0_out + direction * eps_out,
                noise=noise,
                signal=a**0.5,
                sigma=(1 - a) ** 0.5,
            )
        )
    return Sampler(tuple(table))


def ddim(steps: int, eta: float = 0.0, prediction_type: str = "epsilon") -> Sampler:
    """DDIM as MLD uses it: leading spacing with an offset of 1, and ᾱ_0 of the schedule (not 1) after the last step.

    InputError for a number of steps outside 1..999; otherwise as `diffusion`.
    """
    _check(steps, TRAIN_STEPS - 1)
    timesteps = leading(steps, TRAIN_STEPS, offset=1)
    return diffusion(timesteps, _ALPHAS_CUMPROD, _ALPHAS_CUMPROD[0], eta, prediction_type)


def ddpm(steps: int, eta: float = 1.0, prediction_type: str = "sample") -> Sampler:
    """The ancestral sampler as MDM uses it (SpacedDiffusion), on the cosine schedule; with `eta` = 0, DDIM on it.

    Up to 50 steps are spaced over the 50 that MDM's newer checkpoint was trained with, more over the 1,000 of the
    older one. InputError for a number of steps outside 1..1000; otherwise as `diffusion`.
    """
    _check(steps, TRAIN_STEPS)
    trained = MDM_STEPS if steps <= MDM_STEPS else TRAIN_STEPS
    return diffusion(spaced(steps, trained), cosine_alphas(trained), 1.0, eta, prediction_type)


def lcm(steps: int, timesteps: Mapping[int, Sequence[int]] | None = None, prediction_type: str = "epsilon") -> Sampler:
    """Multistep consistency sampling of a latent consistency model (Luo et al. 2023, algorithm 3): every step predicts
    x_0, and all but the last add fresh noise to it.

    By default (MotionLCM-v1) steps are spread over the solver's LCM_STEPS; `timesteps` gives them by number of steps
    instead (MOTIONLCM_V2). x̂_0 has the boundary condition of the distillation (σ_data = .5, timesteps times 10).
    InputError for a number of steps that is not among these, or an unknown prediction type.
    """
    if timesteps is None:
        _check(steps, LCM_STEPS)
        stride = TRAIN_STEPS // LCM_STEPS
        chosen: Sequence[int] = [(LCM_STEPS - index * LCM_STEPS // steps) * stride - 1 for index in range(steps)]
    elif steps in timesteps:
        chosen = timesteps[steps]
    else:
        raise InputError(f"steps must be one of {', '.join(map(str, timesteps))}, not {steps}")
    table = []
    for timestep, following in zip(chosen, [*chosen[1:], -1], strict=True):
        a = _ALPHAS_CUMPROD[timestep]
        a_next = _ALPHAS_CUMPROD[following] if following >= 0 else 1.0
        skip = 0.25 / ((10 * timestep) ** 2 + 0.25)
        out = 10 * timestep / ((10 * timestep) ** 2 + 0.25) ** 0.5
        x_of_x, x_of_out, _, _ = _x0_and_noise(a, prediction_type)
        x0_x, x0_out = skip + out * x_of_x, out * x_of_out
        table.append(
            Coefficients(
                timestep=timestep,
                next_timestep=following,
                x0_x=x0_x,
                x0_out=x0_out,
                next_x=a_next**0.5 * x0_x,
                next_out=a_next**0.5 * x0_out,
                noise=(1 - a_next) ** 0.5,
                signal=a**0.5,
                sigma=(1 - a) ** 0.5,
            )
        )
    return Sampler(tuple(table))


def flow(steps: int, shift: float = 1.0) -> Sampler:
    """Euler steps along the velocity v = ε - x_0 of flow matching, x_t = (1 - σ) x_0 + σ ε (Lipman et al. 2023), from
    σ = 1 to 0 (diffusers' FlowMatchEulerDiscreteScheduler). `shift` above 1 spends more steps where there is much
    noise (Esser et al. 2024, eq. 23).

    InputError for a number of steps outside 1..1000.
    """
    _check(steps, TRAIN_STEPS)

    def shifted(sigma: float) -> float:
        return shift * sigma / (1 + (shift - 1) * sigma)

    # As published, the last call is near the least noise of training and not at 1 / steps; and shifted twice.
    least = shifted(1 / TRAIN_STEPS)
    sigmas = [shifted(1 - index / max(steps - 1, 1) * (1 - least)) for index in range(steps)]
    return Sampler(
        tuple(
            Coefficients(
                timestep=TRAIN_STEPS * sigma,
                next_timestep=TRAIN_STEPS * following if following else -1,
                x0_x=1.0,
                x0_out=-sigma,
                next_x=1.0,
                next_out=following - sigma,
                noise=0.0,
                signal=1 - sigma,
                sigma=sigma,
            )
            for sigma, following in zip(sigmas, [*sigmas[1:], 0.0], strict=True)
        )
    )


def _check(steps: int, most: int) -> None:
    if not 1 <= steps <= most:
        raise InputError(f"steps must be 1 to {most}, not {steps}")


def _x0_and_noise(a: float, prediction_type: str) -> tuple[float, float, float, float]:
    """x̂_0 and ε̂ at ᾱ = `a`, each as its coefficients of the state and of the model's output."""
    if prediction_type == "epsilon":
        return a**-0.5, -(((1 - a) / a) ** 0.5), 0.0, 1.0
    if prediction_type == "sample":
        return 0.0, 1.0, (1 - a) ** -0.5, -((a / (1 - a)) ** 0.5)
    if prediction_type == "v_prediction":
        return a**0.5, -((1 - a) ** 0.5), (1 - a) ** 0.5, a**0.5
    raise InputError(f"unknown prediction type {prediction_type!r}: choose one of {', '.join(PREDICTION_TYPES)}")
