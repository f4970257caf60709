"""LoRA on the denoiser: the gradient of its factors, what is saved, and PEFT's names for it."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from test_savings import PLAIN, assert_same, ragged, results
from test_simulated import METHODS, bytes_of, tiny
from torch import nn

from bench.meters import simulated, tracked
from bench.setup import build
from methods import checkpoint, lora
from methods.backbones.mld import TINY, MldDenoiser
from methods.errors import InputError
from methods.finetune import FinetuneConfig, Run, finetune

RANK = 2
BLOCKS = ("input_blocks.0", "middle_block", "output_blocks.0")
IN_A_BLOCK = {
    "self_attn.lora_A": (RANK, 16),
    "self_attn.lora_B": (48, RANK),
    "self_attn.base_layer.out_proj.lora_A": (RANK, 16),
    "self_attn.base_layer.out_proj.lora_B": (16, RANK),
    "linear1.lora_A": (RANK, 16),
    "linear1.lora_B": (32, RANK),
    "linear2.lora_A": (RANK, 32),
    "linear2.lora_B": (16, RANK),
}
PEFT = {
    f"base_model.model.encoder.{block}.{name}.weight": shape for block in BLOCKS for name, shape in IN_A_BLOCK.items()
}
"""What peft 0.21.2 saved of MldDenoiser(TINY), given r=2 and target_modules=["self_attn", "linear1", "linear2"]."""


def adapted() -> tuple[MldDenoiser, MldDenoiser, tuple]:
    """A denoiser, the same after some learning, and an input."""
    torch.manual_seed(0)
    base, learned = MldDenoiser(TINY).eval(), MldDenoiser(TINY).eval()
    learned.load_state_dict(base.state_dict())
    lora.adapt(learned, RANK)
    inputs = torch.randn(3, 1, 16), torch.tensor([5, 6, 7]), torch.randn(3, 1, 12)
    assert torch.equal(learned(*inputs), base(*inputs)), "at first it is what it was"
    for weight in learned.parameters():
        if weight.requires_grad:
            nn.init.normal_(weight, std=0.1)
    return base, learned, inputs


def with_adapter(base: nn.Module, folder) -> dict[str, torch.Tensor]:
    """Weights with an adapter added by PEFT's formula: W + lora_alpha / r · B A."""
    config, found = (json.loads((folder / lora.FILES[0]).read_text()), load_file(folder / lora.FILES[1]))
    state = dict(base.state_dict())
    for key, b in found.items():
        if key.endswith(".lora_B.weight"):
            path = key.removeprefix("base_model.model.").removesuffix(".lora_B.weight")
            name = f"{path.replace('.base_layer', '')}.weight".replace("self_attn.weight", "self_attn.in_proj_weight")
            a = found[key.replace("lora_B", "lora_A")]
            state[name] = state[name] + config["lora_alpha"] / config["r"] * b @ a
    return state


@pytest.mark.parametrize("method", METHODS)
def test_the_gradient_is_that_of_the_chain_rule(method):
    """Of the first optimiser step, where B is 0: that of B is the weight's times Aᵀ, that of A is 0."""
    plain, made = ragged(method, PLAIN), ragged(method, f"{PLAIN}+lora={RANK}")
    factors = {name: w.detach().clone() for name, w in made.backbone.denoiser.named_parameters() if w.requires_grad}
    assert len(factors) == 2 * 3 * len(BLOCKS)
    (rewards, _), (scored, _) = results(plain), results(made)
    assert_same(scored[:1], rewards[:1])
    names = [name for name, _ in plain.backbone.denoiser.named_parameters()]
    of_weights = dict(zip(names, plain.updater.gradients[0], strict=True))
    for name, gradient in zip(factors, made.updater.gradients[0], strict=True):
        path, _, factor = name.rpartition(".")  # of parametrizations: linear1.parametrizations.weight.0
        if factor == "lora_A":
            assert not gradient.any()
            continue
        of_weight = of_weights[path.removesuffix(".0").replace(".parametrizations", "")]
        assert of_weight.any()
        assert_same([gradient], [of_weight @ factors[f"{path}.lora_A"].T])


@pytest.mark.parametrize("method", ["draft", "easytune", "easytune:mode=chain-released"])
def test_the_levers_leave_its_gradient_as_it_is(method):
    rewards, gradients = results(ragged(method, f"{PLAIN}+lora={RANK}"))
    scored, found = results(ragged(method, f"lean+score=2+lora={RANK}"))
    assert_same(scored, rewards)
    assert_same(found, gradients)


