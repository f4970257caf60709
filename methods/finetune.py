"""Fine-tuning runs: one method, one backbone, one reward, from trajectory 0 to the last, through any number of kills.

It works on anything that speaks methods.interface; `python -m bench.alignment.finetune` runs it on a world.
"""

import copy
import json
import math
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from methods import (
    Backbone,
    Batch,
    Plan,
    Reward,
    RewardError,
    Sampler,
    Updater,
    checkpoint,
    generators,
    lora,
    parse,
    rollout,
    sharding,
)
from methods.errors import InputError
from methods.files import check_writable, locked, write_atomically
from methods.memory import NONE, Savings
from methods.parallel import ALONE, Ranks
from methods.rollout import Phases, unobserved

BETAS = (0.9, 0.999)
CHECKPOINT_SECONDS = 10.0
CHECKPOINT = "checkpoint.pt"
RESULTS = ("denoiser.safetensors", "mld.safetensors", "curve.json")


class FinetuneError(InputError):
    """A run cannot start, or cannot go on; the message is one sentence that says why and what to do."""


@dataclass(frozen=True)
class FinetuneConfig:
    """Everything that decides the result of a run, beside what it is given."""

    method: str = "easytune"
    """Spec of the method, see methods.registry; its plan is drawn anew for each trajectory."""
    lr: float = 1e-5
    """Of AdamW, as published; betas .9 and .999, no weight decay."""
    warm_up: int = 0
    """Optimiser steps over which the learning rate rises linearly to `lr`."""
    clip: float = 1.0
    """Largest gradient norm, as released; inf for none."""
    batch: int = 16
    """Prompts a trajectory."""
    trajectories: int = 100
    """How many are run. A finished run is continued by the same config with more of them."""
    ema: float = 0.0
    """Decay, per optimiser step, of an average of the weights, which is then the result; 0 for none."""
    lora: int = 0
    """Rank of the updates that learn in place of the denoiser's own weights (methods.lora); 0: the weights learn."""
    pull: float = 0.0
    """Of every weight back to where the run began, in units of the learning rate: w ← w - lr·pull·(w - w_0) after each
    optimiser step (L2-SP, decoupled as AdamW's weight decay); 0 for none. Adam's steps are about lr long, so no weight
    gets much further than 1 / pull."""
    seed: int = 0
    """Of everything random: prompts, initial noise, plans, the reward's draws, dropout."""
    train_mode: bool = False
    """Denoiser and reward in train mode (dropout) inside a trajectory, as released. Measured is always in eval mode."""
    savings: Savings = NONE
    """The levers of memory that its rollouts pull."""

    def __post_init__(self) -> None:
        parse(self.method)
        for name in ("batch", "trajectories"):
            if getattr(self, name) < 1:
                raise FinetuneError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.warm_up < 0:
            raise FinetuneError(f"warm_up must be 0 optimiser steps or more, not {self.warm_up}")
        if not (self.lr > 0 and math.isfinite(self.lr)):
            raise FinetuneError(f"lr must be a positive number, not {self.lr}")
        if not self.clip > 0:
            raise FinetuneError(f"clip must be positive (inf for no clipping), not {self.clip}")
        if not (self.pull >= 0 and math.isfinite(self.pull)):
            raise FinetuneError(f"pull must be 0 (off) or more, not {self.pull}")
        if self.lr * self.pull > 1:
            raise FinetuneError(f"pull {self.pull:g} at lr {self.lr:g} overshoots the start: at most {1 / self.lr:g}")
        if not 0 <= self.ema < 1:
            raise FinetuneError(f"ema must be at least 0 (off) and below 1, not {self.ema}")
        if self.lora < 0:
            raise FinetuneError(f"lora must be a rank, or 0 (off), not {self.lora}")


TOTALS = ("trajectories", "updates", "samples", "seconds", "cpu_seconds")
"""What every point of a curve holds."""


