"""The latent backbones' networks and the text-motion reward compute what the published implementations compute."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from parity.vectors import deviation, filled, given, length_mask, load, randn
from torch import nn
from torch.nn import functional as F

from methods.backbones import mdm, mld, motionlcm
from methods.backbones.mdm import Mdm, MdmConfig, MdmDenoiser
from methods.backbones.mld import TINY, Mld, MldConfig, MldDenoiser, MldVae
from methods.errors import InputError
from methods.interface import Batch
from methods.registry import BACKBONES
from methods.rewards.spm import Spm, sample
from methods.transformer import ATTENTION_KERNELS, guidance_features, set_attention_kernel

CASES = ["c0", "c1", "c2"]
both_kernels = pytest.mark.parametrize("kernel", ATTENTION_KERNELS)
"""The kernel may cost memory only: what was published with one of them holds for the other."""
TIED = (
    # The published reward uses one LayerNorm at both ends by accident; the value stored last is the text encoder's.
    ("motion_encoder.norm.weight", "text_encoder.norm.weight"),
    ("motion_encoder.norm.bias", "text_encoder.norm.bias"),
)


DENOISERS = {
    "mld_denoiser_1x256": MldConfig(),
    "mldpp_denoiser_16x32": mld.PLUS,
    "motionlcm_denoiser_1x256": motionlcm.V1,
    "motionlcm_v2_denoiser_16x32": motionlcm.V2,
}
VAES = {"mld_vae_1x256": MldConfig(), "mldpp_vae_16x32": mld.PLUS}
"""Of each set of vectors, the network's sizes."""


@cache
def denoiser(config: MldConfig) -> nn.Module:
    return filled(lambda: MldDenoiser(config))


@cache
def vae(config: MldConfig) -> nn.Module:
    return filled(lambda: MldVae(config))


@pytest.fixture(scope="module")
def mdm_denoiser():
    return filled(lambda: MdmDenoiser(MdmConfig()), kept=mdm_kept())


def mdm_kept() -> list[str]:
    return load("mdm_trans_enc_512").meaning["weights"]["own_value"]


@pytest.fixture(scope="module")
def spm():
    return filled(Spm, TIED)


def check_weights(network: nn.Module, check: dict, filled: int) -> None:
    """The state-dict names and shapes are the published ones: they decide every number that the rule fills in."""
    state = network.state_dict()
    values = torch.cat([value.flatten().double() for value in state.values()])
    assert len(state) == filled
    assert len(values) == check["n"]
    assert values.sum().item() == pytest.approx(check["sum"], rel=1e-8)
    assert values.abs().sum().item() == pytest.approx(check["abs_sum"], rel=1e-8)


@pytest.mark.parametrize("name", [*DENOISERS, *VAES, "mdm_trans_enc_512", "spm"])
def test_weights_are_those_of_the_published_modules(request, name):
    if fixture := {"mdm_trans_enc_512": "mdm_denoiser", "spm": "spm"}.get(name):
        network = request.getfixturevalue(fixture)
    else:
        network = denoiser(DENOISERS[name]) if name in DENOISERS else vae(VAES[name])
    expected = load(name).meaning["weights"]
    check_weights(network, expected["check"], expected["filled"] + len(expected["own_value"]))


def test_tied_keys_are_those_of_the_published_reward():
    assert [list(pair) for pair in TIED] == load("spm").meaning["weights"]["tied_keys_last_one_wins"]


@both_kernels
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", DENOISERS)
@torch.no_grad()
def test_denoiser(name, case, kernel):
    """One timestep for all or one each, one text token or several; the guidance scale, where it is embedded."""
    network = denoiser(DENOISERS[name])
    set_attention_kernel(network, kernel)
    vectors = load(name)
    inputs = {name: given(spec) for name, spec in vectors.cases[case]["inputs"].items()}
    sample, guidance = inputs["sample"], inputs.get("guidance_scale")
    timestep, text = inputs["timestep"].expand(len(sample)), inputs["encoder_hidden_states"]
    scale = () if guidance is None else (guidance.item(),)
    got = {"out": network(sample, timestep, text, *scale)}
    if scale:
        got["timestep_cond"] = guidance_features(*scale, width=motionlcm.FEATURES).expand(len(sample), -1)
    assert sorted(got) == sorted(vectors.cases[case]["outputs"])
    for name, value in got.items():
        assert deviation(value, vectors.output(case, name), vectors.meaning["tolerance"]) <= 1, name


