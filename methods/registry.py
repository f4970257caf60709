"""The methods by name, and how a method is written in one word: `draft`, `draft:k=10`, `easytune:mode=chain,first=40`.

A method is added by one line in METHODS, or from outside by `register("mine", MyMethod)` in a module of its own.
"""

from collections.abc import Callable
from dataclasses import fields

from methods.alignprop import AlignProp
from methods.draft import DRaFT, DRaFTLV
from methods.drtune import DRTune
from methods.easytune import EasyTune
from methods.errors import InputError
from methods.interface import Method
from methods.refl import ReFL

METHODS: dict[str, type] = {
    "draft": DRaFT,
    "draft-lv": DRaFTLV,
    "alignprop": AlignProp,
    "drtune": DRTune,
    "refl": ReFL,
    "easytune": EasyTune,
}


def register(name: str, method: type) -> None:
    """Adds a method under a name of its own: a frozen dataclass with a `plan` (see methods.interface.Method).

    Each of its fields has a default; an option is read as its default's type.
    """
    if name in METHODS:
        raise InputError(f"a method called {name!r} is registered already: choose another name")
    METHODS[name] = method


def third_party_modules() -> list[str]:
    """Modules that registered something of their own: a worker process imports them, so that they register there too."""
    modules = {cls.__module__ for cls in METHODS.values()}
    return sorted(name for name in modules if not name.startswith("methods.") and name != "__main__")


def parse(spec: str) -> Method:
    """The method of a spec `name[:option=value,...]`; InputError for an unknown name, option or value."""
    name, _, options = spec.partition(":")
    if name not in METHODS:
        raise InputError(f"unknown method {name!r}: choose one of {', '.join(METHODS)}")
    cls = METHODS[name]
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
    changed = [f"{option}={value}" for option, (value, default) in options.items() if value != default]
    return ":".join([name, ",".join(changed)]) if changed else name


_KINDS = {int: "a whole number", float: "a number", bool: "True or False"}
_PARSERS: dict[type, Callable] = {bool: {"True": True, "False": False}.__getitem__}
