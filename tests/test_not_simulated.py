"""What cannot run on tensors without data is one sentence with the operation, its line and the mend."""

import functools

import pytest
import torch

from bench import memory, setup
from bench.cases import Case
from bench.meters import simulated
from methods.rewards import spm

SCORE = spm.Spm.forward
CASE = {"backbone": "mld-tiny", "steps": 2, "batch": 2, "frames": 8}


def nonzero(self, motion, batch, timestep=None):
    return SCORE(self, motion, batch, timestep) + motion[batch.frame_mask].sum()


def item(self, motion, batch, timestep=None):
    return SCORE(self, motion, batch, timestep) * motion.sum().item()


def ctc_loss(self, motion, batch, timestep=None):
    frames = torch.full((len(batch),), motion.shape[1], device=motion.device)
    targets = torch.ones(len(batch), 3, dtype=torch.long, device=motion.device)
    logits = motion.transpose(0, 1).log_softmax(-1)
    return SCORE(self, motion, batch, timestep) - torch.nn.functional.ctc_loss(
        logits, targets, frames, frames // frames
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("reward", [nonzero, item, ctc_loss])
def test_what_depends_on_data(monkeypatch, reward, precision):
    monkeypatch.setattr(spm.Spm, "forward", reward)
    row = memory.measure(Case(profile=f"paper+precision={precision}", **CASE))
    assert row.status == "failed"
    for said in (f" {reward.__name__} depends on", "test_not_simulated.py:", "--meter host"):
        assert said in row.reason
    assert "\n" not in row.reason


@pytest.mark.parametrize(
    ("optimizer", "said"),
    [
        (functools.partial(torch.optim.AdamW, fused=True), "fused=True"),
        (functools.partial(torch.optim.AdamW, capturable=True), "capturable=True"),
        (lambda parameters, **_: torch.optim.Adafactor(parameters), "adafactor"),
        (lambda parameters, **_: torch.optim.ASGD(parameters), "methods/update.py:"),
    ],
)
def test_optimisers(monkeypatch, optimizer, said):
    chosen = optimizer if not isinstance(optimizer, functools.partial) else lambda p, **_: optimizer(p)
    monkeypatch.setattr(setup.torch.optim, "AdamW", chosen)
    with pytest.raises(simulated.SimulationError, match=r"cannot be simulated.*--meter host") as raised:
        simulated.measure(Case(**CASE))
    assert said in str(raised.value)


def test_another_error_stays_what_it_is(monkeypatch):
    def broken(*_):
        raise KeyError("the reward's")

    monkeypatch.setattr(spm.Spm, "forward", broken)
    with pytest.raises(KeyError):
        simulated.measure(Case(**CASE))


def test_a_compiled_reward_is_counted_as_it_was_written(monkeypatch):
    plain = simulated.measure(Case(**CASE))
    before = torch.compile(SCORE, backend="eager")
    monkeypatch.setattr(spm.Spm, "forward", lambda *args: before(*args))
    assert simulated.measure(Case(**CASE)).peak == plain.peak
    monkeypatch.setattr(spm.Spm, "forward", lambda *args: torch.compile(SCORE, backend="eager")(*args))
    assert simulated.measure(Case(**CASE)).peak == plain.peak
