"""The studies of the base model against brute force, and the verdicts that are read off them."""

import pytest
import torch

from bench.alignment import studies
from bench.alignment.world import load
from bench.claims.base_model import judge_chain, judge_similarity
from bench.claims.verdict import NotJudgedError, Outcome
from bench.report import figures


@pytest.fixture(scope="module")
def world():
    return load()


def test_the_chain_is_that_of_one_graph_through_all_steps(world):
    found = studies.chain(world, prompts=2, steps=3, seed=5)
    chosen = world.prompts("test", 2)
    batch, sampler = world.batch(chosen.texts, chosen.lengths), world.sampler(3)
    generator = torch.Generator().manual_seed(5)
    states = [world.backbone.initial_state(batch, generator).requires_grad_()]
    for index in range(3):
        out = world.backbone.predict(states[-1], sampler[index].timestep, batch)
        states.append(sampler.step(states[-1], out, index))
    v = torch.randn(states[-1].shape, generator=generator)
    for index in range(3):
        (arrived,) = torch.autograd.grad(states[-1], states[index + 1], v, retain_graph=True)
        ratio = float(arrived.square().mean().sqrt() / v.square().mean().sqrt())
        assert found["coefficient"][index] == pytest.approx(ratio, rel=1e-3)
    assert found["coefficient"][-1] == 1
    assert all(value > 0 for name in ("through_chain", "stepwise") for value in found[name])


def test_similarity_rises_to_one_as_the_noise_goes(world):
    found = studies.similarity(world, motions=8, steps=5)
    assert {len(values) for values in found.values()} == {5}
    assert found["timestep"] == sorted(found["timestep"], reverse=True)
    assert found["noisy"][-1] > 0.9
    assert found["noisy"][-1] >= found["noisy"][0]


def row(name: str, **values) -> dict:
    return {
        "kind": "study",
        "case": {"id": name, "steps": 4, "meter": "host"},
        "status": "ok",
        "environment": {"device": "a CPU", "torch": "2.13.0"},
        "study": {"timestep": [751, 501, 251, 1], **values},
    }


@pytest.mark.parametrize(
    ("first", "early", "outcome"),
    [(0.01, 0.0, Outcome.HOLDS), (0.01, 1.0, Outcome.IN_PART), (0.9, 1.0, Outcome.FAILS)],
)
def test_c6_asks_whether_the_coefficient_and_the_gradient_vanish(first, early, outcome):
    chain = [first, first, 0.9, 1.0]
    record = row(
        "chain",
        coefficient=chain,
        coefficient_reward=chain,
        through_chain=[early, early, 1.0, 1.0],
        stepwise=[1.0, 1.0, 1.0, 1.0],
    )
    verdict = judge_chain([record])
    assert verdict.outcome is outcome
    assert "embedded world" in verdict.finding
    assert "50% of EasyTune's" in verdict.finding
    assert len(figures.chain(record).axes) == 2


@pytest.mark.parametrize(
    ("noisy", "outcome", "words"),
    [
        ([0.9, 0.9, 1.0, 1.0], Outcome.HOLDS, "from timestep 751 down"),
        ([0.3, 0.5, 0.9, 1.0], Outcome.IN_PART, "from timestep 251 down"),
        ([0.2, 0.2, 0.2, 0.3], Outcome.FAILS, "at 0 of 4 steps"),
    ],
)
def test_c7_asks_how_far_up_a_noised_motion_is_like_itself(noisy, outcome, words):
    values = {"noisy": noisy, "predicted": noisy, "other": [0.2] * 4, "clean_reward": [0.5] * 4}
    record = row("similarity", **values, noisy_reward=noisy, predicted_reward=noisy, signal=[0.1, 0.4, 0.8, 1.0])
    verdict = judge_similarity([record])
    assert verdict.outcome is outcome
    assert words in verdict.finding
    assert len(figures.similarity(record).axes) == 2


def test_without_the_studies_nothing_is_judged():
    with pytest.raises(NotJudgedError, match="study chain"):
        judge_chain([])
