"""The reward's training: each loss is its definition by brute force, SPL's gradient is exact, bad input is refused."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from bench.world.model import WorldReward, patches
from methods import checkpoint
from methods.checkpoint import CheckpointError
from methods.errors import InputError
from methods.interface import Batch
from methods.rewards.losses import (
    RELEASED,
    Decoding,
    Encoding,
    LossWeights,
    cosines,
    equal_captions,
    info_nce,
    kl,
    kl_terms,
    pretraining,
    reconstruction,
)
from methods.rewards.noise import MODES, NoiseConfig, Noised, add_noise, noise
from methods.rewards.preference import SplConfig, mine, preference
from methods.rewards.spm import TINY, Spm, SpmError, sample
from methods.rewards.training import RewardBatch, RewardObjective
from methods.samplers import ddim
from methods.transformer import TransformerSize

SEEDS = st.integers(0, 2**32 - 1)
few = settings(max_examples=25)
PAPER = SplConfig(top=2)
NOISY = NoiseConfig(probability=1.0, mode="M1T1")


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def refused(error: type[InputError], *words: str):
    """Expects one sentence with these words in this order."""
    return pytest.raises(error, match=r"^[^\n]*" + "[^\n]*".join(words) + r"[^\n]*\Z")


# Pre-training losses


def test_divergences_are_those_of_torch_distributions():
    """Of every ordered pair, and the four of the loss, each a mean over elements."""
    q, p = ((drawn(i, 3, 5), drawn(i + 1, 3, 5).exp()) for i in (0, 2))
    unit = (torch.zeros(3, 5).double(), torch.ones(3, 5).double())

    def expected(first, second):
        return torch.distributions.kl_divergence(*(torch.distributions.Normal(*own) for own in (first, second))).mean()

    torch.testing.assert_close(kl(q, p), expected(q, p))
    four = expected(q, p) + expected(p, q) + expected(q, unit) + expected(p, unit)
    torch.testing.assert_close(kl_terms(q, p), four)


@few
@given(seed=SEEDS, size=st.integers(1, 5))
def test_contrast_by_brute_force(seed, size):
    """Row by row: own over all that count, captions that say the same left out on both sides."""
    text, motion = drawn(seed, size, 3), drawn(seed + 1, size, 3)
    near = drawn(seed + 2, size, size) > 0.7
    equal = near | near.T
    similarity = [
        [float(F.cosine_similarity(text[i], motion[j], dim=0)) / 0.3 for j in range(size)] for i in range(size)
    ]
    expected = 0.0
    for i in range(size):
        others = [j for j in range(size) if j == i or not equal[i, j]]
        for line in ([similarity[i][j] for j in others], [similarity[j][i] for j in others]):
            expected += (math.log(sum(map(math.exp, line))) - similarity[i][i]) / (2 * size)
    assert info_nce(text, motion, equal, 0.3).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("size", [1, 4])
def test_contrast_without_anything_to_tell_apart_is_0_and_has_no_gradient(size):
    """A batch of one, and a batch of equal captions: never NaN."""
    text = drawn(0, size, 3).requires_grad_()
    loss = info_nce(text, drawn(1, size, 3), torch.ones(size, size, dtype=torch.bool))
    loss.backward()
    assert loss == 0
    assert torch.equal(text.grad, torch.zeros_like(text))


def test_reconstruction_averages_over_padded_frames_too():
    """As released: of 2 frames one is padding, so an error of 2 (SmoothL1: 1.5) counts half; both sides are summed."""
    reference = torch.zeros(1, 2, 1)
    wrong = torch.tensor([[[2.0], [0.0]]])
    assert reconstruction(Decoding(wrong, reference, reference)) == 0.75
    assert reconstruction(Decoding(wrong, wrong, reference)) == 1.5


def test_the_total_is_the_weighted_sum_of_its_parts():
    """With weights that differ, so that none is taken for another; the parts carry no graph."""
    text, motion = (Encoding(drawn(i, 4, 6), drawn(i + 1, 4, 6).exp(), drawn(i + 2, 4, 6)) for i in (0, 3))
    decoding = Decoding(*(drawn(i, 4, 3, 2) for i in (6, 7, 8)))
    weights = LossWeights(reconstruction=2.0, kl=3.0, latent=5.0, contrast=7.0)
    total, parts = pretraining(text, motion, decoding, weights=weights)
    torch.testing.assert_close(total, sum(getattr(weights, name) * value for name, value in parts.items()))
    torch.testing.assert_close(parts["latent"], F.smooth_l1_loss(text.latent, motion.latent))
    torch.testing.assert_close(parts["reconstruction"], reconstruction(decoding))
    without, fewer = pretraining(text, motion, weights=weights)
    assert sorted(fewer) == ["contrast", "kl", "latent"]
    torch.testing.assert_close(without, total - 2 * parts["reconstruction"])


def test_equal_captions_of_both_protocols():
    """EasyTune's cosine does not depend on the embeddings' length; TMR's plain product does."""
    sentences = torch.tensor([[1.0, 0.0], [3.0, 1.0], [0.0, 1.0]])
    cosine = torch.tensor([[True, True, False], [True, True, False], [False, False, True]])
    assert torch.equal(equal_captions(sentences), cosine)
    assert torch.equal(equal_captions(0.1 * sentences), cosine)
    assert torch.equal(equal_captions(0.1 * sentences, normalise=False), torch.eye(3, dtype=torch.bool))


