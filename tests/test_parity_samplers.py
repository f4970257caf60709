"""DDIM is the published implementations' DDIM: their recorded trajectories, and diffusers itself where installed."""

import re

import pytest
import torch
from parity.vectors import deviation, given, load, randn

from methods.errors import InputError
from methods.samplers import alphas_cumprod, ddim

DDIM_CASES = ["ddim10", "ddim20", "ddim50", "ddim50_sample"]


def test_every_published_ddim_case_is_tested():
    assert sorted(load("samplers").cases) == sorted([*DDIM_CASES, "noise_schedule", "add_noise"])


@pytest.fixture(params=DDIM_CASES)
def case(request):
    """The case's name, its inputs, and our sampler for them."""
    inputs = load("samplers").cases[request.param]["inputs"]
    return request.param, inputs, ddim(inputs["num_inference_steps"], inputs["eta"], inputs["prediction_type"])


def test_timesteps(case):
    name, _, sampler = case
    vectors = load("samplers")
    assert [c.timestep for c in sampler.table] == vectors.output(name, "timesteps").tolist()
    # After the last step the published code counts on to a negative timestep (1 - T's stride), of which it uses only
    # that it is negative; ours is -1 there, "clean". Before that both name the next call's timestep.
    published = vectors.output(name, "prev_timesteps").tolist()
    assert [c.next_timestep for c in sampler.table[:-1]] == published[:-1]
    assert published[-1] < 0
    assert sampler.table[-1].next_timestep == -1


def test_noise_levels(case):
    """ᾱ before and after every step, as the coefficients imply them."""
    name, inputs, sampler = case
    vectors = load("samplers")
    tolerance = vectors.meaning["tolerance"]
    assert deviation([c.signal**2 for c in sampler.table], vectors.output(name, "alpha_bar_t"), tolerance) <= 1
    assert deviation([1 - c.sigma**2 for c in sampler.table], vectors.output(name, "alpha_bar_t"), tolerance) <= 1
    # Without noise, x' = √ᾱ' x̂_0 + √(1 - ᾱ') ε̂: with x̂_0 = 0 and ε̂ = 1 the next state is √(1 - ᾱ').
    following = []
    for index, c in enumerate(sampler.table):
        x, out = (c.sigma, 1.0) if inputs["prediction_type"] == "epsilon" else (c.sigma, 0.0)
        following.append(1 - sampler.step(x, out, index) ** 2)
    assert deviation(following, vectors.output(name, "alpha_bar_prev"), tolerance) <= 1


def test_trajectory(case):
    """Every state and every one-step prediction of a whole trajectory."""
    name, inputs, sampler = case
    vectors = load("samplers")
    x = randn(f"{inputs['name']}.x_T", (2, 1, 8))
    states, predictions = [], []
    for index in range(len(sampler)):
        out = 0.8 * randn(f"{inputs['name']}.out.{index}", x.shape) + 0.1 * x
        predictions.append(sampler.x0_hat(x, out, index))
        x = sampler.step(x, out, index)
        states.append(x)
    tolerance = vectors.meaning["tolerance"]
    assert deviation(torch.stack(states), vectors.output(name, "x"), tolerance) <= 1
    assert deviation(torch.stack(predictions), vectors.output(name, "x0_hat"), tolerance) <= 1


def test_noise_schedule():
    vectors = load("samplers")
    tolerance = vectors.meaning["tolerance"]
    alphas = alphas_cumprod()
    assert deviation(alphas, vectors.output("noise_schedule", "alphas_cumprod"), tolerance) <= 1
    betas = 1 - alphas.double() / torch.cat([torch.ones(1), alphas[:-1]]).double()
    assert deviation(betas, vectors.output("noise_schedule", "betas"), tolerance) <= 1
    final = 1 - ddim(50).step(ddim(50)[49].sigma, 1.0, 49) ** 2
    assert deviation(final, vectors.output("noise_schedule", "final_alpha_cumprod"), tolerance) <= 1


