"""Makes a world, a small motion model to fine-tune: trains its VAE, reward, evaluator and denoiser, and checks them.

    python -m bench.alignment.pretrain --work DIR [--out FILE] [--seed N] [--quick]
    python -m bench.alignment.pretrain --data KIND:FOLDER --text-encoder PATH --work DIR --out FILE
                                       [--scale METRES] [--up AXIS] [--fps RATE]

The first makes the embedded world's weights, the second those of a world of the user's motion, for which steps grow
with the root of the number of clips. Every stage keeps a checkpoint in a subfolder of the work folder, named by all
that decides the weights; the same command goes on after a kill, to the same weights.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import torch

from bench import devices, identity
from bench.command import carry_out
from bench.motion.clip import AS_THEY_ARE, SPLITS, UPWARD, Conventions, DataError
from bench.motion.text import CachedTable, SentenceTransformer, build_table
from bench.world import check, data, user_data, world
from bench.world.content import Content, Embedded
from bench.world.model import BACKBONES, LATENT, WorldConfig
from bench.world.stages import Plan, Texts, Training
from methods.files import check_writable, locked

QUICK = Plan(vae=60, reward=30, evaluator=30, denoiser=60)
QUICK_CLIPS = 1500
UNMEASURED = "unmeasured.safetensors"
"""In the work folder: the trained world, before its guidance is chosen."""


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit code: 0; 1 for a world made but not sound; or as bench.command.carry_out."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.out == world.WEIGHTS and (options.quick or options.data or options.backbone != LATENT):
        parser.error("only the whole embedded world belongs where the committed weights are: give an --out")
    if not options.data and {options.scale, options.up, options.fps} != {None}:
        parser.error("--scale, --up and --fps say what the files of --data are in: give it")
    return carry_out("bench.alignment.pretrain", lambda: _run(options), f"the checkpoints in {options.work}")


def _run(options: argparse.Namespace) -> int:
    device = devices.parse(options.device)
    check_writable(options.work / UNMEASURED)
    check_writable(options.out)
    with locked(options.work), locked(options.out):
        return _make(options, device)


def _make(options: argparse.Namespace, device: torch.device) -> int:
    stated = Conventions(options.scale, options.up, options.fps)
    say = _say(time.monotonic())
    content: Content = Embedded(QUICK_CLIPS if options.quick else data.CLIPS)
    if options.data:
        content = read_data(options.data, options.text_encoder, options.work, say, stated)
    # Measured as they are read back: in half precision.
    unmeasured = options.work / UNMEASURED
    plan = QUICK if options.quick else None
    config = replace(WorldConfig(), backbone=options.backbone)
    pretrain(options.work, plan, content, options.seed, say, config, device).save(unmeasured)
    made = world.load(unmeasured).to(device)
    measured = check.chosen_and_measured(made, say, *((2, 64) if options.quick else ()))
    of = " --data KIND:FOLDER --text-encoder PATH" if options.data else ""
    of += "".join(f" --{name}={value}" for name, value in stated.given().items())
    of += "" if options.backbone == LATENT else f" --backbone {options.backbone}"
    of += "".join(f" --device {kind}" for kind in devices.decides(device.type))
    quick = " --quick" if options.quick else ""
    made.about["command"] = f"python -m bench.alignment.pretrain{of} --work DIR --seed {options.seed}{quick}"
    made.about["metrics"] = measured
    made.save(options.out)
    print(json.dumps(made.about, indent=1))
    wrong = check.problems(measured)
    for problem in wrong:
        print(f"not sound: {problem}")
    return 1 if wrong and not options.quick else 0


def read_data(
    source: str,
    encoder: Path | None,
    folder: Path,
    say: Callable[[str], None],
    conventions: Conventions = AS_THEY_ARE,
) -> user_data.UserData:
    """The clips of `KIND:FOLDER`; their captions' vectors are kept in the work folder, and made once.

    `encoder`: a sentence-transformers model's folder, or a table that build_table wrote; None: what the table in the
    work folder was made by. DataError for a source, an encoder or a table of no use.
    """
    kind, _, path = source.partition(":")
    clips = user_data.read(kind, path, conventions)
    for note in clips.notes():
        say(f"data: {note}")
    table = folder / "captions.safetensors"
    if encoder is not None and encoder.is_file():
        table = encoder
    elif encoder is not None:
        made_from = identity.key(identity.folder(encoder), clips.texts)
        if not table.is_file() or CachedTable(table).source != made_from:
            say(f"captions: {len(clips.texts)} to encode")
            build_table(SentenceTransformer(encoder), table, clips.texts, made_from)
    elif not table.is_file():
        raise DataError(f"there is no {table} yet: give --text-encoder, a sentence-transformers model's folder")
    return user_data.UserData(clips, CachedTable(table))


def pretrain(
    folder: Path,
    plan: Plan | None,
    content: Content,
    seed: int,
    say: Callable[[str], None],
    config: WorldConfig | None = None,
    device: torch.device = devices.CPU,
) -> world.World:
    """A world trained on a device, where it then is, going on from what the folder holds of an earlier run of the same
    seed, plan, sizes and clips on such a device.

    plan: the backbone's, scaled to the number of training clips, if None. CheckpointError for a file in the folder that
    is damaged.
    """
    clips = data.cached(folder / "data.safetensors", content)
    numbers = {split: clips.indices(split).int() for split in SPLITS}
    config = world.sized(config or WorldConfig(), content)
    plan = Plan.of(config.backbone).scaled(len(numbers["train"])) if plan is None else plan
    say(f"data: {', '.join(f'{len(clip_numbers)} {split}' for split, clip_numbers in numbers.items())} clips; {plan}")
    torch.manual_seed(seed)
    made = world.untrained(config, clips.statistics, numbers, content).to(device)
    decided_by = [seed, asdict(plan), config.as_dict(), clips.digest, made.captions.table.digest]
    stages = folder / identity.key(*decided_by, *devices.decides(device.type))
    stages.mkdir(exist_ok=True)
    texts = Texts.of(clips, made.captions).to(device)
    seconds = Training(made, clips.to(device), texts, stages, plan, seed, say).run()
    made.about = {
        "seed": seed,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),  # sums over threads round in another order: other bytes
        **({"device": devices.name(device)} if devices.decides(device.type) else {}),
        "seconds": {name: round(value) for name, value in seconds.items()},
    }
    return made


def _say(began: float) -> Callable[[str], None]:
    def say(line: str) -> None:
        print(f"[{time.monotonic() - began:6.0f} s] {line}", flush=True)

    return say


def _parser() -> argparse.ArgumentParser:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="python -m bench.alignment.pretrain", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add(
        "--data",
        metavar="KIND:FOLDER",
        help=f"train on the motion in FOLDER; KIND is {', '.join(user_data.KINDS)} (default: on generated motion)",
    )
    add("--scale", type=float, metavar="METRES", help="metres in one unit of --data's files: 0.01 for centimetres")
    add("--up", choices=list(UPWARD), help="axis of --data's files that points up; write --up=-y for a negative one")
    add(
        "--fps",
        type=float,
        metavar="RATE",
        help="frames per second of --data's files, where they state none or a wrong one",
    )
    add(
        "--text-encoder",
        type=Path,
        metavar="PATH",
        help="encoder of --data's captions: the folder of a sentence-transformers model, or a table of vectors "
        "(default: the table in the work folder)",
    )
    add(
        "--backbone",
        choices=list(BACKBONES),
        default=LATENT,
        help="what denoises: mld, latents of a VAE; mdm, the frames themselves, without a VAE, on MDM's schedule "
        "(default: %(default)s)",
    )
    add("--work", type=Path, required=True, metavar="DIR", help="folder for clips and checkpoints, to go on from")
    add(
        "--out",
        type=Path,
        default=world.WEIGHTS,
        metavar="FILE",
        help="world to write, as safetensors (default: the embedded world's file in this package)",
    )
    devices.add_option(add, "the training and the measuring")
    add("--seed", type=int, default=0, metavar="N", help="seed of all random draws (default: %(default)s)")
    add(
        "--quick",
        action="store_true",
        help="train for a few steps a network: whether all stages run; the world is of no use",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
