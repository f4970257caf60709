"""The simulated meter: the bytes that a CUDA run would keep alive, without a GPU and without allocating them.

The case is built from meta tensors, which have shapes and storage sizes but no data, and CUDA's composition of
operations is put in place of the CPU's (lowering). What CUDA's allocator makes of it is replayed (allocator). Not seen:
kernel and library workspaces, the CUDA context.
"""

from torch._subclasses.fake_tensor import FakeTensorMode

from bench.cases import Case
from bench.meters.lowering import cuda_lowering
from bench.meters.reading import Reading
from bench.meters.tracked import Enter, read, unheard
from bench.profiles import profile
from bench.reward_cases import RewardCase


def measure(case: Case | RewardCase, enter: Enter = unheard) -> Reading:
    """Simulates one update of `case`, every step of it; InputError if its options do not fit."""
    with cuda_lowering():
        if profile(case.profile).precision == "fp32":
            return read(case, "meta", with_data=False, enter=enter)
        # Autocast knows no meta device: fake CPU tensors hold as little, and take several times as long.
        with FakeTensorMode():
            return read(case, "cpu", with_data=False, enter=enter)
