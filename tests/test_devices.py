"""Devices: what is said on a command line, and that all of a run is where it says. The GPU is a pretended one (see
pretended_cuda.py), which refuses what a real one refuses; the last tests need a real one."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from alignment_worlds import untrained_world
from msgspec import structs
from pretended_cuda import BYTES, CUDA, NAME, pretended
from test_alignment_benchmark import row
from test_finetune import start, untimed, weights

from bench import devices, records, tables
from bench.alignment import budget, finetune, pretrain, rewards
from bench.alignment.benchmark import SIZES, AlignmentCase
from bench.alignment.benchmark.jobs import MEASURED, Base, CountCost, Real, Shown, Train
from bench.alignment.prompts import training_prompts
from bench.alignment.rewards import RewardConfig
from bench.alignment.rewards import __main__ as rewards_command
from bench.alignment.studies import StudyCase, base_model
from bench.claims import compare
from bench.lane import Desk
from bench.meters.cuda import AllocatorPeaks
from bench.records.make import to_json
from bench.world import World, check, data, training
from bench.world.content import Embedded
from bench.world.model import WorldReward
from methods import checkpoint
from methods.errors import InputError
from methods.finetune import CHECKPOINT, FinetuneConfig, FinetuneError, Run
from methods.finetune import finetune as run_finetune

BEFORE = Path(__file__).parent / "before_devices"
without_cuda = pytest.mark.skipif(torch.version.cuda is not None, reason="needs a build of torch without CUDA")
needs_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
CONFIG = FinetuneConfig(lr=1e-3, batch=2, trajectories=2, train_mode=True, ema=0.9, pull=1.0, seed=3)
METHODS = ("easytune:score=noisy", "draft-lv", "easytune:mode=chain-released")


@pytest.fixture
def gpu():
    with pretended() as place:
        yield place


def tune(device: torch.device, config: FinetuneConfig = CONFIG, folder: Path | None = None, **options) -> Run:
    """A run of three denoising steps on a world with random weights."""
    world = untrained_world().to(device)
    sampler, draw = world.sampler(3), training_prompts(world, 8)
    return run_finetune(config, world.backbone, world.reward, sampler, draw, folder=folder, **options)


def flat(run: Run) -> torch.Tensor:
    return torch.cat([weight.detach().cpu().flatten() for weight in run.result().parameters()])


class TestCommandLine:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("cuda", r"--device cuda needs a GPU, and this machine has none"),
            ("mps", r"--device mps: nothing here was ever run on that: choose cpu or cuda"),
            ("gpu", r"--device 'gpu' is no device: choose cpu or cuda"),
        ],
    )
    def test_what_is_not_there_is_one_sentence_with_the_mend(self, text, words, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        with pytest.raises(InputError, match=words):
            devices.parse(text)

    def test_a_number_that_is_not_there(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        assert [str(devices.parse(text)) for text in ("cpu", "cuda", "cuda:1")] == ["cpu", "cuda:0", "cuda:1"]
        with pytest.raises(InputError, match=r"--device cuda:2: .* choose cuda:0 to cuda:1"):
            devices.parse("cuda:2")

    @pytest.mark.parametrize(
        ("command", "arguments"),
        [
            (finetune.main, ["--out", "OUT"]),
            (pretrain.main, ["--work", "OUT", "--out", "OUT/world"]),
            (rewards_command.main, ["--work", "OUT", "--out", "OUT/reward"]),
        ],
        ids=["finetune", "pretrain", "rewards"],
    )
    def test_every_command_refuses_it(self, command, arguments, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        given = [argument.replace("OUT", str(tmp_path)) for argument in arguments]
        assert command([*given, "--device", "cuda"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "--device cuda needs a GPU" in line


class TestOnTheCpuNothingChanged:
    def test_a_checkpoint_from_before_there_were_devices_goes_on_to_the_same_figures(self, tmp_path):
        """Checkpoint and figures were written by the revision before devices; figures are float64's."""
        shutil.copy(BEFORE / "refl.pt", tmp_path / CHECKPOINT)
        before = json.loads((BEFORE / "refl.json").read_text())
        config = FinetuneConfig("refl:m=3", lr=0.01, warm_up=3, batch=2, trajectories=4, ema=0.7, seed=3)
        for run in (start(config), start(config, tmp_path)):
            assert weights(run) == pytest.approx(before["weights"], rel=1e-9)
            for point, known in zip(untimed(run)["trajectories"], before["trajectories"], strict=True):
                assert point == pytest.approx(known, rel=1e-9)

    def test_ids_and_keys_name_no_device_but_a_gpu(self):
        assert devices.decides("cpu") == []
        assert AlignmentCase("draft", "full").id == "draft-embedded-T20-B16-full"
        assert AlignmentCase("draft", "full", device="cuda").id == "draft-embedded-T20-B16-full-cuda"
        assert [StudyCase("chain", device=device).id for device in ("cpu", "cuda")] == ["chain", "chain-cuda"]


