"""The rule that makes the weights and inputs of the parity vectors, and how to compare with their outputs.

Everything random is a unit normal seeded by the crc32 of a name, so that two implementations can be filled alike from
the names in their state dicts.
"""

import json
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Vectors:
    """One set: what was run, and what came out."""

    meaning: dict
    arrays: dict[str, np.ndarray]

    @property
    def cases(self) -> dict[str, dict]:
        return {case["name"]: case for case in self.meaning["cases"]}

    def output(self, case: str, name: str) -> np.ndarray:
        return self.arrays[f"{case}/{name}"]


@cache
def load(name: str) -> Vectors:
    meaning = json.loads((HERE / f"{name}.json").read_text())
    with np.load(HERE / f"{name}.npz") as arrays:
        return Vectors(meaning, dict(arrays))


def randn(name: str, shape: Iterable[int]) -> Tensor:
    """Unit normal float32, seeded by `name`."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()) & 0x7FFFFFFF)
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32)


def weight(key: str, shape: torch.Size) -> Tensor:
    """The value of the state-dict entry `key` (without any `vae.` or `denoiser.` before it)."""
    if len(shape) >= 2:
        return 0.02 * randn(key, shape)
    return (1.0 if key.endswith("weight") else 0.0) + 0.02 * randn(key, shape)


def filled(build: Callable[[], nn.Module], tied: Iterable[tuple[str, str]] = (), kept: Iterable[str] = ()) -> nn.Module:
    """The module that `build` makes, in eval mode, with the rule's weights.

    `tied`: pairs of keys that are one parameter in the published module, where the second key's value won. `kept`: keys
    of fixed values, which are the module's own.
    """
    with torch.device("cpu" if kept else "meta"):
        module = build()
    named = {**{key: key for key in module.state_dict()}, **dict(tied)}
    own = module.state_dict()
    state = {key: value if key in kept else weight(named[key], value.shape) for key, value in own.items()}
    module.load_state_dict(state, assign=True)
    return module.eval().requires_grad_(False)


def given(spec: dict) -> Tensor:
    """One input of a case, checked against the sums written down with it."""
    if spec["kind"] == "literal":
        return torch.tensor(spec["value"])
    if spec["kind"] == "length_mask":
        return length_mask(spec["lengths"], spec["max_len"])
    value = spec["scale"] * randn(spec["seed_name"], spec["shape"])
    if "check" in spec:
        double = value.double()
        assert np.isclose(double.sum(), spec["check"]["sum"], rtol=0, atol=1e-9 * spec["check"]["abs_sum"])
        assert np.isclose(double.abs().sum(), spec["check"]["abs_sum"], rtol=1e-9)
        assert value.flatten()[:4].tolist() == spec["check"]["first"]
    return value


def length_mask(lengths: Iterable[int], longest: int) -> Tensor:
    """`[B, longest]` bool, true where valid."""
    return torch.arange(longest) < torch.tensor(lengths)[:, None]


def deviation(actual, expected: np.ndarray, tolerance: dict) -> float:
    """How far `actual` is from `expected`, as a fraction of what `tolerance` allows; NaN if anything is NaN.

    `tolerance` has either `rel_to_max` (largest error over largest value) or numpy's `atol` and `rtol`.
    """
    actual = np.asarray(actual.detach() if isinstance(actual, Tensor) else actual)
    assert actual.shape == expected.shape
    error = np.abs(actual.astype(np.float64) - expected)
    if "rel_to_max" in tolerance:
        allowed = tolerance["rel_to_max"] * np.abs(expected).max()
    else:
        allowed = tolerance["atol"] + tolerance["rtol"] * np.abs(expected)
    # Where nothing at all is allowed (an expected 0), only 0 is right.
    return float(np.max(np.where(error == 0, 0.0, error / np.maximum(allowed, np.finfo(np.float64).tiny))))
