"""TMR computes what the published code computes, loads its files, and serves as a reward like any other."""

import copy

import pytest
import torch
from parity.vectors import deviation, filled, given, load, weight
from torch import nn

from bench.cases import Case
from bench.meters import tracked
from methods import checkpoint
from methods.checkpoint import CheckpointError
from methods.errors import InputError
from methods.interface import Batch
from methods.rewards.tmr import TINY, Tmr
from methods.transformer import ATTENTION_KERNELS, set_attention_kernel

VECTORS = load("tmr")
NETWORKS = ("motion_encoder", "text_encoder", "motion_decoder")


@pytest.fixture(scope="module")
def tmr():
    """With the rule's weights, which go by the names within each network."""
    with torch.device("meta"):
        tmr = Tmr()
    for name in NETWORKS:
        setattr(tmr, name, filled(lambda name=name: getattr(tmr, name)))
    return tmr.eval()


def inputs(case: str) -> tuple[torch.Tensor, Batch, torch.Tensor]:
    """Motion, batch, and the latent that is decoded."""
    values = {name: given(spec) for name, spec in VECTORS.cases[case]["inputs"].items()}
    rows = len(values["motion"])
    text = torch.zeros(rows, 1, 1)
    batch = Batch(text, text[:1], values["text"], values["text_mask"], values["motion_mask"])
    return values["motion"], batch, values["z"]


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_are_those_of_the_published_networks(tmr, name):
    state = getattr(tmr, name).state_dict()
    expected = VECTORS.meaning["weights"]
    values = torch.cat([value.flatten().double() for value in state.values()])
    assert len(state) == expected[name]["filled"]
    assert len(values) == expected["check"][name]["n"]
    assert values.sum().item() == pytest.approx(expected["check"][name]["sum"], rel=1e-9)
    assert values.abs().sum().item() == pytest.approx(expected["check"][name]["abs_sum"], rel=1e-9)


def test_size_of_the_published_networks():
    with torch.device("meta"):
        state = Tmr().state_dict()
    assert (len(state), sum(value.numel() for value in state.values())) == (260, 16_130_823)


@pytest.mark.parametrize("kernel", ATTENTION_KERNELS)
@pytest.mark.parametrize("case", ["c0", "c1", "c2"])
@torch.no_grad()
def test_encoders_decoder_and_score(tmr, case, kernel):
    """Both posteriors as (mean, logarithm of the variance), a decoded motion, and the score."""
    set_attention_kernel(tmr, kernel)
    motion, batch, latent = inputs(case)
    got = {
        name: torch.stack([mean, 2 * std.log()], dim=1)
        for name, (mean, std) in {
            "motion_out": tmr.encode_motion(motion, batch.frame_mask),
            "text_out": tmr.encode_text(batch.tokens, batch.token_mask),
        }.items()
    }
    got |= {"decoded": tmr.decode(latent, batch.frame_mask), "score": tmr(motion, batch)}
    assert sorted(got) == sorted(VECTORS.cases[case]["outputs"])
    for name, value in got.items():
        assert deviation(value, VECTORS.output(case, name), VECTORS.meaning["tolerance"]) <= 1, name
    assert torch.equal(tmr(motion, batch, prompts=tmr.encode_prompts(batch)), tmr(motion, batch))


def test_a_timestep_is_refused(tmr):
    motion, batch, _ = inputs("c0")
    with pytest.raises(InputError, match="clean motions alone"):
        tmr(motion, batch, 250)


def tiny() -> Tmr:
    tmr = Tmr(TINY)
    tmr.load_state_dict({key: weight(key, value.shape) for key, value in tmr.state_dict().items()})
    return tmr.eval()


@torch.no_grad()
def test_motions_of_another_normalisation_score_alike():
    """The change of units in the first layer is the change of units of the motion; frames past the end do not count."""
    torch.manual_seed(0)
    mean, own_mean = torch.randn(2, TINY.features)
    std, own_std = torch.rand(2, TINY.features) + 0.5
    own = torch.randn(3, 9, TINY.features)
    other = (own * own_std + own_mean - mean) / std
    mask = torch.arange(9) < torch.tensor([9, 4, 7])[:, None]
    text = torch.randn(3, 5, TINY.token_width)
    batch = Batch(torch.zeros(3, 1, 1), torch.zeros(1, 1, 1), text, torch.ones(3, 5, dtype=torch.bool), mask)
    tmr = Tmr(TINY).eval()
    again = copy.deepcopy(tmr)
    again.read_normalised_by(mean, std, own_mean, own_std)
    torch.testing.assert_close(again(other, batch), tmr(own, batch))
    assert not torch.allclose(again(own, batch), tmr(own, batch), atol=1e-5)


# Files.


def folder(tmr: Tmr, path):
    path.mkdir()
    for name in NETWORKS:
        torch.save(getattr(tmr, name).state_dict(), path / f"{name}.pt")
    return path


def single(tmr: Tmr, path):
    torch.save({"state_dict": tmr.state_dict(), "epoch": 3, "optimizer_states": [{"lr": 1e-4}]}, path)
    return path


@pytest.mark.parametrize("write", [folder, single])
def test_published_files_load(tmp_path, write):
    """The folder of extracted weights, whose keys have no prefix, and the checkpoint of training."""
    made = Tmr(TINY)
    checkpoint.load_tmr(made, write(tiny(), tmp_path / "last"))
    for key, value in tiny().state_dict().items():
        assert torch.equal(made.state_dict()[key], value), key


def test_a_file_of_another_model_is_refused(tmp_path):
    (path := folder(tiny(), tmp_path / "last")).joinpath("text_encoder.pt").unlink()
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*text_encoder\.pt"):
        checkpoint.load_tmr(Tmr(TINY), path)
    torch.save({"state_dict": nn.Linear(2, 2).state_dict()}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="does not fit Tmr: missing: motion_encoder"):
        checkpoint.load_tmr(Tmr(TINY), tmp_path / "other.ckpt")


# As a reward.


@pytest.mark.parametrize("profile", ["paper", "frozen"])
def test_simulated_memory_is_a_real_cpu_runs(profile):
    case = Case("easytune", "mld-tiny", steps=3, batch=3, frames=7, reward="tmr-tiny", profile=profile)
    simulated, real = tracked.read(case, "meta", with_data=False), tracked.read(case, "cpu")
    assert (simulated.peak, simulated.phases) == (real.peak, real.phases)


def test_published_sizes_fit_the_published_backbone():
    assert Case("easytune", "mld", reward="tmr").id == "easytune-mld-reward-tmr-T50-B256-F196-paper-simulated"