def test_rows_of_a_gpu_name_it_and_stand_apart(tmp_path):
    """In the table of the command, and wherever likes are compared; a CPU's are as before, to the byte."""
    on_cpu = row("easytune")
    case = structs.replace(on_cpu.case, device="cuda", id=f"{on_cpu.case.id}-cuda")
    where = structs.replace(on_cpu.environment, device="NVIDIA H100", cuda="13.0")
    on_gpu = structs.replace(on_cpu, case=case, environment=where)
    assert "device" not in to_json(on_cpu)["case"]
    assert records.decode(to_json(on_gpu)) == on_gpu
    assert (on_cpu.case.meter, on_gpu.case.meter) == ("host", "cuda")
    assert compare.like_sets([on_cpu, on_gpu]) == [[on_gpu], [on_cpu]]
    assert [compare.place(record) for record in (on_cpu, on_gpu)] == ["CPU", "NVIDIA H100"]
    (title, _), (title_of_gpu, _) = (tables.for_terminal([record])[0] for record in (on_cpu, on_gpu))
    assert title == "alignment, embedded motion (test prompts, 95% intervals over seeds by Student's t)"
    assert "(on NVIDIA H100, test prompts" in title_of_gpu
    assert len(records.merge([[on_cpu], [on_gpu]])) == 2


@without_cuda
class TestEverythingIsOnTheDevice:
    def test_the_pretended_gpu_refuses_what_a_real_one_refuses(self, gpu):
        """Else nothing here could fail."""
        there = torch.ones(2, device="cuda")
        for mixed in (
            lambda: there + torch.ones(2),
            lambda: torch.ones(2)[there.long()],
            lambda: torch.stack([there, torch.ones(2)]),
            lambda: torch.nn.Linear(2, 2)(there),
            lambda: torch.randn(2, generator=torch.Generator(), device="cuda"),
            there.numpy,
        ):
            with pytest.raises((RuntimeError, TypeError)):
                mixed()
        assert (there * torch.tensor(2.0)).device == CUDA == torch.zeros_like(there).device

    def test_a_tensor_that_a_reward_leaves_on_the_cpu_is_found(self, gpu, monkeypatch):
        call = WorldReward.forward
        monkeypatch.setattr(WorldReward, "forward", lambda *given: call(*given) + torch.zeros(len(given[2])))
        with pytest.raises(RuntimeError, match="same device"):
            tune(CUDA)

    @pytest.mark.parametrize("method", METHODS)
    def test_a_run_is_the_cpus_and_goes_on_to_the_same_bytes(self, method, tmp_path):
        """Equal to rounding, since all draws are the device's: a draw from the CPU's generators would be another."""
        config = replace(CONFIG, method=method)
        on_cpu = flat(tune(devices.CPU, config))
        began = untrained_world().backbone.denoiser.parameters()
        moved = (on_cpu - torch.cat([weight.detach().flatten() for weight in began])).abs().max()
        with pretended():
            state = torch.get_rng_state()
            whole = tune(CUDA, config)
            assert {weight.device for weight in whole.denoiser.parameters()} == {CUDA}
            tune(CUDA, replace(config, trajectories=1), tmp_path)
            resumed = tune(CUDA, config, tmp_path)
            assert torch.equal(flat(resumed), flat(whole))
            assert torch.equal(torch.get_rng_state(), state)
            assert (flat(whole) - on_cpu).abs().max() < 0.01 * moved

    def test_a_run_of_another_device_is_not_continued(self, tmp_path):
        tune(devices.CPU, replace(CONFIG, trajectories=1), tmp_path)
        with pretended(), pytest.raises(FinetuneError, match=r"another run \(device was cpu, not cuda\)"):
            tune(CUDA, CONFIG, tmp_path)

    def test_the_device_and_its_own_peak_are_in_the_results(self, tmp_path, capsys):
        untrained_world().save(tmp_path / "world")
        chosen = ["--world", str(tmp_path / "world"), "--prompts", "32", "--steps", "2", "--batch", "2"]
        chosen += ["--trajectories", "1", "--method", "refl:m=1", "--out", str(tmp_path / "run")]
        with pretended():
            assert finetune.main([*chosen, "--device", "cuda:0", "--memory", "auto"]) == 0
        told = json.loads((tmp_path / "run" / "curve.json").read_text())
        assert told["device"] == NAME
        assert told["memory"] == {"peak": 6 * 2**20, "reserved": 7 * 2**20}  # 1 MiB was there before
        assert f"memory of the largest update on {NAME}: 6.00 MiB, 7.00 MiB reserved" in capsys.readouterr().out

    def test_the_benchmarks_jobs_give_what_they_give_on_the_cpu(self, tmp_path):
        untrained_world().save(tmp_path / "world")
        size = replace(SIZES["tiny"], steps=2, trajectories=1, measured=(), prompts=8)
        known = (tmp_path / "world", size)
        jobs = [(Base, (0,)), (Real, ()), (Shown, ()), (Train, ("refl:m=1", 1e-3, 0))]

        def done(device: str) -> list:
            desk = Desk(tmp_path / device, lambda _: None, lambda _: None)
            return [kind(*known, *rest, device=device).run(desk) for kind, rest in jobs]

        base, real, shown, trained = done("cpu")
        with pretended():
            there = done("cuda")
            memory = CountCost(*known, "refl:m=1", device="cuda").run(None).memory
        assert there[:3] == [base, real, shown]  # computed by the same kernels, so to the bit
        assert there[3].final == pytest.approx(trained.final, rel=1e-2, abs=1e-3)  # the optimiser's are others
        assert memory.what == MEASURED.format(device=NAME)
        assert memory.peak == 6 * 2**20

    @pytest.mark.parametrize("study", [base_model.chain, base_model.similarity, base_model.noise])
    def test_studies_give_what_they_give_on_the_cpu(self, study):
        few = {"prompts": 2} if study is not base_model.similarity else {}
        few |= {"motions": 32} if study is not base_model.chain else {}
        on_cpu = study(untrained_world(), steps=2, **few)
        with pretended():
            found = study(untrained_world().to(CUDA), steps=2, **few)
        for name in on_cpu.__struct_fields__:
            assert getattr(found, name) == pytest.approx(getattr(on_cpu, name), rel=1e-3, abs=1e-5), name

    def test_the_checks_of_a_world_give_what_they_give_on_the_cpu(self):
        def checked(world: World) -> tuple:
            motion, latent = check.generate(world, world.prompts("val", 4), steps=2)
            real, prompts = world.real("val", 32, 0)
            with torch.no_grad():
                reference = world.embed_motions(real, prompts.lengths)
            figures = check.figures(world, real, prompts, reference)
            return check.errors(world, "val", 4), float(motion.norm()), float(latent.norm()), figures

        on_cpu = checked(untrained_world())
        with pretended():
            assert checked(untrained_world().to(CUDA)) == on_cpu


