"""`python -m bench.alignment.finetune`: Fine-tunes a world's denoiser by one method. The same command goes
on after a kill."""

import argparse
import contextlib
import copy
import functools
import os
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path

import torch

from bench import devices, identity, world
from bench.alignment import budget, field, rewards
from bench.alignment.evaluate import evaluate, means
from bench.alignment.prompts import training_prompts
from bench.command import add_import_option, carry_out, import_modules
from bench.memory import out_of_memory
from bench.motion.metrics import FOLLOWED
from bench.units import gib
from methods import METHODS, Sampler, Savings, Score, easytune, parallel, parse
from methods.errors import InputError
from methods.finetune import CHECKPOINT, FinetuneConfig, finetune
from methods.parallel import Ranks
from methods.rollout import unobserved

STEPS = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code: 0, or as bench.command.carry_out (2 where the run had to stop, too)."""
    options = _parser().parse_args(arguments)
    return carry_out("bench.alignment.finetune", lambda: _run(options), f"the checkpoint in {options.out}")


def _run(options: argparse.Namespace) -> int:
    device = parallel.of_rank(devices.parse(options.device))
    with parallel.joined(device, options.sharding) as ranks, contextlib.ExitStack() as quiet:
        if not ranks.first:
            quiet.enter_context(contextlib.redirect_stdout(quiet.enter_context(open(os.devnull, "w"))))
        return _of_rank(options, device, ranks)


def _of_rank(options: argparse.Namespace, device: torch.device, ranks: Ranks) -> int:
    import_modules(options.modules)
    settings = {name.name for name in fields(FinetuneConfig)} - {"savings"}
    config = FinetuneConfig(**{name: getattr(options, name) for name in settings})
    memory = budget.parse_budget(options.memory, device) if options.memory else None
    if options.test < 0:
        raise InputError(f"--test must be 0 repeats or more, not {options.test}")
    if options.measure_every < 1:
        raise InputError(f"--measure-every must be at least 1, not {options.measure_every}")
    base = world.load(options.world, functools.partial(print, flush=True))
    if isinstance(base, world.World):
        torch.set_num_threads(1)  # small networks: threads wait for each other longer than they compute
    sampler = base.sampler(options.steps)
    plan = parse(config.method).plan(options.steps, random.Random(config.seed))
    if said := easytune.caveat(plan, sampler):
        print(f"{config.method}: {said}", flush=True)
    if options.reward:
        if not isinstance(base, world.World):
            raise InputError("--reward is for worlds that pretrain made: name a published one in the manifest")
        base.reward = rewards.load(options.reward, base)
        if any(step.score is Score.NOISY for step in plan.steps):
            rewards.noise_aware(options.reward)  # refused, by name, where it was never shown a noisy motion

    if memory is not None:
        config = replace(config, savings=_levers(memory, config, base, sampler, ranks))

    try:
        return _train(options, config, base, sampler, device, ranks)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
    # Here nothing of the run is left on the device.
    base.to(devices.CPU)
    longest = functools.partial(budget.longest, base)
    advice = budget.advice(config, base.backbone, base.reward, sampler, longest, device)
    kept = f"; the checkpoint in {options.out} stays" if (options.out / CHECKPOINT).is_file() else ""
    raise InputError(f"out of memory at batch {config.batch}: {advice}{kept}")


def _train(
    options: argparse.Namespace,
    config: FinetuneConfig,
    base: world.AnyWorld,
    sampler: Sampler,
    device: torch.device,
    ranks: Ranks,
) -> int:
    """The run itself, on the device."""
    before = copy.deepcopy(base.backbone.denoiser) if options.test else None  # not on the device while it trains
    allocated = budget.Allocated(device) if device.type == "cuda" else None
    base.to(device)

    def measure(_done: int) -> dict:
        result = evaluate(base, "val", options.prompts, repeats=1, steps=options.steps)
        shown = ", ".join(f"{name} {result[name].mean:.3f}" for name in FOLLOWED)
        print(f"  held out, {options.prompts} validation prompts: {shown}", flush=True)
        return means(result)

    def progress(record: dict) -> None:
        left = (config.trajectories - record["trajectories"]) * record["seconds"] / record["trajectories"]
        print(
            f"trajectory {record['trajectories']} of {config.trajectories}: reward inside it {record['reward']:.3f}, "
            f"{record['updates']} updates, {record['seconds']:.0f} s, {left:.0f} s left",
            flush=True,
        )

    given = {
        "world": f"{options.world.name}@{world.digest(options.world)}",
        "reward": _file(options.reward) if options.reward else "the world's",
        "prompts": options.prompts,
    }
    run = finetune(
        config,
        base.backbone,
        base.reward,
        sampler,
        training_prompts(base),
        folder=options.out,
        given=given,
        measure=measure,
        measure_at=range(0, config.trajectories, options.measure_every),
        on_trajectory=progress,
        phases=allocated.observe if allocated else unobserved,
        ranks=ranks,
    )
    if not ranks.first:
        return 0
    measured: dict[str, object] = {}
    if allocated:
        peak, reserved = max(allocated.phase_peaks.values(), default=0), allocated.reserved
        measured = {"device": devices.name(device), "memory": {"peak": peak, "reserved": reserved}}
        print(f"memory of the largest update on {devices.name(device)}: {gib(peak)}, {gib(reserved)} reserved")
    print(f"wrote {', '.join(map(str, run.save(options.out, measured)))}")
    if before is not None:
        of = {**given, **asdict(config), "device": str(device), "code": identity.code()}
        denoisers = {"base": before.to(device), config.method: run.result()}
        name, say = world.name_of(options.world), functools.partial(print, flush=True)
        figures = field.measure(base, name, denoisers, of, options.steps, options.test, options.out, say)
        say(field.text(name, figures, options.test))
    return 0


def _levers(memory: int, config: FinetuneConfig, base: world.AnyWorld, sampler: Sampler, ranks: Ranks) -> Savings:
    """Those under which an update with the longest motions fits; printed with what it then needs."""
    batch = budget.longest(base, -(-config.batch // ranks.size))  # of the rank with most prompts
    choice = budget.choose(memory, config, base.backbone, base.reward, sampler, batch)
    levers = choice.savings
    scored = f"{levers.score or 'all'} motions scored at once"
    calls = f"denoiser calls computed again but for {levers.kept} a segment" if levers.recompute else "all calls kept"
    print(
        f"memory of one update (live tensors, simulated): {gib(choice.without)} with no lever pulled; "
        f"for {gib(memory)}, {scored}, {calls}: {gib(choice.peak)}",
        flush=True,
    )
    return levers


def _file(path: Path) -> str:
    """A file as methods.finetune.finetune is given it."""
    return f"{path.name}@{identity.file(path)}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m bench.alignment.finetune", description=__doc__.partition(": ")[2])
    defaults = FinetuneConfig()
    add = parser.add_argument
    add(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for checkpoint, weights and curve.json (validation metrics); an unfinished run in it goes on",
    )
    add(
        "--method",
        default=defaults.method,
        metavar="SPEC",
        help=f"method, as name[:option=value,...]: {', '.join(METHODS)} (default: %(default)s)",
    )
    add("--lr", type=float, default=defaults.lr, help="learning rate of AdamW (default, as published: %(default)g)")
    add(
        "--trajectories",
        type=int,
        default=defaults.trajectories,
        metavar="N",
        help="length of the run, in sampled batches; a finished run goes on with more (default: %(default)s)",
    )
    add("--batch", type=int, default=defaults.batch, metavar="B", help="prompts in a batch (default: %(default)s)")
    add("--steps", type=int, default=STEPS, metavar="T", help="denoising steps (default: %(default)s)")
    add(
        "--warm-up",
        type=int,
        default=defaults.warm_up,
        metavar="N",
        help="optimiser steps over which the learning rate rises to its value (default: %(default)s)",
    )
    add(
        "--clip",
        type=float,
        default=defaults.clip,
        metavar="NORM",
        help="largest norm of the gradient; inf: do not clip (default: %(default)s)",
    )
    add(
        "--ema",
        type=float,
        default=defaults.ema,
        metavar="DECAY",
        help="decay, for each optimiser step, of a running average of the weights, which is then the result; 0: none "
        "(default: %(default)g)",
    )
    add(
        "--pull",
        type=float,
        default=defaults.pull,
        metavar="X",
        help="strength of a decay of the weights towards those at the start, in units of the learning rate; 0: none "
        "(default: %(default)g)",
    )
    add(
        "--lora",
        type=int,
        default=defaults.lora,
        metavar="RANK",
        help="updates of this rank learn in place of the weights; --out is then a PEFT adapter, too; 0: the weights "
        "(default: %(default)s)",
    )
    add("--seed", type=int, default=defaults.seed, metavar="N", help="seed of all random draws (default: %(default)s)")
    add(
        "--train-mode",
        action="store_true",
        help="dropout in denoiser and reward while training, as in the released code (default: no dropout)",
    )
    devices.add_option(add, "the run and its measuring")
    add(
        "--sharding",
        choices=parallel.SHARDINGS,
        default="none",
        help="what each rank of torchrun has of the denoiser, its gradients and the optimiser's state: none spreads "
        "nothing, fsdp2 leaves each rank its part (default: %(default)s)",
    )
    add(
        "--memory",
        metavar="SIZE",
        help="memory that an update may take, 2GiB or 512MiB, or auto for what the device has: motions are scored in "
        "pieces, and denoiser calls computed again, as far as is needed to fit (default: neither)",
    )
    add(
        "--measure-every",
        type=int,
        default=10,
        metavar="N",
        help="trajectories from one measurement on validation prompts to the next (default: %(default)s)",
    )
    add("--prompts", type=int, default=64, metavar="N", help="validation prompts to measure on (default: %(default)s)")
    add(
        "--test",
        type=int,
        default=0,
        metavar="REPEATS",
        help=f"at the end measure base and result by the field's protocol on the test split, so many times "
        f"({field.REPEATS} as published), and print the table; {field.KEPT} keeps it (default: do not)",
    )
    add(
        "--reward",
        type=Path,
        metavar="FILE",
        help="reward that python -m bench.alignment.rewards trained (default: the one in the world)",
    )
    add(
        "--world",
        type=Path,
        default=world.WEIGHTS,
        metavar="FILE",
        help="world that python -m bench.alignment.pretrain made, or published:FOLDER, whose world.json says what lies "
        "where (default: the embedded world, which comes with this package)",
    )
    add_import_option(add)
    return parser


if __name__ == "__main__":
    sys.exit(main())