# Self-refinement preference learning


def matrix(seed: int, texts: int, motions: int) -> tuple[Tensor, Tensor]:
    """Similarities of which many are ties, and which captions are equal."""
    return (drawn(seed, texts, motions) * 2).round() / 4, drawn(seed + 1, texts, motions) > 1


def brute_pairs(similarity: Tensor, equal: Tensor, top: int) -> dict[int, int]:
    """Of each text that misses its motion: the best wrong one, first in order. Written without masks."""
    pairs = {}
    for i, row in enumerate(similarity.tolist()):
        wrong = [j for j in range(len(row)) if j != i and not equal[i, j]]
        if len([j for j in wrong if row[j] > row[i]]) >= top:
            pairs[i] = max(wrong, key=lambda j: (row[j], -j))
    return pairs


@few
@given(seed=SEEDS, texts=st.integers(1, 6), others=st.integers(0, 4), top=st.integers(1, 3))
def test_paper_pairs_loss_and_gradient_by_brute_force(seed, texts, others, top):
    """The mined pairs; each pair's formula under autograd; and the hand-derived ±σ((loser - winner)/τ)/(τ·mined)."""
    tau, motions = 0.3, max(texts + others, top)
    similarity, equal = matrix(seed, texts, motions)
    config = SplConfig(top=top, temperature=tau)
    pairs = brute_pairs(similarity, equal, top)
    loser, mined = mine(similarity, config, equal)
    assert {i: int(loser[i]) for i in range(texts) if mined[i]} == pairs

    own = similarity.clone().requires_grad_()
    result = preference(own, config, equal)
    result.loss.backward()
    other = similarity.clone().requires_grad_()
    terms = [-torch.log_softmax(torch.stack([other[i, j], other[i, i]]) / tau, dim=0)[1] for i, j in pairs.items()]
    expected = torch.stack(terms).mean() if terms else 0 * other.sum()
    expected.backward()
    by_hand = torch.zeros_like(similarity)
    for i, j in pairs.items():
        slope = torch.sigmoid((similarity[i, j] - similarity[i, i]) / tau) / (tau * len(pairs))
        by_hand[i, j] += slope
        by_hand[i, i] -= slope
    torch.testing.assert_close(result.loss, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(own.grad, other.grad, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(own.grad, by_hand, rtol=1e-12, atol=1e-12)
    skipped = [i for i in range(texts) if i not in pairs]
    assert torch.equal(own.grad[skipped], torch.zeros(len(skipped), motions).double())
    assert (int(result.mined), int(result.skipped)) == (len(pairs), len(skipped))


@few
@given(seed=SEEDS, size=st.integers(2, 6), top=st.integers(1, 2), threshold=st.sampled_from([0.4, 0.9]))
def test_released_loss_and_gradient_by_brute_force(seed, size, top, threshold):
    """Right texts are drawn to (0.5, 0.5) with the best motion, the others to their own; mean over all; 0.3 twice."""
    similarity, _ = matrix(seed, size, size)
    own = similarity.clone().requires_grad_()
    result = preference(own, SplConfig(variant="released", top=top, temperature=0.3, similarity=threshold))
    result.loss.backward()
    expected, by_hand, wrong = 0.0, torch.zeros_like(similarity), 0
    for i, row in enumerate(similarity.tolist()):
        best = row.index(max(row))
        right = len([value for value in row if value > row[i]]) < top or max(row) > threshold
        target = (0.5, 0.5) if right else (0.0, 1.0)
        wrong += not right
        scores = [math.exp(row[best] / 0.09), math.exp(row[i] / 0.09)]
        for j, score, aim in zip((best, i), scores, target, strict=True):
            share = score / sum(scores)
            expected += (aim * math.log(aim / share) if aim else 0.0) / size
            by_hand[i, j] += (share - aim) / (0.09 * size)
    assert result.loss.item() == pytest.approx(expected, abs=1e-12)
    torch.testing.assert_close(own.grad, by_hand, rtol=1e-10, atol=1e-12)
    assert (int(result.mined), int(result.skipped)) == (wrong, size - wrong)


def test_a_motion_of_an_equal_caption_neither_loses_nor_stands_in_the_way():
    """Text 0 has three better motions. One says the same: the next is the loser; two: its own is in the top 2."""
    similarity = drawn(0, 1, 4) * 0 + torch.tensor([[0.0, 0.9, 0.8, 0.7]])
    assert mine(similarity, PAPER).loser.tolist() == [1]
    equal = torch.tensor([[True, True, False, False]])
    assert mine(similarity, PAPER, equal) == (torch.tensor([2]), torch.tensor([True]))
    equal = torch.tensor([[True, True, True, False]])
    assert not mine(similarity, PAPER, equal).mined.any()


@pytest.mark.parametrize(
    ("shape", "top", "equal"),
    [((1, 1), 1, False), ((3, 3), 3, False), ((4, 4), 2, True), ((1, 5), 1, True)],
    ids=["batch of one", "pool of K", "captions all equal", "one text, captions all equal"],
)
def test_nothing_to_mine_is_a_loss_of_0_without_gradient(shape, top, equal):
    """And says so by its counts; never NaN."""
    similarity = drawn(3, *shape).requires_grad_()
    result = preference(similarity, SplConfig(top=top), torch.full(shape, equal))
    result.loss.backward()
    assert (result.loss.item(), int(result.mined), int(result.skipped)) == (0.0, 0, shape[0])
    assert torch.equal(similarity.grad, torch.zeros(shape).double())


def test_one_text_is_mined_from_a_pool_of_its_own():
    result = preference(torch.tensor([[0.0, 0.5, 0.9]]), SplConfig(top=2, pool=3))
    assert result.loss.item() == pytest.approx(math.log1p(math.exp(9)))


@pytest.mark.parametrize(
    ("shape", "config", "words"),
    [
        ((1, 1), SplConfig(), ["pool of 1 motions has no top 10", "enlarge"]),
        ((9, 9), SplConfig(variant="released"), ["pool of 9 motions has no top 10", "enlarge"]),
        ((2, 4), SplConfig(top=2, pool=8), ["has 4 motions, not 8"]),
        ((2, 4), SplConfig(variant="released", top=2), ["has 4 motions, not 2"]),
        ((4, 2), PAPER, [r"\[4, 2\]", "first in the pool"]),
        ((4,), PAPER, [r"\[4\]", "first in the pool"]),
    ],
)
def test_pools_that_cannot_be_mined_are_refused(shape, config, words):
    with refused(InputError, *words):
        preference(torch.zeros(shape), config)


# Noise


@pytest.mark.parametrize("shape", [(3, 7), (3, 4, 5)])
def test_noise_is_the_forward_process_of_the_sampler(shape):
    """The same states as the sampler's tables give, row by row, for motions as for latents."""
    clean, sampler = drawn(0, *shape), ddim(50)
    steps = [49, 20, 0]
    torch.manual_seed(1)
    noisy = add_noise(clean, torch.tensor([sampler[step].timestep for step in steps]))
    torch.manual_seed(1)
    fresh = torch.randn_like(clean)
    for row, step in enumerate(steps):
        torch.testing.assert_close(noisy[row], sampler.add_noise(clean[row], fresh[row], step), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("timestep", "words"),
    [
        (torch.tensor([0, 1000]), ["timestep 1000", "0 to 999"]),
        (torch.tensor([-1, 5]), ["timestep -1", "0 to 999"]),
        (torch.tensor([5]), [r"\[1\] for 2 motions", "one integer"]),
        (torch.tensor([5.0, 6.0]), ["float32", "one integer"]),
    ],
)
def test_timesteps_that_are_none_are_refused(timestep, words):
    with refused(InputError, *words):
        add_noise(torch.zeros(2, 3), timestep)


@pytest.mark.parametrize(("mode", "motion", "text"), [(mode, *tokens) for mode, tokens in MODES.items()])
def test_modes_name_the_encoders_that_get_the_time_token(mode, motion, text):
    """MxTy: x for motions, y for texts; the motion is noisy in all of them."""
    torch.manual_seed(0)
    clean = torch.zeros(4, 3)
    noisy = noise(clean, NoiseConfig(1.0, mode=mode))
    assert mode == f"M{int(motion)}T{int(text)}"
    assert (noisy.motion_timestep is not None, noisy.text_timestep is not None) == (motion, text)
    assert not torch.equal(noisy.values, clean)
    if motion and text:
        assert torch.equal(noisy.motion_timestep, noisy.text_timestep)


def test_a_batch_is_noised_as_a_whole_and_as_often_as_asked():
    """Never at 0, always at 1, about 30 of 100 at 0.3; a clean batch is untouched and has no timestep."""
    torch.manual_seed(0)
    clean = torch.ones(6, 2)
    for probability, low, high in ((0.0, 0, 0), (1.0, 100, 100), (0.3, 15, 45)):
        count = 0
        for _ in range(100):
            given = noise(clean, NoiseConfig(probability))
            noised = given.motion_timestep is not None
            assert (given.values != clean).any(dim=1).all() if noised else given.values is clean
            count += noised
        assert low <= count <= high


# The objective


def batch(texts: int = 4, motions: int | None = None, frames: int = 6, width: int = TINY.features) -> RewardBatch:
    """Random pairs of several lengths, with captions of which none is like another."""
    motions = motions or texts
    return RewardBatch(
        motion=drawn(0, motions, frames, width),
        frame_mask=torch.arange(frames) < torch.tensor([frames, frames - 2])[torch.arange(motions) % 2][:, None],
        tokens=drawn(1, texts, 3, TINY.token_width),
        token_mask=torch.arange(3) < torch.tensor([3, 1])[torch.arange(texts) % 2][:, None],
        sentences=torch.eye(motions).double(),
        caption_ids=torch.arange(motions),
    )


@pytest.fixture
def reward() -> Spm:
    """In float64, without dropout, and with weights that are no constants."""
    torch.manual_seed(0)
    return Spm(TINY).double().eval()


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_the_objective_is_its_parts_put_together(reward, variant):
    """Noise, texts, motions, in this order of draws; losses of the clean motion; SPL on the samples' cosines."""
    given = batch(texts=4, motions=6 if variant == "paper" else 4)
    given = replace(
        given, caption_ids=torch.zeros(len(given.motion), dtype=torch.long).index_fill(0, torch.tensor([1]), 1)
    )
    given = replace(given, sentences=None)
    spl = SplConfig(variant=variant, top=1, weight=0.5)
    torch.manual_seed(5)
    total, parts = RewardObjective(spl=spl, noise=NOISY)(reward, given)

    torch.manual_seed(5)
    torch.rand(())
    timestep = torch.randint(501, (len(given.motion),))
    noisy = add_noise(given.motion, timestep)
    text = reward.encode_text(given.tokens, given.token_mask, timestep[:4])
    text_latent = sample(*text)
    mean, std = reward.encode_motion(noisy, given.frame_mask, timestep)
    latents = sample(mean, std)
    mask = given.frame_mask[:4]
    clean = given.motion[:4] * mask[..., None]
    decoded = Decoding(reward.decode(text_latent, mask), reward.decode(latents[:4], mask), clean)
    same = torch.ones(len(mean), len(mean), dtype=torch.bool)
    same[1] = same[:, 1] = False
    same[1, 1] = True
    expected, others = pretraining(
        Encoding(*text, text_latent), Encoding(mean[:4], std[:4], latents[:4]), decoded, same[:4, :4]
    )
    result = preference(cosines(text_latent, latents), spl, same[:4])
    torch.testing.assert_close(total, expected + 0.5 * result.loss)
    assert sorted(parts) == sorted([*others, "spl", "mined", "skipped"])
    assert result.mined == parts["mined"]
    assert parts["mined"] + parts["skipped"] == 4
    torch.testing.assert_close(parts["spl"], result.loss)
    assert not any(value.requires_grad for value in parts.values())


def test_captions_are_equal_by_sentence_or_by_id():
    """Pair 0 and 1 by a cosine of 0.95, 1 and 2 by their id; without either only itself."""
    sentences = torch.tensor([[1.0, 0.0], [0.95, (1 - 0.95**2) ** 0.5], [0.0, 1.0]])
    given = replace(batch(3), sentences=sentences, caption_ids=torch.tensor([4, 5, 5]))
    close, same = torch.eye(3, dtype=torch.bool), torch.eye(3, dtype=torch.bool)
    close[0, 1] = close[1, 0] = same[1, 2] = same[2, 1] = True
    assert torch.equal(given.equal(0.9), close | same)
    assert torch.equal(given.equal(0.99), same)
    assert torch.equal(replace(given, caption_ids=None).equal(0.9), close)
    assert torch.equal(replace(given, sentences=None).equal(0.9), same)


def test_padded_frames_do_not_matter(reward):
    """Whatever stands in them, in the encoders and in the reconstruction."""
    given, objective = batch(), RewardObjective()
    other = replace(given, motion=given.motion.masked_fill(~given.frame_mask[..., None], 7.0))
    values = []
    for own in (given, other):
        torch.manual_seed(0)
        values.append(objective(reward, own)[0])
    torch.testing.assert_close(*values)


def test_one_seed_one_loss_and_every_weight_is_trained():
    """With dropout and noise on; with a time token on both sides no parameter is left without a gradient."""
    torch.manual_seed(0)
    reward = Spm(TINY).double()
    objective = RewardObjective(spl=PAPER, noise=NOISY)
    losses = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        losses.append(objective(reward, batch())[0])
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]
    losses[0].backward()
    idle = [name for name, own in reward.named_parameters() if own.grad is None or not own.grad.any()]
    assert idle == []


def test_further_motions_of_a_pool_count_in_spl_alone(reward):
    """The pre-training losses are those of the pairs, whatever the pool; without SPL a pool is refused."""
    given = batch(texts=3, motions=5)
    other = replace(given, motion=torch.cat([given.motion[:3], 1 - given.motion[3:]]))
    parts = []
    for own in (given, other):
        torch.manual_seed(0)
        parts.append(RewardObjective(spl=SplConfig(top=1, pool=5, temperature=1.0))(reward, own)[1])
    for name in ("kl", "latent", "contrast", "reconstruction"):
        torch.testing.assert_close(parts[0][name], parts[1][name])
    assert parts[0]["spl"] != parts[1]["spl"]
    with refused(InputError, "5 motions for 3 texts", "no SPL"):
        RewardObjective()(reward, given)


def test_the_worlds_reward_trains_without_reconstruction():
    """It has no decoder and reads four frames at a time; the published one leaves it out where its weight is 0."""
    torch.manual_seed(0)
    world = WorldReward(TINY.token_width, TransformerSize(width=16, feedforward=32, layers=3, heads=2)).double()
    given = batch(frames=8, width=263)
    given = replace(given, frame_mask=torch.arange(8) < torch.tensor([8, 4, 8, 4])[:, None])
    total, parts = RewardObjective(noise=NOISY)(world, given)
    total.backward()
    assert sorted(parts) == ["contrast", "kl", "latent"]
    assert all(own.grad is not None and own.grad.isfinite().all() for own in world.parameters())
    weights = replace(RELEASED, reconstruction=0.0)
    assert sorted(RewardObjective(weights)(Spm(TINY).double(), batch())[1]) == sorted(parts)


def test_a_batch_may_bring_its_noisy_motions(reward):
    """Drawn before the call they give the same loss as the objective's own noise; both at once are refused."""
    given = batch()
    torch.manual_seed(5)
    expected, _ = RewardObjective(noise=NOISY)(reward, given)
    torch.manual_seed(5)
    brought = replace(given, noisy=noise(given.motion, NOISY))
    assert RewardObjective()(reward, brought)[0] == expected
    with refused(InputError, "noisy already", "leave noise out"):
        RewardObjective(noise=NOISY)(reward, brought)


def test_the_worlds_reward_reconstructs_where_it_keeps_its_decoder():
    """Frame by frame, though it decodes patches of four: padded frames are 0, and every weight learns."""
    torch.manual_seed(0)
    size = TransformerSize(width=16, feedforward=32, layers=3, heads=2)
    world = WorldReward(TINY.token_width, size, decoder=True).double()
    given = batch(frames=8, width=263)
    given = replace(given, frame_mask=torch.arange(8) < torch.tensor([8, 4, 8, 4])[:, None])
    latent = drawn(3, 4, 16)
    result = world.eval().decode(latent, given.frame_mask)
    assert result.shape == given.motion.shape
    assert not result[~given.frame_mask].any()
    torch.testing.assert_close(
        patches(result, given.frame_mask)[0], Spm.decode(world, latent, given.frame_mask[:, ::4])
    )
    total, parts = RewardObjective(noise=NOISY)(world.train(), given)
    total.backward()
    assert "reconstruction" in parts
    assert all(own.grad is not None and own.grad.isfinite().all() for own in world.parameters())


def test_training_by_the_objective_brings_pairs_together(reward):
    """25 steps on eight pairs: texts find their motions, and SPL has no failures left."""
    given = batch(texts=8)
    with torch.no_grad():  # samples near their means: pairs are learned in few steps
        for layer in (reward.dist_motion_layer, reward.dist_text_layer):
            layer.bias[TINY.transformer.width :] = -6.0
    optimiser = torch.optim.Adam(reward.parameters(), lr=3e-3)
    objective = RewardObjective(replace(RELEASED, contrast=1.0, reconstruction=0.0), spl=SplConfig(top=1))
    seen = []
    for _ in range(25):
        total, parts = objective(reward, given)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        seen.append(parts)
    assert seen[-1]["contrast"] < 0.2 * seen[0]["contrast"]
    assert seen[0]["mined"] > 4
    assert seen[-1]["mined"] == 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LossWeights(kl=-1.0), ["weight kl", "-1.0"]),
        (lambda: LossWeights(contrast=math.nan), ["weight contrast", "nan"]),
        (lambda: RewardObjective(temperature=0.0), ["temperature", "0.0"]),
        (lambda: RewardObjective(caption_threshold=1.5), ["caption_threshold", "1.5"]),
        (lambda: SplConfig(variant="tmr"), ["spl: unknown variant 'tmr'", "paper, released"]),
        (lambda: SplConfig(top=0), ["spl: top", "0"]),
        (lambda: SplConfig(temperature=-0.1), ["spl: temperature", "-0.1"]),
        (lambda: SplConfig(weight=-1), ["spl: weight", "-1"]),
        (lambda: SplConfig(variant="released", pool=64), ["released variant's pool is the batch"]),
        (lambda: NoiseConfig(1.1), ["noise: probability", "1.1"]),
        (lambda: NoiseConfig(0.5, max_timestep=1000), ["noise: max_timestep", "999", "1000"]),
        (lambda: NoiseConfig(0.5, mode="M2T0"), ["noise: unknown mode 'M2T0'", "M0T0, M1T0, M0T1, M1T1"]),
        (lambda: replace(batch(4), motion=torch.zeros(3, 6, 11)), ["4 texts has 3 motions"]),
        (lambda: replace(batch(4), tokens=torch.zeros(0, 3, 10)), ["0 texts has 4 motions"]),
        (lambda: replace(batch(4), frame_mask=torch.ones(3, 6).bool()), ["batch.frame_mask has 3 rows, not 4"]),
        (lambda: replace(batch(2, 4), sentences=torch.zeros(2, 5)), ["batch.sentences has 2 rows, not 4"]),
        (lambda: replace(batch(2, 4), caption_ids=torch.zeros(2)), ["batch.caption_ids has 2 rows, not 4"]),
        (
            lambda: replace(batch(4), noisy=Noised(torch.zeros(4, 5, 11), None, None)),
            [r"batch.noisy is \[4, 5, 11\]", r"\[4, 6, 11\]"],
        ),
    ],
)
def test_bad_options_and_batches_are_refused(make, words):
    with refused(InputError, *words):
        make()


