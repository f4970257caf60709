"""The simulated meter: the bytes that a CUDA run would keep alive, without a GPU and without allocating them.

The case is built from meta tensors, which have shapes and storage sizes but no data, and CUDA's composition of
operations is put in place of the CPU's (lowering). What CUDA's allocator makes of it is replayed (allocator). Not seen:
kernel and library workspaces, the CUDA context.
"""

import re
import traceback
from pathlib import Path

from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedOperatorException,
)

from bench.cases import Case
from bench.meters import allocator
from bench.meters.lowering import cuda_lowering, views_unseen
from bench.meters.origin import reported_path
from bench.meters.reading import Reading
from bench.meters.tracked import Enter, read, unheard
from bench.profiles import profile
from bench.reward_cases import RewardCase
from bench.setup import sharded
from methods.errors import InputError

ASKED_A_FAKE = (DataDependentOutputException, DynamicOutputShapeException, UnsupportedOperatorException)
ASKED_A_META = re.compile(
    r"\bmeta tensor|register_meta|numpy\(\) is not supported for tensor subclasses", re.IGNORECASE
)
NEEDS_A_DEVICE = re.compile(r"\b(fused|capturable)=True")
OPERATOR = re.compile(r"(?:aten::|aten\.|torch\.|Tensor\.|^\.)_*(\w+)")
ELSEWHERE = "measure it with --meter host or cuda"


class NotSimulatedError(InputError):
    """A case cannot run on tensors without data; the message is one sentence that names the operation and the mend."""


def measure(case: Case | RewardCase, enter: Enter = unheard, replay: allocator.Replayer = allocator.replay) -> Reading:
    """Simulates one update of `case`, every step of it; InputError if its options do not fit,
    NotSimulatedError where it asks what a tensor holds. `replay`: for whoever wants the allocations, too."""
    try:
        return _read(case, enter, replay)
    except Exception as error:
        reason = _refusal(error)
        if reason is None:
            raise
        raise NotSimulatedError(f"{case.id} cannot be simulated: {reason}") from error


def _read(case: Case | RewardCase, enter: Enter, replay: allocator.Replayer) -> Reading:
    with cuda_lowering():
        if profile(case.profile).precision == "fp32" and not sharded(case):
            with views_unseen():
                return read(case, "meta", with_data=False, enter=enter, replay=replay)
        # Autocast and FSDP2 know no meta device: fake CPU tensors hold as little, and take several times as long.
        with FakeTensorMode():
            return read(case, "cpu", with_data=False, enter=enter, replay=replay)


def _refusal(error: Exception) -> str | None:
    """Why a simulation failed, and the mend; None for an error that is not a simulation's."""
    text = str(error)
    option = NEEDS_A_DEVICE.search(text)
    if option:
        mend = f"make it with foreach=True, or {ELSEWHERE}"
        return f"{_where(error)} an optimiser has {option[0]}, which needs a device: {mend}"
    if not (isinstance(error, ASKED_A_FAKE) or ASKED_A_META.search(text)):
        return None
    named = OPERATOR.search(text)
    operator = {"local_scalar_dense": "item"}.get(named[1], named[1]) if named else "an operation"
    return (
        f"{_where(error)} {operator} depends on what a tensor holds, and simulated tensors hold nothing: "
        f"do without it, or {ELSEWHERE}"
    )


def _where(error: Exception) -> str:
    """The innermost line that is not torch's, and the optimiser that it called, if it did."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f"{known}:{frame.lineno}" for frame in frames if (known := reported_path(frame.filename))]
    optimisers = [path.stem for frame in frames if (path := Path(frame.filename)).parent.name == "optim"]
    optimisers = [name for name in optimisers if name != "optimizer"]
    called = f" (in torch.optim.{optimisers[-1]})" if optimisers else ""
    return f"at {lines[-1]}{called}" if lines else f"in torch{called}"
