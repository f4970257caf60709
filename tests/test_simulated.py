"""The simulator is exact: against real CPU runs, the CPU allocator, the reference figures, and itself."""

import os
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.profiler import ProfilerActivity, profile, record_function

from bench.cases import Case, at
from bench.meters import host, lowering, meta_cache, simulated, tracked
from bench.meters.lowering import cuda_lowering, dropout
from bench.reward_cases import RewardCase
from bench.reward_setup import prepare
from bench.setup import draw_plan
from methods.rollout import PHASES

METHODS = [
    "draft",
    "draft:k=1",
    "draft-lv",
    "alignprop",
    "alignprop:truncation=bernoulli,p=0.5",
    "drtune:k=2",
    "drtune:k=2,m=2",
    "refl:m=2",
    "easytune",
    "easytune:first=1,last=2",
    "easytune:score=noisy",
    "easytune:mode=chain",
    "easytune:mode=chain-released",
]
KINDS = ["draft", "draft-lv", "drtune:k=2", "easytune", "easytune:score=noisy", *METHODS[-2:]]
"""Those among them whose steps are of different kinds, as methods.plan knows them; of the others each is one of these
with more steps or fewer, and among the slow tests where a backbone, a profile or a lever is what is tested."""


def among(method: str, *others: object):
    """A test's parameters: slow for a method that is not of KINDS."""
    return pytest.param(method, *others, marks=() if method in KINDS else pytest.mark.slow)


TINY_REWARD = RewardCase(reward="spm-tiny", batch=12, frames=16)


def tiny(method: str, **changes) -> Case:
    return Case(method, **{"backbone": "mld-tiny", "steps": 4, "batch": 3, "frames": 7, **changes})


def bytes_of(reading) -> dict:
    """A reading without its timeline, whose positions count events: a fused and a looped operation differ there."""
    return {name: value for name, value in asdict(reading).items() if name not in ("timeline", "process")}


@pytest.mark.parametrize(
    ("method", "profile"),
    [
        *((method, "paper") for method in METHODS),
        *(among(method, profile) for method in METHODS for profile in ("frozen", "paper+train_mode=false")),
    ],
)
def test_equal_to_a_real_cpu_run_to_the_byte(method, profile):
    """Without the CUDA lowering, meta tensors and real ones give one and the same reading."""
    case = tiny(method, profile=profile)
    assert bytes_of(tracked.read(case, "meta", with_data=False)) == bytes_of(tracked.read(case, "cpu"))


@pytest.mark.parametrize("changes", [{}, {"spl": True}, {"spl": True, "pool": 48}], ids=str)
def test_the_rewards_training_equals_a_real_cpu_run_to_the_byte(changes):
    case = replace(TINY_REWARD, **changes)
    assert bytes_of(tracked.read(case, "meta", with_data=False)) == bytes_of(tracked.read(case, "cpu"))


def test_the_simulated_row_of_the_rewards_training_equals_the_host_row():
    """Without dropout, which CUDA composes otherwise; a host run has no allocator of CUDA's."""
    case = replace(TINY_REWARD, spl=True, profile="paper+train_mode=false")
    simulated_row = replace(simulated.measure(case), allocated=None, allocated_phases={}, reserved=None)
    assert bytes_of(simulated_row) == bytes_of(host.measure(case))


def test_fused_attention_equals_a_real_cpu_run_to_the_byte():
    """On fake CPU tensors, which take the CPU's kernel: meta tensors would take another."""
    case = tiny("draft:k=3", frames=60, profile="paper+attention=fused+train_mode=false")
    with FakeTensorMode():
        reading = tracked.read(case, "cpu", with_data=False)
    assert bytes_of(reading) == bytes_of(tracked.read(case, "cpu"))


def test_equal_to_a_real_cpu_run_at_the_published_size():
    case = Case("drtune:k=1", steps=2, batch=2, frames=40)
    assert bytes_of(tracked.read(case, "meta", with_data=False)) == bytes_of(tracked.read(case, "cpu"))


