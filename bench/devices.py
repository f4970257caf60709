"""The device that something runs on: what is said on a command line, checked against what this machine has.

A device that can be chosen is one on which a meter reads memory (bench.meters.METERS).
"""

import os
import platform
from collections.abc import Callable
from typing import Any

import psutil
import torch

from bench.meters import METERS
from methods.errors import InputError

CPU = torch.device("cpu")
NO_GPU = "needs a GPU, and this machine has none (torch.cuda.is_available() is false)"


def add_option(add: Callable[..., Any], what: str) -> None:
    """The option `--device`, by a parser's add_argument or pytest's addoption."""
    add(
        "--device",
        default="cpu",
        metavar="DEVICE",
        help=f"device of {what}: {', '.join(_types())}, or one of several GPUs, as cuda:1 (default: %(default)s)",
    )


def parse(text: str) -> torch.device:
    """The device of `cpu`, `cuda` (the first) or `cuda:1`, always with its number; InputError, which says what to do,
    for anything else, and for one that is not there."""
    try:
        device = torch.device(text)
    except RuntimeError:
        raise InputError(f"--device {text!r} is no device: choose {' or '.join(_types())}") from None
    if device.type not in _types():
        raise InputError(f"--device {text}: nothing here was ever run on that: choose {' or '.join(_types())}")
    if device.type == "cpu":
        return CPU
    require_gpu(f"--device {text}")
    number, count = device.index or 0, torch.cuda.device_count()
    if number >= count:
        raise InputError(f"--device {text}: there is no GPU of that number, choose cuda:0 to cuda:{count - 1}")
    return torch.device(device.type, number)


def require_gpu(option: str) -> None:
    """InputError, which names the option, without a GPU."""
    if not torch.cuda.is_available():
        raise InputError(f"{option} {NO_GPU}")


def name(device: torch.device) -> str:
    """Of its model, as records have it."""
    if device.type != "cuda":
        return f"{platform.machine()} CPU, {os.cpu_count()} cores"
    return torch.cuda.get_device_name(device) if torch.cuda.is_available() else "no GPU"


def memory(device: torch.device) -> int:
    """Bytes that it has in all, whoever holds them."""
    return torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else psutil.virtual_memory().total


def decides(kind: str) -> list[str]:
    """What a device's type adds to all that decides a result, as to ids: nothing on the CPU, where they are what they
    were before there were others."""
    return [] if kind == CPU.type else [kind]


def _types() -> list[str]:
    return [meter.device for meter in METERS.values() if meter.device]