@pytest.mark.parametrize("spec", ["paper", "lean+score=2+attention=explicit"])
def test_simulated_equals_a_real_cpu_run_to_the_byte(spec):
    case = tiny("draft", profile=f"{spec}+lora={RANK}")
    assert bytes_of(tracked.read(case, "meta", with_data=False)) == bytes_of(tracked.read(case, "cpu"))


def test_only_the_factors_have_gradients_and_optimiser_state():
    plain, small = (simulated.measure(tiny("draft", profile=spec)) for spec in ("frozen", f"frozen+lora={RANK}"))
    factors = 2 * 3 * len(BLOCKS) * 512  # each small enough for one block of the allocator
    assert small.parameters == plain.parameters + factors
    assert small.optimiser_state == 2 * factors < plain.optimiser_state
    assert small.resident < plain.resident


def test_merged_it_has_its_old_names_and_the_same_output():
    base, learned, inputs = adapted()
    expected, copied = learned(*inputs), copy.deepcopy(learned)
    lora.merge(learned)
    assert torch.equal(copied(*inputs), expected), "a copy goes on learning"
    torch.testing.assert_close(learned(*inputs), expected, rtol=0, atol=1e-6)
    assert learned.state_dict().keys() == base.state_dict().keys()


def test_the_adapter_has_pefts_names_and_its_formula_gives_the_merged_weights(tmp_path):
    base, learned, _ = adapted()
    paths = lora.save(learned, tmp_path)
    assert sorted(path.name for path in paths) == ["adapter_config.json", "adapter_model.safetensors"]
    assert {name: tuple(tensor.shape) for name, tensor in load_file(paths[1]).items()} == PEFT
    assert json.loads(paths[0].read_text()) == {
        "peft_type": "LORA",
        "r": RANK,
        "lora_alpha": RANK,
        "target_modules": ["linear1", "linear2", "self_attn"],
    }
    summed = with_adapter(base, tmp_path)
    lora.merge(learned)
    for name, weight in learned.state_dict().items():
        torch.testing.assert_close(summed[name], weight, rtol=0, atol=1e-6)


def test_a_network_without_such_layers_is_refused():
    network = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(InputError, match=r"Sequential has no layer .*self_attn.*without lora"):
        lora.adapt(network, RANK)
    assert network[0].weight.requires_grad


class TestFinetune:
    def run(self, trajectories: int, folder=None, **options) -> Run:
        made = build(tiny("easytune", profile="frozen+train_mode=false"), "cpu")
        config = FinetuneConfig("easytune", lr=0.01, batch=3, trajectories=trajectories, lora=RANK, **options)
        return finetune(
            config,
            made.backbone,
            made.reward,
            made.sampler,
            lambda size, generator: replace(made.batch, text=torch.randn(made.batch.text.shape, generator=generator)),
            folder=folder,
            checkpoint_seconds=0,
        )

    @pytest.mark.parametrize("ema", [0.0, 0.5])
    def test_its_folder_is_an_adapter_of_the_weights_it_began_with(self, tmp_path, ema):
        base = build(tiny("easytune", profile="frozen+train_mode=false"), "cpu").backbone.denoiser
        run = self.run(2, ema=ema)
        written = run.save(tmp_path)
        assert set(lora.FILES) < {path.name for path in written}
        saved, summed = checkpoint.read(tmp_path / "denoiser.safetensors"), with_adapter(base, tmp_path)
        assert saved.keys() == summed.keys() == base.state_dict().keys()
        for name, weight in saved.items():
            torch.testing.assert_close(summed[name], weight, rtol=0, atol=1e-6)
            assert torch.equal(run.result().state_dict()[name], weight)
        assert any(not torch.equal(saved[name], weight) for name, weight in base.state_dict().items())

    def test_it_goes_on_to_the_same_bytes(self, tmp_path):
        self.run(1, tmp_path)
        gone_on, whole = self.run(3, tmp_path), self.run(3)
        for name, weight in whole.result().state_dict().items():
            assert torch.equal(gone_on.result().state_dict()[name], weight)

    def test_a_rank_below_0_is_refused(self):
        with pytest.raises(InputError, match=r"lora must be a rank, or 0 \(off\), not -1"):
            FinetuneConfig(lora=-1)
