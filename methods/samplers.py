"""Samplers as tables of coefficients, and one differentiable step.

For every sampler used here both the one-step prediction x̂_0 and the next state are linear in the state and in the
model's output, so a sampler is a table of numbers and the step is two scaled additions. Gradient recording is left to
the caller. Coefficients are Python floats: no device transfer, no synchronisation, any dtype.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from methods.errors import InputError

PREDICTION_TYPES = ("epsilon", "sample")


@dataclass(frozen=True)
class Coefficients:
    """One denoising step: x̂_0 = x0_x·x + x0_out·out, x_next = next_x·x + next_out·out + noise·z."""

    timestep: int
    next_timestep: int
    """The timestep of the next state; -1 after the last step (clean)."""
    x0_x: float
    x0_out: float
    next_x: float
    next_out: float
    noise: float
    """Standard deviation of the fresh noise z; 0 for an ODE sampler."""
    signal: float
    """√ᾱ_t, for adding noise: x_t = signal·x_0 + sigma·ε."""
    sigma: float


@dataclass(frozen=True)
class Sampler:
    """A sampler of `len(sampler)` denoising steps, indexed forward (0 is the noisiest)."""

    table: tuple[Coefficients, ...]

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> Coefficients:
        return self.table[index]

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


def alphas_cumprod(train_steps: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012) -> Tensor:
    """ᾱ of the "scaled_linear" schedule that MLD was trained with, `[train_steps]`, float32 as published."""
    betas = torch.linspace(beta_start**0.5, beta_end**0.5, train_steps, dtype=torch.float32) ** 2
    return torch.cumprod(1.0 - betas, dim=0)


_ALPHAS_CUMPROD: tuple[float, ...] = tuple(alphas_cumprod().tolist())


def ddim(steps: int, eta: float = 0.0, prediction_type: str = "epsilon") -> Sampler:
    """DDIM (Song et al. 2021, eq. 12) as MLD uses it: leading spacing with an offset of 1, no clipping, and ᾱ_0 of the
    schedule (not 1) after the last step.

    `eta` = 0 is the ODE, 1 the ancestral SDE. InputError for a number of steps outside 1..999, an eta outside 0..1
    or an unknown prediction type.
    """
    alphas = _ALPHAS_CUMPROD
    if not 1 <= steps <= len(alphas) - 1:
        raise InputError(f"steps must be between 1 and {len(alphas) - 1}, not {steps}")
    if not 0 <= eta <= 1:
        raise InputError(f"eta must be between 0 (ODE) and 1 (ancestral), not {eta}")
    if prediction_type not in PREDICTION_TYPES:
        raise InputError(f"unknown prediction type {prediction_type!r}: choose one of {', '.join(PREDICTION_TYPES)}")
    stride = len(alphas) // steps
    table = []
    for index in range(steps):
        timestep = (steps - 1 - index) * stride + 1
        following = timestep - stride
        a = alphas[timestep]
        a_next = alphas[max(following, 0)]
        noise = eta * ((1 - a_next) / (1 - a) * (1 - a / a_next)) ** 0.5
        direction = (1 - a_next - noise**2) ** 0.5
        # In terms of (x, out): x̂_0 and ε̂, of which the next state is √ᾱ' x̂_0 + direction·ε̂.
        if prediction_type == "epsilon":
            x0_x, x0_out, eps_x, eps_out = a**-0.5, -(((1 - a) / a) ** 0.5), 0.0, 1.0
        else:
            x0_x, x0_out, eps_x, eps_out = 0.0, 1.0, (1 - a) ** -0.5, -((a / (1 - a)) ** 0.5)
        table.append(
            Coefficients(
                timestep=timestep,
                next_timestep=following if index < steps - 1 else -1,
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
