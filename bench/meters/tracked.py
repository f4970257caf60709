"""The protocol shared by the two meters that count live tensors: simulated and host."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from bench.cases import Case
from bench.meters import allocator, meta_cache, without_data
from bench.meters.origin import named_modules
from bench.meters.reading import Reading, by_category, by_phase
from bench.meters.tracker import Tracker, run_as_is
from bench.profiles import profile
from bench.reward_cases import RewardCase
from bench.reward_setup import RewardRun, prepare
from bench.setup import Run
from methods.errors import InputError
from methods.rollout import PHASES
from methods.sharding import is_sharded

Weights = Sequence[tuple[str, Tensor]]
"""Each with the module that owns it."""
Enter = Callable[[str], None]
"""Given the name of each phase as it begins: building, warm-up, sampling, then those of methods.rollout.PHASES."""


def unheard(_phase: str) -> None:
    """Nobody asks."""


def read(
    case: Case | RewardCase,
    device: str,
    with_data: bool = True,
    enter: Enter = unheard,
    replay: allocator.Replayer = allocator.replay,
) -> Reading:
    """Builds the case on `device`, warms it up, then reads a trajectory without gradients and one update.

    `with_data` false: on meta or fake tensors, which hold nothing. InputError for a case that is compiled.

    What CUDA's allocator would take is replayed over what the cuda meter runs: building and warm-up, one full update,
    the trajectory without gradients, and the update that is read, which finds the segments of all that came before.
    """
    if profile(case.profile).compile:
        raise InputError(
            "no meter counts what a compiler fuses: time compile=true with pytest bench/ -m step_time, or leave it out"
        )
    execute = run_as_is if with_data else meta_cache.execute if device == "meta" else without_data.execute
    tracker = Tracker(execute, device)
    with tracker:
        enter("building")
        run = prepare(case, device, with_data)
        with tracker.watch(run.networks):
            enter("warm-up")
            run.warm_up()
            optimiser_state = tracker.label(_optimiser_state(run), "optimiser state")
            parameters = tracker.label(_weights(run, with_buffers=True), "parameters")
            weights = list(_weights(run))
            built = tracker.allocations()
            tracker.restart()
            resident = tracker.live
            enter("sampling")
            run.sample()
            sampling, sampled = tracker.peak, tracker.allocations()
            tracker.restart()
            run.update(phases=_phases(tracker, run, weights, enter))
            _label_gradients(tracker, run, weights)
            updated = tracker.allocations()
    replayed = replay([built, updated, sampled, updated], allocator.settings())
    owners = tracker.at_peak()
    return Reading(
        peak=tracker.peak,
        resident=resident,
        sampling=sampling,
        parameters=parameters,
        optimiser_state=optimiser_state,
        phases={phase: tracker.phase_peaks.get(phase, 0) for phase in PHASES},
        categories=by_category(owners),
        owners=owners,
        split=by_phase(owners),
        timeline=tracker.timeline(),
        allocated=replayed.allocated,
        allocated_phases={phase: replayed.phases.get(phase, 0) for phase in PHASES},
        reserved=replayed.reserved,
    )


def _phases(tracker: Tracker, run: Run | RewardRun, weights: Weights, enter: Enter):
    """The tracker as an observer; weights' gradients are labelled as an optimiser step begins, while they are alive."""

    def observe(phase: str):
        enter(phase)
        if phase == "optimiser":
            _label_gradients(tracker, run, weights)
        return tracker.observe(phase)

    return observe


def _label_gradients(tracker: Tracker, run: Run | RewardRun, weights: Weights) -> None:
    """Those of `weights`, and of the networks' now: copies that a delayed plan samples with have gradients, too. Where
    the denoiser is sharded its weights are now gathered ones."""
    now = list(_weights(run))
    tracker.label(((module, weight.grad) for module, weight in (*weights, *now)), "gradients")
    if isinstance(run, Run) and is_sharded(run.backbone.denoiser):
        tracker.label(now, "parameters")


def _weights(run: Run | RewardRun, with_buffers: bool = False) -> Iterator[tuple[str, Tensor]]:
    """Weights, and buffers if asked for, of every network, each with the module that owns it."""
    for name, module in named_modules(run.networks()):
        yield from ((name, weight) for weight in module.parameters(recurse=False))
        if with_buffers:
            yield from ((name, buffer) for buffer in module.buffers(recurse=False))


def _optimiser_state(run: Run | RewardRun) -> Iterator[tuple[str, Tensor]]:
    """The optimiser's state that lives on the device (step counts may not), each with the module whose weight it is
    about."""
    modules = {weight: module for module, weight in _weights(run)}
    for weight, slots in run.updater.optimizer.state.items():
        yield from ((modules.get(weight, ""), x) for x in slots.values() if torch.is_tensor(x) and x.dim() > 0)
