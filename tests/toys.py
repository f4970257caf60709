"""A small nonlinear backbone and reward in any precision, and an Updater that keeps what it was given.

The denoiser and the decoder are those that the published step functions were recorded on (test_parity_methods.py), so
one toy serves the recorded numbers and the formulas.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from methods import Backbone, Batch, Plan, Reward, Sampler, Savings, Updater, rollout
from methods.memory import NONE

WIDTH, TEXT, FRAMES, FEATURES = 4, 6, 5, 3
SHAPES = {"Wx": (WIDTH, WIDTH), "Wc": (WIDTH, TEXT), "wt": (WIDTH,), "b": (WIDTH,), "Wo": (WIDTH, WIDTH)}


class ToyDenoiser(nn.Module):
    """ε = tanh(x Wxᵀ + c Wcᵀ + (t/1000) wt + b) Woᵀ."""

    def __init__(self, weights: dict[str, Tensor]):
        super().__init__()
        for name, value in weights.items():
            self.register_parameter(name, nn.Parameter(value.clone()))

    def forward(self, x: Tensor, timestep: int, text: Tensor) -> Tensor:
        hidden = x @ self.Wx.T + text @ self.Wc.T + timestep / 1000 * self.wt + self.b
        return torch.tanh(hidden) @ self.Wo.T


class ToyBackbone:
    """A methods.Backbone with latents `[B, 1, WIDTH]`: guided like MLD, decoded to `[B, FRAMES, FEATURES]`."""

    def __init__(self, denoiser: nn.Module, decoder: Tensor, guidance: float = 7.5, bend: float = 0.0):
        self.denoiser = denoiser
        self.decoder = decoder
        self.guidance = guidance
        self.bend = bend
        """How far from linear the decoder is."""
        self.decoded: list[Tensor] = []
        """Every latent that was decoded."""

    def predict(self, x: Tensor, timestep: int, batch: Batch) -> Tensor:
        text = torch.cat([batch.text, batch.null_text.expand_as(batch.text)])
        with_text, without = self.denoiser(torch.cat([x, x]), timestep, text).chunk(2)
        return without + self.guidance * (with_text - without)

    def decode(self, x0: Tensor, batch: Batch) -> Tensor:
        self.decoded.append(x0.detach())
        motion = (x0 @ self.decoder.T).reshape(len(batch), FRAMES, FEATURES)
        return (motion + self.bend * torch.sin(motion)) * batch.frame_mask[..., None]

    def initial_state(self, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
        return torch.randn(len(batch), 1, WIDTH, generator=generator).to(batch.text)

    def networks(self) -> dict[str, nn.Module]:
        return {"denoiser": self.denoiser}


@dataclass
class ToyReward:
    """A methods.Reward: Σ w·m - q·Σ m², and for a noisy motion a term that depends on how noisy it is."""

    w: Tensor
    q: float

    def __call__(self, motion: Tensor, batch: Batch, timestep: int | None = None) -> Tensor:
        rewards = (self.w * motion).sum((1, 2)) - self.q * (motion**2).sum((1, 2))
        return rewards if timestep is None else rewards + (1 + timestep / 1000) * torch.cos(motion).sum((1, 2))

    def networks(self) -> dict[str, nn.Module]:
        return {}


def toy_batch(text: Tensor, null_text: Tensor, lengths: list[int]) -> Batch:
    """The reward of the toy reads no tokens."""
    rows = len(text)
    return Batch(
        text=text,
        null_text=null_text,
        tokens=torch.zeros(rows, 1, 1).to(text),
        token_mask=torch.ones(rows, 1, dtype=torch.bool),
        frame_mask=torch.arange(FRAMES) < torch.tensor(lengths)[:, None],
    )


def toy(seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[ToyBackbone, ToyReward, Batch, Tensor]:
    """A backbone, reward, batch of two and initial state, all nonlinear; equal seeds give equal ones."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    denoiser = ToyDenoiser({name: draw(*shape, scale=0.6) for name, shape in SHAPES.items()})
    backbone = ToyBackbone(denoiser, draw(FRAMES * FEATURES, WIDTH, scale=0.3), guidance=1.5, bend=0.5)
    reward = ToyReward(draw(FRAMES, FEATURES), q=0.05)
    batch = toy_batch(draw(2, 1, TEXT), draw(1, 1, TEXT), [FRAMES, 3])
    return backbone, reward, batch, draw(2, 1, WIDTH)


class Recorder(Updater):
    """An Updater that notes the gradients (before clipping) and the learning rate of each of its steps."""

    def __init__(self, optimizer: torch.optim.Optimizer, **options):
        super().__init__(optimizer, **options)
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.gradients: list[list[Tensor]] = []
        self.rates: list[float] = []

    def apply(self, rewards: list[Tensor]) -> Tensor:
        self.gradients.append([p.grad.clone() for p in self.parameters if p.grad is not None])
        self.rates.append(self.optimizer.param_groups[0]["lr"])
        return super().apply(rewards)


@dataclass
class Outcome:
    """What one trajectory gave."""

    state: Tensor
    rewards: list[Tensor] = field(default_factory=list)
    """`[B]`, in order of scoring."""
    gradient_norms: list[Tensor] = field(default_factory=list)
    """Before clipping, one per optimiser step."""


def run(
    plan: Plan,
    backbone: Backbone,
    sampler: Sampler,
    reward: Reward,
    batch: Batch,
    x: Tensor,
    updater: Updater,
    generator: torch.Generator | None = None,
    savings: Savings = NONE,
) -> Outcome:
    """methods.rollout, with all that it tells on the way kept."""
    outcome = Outcome(x)

    def note(rewards: list[Tensor], norm: Tensor) -> None:
        outcome.rewards += rewards
        outcome.gradient_norms.append(norm)

    outcome.state = rollout(
        plan, backbone, sampler, reward, batch, x, updater, generator=generator, on_update=note, savings=savings
    )
    return outcome
