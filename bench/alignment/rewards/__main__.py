"""Trains a reward on a world's motion, in two stages, and measures how well it retrieves motions by text.

    python -m bench.alignment.rewards --work DIR --out FILE [--world FILE] [options of the recipe]

Both stages keep checkpoints in the work folder; the same command goes on after a kill, to the same file. Recipes that
differ in stage two alone share stage one, in one folder.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import torch

from bench import devices, world
from bench.alignment.rewards import RewardConfig, retrieval, save, train
from bench.alignment.rewards.config import NOISED
from bench.command import carry_out
from methods.files import check_writable, locked
from methods.rewards.noise import MODES
from methods.rewards.preference import VARIANTS

TIMESTEPS = (250, 500, 750)
"""At which a noise-aware reward is measured, beside clean motions."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code: 0, or as bench.command.carry_out."""
    options = _parser().parse_args(arguments)
    return carry_out("bench.alignment.rewards", lambda: _run(options), f"the checkpoints in {options.work}")


def _run(options: argparse.Namespace) -> int:
    torch.set_num_threads(1)  # small networks: threads wait for each other longer than they compute
    device = devices.parse(options.device)
    config = RewardConfig(**{option.name: getattr(options, option.name) for option in fields(RewardConfig)})
    check_writable(options.work / "data.safetensors")
    check_writable(options.out)
    with locked(options.work), locked(options.out):
        return _make(config, options, device)


def _make(config: RewardConfig, options: argparse.Namespace, device: torch.device) -> int:
    base = world.pretrained(options.world).to(device)
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - began:6.0f} s] {line}", flush=True)

    reward = train(config, base, options.work, say)
    if reward.metrics["mined"] is not None:
        print(f"spl: {reward.metrics['mined']:.1%} of the texts gave a pair")
    real = base.real("test", len(base.clips["test"]), seed=0)
    recalls = {"clean": retrieval(base, reward, "test", real=real)}
    if config.noise:
        aware = MODES[config.mode][0]
        recalls |= {
            f"t={timestep}": retrieval(base, reward, "test", timestep, aware=aware, real=real) for timestep in TIMESTEPS
        }
    reward.metrics["test"] = recalls
    for name, result in recalls.items():
        print(f"test, {name}, {result['count']} clips: {_short(result['all'])}")
        if result["pools"]:
            print(f"test, {name}, pools of 32: {_short(result['pools'])}")
    save(reward, options.out)
    print(f"wrote {options.out}")
    return 0


def _short(recalls: dict[str, dict[str, float]]) -> str:
    return "; ".join(
        f"{direction.replace('_', ' ')} " + ", ".join(f"{name} {value:.1f}" for name, value in values.items())
        for direction, values in recalls.items()
    )


def _parser() -> argparse.ArgumentParser:
    assert __doc__ is not None
    parser = argparse.ArgumentParser("python -m bench.alignment.rewards", description=__doc__.splitlines()[0])
    defaults = RewardConfig()
    add = parser.add_argument
    add("--work", type=Path, required=True, metavar="DIR", help="folder for clips and checkpoints, to go on from")
    add("--out", type=Path, required=True, metavar="FILE", help="reward to write, as safetensors")
    add(
        "--world",
        type=Path,
        default=world.WEIGHTS,
        metavar="FILE",
        help="world that python -m bench.alignment.pretrain made (default: the embedded world, which comes with this "
        "package)",
    )
    devices.add_option(add, "the training and the measuring")
    add("--seed", type=int, default=defaults.seed, metavar="N", help="seed of all random draws (default: %(default)s)")
    add(
        "--share",
        type=float,
        default=defaults.share,
        metavar="SHARE",
        help="share of the training clips to use, above 0 and at most 1 (default: %(default)g)",
    )
    add(
        "--steps",
        type=int,
        default=defaults.steps,
        metavar="N",
        help="optimiser steps of stage one, the pre-training (default: %(default)s)",
    )
    add(
        "--refine",
        type=int,
        default=defaults.refine,
        metavar="N",
        help="optimiser steps of stage two, with or without --spl; 0: no stage two (default: %(default)s)",
    )
    add(
        "--spl",
        action="store_true",
        help="add self-refinement preference learning (SPL) in stage two (default: the losses of stage one alone)",
    )
    add(
        "--variant",
        choices=VARIANTS,
        default=defaults.variant,
        help="SPL as the paper describes it, or as the released code has it (default: %(default)s)",
    )
    add(
        "--pool",
        type=int,
        metavar="N",
        help="motions among which SPL ranks a text's motion (default: those of the batch)",
    )
    add(
        "--top",
        type=int,
        default=defaults.top,
        metavar="K",
        help="a text whose motion SPL does not rank among the best K gives a preference pair (default: %(default)s)",
    )
    add(
        "--noise",
        type=float,
        default=defaults.noise,
        metavar="P",
        help="probability that a batch is noised, in both stages, for a noise-aware reward (default: %(default)g)",
    )
    add(
        "--noised",
        choices=NOISED,
        default=defaults.noised,
        help="what the noise is added to: the latent states that a sampler passes through, or the motion's features as "
        "in the released code (default: %(default)s)",
    )
    add(
        "--max-timestep",
        type=int,
        default=defaults.max_timestep,
        metavar="T",
        help="largest timestep that noise is drawn at, of 0 to 999 (default: %(default)s)",
    )
    add(
        "--mode",
        choices=tuple(MODES),
        default=defaults.mode,
        help="which encoders are given the timestep: M1 that of motions, T1 that of texts (default: %(default)s)",
    )
    add("--batch", type=int, default=defaults.batch, metavar="B", help="clips in a batch (default: %(default)s)")
    add("--lr", type=float, default=defaults.lr, help="learning rate of stage one (default: %(default)g)")
    add(
        "--refine-lr",
        type=float,
        default=defaults.refine_lr,
        metavar="LR",
        help="learning rate of stage two (default: %(default)g)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
