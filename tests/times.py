"""Times the levers of memory against what goes without them, in turn, with the published networks on this machine.

    python tests/times.py [--rounds 5] [--batch 32] [--only draft]

Each line is a ratio of two updates: the median over rounds, each of which runs both, in an order that changes every
time. The last two hold a rollout against the same calls in a bare loop. Exit status 1 if a ratio is above its bound.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from bench.cases import Case  # noqa: E402
from bench.setup import Run, build  # noqa: E402

LENGTHS = (40, 72, 92, 108, 132, 160, 192, 196, 196, 196, 196)
"""Deciles of the frames of HumanML3D's training motions, as the published loader filters and cuts them (index.csv: 40
to 200 frames, down to a multiple of 4, 196 at most)."""
CHAINS = ("draft", "alignprop:truncation=fixed", "drtune")
WITHOUT = "lean+recompute=false"

Update = Callable[[], object]


@dataclass
class Ratio:
    """Of the times of two updates."""

    name: str
    most: float
    make: Callable[[], tuple[Update, Update]]
    """Builds both, when their turn comes."""


def ratios(batch: int) -> Iterator[Ratio]:
    """What is timed, in order. EasyTune's steps are alike, so four stand for fifty."""

    def of(spec: str, other: str, method: str, steps: int) -> Callable[[], tuple[Update, Update]]:
        return lambda: (updates(method, spec, steps, batch), updates(method, other, steps, batch))

    yield Ratio("lean / paper, easytune", 0.70, of("lean", "paper", "easytune", 4))
    yield Ratio("lean / paper, refl", 0.70, of("lean", "paper", "refl", 50))
    for method in CHAINS:
        yield Ratio(f"lean / paper, {method}", 0.85, of("lean", "paper", method, 50))
    for method, steps in (("easytune", 4), ("draft", 50)):
        yield Ratio(f"recomputed / kept, {method}", 1.25, of("lean", WITHOUT, method, steps))
    motions = 8 * batch
    yield Ratio(
        f"cropped / not, {motions} motions as long as HumanML3D's",
        0.75,
        lambda: (ragged("lean", motions), ragged("lean+crop=false", motions)),
    )
    for method in ("easytune", "draft"):
        yield Ratio(f"rollout / bare calls, {method}", 1.02, lambda method=method: with_and_without_rollout(method))


def updates(method: str, spec: str, steps: int, batch: int) -> Update:
    """A case's update, warmed up."""
    run = build(Case(method, steps=steps, batch=batch, profile=spec, meter="host"), "cpu")
    run.warm_up()
    return run.update


def ragged(spec: str, motions: int) -> Update:
    """One step of EasyTune, on motions of all lengths, in no order."""
    run = build(Case("easytune", steps=1, batch=motions, profile=spec, meter="host"), "cpu")
    lengths = np.quantile(LENGTHS, (np.arange(motions) + 0.5) / motions).round()
    lengths = torch.tensor(np.random.default_rng(0).permutation(lengths))
    run.batch = replace(run.batch, frame_mask=torch.arange(run.case.frames) < lengths[:, None])
    run.warm_up()
    return run.update


def with_and_without_rollout(method: str) -> tuple[Update, Update]:
    """One motion, where what a rollout adds weighs most."""
    run = build(Case(method, steps=4, batch=1, profile="paper", meter="host"), "cpu")
    run.warm_up()
    return run.update, lambda: bare(run, every_step=method == "easytune")


def bare(run: Run, every_step: bool) -> None:
    """DRaFT's update of all steps, or EasyTune's, written down without a rollout."""
    backbone, sampler, batch, x = run.backbone, run.sampler, run.batch, run.x
    optimizer, weights = run.updater.optimizer, list(run.backbone.denoiser.parameters())

    def learn(latent: Tensor) -> None:
        (-run.reward(backbone.decode(latent, batch), batch).mean()).backward()
        norm = nn.utils.clip_grad_norm_(weights, run.updater.clip)
        assert torch.isfinite(norm)
        optimizer.step()
        optimizer.zero_grad()

    for index in range(len(sampler)):
        x = x.detach() if every_step else x
        out = backbone.predict(x, sampler[index].timestep, batch)
        if every_step:
            learn(sampler.x0_hat(x, out, index))
        x = sampler.step(x, out, index, None)
    if not every_step:
        learn(x)


def seconds(update: Update) -> float:
    start = time.perf_counter()
    update()
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="of each ratio (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=32, help="motions of an update (default: %(default)s)")
    parser.add_argument("--only", default="", metavar="TEXT", help="ratios whose name holds this (default: all)")
    options = parser.parse_args()
    failed = 0
    print(f"{'ratio':>6} {'bound':>6} {'least':>6} {'most':>6} {'seconds':>8}  of", flush=True)
    for ratio in (one for one in ratios(options.batch) if options.only in one.name):
        pair = ratio.make()
        times: list[tuple[float, float]] = []
        # What takes a moment is measured more often: it is the more easily disturbed.
        while len(times) < options.rounds or sum(map(sum, times)) < 4 * options.rounds:
            both = {number: seconds(pair[number]) for number in ((0, 1) if len(times) % 2 else (1, 0))}
            times.append((both[0], both[1]))
        del pair
        found = [new / old for new, old in times]
        middle = statistics.median(found)
        failed += middle > ratio.most
        print(
            f"{middle:6.3f} {ratio.most:6.2f} {min(found):6.3f} {max(found):6.3f} "
            f"{statistics.median(new for new, _ in times):8.2f}  {ratio.name}",
            flush=True,
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
