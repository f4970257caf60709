"""A trained reward with its recipe, and the file that keeps it."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from bench.alignment.rewards.config import RewardConfig
from bench.world import World
from bench.world.model import WorldReward
from methods import checkpoint
from methods.checkpoint import CheckpointError
from methods.errors import InputError
from methods.rewards.noise import MODES, NoiseConfig


class TrainedReward(WorldReward):
    """A world's reward with the decoder of its pre-training, and what it was trained by; on the world's device."""

    def __init__(self, world: World, recipe: RewardConfig):
        super().__init__(world.config.text_width, world.config.reward, decoder=True)
        self.recipe = recipe
        self.to(world.device)
        self.world = identity(world)
        self.metrics: dict = {}
        """As `training.train` fills it; JSON types."""


def identity(world: World) -> str:
    """Other for a world with other clips, captions, features, latents or sizes of the reward: whatever a reward that is
    trained on it depends on."""
    digest = hashlib.sha256(world.content.fingerprint.encode())
    digest.update(json.dumps([world.config.text_width, asdict(world.config.reward)]).encode())
    clips = [world.clips[split] for split in sorted(world.clips)]
    latents = world.backbone.vae.state_dict().values()
    for tensor in (world.statistics.mean, world.statistics.std, *clips, *latents):
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def save(reward: TrainedReward, path: Path | str) -> None:
    """Writes one safetensors file, atomically: weights, recipe, world and metrics. Equal rewards give equal bytes."""
    about = {"recipe": asdict(reward.recipe), "world": reward.world, "metrics": reward.metrics}
    checkpoint.save_tensors(reward.state_dict(), path, "reward", about)


def load(path: Path | str, world: World) -> TrainedReward:
    """The reward of a file that `save` wrote, in eval mode and frozen, on the world's device.

    CheckpointError for a file that is missing, cut off, damaged or no such reward, and for one of another world or
    width.
    """
    recipe, about, state = _read(path)
    reward = TrainedReward(world, recipe)
    if about["world"] != reward.world:
        raise CheckpointError(
            f"{path} holds a reward of another world, or of another width: give its world's file, or train one on this"
        )
    try:
        reward.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(_no_reward(path, error)) from None
    reward.metrics = about["metrics"]
    return reward.eval().requires_grad_(False)


def noise_aware(source: Path | str | TrainedReward) -> NoiseConfig:
    """How a reward, or that of a file, was trained to score motions in the middle of denoising.

    InputError, by its name, for one that was not: without noise, or with noise but no time token for motions. A time
    embedding it has, but one that was never trained. CheckpointError as `load`.
    """
    reward = isinstance(source, TrainedReward)
    recipe = source.recipe if isinstance(source, TrainedReward) else _read(source)[0]
    noise = recipe.noise_config()
    if noise is None or not MODES[noise.mode][0]:
        name = f"the reward of seed {recipe.seed}" if reward else str(source)
        lack = "without noise" if noise is None else f"in mode {noise.mode}, without the motions' time token"
        raise InputError(
            f"{name} was trained {lack}, so it is not noise-aware: score clean motions alone, or train one with noise "
            "above 0 in mode M1T0"
        )
    return noise


def _read(path: Path | str) -> tuple[RewardConfig, dict, dict[str, Tensor]]:
    """The recipe of a file, what else it states, and its weights."""
    if not Path(path).is_file():
        raise CheckpointError(f"there is no reward at {path}: train one with python -m bench.alignment.rewards")
    state, metadata = checkpoint.read_tensors(path)
    try:
        about = json.loads(metadata["reward"])
        return RewardConfig(**about["recipe"]), {"world": about["world"], "metrics": dict(about["metrics"])}, state
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(_no_reward(path, error)) from None


def _no_reward(path: Path | str, error: Exception) -> str:
    cause = " ".join(str(error).split())[:200]
    return f"{path} holds no trained reward ({cause}): train one with python -m bench.alignment.rewards"
