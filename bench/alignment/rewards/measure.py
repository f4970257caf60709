"""How well a reward finds motions by their texts and texts by their motions, clean or noisy."""

import numpy as np
import torch
from torch import Tensor

from bench.alignment.rewards.config import STATES
from bench.motion import metrics
from bench.motion import retrieval as ranks
from bench.world import Prompts, World
from bench.world.model import WorldReward
from methods import generators
from methods.errors import InputError
from methods.rewards.losses import cosines
from methods.rewards.noise import add_noise
from methods.rewards.spm import Gaussian, sample

CHUNK = 128
"""Motions encoded at once."""


def latents(world: World, motion: Tensor, lengths: Tensor) -> Gaussian:
    """Mean and standard deviation `[N, n, d]` of the latents of motions `[N, F, 263]` of `lengths` `[N]` frames."""
    with torch.no_grad():
        return world.backbone.vae.encode(motion, world.frame_mask(lengths, motion.shape[1]))


def as_motion(world: World, noisy: Tensor, mask: Tensor, noised: str) -> Tensor:
    """Motions `[N, F, 263]`, padded frames 0, of noisy latents `[N, n, d]` (`noised` states) or noisy features."""
    if noised != STATES:
        return noisy * mask[..., None]
    with torch.no_grad():
        return world.backbone.vae.decode(noisy, mask)


def retrieval(
    world: World,
    reward: WorldReward,
    split: str,
    timestep: int | None = None,
    count: int | None = None,
    seed: int = 0,
    *,
    aware: bool = False,
    noised: str = STATES,
    real: tuple[Tensor, Prompts] | None = None,
) -> dict:
    """Retrieval among the real motions of a split by the reward's cosine, with one caption of each.

    With `timestep` each motion is the decoded state that a rollout would have there: a latent of the world's VAE,
    noised by the schedule; or, with `noised` features, the motion itself, noised so. `aware`: the motion encoder is
    given the timestep, as in a rollout that scores noisy motions. `count`: so many random clips of the split (None:
    all). `seed` draws clips, captions, latents and noise. `real`: what `world.real` gives, where it is at hand; clips
    are not drawn then.

    Latents are the posterior's means, in eval mode; the reward and torch's generators are left as they were. Returns
    `{"count": N, "all": ..., "pools": ...}`, where "all" is among all N and "pools" the mean over pools of 32 (None of
    fewer than 32), each `{"text_to_motion": ..., "motion_to_text": ...}` of `{"R@1": per cent, ..., "MedR": rank}`.
    Motions whose caption means the same are right as well.
    InputError for a timestep outside the schedule, or `aware` without a timestep.
    """
    if aware and timestep is None:
        raise InputError("a reward that is given the timestep needs one: give timestep, or leave aware out")
    motion, prompts = real or world.real(split, count or len(world.clips[split]), seed)
    training = reward.training
    reward.eval()
    with torch.no_grad(), generators.forked(world.device):
        torch.manual_seed(seed)
        parts = [
            _embedded(world, reward, motion[rows], _of(prompts, rows), timestep, aware, noised)
            for rows in torch.arange(len(prompts)).split(CHUNK)
        ]
    reward.train(training)
    texts, motions = (torch.cat(values) for values in zip(*parts, strict=True))
    similarity = cosines(texts, motions)
    known: dict[str, int] = {}
    meaning = np.array([known.setdefault(text, len(known)) for text in prompts.meanings])
    equal = meaning[:, None] == meaning
    pools = None
    if len(prompts) >= metrics.POOL:
        pools = _named(ranks.retrieval(similarity, equal, metrics.pools(len(prompts), np.random.RandomState(seed))))
    return {"count": len(prompts), "all": _named(ranks.retrieval(similarity, equal)), "pools": pools}


def _embedded(
    world: World,
    reward: WorldReward,
    motion: Tensor,
    prompts: Prompts,
    timestep: int | None,
    aware: bool,
    noised: str,
) -> tuple[Tensor, Tensor]:
    """Posterior means `[B, width]` of texts and motions."""
    frames = int(prompts.lengths.max())
    motion, mask = motion[:, :frames], world.frame_mask(prompts.lengths, frames)
    times = None
    if timestep is not None:
        times = torch.full((len(motion),), timestep, device=motion.device)
        clean = sample(*latents(world, motion, prompts.lengths)) if noised == STATES else motion
        motion = as_motion(world, add_noise(clean, times), mask, noised)
    text = reward.encode_text(*world.words(prompts.texts))[0]
    return text, reward.encode_motion(motion, mask, times if aware else None)[0]


def _of(prompts: Prompts, rows: Tensor) -> Prompts:
    """Some of them."""
    chosen = rows.tolist()
    return Prompts(
        tuple(prompts.texts[row] for row in chosen),
        tuple(prompts.meanings[row] for row in chosen),
        prompts.lengths[rows],
    )


def _named(directions: tuple[ranks.Retrieval, ranks.Retrieval]) -> dict[str, dict[str, float]]:
    return {
        name: {**{f"R@{k}": share for k, share in ranks_of.recall.items()}, "MedR": ranks_of.median_rank}
        for name, ranks_of in zip(("text_to_motion", "motion_to_text"), directions, strict=True)
    }