def test_remembered_answers_change_nothing(monkeypatch):
    """The meta cache against every shape function asked anew, timelines included."""
    profiles = {"draft": "paper", "easytune:score=noisy": "paper", "drtune:k=2": "paper+attention=fused"}
    cases = [tiny(method, steps=2, profile=profile) for method, profile in profiles.items()]
    with_cache = [simulated.measure(case) for case in cases]
    monkeypatch.setattr(meta_cache, "MOST_ANSWERS", 50)
    assert simulated.measure(cases[0]) == with_cache[0], "forgetting changes nothing either"
    monkeypatch.setattr(meta_cache.MetaCache, "__call__", lambda self, func, args, kwargs: func(*args, **kwargs))
    assert [simulated.measure(case) for case in cases] == with_cache


def test_operators_that_the_tracker_passes_over_allocate_nothing(monkeypatch):
    """Against every operator seen, timelines included."""
    cases = [tiny("draft"), tiny("easytune:score=noisy"), tiny("drtune:k=2"), TINY_REWARD]
    without = [simulated.measure(case) for case in cases]
    monkeypatch.setattr(lowering, "UNSEEN", ())
    assert [simulated.measure(case) for case in cases] == without


NUMBER_BYTES = 8
"""Of a number that autograd keeps as a tensor of its own; on a CPU in every run."""


