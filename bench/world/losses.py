"""What the world's networks are trained on."""

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.motion.skeleton import T2M
from bench.world.data import Statistics
from bench.world.model import WINDOW, FrameDenoiser, WorldDenoiser, WorldVae

JOINTS_WEIGHT = 4.0
"""Of a metre of joint error, against the squared error of normalised features."""
KL_WEIGHT = 4e-4
"""Of a nat of the whole latent."""
HELD_WEIGHT = 0.2
"""Of windows past a motion's end, where it holds still: they need no more than to be plausible."""


def vae(network: WorldVae, codes: Tensor, lengths: Tensor, statistics: Statistics) -> Tensor:
    """Reconstruction of features and of joints, and the divergence of the latent's posterior from unit noise.

    Of clean `codes` `[B, n, components]` of motions of `lengths` `[B]` frames.
    """
    mean, std = network.encode_codes(codes)
    again = network.decode_codes(mean + std * torch.randn_like(std))
    begins = torch.arange(codes.shape[1], device=codes.device) * WINDOW
    weight = torch.where(begins < lengths[:, None], 1.0, HELD_WEIGHT)
    weight = weight / weight.sum()
    # The basis is orthonormal: squares of components are squares of features.
    features = ((again - codes) * network.scale).square().sum(dim=-1) / network.basis.shape[1]
    first, second = (joints(_path(network, each, statistics)) for each in (codes, again))
    distance = torch.linalg.vector_norm(first - second + 1e-8, dim=-1).mean(dim=-1).unflatten(1, (-1, WINDOW))
    kl = 0.5 * (mean**2 + std**2 - 1 - 2 * std.log()).sum(dim=(1, 2)).mean()
    return (weight * (features + JOINTS_WEIGHT * distance.mean(dim=-1))).sum() + KL_WEIGHT * kl


def _path(network: WorldVae, codes: Tensor, statistics: Statistics) -> Tensor:
    """The features `[B, n · 16, 67]` that say where the joints are."""
    end = T2M.blocks["positions"].stop

    def kept(rows: Tensor) -> Tensor:
        return rows.unflatten(-1, (WINDOW, -1))[..., :end].flatten(-2)

    flat = (codes * network.scale) @ kept(network.basis) + kept(network.centre)
    features = flat.unflatten(-1, (WINDOW, -1)).flatten(1, 2)
    return features * statistics.std[:end] + statistics.mean[:end]


def joint_error(motion: Tensor, other: Tensor, mask: Tensor, statistics: Statistics) -> Tensor:
    """Mean distance of the joints of two batches of normalised features, over the valid frames; metres."""
    first, second = (joints(statistics.restore(each)) for each in (motion, other))
    return torch.linalg.vector_norm(first - second + 1e-8, dim=-1)[mask].mean()


def joints(features: Tensor) -> Tensor:
    """As representation.joints_from_features, differentiable: `[B, F, 263]` to `[B, F, 22, 3]`."""
    heading = -2 * _before(features[..., T2M.blocks["turn"]])[..., 0]
    cos, sin = heading.cos()[..., None], heading.sin()[..., None]

    def turned(x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        return x * cos + z * sin, z * cos - x * sin

    # The displacement to the next frame is seen from the next heading.
    glide = F.pad(features[..., T2M.blocks["glide"]], (0, 0, 1, 0))[:, :-1]
    root_x, root_z = (part.cumsum(dim=1) for part in turned(glide[..., :1], glide[..., 1:]))
    local = features[..., T2M.blocks["positions"]].unflatten(-1, (-1, 3))
    x, z = turned(local[..., 0], local[..., 2])
    others = torch.stack([x + root_x, local[..., 1], z + root_z], dim=-1)
    root = torch.cat([root_x, features[..., T2M.blocks["height"]], root_z], dim=-1)
    return torch.cat([root[..., None, :], others], dim=-2)


def _before(steps: Tensor) -> Tensor:
    """Where a path is at each frame: the sum of the steps before it, along axis 1."""
    return F.pad(steps, (0, 0, 1, 0))[:, :-1].cumsum(dim=1)


def contrast(similarity: Tensor, meanings: Tensor, junk: Tensor | None = None) -> Tensor:
    """InfoNCE in both directions over `similarity` `[B, B]` (text, motion), in units of the temperature.

    Pairs of equal `meanings` `[B]` are right pairs that are not asked for: neither positives nor negatives. `junk`
    `[B, J]` are similarities to motions that are right for no text; they are negatives of every text.
    """
    right = torch.arange(len(meanings), device=meanings.device)
    same = (meanings[:, None] == meanings) & (right[:, None] != right)
    similarity = similarity.masked_fill(same, -torch.inf)
    rows = similarity if junk is None else torch.cat([similarity, junk], dim=1)
    return 0.5 * (F.cross_entropy(rows, right) + F.cross_entropy(similarity.T, right))


def denoiser(network: WorldDenoiser, latent: Tensor, text: Tensor) -> Tensor:
    """Squared error of x̂_0 at random timesteps, in units of the linear predictor's: 1 where nothing is learned."""
    timestep = torch.randint(len(network.signal), (len(latent),), device=latent.device)
    noisy, sigma = noised(network.signal, latent, timestep)
    return ((network(noisy, timestep, text) - latent) / sigma).square().mean()


def frames(network: FrameDenoiser, motion: Tensor, text: Tensor, frame_mask: Tensor) -> Tensor:
    """Squared error of x̂_0 at random timesteps, over the valid frames (MDM, eq. 2), in units of the mean clip's: 1
    where nothing is learned."""
    timestep = torch.randint(len(network.signal), (len(motion),), device=motion.device)
    noisy, _ = noised(network.signal, motion, timestep)
    error = (network(noisy, timestep, text, frame_mask) - motion)[frame_mask]
    return error.square().mean() / motion[frame_mask].square().mean()


def noised(signal: Tensor, latent: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
    """x_t `[B, n, d]` of clean latents, and its noise's deviation `[B, 1, 1]`; `signal` is √ᾱ by timestep."""
    share = signal[timestep][:, None, None]
    sigma = (1 - share**2).sqrt()
    return share * latent + sigma * torch.randn_like(latent), sigma
