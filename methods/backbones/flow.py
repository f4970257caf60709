"""Flow matching on motion (Lipman et al. 2023), of our own making: MDM's transformer predicts the velocity ε - x_0, and
is sampled by Euler steps. No such model is published with these sizes; it stands for the kind (HY-Motion's).
"""

from methods.backbones import mdm
from methods.backbones.mdm import MdmConfig, MdmDenoiser
from methods.entries import BackboneEntry
from methods.samplers import flow
from methods.transformer import TimestepEmbedding


class FlowDenoiser(MdmDenoiser):
    """As MdmDenoiser, with timesteps that are no whole numbers."""

    def __init__(self, config: MdmConfig):
        super().__init__(config)
        self.embed_timestep = TimestepEmbedding(config.transformer.width, config.transformer.width)


def entry(config: MdmConfig, reward: str) -> BackboneEntry:
    """Of these sizes, for the registry; `reward` names the one that it is fine-tuned with."""
    return mdm.entry(config, reward, denoiser=FlowDenoiser, sampler=flow)
