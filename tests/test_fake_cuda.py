"""The simulator against torch's own composition of operators for CUDA, on fake CUDA tensors (see fake_cuda.py). Needs a
C++ compiler; the program that reads the cases runs once."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import torch

from bench.cases import Case
from bench.meters import simulated
from bench.reward_cases import RewardCase

HERE = Path(__file__).parent
TORCH = Path(torch.__file__).parent
COMPILER = shutil.which("g++") or shutil.which("c++")
SPECS = [
    "easytune paper",
    "easytune paper+attention=fused",
    "easytune paper+precision=bf16",
    "draft paper+attention=fused+precision=bf16",
    "reward:spl paper+precision=bf16",
]

pytestmark = [
    pytest.mark.slow,  # the compiler takes its time for torch's headers
    pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler"),
    pytest.mark.skipif(torch.version.cuda is not None, reason="needs a build of torch without CUDA"),
]


@pytest.fixture(scope="module")
def on_fake_cuda(tmp_path_factory) -> dict[str, dict]:
    """The readings by spec."""
    library = tmp_path_factory.mktemp("fake_cuda") / "fake_cuda.so"
    lib = TORCH / "lib"
    linked = [f"-L{lib}", f"-Wl,-rpath,{lib}", "-ltorch_cpu", "-lc10"]
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}"
    source = [f"-I{TORCH / 'include'}", str(HERE / "fake_cuda.cpp")]
    built = subprocess.run(
        [COMPILER, "-shared", "-fPIC", "-O0", "-std=c++20", abi, *source, *linked, "-o", str(library)],
        capture_output=True,
        text=True,
    )
    if built.returncode:
        pytest.skip(f"the headers of torch {torch.__version__} do not compile here: {built.stderr[:200]}")
    program = [sys.executable, "-W", "ignore", str(HERE / "fake_cuda.py"), str(library), *SPECS]
    path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    read = subprocess.run(program, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    assert read.returncode == 0, read.stderr
    return dict(zip(SPECS, json.loads(read.stdout), strict=True))


@pytest.mark.parametrize("spec", SPECS)
def test_equal_to_the_byte(on_fake_cuda, spec):
    """Phase by phase, and by category at the peak. (Lines of code are not compared: a device has a thread of its own
    for the backward pass, which knows none.)"""
    read = dict(on_fake_cuda[spec])
    case = RewardCase(**read["case"]) if spec.startswith("reward") else Case(**read["case"])
    reading = msgspec.to_builtins(simulated.measure(case))
    for name in ("peak", "resident", "sampling", "phases", "categories"):
        assert reading[name] == read[name], name
