"""What a careless change of the code does to memory is caught, to the byte, and laid at the right door."""

import pytest
import torch
from gate_cases import LARGE

from bench.cases import Case
from bench.gate.baseline import cut_down
from bench.gate.growth import changes
from bench.gate.judge import Outcome, compare
from bench.memory import measure
from methods import rollout
from methods.rewards import spm
from methods.transformer import LearnedPositions


def reward_left_unfrozen(patch):
    patch.setattr(spm.Spm, "requires_grad_", lambda self, requires_grad=True: self)


def explicit_attention(patch):
    patch.setattr("bench.setup.set_attention_kernel", lambda network, kernel: None)


def float_dropout_masks(patch):
    """A mask of four bytes an element, as the CPU's dropout keeps it."""

    def dropout(x, p=0.5, training=True, inplace=False):
        return x * torch.empty_like(x).bernoulli_(1 - p) if training and p > 0 else x

    patch.setattr("bench.meters.lowering.dropout", dropout)


def graph_leaked_between_steps(patch):
    """The latents of all steps are kept, and backpropagation does not free their graphs."""
    leaked = []
    score, backward = rollout.__globals__["_score"], torch.autograd.backward

    def keep(*given):  # the last but one is the latent
        leaked.append(given[-2])
        return score(*given)

    patch.setitem(rollout.__globals__, "_score", keep)

    def keeping(tensors, gradients=None, _retain=None, *rest, **options):
        # Of the chain alone (a list of latents): the decoder's and the reward's graphs are freed as ever.
        return backward(tensors, gradients, isinstance(tensors, list) or None, *rest, **options)

    patch.setattr(torch.autograd, "backward", keeping)


MUTATIONS = [
    # mutation, case, phase, category, module that must head the list
    (reward_left_unfrozen, Case(**LARGE, profile="frozen"), "reward", "activations", "reward.motion_encoder."),
    (
        explicit_attention,
        Case(**LARGE, profile="paper+attention=fused"),
        "reward",
        "activations",
        "reward.motion_encoder.input_blocks.*.self_attn",
    ),
    (float_dropout_masks, Case(**LARGE), "reward", "activations", "reward.motion_encoder."),
    (graph_leaked_between_steps, Case(**LARGE), "rollout", "activations", "denoiser.encoder."),
]


@pytest.mark.parametrize(("mutation", "case", "phase", "category", "module"), MUTATIONS)
def test_a_mutation_is_caught_and_attributed(mutation, case, phase, category, module, clean, monkeypatch):
    mutation(monkeypatch)
    after = measure(case, count_flops=False)
    monkeypatch.undo()
    old, new = cut_down(clean(case)), cut_down(after)
    finding = compare(old, new)
    assert finding.outcome is Outcome.GREW
    first = changes(old.owners, new.owners)[0]
    assert (first.phase, first.category) == (phase, category)
    assert first.module.startswith(module)
    assert first.where.startswith("methods/") or mutation is float_dropout_masks
    assert str(first) in finding.lines[1]
    # What the list adds up to is what the peak grew by.
    total = sum(c.bytes for c in changes(old.owners, new.owners))
    assert total == new.peak - old.peak > 0


@pytest.mark.parametrize(
    ("network", "phase", "module"),
    [("reward", "reward", "reward.query_motion_pos_encoder"), ("vae", "decode", "vae.query_pos_decoder")],
)
def test_one_more_tensor_kept_alive_is_caught_even_of_a_thousandth(network, phase, module, clean, monkeypatch):
    case = Case(**LARGE)
    size = clean(case).reading.peak // 1000
    kept = []
    forward = LearnedPositions.forward

    def keep(self, x, *args, **kwargs):
        if self.watched and not kept:
            kept.append(torch.empty(size // 4, device=x.device))  # the line to be named
        return forward(self, x, *args, **kwargs)

    owner = {"reward": spm.Spm, "vae": "methods.backbones.mld.MldVae"}[network]
    position = module.rpartition(".")[2]
    monkeypatch.setattr(LearnedPositions, "watched", False, raising=False)
    monkeypatch.setattr(LearnedPositions, "forward", keep)
    _watch_from_the_update_on(monkeypatch, owner, position)
    after = measure(case, count_flops=False)
    monkeypatch.undo()
    old, new = cut_down(clean(case)), cut_down(after)
    finding = compare(old, new)
    assert finding.outcome is Outcome.GREW
    (change,) = changes(old.owners, new.owners)
    assert (change.phase, change.category, change.module, change.operator) == (phase, "activations", module, "empty")
    assert change.bytes == pytest.approx(size, abs=512)
    assert change.where.startswith("tests/test_gate_mutations.py:")


def _watch_from_the_update_on(monkeypatch, owner, position: str) -> None:
    """Marks the module once the warm-up is over, so that the tensor is the update's and not resident."""
    from bench.setup import Run

    sample = Run.sample

    def marked(self):
        motion = sample(self)
        network = self.reward if owner is spm.Spm else self.backbone.vae
        getattr(network, position).watched = True
        return motion

    monkeypatch.setattr(Run, "sample", marked)