@both_kernels
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", VAES)
@torch.no_grad()
def test_vae(name, case, kernel):
    """Posterior, its sample with the given noise, and motions decoded from two latents; padded frames included."""
    network = vae(VAES[name])
    set_attention_kernel(network, kernel)
    vectors = load(name)
    inputs = {name: given(spec) for name, spec in vectors.cases[case]["inputs"].items()}
    mask = inputs["mask"]
    mean, std = network.encode(inputs["features"], mask)
    latent = mean + std * inputs["eps"].transpose(0, 1)  # published latents are token-first, [n, B, d]
    got = {
        "mu": mean.transpose(0, 1),
        "std": std.transpose(0, 1),
        "latent": latent,
        "decoded_from_z": network.decode(inputs["z_decode"], mask),
        "decoded_from_latent": network.decode(latent, mask),
    }
    assert sorted(got) == sorted(vectors.cases[case]["outputs"])
    for name, value in got.items():
        assert deviation(value, vectors.output(case, name), vectors.meaning["tolerance"]) <= 1, name


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_the_authors_own_mld(case):
    """Its latents are token-first everywhere, `[1, B, d]`; its table of positions is filled, and never read."""
    vectors = load("mld_original_1x256")
    networks = {"vae": vae(mld.ORIGINAL), "denoiser": denoiser(mld.ORIGINAL)}
    for name, network in networks.items():
        weights = vectors.meaning["weights"]
        check_weights(network, weights[f"check_{name}"], weights[name]["filled"])
        set_attention_kernel(network, "explicit")
    inputs = vectors.cases[case]["inputs"]
    features, z, sample, text, timestep = (
        given(inputs[name]) for name in ("features", "z_decode", "sample", "text", "timestep")
    )
    mask = length_mask(inputs["lengths"], features.shape[1])
    mean, std = networks["vae"].encode(features, mask)
    latent = mean + std * randn(inputs["eps"], (1, *mean.shape[::2])).transpose(0, 1)
    got = {
        "mu": mean.transpose(0, 1),
        "std": std.transpose(0, 1),
        "latent": latent.transpose(0, 1),
        "decoded_from_z": networks["vae"].decode(z.transpose(0, 1), mask),
        "denoiser_out": networks["denoiser"](sample, timestep.expand(len(sample)), text),
    }
    assert sorted(got) == sorted(vectors.cases[case]["outputs"])
    for name, value in got.items():
        assert deviation(value, vectors.output(case, name), vectors.meaning["tolerance"]) <= 1, name


@both_kernels
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_mdm_denoiser(mdm_denoiser, case, kernel):
    """With text and without, padded frames hidden and not. Published motions are `[B, D, 1, F]`."""
    set_attention_kernel(mdm_denoiser, kernel)
    vectors = load("mdm_trans_enc_512")
    inputs = vectors.cases[case]["inputs"]
    text = given(inputs["text_embed"]).transpose(0, 1) * (not inputs["uncond"])
    mask = given(inputs["mask"]) if inputs["mask_frames"] else None
    motion = given(inputs["x"])[:, :, 0].transpose(1, 2)
    out = mdm_denoiser(motion, given(inputs["timesteps"]), text, mask).transpose(1, 2)[:, :, None]
    assert deviation(out, vectors.output(case, "out"), vectors.meaning["tolerance"]) <= 1


@torch.no_grad()
def test_guidance_of_mdm(mdm_denoiser):
    """Each published motion has a timestep and a scale of its own; without its prompt it has a zero vector, whatever
    the batch holds as the empty prompt."""
    vectors = load("mdm_trans_enc_512")
    inputs = {name: given(spec) for name, spec in vectors.cases["cfg"]["inputs"].items()}
    expected = vectors.output("cfg", "out")
    for row, (timestep, scale) in enumerate(zip(inputs["timesteps"], inputs["scale"], strict=True)):
        backbone = Mdm(MdmConfig(guidance=float(scale)), mdm_denoiser)
        batch = Batch(
            text=inputs["text_embed"][:, row, None],
            null_text=torch.full((1, 1, 512), torch.nan),
            tokens=torch.zeros(1, 1, 1),
            token_mask=torch.ones(1, 1, dtype=torch.bool),
            frame_mask=inputs["mask"][row, None],
        )
        motion = inputs["x"][row, None, :, 0].transpose(1, 2)
        out = backbone.predict(motion, int(timestep), batch).transpose(1, 2)[:, :, None]
        assert deviation(out, expected[row, None], vectors.meaning["tolerance"]) <= 1
    assert MdmConfig().guidance == 2.5