# A reward that is not noise-aware


def test_a_reward_without_time_embedding_scores_clean_motions_alone():
    """It says so by name, as a reward and in training; noise without a time token it can be trained on."""
    torch.manual_seed(0)
    clean_only = Spm(replace(TINY, time_features=0)).double()
    assert (Spm(TINY).noise_aware, clean_only.noise_aware) == (True, False)
    assert not any(key.startswith("time_embedding.") for key in clean_only.state_dict())
    given = batch()
    prompts = Batch(torch.zeros(4, 1, 1), torch.zeros(1, 1, 1), given.tokens, given.token_mask, given.frame_mask)
    assert clean_only(given.motion, prompts).shape == (4,)
    with refused(SpmError, "this Spm has no time embedding", "give no timestep"):
        clean_only(given.motion, prompts, 250)
    for mode in ("M1T0", "M0T1"):
        with refused(SpmError, "no time embedding"):
            RewardObjective(noise=NoiseConfig(1.0, mode=mode))(clean_only, given)
    assert RewardObjective(noise=NoiseConfig(1.0, mode="M0T0"))(clean_only, given)[0].isfinite()


def test_a_checkpoint_without_time_embedding_is_named_where_a_noise_aware_reward_is_asked_for(tmp_path):
    """From both layouts of a file; it loads into a reward built without; any other lack is listed by its key."""
    state = Spm(replace(TINY, time_features=0)).state_dict()
    whole = Spm(TINY)
    for prefix in ("", "reward_model."):
        path = tmp_path / "clean.safetensors"
        save_file({prefix + key: value for key, value in state.items()}, path)
        with refused(CheckpointError, "clean.safetensors", "not noise-aware", r"SpmConfig\(time_features=0\)"):
            checkpoint.load_spm(whole, path)
        loaded = Spm(replace(TINY, time_features=0))
        checkpoint.load_spm(loaded, path)
        assert torch.equal(loaded.final_layer.weight, state["final_layer.weight"])
    checkpoint.save(whole, tmp_path / "aware.safetensors")
    with refused(CheckpointError, "unexpected: time_embedding"):
        checkpoint.load_spm(Spm(replace(TINY, time_features=0)), tmp_path / "aware.safetensors")
    del state["final_layer.bias"]
    save_file(state, path)
    with refused(CheckpointError, "missing: final_layer.bias, time_embedding"):
        checkpoint.load_spm(whole, path)
