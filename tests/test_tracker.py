"""The tracker counts what is alive, once, rounded, and knows when it died."""

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from bench.meters import meta_cache
from bench.meters.reading import TIMELINE_POINTS, by_category, by_phase, thin
from bench.meters.tracker import Tracker, run_as_is


def test_storages_are_counted_once_and_rounded_to_512_bytes():
    with Tracker() as tracker:
        x = torch.zeros(3)
        view, alias = x[:2], x.view(3)
        assert tracker.live == 512
        y = torch.zeros(129)
        assert tracker.live == 512 + 1024
    assert view.numel() + alias.numel() + y.numel() == 134


def test_a_storage_dies_with_its_last_alias():
    with Tracker() as tracker:
        x = torch.zeros(1024)
        view = x[:1]
        del x
        assert tracker.live == 4096
        del view
        assert tracker.live == 0
        assert tracker.peak == 4096


def test_what_autograd_keeps_counts_until_backward():
    with Tracker() as tracker:
        x = torch.ones(1024, requires_grad=True)
        loss = x.exp().sum()
        assert tracker.live >= 2 * 4096  # x, and the result that exp keeps for its backward
        loss.backward()
        del loss
        assert tracker.live == 2 * 4096  # x and its gradient


def test_tensors_from_before_the_tracker_do_not_count():
    x = torch.zeros(1024)
    with Tracker() as tracker:
        x.add_(1)
        x.view(-1)
        assert tracker.live in (0, 4096)  # an alias of x may be seen, but then it is x's storage, once
        y = x + 1
        assert tracker.peak - tracker.live == 0
    assert y.sum() == 2048 - 1024 + 1024


def test_peak_categories_and_split_add_up():
    with Tracker() as tracker:
        weight = torch.zeros(1024)
        tracker.label([("net.layer", weight)], "parameters")
        tracker.restart()
        with tracker.observe("rollout"):
            kept = torch.zeros(2048)
            torch.zeros(512)  # dies at once
        with tracker.observe("reward"):
            more = torch.zeros(256)
        with tracker.observe("backward"):
            gradient = torch.zeros(1024)
            tracker.label([("net.layer", gradient)], "gradients")
            torch.zeros(4096)
        del kept, more
    owners = tracker.at_peak()
    categories, split = by_category(owners), by_phase(owners)
    assert tracker.peak == 4096 + 8192 + 1024 + 4096 + 16384
    assert categories == {
        "parameters": 4096,
        "gradients": 4096,
        "optimiser state": 0,
        "activations": 8192 + 1024,
        "other": 16384,
    }
    assert sum(categories.values()) == tracker.peak
    assert split["rollout"]["activations"] == 8192
    assert split["reward"]["activations"] == 1024
    assert split["backward"] == {**dict.fromkeys(categories, 0), "gradients": 4096, "other": 16384}
    forward = 4096 + 8192
    assert tracker.phase_peaks == {"rollout": forward + 2048, "reward": forward + 1024, "backward": tracker.peak}


def test_allocations_are_exact_and_in_order():
    with Tracker() as tracker:
        a, dead, b = torch.zeros(3), torch.zeros(5), torch.zeros(4)
        del dead
        tracker.restart()
        with tracker.observe("rollout"):
            c = torch.zeros(129)
            torch.zeros(0)
        del a
    assert [(size, phase) for _, size, phase in tracker.allocations()] == [
        (12, "resident"),
        (16, "resident"),
        (516, "rollout"),
        (-12, ""),
    ]
    (first, *_), *_, (freed, *_) = tracker.allocations()
    assert first == freed
    assert len(b) + len(c) == 133


def test_restart_keeps_what_is_alive_and_forgets_the_peak():
    with Tracker() as tracker:
        x = torch.zeros(1024)
        torch.zeros(4096)
        tracker.restart()
        assert tracker.live == tracker.peak == 4096
        y = torch.zeros(128)
        assert tracker.peak == 4096 + 512
    assert max(size for _, size, _ in tracker.timeline()) == tracker.peak
    assert len(x) + len(y) == 1152


