"""A world's networks: small, and each made so that it can be trusted.

The VAE's latent has a token for every 16 frames and the reward reads four frames at a time, which two cores can train.
A world's backbone denoises these latents (`mld`), or the frames themselves (`mdm`), without a VAE.
"""

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.motion.clip import UNIT
from bench.motion.evaluator import EvaluatorConfig
from bench.motion.skeleton import T2M
from methods.backbones.mdm import Mdm, MdmConfig, MdmDenoiser
from methods.backbones.mld import Mld, MldConfig
from methods.errors import InputError
from methods.rewards.spm import DualEncoder, Gaussian, Spm, SpmConfig
from methods.samplers import MDM_STEPS, Sampler, alphas_cumprod, cosine_alphas, ddim, ddpm
from methods.transformer import EncoderLayer, LearnedPositions, SkipTransformer, TimestepEmbedding, TransformerSize

POSITIONS = 64
"""The longest sequence of any network here: at most 49 patches of frames (196, as published), or 13 windows and 20
words, and a few tokens."""


WINDOW = 16
"""Frames of a latent token."""
FIRST_LOGVAR = -3.0
"""Of the VAE's posterior before training."""


@dataclass(frozen=True)
class VaeSize:
    """Sizes of the VAE."""

    tokens: int = 8
    """Latent tokens a motion: windows that hold the longest one."""
    width: int = 32
    """Of a latent token."""
    components: int = 256
    """Principal components of a window."""
    hidden: int = 160
    blocks: int = 3


LATENT, RAW = "mld", "mdm"
"""Kinds of backbone, by the registry's names: of a VAE's latents, and of the frames themselves."""
DENOISER = TransformerSize(width=128, feedforward=256, layers=3, dropout=0.0)
REWARD = TransformerSize(width=112, feedforward=256, layers=3)
EVALUATOR = EvaluatorConfig(words=384, tags=1, text_width=96, movement_width=96, motion_width=96, embedding=64)


@dataclass(frozen=True)
class WorldConfig:
    """Sizes of the world's networks."""

    text_width: int = 384
    vae: VaeSize = VaeSize()
    denoiser: TransformerSize = DENOISER
    reward: TransformerSize = REWARD
    evaluator: EvaluatorConfig = EVALUATOR
    guidance: float = 2.5
    """Guidance scale, chosen on the validation split."""
    backbone: str = LATENT
    """LATENT, or RAW, which has no VAE."""

    def as_dict(self) -> dict:
        """As JSON. A backbone of latents is not written out: worlds of before there was another have none."""
        values = asdict(self)
        if self.backbone == LATENT:
            del values["backbone"]
        return values

    @classmethod
    def from_dict(cls, values: dict) -> "WorldConfig":
        """What `as_dict` gave, read from a file; KeyError, TypeError or ValueError for what cannot be sizes."""
        sizes = {name: TransformerSize(**_sizes(values[name])) for name in ("denoiser", "reward")}
        others = {"vae": VaeSize(**_sizes(values["vae"])), "evaluator": EvaluatorConfig(**_sizes(values["evaluator"]))}
        for name, size in sizes.items():
            if size.width % size.heads:
                raise ValueError(f"the {name}'s width {size.width} does not divide by its {size.heads} heads")
        if not isinstance(values["guidance"], int | float) or not math.isfinite(values["guidance"]):
            raise ValueError(f"guidance is {values['guidance']!r}, no number")
        if values.get("backbone", LATENT) not in BACKBONES:
            raise ValueError(f"there is no backbone {values['backbone']!r}")
        return cls(**{**values, **_sizes({"text_width": values["text_width"]}), **sizes, **others})

    @property
    def depth(self) -> int:
        """The most layers or blocks of a network."""
        return max(self.vae.blocks, self.denoiser.layers, self.reward.layers)


def _sizes(values: dict) -> dict:
    """The same; ValueError for a size that is no whole number above 0, or a dropout that is no share."""
    for name, value in values.items():
        if name == "dropout":
            if not isinstance(value, int | float) or not 0 <= value < 1:
                raise ValueError(f"dropout is {value!r}, no share")
        elif type(value) is not int or value < 1:
            raise ValueError(f"{name} is {value!r}, no size")
    return values


