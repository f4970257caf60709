"""Trains a reward on a world's data, and measures how well it finds motions by text.

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

from bench import world
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
    config = RewardConfig(**{own.name: getattr(options, own.name) for own in fields(RewardConfig)})
    check_writable(options.work / "data.safetensors")
    check_writable(options.out)
    with locked(options.work), locked(options.out):
        return _make(config, options)


def _make(config: RewardConfig, options: argparse.Namespace) -> int:
    base = world.load(options.world)
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - began:6.0f} s] {line}", flush=True)

    reward = train(config, base, options.work, say)
    if reward.metrics["mined"] is not None:
        print(f"spl: {reward.metrics['mined']:.1%} of the texts gave a pair")
    real = base.real("test", len(base.clips["test"]), seed=0)
    found = {"clean": retrieval(base, reward, "test", real=real)}
    if config.noise:
        aware = MODES[config.mode][0]
        found |= {
            f"t={timestep}": retrieval(base, reward, "test", timestep, aware=aware, real=real) for timestep in TIMESTEPS
        }
    reward.metrics["test"] = found
    for name, own in found.items():
        print(f"test, {name}, {own['count']} clips: {_short(own['all'])}")
        if own["pools"]:
            print(f"test, {name}, pools of 32: {_short(own['pools'])}")
    save(reward, options.out)
    print(f"wrote {options.out}")
    return 0


def _short(found: dict[str, dict[str, float]]) -> str:
    return "; ".join(
        f"{direction.replace('_', ' ')} " + ", ".join(f"{name} {value:.1f}" for name, value in own.items())
        for direction, own in found.items()
    )


def _parser() -> argparse.ArgumentParser:
    assert __doc__ is not None
    parser = argparse.ArgumentParser("python -m bench.alignment.rewards", description=__doc__.splitlines()[0])
    defaults = RewardConfig()
    add = parser.add_argument
    add("--work", type=Path, required=True, metavar="DIR", help="for the clips and the checkpoints")
    add("--out", type=Path, required=True, metavar="FILE", help="the reward, as safetensors")
    add("--world", type=Path, default=world.WEIGHTS, metavar="FILE", help="weights (default: the committed ones)")
    add("--seed", type=int, default=defaults.seed, metavar="N", help="default: %(default)s")
    add("--share", type=float, default=defaults.share, help="of the training clips (default: %(default)g)")
    add("--steps", type=int, default=defaults.steps, metavar="N", help="of pre-training (default: %(default)s)")
    add("--refine", type=int, default=defaults.refine, metavar="N", help="steps of stage two (default: %(default)s)")
    add("--spl", action="store_true", help="SPL in stage two (default: the control, as long without)")
    add("--variant", choices=VARIANTS, default=defaults.variant, help="of SPL (default: %(default)s)")
    add("--pool", type=int, metavar="N", help="of SPL: motions to be found among (default: the batch's)")
    add("--top", type=int, default=defaults.top, metavar="K", help="of SPL (default: %(default)s)")
    add("--noise", type=float, default=defaults.noise, metavar="P", help="share of noisy batches (default: none)")
    add("--noised", choices=NOISED, default=defaults.noised, help="what noise is added to (default: %(default)s)")
    add("--max-timestep", type=int, default=defaults.max_timestep, metavar="T", help="of noise (default: %(default)s)")
    add("--mode", choices=tuple(MODES), default=defaults.mode, help="who is told of noise (default: %(default)s)")
    add("--batch", type=int, default=defaults.batch, metavar="B", help="default: %(default)s")
    add("--lr", type=float, default=defaults.lr, help="of pre-training (default: %(default)g)")
    add("--refine-lr", type=float, default=defaults.refine_lr, metavar="LR", help="of stage two (default: %(default)g)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
