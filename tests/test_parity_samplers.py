"""The samplers are those of the published implementations: their recorded trajectories, and diffusers itself where
installed."""

import math
import re

import pytest
import torch
from parity.vectors import deviation, given, load, randn

from methods.errors import InputError
from methods.samplers import (
    LCM_STEPS,
    MOTIONLCM_V2,
    PREDICTION_TYPES,
    Sampler,
    alphas_cumprod,
    cosine_alphas,
    ddim,
    ddpm,
    diffusion,
    flow,
    lcm,
    leading,
    spaced,
)

DDIM_CASES = ["ddim10", "ddim20", "ddim50", "ddim50_sample"]
OTHERS = {
    **{f"lcm_v1_{steps}": lcm(steps) for steps in (1, 2, 4)},
    **{f"lcm_v2_{steps}": lcm(steps, MOTIONLCM_V2) for steps in (1, 2, 4)},
    "flow_euler_50_shift1": flow(50),
    "flow_euler_10_shift3": flow(10, shift=3.0),
}


def of_mdm(timesteps: list[int], train_steps: int, eta: float) -> Sampler:
    return diffusion(timesteps, cosine_alphas(train_steps), 1.0, eta, "sample")


MDM_TRAJECTORIES = {
    "traj_steps50_p_sample": ddpm(50),
    "traj_steps50_ddim": ddpm(50, eta=0.0),
    "traj_steps1000_ddim50_p_sample": of_mdm(leading(50, 1000), 1000, eta=1.0),
    "traj_steps1000_ddim50_ddim": of_mdm(leading(50, 1000), 1000, eta=0.0),
}
MDM_SCHEDULES = {
    "coef_steps50": ddpm(50),
    "coef_steps1000": ddpm(1000),
    "coef_steps1000_respaced50": of_mdm(spaced(50, 1000), 1000, eta=1.0),
    "coef_steps1000_ddim50": of_mdm(leading(50, 1000), 1000, eta=1.0),
}


def test_every_published_case_is_tested():
    assert sorted(load("samplers").cases) == sorted(
        [*DDIM_CASES, *OTHERS, "noise_schedule", "add_noise", "lcm_boundary"]
    )
    assert sorted(load("mdm_diffusion").cases) == sorted([*MDM_TRAJECTORIES, *MDM_SCHEDULES, "q_sample_50"])


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


