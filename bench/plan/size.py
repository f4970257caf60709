"""Sizes as people write them: `24GiB` (2^30 bytes each), `24GB` (10^9), `24576MiB`."""

import math
import re

from bench.units import GIB
from methods.errors import InputError

FORMS = "write it as 24GiB (2^30 bytes each), 24GB (10^9) or 24576MiB"

_UNITS = {
    **{f"{letter}ib": 2 ** (10 * power) for power, letter in enumerate("kmgt", start=1)},
    **{f"{letter}b": 10 ** (3 * power) for power, letter in enumerate("kmgt", start=1)},
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)", re.ASCII)


def parse(text: str, what: str = "budget") -> int:
    """Bytes of a size with its unit, more than none; InputError, which names `what`, for anything else."""
    match = _SIZE.fullmatch(text.strip().lower())
    size = int(float(match[1]) * _UNITS[match[2]]) if match and match[2] in _UNITS else 0
    if size < 1:
        raise InputError(f"{what} {text!r} is not a size above zero with its unit: {FORMS}")
    return size


def enough(size: int) -> str:
    """A size that can be given back as a budget and holds `size`: rounded up."""
    if size < GIB:
        return f"{math.ceil(size / 2**20)}MiB"
    return f"{math.ceil(100 * size / GIB) / 100:.2f}GiB"