def test_mdm_around_its_network():
    """The state is the motion; decoded it lacks its padded frames, and those beyond the batch's length. Padded frames
    are hidden from the network only where the configuration says so."""
    torch.manual_seed(0)
    backbone = Mdm(mdm.TINY).eval()
    batch = Batch(
        text=torch.randn(3, 1, mdm.TINY.text_width),
        null_text=torch.randn(1, 1, mdm.TINY.text_width),
        tokens=torch.zeros(3, 1, 1),
        token_mask=torch.ones(3, 1, dtype=torch.bool),
        frame_mask=length_mask([8, 5, 1], 8),
    )
    x = backbone.initial_state(batch, torch.Generator().manual_seed(1))
    assert x.shape == (3, 8, mdm.TINY.features)
    assert torch.equal(backbone.decode(x, batch), x * batch.frame_mask[..., None])
    assert torch.equal(backbone.decode(x, batch.rows(slice(0, 3), 6)), (x * batch.frame_mask[..., None])[:, :6])
    assert list(backbone.networks()) == ["denoiser"]
    changed = torch.where(batch.frame_mask[..., None], x, 7.0)
    for hidden in (False, True):
        masked = Mdm(replace(mdm.TINY, mask_frames=hidden), backbone.denoiser)
        before, after = (masked.decode(masked.predict(state, 3, batch), batch) for state in (x, changed))
        assert torch.allclose(before, after, atol=1e-5) == hidden


def reward_inputs(case: str) -> tuple[torch.Tensor, Batch, list[str]]:
    """Motion, batch and the names of the sampling noises (text first, then motion)."""
    inputs = load("spm").cases[case]["inputs"]
    motion, tokens = given(inputs["features"]), given(inputs["token_emb"])
    rows = len(motion)
    batch = Batch(
        text=torch.zeros(rows, 1, 1),
        null_text=torch.zeros(1, 1, 1),
        tokens=tokens,
        token_mask=length_mask(inputs["text_lengths"], tokens.shape[1]),
        frame_mask=length_mask(inputs["motion_lengths"], motion.shape[1]),
    )
    return motion, batch, inputs["eps"]


def give_noise(monkeypatch, names: list[str]) -> list[str]:
    """Makes torch.randn_like return the named noises in order; the returned list is empty once all are used."""
    names = list(names)
    monkeypatch.setattr(torch, "randn_like", lambda like: randn(names.pop(0), like.shape))
    return names


@both_kernels
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_reward_encoders_and_decoder(spm, case, kernel):
    """Both posteriors, their samples, the decoder, and the similarity of the means; with and without timesteps."""
    set_attention_kernel(spm, kernel)
    vectors = load("spm")
    motion, batch, (text_noise, motion_noise) = reward_inputs(case)
    spec = vectors.cases[case]["inputs"]["timestep"]
    timestep = None if spec == "None" else given(spec).expand(len(motion))
    text_mean, text_std = spm.encode_text(batch.tokens, batch.token_mask)
    motion_mean, motion_std = spm.encode_motion(motion, batch.frame_mask, timestep)
    motion_latent = motion_mean + motion_std * randn(motion_noise, motion_mean.shape)
    got = {
        "t_mu": text_mean[None],
        "t_std": text_std[None],
        "t_latent": (text_mean + text_std * randn(text_noise, text_mean.shape))[None],
        "m_mu": motion_mean[None],
        "m_std": motion_std[None],
        "m_latent": motion_latent[None],
        "decoded_from_m_latent": spm.decode(motion_latent, batch.frame_mask),
        "cosine_of_means": F.cosine_similarity(text_mean, motion_mean),
    }
    assert sorted([*got, "reward_official"]) == sorted(vectors.cases[case]["outputs"])
    for name, value in got.items():
        assert deviation(value, vectors.output(case, name), vectors.meaning["tolerance"]) <= 1, name


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_reward(spm, monkeypatch, case):
    """The reward itself: similarity of samples, one a motion, text drawn before motion, no timestep."""
    vectors = load("spm")
    motion, batch, noises = reward_inputs(case)
    left = give_noise(monkeypatch, noises)
    rewards = spm(motion, batch)
    assert left == []
    expected = vectors.output(case, "reward_official").reshape(len(motion))  # published: 0-d for one motion
    assert deviation(rewards, expected, vectors.meaning["tolerance"]) <= 1


