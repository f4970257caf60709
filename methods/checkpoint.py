"""Loading and saving weights, safely: safetensors, or torch files read without running any pickled code."""

import pickle
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from methods.errors import InputError

MLD_OTHERS = ("t2m_", "text_encoder.", "reward_model.")
"""What a published MLD checkpoint holds beside the backbone: the evaluator, a text encoder, EasyTune's reward."""


class CheckpointError(InputError):
    """A checkpoint cannot be used; the message is one sentence that names the file and the mend."""


def read(path: Path | str) -> dict[str, Tensor]:
    """The state dict of a `.safetensors` file or of a torch file (plain, or under its key `state_dict`).

    CheckpointError for a file that is missing, cut off, holds pickled objects other than tensors, or is no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint at {path}: check the path")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise CheckpointError(f"{path} is not a whole safetensors file ({error}): fetch it again") from None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path} is cut off, or holds pickled objects, which are never run here: "
            "fetch it again, or save its state_dict alone as safetensors where you trust it"
        ) from None
    except (RuntimeError, EOFError, ValueError, zipfile.BadZipFile, OSError):
        raise CheckpointError(f"{path} is not a whole torch checkpoint: fetch it again") from None
    state = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} holds no state dict: save model.state_dict() with safetensors")
    return state


def load(module: nn.Module, path: Path | str, prefix: str = "", others: tuple[str, ...] = ()) -> None:
    """Loads the weights of `module` from the keys of a checkpoint that begin with `prefix`.

    Every weight must be there in its shape, and nothing else, except keys that begin with one of `others`.
    CheckpointError names what is missing, unexpected or of another shape; the module is unchanged then.
    """
    state = {key.removeprefix(prefix): value for key, value in read(path).items() if key.startswith(prefix)}
    own = module.state_dict()
    found = {key: value for key, value in state.items() if key in own or not key.startswith(others or ("\0",))}
    problems = {
        "missing": [key for key in own if key not in found],
        "unexpected": [key for key in found if key not in own],
        "of another shape": [
            f"{key} {tuple(found[key].shape)} instead of {tuple(own[key].shape)}"
            for key in own
            if key in found and found[key].shape != own[key].shape
        ],
    }
    if any(problems.values()):
        listed = "; ".join(f"{what}: {_listed(keys)}" for what, keys in problems.items() if keys)
        raise CheckpointError(f"{path} does not fit {type(module).__name__}: {listed}")
    module.load_state_dict(found)


def load_mld(backbone: nn.Module, path: Path | str) -> None:
    """Loads a published MLD checkpoint (`vae.*`, `denoiser.*`; its evaluator and text encoder are left out)."""
    load(backbone, path, others=MLD_OTHERS)


def load_spm(reward: nn.Module, path: Path | str) -> None:
    """Loads the reward from its own published file, or from a fine-tuned MLD checkpoint that carries it.

    CheckpointError as `load`, and by name for a file that lacks nothing but the time embedding: that reward was never
    trained to score noisy motions.
    """
    state = read(path)
    prefix = "reward_model." if any(key.startswith("reward_model.") for key in state) else ""
    missing = [key for key in reward.state_dict() if prefix + key not in state]
    if missing and all(key.startswith("time_embedding.") for key in missing):
        raise CheckpointError(
            f"{path} holds a reward without time embedding, which is not noise-aware: "
            "load it into one built with SpmConfig(time_features=0), and score clean motions alone"
        )
    load(reward, path, prefix)


def save(module: nn.Module, path: Path | str) -> None:
    """Writes the state dict under the published names, as safetensors, atomically."""
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    save_file({key: value.contiguous() for key, value in module.state_dict().items()}, temporary)
    temporary.replace(path)


def _listed(keys: list[str], most: int = 5) -> str:
    return ", ".join(keys[:most]) + (f" and {len(keys) - most} more" if len(keys) > most else "")
