"""The studies of the base model against brute force, and the verdicts that are read off them."""

import made_studies
import numpy as np
import pytest
import torch
from msgspec import structs

from bench.alignment.studies import base_model
from bench.claims.base_model import judge_chain, judge_similarity
from bench.claims.verdict import NotJudgedError, Outcome
from bench.records.types import Chain, Similarity
from bench.report import figures
from bench.world import load


@pytest.fixture(scope="module")
def world():
    return load()


def test_the_chain_is_that_of_one_graph_through_all_steps(world):
    result = structs.asdict(base_model.chain(world, prompts=2, steps=3, seed=5))
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
        assert result["coefficient"][index] == pytest.approx(ratio, rel=1e-3)
    assert result["coefficient"][-1] == 1
    assert all(value > 0 for name in ("through_chain", "stepwise") for value in result[name])


def test_similarity_rises_to_one_as_the_noise_goes(world):
    result = structs.asdict(base_model.similarity(world, motions=8, steps=5))
    assert {len(values) for values in result.values()} == {5}
    assert result["timestep"] == sorted(result["timestep"], reverse=True)
    assert result["noisy"][-1] > 0.9
    assert result["noisy"][-1] >= result["noisy"][0]


def cosine(a: torch.Tensor, b: torch.Tensor) -> np.ndarray:
    """`[N, M]`, of rows `[N, E]` and `[M, E]`."""
    a, b = (own.detach().double().numpy() for own in (a, b))
    return a @ b.T / np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))


@pytest.fixture(scope="module")
def noise(world):
    return structs.asdict(base_model.noise(world, prompts=3, motions=32, steps=3, seed=7))


@pytest.mark.parametrize("within", [False, True])
def test_a_noisy_score_is_correlated_with_that_of_the_finished_motion(world, noise, within):
    """By numpy, from the states of every trajectory; a prompt's mean is taken off one prompt at a time."""
    chosen = world.prompts("test", 3)
    batch, sampler = world.batch(chosen.texts, chosen.lengths), world.sampler(3)
    generator = torch.Generator().manual_seed(7)
    scores: dict[str, list] = {"aware": [], "clean": [], "predicted": [], "final": []}

    def scored(latent, timestep=None):
        torch.manual_seed(7)
        return world.reward(world.backbone.decode(latent, batch), batch, timestep).numpy()

    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for _ in range(4):
            x = world.backbone.initial_state(batch, generator)
            own: dict[str, list] = {"aware": [], "clean": [], "predicted": []}
            for index in range(3):
                timestep = sampler[index].timestep
                out = world.backbone.predict(x, timestep, batch)
                own["aware"].append(scored(x, timestep))
                own["clean"].append(scored(x))
                own["predicted"].append(scored(sampler.x0_hat(x, out, index)))
                x = sampler.step(x, out, index)
            for name, values in own.items():
                scores[name].append(values)
            scores["final"].append(scored(x))
    every = {name: np.array(values, dtype=np.float64) for name, values in scores.items()}  # [4, (3,) prompts]
    if within:
        for values in every.values():
            for prompt in range(3):
                values[..., prompt] -= values[..., prompt].mean(axis=0)
    for name in ("aware", "clean", "predicted"):
        expected = [np.corrcoef(every[name][:, i].ravel(), every["final"].ravel())[0, 1] for i in range(3)]
        assert noise[f"{'within' if within else 'correlation'}_{name}"] == pytest.approx(expected, abs=1e-3)
    assert noise["within_predicted" if within else "correlation_predicted"][-1] > 0.99


def test_retrieval_of_noisy_motions_ends_where_clean_ones_are(world, noise):
    """One pool of 32 is the whole sample: a text is right where its nearest motion means what it says."""
    motion, prompts = world.real("test", 32, 7)
    batch = world.batch(prompts.texts, prompts.lengths)
    with torch.no_grad():
        latent = world.backbone.vae.encode(motion, batch.frame_mask)[0]
        clean = world.reward.encode_motion(world.backbone.decode(latent, batch), batch.frame_mask)[0]
        text = world.reward.encode_text(batch.tokens, batch.token_mask)[0]
    nearest = cosine(text, clean).argmax(axis=1)
    expected = np.mean([prompts.meanings[n] == own for n, own in zip(nearest, prompts.meanings, strict=True)])
    assert noise["precision_clean"][-1] == pytest.approx(expected, abs=1.5 / 32)  # the last step has a little noise
    assert noise["precision_clean"][0] < expected
    assert noise["precision_aware"] != noise["precision_clean"]


def test_noise_is_told_of_every_step(noise):
    assert {len(values) for values in noise.values()} == {3}
    assert noise["timestep"] == sorted(noise["timestep"], reverse=True)
    assert len(set(noise["chance"])) == 1
    assert 1 / 32 <= noise["chance"][0] < min(0.2, *noise["precision_clean"][1:])


TIMESTEPS = [751, 501, 251, 1]


@pytest.mark.parametrize(
    ("first", "early", "outcome"),
    [(0.01, 0.0, Outcome.HOLDS), (0.01, 1.0, Outcome.IN_PART), (0.9, 1.0, Outcome.FAILS)],
)
def test_c6_asks_whether_the_coefficient_and_the_gradient_vanish(first, early, outcome):
    chain = [first, first, 0.9, 1.0]
    through = [early, early, 1.0, 1.0]
    record = made_studies.row(Chain(chain, chain, through, [1.0, 1.0, 1.0, 1.0], TIMESTEPS), scale=None)
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
    study = Similarity(
        timestep=TIMESTEPS,
        signal=[0.1, 0.4, 0.8, 1.0],
        **dict.fromkeys(("noisy", "predicted", "noisy_reward", "predicted_reward"), noisy),
        clean_reward=[0.5] * 4,
        other=[0.2] * 4,
    )
    record = made_studies.row(study, scale=None)
    verdict = judge_similarity([record])
    assert verdict.outcome is outcome
    assert words in verdict.finding
    assert len(figures.similarity(record).axes) == 2


def test_without_the_studies_nothing_is_judged():
    with pytest.raises(NotJudgedError, match="study chain"):
        judge_chain([])