def test_thinning_a_timeline_keeps_its_extremes():
    levels = np.arange(5000) * 7919 % 4999
    kept = thin(levels)
    assert len(kept) <= TIMELINE_POINTS + 2
    assert {0, 4998} <= set(levels[kept])
    assert kept == sorted(kept)
    assert thin(levels[:10]) == list(range(10))


def peak_of(program) -> int:
    """Peak of the bytes of a program, the same on real tensors and on meta ones."""
    peaks = set()
    for device in ("cpu", "meta"):
        with Tracker(run_as_is if device == "cpu" else meta_cache.execute, device) as tracker:
            kept = program(device)
        peaks.add(tracker.peak)
        del kept
    assert len(peaks) == 1
    return peaks.pop()


def fan_in(device):
    x = torch.randn(1024, 1024, device=device, requires_grad=True)
    y = x * 2.0
    (y.exp().sum() + y.sin().sum()).backward()
    return x.grad


def picked(device):
    x = torch.randn(1024, 1024, device=device, requires_grad=True)
    x[torch.zeros(8, dtype=torch.long, device=device)].sum().backward()
    return x.grad


MIB = 2**20


def test_gradients_that_meet_are_added_in_place():
    """x, y, two terms of which one is being made, and what exp and sin keep: 4 MiB each."""
    with Tracker() as tracker:
        grad = fan_in("cpu")
    allocated = allocator_peak(lambda: fan_in("cpu"))
    assert abs(peak_of(fan_in) - allocated) <= 4096
    assert tracker.live >= grad.nbytes


def test_a_scattered_gradient_is_written_in_place():
    assert abs(peak_of(picked) - allocator_peak(lambda: picked("cpu"))) <= 4096
    assert peak_of(picked) < 9 * MIB  # x and its gradient, not a third of them


def allocator_peak(program) -> int:
    """By the CPU allocator's own log."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        kept = program()
    live = peak = 0
    events = sorted(profiler.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    for event in events:
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    del kept
    return peak


def test_python_functions_and_graphs_of_gradients_add_out_of_place():
    class Sum(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1.0

        @staticmethod
        def backward(ctx, grad):
            return grad * 2.0 + grad * 3.0

    with Tracker() as tracker:
        x = torch.zeros(1024, requires_grad=True)
        y = Sum.apply(x)
        y.backward(torch.ones(1024))
    assert tracker.peak == 6 * 4096  # x, y, grad, two products and their sum


@pytest.mark.parametrize(
    "grow",
    [
        lambda x: torch.cat([torch.zeros(512), torch.zeros(512)], out=x),
        lambda x: x.resize_(1024),
        lambda x: x.untyped_storage().resize_(4096),
    ],
    ids=["out", "resize_", "storage"],
)
def test_a_storage_that_grows(grow):
    with Tracker() as tracker:
        x = torch.zeros(0)
        grow(x)
        assert tracker.live == 4096
        tracker.restart()
        x.untyped_storage().resize_(0)
        assert tracker.live == 0
    assert [size for _, size, _ in tracker.allocations()] == [4096, -4096]


def test_new_memory_is_allocated_before_the_old_is_freed():
    with Tracker() as tracker:
        x = torch.zeros(1024)
        x.resize_(2048)
    assert tracker.peak == 4096 + 8192
    assert tracker.live == 8192


def test_sparse_gradients_are_their_indices_and_values():
    with Tracker() as tracker:
        table = torch.nn.Embedding(1000, 64, sparse=True)
        before = tracker.live
        table(torch.arange(128)).sum().backward()
        tracker.label([("table", table.weight.grad)], "gradients")
    assert tracker.live - before == 128 * 8 + 128 * 64 * 4
    assert by_category(tracker.at_peak())["gradients"] in (0, tracker.live - before)


def test_numbers_and_other_devices_do_not_count():
    """An optimiser's step counters are made as such numbers, and are on the CPU whatever the device."""
    with Tracker(device="meta") as tracker:
        kept = [torch.zeros(1024), torch.tensor(0.0), torch.zeros(1024, device="meta")]
    assert tracker.live == 4096
    with Tracker() as tracker:
        step = torch.tensor(0.0)
        step += 1
        assert tracker.live == 0
        total = torch.zeros(8).sum()
        assert tracker.live == 512
    assert len(kept) == 3
    assert total == 0
