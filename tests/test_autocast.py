"""bf16: no call of a network sees weights from before an optimiser step, and casts are CUDA's."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from bench.cases import Case
from bench.meters import tracked
from bench.meters.autocast import autocast_kernels
from bench.meters.lowering import cuda_lowering, replaced
from bench.reward_cases import RewardCase
from bench.setup import build
from methods import ddim, rollout

BF16 = "paper+train_mode=false+precision=bf16"


def built(method: str, steps: int = 3):
    run = build(Case(method, backbone="mld-tiny", steps=steps, batch=2, frames=8, profile=BF16, meter="host"), "cpu")
    for group in run.updater.optimizer.param_groups:
        group["lr"] = 0.1  # a step that is seen in bf16
    return run


def calls_seen(run) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Outputs of the denoiser calls of an update, each with that of a fresh scope under the weights of that moment."""
    seen, predict = [], run.backbone.predict

    def compared(x, timestep, batch):
        out = predict(x, timestep, batch)
        with torch.no_grad(), torch.autocast("cpu", enabled=False), torch.autocast("cpu", torch.bfloat16, True, False):
            seen.append((out.detach(), predict(x, timestep, batch)))
        return out

    run.backbone.predict = compared
    return seen


@pytest.mark.parametrize("method", ["easytune", "draft:k=1"])
def test_each_call_sees_the_weights_of_its_moment(method):
    run = built(method)
    seen = calls_seen(run)
    run.update()
    assert len(seen) == 3
    assert all(torch.equal(out, fresh) for out, fresh in seen)


def test_nor_does_a_scope_of_the_caller_hide_an_optimiser_step():
    run = built("easytune")
    seen = calls_seen(run)
    with torch.autocast("cpu", torch.bfloat16):
        rollout(run.plan, run.backbone, ddim(3), run.reward, run.batch, run.x, run.updater)
    assert all(torch.equal(out, fresh) for out, fresh in seen)


@pytest.mark.parametrize(
    "case",
    [
        Case("easytune", backbone="mld-tiny", steps=2, batch=3, frames=7, profile=BF16),
        RewardCase(spl=True, reward="spm-tiny", batch=12, frames=16, profile=BF16),
    ],
    ids=["easytune", "reward"],
)
def test_bytes_equal_those_of_a_real_run_with_the_same_casts(case):
    with replaced("AutocastCPU", autocast_kernels()):
        real = tracked.read(case, "cpu")
        with FakeTensorMode():
            simulated = tracked.read(case, "cpu", with_data=False)
    for name in ("peak", "resident", "sampling", "phases", "categories"):
        assert getattr(simulated, name) == getattr(real, name), name


X = torch.rand(4, 4, dtype=torch.bfloat16)
Y = torch.rand(4, 4)


@pytest.mark.parametrize(
    ("call", "dtype"),
    [
        (lambda: X.exp(), torch.float32),
        (lambda: X.pow(2), torch.float32),
        (lambda: X.sum(), torch.float32),
        (lambda: X.sum(0, dtype=torch.bfloat16), torch.bfloat16),
        (lambda: X.softmax(-1), torch.float32),
        (lambda: X.norm(), torch.float32),
        (lambda: X.norm(2, dim=1), torch.float32),
        (lambda: torch.nn.functional.layer_norm(X, (4,)), torch.float32),
        (lambda: torch.nn.functional.cosine_similarity(X, X), torch.float32),
        (lambda: X.double().exp(), torch.float64),
        (lambda: torch.addcmul(X, Y, X), torch.float32),
        (lambda: torch.addcmul(X, X, X), torch.bfloat16),
        (lambda: torch.mv(Y, Y[0]), torch.bfloat16),
        (lambda: Y @ Y, torch.bfloat16),
        (lambda: X + X, torch.bfloat16),
        (lambda: torch.cat([X, Y]), torch.float32),
    ],
)
def test_types_are_those_of_cudas_autocast(call, dtype):
    """By torch.amp's "Autocast Op Reference"."""
    with cuda_lowering(), torch.autocast("cpu", torch.bfloat16):
        assert call().dtype == dtype
