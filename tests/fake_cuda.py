"""Reads tiny cases on fake CUDA tensors, with which torch itself composes operators as on a GPU: a program of its own.

    python fake_cuda.py LIBRARY SPEC...

LIBRARY is fake_cuda.cpp, compiled; a SPEC is a method's and a profile's, as in `easytune frozen`. Prints a JSON list of
readings, each with its case. Not for use beside other tests: torch takes the machine to have a GPU from then on.
"""

# ruff: noqa: E402
import contextlib
import ctypes
import dataclasses
import json
import sys
from unittest import mock

ctypes.CDLL(sys.argv[1])  # before torch, which asks once what there is

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from bench import setup
from bench.cases import Case
from bench.meters import tracked
from bench.reward_cases import RewardCase


class NoGenerator:
    """torch.Generator asks for a device that is really there."""

    def manual_seed(self, _seed: int) -> None:
        return None


@contextlib.contextmanager
def autocast():
    """torch.autocast("cuda", torch.bfloat16), which is refused in a build without CUDA."""
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()
        torch.set_autocast_enabled("cuda", False)


def precision(switches, _device):
    return contextlib.nullcontext if switches.precision == "fp32" else autocast


def case(method: str, profile: str) -> Case | RewardCase:
    """Of 27 frames: no multiple of 8, to which masks are padded."""
    if method.startswith("reward"):
        return RewardCase(spl="spl" in method, reward="spm-tiny", batch=12, frames=27, profile=profile)
    return Case(method, backbone="mld-tiny", steps=2, batch=3, frames=27, profile=profile)


def main(_library: str, *specs: str) -> None:
    readings = []
    for spec in specs:
        chosen = case(*spec.split())
        with (
            FakeTensorMode(),
            mock.patch.object(torch, "Generator", return_value=NoGenerator()),
            mock.patch.object(torch.Tensor, "uniform_", lambda self, *_, **__: self),
            mock.patch.object(torch.Tensor, "normal_", lambda self, *_, **__: self),
            mock.patch.object(setup, "autocast_of", precision),
            mock.patch("bench.reward_setup.autocast_of", precision),
        ):
            reading = tracked.read(chosen, "cuda", with_data=False)
        readings.append(dataclasses.asdict(reading) | {"case": dataclasses.asdict(chosen)})
    json.dump(readings, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