def trajectory(sampler: Sampler, name: str, shape, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Every state and every one-step prediction of a whole trajectory, of the named outputs and noises."""
    x = randn(f"{name}.x_T", shape)
    states, predictions = [], []
    for index in range(len(sampler)):
        out = scale * randn(f"{name}.out.{index}", shape) + 0.1 * x
        noise = randn(f"{name}.z.{index}", shape) if sampler[index].noise else None
        predictions.append(sampler.x0_hat(x, out, index))
        x = sampler.step(x, out, index, noise)
        states.append(x)
    return torch.stack(states), torch.stack(predictions)


@pytest.mark.parametrize("name", [*DDIM_CASES, *OTHERS])
def test_trajectory(name):
    vectors = load("samplers")
    inputs = vectors.cases[name]["inputs"]
    sampler = OTHERS.get(name) or ddim(inputs["num_inference_steps"], inputs["eta"], inputs["prediction_type"])
    states, predictions = trajectory(sampler, inputs["name"], (2, 1, 8), 0.8)
    tolerance = vectors.meaning["tolerance"]
    assert deviation(states, vectors.output(name, "x"), tolerance) <= 1
    if name.startswith("flow"):  # which has no prediction recorded: the last is where its last step leads
        assert deviation([*(c.sigma for c in sampler.table), 0.0], vectors.output(name, "sigmas"), tolerance) <= 1
        torch.testing.assert_close(predictions[-1], states[-1])
    else:
        assert deviation(predictions, vectors.output(name, "x0_hat"), tolerance) <= 1


@pytest.mark.parametrize("name", OTHERS)
def test_timesteps_of_lcm_and_flow(name):
    expected = load("samplers").output(name, "timesteps")
    assert [c.timestep for c in OTHERS[name].table] == pytest.approx(expected.tolist(), rel=1e-6)
    assert [c.next_timestep for c in OTHERS[name].table] == [*(c.timestep for c in OTHERS[name].table[1:]), -1]


def test_boundary_condition_of_lcm():
    """c_skip and c_out, as x̂_0's coefficients imply them: x̂_0 = c_skip x + c_out (x - √(1-ᾱ) ε) / √ᾱ."""
    vectors = load("samplers")
    skips, outs = [], []
    for timestep in vectors.output("lcm_boundary", "t").tolist():
        (c,) = lcm(1, {1: (timestep,)}).table
        outs.append(-c.x0_out * c.signal / c.sigma)
        skips.append(c.x0_x - outs[-1] / c.signal)
    assert deviation(skips, vectors.output("lcm_boundary", "c_skip"), vectors.meaning["tolerance"]) <= 1
    assert deviation(outs, vectors.output("lcm_boundary", "c_out"), vectors.meaning["tolerance"]) <= 1


@pytest.mark.parametrize("name", MDM_TRAJECTORIES)
def test_trajectory_of_mdm(name):
    """Ancestral and deterministic, over the 50 steps of its newer checkpoint and 50 of the older one's 1,000."""
    vectors = load("mdm_diffusion")
    inputs, sampler = vectors.cases[name]["inputs"], MDM_TRAJECTORIES[name]
    states, predictions = trajectory(sampler, inputs["name"], inputs["shape"], 0.5)
    assert [c.timestep for c in sampler.table] == vectors.output(name, "model_timesteps").tolist()
    assert deviation(states, vectors.output(name, "x"), vectors.meaning["tolerance"]) <= 1
    assert deviation(predictions, vectors.output(name, "pred_xstart"), vectors.meaning["tolerance"]) <= 1


@pytest.mark.parametrize("name", MDM_SCHEDULES)
def test_schedule_of_mdm(name):
    """The cosine schedule and the posterior that the ancestral sampler draws from, of every step."""
    vectors = load("mdm_diffusion")
    table = MDM_SCHEDULES[name].table[::-1]  # published by rising timestep
    assert [c.timestep for c in table] == vectors.output(name, "timestep_map").tolist()
    alphas = [c.signal**2 for c in table]
    got = {
        "alphas_cumprod": alphas,
        "alphas_cumprod_prev": [1.0, *alphas[:-1]],
        "betas": [1 - a / before for a, before in zip(alphas, [1.0, *alphas[:-1]], strict=True)],
        "sqrt_alphas_cumprod": [c.signal for c in table],
        "sqrt_one_minus_alphas_cumprod": [c.sigma for c in table],
        "sqrt_recip_alphas_cumprod": [1 / c.signal for c in table],
        "sqrt_recipm1_alphas_cumprod": [c.sigma / c.signal for c in table],
        "posterior_mean_coef1": [c.next_out for c in table],
        "posterior_mean_coef2": [c.next_x for c in table],
        "posterior_variance": [c.noise**2 for c in table],
        # Of the last step, which draws nothing, it is that of the step before.
        "posterior_log_variance_clipped": [2 * math.log(c.noise) for c in (table[1], *table[1:])],
    }
    assert sorted([*got, "timestep_map"]) == sorted(vectors.cases[name]["outputs"])
    for output, values in got.items():
        assert deviation(values, vectors.output(name, output), {"atol": 1e-12, "rtol": 1e-9}) <= 1, output


def test_forward_process_of_mdm():
    vectors = load("mdm_diffusion")
    inputs = vectors.cases["q_sample_50"]["inputs"]
    x0, noise = given(inputs["x0"]), given(inputs["noise"])
    index = {c.timestep: i for i, c in enumerate(ddpm(50).table)}
    noised = [ddpm(50).add_noise(x0[row], noise[row], index[t]) for row, t in enumerate(inputs["t"])]
    assert deviation(torch.stack(noised), vectors.output("q_sample_50", "x_t"), vectors.meaning["tolerance"]) <= 1


def test_few_steps_of_mdm_are_spread_over_its_newer_checkpoint_and_many_over_the_older():
    for steps, last in ((1, 49), (10, 49), (50, 49), (51, 999), (1000, 999)):
        timesteps = [c.timestep for c in ddpm(steps).table]
        assert len(set(timesteps)) == steps
        assert timesteps == sorted(timesteps, reverse=True)
        assert (timesteps[0], timesteps[-1]) == (last, last if steps == 1 else 0)
        assert ddpm(steps)[steps - 1].next_out == 1, "it ends in x̂_0"


@pytest.mark.parametrize("sampler", [ddim(7), ddim(7, 1.0, "v_prediction"), ddpm(9), flow(5, shift=2.0)], ids=repr)
def test_a_perfect_model_is_led_to_its_x0(sampler):
    """From any state on the way, the right output gives back x_0, and one step without noise leads to where the
    forward process, of the same ε, has the next state."""
    x0, noise = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for index, c in enumerate(sampler.table):
        x = sampler.add_noise(x0, noise, index)
        out = (x0 - c.x0_x * x) / c.x0_out
        torch.testing.assert_close(sampler.x0_hat(x, out, index), x0)
        if index + 1 < len(sampler) and not sampler.stochastic:
            torch.testing.assert_close(sampler.step(x, out, index), sampler.add_noise(x0, noise, index + 1))


def test_which_samplers_draw_noise():
    drawn = [ddpm(2), ddpm(50), ddim(2, 0.5), lcm(2), lcm(4, MOTIONLCM_V2)]
    assert all(sampler.stochastic for sampler in drawn)
    assert not any(sampler.stochastic for sampler in (ddpm(50, eta=0.0), ddpm(1), ddim(50), lcm(1), flow(50)))


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


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
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


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_ddpm_is_that_of_diffusers(prediction_type):
    """Every tenth of 1,000 steps on the cosine schedule, with its noise."""
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", clip_sample=False, prediction_type=prediction_type
    )
    exact = torch.tensor(cosine_alphas(1000), dtype=torch.float64)
    torch.testing.assert_close(scheduler.alphas_cumprod.double(), exact, atol=1e-6, rtol=1e-3)
    scheduler.alphas_cumprod = exact
    scheduler.set_timesteps(1000)
    sampler = ddpm(1000, prediction_type=prediction_type)
    assert [c.timestep for c in sampler.table] == scheduler.timesteps.tolist()
    for index in range(9, 1000, 10):
        x, out = torch.randn(2, 2, 5, generator=torch.Generator().manual_seed(index), dtype=torch.float64)
        noise = torch.randn(2, 5, generator=torch.Generator().manual_seed(index), dtype=torch.float64)
        generator = torch.Generator().manual_seed(index)
        published = scheduler.step(out, scheduler.timesteps[index], x, generator=generator)
        ours = sampler.step(x, out, index, noise if sampler[index].noise else None)
        torch.testing.assert_close(ours, published.prev_sample, atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(sampler.x0_hat(x, out, index), published.pred_original_sample, atol=0, rtol=1e-9)


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("steps", [1, 3, 4, 7, 48, LCM_STEPS])
def test_lcm_is_that_of_diffusers(steps, prediction_type):
    """Whose boundary condition is float32."""
    diffusers = pytest.importorskip("diffusers")
    params = load("samplers").meaning["configs"]["lcm_v1"]["params"]
    scheduler = diffusers.LCMScheduler(**params, prediction_type=prediction_type)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.set_timesteps(steps)
    sampler = lcm(steps, prediction_type=prediction_type)
    assert [c.timestep for c in sampler.table] == scheduler.timesteps.tolist()
    for index in range(steps):
        x, out = torch.randn(2, 2, 5, generator=torch.Generator().manual_seed(index), dtype=torch.float64)
        noise = torch.randn(2, 5, generator=torch.Generator().manual_seed(index), dtype=torch.float64)
        generator = torch.Generator().manual_seed(index)
        published = scheduler.step(out, scheduler.timesteps[index], x, generator=generator)
        ours = sampler.step(x, out, index, noise if sampler[index].noise else None)
        torch.testing.assert_close(ours, published.prev_sample, atol=1e-7, rtol=1e-6)
        torch.testing.assert_close(sampler.x0_hat(x, out, index), published.denoised, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [1, 2, 28])
def test_flow_is_that_of_diffusers(steps, shift):
    """Which calculates in float32."""
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(steps)
    sampler = flow(steps, shift)
    assert [c.timestep for c in sampler.table] == pytest.approx(scheduler.timesteps.tolist(), rel=1e-6)
    for index in range(steps):
        x, out = torch.randn(2, 2, 5, generator=torch.Generator().manual_seed(index))
        published = scheduler.step(out, scheduler.timesteps[index], x).prev_sample
        torch.testing.assert_close(sampler.step(x, out, index), published, atol=1e-6, rtol=1e-5)


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


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ddpm(1001), "steps must be 1 to 1000, not 1001"),
        (lambda: flow(0), "steps must be 1 to 1000, not 0"),
        (lambda: lcm(51), "steps must be 1 to 50, not 51"),
        (lambda: lcm(3, MOTIONLCM_V2), "steps must be one of 1, 2, 4, not 3"),
        (lambda: lcm(1, prediction_type="x0"), "unknown prediction type 'x0'"),
    ],
)
def test_a_number_of_steps_that_a_sampler_cannot_take_is_one_sentence(make, says):
    with pytest.raises(InputError, match=f"^{says}"):
        make()
