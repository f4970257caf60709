"""`python -m bench.alignment.finetune`: a fine-tuning run of a world, with progress, resumable."""

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import torch

from bench import identity, world
from bench.alignment import rewards
from bench.alignment.evaluate import evaluate, means
from bench.alignment.prompts import training_prompts
from bench.command import carry_out
from bench.motion.metrics import FOLLOWED
from methods import METHODS, Score, parse
from methods.errors import InputError
from methods.finetune import FinetuneConfig, finetune

STEPS = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code: 0, or as bench.command.carry_out (2 where the run had to stop, too)."""
    options = _parser().parse_args(arguments)
    return carry_out("bench.alignment.finetune", lambda: _run(options), f"the checkpoint in {options.out}")


def _run(options: argparse.Namespace) -> int:
    torch.set_num_threads(1)  # small networks: threads wait for each other longer than they compute
    config = FinetuneConfig(**{name.name: getattr(options, name.name) for name in fields(FinetuneConfig)})
    if options.measure_every < 1:
        raise InputError(f"--measure-every must be at least 1, not {options.measure_every}")
    own = world.load(options.world)
    sampler = own.sampler(options.steps)
    if options.reward:
        own.reward = rewards.load(options.reward, own)
        plan = parse(config.method).plan(options.steps, random.Random(config.seed))
        if any(step.score is Score.NOISY for step in plan.steps):
            rewards.noise_aware(options.reward)  # refused, by name, where it was never shown a noisy motion

    def measure(_done: int) -> dict:
        found = evaluate(own, "val", options.prompts, repeats=1, steps=options.steps)
        shown = ", ".join(f"{name} {found[name].mean:.3f}" for name in FOLLOWED)
        print(f"  held out, {options.prompts} validation prompts: {shown}", flush=True)
        return means(found)

    def progress(record: dict) -> None:
        left = (config.trajectories - record["trajectories"]) * record["seconds"] / record["trajectories"]
        print(
            f"trajectory {record['trajectories']} of {config.trajectories}: reward inside it {record['reward']:.3f}, "
            f"{record['updates']} updates, {record['seconds']:.0f} s, {left:.0f} s left",
            flush=True,
        )

    run = finetune(
        config,
        own.backbone,
        own.reward,
        sampler,
        training_prompts(own),
        folder=options.out,
        given={
            "world": _file(options.world),
            "reward": _file(options.reward) if options.reward else "the world's",
            "prompts": options.prompts,
        },
        measure=measure,
        measure_at=range(0, config.trajectories, options.measure_every),
        on_trajectory=progress,
    )
    print(f"wrote {', '.join(map(str, run.save(options.out)))}")
    return 0


def _file(path: Path) -> str:
    """A file as methods.finetune.finetune is given it."""
    return f"{path.name}@{identity.file(path)}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m bench.alignment.finetune", description=__doc__.partition(": ")[2])
    defaults = FinetuneConfig()
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="for checkpoint and result; a run found there goes on")
    add("--method", default=defaults.method, metavar="SPEC", help=f"name[:option=value,...]: {', '.join(METHODS)}")
    add("--lr", type=float, default=defaults.lr, help="learning rate (default, as published: %(default)g)")
    add("--trajectories", type=int, default=defaults.trajectories, metavar="N", help="default: %(default)s")
    add("--batch", type=int, default=defaults.batch, metavar="B", help="prompts a trajectory (default: %(default)s)")
    add("--steps", type=int, default=STEPS, metavar="T", help="denoising steps (default: %(default)s)")
    add("--warm-up", type=int, default=defaults.warm_up, metavar="N", help="optimiser steps (default: %(default)s)")
    add("--clip", type=float, default=defaults.clip, metavar="NORM", help="of the gradient (default: %(default)s)")
    add("--ema", type=float, default=defaults.ema, metavar="DECAY", help="of averaged weights (default: off)")
    add("--pull", type=float, default=defaults.pull, metavar="X", help="of the weights to the start (default: off)")
    add("--seed", type=int, default=defaults.seed, metavar="N", help="default: %(default)s")
    add("--train-mode", action="store_true", help="dropout on inside trajectories, as released")
    add("--measure-every", type=int, default=10, metavar="N", help="trajectories (default: %(default)s)")
    add("--prompts", type=int, default=64, metavar="N", help="validation prompts measured on (default: %(default)s)")
    add("--reward", type=Path, metavar="FILE", help="one made by bench.alignment.rewards (default: the world's own)")
    add("--world", type=Path, default=world.WEIGHTS, metavar="FILE", help="weights (default: the committed ones)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
