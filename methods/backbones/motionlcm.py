"""MotionLCM (Dai et al., ECCV 2024): MLD distilled into a latent consistency model of 1, 2 or 4 steps.

The guidance scale is an input of the denoiser, embedded with the timestep: one call a step, on a batch that is not
doubled. Version 1 is MLD's network, version 2 that of MLD++, each with one more weight, `time_embedding.cond_proj`.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType

import torch
from torch import Tensor

from methods.backbones import mld
from methods.backbones.mld import Mld, MldConfig
from methods.entries import BackboneEntry
from methods.interface import Batch
from methods.samplers import MOTIONLCM_V2, lcm

FEATURES = 256
"""Of the guidance scale, as published."""
V1, V2 = (replace(config, guidance_features=FEATURES) for config in (MldConfig(), mld.PLUS))
TINY, V2_TINY = (replace(config, guidance_features=6) for config in (mld.TINY, mld.PLUS_TINY))
"""For tests."""
V2_GUIDANCE = MappingProxyType({1: 8.0, 2: 12.5, 4: 13.5})
"""The guidance scale of version 2, by the number of steps."""
MOST_STEPS = 4
"""Of the published numbers of steps the one at which methods differ most: at one step all do the same."""


class MotionLcm(Mld):
    """MotionLCM as a methods.interface.Backbone; `state_dict()` has the published names."""

    denoising_steps = MOST_STEPS
    """Of its sampler: version 2 is guided accordingly."""

    def __init__(self, config: MldConfig = V1, guidance: Mapping[int, float] | None = None) -> None:
        """guidance: its scale by the number of steps (version 2); None: always the config's."""
        super().__init__(config)
        self.scales = guidance

    def predict(self, x: Tensor, timestep: float, batch: Batch) -> Tensor:
        """ε of one call that is told the guidance scale; the empty prompt is not read."""
        scale = self.config.guidance if self.scales is None else self.scales[self.denoising_steps]
        return self.denoiser(x, torch.full((len(x),), timestep, device=x.device), batch.text, scale)


def entry(config: MldConfig, reward: str, label: str = "") -> BackboneEntry:
    """Version 1 of these sizes, for the registry."""
    return replace(mld.entry(config, reward, label), build=lambda: MotionLcm(config), sampler=lcm, steps=MOST_STEPS)


def entry_v2(config: MldConfig, reward: str, label: str = "") -> BackboneEntry:
    """Version 2 of these sizes."""
    sampler = partial(lcm, timesteps=MOTIONLCM_V2)
    return replace(entry(config, reward, label), build=lambda: MotionLcm(config, V2_GUIDANCE), sampler=sampler)