CLIPS = 420


@pytest.fixture(scope="module")
def clips() -> data.WorldData:
    return data.generate(Embedded(CLIPS))


@without_cuda
class TestTraining:
    """Its draws are partly the CPU's, so it is not the CPU's to the bit; it is the same after a kill."""

    @pytest.fixture(autouse=True)
    def often(self, monkeypatch):
        monkeypatch.setattr(training, "CHECKPOINT_STEPS", 2)

    def killed(self, monkeypatch, make) -> None:
        """Runs `make` until it has written its first checkpoint."""
        write = training.write

        def dies(*arguments):
            write(*arguments)
            raise KeyboardInterrupt

        monkeypatch.setattr(training, "write", dies)
        with pytest.raises(KeyboardInterrupt):
            make()
        monkeypatch.setattr(training, "write", write)

    def test_a_world(self, clips, tmp_path, monkeypatch):
        from test_world import TINY, TINY_PLAN

        monkeypatch.setattr(data, "cached", lambda *_: clips)

        def make(folder: str) -> World:
            (tmp_path / folder).mkdir(exist_ok=True)
            return pretrain.pretrain(tmp_path / folder, TINY_PLAN, Embedded(CLIPS), 0, print, TINY, CUDA)

        with pretended():
            whole = make("whole")
            self.killed(monkeypatch, lambda: make("killed"))
            again = make("killed")
        assert whole.about["device"] == NAME
        assert checkpoint.digest(again.backbone.state_dict()) == checkpoint.digest(whole.backbone.state_dict())

    @pytest.mark.slow
    @pytest.mark.parametrize("noised", ["states", "features"])
    def test_a_reward(self, noised, clips, tmp_path, monkeypatch):
        config = RewardConfig(steps=4, refine=4, batch=8, top=2, noise=0.5, noised=noised, spl=True, pool=12)

        def world() -> World:
            made = untrained_world().to(CUDA)
            made.clips = {split: clips.indices(split) for split in made.clips}
            return made

        def make(folder: str) -> rewards.TrainedReward:
            return rewards.train(config, world(), tmp_path / folder, print, clips)

        with pretended():
            whole = make("whole")
            self.killed(monkeypatch, lambda: make("killed"))
            again = make("killed")
            assert checkpoint.digest(again.state_dict()) == checkpoint.digest(whole.state_dict())
            assert again.metrics == whole.metrics
            rewards.save(whole, tmp_path / "reward")
            assert rewards.load(tmp_path / "reward", world()).final_layer.weight.device == CUDA


