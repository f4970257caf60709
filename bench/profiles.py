"""Profiles: engineering choices that apply to every method alike, and stay out of the methods' files."""

from dataclasses import dataclass, fields, replace
from typing import Any

from methods.errors import InputError
from methods.transformer import ATTENTION_KERNELS

PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class Profile:
    """The switches of a run, each with what it costs."""

    reward_frozen: bool = False
    """Reward weights without gradient. Unfrozen (as released) their gradients are computed, kept and never used."""
    train_mode: bool = True
    """Denoiser and reward in train mode: dropout is on, and its masks are kept (as released). The VAE never is."""
    attention: str = "explicit"
    """explicit: the attention weights are materialised and kept (as released); fused: scaled_dot_product_attention."""
    precision: str = "fp32"
    """fp32 (as released); bf16: torch.autocast around each call of a network, weights and optimiser state stay fp32."""

    def __post_init__(self) -> None:
        for name, known in (("attention", ATTENTION_KERNELS), ("precision", PRECISIONS)):
            if getattr(self, name) not in known:
                raise InputError(f"unknown {name} {getattr(self, name)!r}: choose one of {', '.join(known)}")


PROFILES = {
    "paper": Profile(),
    "frozen": Profile(reward_frozen=True),
}
"""`paper`: as the released code runs; a claim is judged under it. `frozen`: the same with the reward frozen."""


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
        parsed: Any = value == "true" if known[key] is bool else value
        chosen = replace(chosen, **{key: parsed})
    return chosen
