"""The protocol shared by the two meters that count live tensors: simulated and host."""

from bench.cases import Case
from bench.meters.meta_cache import MetaCache
from bench.meters.reading import Reading
from bench.meters.tracker import Tracker, tensors_of
from bench.setup import Run, build
from methods.rollout import PHASES


def read(case: Case, device: str, with_data: bool = True) -> Reading:
    """Builds the case on `device`, warms it up, then reads a trajectory without gradients and one update.

    `with_data` false: on meta or fake tensors, which hold nothing.
    """
    tracker = Tracker(MetaCache()) if device == "meta" else Tracker()
    with tracker:
        run = build(case, device, with_data)
        run.warm_up()
        optimiser_state = tracker.label(tensors_of(run.updater.optimizer.state), "optimiser state")
        weights = [t for n in run.networks().values() for t in (*n.parameters(), *n.buffers())]
        parameters = tracker.label(weights, "parameters")
        tracker.restart()
        resident = tracker.live
        run.sample()
        sampling = tracker.peak
        tracker.restart()
        run.update(phases=_phases(tracker, run))
        _label_gradients(tracker, run)
    categories, split = tracker.at_peak()
    return Reading(
        peak=tracker.peak,
        resident=resident,
        sampling=sampling,
        parameters=parameters,
        optimiser_state=optimiser_state,
        phases={phase: tracker.phase_peaks.get(phase, 0) for phase in PHASES},
        categories=categories,
        split=split,
        timeline=tracker.timeline(),
    )


def _phases(tracker: Tracker, run: Run):
    """The tracker as an observer; weights' gradients are labelled as an optimiser step begins, while they are alive."""

    def observe(phase: str):
        if phase == "optimiser":
            _label_gradients(tracker, run)
        return tracker.observe(phase)

    return observe


def _label_gradients(tracker: Tracker, run: Run) -> None:
    tracker.label((p.grad for network in run.networks().values() for p in network.parameters()), "gradients")
