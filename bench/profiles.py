"""Profiles: engineering choices that apply to every method alike, and stay out of the methods' files."""

from dataclasses import dataclass, fields, replace
from typing import Any

from methods.errors import InputError
from methods.memory import NONE, Savings
from methods.transformer import ATTENTION_KERNELS

ATTENTION = (*ATTENTION_KERNELS, "fused-scoring")
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class Profile:
    """The switches of a run, each with what it changes."""

    reward_frozen: bool = False
    """Reward weights without gradient. Unfrozen (as released) their gradients are computed, kept and never used."""
    train_mode: bool = True
    """Denoiser and reward in train mode: dropout is on, and its masks are kept (as released). The VAE never is."""
    attention: str = "explicit"
    """explicit: the attention weights are materialised and kept (as released); fused: scaled_dot_product_attention;
    fused-scoring: fused in decoder and reward alone. The denoiser gains nothing by it (MLD's has three tokens)."""
    precision: str = "fp32"
    """fp32 (as released); bf16: torch.autocast around each call of a network, weights and optimiser state stay fp32."""
    reward_means: bool = False
    """The reward in eval mode, comparing the means of its distributions, not a sample of each: less is kept, and the
    same motion always has the same score."""
    skip_unused: bool = False
    """Decoder and reward leave out work that changes no result: attention to a single key, the last layer of positions
    that nobody reads."""
    used_only: bool = False
    """Parts of the networks that fine-tuning never calls (the VAE's encoder, the reward's decoder) are not loaded."""
    encode_once: bool = False
    """The reward encodes the prompts once a trajectory; see methods.memory.Savings, as of the next four."""
    score: int = 0
    """Motions decoded and scored at once; 0: the batch."""
    crop: bool = False
    """Pieces of motions of like length, each as long as its longest."""
    recompute: bool = False
    """Recorded denoiser calls keep their input alone and are computed again in the backward pass."""
    kept: int = 0
    """Calls of each segment that keep their graph all the same."""
    text_encoder: bool = False
    """The weights of sentence-t5-large stay on the device, as in the released code; otherwise captions are encoded
    beforehand."""
    lora: int = 0
    """Rank of updates that learn in place of the denoiser's weights (methods.lora); 0: the weights learn (as released).
    Never part of a claim, as the next."""
    compile: bool = False
    """The denoiser goes through torch.compile. Of step time alone: no meter counts what a compiler fuses."""

    def __post_init__(self) -> None:
        for name, known in (("attention", ATTENTION), ("precision", PRECISIONS)):
            if getattr(self, name) not in known:
                raise InputError(f"unknown {name} {getattr(self, name)!r}: choose one of {', '.join(known)}")
        if self.encode_once and not (self.reward_frozen and self.reward_means):
            raise InputError("encode_once needs reward_frozen=true and reward_means=true: else the text is drawn anew")
        _ = self.savings  # InputError for what it refuses

    @property
    def savings(self) -> Savings:
        """The levers of the rollout among them."""
        return Savings(**{name: value for name, value in vars(self).items() if name in vars(NONE)})

    def kernel(self, scoring: bool) -> str:
        """The attention kernel of what decodes and scores, or of the denoiser."""
        if self.attention == "fused-scoring":
            return "fused" if scoring else "explicit"
        return self.attention


FROZEN = Profile(reward_frozen=True)
LEAN = replace(
    FROZEN,
    attention="fused-scoring",
    reward_means=True,
    skip_unused=True,
    used_only=True,
    encode_once=True,
    score=8,
    crop=True,
    recompute=True,
)
PROFILES = {"paper": Profile(), "frozen": FROZEN, "lean": LEAN}
"""`paper`: as the released code runs; a claim is judged under it. `frozen`: the same with the reward frozen. `lean`:
the gradient of a frozen reward that draws nothing, in the least memory; with dropout in the denoiser, as released."""

_MEANS = "frozen+reward_means=true+train_mode=false"
_WORK = f"{_MEANS}+attention=fused+skip_unused=true"
LEVERS = {
    "as released": "paper",
    "reward frozen": "frozen",
    "no dropout, no draws": _MEANS,
    "fused attention": f"{_MEANS}+attention=fused",
    "unused work skipped": _WORK,
    "8 motions scored at once": f"{_WORK}+score=8",
    "calls computed again": f"{_WORK}+score=8+recompute=true",
    "lean": "lean",
    "lean, no dropout": "lean+train_mode=false",
}
"""What each lever gives beyond those before it, by what is pulled: specs of profiles."""


def profile(spec: str) -> Profile:
    """The profile of `name[+switch=value...]`, e.g. `paper` or `frozen+attention=fused`; InputError if unknown."""
    name, *switches = spec.split("+")
    if name not in PROFILES:
        raise InputError(f"unknown profile {name!r}: choose one of {', '.join(PROFILES)}")
    chosen = PROFILES[name]
    known = {field.name: type(getattr(chosen, field.name)) for field in fields(Profile)}
    for switch in switches:
        key, _, value = switch.partition("=")
        if key not in known:
            raise InputError(f"unknown switch {key!r} of a profile: choose one of {', '.join(known)}")
        if known[key] is bool and value not in ("true", "false"):
            raise InputError(f"switch {key} of a profile is true or false, not {value!r}")
        if known[key] is int and not (value.isascii() and value.isdecimal() and len(value) < 10):
            raise InputError(f"switch {key} of a profile is a whole number below 10⁹, not {value!r}")
        parsed: Any = value == "true" if known[key] is bool else known[key](value)
        chosen = replace(chosen, **{key: parsed})
    return chosen
