"""Measurements on the base model and its reward that claims of the paper rest on, without any training.

chain (C6): what of a gradient at x_0 arrives at an earlier state, by vector-Jacobian products through the sampler's
steps, and what of it reaches the denoiser's weights. similarity (C7): how like its clean self a noised motion is to the
reward, and how like it the one-step prediction made from it. noise (C8): what a score in the middle of denoising is
worth, and whether the reward still separates captions there, with its time token and without.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.alignment.evaluate import score
from bench.motion import metrics
from bench.records.types import Chain, Noise, Similarity
from bench.world import Prompts, World
from bench.world.check import posteriors
from methods import Batch, Sampler, generators
from methods.rollout import states


def chain(world: World, prompts: int = 16, steps: int = 50, seed: int = 0) -> Chain:
    """By step i = 0 (noisiest) to T - 1, over `prompts` trajectories on test prompts:

    - `timestep`: of the denoiser call
    - `coefficient`: root mean square of ‖(∂x_0/∂x_{i+1})ᵀ v‖ / ‖v‖ for random v: the chain coefficient of Corollary 1,
      the product of ∂x_{s+1}/∂x_s over all later steps
    - `coefficient_reward`: the same with the reward's gradient as v
    - `through_chain`: norm of this step's share of the denoiser's gradient when the reward of x_0 is backpropagated
      through all steps (DRaFT-T), ‖(∂x_{i+1}/∂θ)ᵀ (∂x_0/∂x_{i+1})ᵀ ∂R/∂x_0‖
    - `stepwise`: norm of the gradient of the reward of this step's x̂_0 (EasyTune)
    """
    chosen = world.prompts("test", prompts)
    batch = world.batch(chosen.texts, chosen.lengths)
    sampler = world.sampler(steps)
    generator = torch.Generator(world.device).manual_seed(seed)
    state = world.backbone.initial_state(batch, generator)
    path = list(states(world.backbone, sampler, batch, state))
    weights = list(world.backbone.denoiser.parameters())
    random = torch.randn(path[-1].shape, generator=generator, device=world.device)
    reward = _reward_gradient(world, batch, path[-1], seed)
    starts = {"coefficient": random, "coefficient_reward": reward}
    arrived = dict(starts)
    curves: dict[str, list[float]] = {name: [] for name in (*starts, "through_chain", "stepwise")}
    for index in reversed(range(steps)):
        x = path[index].requires_grad_()
        out = world.backbone.predict(x, sampler[index].timestep, batch)
        following, x0_hat = sampler.step(x, out, index), sampler.x0_hat(x, out, index)
        for name, start in starts.items():
            curves[name].append(_rms(arrived[name]) / _rms(start))
        gradient = _reward_gradient(world, batch, x0_hat.detach(), seed)
        curves["stepwise"].append(_norm(torch.autograd.grad(x0_hat, weights, gradient, retain_graph=True)))
        curves["through_chain"].append(
            _norm(torch.autograd.grad(following, weights, arrived["coefficient_reward"], retain_graph=True))
        )
        arrived = {
            name: torch.autograd.grad(following, x, cotangent, retain_graph=True)[0]
            for name, cotangent in arrived.items()
        }
    timesteps = [int(sampler[index].timestep) for index in range(steps)]
    return Chain(timestep=timesteps, **{name: values[::-1] for name, values in curves.items()})


def _reward_gradient(world: World, batch: Batch, latent: Tensor, seed: int) -> Tensor:
    """d mean reward / d latent. The reward draws samples: each time the same."""
    leaf = latent.detach().requires_grad_()
    with generators.forked(world.device):
        torch.manual_seed(seed)
        rewards = world.reward(world.backbone.decode(leaf, batch), batch)
    return torch.autograd.grad(rewards.mean(), leaf)[0]


def _rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


def _norm(gradients: Sequence[Tensor]) -> float:
    return float(torch.stack([g.norm() for g in gradients]).norm())


def similarity(world: World, motions: int = 64, steps: int = 50, seed: int = 0) -> Similarity:
    """By step i = 0 (noisiest) to T - 1, over generated test motions noised to the level of that step:

    - `timestep`, and `signal`: √ᾱ there
    - `noisy`, `predicted`: mean cosine similarity, in the reward's space, of the clean motion and the decoded noised
      latent, or the decoded one-step prediction made from it
    - `noisy_reward`, `predicted_reward`, and `clean_reward`: mean score against the caption
    - `other`: mean similarity of clean motions of different meanings (a floor, the same at every step)
    """
    chosen = world.prompts("test", motions)
    batch = world.batch(chosen.texts, chosen.lengths)
    sampler = world.sampler(steps)
    generator = torch.Generator(world.device).manual_seed(seed)
    with torch.no_grad():
        *_, clean = states(world.backbone, sampler, batch, world.backbone.initial_state(batch, generator))
        text = world.reward.encode_text(batch.tokens, batch.token_mask)[0]
        embedded = _embed(world, batch, clean)
        noise = torch.randn(clean.shape, generator=generator, device=world.device)
        rows = []
        for index in range(steps):
            noisy = sampler.add_noise(clean, noise, index)
            out = world.backbone.predict(noisy, sampler[index].timestep, batch)
            rows.append([_embed(world, batch, x) for x in (noisy, sampler.x0_hat(noisy, out, index))])
    pairs = F.cosine_similarity(embedded[:, None], embedded[None], dim=-1)
    meanings = chosen.meanings
    unequal = torch.tensor([[a != b for b in meanings] for a in meanings], device=world.device)
    constant = {"clean_reward": _likeness(text, embedded), "other": float(pairs[unequal].mean())}
    return Similarity(
        timestep=[int(sampler[index].timestep) for index in range(steps)],
        signal=[sampler[index].signal for index in range(steps)],
        noisy=[_likeness(embedded, noisy) for noisy, _ in rows],
        predicted=[_likeness(embedded, predicted) for _, predicted in rows],
        noisy_reward=[_likeness(text, noisy) for noisy, _ in rows],
        predicted_reward=[_likeness(text, predicted) for _, predicted in rows],
        **{name: [value] * steps for name, value in constant.items()},
    )


def _embed(world: World, batch: Batch, latent: Tensor) -> Tensor:
    """Means `[B, E]` of the reward's motion encoder."""
    return world.reward.encode_motion(world.backbone.decode(latent, batch), batch.frame_mask)[0]