def patches(motion: Tensor, frame_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Features `[B, F, D]` and mask `[B, F]` as `[B, F/4, 4·D]` and `[B, F/4]`; F and all lengths divide by 4."""
    batch, frames, width = motion.shape
    return motion.reshape(batch, frames // UNIT, UNIT * width), frame_mask[:, ::UNIT]


class ConvBlock(nn.Module):
    """A residual block over time; `[B, width, P]` to the same."""

    def __init__(self, width: int):
        super().__init__()
        self.mix = nn.Conv1d(width, width, 3, padding=1)
        self.out = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.out(F.gelu(self.mix(F.gelu(x))))


class Correction(nn.Module):
    """A stack of blocks over time whose output is 0 at first: `[B, P, inputs]` to `[B, P, outputs]`."""

    def __init__(self, inputs: int, outputs: int, width: int, blocks: int):
        super().__init__()
        layers = [nn.Conv1d(inputs, width, 1), *(ConvBlock(width) for _ in range(blocks)), nn.GELU()]
        self.blocks = nn.Sequential(*layers)
        self.out = nn.Conv1d(width, outputs, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]  # a Conv1d has a bias here

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.blocks(x.transpose(1, 2))).transpose(1, 2)


class WorldVae(nn.Module):
    """Motions to a latent token for each window of 16 frames, and back; latents come normalised.

    A window is first written as its principal components, which are fixed; what is learned is how to press these into
    fewer numbers. Both directions are a linear map (the first components as they are) plus a learned correction. After
    its end a motion is taken to hold its last frame, so every motion has the same number of tokens.
    """

    basis: Tensor
    """`[components, 16 · 263]`, orthonormal."""
    centre: Tensor
    scale: Tensor
    """`[components]`: deviation of each component."""
    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, size: VaeSize):
        super().__init__()
        self.size = size
        for name, shape in {
            "basis": (size.components, WINDOW * T2M.width),
            "centre": (WINDOW * T2M.width,),
            "scale": (size.components,),
            "latent_mean": (size.tokens, size.width),
            "latent_std": (size.tokens, size.width),
        }.items():
            self.register_buffer(name, torch.ones(shape))
        self.encoder_skip = nn.Linear(size.components, size.width)
        self.encoder = Correction(size.components, 2 * size.width, size.hidden, size.blocks)
        self.decoder_skip = nn.Linear(size.width, size.components)
        self.decoder = Correction(size.width, size.components, size.hidden, size.blocks)
        for skip in (self.encoder_skip, self.decoder_skip):
            nn.init.eye_(skip.weight)
            nn.init.zeros_(skip.bias)

    def encode(self, motion: Tensor, frame_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation `[B, n, d]` of the normalised latent's posterior."""
        mean, std = self.encode_codes(self.codes(motion, frame_mask))
        return (mean - self.latent_mean) / self.latent_std, std / self.latent_std

    def decode(self, latent: Tensor, frame_mask: Tensor) -> Tensor:
        """Normalised features `[B, F, 263]` of normalised latents `[B, n, d]`; padded frames are 0."""
        codes = self.decode_codes(latent * self.latent_std + self.latent_mean)
        windows = -(-frame_mask.shape[1] // WINDOW)
        motion = (codes[:, :windows] * self.scale) @ self.basis + self.centre
        motion = motion.reshape(len(latent), -1, T2M.width)[:, : frame_mask.shape[1]]
        return motion * frame_mask[..., None]

    def codes(self, motion: Tensor, frame_mask: Tensor) -> Tensor:
        """Principal components `[B, n, components]` of a motion's windows, each of about unit size."""
        return (windows(motion, frame_mask, self.size.tokens) - self.centre) @ self.basis.T / self.scale

    def encode_codes(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation `[B, n, d]` of the posterior, not normalised."""
        shift, logvar = self.encoder(codes).chunk(2, dim=-1)
        return self.encoder_skip(codes) + shift, torch.exp(0.5 * (logvar + FIRST_LOGVAR))

    def decode_codes(self, latent: Tensor) -> Tensor:
        """Components of latents that are not normalised."""
        return self.decoder_skip(latent) + self.decoder(latent)


def windows(motion: Tensor, frame_mask: Tensor, count: int) -> Tensor:
    """`[B, count, 16 · D]`: features `[B, F, D]` in windows, the last valid frame held to the end."""
    last = frame_mask.sum(dim=1, keepdim=True) - 1
    at = torch.minimum(torch.arange(count * WINDOW, device=motion.device), last)
    held = motion.gather(1, at[..., None].expand(-1, -1, motion.shape[-1]))
    return held.reshape(len(motion), count, -1)


class WorldDenoiser(nn.Module):
    """Predicts x_0 from x_t, as the best linear guess and a learned correction.

    The best linear guess (Wiener's) shrinks each principal direction of the latents by its own signal-to-noise ratio.
    The correction is taken in units of that guess's error times the noise level: by Tweedie's formula it vanishes as
    the square of the noise. The network's output is 0 at first, so it starts as the linear predictor. The condition is
    a sentence vector, the length's features and a vector a word; those that are all zero are not attended to, so the
    null text is none.
    """

    signal: Tensor
    directions: Tensor
    """`[n · d, n · d]`: the latents' principal directions, as rows."""
    variances: Tensor
    """`[n · d]`, along each."""

    def __init__(self, latent: VaeSize, text_width: int, size: TransformerSize):
        super().__init__()
        self.latent_in = nn.Linear(latent.width, size.width)
        self.time_embedding = TimestepEmbedding(size.width, size.width)
        self.sentence_in = nn.Linear(text_width, size.width)
        self.length_in = nn.Linear(text_width, size.width)
        self.words_in = nn.Linear(text_width, size.width)
        self.positions = LearnedPositions(size.width, POSITIONS)
        self.encoder = SkipTransformer(EncoderLayer, size)
        self.out = nn.Linear(size.width, latent.width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.register_buffer("signal", alphas_cumprod().sqrt(), persistent=False)
        self.register_buffer("directions", torch.eye(latent.tokens * latent.width))
        self.register_buffer("variances", torch.ones(latent.tokens * latent.width))

    def fit(self, mean: Tensor, std: Tensor) -> None:
        """Sets the principal directions from the posteriors `[N, n, d]` of normalised latents (of mean 0)."""
        flat = mean.flatten(1)
        covariance = flat.T @ flat / len(flat) + std.flatten(1).square().mean(dim=0).diag()
        variances, directions = torch.linalg.eigh(covariance)
        self.variances.copy_(variances)
        self.directions.copy_(directions.T)

    def guess(self, noisy: Tensor, timestep: Tensor) -> Tensor:
        """x̂_0 as it is predicted where nothing is learned: linearly, all directions alike."""
        return self.signal[timestep][:, None, None] * noisy

    def forward(self, sample: Tensor, timestep: Tensor, text: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """x̂_0 `[B, n, d]` of `sample` `[B, n, d]`, `timestep` `[B]` integers, `text` `[B, 2 + words, text_width]`; a
        latent has all its tokens, so `frame_mask` is not read."""
        time = self.time_embedding(timestep)[:, None]
        parts = (self.sentence_in(text[:, :1]), self.length_in(text[:, 1:2]), self.words_in(text[:, 2:]))
        sequence = torch.cat([self.latent_in(sample), time, *parts], dim=1).transpose(0, 1)
        sample_tokens = sample.shape[1]
        padding = F.pad((text == 0).all(dim=-1), (sample_tokens + 1, 0), value=False)
        output = self.out(self.encoder(self.positions(sequence), padding)[:sample_tokens]).transpose(0, 1)
        signal = self.signal[timestep][:, None]
        noise = 1 - signal**2
        total = signal**2 * self.variances + noise
        linear = signal * self.variances / total * (sample.flatten(1) @ self.directions.T)
        error = (self.variances * noise / total).sqrt()
        correction = noise.sqrt() * error * (output.flatten(1) @ self.directions.T)
        return ((linear + correction) @ self.directions).reshape(sample.shape)


class FrameDenoiser(MdmDenoiser):
    """MDM's, which reads the sentence alone of a world's text, on MDM's schedule of 50 noise levels."""

    signal: Tensor

    def __init__(self, config: MdmConfig):
        super().__init__(config)
        self.register_buffer("signal", torch.tensor(cosine_alphas(MDM_STEPS)).sqrt(), persistent=False)

    def guess(self, noisy: Tensor, timestep: Tensor) -> Tensor:
        """x̂_0 as it is predicted where nothing is learned: the mean clip, which is 0."""
        return torch.zeros_like(noisy)

    def forward(self, sample: Tensor, timestep: Tensor, text: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """x̂_0 `[B, F, D]`; as MdmDenoiser."""
        return super().forward(sample, timestep, text[:, :1], frame_mask)


class Frames(nn.Module):
    """Stands where a latent world has its VAE: the state is the motion."""

    def encode(self, motion: Tensor, frame_mask: Tensor) -> tuple[Tensor, Tensor]:
        """The motion `[B, F, 263]`, padded frames 0, without deviation."""
        motion = motion * frame_mask[..., None]
        return motion, torch.zeros_like(motion)

    def decode(self, state: Tensor, frame_mask: Tensor) -> Tensor:
        return state[:, : frame_mask.shape[1]] * frame_mask[..., None]


class WorldReward(DualEncoder):
    """The reward over patches of frames: four frames are one step of its sequence. Parts and names are SPM's."""

    def __init__(self, text_width: int, size: TransformerSize, decoder: bool = False):
        """decoder: keep the one that the published pre-training reconstructs with; no reward is scored with it."""
        super().__init__()
        # Drawn whole, and the positions anew: a seed gives the weights that it gave to every world and reward so far.
        drawn = Spm(SpmConfig(UNIT * T2M.width, text_width, size.width, size))
        self.global_motion_token = drawn.global_motion_token
        self.global_text_token = drawn.global_text_token
        self.query_motion_pos_encoder = LearnedPositions(size.width, POSITIONS)
        self.query_text_pos_encoder = LearnedPositions(size.width, POSITIONS)
        if decoder:
            self.query_pos_decoder = LearnedPositions(size.width, POSITIONS)
        self.motion_encoder = drawn.motion_encoder
        self.text_encoder = drawn.text_encoder
        if decoder:
            self.decoder = drawn.decoder
        self.dist_motion_layer = drawn.dist_motion_layer
        self.dist_text_layer = drawn.dist_text_layer
        self.skel_embedding = drawn.skel_embedding
        self.text_embedding = drawn.text_embedding
        if decoder:
            self.final_layer = drawn.final_layer
        self.time_embedding = drawn.time_embedding

    def encode_motion(self, motion: Tensor, frame_mask: Tensor, timestep: Tensor | None = None) -> Gaussian:
        return super().encode_motion(*patches(motion, frame_mask), timestep)

    def decode(self, latent: Tensor, frame_mask: Tensor) -> Tensor:
        """Features `[B, F, D]` of a latent `[B, width]`; padded frames are 0; F and all lengths divide by 4."""
        return super().decode(latent, frame_mask[:, ::UNIT]).reshape(*frame_mask.shape, T2M.width)


class WorldBackbone(Mld):
    """MLD of the world's VAE and denoiser: the same guidance, the same names."""

    vae: WorldVae  # type: ignore[assignment]  # another VAE, the same decode

    def __init__(self, config: WorldConfig):
        latent = TransformerSize(width=config.vae.width)  # read for the latent's width alone
        super().__init__(
            MldConfig(T2M.width, config.vae.tokens, config.text_width, latent, config.guidance),
            WorldVae(config.vae),  # type: ignore[arg-type]
            WorldDenoiser(config.vae, config.text_width, config.denoiser),
        )

    @property
    def own_denoiser(self) -> WorldDenoiser:
        """The denoiser, while it is the world's: a fine-tuning run may have put another in its place."""
        assert isinstance(self.denoiser, WorldDenoiser)
        return self.denoiser

    @staticmethod
    def sampler(steps: int) -> Sampler:
        """Deterministic DDIM for this backbone, which predicts x_0."""
        return ddim(steps, prediction_type="sample")


class RawBackbone(Mdm):
    """MDM of the world's features, small, on the same text. A frame sees those of its own motion alone."""

    def __init__(self, config: WorldConfig):
        size = MdmConfig(T2M.width, config.text_width, config.denoiser, config.guidance, mask_frames=True)
        super().__init__(size, FrameDenoiser(size))
        self.vae = Frames()

    @property
    def own_denoiser(self) -> FrameDenoiser:
        """As WorldBackbone's."""
        assert isinstance(self.denoiser, FrameDenoiser)
        return self.denoiser

    @staticmethod
    def sampler(steps: int) -> Sampler:
        """MDM's ancestral sampler, over the levels that this backbone was trained on; InputError for more steps."""
        if steps > MDM_STEPS:
            raise InputError(f"steps must be 1 to {MDM_STEPS} on this world, whose denoiser knows as many noise levels")
        return ddpm(steps)


BACKBONES: dict[str, type[WorldBackbone] | type[RawBackbone]] = {LATENT: WorldBackbone, RAW: RawBackbone}