@torch.no_grad()
def test_reward_of_a_noisy_motion_sees_its_timestep(spm, monkeypatch):
    """Spm's integer timestep is the encoder's one for every motion: the step-aware reward of EasyTune's noisy score."""
    motion, batch, noises = reward_inputs("c1")
    text = spm.encode_text(batch.tokens, batch.token_mask)
    noisy = spm.encode_motion(motion, batch.frame_mask, torch.full((3,), 250))
    give_noise(monkeypatch, noises)
    expected = F.cosine_similarity(sample(*text), sample(*noisy))
    give_noise(monkeypatch, noises)
    torch.testing.assert_close(spm(motion, batch, 250), expected)
    give_noise(monkeypatch, noises)
    assert not torch.allclose(spm(motion, batch), expected, atol=1e-4)


@both_kernels
def test_reward_gradient(spm, monkeypatch, kernel):
    """d reward / d motion: what every method backpropagates."""
    set_attention_kernel(spm, kernel)
    vectors = load("spm")
    motion, batch, noises = reward_inputs("grad")
    motion.requires_grad_()
    give_noise(monkeypatch, noises)
    rewards = spm(motion, batch)
    (gradient,) = torch.autograd.grad(rewards.sum(), motion)
    assert sorted(vectors.cases["grad"]["outputs"]) == ["d_reward_d_features", "reward"]
    assert deviation(rewards[0], vectors.output("grad", "reward"), vectors.meaning["tolerance"]) <= 1
    expected = vectors.output("grad", "d_reward_d_features")
    assert deviation(gradient, expected, vectors.meaning["tolerance"]) <= 1
    # Gradients are far below atol: hold them to their own scale as well.
    assert deviation(gradient, expected, {"rel_to_max": 1e-3}) <= 1


def test_guided_prediction_decoding_and_initial_state():
    """Mld around its networks: ε_null + 7.5 (ε_text - ε_null), every motion with its own prompt; decoding by mask."""
    torch.manual_seed(0)
    mld = Mld(TINY).eval()
    batch = Batch(
        text=torch.randn(3, 2, TINY.text_width),
        null_text=torch.randn(1, 2, TINY.text_width),
        tokens=torch.zeros(3, 1, 1),
        token_mask=torch.ones(3, 1, dtype=torch.bool),
        frame_mask=length_mask([8, 5, 1], 8),
    )
    x = mld.initial_state(batch, torch.Generator().manual_seed(1))
    assert x.shape == (3, TINY.tokens, TINY.transformer.width)
    assert torch.equal(x, mld.initial_state(batch, torch.Generator().manual_seed(1)))
    predicted = mld.predict(x, 501, batch)
    for row in range(3):
        one = slice(row, row + 1)
        with_text = mld.denoiser(x[one], torch.tensor([501]), batch.text[one])
        without = mld.denoiser(x[one], torch.tensor([501]), batch.null_text)
        expected = without + 7.5 * (with_text - without)
        torch.testing.assert_close(predicted[one], expected, rtol=1e-4, atol=1e-5)
    motion = mld.decode(x, batch)
    assert motion.shape == (3, 8, TINY.features)
    assert torch.equal(motion.abs().sum(-1) > 0, batch.frame_mask)
    assert mld.networks()["denoiser"] is mld.denoiser
    assert {name.split(".")[0] for name in mld.state_dict()} == {"vae", "denoiser"}


@pytest.mark.parametrize(
    ("name", "scales"),
    [("motionlcm-tiny", {1: 7.5, 2: 7.5, 4: 7.5}), ("motionlcm-v2-tiny", {1: 8.0, 2: 12.5, 4: 13.5})],
)
@torch.no_grad()
def test_motionlcm_is_told_the_guidance_of_its_steps(name, scales):
    """In one call, which never sees the empty prompt; version 2 has no other number of steps."""
    entry = BACKBONES[name]
    batch = Batch(
        text=torch.randn(3, *entry.text),
        null_text=torch.full((1, *entry.text), torch.nan),
        tokens=torch.zeros(3, 1, 1),
        token_mask=torch.ones(3, 1, dtype=torch.bool),
        frame_mask=length_mask([8, 5, 1], 8),
    )
    for steps, scale in scales.items():
        backbone, sampler = entry.at(steps)
        backbone.denoiser.eval()
        x, timestep = backbone.initial_state(batch), sampler[0].timestep
        told = backbone.denoiser(x, torch.full((3,), timestep), batch.text, scale)
        assert torch.equal(backbone.predict(x, timestep, batch), told)
        assert not torch.allclose(told, backbone.denoiser(x, torch.full((3,), timestep), batch.text, scale + 1))
    if name == "motionlcm-v2-tiny":
        with pytest.raises(InputError, match="1, 2, 4"):
            entry.at(3)
