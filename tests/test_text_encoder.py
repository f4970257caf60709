"""The switch that keeps the text encoder resident: as many bytes as its weights take, and nothing else changes."""

import torch

from bench import text_encoder
from bench.cases import Case
from bench.meters import simulated
from bench.profiles import PROFILES, profile

WEIGHTS = 334_939_648 + 1024 * 768
"""T5-large's encoder as it is published, and the projection of sentence-t5-large."""


def case(spec: str) -> Case:
    return Case("draft:k=2", backbone="mld-tiny", steps=4, batch=3, frames=7, profile=spec)


def test_it_has_the_published_number_of_weights():
    with torch.device("meta"):
        weights = list(text_encoder.resident().parameters())
    assert sum(map(torch.Tensor.numel, weights)) == WEIGHTS
    assert not any(weight.requires_grad for weight in weights)


def test_its_weights_are_resident_and_nothing_else_changes():
    without, kept = (simulated.measure(case(spec)) for spec in ("paper", "paper+text_encoder=true"))
    for name in ("parameters", "resident", "sampling", "peak"):
        assert getattr(kept, name) - getattr(without, name) == 4 * WEIGHTS, name
    assert {phase: peak - without.phases[phase] for phase, peak in kept.phases.items()} == dict.fromkeys(
        without.phases, 4 * WEIGHTS
    )
    assert kept.optimiser_state == without.optimiser_state


def test_no_profile_has_it_unless_asked():
    assert not any(switches.text_encoder for switches in PROFILES.values())
    assert profile("paper+text_encoder=true").text_encoder
