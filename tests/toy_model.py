"""A backbone and a reward of someone else's, each in few lines."""

import torch
from torch import nn
from torch.nn import functional as F

from methods import BackboneEntry, RewardEntry, register_backbone, register_reward

FEATURES, LATENT, TEXT, WORD = 67, 64, 128, 300


class ToyBackbone(nn.Module):
    """Denoises one latent a motion, and decodes it frame by frame."""

    def __init__(self):
        super().__init__()
        self.denoiser = nn.Sequential(nn.Linear(LATENT + TEXT + 1, 512), nn.SiLU(), nn.Linear(512, LATENT))
        self.decoder = nn.Sequential(nn.Linear(LATENT + 1, 512), nn.SiLU(), nn.Linear(512, FEATURES))

    def predict(self, x, timestep, batch):
        time = torch.full_like(x[:, :1], timestep / 1000)
        return self.denoiser(torch.cat([x, batch.text[:, 0], time], dim=-1))

    def decode(self, x0, batch):
        frames = batch.frame_mask.shape[1]
        position = torch.linspace(0, 1, frames, device=x0.device).expand(len(x0), frames)[..., None]
        motion = self.decoder(torch.cat([x0[:, None].expand(-1, frames, -1), position], dim=-1))
        return motion * batch.frame_mask[..., None]

    def initial_state(self, batch, generator=None):
        return torch.randn(len(batch), LATENT, generator=generator, device=batch.text.device)

    def networks(self):
        return {"denoiser": self.denoiser, "decoder": self.decoder}


class ToyReward(nn.Module):
    """Cosine similarity of the mean frame and the mean word."""

    def __init__(self):
        super().__init__()
        self.frame, self.word = nn.Linear(FEATURES, 128), nn.Linear(WORD, 128)

    def forward(self, motion, batch, timestep=None):
        return F.cosine_similarity(
            mean(self.frame(motion), batch.frame_mask), mean(self.word(batch.tokens), batch.token_mask)
        )

    def networks(self):
        return {"reward": self}


def mean(values, valid):
    return (values * valid[..., None]).sum(1) / valid.sum(1, keepdim=True)


register_reward("toy-reward", RewardEntry(ToyReward, tokens=(16, WORD), features=FEATURES, most_frames=240))
register_backbone(
    "toy",
    BackboneEntry(
        ToyBackbone, text=(1, TEXT), features=FEATURES, most_frames=240, frozen=("decoder",), reward="toy-reward"
    ),
)
