"""Published checkpoints load; anything else is refused in one sentence, unread, with the model as it was."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

from methods import checkpoint
from methods.backbones import mdm, mld
from methods.checkpoint import CheckpointError
from methods.registry import BACKBONES
from methods.rewards import spm


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    return mld.Mld(mld.TINY)


def other_weights(module) -> dict:
    return {key: torch.randn_like(value) for key, value in module.state_dict().items()}


def refused(load, module, path) -> str:
    """The message of the refusal; the module must be unchanged."""
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(CheckpointError) as error:
        load(module, path)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    message = str(error.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_a_published_file_loads_without_its_evaluator(backbone, tmp_path):
    state = other_weights(backbone)
    extras = dict.fromkeys(("t2m_textencoder.hidden", "text_encoder.x", "reward_model.y"), torch.zeros(2))
    torch.save({"state_dict": {**state, **extras}, "epoch": 3}, tmp_path / "mld.ckpt")
    checkpoint.load_backbone(backbone, tmp_path / "mld.ckpt")
    assert all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())


LAYOUTS = ["mld-tiny", "mld-original-tiny", "mldpp-tiny", "motionlcm-tiny", "motionlcm-v2-tiny", "mdm-tiny"]


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    return {name: BACKBONES[name].build() for name in LAYOUTS}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_published_layout_loads_and_another_is_named(networks, tmp_path, name):
    """As saved: under `state_dict`, with the evaluator beside it; MDM's denoiser without a prefix. Weights, not the
    fixed positions."""
    state = other_weights(networks[name])
    saved = {key.removeprefix("denoiser."): value for key, value in state.items()} if name == "mdm-tiny" else state
    torch.save({"state_dict": {**saved, "t2m_moveencoder.x": torch.zeros(2)}}, tmp_path / "published.ckpt")
    fresh = BACKBONES[name].build()
    checkpoint.load_backbone(fresh, tmp_path / "published.ckpt")
    assert all(torch.equal(value, state[key]) for key, value in fresh.named_parameters())
    for other in LAYOUTS:
        if other != name:
            message = refused(checkpoint.load_backbone, networks[other], tmp_path / "published.ckpt")
            assert message.endswith(f"it looks like backbone '{name}': build that one")


def test_a_denoiser_without_its_decoder_is_refused(backbone, tmp_path):
    checkpoint.save(backbone.denoiser, tmp_path / "denoiser.safetensors")
    assert "missing: vae." in refused(checkpoint.load_backbone, backbone, tmp_path / "denoiser.safetensors")


def test_a_backbone_that_is_loaded_as_a_reward_is_named(backbone, tmp_path):
    checkpoint.save(backbone, tmp_path / "mld.safetensors")
    message = refused(checkpoint.load_spm, spm.Spm(spm.TINY), tmp_path / "mld.safetensors")
    assert message.endswith("it looks like backbone 'mld-tiny': build that one")


def test_the_reward_loads_from_its_own_file_and_from_inside_a_fine_tuned_one(tmp_path):
    reward = spm.Spm(spm.TINY)
    state = other_weights(reward)
    save_file(state, tmp_path / "spm.safetensors")
    inside = {f"reward_model.{key}": 2 * value for key, value in state.items()}
    torch.save({"state_dict": inside}, tmp_path / "mld.ckpt")
    checkpoint.load_spm(reward, tmp_path / "spm.safetensors")
    assert torch.equal(reward.final_layer.weight, state["final_layer.weight"])
    checkpoint.load_spm(reward, tmp_path / "mld.ckpt")
    assert torch.equal(reward.final_layer.weight, 2 * state["final_layer.weight"])


@pytest.mark.parametrize("wrapper", [None, "model_avg"])
def test_a_published_mdm_loads_plain_and_averaged_with_its_own_positions(wrapper, tmp_path):
    """Positions of another length are those of an older release; CLIP is no part of the backbone."""
    backbone = mdm.Mdm(mdm.TINY)
    positions = backbone.denoiser.sequence_pos_encoder.pe.clone()
    state = other_weights(backbone.denoiser)
    for key in [key for key in state if key.endswith(".pe")]:
        state[key] = torch.zeros(7, 1, 16)
    content = {**state, "clip_model.visual.proj": torch.zeros(2)}
    if wrapper:
        content = {"model": {key: 0 * value for key, value in content.items()}, wrapper: content}
    torch.save(content, tmp_path / "model000750000.pt")
    checkpoint.load_backbone(backbone, tmp_path / "model000750000.pt")
    for key, value in backbone.denoiser.state_dict().items():
        assert torch.equal(value, positions if key.endswith(".pe") else state[key]), key


def test_a_tensor_of_two_names_is_saved_under_both(tmp_path):
    """MDM's positions: no weights of a fine-tuned one could be written."""
    denoiser = mdm.MdmDenoiser(mdm.TINY)
    checkpoint.save(denoiser, tmp_path / "mdm.safetensors")
    assert set(checkpoint.read(tmp_path / "mdm.safetensors")) == set(denoiser.state_dict())


def test_what_is_saved_loads_again(backbone, tmp_path):
    checkpoint.save(backbone, tmp_path / "tuned.safetensors")
    loaded = mld.Mld(mld.TINY)
    checkpoint.load_backbone(loaded, tmp_path / "tuned.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(backbone.parameters(), loaded.parameters(), strict=True))
    assert [path.name for path in tmp_path.iterdir()] == ["tuned.safetensors"]


def test_missing_unexpected_and_misshapen_keys_are_named(backbone, tmp_path):
    state = other_weights(backbone)
    del state["vae.final_layer.bias"]
    state["denoiser.surprise"] = torch.zeros(1)
    state["vae.skel_embedding.bias"] = torch.zeros(3)
    save_file(state, tmp_path / "odd.safetensors")
    message = refused(checkpoint.load_backbone, backbone, tmp_path / "odd.safetensors")
    assert "missing: vae.final_layer.bias" in message
    assert "unexpected: denoiser.surprise" in message
    assert message.endswith("of another shape: vae.skel_embedding.bias (3,) instead of (16,)"), "like no other backbone"


class Hostile:
    """Would create a file if it were unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (self.target, "w"))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("write", [torch.save, lambda x, path: path.write_bytes(pickle.dumps(x))], ids=["zip", "bare"])
def test_a_pickle_is_refused_and_never_run(backbone, tmp_path, write):
    target = tmp_path / "owned"
    write({"state_dict": other_weights(backbone), "x": Hostile(str(target))}, tmp_path / "hostile.ckpt")
    assert "never run" in refused(checkpoint.load_backbone, backbone, tmp_path / "hostile.ckpt")
    assert not target.exists()


@pytest.mark.parametrize("name", ["cut.ckpt", "cut.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_a_truncated_file_is_refused(backbone, tmp_path, name, share):
    whole = tmp_path / f"whole-{name}"
    if name.endswith("ckpt"):
        torch.save({"state_dict": backbone.state_dict()}, whole)
    else:
        checkpoint.save(backbone, whole)
    (tmp_path / name).write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
    refused(checkpoint.load_backbone, backbone, tmp_path / name)


def test_a_missing_file_and_a_file_without_weights_are_refused(backbone, tmp_path):
    assert "no checkpoint" in refused(checkpoint.load_backbone, backbone, tmp_path / "none.ckpt")
    torch.save({"epoch": 1}, tmp_path / "empty.ckpt")
    assert "no state dict" in refused(checkpoint.load_backbone, backbone, tmp_path / "empty.ckpt")
