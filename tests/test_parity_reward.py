"""The reward's training losses and the retrieval metrics are those of EasyTune's and TMR's published code."""

import numpy as np
import pytest
import torch
from parity.vectors import deviation, given, load
from torch import Tensor
from torch.nn import functional as F

from bench.motion.retrieval import EQUAL_CAPTIONS, RANKS, retrieval
from methods.rewards.losses import (
    Decoding,
    Encoding,
    cosines,
    equal_captions,
    info_nce,
    kl,
    pretraining,
)
from methods.rewards.noise import NoiseConfig, noise
from methods.rewards.preference import SplConfig, preference

SPM, TMR = load("spm_losses"), load("tmr_losses_metrics")


def published(vectors, case: str, name: str, value) -> None:
    """`value` is the published output, within the vectors' tolerance."""
    assert deviation(value, vectors.output(case, name), vectors.meaning["tolerance"]) <= 1, name


def inputs(vectors, case: str) -> dict[str, Tensor]:
    """The random inputs of a case; published latents have a first axis of length 1, which is left out."""
    specs = vectors.cases[case]["inputs"]
    drawn = {name: given(spec) for name, spec in specs.items() if isinstance(spec, dict)}
    return {name: value[0] if value.shape[0] == 1 else value for name, value in drawn.items()}


def test_every_published_case_is_tested():
    assert sorted(SPM.cases) == ["c0", "ft0", "ft1", "timestep_distribution"]
    assert sorted(SPM.cases["c0"]["outputs"]) == ["infonce_filtered", "infonce_unfiltered", "kl_text_motion", "total"]
    assert sorted(TMR.cases["c0"]["outputs"]) == ["infonce", "infonce_filtered", "kl_q1_p2", "sim"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pretraining_losses_of_easytune(dtype):
    """The total with its released weights, and each part that was recorded."""
    values = {name: value.to(dtype) for name, value in inputs(SPM, "c0").items()}
    text, motion = (
        Encoding(values[f"{side}_mu"], torch.exp(0.5 * values[f"{side}_logvar"]), values[f"{side}_latent"])
        for side in "tm"
    )
    sentences = values["sent_emb"].clone()
    sentences[1] = sentences[0] + 0.05 * sentences[1]
    equal = equal_captions(sentences)
    decoding = Decoding(values["t_rst"], values["m_rst"], values["m_ref"])
    total, parts = pretraining(text, motion, decoding, equal)
    published(SPM, "c0", "total", total)
    published(SPM, "c0", "infonce_filtered", parts["contrast"])
    published(SPM, "c0", "infonce_unfiltered", info_nce(text.latent, motion.latent))
    published(SPM, "c0", "kl_text_motion", kl(text.gaussian, motion.gaussian))
    assert total.dtype == dtype


@pytest.mark.parametrize(("case", "share", "mined"), [("ft0", 0.2, 2), ("ft1", 3.0, 0)])
def test_released_spl(case, share, mined):
    """One batch with failures, whose published loss is 11.18, and one without, where it is 0."""
    values = inputs(SPM, case)
    motion = values["m_latent"]
    result = preference(cosines(share * motion + values["t_noise"], motion), SplConfig(variant="released"))
    published(SPM, case, "ft_loss", result.loss)
    assert (int(result.mined), int(result.skipped)) == (mined, 16 - mined)


def test_timesteps_are_drawn_from_the_published_range():
    """501 of 1000 timesteps, the first with the published probability."""
    torch.manual_seed(0)
    drawn = noise(torch.zeros(20_000, 1), NoiseConfig(probability=1.0)).motion_timestep
    assert drawn is not None
    assert len(drawn.unique()) == SPM.output("timestep_distribution", "nonzero")
    assert (drawn.min(), drawn.max()) == (0, 500)
    # Four standard deviations of a count of 20000 draws.
    p = SPM.output("timestep_distribution", "p0")
    assert (drawn == 0).double().mean().item() == pytest.approx(p, abs=4 * (p / 20_000) ** 0.5)


@pytest.fixture(scope="module")
def tmr() -> dict[str, Tensor]:
    values = inputs(TMR, "c0")
    values["m"] = 0.35 * values["t"] + values["m_noise"]
    sentences = values["sent"].clone()
    sentences[1::6] = values["sent"][0::6] + 0.3 * values["sent"][1::6]
    values["sent"] = F.normalize(sentences, dim=-1)
    return values


def test_losses_of_tmr(tmr):
    text, motion = tmr["t"], tmr["m"]
    published(TMR, "c0", "infonce", info_nce(text, motion))
    equal = equal_captions(tmr["sent"], 0.8, normalise=False)
    published(TMR, "c0", "infonce_filtered", info_nce(text, motion, equal))
    gaussians = [(tmr[f"mu{i}"], torch.exp(0.5 * tmr[f"lv{i}"])) for i in (1, 2)]
    published(TMR, "c0", "kl_q1_p2", kl(*gaussians))
    published(TMR, "c0", "sim", cosines(text, motion))


@pytest.mark.parametrize("protocol", ["all", "threshold_0_95"])
def test_retrieval_metrics_of_tmr(tmr, protocol):
    """The whole set, and the same with equal captions: each recall and median rank, to the last digit."""
    equal = None if protocol == "all" else equal_captions(tmr["sent"], EQUAL_CAPTIONS, normalise=False)
    expected = TMR.meaning["metrics"][protocol]
    for side, got in zip(("t2m", "m2t"), retrieval(cosines(tmr["t"], tmr["m"]), equal), strict=True):
        assert got.recall == pytest.approx({k: expected[f"{side}/R{k:02}"] for k in RANKS}, rel=1e-12)
        assert got.median_rank == expected[f"{side}/MedR"]


def test_the_threshold_protocol_is_told_apart_from_a_plain_cosine():
    """A pair of captions with cosine 0.92 is equal at 0.95 of TMR's scale, and would not be at a cosine of 0.95."""
    second = [0.92, (1 - 0.92**2) ** 0.5]
    assert equal_captions(torch.tensor([[1.0, 0.0], second]), EQUAL_CAPTIONS).all()
    assert np.array_equal(equal_captions(torch.tensor([[1.0, 0.0], second]), 0.97), np.eye(2, dtype=bool))