def test_add_noise():
    """The forward process. A DDIM step never starts at t = 0, so there the schedule alone can be compared."""
    vectors = load("samplers")
    inputs = vectors.cases["add_noise"]["inputs"]
    x0, noise = given(inputs["x0"]), given(inputs["noise"])
    sampler = ddim(999)
    index = {c.timestep: i for i, c in enumerate(sampler.table)}
    first = alphas_cumprod()[0]
    assert inputs["t"] == [0, 500, 999]
    got = torch.stack(
        [
            first**0.5 * x0[0] + (1 - first) ** 0.5 * noise[0],
            sampler.add_noise(x0[1], noise[1], index[500]),
            sampler.add_noise(x0[2], noise[2], index[999]),
        ]
    )
    assert deviation(got, vectors.output("add_noise", "x_t"), vectors.meaning["tolerance"]) <= 1


def published_scheduler(**changes):
    """diffusers' scheduler in MLD's configuration. Its ᾱ are made float64, value for value, so that it calculates in
    float64 and the comparison is sharp: in float32 its own rounding of 1 - ᾱ reaches 1e-5 at the smallest timesteps."""
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(**{**load("samplers").meaning["configs"]["ddim"]["params"], **changes})
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.final_alpha_cumprod = scheduler.final_alpha_cumprod.double()
    return scheduler


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample"])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 3, 7, 50, 999])
def test_ddim_is_that_of_diffusers(steps, eta, prediction_type):
    """Every step of a noisy or noiseless trajectory, for step counts that divide 1000 and that do not."""
    scheduler = published_scheduler(prediction_type=prediction_type)
    scheduler.set_timesteps(steps)
    sampler = ddim(steps, eta, prediction_type)
    assert [c.timestep for c in sampler.table] == scheduler.timesteps.tolist()
    generator = torch.Generator().manual_seed(steps)
    for index in range(0, steps, max(1, steps // 100)):
        x, out, noise = torch.randn(3, 2, 1, 8, generator=generator, dtype=torch.float64)
        timestep = scheduler.timesteps[index]
        published = scheduler.step(out, timestep, x, eta=eta, variance_noise=noise)  # ignored at eta 0
        ours = sampler.step(x, out, index, noise if sampler[index].noise else None)
        torch.testing.assert_close(ours, published.prev_sample, atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(sampler.x0_hat(x, out, index), published.pred_original_sample, atol=0, rtol=1e-10)
        assert bool(sampler[index].noise) == bool(eta)


@pytest.mark.parametrize("steps", [10, 50])
def test_noise_added_at_a_step_is_that_of_diffusers(steps):
    """DRaFT-LV's re-noising is the scheduler's forward process at a step's timestep."""
    scheduler = published_scheduler()
    sampler = ddim(steps)
    x0, noise = torch.randn(2, 3, 1, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for index, c in enumerate(sampler.table):
        expected = scheduler.add_noise(x0, noise, torch.full((3,), c.timestep))
        torch.testing.assert_close(sampler.add_noise(x0, noise, index), expected, atol=1e-10, rtol=1e-10)


def test_one_table_serves_every_precision():
    """Coefficients are numbers: a float32 trajectory follows the float64 one, and keeps its type."""
    sampler = ddim(50)
    x = randn("x", (2, 1, 8)).double()
    single = x.float()
    for index in range(50):
        out = randn(str(index), x.shape)
        x, single = sampler.step(x, out.double(), index), sampler.step(single, out, index)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), x, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"steps": 0}, "steps must be 1 to 999, not 0"),
        ({"steps": 1000}, "steps must be 1 to 999, not 1000"),
        ({"steps": 50, "eta": -0.5}, "eta must be between 0 (ODE) and 1 (ancestral), not -0.5"),
        (
            {"steps": 50, "prediction_type": "velocity"},
            "unknown prediction type 'velocity': choose one of epsilon, sample, v_prediction",
        ),
    ],
)
def test_a_bad_option_is_named_with_its_range(options, says):
    with pytest.raises(InputError, match=f"^{re.escape(says)}$"):
        ddim(**options)
