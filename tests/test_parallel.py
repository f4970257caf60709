"""Several ranks compute what one does: gradients, weights and curves of every method, through the loss of a rank."""

import functools
import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import ranks
import torch
from alignment_worlds import untrained_world
from torch import nn

from bench.cases import Case
from bench.memory import measure
from bench.meters.reading import Reading
from bench.meters.tracker import Tracker
from bench.setup import WithoutOthers, others
from methods import BACKBONES, sharding
from methods.errors import InputError
from methods.parallel import SHARDINGS, RankError, Ranks, Share, of_rank


def torchrun(count: int, *program: object) -> subprocess.CompletedProcess:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    return subprocess.run([*launcher, *map(str, program)], capture_output=True, text=True, timeout=240, check=False)


@functools.cache
def alone(name: str) -> dict:
    return ranks.ended(ranks.run(**ranks.RUNS[name]))


@pytest.mark.slow
@pytest.mark.parametrize(("count", "sharding"), [(2, "none"), (4, "none"), (2, "fsdp2"), (3, "fsdp2")])
def test_ranks_end_where_one_does(count, sharding, tmp_path):
    """Random plans, an SDE, shares of unequal size; to rounding, in float64."""
    done = torchrun(count, ranks.__file__, tmp_path, sharding)
    assert done.returncode == 0, done.stdout + done.stderr
    made = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(count)]
    for name in ranks.RUNS:
        expected = alone(name)
        for rank in range(count):
            found = made[rank][name]
            assert torch.equal(found["weights"], made[0][name]["weights"]), name  # never apart
            if rank:
                assert not len(found.pop("measured")), name  # by the first alone
            for what, value in found.items():
                torch.testing.assert_close(value, expected[what], rtol=1e-10, atol=1e-12, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("sharding", SHARDINGS)
def test_a_rank_that_dies_ends_the_run_and_others_go_on_from_the_checkpoint(sharding, tmp_path):
    done = torchrun(2, ranks.__file__, tmp_path / "run", sharding, "--die")
    assert done.returncode != 0
    assert "lost another one" in done.stdout + done.stderr
    went_on = ranks.run(folder=tmp_path / "run", method="draft", trajectories=6)  # on one rank
    whole = ranks.ended(ranks.run(method="draft", trajectories=6))
    torch.testing.assert_close(ranks.ended(went_on)["weights"], whole["weights"], rtol=1e-10, atol=1e-12)
    assert went_on.curve.trajectories[0]["trajectories"] == 1


@pytest.mark.slow
def test_ranks_that_were_given_otherwise_are_refused_by_name(tmp_path):
    done = torchrun(2, ranks.__file__, tmp_path, "--disagree")
    assert done.returncode != 0
    assert re.search(r"rank 1 was started with another seed than rank 0 \(1, not 0\)", done.stdout)


@pytest.mark.parametrize(("batch", "size"), [(8, 2), (5, 2), (7, 3), (4, 4)])
def test_shares_make_up_the_batch_and_differ_by_one_at_most(batch, size):
    shares = [Share(Ranks(rank, size), batch) for rank in range(size)]
    rows = [row for share in shares for row in range(batch)[share.rows]]
    assert rows == [*range(batch)]
    lengths = [share.rows.stop - share.rows.start for share in shares]
    assert max(lengths) - min(lengths) <= 1
    assert sum(share.scale for share in shares) == pytest.approx(size)  # their mean is 1


def test_noise_of_shares_is_that_of_the_whole_batch():
    like = torch.empty(2, 3)
    whole = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    drawn = [Share(Ranks(rank, 2), 5).randn(like, torch.Generator().manual_seed(0)) for rank in range(2)]
    assert torch.equal(torch.cat(drawn), whole)


def test_more_ranks_than_prompts_are_refused():
    with pytest.raises(RankError, match="3 ranks cannot share a batch of 2"):
        Ranks(0, 3).share(2)
    assert Ranks().share(2) is None


def live(case: Case) -> Reading:
    record = measure(case)
    assert record.ok, record.reason
    return record.reading


def exchanged() -> int:
    """Bytes that Gloo's thread may still hold while the optimiser works: it lets go when it may."""
    return 4 * (sum(weight.numel() for weight in BACKBONES["mld-tiny"].build().denoiser.parameters()) + 1)


@pytest.mark.slow
def test_a_simulated_rank_needs_what_a_real_one_does_to_the_byte(tmp_path):
    done = torchrun(2, ranks.__file__, tmp_path, "--bytes")
    assert done.returncode == 0, done.stdout + done.stderr
    simulated = live(replace(ranks.ALIKE, ranks=2))
    for rank in range(2):
        real = json.loads((tmp_path / f"rank{rank}.json").read_text())
        assert (real["peak"], real["resident"]) == (simulated.peak, simulated.resident)
        late = real["phases"].pop("optimiser") - simulated.phases["optimiser"]
        assert real["phases"] == {name: size for name, size in simulated.phases.items() if name != "optimiser"}
        assert late in range(0, exchanged() + 512, 512)


@pytest.mark.slow
def test_a_simulated_rank_of_a_sharded_denoiser_needs_what_a_real_one_does_within_a_percent(tmp_path):
    done = torchrun(2, ranks.__file__, tmp_path, "fsdp2", "--bytes")
    assert done.returncode == 0, done.stdout + done.stderr
    simulated = live(replace(ranks.ALIKE, ranks=2, sharding="fsdp2"))
    expected = {"peak": simulated.peak, "resident": simulated.resident, **simulated.phases}
    at_optimiser = expected.pop("optimiser")
    for rank in range(2):
        real = json.loads((tmp_path / f"rank{rank}.json").read_text())
        phases = real.pop("phases")
        optimiser = phases.pop("optimiser")
        assert 0.99 * at_optimiser < optimiser < 1.01 * at_optimiser + exchanged()
        assert {**real, **phases} == pytest.approx(expected, rel=0.01)
    whole = live(replace(ranks.ALIKE, ranks=2))
    # Half of each of two moments, but for vectors that fill no more than the allocator's least block.
    assert 0.5 <= simulated.optimiser_state / whole.optimiser_state < 0.65
    assert simulated.categories["gradients"] == whole.categories["gradients"]  # at the peak no pass has ended


def test_exchanging_gradients_takes_one_tensor_of_them_all_and_keeps_none():
    tracker = Tracker(device="meta")
    with tracker:
        weights = [torch.empty(1000, device="meta") for _ in range(3)]
        for weight in weights:
            weight.grad = torch.empty_like(weight)
        rewards = [torch.empty(2, device="meta")]
        tracker.restart()
        before, flat, number = tracker.live, 24 * 512, 512  # 3,001 numbers of 4 bytes
        total = WithoutOthers(Ranks(0, 2), 4).exchange(weights, rewards)
        assert flat < tracker.peak - before <= flat + 2 * number
        assert tracker.live == before + number
    assert total.shape == (1,)


def test_ranks_add_one_tensor_of_all_gradients():
    one, two = (live(replace(ranks.ALIKE, ranks=count, method="easytune")) for count in (1, 2))
    weights = sum(w.numel() for w in BACKBONES["mld-tiny"].build().denoiser.parameters())
    flat = 4 * (weights + 1)  # the mean reward rides along
    assert two.resident == one.resident
    assert two.phases["optimiser"] - one.phases["optimiser"] >= flat - 4 * weights
    assert two.phases["rollout"] == one.phases["rollout"]
    assert replace(ranks.ALIKE, ranks=2).id.endswith("2ranks-simulated")
    assert "rank" not in ranks.ALIKE.id


def test_sharding_is_part_of_a_case_where_there_are_ranks_to_share_it():
    assert replace(ranks.ALIKE, ranks=2, sharding="fsdp2").id.endswith("2ranks-fsdp2-simulated")
    assert replace(ranks.ALIKE, sharding="fsdp2") == ranks.ALIKE
    with pytest.raises(InputError, match="unknown sharding 'zero': choose one of none, fsdp2"):
        replace(ranks.ALIKE, ranks=2, sharding="zero")


def test_a_rank_without_a_gpu_of_its_own_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    cpu, gpu = torch.device("cpu"), torch.device("cuda:0")
    assert of_rank(gpu) == gpu
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert (of_rank(cpu), of_rank(gpu)) == (cpu, torch.device("cuda:1"))
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(RankError, match="rank 2 of this machine has no GPU, it has 2: start as many ranks"):
        of_rank(gpu)


@pytest.mark.slow
def test_ranks_on_gpus_where_there_are_none_end_with_a_sentence(tmp_path):
    done = torchrun(2, "-m", "bench.alignment.finetune", "--out", tmp_path / "run", "--device", "cuda")
    assert done.returncode != 0
    assert "--device cuda needs a GPU, and this machine has none" in done.stdout + done.stderr


def test_a_network_that_fsdp2_does_not_take_is_refused_by_name():
    class Scalar(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))

    with others(replace(ranks.ALIKE, ranks=2, sharding="fsdp2")):
        mesh = sharding.mesh_of(torch.device("cpu"), 2)
        with pytest.raises(InputError, match=r"FSDP2 does not take Scalar: .*scalar"):
            sharding.shard(Scalar(), mesh)


@pytest.mark.slow
@pytest.mark.parametrize("sharding", SHARDINGS)
def test_the_command_runs_under_torchrun_and_the_first_rank_alone_speaks_and_writes(sharding, tmp_path):
    untrained_world().save(tmp_path / "world.safetensors")
    asked = ["--world", tmp_path / "world.safetensors", "--out", tmp_path / "run", "--method", "draft", "--steps", "4"]
    sizes = ["--batch", "3", "--trajectories", "2", "--prompts", "32", "--sharding", sharding]
    done = torchrun(2, "-m", "bench.alignment.finetune", *asked, *sizes)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("wrote") == 1
    assert done.stdout.count("trajectory 2 of 2") == 1
    curve = json.loads((tmp_path / "run" / "curve.json").read_text())
    assert [point["samples"] for point in curve["trajectories"]] == [3, 6]