def allocator_log(case: Case | RewardCase) -> dict[str, int]:
    """By phase: the most bytes that a real run's update has allocated since it began, by the CPU allocator's own log of
    every allocation and free (as torch.profiler hands it out), each rounded to 512, numbers left out."""
    run = prepare(case, "cpu")
    run.warm_up()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run.update(phases=record_function)
    events = sorted(profiler.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    spans = [(e.start_ns(), e.start_ns() + e.duration_ns(), e.name()) for e in events if e.name() in PHASES]
    live, peaks = 0, {}
    for event in events:
        size, at = event.nbytes(), event.start_ns()
        if event.name() == "[memory]" and abs(size) > NUMBER_BYTES:
            live += (-(-abs(size) // 512) * 512) * (1 if size > 0 else -1)
            for start, end, phase in spans:
                if start <= at <= end:
                    peaks[phase] = max(peaks.get(phase, 0), live)
    return peaks


@pytest.mark.parametrize(
    "case",
    [
        *(pytest.param(tiny(method), marks=among(method).marks) for method in METHODS),
        *(TINY_REWARD, replace(TINY_REWARD, spl=True)),
    ],
    ids=lambda c: c.method,
)
def test_equal_to_the_allocators_log_but_for_scalars_and_kernels(case):
    """A second oracle, which no dispatch mode has a part in. It lacks scalars (of at most eight bytes, 512 rounded: a
    loss, a norm) and has what a kernel uses inside: a reduced loss holds every element twice."""
    reading = tracked.read(case, "meta", with_data=False)
    log = allocator_log(case)
    reward = isinstance(case, RewardCase)
    inside = 4 * case.batch * case.frames * 11 if reward else 0
    for phase, peak in log.items():
        missing = peak - (reading.phases[phase] - reading.resident)
        assert -512 * (16 if reward else 4) <= missing <= inside, phase


def test_the_same_bytes_in_fresh_processes():
    """Neither hash seeds nor thread counts nor what ran before change a byte."""
    program = (
        "from bench.cases import Case; from bench.meters import simulated; import hashlib, msgspec;"
        "r = simulated.measure(Case('drtune:k=2,m=2', 'mld-tiny', steps=5, batch=8, frames=20));"
        "print(r.peak, hashlib.sha256(msgspec.json.encode(r)).hexdigest())"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": str(seed), "OMP_NUM_THREADS": str(threads)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed, threads in ((0, 1), (12345, 3))
    ]
    printed = {process.communicate(timeout=300)[0] for process in running}
    assert len(printed) == 1
    case = tiny("drtune:k=2,m=2", steps=5, batch=8, frames=20)
    simulated.measure(tiny("easytune"))
    assert printed.pop().startswith(f"{simulated.measure(case).peak} ")


def peaks(method: str, totals: list[int]) -> list[int]:
    return [simulated.measure(Case(method.format(k=total // 2), steps=total)).peak for total in totals]


@pytest.mark.parametrize("method", ["draft", "alignprop:truncation=fixed", "drtune:k={k}"])
def test_peak_is_affine_in_the_steps_that_are_held(method):
    first, second, third = peaks(method, [4, 6, 8])
    assert third - second == second - first > 0


@pytest.mark.parametrize("method", ["easytune", "refl:m=1", "draft:k=1", "draft-lv"])
def test_peak_does_not_depend_on_the_steps_where_one_call_is_held(method):
    assert len(set(peaks(method, [3, 4, 9]))) == 1


REFERENCE = {  # bytes: the released modules, batch 256, 196 frames, 50 steps, 24 text tokens, simulated by others
    ("easytune", "paper"): 22298651136,
    ("draft", "paper"): 36075060736,
    ("alignprop:truncation=fixed", "paper"): 29013659136,
    ("drtune", "paper"): 24776818176,
    ("easytune", "frozen"): 17617390080,
    ("draft", "frozen"): 31457736704,
    ("alignprop:truncation=fixed", "frozen"): 24396335104,
    ("drtune", "frozen"): 20159494144,
}
COPIES = {"paper": 124 * 2**20, "frozen": 94 * 2**20}
"""One more copy of the transformers' matrices in the reference: its recording lost the identity of storages over
deepcopy."""


def unfrozen_gradients() -> int:
    """Bytes of the reward's accumulated gradients. The reference's single updates began without them."""
    paper, frozen = (
        tracked.read(Case(steps=1, batch=1, profile=p), "meta", with_data=False) for p in ("paper", "frozen")
    )
    return paper.resident - frozen.resident


class DropoutLoweredOutsideAttention(TorchFunctionMode):
    """The lowering that the reference figures were made with: a torch-function mode, which is off inside
    multi_head_attention_forward, so that the masks of the attention's own dropout stay float."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.nn.functional.dropout:
            return dropout(*args, kwargs["p"], kwargs["training"])
        return func(*args, **(kwargs or {}))


def attention_masks(case: Case) -> int:
    """Bytes by which float masks of the attention dropouts exceed bool ones, at the peak: those of the reward's two
    encoders, and of every denoiser call that is held (VAE in eval mode: none)."""
    heads, layers, tokens = 4, 9, 24
    sequences = [(case.frames + 1, case.batch), (tokens + 1, case.batch)]
    held = draw_plan(case).held
    sequences += [(3, 2 * case.batch)] * held
    if case.profile == "frozen":
        del sequences[1]  # nothing in the text encoder needs a gradient then, and nothing is kept
    rounded = 0
    for length, batch in sequences:
        elements = batch * heads * length * length
        rounded += layers * (-(-4 * elements // 512) * 512 - -(-elements // 512) * 512)
    return rounded


def incomplete(case: Case) -> int:
    """The peak by the lowering of the reference figures."""
    with DropoutLoweredOutsideAttention():
        return tracked.read(case, "meta", with_data=False).peak


def incomplete_at_all_steps(method: str, profile: str) -> int:
    """The same at 50 steps, from few: it does not depend on the steps but on the calls held, and grows by as many bytes
    with each (tests above)."""
    held = draw_plan(Case(method)).held
    if held == 1:
        return incomplete(Case(method, profile=profile, steps=3))
    few = [Case(at(method, steps), profile=profile, steps=steps) for steps in (10, 15)]
    (low, least), (high, most) = ((draw_plan(case).held, incomplete(case)) for case in few)
    return least + (most - least) // (high - low) * (held - low)


@pytest.mark.parametrize(("method", "profile"), REFERENCE)
def test_reference_figures(method, profile):
    """Within 0.03% when the incomplete lowering is repeated and what else is known to be off is put right; the rest are
    inputs that the reference keeps, some 8 to 16 KiB a prompt."""
    reference = REFERENCE[method, profile] - COPIES[profile]
    if profile == "paper" and method != "easytune":
        reference += unfrozen_gradients()
    assert 0 <= reference - incomplete_at_all_steps(method, profile) <= 0.0003 * reference


@pytest.mark.parametrize("profile", ["paper", "frozen"])
@pytest.mark.parametrize("method", ["easytune", "draft", "drtune:k=2"])
def test_the_complete_lowering_is_lower_by_the_attentions_masks(method, profile):
    """One byte an element on CUDA, not four. In a few steps: a further one held adds the same bytes (a test above)."""
    case = Case(method, profile=profile, steps=5)
    assert incomplete(case) - simulated.measure(case).peak == pytest.approx(attention_masks(case), rel=0.02)


def graph(out: torch.Tensor) -> set[str]:
    """Names of the nodes of its graph."""
    seen, nodes = set(), [out.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is not None and node not in seen:
            seen.add(node)
            nodes += [next_node for next_node, _ in node.next_functions]
    return {node.name() for node in seen}


class TestLowering:
    def test_dropout_masks_are_one_byte_inside_attention_too(self):
        attention = torch.nn.MultiheadAttention(8, 2, dropout=0.5)
        x = torch.randn(5, 3, 8)
        with cuda_lowering():
            out = attention(x, x, x)[0]
        assert "NativeDropoutBackward0" in graph(out)

    def test_fused_attention_takes_the_cuda_kernels(self):
        q = torch.empty(2, 4, 16, 8, device="meta", requires_grad=True)
        with cuda_lowering():
            assert (
                torch.nn.functional.scaled_dot_product_attention(q, q, q)
                .grad_fn.name()
                .startswith("ScaledDotProductEfficientAttention")
            )
            half = q.half()
            assert (
                torch.nn.functional.scaled_dot_product_attention(half, half, half)
                .grad_fn.name()
                .startswith("ScaledDotProductFlashAttention")
            )

    def test_it_is_undone(self):
        with pytest.raises(KeyError), cuda_lowering():
            raise KeyError
        x = torch.randn(4, requires_grad=True)
        assert torch.nn.functional.dropout(x).grad_fn.name() != "NativeDropoutBackward0"
        with torch.autocast("cpu"):
            assert torch.exp(x.bfloat16()).dtype == torch.bfloat16

    def test_torchs_cpp_code_takes_it_too(self):
        lstm = torch.nn.GRU(4, 4, num_layers=2, dropout=0.5)
        with cuda_lowering():
            out = lstm(torch.randn(3, 2, 4))[0]
        assert "NativeDropoutBackward0" in graph(out)

    def test_in_place_dropout_keeps_a_float_mask(self):
        """As on CUDA, where only the fused kernel, which is out of place, has a mask of bytes."""
        x = torch.randn(1024, device="meta", requires_grad=True)
        with cuda_lowering():
            y = x * 1.0
            out = torch.nn.functional.dropout(y, 0.5, inplace=True)
        assert out is y
        assert "NativeDropoutBackward0" not in graph(out)

    def test_eval_mode_and_p_0_drop_nothing(self):
        x = torch.randn(4)
        with cuda_lowering():
            assert torch.nn.functional.dropout(x, 0.5, training=False) is x
            assert torch.nn.functional.dropout(x, 0.0) is x


def test_levers_change_bytes_as_they_should():
    """Fused attention and bf16 save memory; so does freezing; dropout costs some."""
    peak = {
        profile: simulated.measure(tiny("draft:k=1", steps=2, batch=16, frames=60, profile=profile)).peak
        for profile in ("paper", "frozen", "paper+attention=fused", "paper+train_mode=false", "paper+precision=bf16")
    }
    assert all(peak[profile] < peak["paper"] for profile in peak if profile != "paper")