@dataclass
class Curve:
    """What a run recorded; JSON types only."""

    trajectories: list[dict] = field(default_factory=list)
    """One a trajectory, with the totals since the start: `trajectories`, `updates` (optimiser steps), `samples`
    (prompts), `seconds` and `cpu_seconds` (drawing prompts, rollouts and updates; evaluation excluded); and its own
    `reward` (mean of what was scored inside it: no held-out reward) and `norm` (mean of the gradient norms before
    clipping)."""
    evaluations: list[dict] = field(default_factory=list)
    """The same totals with what the evaluation returned; the first is of the weights before any update."""

    def totals(self) -> dict:
        """Of what was run so far."""
        return {name: self.trajectories[-1][name] if self.trajectories else 0 for name in TOTALS}


Draw = Callable[[int, torch.Generator], Batch]
"""A batch of so many training prompts, drawn from the generator, on the generator's device."""

Measure = Callable[[int], dict]
"""Metrics of the weights that the backbone has, given the number of trajectories that made them: 0 for the base."""


def linear_warm_up(updates: int) -> Callable[[int], float]:
    """Share of the learning rate at each optimiser step, counted from 0; 1 from step `updates` - 1 on."""
    return lambda step: min(1.0, (step + 1) / max(1, updates))


def make_updater(denoiser: nn.Module, config: FinetuneConfig) -> Updater:
    optimizer = torch.optim.AdamW(denoiser.parameters(), lr=config.lr, betas=BETAS, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, linear_warm_up(config.warm_up))
    return Updater(optimizer, config.clip, schedule)


class Average:
    """An exponential moving average of weights, begun at what they are now."""

    def __init__(self, weights: Sequence[Tensor], decay: float):
        self.of = weights
        self.decay = decay
        self.weights = [weight.detach().clone() for weight in weights]

    def update(self) -> None:
        for average, weight in zip(self.weights, self.of, strict=True):
            average.lerp_(weight.detach(), 1 - self.decay)


