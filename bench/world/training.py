"""One training loop for every stage: progress, checkpoints, and the same bytes after a kill as without one."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.motion.clip import DataError
from methods import checkpoint, generators
from methods.checkpoint import CheckpointError

PROGRESS_SECONDS = 10.0
CHECKPOINT_STEPS = 200


@dataclass(frozen=True)
class Stage:
    """What is trained, on what, and for how long."""

    name: str
    network: nn.Module
    parameters: Iterable[nn.Parameter]
    """Those that learn."""
    loss: Callable[[], Tensor]
    """Of one fresh batch; draws from torch's global generators alone (the CPU's, and the device's)."""
    check: Callable[[], str]
    """A figure on the validation split, for the progress line; draws nothing from these."""
    steps: int
    lr: float = 1e-3
    seed: int = 0
    warm_up: int = 100

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def rate(self, step: int) -> float:
        """Share of `lr` at a step: a linear warm-up, then half a cosine down to 0."""
        return min((step + 1) / self.warm_up, 0.5 * (1 + math.cos(math.pi * step / self.steps)))


def train(stage: Stage, folder: Path, say: Callable[[str], None]) -> float:
    """Trains to the end, from the stage's checkpoint in `folder` if there is one; returns the seconds spent in all.

    DataError for a loss that is not finite, CheckpointError for a checkpoint that is damaged or of something else.
    """
    path = folder / f"{stage.name}.checkpoint"
    parameters = list(stage.parameters)
    optimizer = torch.optim.AdamW(parameters, lr=stage.lr, betas=(0.9, 0.99), weight_decay=0.01)
    step, seconds = 0, 0.0
    torch.manual_seed(stage.seed)
    if path.is_file():
        step, seconds = _restore(path, stage, optimizer)
    stage.network.train()
    began, said, first = time.monotonic() - seconds, time.monotonic(), step
    since = time.monotonic()
    while step < stage.steps:
        for group in optimizer.param_groups:
            group["lr"] = stage.lr * stage.rate(step)
        loss = stage.loss()
        if not loss.isfinite():
            raise DataError(
                f"{stage.name}: the loss is {loss.item()} at step {step + 1} of {stage.steps}: look in the data for "
                "clips that are alike or whose features are far out"
            )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        done = step == stage.steps
        if done or time.monotonic() - said >= PROGRESS_SECONDS:
            said = time.monotonic()
            left = (said - since) / (step - first) * (stage.steps - step)
            stage.network.eval()
            with torch.no_grad():
                figure = stage.check()
            stage.network.train()
            say(f"{stage.name}: step {step} of {stage.steps}, loss {loss.item():.4f}, {figure}, {left:.0f} s left")
        if done or step % CHECKPOINT_STEPS == 0:
            seconds = time.monotonic() - began
            write(path, stage, optimizer, step, seconds)
    stage.network.eval()
    return seconds


def write(path: Path, stage: Stage, optimizer: torch.optim.Optimizer, step: int, seconds: float) -> None:
    """A checkpoint, atomically: a kill leaves the old one or the new one."""
    of_cpu, *of_device = generators.states(stage.device)
    state = {"network": stage.network.state_dict(), "optimizer": optimizer.state_dict(), "rng": of_cpu}
    checkpoint.save_torch({**state, "device_rng": of_device, "step": step, "seconds": seconds}, path)


def _restore(path: Path, stage: Stage, optimizer: torch.optim.Optimizer) -> tuple[int, float]:
    """Steps and seconds of a checkpoint, whose state goes into network, optimiser and torch's global generators."""
    state = checkpoint.read_torch(path)
    try:
        assert isinstance(state, dict)
        stage.network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        for weight, moments in optimizer.state.items():
            assert moments["exp_avg"].shape == moments["exp_avg_sq"].shape == weight.shape
        generators.set_states([state["rng"], *state.get("device_rng", [])], stage.device)
        return int(state["step"]), float(state["seconds"])
    except Exception as error:  # a file may hold anything
        raise CheckpointError(
            f"{path} is no checkpoint of this training ({type(error).__name__}): remove it, and it begins again"
        ) from None
