"""Fine-tuning at the published size, on a CPU: random weights, since what they are changes neither time nor memory."""

import psutil
import pytest
import torch

from bench.alignment import budget
from bench.meters.host import ResidentSet
from methods import Batch, Savings, ddim
from methods.entries import example_batch
from methods.finetune import FinetuneConfig, finetune
from methods.registry import pair

pytestmark = pytest.mark.slow


def test_mld_is_fine_tuned_on_a_cpu_in_the_memory_that_is_simulated(capsys):
    """EasyTune through the published 50 steps at batch 4, three trajectories; prints what it took."""
    of_backbone, of_reward = pair("mld", "")
    torch.manual_seed(0)
    backbone, reward = of_backbone.build(), of_reward.build()
    for network in (backbone.vae, reward):
        network.eval().requires_grad_(False)
    began = torch.cat([weight.detach().flatten() for weight in backbone.denoiser.parameters()])

    def draw(prompts: int, generator: torch.Generator) -> Batch:
        return example_batch(of_backbone, of_reward, prompts, 196, generator.device, generator)

    config = FinetuneConfig("easytune", batch=4, trajectories=3, train_mode=True)
    plan = budget.largest_plan(config.method, 50)
    inputs = (backbone, reward, ddim(50), draw(config.batch, torch.Generator()))
    simulated = budget.count(Savings(), plan, config, *inputs).peak
    before = psutil.Process().memory_info().rss
    with ResidentSet() as resident:
        run = finetune(config, *inputs[:3], draw)
    weights = 4 * sum(len(torch.flatten(w)) for network in (backbone, reward) for w in network.parameters())
    took, points = resident.peak - before + weights, run.curve.trajectories
    with capsys.disabled():
        print(f"\n{points[-1]['seconds']:.0f} s, {points[-1]['cpu_seconds']:.0f} CPU seconds; {took / 2**20:.0f} MiB, ")
        print(f"simulated {simulated / 2**20:.0f} MiB; rewards {[round(p['reward'], 4) for p in points]}")
    assert [point["updates"] for point in points] == [50, 100, 150]
    ended = torch.cat([weight.detach().flatten() for weight in run.result().parameters()])
    assert 0 < (ended - began).abs().max() < 2 * 150 * config.lr
    assert took < 1.5 * simulated  # the CPU's allocator and its kernels' own memory are in the process's