class Run:
    """A run and all its state, on the device where the denoiser's weights are. Leaves torch's global generators alone:
    it has states of its own, kept in between."""

    def __init__(
        self,
        config: FinetuneConfig,
        backbone: Backbone,
        reward: Reward,
        sampler: Sampler,
        draw: Draw,
        given: Mapping[str, object] | None = None,
        phases: Phases = unobserved,
        ranks: Ranks = ALONE,
    ):
        """given, phases, ranks: as of `finetune`."""
        self.config = config
        self.ranks, self.share = ranks, ranks.share(config.batch)
        self.phases = phases
        self.given = dict(given or {})
        self.backbone, self.reward, self.sampler, self.draw = backbone, reward, sampler, draw
        self.denoiser = backbone.denoiser
        self.device = next(self.denoiser.parameters()).device
        self.method = parse(config.method)
        self.plans = random.Random(config.seed)
        self.method.plan(len(sampler), random.Random(config.seed))  # InputError now if the options do not fit
        self.inputs = torch.Generator(self.device).manual_seed(config.seed)
        """Of prompts and initial noise: runs of one seed see the same ones, whatever the method draws beside."""
        self.noise = torch.Generator(self.device).manual_seed(config.seed + 1)
        self.began_from = {"weights": _digest(backbone.networks()), "reward": _digest(reward.networks())}
        with generators.forked(self.device):
            torch.manual_seed(config.seed)
            if config.lora:
                lora.adapt(self.denoiser, config.lora)
            self.torch_rng = generators.states(self.device)
        self.blank = self.denoiser
        """Of which results are made, by copying weights."""
        if ranks.sharded:
            self.blank = copy.deepcopy(self.denoiser).cpu()
            sharding.shard(self.denoiser, sharding.mesh_of(self.device, ranks.size))
        self.weights = list(self.denoiser.parameters())
        """Those that the optimiser steps; of a sharded denoiser this rank's parts."""
        self.updater = make_updater(self.denoiser, config)
        self.updater.share = self.share
        self.average = Average(self.weights, config.ema) if config.ema else None
        self.start = [weight.detach().clone() for weight in self.weights] if config.pull else []
        self.curve = Curve()

    @property
    def done(self) -> int:
        """Trajectories finished."""
        return len(self.curve.trajectories)

    def trajectory(self) -> dict:
        """Runs one trajectory and returns its record.

        FinetuneError if the reward or its gradient is not finite; the weights are then those of the last good update.
        """
        wall, cpu = time.perf_counter(), time.process_time()
        seen: list[Tensor] = []
        norms: list[Tensor] = []

        def on_update(rewards: list[Tensor], norm: Tensor) -> None:
            seen.extend(rewards)
            norms.append(norm)
            self._pull_back()
            if self.average is not None:
                self.average.update()

        with self._own_rng(), self._modes(self.config.train_mode):
            batch = self.draw(self.config.batch, self.inputs)
            state = self.backbone.initial_state(batch, self.inputs)
            if self.share is not None:
                rows = torch.arange(len(batch))[self.share.rows]  # copies: views would keep the whole batch
                batch, state = batch.rows(rows), state[rows]
            plan = self.method.plan(len(self.sampler), self.plans)
            try:
                self._rollout(plan, batch, state, on_update)
            except RewardError as error:
                at = f"trajectory {self.done + 1} of {self.config.trajectories}"
                raise FinetuneError(f"{at} stopped the run, try a lower lr than {self.config.lr:g}: {error}") from None
        reward = torch.cat(seen).mean()
        if self.share is not None:
            reward = self.share.average(reward * self.share.scale)
        means = {"reward": float(reward), "norm": float(torch.stack(norms).mean())}
        before = self.curve.totals()
        record = {  # only now that there are means has a GPU finished, and may the clocks be read
            "trajectories": before["trajectories"] + 1,
            "updates": before["updates"] + plan.updates,
            "samples": before["samples"] + self.config.batch,
            "seconds": before["seconds"] + time.perf_counter() - wall,
            "cpu_seconds": before["cpu_seconds"] + time.process_time() - cpu,
            **means,
        }
        self.curve.trajectories.append(record)
        return record

    def _pull_back(self) -> None:
        if not self.config.pull:
            return
        share = self.updater.optimizer.param_groups[0]["lr"] * self.config.pull
        with torch.no_grad():
            for weight, start in zip(self.weights, self.start, strict=True):
                weight.lerp_(start, share)

    def _rollout(self, plan: Plan, batch: Batch, state: Tensor, on_update: Callable) -> None:
        rollout(
            plan,
            self.backbone,
            self.sampler,
            self.reward,
            batch,
            state,
            self.updater,
            generator=self.noise,
            phases=self.phases,
            on_update=on_update,
            savings=replace(self.config.savings, halve=True),
        )

    def evaluate(self, measure: Measure) -> dict:
        """Records what `measure` finds, once for each number of trajectories; of the average, where there is one. The
        first rank measures; others record the totals alone, and have a part in the result where it is sharded."""
        known = self.curve.evaluations
        if known and known[-1]["trajectories"] == self.done:
            return known[-1]
        with generators.forked(self.device), self._modes(False), self._result():
            record = self.curve.totals() | (measure(self.done) if self.ranks.first else {})
        known.append(record)
        return record

    @contextmanager
    def _own_rng(self) -> Iterator[None]:
        with generators.forked(self.device):
            if self.ranks.first:
                generators.set_states(self.torch_rng, self.device)
            else:  # the checkpoint has the first one's alone
                of_rank = random.Random(f"{self.config.seed}, rank {self.ranks.rank}, trajectory {self.done}")
                torch.manual_seed(of_rank.getrandbits(63))
            yield
            self.torch_rng = generators.states(self.device)

    @contextmanager
    def _modes(self, train: bool) -> Iterator[None]:
        """Denoiser and reward in train or eval mode; all in eval mode afterwards."""
        networks = [self.denoiser, *self.reward.networks().values()]
        try:
            for network in networks:
                network.train(train)
            yield
        finally:
            for network in networks:
                network.eval()

    @contextmanager
    def _result(self) -> Iterator[None]:
        """The backbone with the weights that are the run's result."""
        self.backbone.denoiser = self.result()
        try:
            yield
        finally:
            self.backbone.denoiser = self.denoiser

    def result(self) -> nn.Module:
        """The denoiser that the run made: the one that learns, or a copy with averaged weights or with LoRA's updates
        merged into its own."""
        made = self._learned()
        if self.config.lora:
            made = copy.deepcopy(made)
            lora.merge(made)
        return made

    def _learned(self) -> nn.Module:
        """The denoiser that learns, or a copy of it: with averaged weights, or where each rank has but its part."""
        if self.average is None and not sharding.is_sharded(self.denoiser):
            return self.denoiser
        return self._copy(self.weights if self.average is None else self.average.weights)

    def _copy(self, weights: Sequence[Tensor]) -> nn.Module:
        made = copy.deepcopy(self.blank).to(self.device)
        with torch.no_grad():
            for target, weight in zip(made.parameters(), weights, strict=True):
                target.copy_(sharding.whole(weight))
        return made

    def gather(self) -> None:
        """At its end a sharded run has whole weights on every rank, as any other has."""
        if not sharding.is_sharded(self.denoiser):
            return
        if self.average is not None:
            self.average.weights = [sharding.whole(weight) for weight in self.average.weights]
        self.blank = self.denoiser = self.backbone.denoiser = self._copy(self.weights)
        self.weights = list(self.denoiser.parameters())

    def save(self, folder: Path, measured: Mapping[str, object] | None = None) -> list[Path]:
        """Writes the result, each file atomically: the denoiser, the whole backbone under the published names
        (`denoiser.*`, `vae.*`), both as safetensors, the config with what was given, what was `measured` beside (JSON
        values by name) and the curve, and where LoRA learned the adapter, as which PEFT reads the folder. Returns the
        paths."""
        denoiser, published, curve = (folder / name for name in RESULTS)
        with self._result():
            checkpoint.save(self.backbone.denoiser, denoiser)
            checkpoint.save(nn.ModuleDict(self.backbone.networks()), published)
        document = {
            "config": asdict(self.config),
            "steps": len(self.sampler),
            "given": self.given,
            **(measured or {}),
            **asdict(self.curve),
        }
        write_atomically(curve, json.dumps(document, indent=1) + "\n")
        adapter = lora.save(self._learned(), folder) if self.config.lora else []
        return [denoiser, published, curve, *adapter]

    def save_checkpoint(self, path: Path) -> None:
        """Everything that a run needs to go on as if nothing had happened, on any number of ranks, atomically: a kill
        leaves the old or the new one. Where it is sharded all ranks call this, and the first one writes."""
        version, words, gauss = self.plans.getstate()
        assert self.updater.schedule is not None  # make_updater gives one
        state = {
            "config": asdict(self.config),
            "steps": len(self.sampler),
            "given": self.given,
            "began_from": self.began_from,
            "denoiser": self.denoiser.state_dict(),
            "average": None if self.average is None else self.average.weights,
            "optimizer": self.updater.optimizer.state_dict(),
            "schedule": self.updater.schedule.state_dict(),
            "plans": [version, list(words), gauss],
            "inputs": self.inputs.get_state(),
            "noise": self.noise.get_state(),
            "torch_rng": self.torch_rng[0],
            "device": self.device.type,
            "device_rng": self.torch_rng[1:],
            "curve": asdict(self.curve),
        }
        state = sharding.gathered(state, keep=self.ranks.first)
        if self.ranks.first:
            checkpoint.save_torch(state, path)

    def load_checkpoint(self, path: Path) -> None:
        """Goes on from a checkpoint. FinetuneError for one that is cut off, damaged, or of another run."""
        try:
            state = checkpoint.read_torch(path)
            assert isinstance(state, dict)
            changed = self._changed(state)
            if not changed:
                self._restore(state)
        except Exception as error:  # a file may hold anything; what was restored of it goes with the run
            raise FinetuneError(
                f"{path} is not a whole checkpoint of a run ({type(error).__name__}): remove it to start again"
            ) from None
        if changed:
            raise FinetuneError(f"{path} is of another run ({'; '.join(changed)}): choose another folder, or remove it")

    def _changed(self, state: dict) -> list[str]:
        """What a checkpoint's run was given otherwise, in words."""
        # A run from before there were some levers, or LoRA, had none; before there were devices, it was on the CPU.
        config = {"lora": 0, **state["config"], "trajectories": self.config.trajectories}
        config["savings"] = asdict(NONE) | config.get("savings", {})
        device = {"device": state.get("device", "cpu")}
        before = {**config, "steps": state["steps"], **device, **state.get("given", {})}
        now = {**asdict(self.config), "steps": len(self.sampler), "device": self.device.type, **self.given}
        changed = [
            f"{name} was {before.get(name, 'not recorded')}, not {now.get(name, 'given')}"
            for name in dict.fromkeys((*now, *before))
            if _identity(before.get(name)) != _identity(now.get(name))
        ]
        began_from = state["began_from"]
        if not isinstance(began_from, dict) or began_from["weights"] != self.began_from["weights"]:
            changed.append("it began from other weights")
        elif began_from["reward"] != self.began_from["reward"]:
            changed.append("its reward had other weights")
        return changed

    def _restore(self, state: dict) -> None:
        """Some error or other for a state that does not fit."""
        now = self.denoiser.state_dict()
        kept = {name: sharding.like(value, now.get(name, value)) for name, value in state["denoiser"].items()}
        self.denoiser.load_state_dict(kept)
        if self.average is not None:
            _check_shapes(state["average"], self.weights)
            self.average.weights = list(map(sharding.like, state["average"], self.weights))
        optimizer = self.updater.optimizer
        optimizer.load_state_dict(state["optimizer"])
        for weight in self.weights:
            moments = optimizer.state.get(weight, {})
            if moments:
                _check_shapes([moments["exp_avg"], moments["exp_avg_sq"]], [weight, weight])
                moments |= {name: sharding.like(moments[name], weight) for name in ("exp_avg", "exp_avg_sq")}
        assert self.updater.schedule is not None  # make_updater gives one
        self.updater.schedule.load_state_dict(state["schedule"])
        version, words, gauss = state["plans"]
        self.plans.setstate((version, tuple(words), gauss))
        self.inputs.set_state(state["inputs"])
        self.noise.set_state(state["noise"])
        self.torch_rng = [state["torch_rng"], *state.get("device_rng", [])]
        with generators.forked(self.device):
            generators.set_states(self.torch_rng, self.device)  # refused here, where the file can be named
        self.curve = _curve(state["curve"])


