"""Makes the embedded world's weights: data, VAE, reward, evaluator, denoiser, and the check that they are sound.

    python -m bench.alignment.pretrain --work DIR [--out FILE] [--seed N] [--quick]

Every stage keeps a checkpoint in the work folder; the same command goes on after a kill, to the same weights.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from bench.alignment.data.clip import SPLITS
from bench.alignment.world import check, data, world
from bench.alignment.world.model import WorldConfig
from bench.alignment.world.stages import Plan, Texts, Training

QUICK = Plan(vae=60, reward=30, evaluator=30, denoiser=60)
QUICK_CLIPS = 1500


def main(arguments: list[str] | None = None) -> int:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="python -m bench.alignment.pretrain", description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder of the data and the checkpoints")
    parser.add_argument("--out", type=Path, default=world.WEIGHTS, help="the weights (default: the committed ones)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a few steps a stage: shows that all runs, learns little")
    options = parser.parse_args(arguments)
    if options.quick and options.out == world.WEIGHTS:
        parser.error("--quick makes no weights worth keeping: give it an --out of its own")
    options.work.mkdir(parents=True, exist_ok=True)
    say = _say(time.monotonic())
    plan, clips = (QUICK, QUICK_CLIPS) if options.quick else (Plan(), data.CLIPS)
    # Measured as they are read back: in half precision.
    unmeasured = options.work / "unmeasured.safetensors"
    pretrain(options.work, plan, clips, options.seed, say).save(unmeasured)
    made = world.load(unmeasured)
    found = check.chosen_and_measured(made, say, *((2, 64) if options.quick else ()))
    quick = " --quick" if options.quick else ""
    made.about["command"] = f"python -m bench.alignment.pretrain --work DIR --seed {options.seed}{quick}"
    made.about["metrics"] = found
    made.save(options.out)
    print(json.dumps(made.about, indent=1))
    wrong = check.problems(found)
    for problem in wrong:
        print(f"not sound: {problem}")
    return 1 if wrong and not options.quick else 0


def pretrain(
    folder: Path, plan: Plan, clips: int, seed: int, say: Callable[[str], None], config: WorldConfig | None = None
) -> world.World:
    """A trained world, going on from what the folder holds of an earlier run."""
    content = data.cached(folder / "data.safetensors", clips)
    say(f"data: {len(content.splits)} clips")
    torch.manual_seed(seed)
    numbers = {split: content.indices(split).int() for split in SPLITS}
    made = world.untrained(config or WorldConfig(), content.statistics, numbers)
    seconds = Training(made, content, Texts.of(content, made.captions), folder, plan, seed, say).run()
    made.about = {
        "seed": seed,
        "torch": torch.__version__,
        "seconds": {name: round(value) for name, value in seconds.items()},
    }
    return made


def _say(began: float) -> Callable[[str], None]:
    def say(line: str) -> None:
        print(f"[{time.monotonic() - began:6.0f} s] {line}", flush=True)

    return say


if __name__ == "__main__":
    sys.exit(main())