class TestOutOfMemory:
    """One sentence with the planner's advice, exit 2, and the checkpoint stays."""

    def command(self, folder: Path, *more: str) -> list[str]:
        if not (folder / "world").is_file():
            untrained_world().save(folder / "world")
        chosen = ["--world", str(folder / "world"), "--out", str(folder / "run"), "--method", "draft"]
        return [*chosen, "--steps", "3", "--batch", "6", "--prompts", "32", "--measure-every", "99", *more]

    @pytest.mark.parametrize("room", ["of half an update", "of none", "enough"])
    def test_the_advice(self, room, tmp_path, monkeypatch, capsys):
        assert finetune.main(self.command(tmp_path, "--trajectories", "1")) == 0
        kept = (tmp_path / "run" / CHECKPOINT).read_bytes()

        call = WorldReward.forward

        def fails(self, motion, *rest):
            if motion.device.type != "meta":  # but not where it is simulated
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore lines.")
            return call(self, motion, *rest)

        world = untrained_world()

        def peak(prompts: int) -> int:
            plan = budget.largest_plan("draft", 3)
            inputs = (world.backbone, world.reward, world.sampler(3), budget.longest(world, prompts))
            return budget.count(CONFIG.savings, plan, FinetuneConfig("draft"), *inputs).peak

        has = {"of half an update": peak(3), "of none": 2**20, "enough": peak(6)}[room]
        monkeypatch.setattr(WorldReward, "forward", fails)
        monkeypatch.setattr(devices, "memory", lambda _: has)
        capsys.readouterr()
        assert finetune.main(self.command(tmp_path, "--trajectories", "2")) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("bench.alignment.finetune: out of memory at batch 6: by simulation an update takes ")
        expected = {
            "of half an update": "begin again with --batch 3 or --memory auto;",
            "of none": "not even batch 1 fits there;",
            "enough": "other processes hold the rest, so end these, or lower --batch;",
        }
        assert expected[room] in line
        assert line.endswith(f"the checkpoint in {tmp_path / 'run'} stays")
        assert (tmp_path / "run" / CHECKPOINT).read_bytes() == kept

    def test_another_error_is_not_taken_for_it(self, tmp_path, monkeypatch):
        def fails(*_, **__):
            raise RuntimeError("shapes do not match")

        monkeypatch.setattr(WorldReward, "forward", fails)
        with pytest.raises(RuntimeError, match="shapes"):
            finetune.main(self.command(tmp_path, "--trajectories", "1"))

    @without_cuda
    def test_room_on_a_gpu_is_what_the_planner_leaves_of_it(self, gpu):
        assert 0.9 * BYTES > budget.room(CUDA) > 0.88 * BYTES


@needs_a_gpu
class TestOnARealGpu:
    DEVICE = torch.device("cuda", 0)

    @pytest.mark.parametrize("method", METHODS)
    def test_a_run_goes_on_as_without_a_kill(self, method, tmp_path):
        """To the same bytes where kernels add in one order, which torch promises for none of those that it chooses
        freely: to rounding."""
        config = replace(CONFIG, method=method)
        whole = tune(self.DEVICE, config)
        tune(self.DEVICE, replace(config, trajectories=1), tmp_path)
        resumed = tune(self.DEVICE, config, tmp_path)
        assert torch.allclose(flat(resumed), flat(whole), atol=1e-6)

    def test_the_largest_update_of_a_run_takes_what_is_simulated(self):
        allocated = budget.Allocated(self.DEVICE)
        tune(self.DEVICE, replace(CONFIG, method="draft", batch=16), phases=allocated.observe)
        world = untrained_world()
        plan = budget.largest_plan("draft", 3)
        inputs = (world.backbone, world.reward, world.sampler(3), budget.longest(world, 16))
        simulated = budget.count(CONFIG.savings, plan, replace(CONFIG, method="draft"), *inputs).peak
        # The evaluator's weights are there as well, and the motions of a run may be shorter.
        assert max(allocated.phase_peaks.values()) < 1.2 * simulated

    def test_a_measured_update_is_the_simulated_one_within_five_percent(self):
        world = untrained_world().to(self.DEVICE)
        plan = budget.largest_plan("draft", 3)
        inputs = (world.backbone, world.reward, world.sampler(3), budget.longest(world, 16))
        measured, simulated = (
            budget.count(CONFIG.savings, plan, CONFIG, *inputs, device) for device in (self.DEVICE, budget.META)
        )
        assert simulated.peak == pytest.approx(measured.peak, rel=0.05)
        assert AllocatorPeaks(self.DEVICE).collect() > 0