def _curve(stored: dict) -> Curve:
    """ValueError or TypeError for what was never one."""
    curve = Curve(**stored)
    for points in (curve.trajectories, curve.evaluations):
        if not isinstance(points, list) or not all(_is_point(point) for point in points):
            raise ValueError("no list of points with their totals")
    return curve


def _is_point(point: object) -> bool:
    return isinstance(point, dict) and all(isinstance(point.get(name), int | float) for name in TOTALS)


def _check_shapes(tensors: Sequence[Tensor], weights: Sequence[Tensor]) -> None:
    """ValueError unless they are as many, each of the shape of its weight."""
    if [tensor.shape for tensor in tensors] != [weight.shape for weight in weights]:
        raise ValueError("tensors of other shapes than the weights")


def _identity(value: object) -> object:
    """Of what a run was given: of a file, written name@digest, the digest alone."""
    return value.rpartition("@")[2] if isinstance(value, str) else value


def _digest(networks: Mapping[str, nn.Module]) -> str:
    """Of weights, so that a run is only continued from those, and under those, that it began with."""
    return checkpoint.digest(nn.ModuleDict(networks).state_dict())


def finetune(
    config: FinetuneConfig,
    backbone: Backbone,
    reward: Reward,
    sampler: Sampler,
    draw: Draw,
    *,
    folder: Path | None = None,
    given: Mapping[str, object] | None = None,
    measure: Measure | None = None,
    measure_at: Collection[int] = (),
    on_trajectory: Callable[[dict], None] = lambda record: None,
    phases: Phases = unobserved,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    ranks: Ranks = ALONE,
) -> Run:
    """Fine-tunes the backbone's denoiser in place to the end of `config`; the run holds curve and result. It runs on
    the device where the denoiser's weights are; the rest of the backbone and the reward are to be there, too.

    folder: where a checkpoint is kept, of the first trajectory and then every `checkpoint_seconds`; a run that finds
    its own there goes on from it, to the same bytes as without the interruption (on a GPU as far as torch promises
    equal results there; on another type of device it is refused). given: what else decides the run, by
    name, as JSON values (a file as name@digest, of which only the digest counts); the curve names it, and a run that
    was given otherwise is not continued. measure: called with the result's weights in the backbone, before trajectory
    1, after each of `measure_at` and after the last one; its JSON goes into the curve. It must depend on nothing but
    these weights and their number of trajectories, since a run that goes on calls it for the rest alone. on_trajectory:
    given each record as it is made. phases: an observer of every rollout. ranks: who else takes part
    (methods.parallel); each calls this alike, and the first one alone measures and writes.

    FinetuneError for a run that cannot begin or go on, InputError where another run holds the folder or nothing can be
    written there, torch's own error where memory runs out; the last checkpoint stays.
    """
    with ranks.together():
        ranks.agree({**asdict(config), "steps": len(sampler), "sharding": ranks.sharding, **(given or {})})
        run = Run(config, backbone, reward, sampler, draw, given, phases, ranks)
        try:
            path = folder / CHECKPOINT if folder else None
            if folder:
                for name in (CHECKPOINT, *RESULTS, *lora.FILES):
                    check_writable(folder / name)
            with locked(folder) if folder and ranks.first else nullcontext():
                if path is not None and path.is_file():
                    run.load_checkpoint(path)
                    if run.done > config.trajectories:
                        raise FinetuneError(
                            f"{path} has {run.done} trajectories already, more than the {config.trajectories} asked "
                            "for: ask for more, or choose another folder"
                        )
                ranks.agree({"number of trajectories behind it": run.done})
                _carry_on(run, path, measure, measure_at, on_trajectory, checkpoint_seconds)
                run.gather()
        finally:
            backbone.denoiser = run.blank  # where a sharded run ended early: whole, as it was when the run began
    return run


def _carry_on(
    run: Run,
    path: Path | None,
    measure: Measure | None,
    measure_at: Collection[int],
    on_trajectory: Callable[[dict], None],
    checkpoint_seconds: float,
) -> None:
    """To the last trajectory; arguments as of `finetune`, `path` of the checkpoint."""
    last = run.config.trajectories
    saved = -math.inf
    takes_part = run.ranks.first or run.ranks.sharded  # in what the first rank measures and writes

    def measured() -> None:
        if measure is not None and takes_part and (run.done in {0, last} or run.done in measure_at):
            run.evaluate(measure)

    measured()
    while run.done < last:
        record = run.trajectory()
        measured()
        if path is not None and run.ranks.as_first(run.done == last or time.monotonic() - saved >= checkpoint_seconds):
            if takes_part:
                run.save_checkpoint(path)
            saved = time.monotonic()
        on_trajectory(record)
