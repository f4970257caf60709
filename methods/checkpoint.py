"""Loading and saving weights, safely: safetensors, or torch files read without running any pickled code.

What is written here can be checked when it is read: safetensors carry a digest of their content, torch files the
checksums of their zip. A file by others, without a digest, is taken as it is.
"""

import hashlib
import json
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from methods.errors import InputError
from methods.files import write_atomically
from methods.interface import Backbone
from methods.registry import BACKBONES

WRAPPERS = ("state_dict", "model_avg", "model")
"""Keys under which torch files have a state dict: a checkpoint's of training, an average of weights before these."""

BESIDE = ("t2m_", "text_encoder.", "clip_model.", "reward_model.")
"""What a published checkpoint holds beside the backbone: the evaluator, a text encoder, EasyTune's reward."""


class CheckpointError(InputError):
    """A checkpoint cannot be used; the message is one sentence that names the file and the mend."""


def read(path: Path | str) -> dict[str, Tensor]:
    """The state dict of a `.safetensors` file or of a torch file (plain, or under one of WRAPPERS).

    CheckpointError for a file that is missing, cut off, damaged, holds pickled objects other than tensors, or is no
    state dict.
    """
    if Path(path).suffix == ".safetensors":
        return read_tensors(path)[0]
    return state_dict(read_torch(path), path)


def state_dict(content: object, path: Path | str) -> dict[str, Tensor]:
    """That of what a torch file holds: plain, or under one of WRAPPERS. CheckpointError if it is none."""
    of = content if isinstance(content, dict) else {}
    wrapped = [of[key] for key in WRAPPERS if isinstance(of.get(key), dict)]
    state = wrapped[0] if wrapped else content
    if not isinstance(state, dict) or not state or not all(map(_plain, state.values())):
        raise CheckpointError(f"{path} holds no state dict: save model.state_dict() with safetensors")
    return {str(name): value for name, value in state.items()}


def _plain(value: object) -> bool:
    """Whether it is a tensor that weights can be copied from."""
    if not isinstance(value, Tensor):
        return False
    return value.layout is torch.strided and not value.is_quantized and not value.is_complex()


