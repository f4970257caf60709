"""Methods, backbones and rewards by name, and how a method is written in one word: `draft`, `draft:k=10`,
`easytune:mode=chain,first=40`.

Each is added by one line here, or from outside by `register`, `register_backbone` or `register_reward` in a module of
its own.
"""

import sys
from collections.abc import Callable
from dataclasses import fields
from typing import TypeVar

from methods.alignprop import AlignProp
from methods.backbones import flow, mdm, mld, motionlcm
from methods.draft import DRaFT, DRaFTLV
from methods.drtune import DRTune
from methods.easytune import EasyTune
from methods.entries import BackboneEntry, RewardEntry
from methods.errors import InputError
from methods.interface import Method
from methods.refl import ReFL
from methods.rewards import spm, tmr

T = TypeVar("T")

METHODS: dict[str, type] = {
    "draft": DRaFT,
    "draft-lv": DRaFTLV,
    "alignprop": AlignProp,
    "drtune": DRTune,
    "refl": ReFL,
    "easytune": EasyTune,
}
BACKBONES: dict[str, BackboneEntry] = {
    "mld": mld.entry(mld.MldConfig(), reward="spm", label="MLD"),
    "mld-tiny": mld.entry(mld.TINY, reward="spm-tiny"),
    "mld-kit": mld.entry(mld.MldConfig(features=251), reward="spm-kit"),
    "mld-original": mld.entry(mld.ORIGINAL, reward="spm", label="MLD (original)"),
    "mld-original-tiny": mld.entry(mld.ORIGINAL_TINY, reward="spm-tiny"),
    "mldpp": mld.entry(mld.PLUS, reward="spm", label="MLD++"),
    "mldpp-tiny": mld.entry(mld.PLUS_TINY, reward="spm-tiny"),
    "motionlcm": motionlcm.entry(motionlcm.V1, reward="spm", label="MotionLCM"),
    "motionlcm-tiny": motionlcm.entry(motionlcm.TINY, reward="spm-tiny"),
    "motionlcm-v2": motionlcm.entry_v2(motionlcm.V2, reward="spm", label="MotionLCM-V2"),
    "motionlcm-v2-tiny": motionlcm.entry_v2(motionlcm.V2_TINY, reward="spm-tiny"),
    "mdm": mdm.entry(mdm.MdmConfig(), reward="spm", label="MDM"),
    "mdm-tiny": mdm.entry(mdm.TINY, reward="spm-tiny"),
    "flow": flow.entry(mdm.MdmConfig(), reward="spm"),
    "flow-tiny": flow.entry(mdm.TINY, reward="spm-tiny"),
}
REWARDS: dict[str, RewardEntry] = {
    "spm": spm.entry(spm.SpmConfig(), sentences=mld.MldConfig.text_width),
    "spm-tiny": spm.entry(spm.TINY, sentences=mld.TINY.text_width),
    "spm-kit": spm.entry(spm.SpmConfig(features=251), sentences=mld.MldConfig.text_width),
    "tmr": tmr.entry(tmr.TmrConfig()),
    "tmr-kit": tmr.entry(tmr.TmrConfig(features=251)),
    "tmr-tiny": tmr.entry(tmr.TINY),
}
_REGISTERED_BY: dict[str, None] = {}
"""Names of the modules that registered something, in order."""


def register(name: str, method: type) -> None:
    """Adds a method under a name of its own: a frozen dataclass with a `plan` (see methods.interface.Method).

    Each of its fields has a default; an option is read as its default's type. InputError for a name that is taken.
    """
    _add(METHODS, "method", name, method)


def register_backbone(name: str, entry: BackboneEntry) -> None:
    """Adds a backbone; InputError for a name that is taken."""
    _add(BACKBONES, "backbone", name, entry)


def register_reward(name: str, entry: RewardEntry) -> None:
    """Adds a reward; InputError for a name that is taken."""
    _add(REWARDS, "reward", name, entry)


def _add(registry: dict[str, T], kind: str, name: str, what: T) -> None:
    if name in registry:
        raise InputError(f"a {kind} called {name!r} is registered already: choose another name")
    registry[name] = what
    # Who called register: a class may come from anywhere, but importing this module registers it.
    _REGISTERED_BY[sys._getframe(2).f_globals["__name__"]] = None


def third_party_modules() -> list[str]:
    """Modules that registered something: another process imports them, so that it is registered there too.

    Without the main program, which a new process runs again by itself.
    """
    return [name for name in _REGISTERED_BY if name != "__main__"]


def pair(backbone: str, reward: str = "") -> tuple[BackboneEntry, RewardEntry]:
    """The backbone of a name and the reward of one (by default the backbone's); InputError for an unknown name, or for
    two that do not fit together."""
    of_backbone = look_up(BACKBONES, "backbone", backbone)
    name = reward or of_backbone.reward
    of_reward = look_up(REWARDS, "reward", name)
    if of_backbone.features != of_reward.features:
        raise InputError(
            f"reward {name!r} reads {of_reward.features} features a frame, but backbone {backbone!r} makes "
            f"{of_backbone.features}: choose a reward that reads as many"
        )
    return of_backbone, of_reward


def look_up(registry: dict[str, T], kind: str, name: str) -> T:
    """What is registered under a name; InputError, with those that are known, for an unknown one."""
    if name not in registry:
        raise InputError(f"unknown {kind} {name!r}: choose one of {', '.join(registry)}")
    return registry[name]


def parse(spec: str) -> Method:
    """The method of a spec `name[:option=value,...]`; InputError for an unknown name, option or value."""
    name, _, options = spec.partition(":")
    cls = look_up(METHODS, "method", name)
    kinds: dict[str, type] = {field.name: type(field.default) for field in fields(cls)}
    values = {}
    for option in filter(None, options.split(",")):
        key, equals, text = option.partition("=")
        if key not in kinds:
            raise InputError(f"method {name!r} has no option {key!r}: its options are {', '.join(kinds) or 'none'}")
        if not equals or key in values:
            raise InputError(f"method {name!r}: write option {key} once, as {key}=value")
        try:
            values[key] = _PARSERS.get(kinds[key], kinds[key])(text)
        except (ValueError, KeyError):
            raise InputError(f"method {name!r}: {key}={text!r} is not {_KINDS.get(kinds[key], 'valid')}") from None
    return cls(**values)


def spec(method: Method) -> str:
    """The shortest spec of a method: its name and the options that are not at their default."""
    name = next((name for name, cls in METHODS.items() if cls is type(method)), None)
    if name is None:
        raise InputError(f"{type(method).__name__} is not a registered method: call methods.registry.register first")
    options = {f.name: (getattr(method, f.name), f.default) for f in fields(METHODS[name])}
    changed = [f"{option}={_written(value)}" for option, (value, default) in options.items() if value != default]
    return ":".join([name, ",".join(changed)]) if changed else name


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _boolean(text: str) -> bool:
    """`true` or `false`, which older specs have with a capital; KeyError for anything else."""
    return {"true": True, "false": False}[text.lower()]


_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}
_PARSERS: dict[type, Callable] = {bool: _boolean}