def _likeness(a: Tensor, b: Tensor) -> float:
    return float(F.cosine_similarity(a, b, dim=-1).mean())


TRAJECTORIES_A_PROMPT = 4
"""Of the noise study: enough to see how trajectories of one prompt differ."""


def noise(world: World, prompts: int = 32, motions: int = 256, steps: int = 20, seed: int = 0) -> Noise:
    """By step i = 0 (noisiest) to T - 1:

    - `timestep`
    - `correlation_aware`, `correlation_clean`, `correlation_predicted`: over `prompts` test prompts with four
      trajectories each, Pearson's correlation of the score at this step with that of the finished motion: the decoded
      x_t scored with its timestep, without it, and the one-step prediction x̂_0
    - `within_aware`, `within_clean`, `within_predicted`: the same after each prompt's mean is taken off, so that easy
      prompts do not count: is a good trajectory scored above a bad one?
    - `precision_aware`, `precision_clean`: R-precision (top 1, pools of 32) of `motions` real test motions, noised to
      this step's level in the latent, by the reward with the timestep and without
    - `chance`: R-precision of guessing, the same at every step
    """
    chosen = world.prompts("test", prompts)
    sampler = world.sampler(steps)
    generator = torch.Generator(world.device).manual_seed(seed)
    with torch.no_grad():
        scores = [_scores(world, chosen, sampler, generator, seed) for _ in range(TRAJECTORIES_A_PROMPT)]
        precision = _precisions(world, motions, sampler, seed)
    curves: dict[str, list[float]] = {"timestep": [float(sampler[index].timestep) for index in range(steps)]}
    final = torch.stack([trajectory["final"] for trajectory in scores])  # [trajectories, prompts]
    for name in ("aware", "clean", "predicted"):
        values = torch.stack([trajectory[name] for trajectory in scores])  # [trajectories, steps, prompts]
        curves[f"correlation_{name}"] = [_correlation(values[:, i], final) for i in range(steps)]
        within = (values - values.mean(dim=0), final - final.mean(dim=0))
        curves[f"within_{name}"] = [_correlation(within[0][:, i], within[1]) for i in range(steps)]
    return Noise(**curves, **precision)


def _scores(
    world: World, prompts: Prompts, sampler: Sampler, generator: torch.Generator, seed: int
) -> dict[str, Tensor]:
    """Scores of one trajectory a prompt: of the finished motions `[N]`, and at every step `[T, N]`."""
    batch = world.batch(prompts.texts, prompts.lengths)
    state = world.backbone.initial_state(batch, generator)
    path = list(states(world.backbone, sampler, batch, state))

    def scored(latent: Tensor, timestep: float | None = None) -> Tensor:
        return score(world.reward, world.backbone.decode(latent, batch), batch, seed, timestep)

    rows: dict[str, list[Tensor]] = {"aware": [], "clean": [], "predicted": []}
    for index, x in enumerate(path[:-1]):
        timestep = sampler[index].timestep
        rows["aware"].append(scored(x, timestep))
        rows["clean"].append(scored(x))
        rows["predicted"].append(scored(sampler.x0_hat(x, world.backbone.predict(x, timestep, batch), index)))
    return {name: torch.stack(values) for name, values in rows.items()} | {"final": scored(path[-1])}


def _precisions(world: World, motions: int, sampler: Sampler, seed: int) -> dict[str, list[float]]:
    motion, prompts = world.real("test", motions, seed)
    latent = posteriors(world, motion, prompts.lengths, seed)
    batch = world.batch(prompts.texts, prompts.lengths)
    text = F.normalize(world.reward.encode_text(batch.tokens, batch.token_mask)[0], dim=-1)
    pools = metrics.pools(len(prompts))
    eps = torch.randn(latent.shape, generator=torch.Generator(world.device).manual_seed(seed), device=world.device)
    curves: dict[str, list[float]] = {"precision_aware": [], "precision_clean": []}
    for index in range(len(sampler)):
        noisy = world.backbone.decode(sampler.add_noise(latent, eps, index), batch)
        times = torch.full((len(prompts),), sampler[index].timestep, device=world.device)
        for name, timestep in (("precision_aware", times), ("precision_clean", None)):
            embedded = F.normalize(world.reward.encode_motion(noisy, batch.frame_mask, timestep)[0], dim=-1)
            curves[name].append(float(metrics.r_precision(text, embedded, pools, prompts.meanings)[0]))
    chance = metrics.r_precision(text, torch.zeros_like(text), pools, prompts.meanings)[0]
    return curves | {"chance": [float(chance)] * len(sampler)}


def _correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])