def read_tensors(path: Path | str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file.

    CheckpointError for one that is missing or cut off, or whose content is no longer what `save_tensors` wrote.
    """
    path = _existing(path)
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            # Copies: products of matrices round by where they lie in memory, and in a file that hangs on its header.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  # no mapping
    except Exception as error:  # whatever a parser says of a file that may hold anything
        raise CheckpointError(f"{path} is not a whole safetensors file ({_short(error)}): fetch it again") from None
    kind, about = _about(metadata)
    written = about.pop("digest", None)
    if written is not None and written != digest(tensors, {kind: about}):
        raise CheckpointError(f"{path} is damaged, its content is not what was written: fetch it or make it again")
    return tensors, metadata


def _about(metadata: dict[str, str]) -> tuple[str, dict]:
    """What `save_tensors` was given beside the tensors: the kind, and the rest with its digest; empty for a file by
    others."""
    try:
        ((kind, text),) = metadata.items()
        about = json.loads(text)
    except (ValueError, RecursionError):
        return "", {}
    return kind, about if isinstance(about, dict) else {}


def save_tensors(
    tensors: Mapping[str, Tensor], path: Path | str, kind: str = "weights", about: Mapping | None = None
) -> None:
    """Writes a safetensors file atomically. `about`: JSON that is kept with the tensors, as metadata under `kind`.

    Equal content gives equal bytes, whatever the file is called. InputError where the disk does not take it.
    """
    # safetensors refuses a tensor of two names (MDM's positions): each gets one of its own, as in the published files.
    names: dict[int, str] = {}
    whole: dict[str, Tensor] = {}
    for name, value in tensors.items():
        first = names.setdefault(value.untyped_storage().data_ptr(), name)
        whole[name] = value.contiguous() if first == name else value.clone(memory_format=torch.contiguous_format)
    about = json.loads(json.dumps(about or {}))  # as it is read back
    # One entry: several would be written in an order that changes from run to run.
    metadata = {kind: json.dumps({**about, "digest": digest(whole, {kind: about})})}
    write_atomically(path, lambda new: save_file(whole, new, metadata))


def digest(tensors: Mapping[str, Tensor], about: object = None) -> str:
    """Of tensors, by name, type, shape and values, and of JSON beside them."""
    content = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        content.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        content.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return content.hexdigest()[:32]


def read_torch(path: Path | str) -> object:
    """What a torch file holds, on the CPU: tensors in plain containers.

    CheckpointError for one that is missing, cut off, damaged, or holds pickled objects, which are never run. Files of
    torch before 1.6 are no zip and have no checksums.
    """
    path = _existing(path)
    try:
        if zipfile.is_zipfile(path) and not _sound(path):
            raise CheckpointError(f"{path} is damaged, its checksums are not those of its content: fetch it again")
        content = torch.load(path, map_location="cpu", weights_only=True)
        largest = max((tensor.nbytes for tensor in _tensors(content)), default=0)
        if largest > path.stat().st_size:  # repeated by its strides: the first copy would fill the memory
            raise CheckpointError(f"{path} holds a tensor of {largest} bytes, more than the file: fetch it again")
        return content
    except CheckpointError:
        raise
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path} is cut off, or holds pickled objects, which are never run here: "
            "fetch it again, or save its state_dict alone as safetensors where you trust it"
        ) from None
    except Exception:  # whatever a parser says of a file that may hold anything
        raise CheckpointError(f"{path} is not a whole torch checkpoint: fetch it again") from None


def _tensors(content: object) -> Iterator[Tensor]:
    """Those of nested containers."""
    if isinstance(content, Tensor):
        yield content
    elif isinstance(content, dict | list | tuple):
        for part in content.values() if isinstance(content, dict) else content:
            yield from _tensors(part)


def _sound(path: Path) -> bool:
    """Whether each part of a zip has its checksum, and is stored as torch stores it: none is larger than the file."""
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
            return False
        return sum(part.file_size for part in parts) <= path.stat().st_size and archive.testzip() is None


def save_torch(content: object, path: Path | str) -> None:
    """Writes a torch file atomically, for `read_torch`. InputError where the disk does not take it."""
    write_atomically(path, lambda new: torch.save(content, new))


def _existing(path: Path | str) -> Path:
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint at {path}: check the path")
    return path


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def load(module: nn.Module, path: Path | str, prefix: str = "", others: tuple[str, ...] = ()) -> None:
    """Loads the weights of `module` from the keys of a checkpoint that begin with `prefix`.

    Every weight must be there in its shape, and nothing else, except keys that begin with one of `others`.
    CheckpointError names what is missing, unexpected or of another shape, and which backbone the file looks like; the
    module is unchanged then.
    """
    _fill(module, read(path), path, prefix, others)


def _fill(
    module: nn.Module,
    content: Mapping[str, Tensor],
    path: Path | str,
    prefix: str = "",
    others: tuple[str, ...] = (),
    fixed: frozenset[str] = frozenset(),
) -> None:
    """`fixed`: keys that are left as they are, whether the file has them or not."""
    state = {key.removeprefix(prefix): value for key, value in content.items() if key.startswith(prefix)}
    expected = {key: value for key, value in module.state_dict().items() if key not in fixed}
    read_keys = (key for key in state if key not in fixed and (key in expected or not key.startswith(others)))
    given = {key: state[key] for key in read_keys}
    problems = {
        "missing": [key for key in expected if key not in given],
        "unexpected": [key for key in given if key not in expected],
        "of another shape": [
            f"{key} {tuple(given[key].shape)} instead of {tuple(expected[key].shape)}"
            for key in expected
            if key in given and given[key].shape != expected[key].shape
        ],
    }
    if any(problems.values()):
        listed = "; ".join(f"{what}: {_listed(keys)}" for what, keys in problems.items() if keys)
        another = looks_like(content, module)
        hint = f"; it looks like backbone {another!r}: build that one" if another else ""
        raise CheckpointError(f"{path} does not fit {type(module).__name__}: {listed}{hint}")
    module.load_state_dict(given, strict=not fixed)


def looks_like(state: Mapping[str, Tensor], module: nn.Module) -> str | None:
    """Name of the registered backbone that weights look most like, by names and shapes, if more than like `module`;
    None where they share less than half with any."""
    found = _layout({key: value for key, value in state.items() if not key.startswith(BESIDE)})

    def likeness(network: object) -> float:
        own = _layout(network.state_dict()) if isinstance(network, nn.Module) else set()
        return len(own & found) / len(own | found)

    with torch.device("meta"):  # nothing but names and shapes is made
        backbones = {name: entry.build() for name, entry in BACKBONES.items()}
    likenesses = {name: max(likeness(known), likeness(known.denoiser)) for name, known in backbones.items()}
    best = max(likenesses, key=likenesses.__getitem__)
    return best if likenesses[best] > max(likeness(module), 0.5) else None


def _layout(state: Mapping[str, Tensor]) -> set[tuple[str, torch.Size]]:
    return {(key, value.shape) for key, value in state.items()}


def load_backbone(backbone: Backbone, path: Path | str) -> None:
    """Loads a published checkpoint into a backbone of the same layout: its networks by name (`vae.*`, `denoiser.*`), or
    without a prefix where the denoiser is all there is, as MDM's are. What else is in it is left out (BESIDE), and so
    are buffers, which no training changes: MDM's fixed positions. CheckpointError as `load`."""
    content = read(path)
    bare = len(backbone.networks()) == 1 and not any(key.startswith("denoiser.") for key in content)
    module = backbone.denoiser if bare else cast(nn.Module, backbone)
    fixed = frozenset(name for name, _ in module.named_buffers(remove_duplicate=False))
    _fill(module, content, path, others=BESIDE, fixed=fixed)


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


def load_tmr(reward: nn.Module, path: Path | str) -> None:
    """Loads TMR from its published folder of weights (`last_weights`, a file for each network) or from its checkpoint
    (`last.ckpt`). CheckpointError as `load`."""
    if Path(path).is_dir():
        for name, network in reward.named_children():
            load(network, Path(path) / f"{name}.pt")
    else:
        load(reward, path)


def save(module: nn.Module, path: Path | str) -> None:
    """Writes the state dict under the published names, as safetensors, atomically."""
    save_tensors(module.state_dict(), path)


def _listed(keys: list[str], most: int = 5) -> str:
    return ", ".join(keys[:most]) + (f" and {len(keys) - most} more" if len(keys) > most else "")
