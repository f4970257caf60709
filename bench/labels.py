"""Methods and backbones as the papers write them."""

from dataclasses import fields

from methods.registry import BACKBONES, METHODS

NAMES = {
    "draft": "DRaFT",
    "draft-lv": "DRaFT-LV",
    "alignprop": "AlignProp",
    "drtune": "DRTune",
    "refl": "ReFL",
    "easytune": "EasyTune",
}


def backbone_label(name: str) -> str:
    """That of the registry, where it has one."""
    entry = BACKBONES.get(name)
    return (entry and entry.label) or name.upper()


def published_backbones() -> list[str]:
    """Names of the backbones of which weights are published."""
    return [name for name, entry in BACKBONES.items() if entry.label]


def method_label(spec: str, steps: int) -> str:
    """A method with the options that distinguish it, at so many denoising steps: `DRaFT-50`, `DRTune, K = 10`."""
    name, _, text = spec.partition(":")
    options = dict(option.split("=", 1) for option in text.split(",") if "=" in option)
    known = NAMES.get(name, name)
    if name == "draft":
        return f"{known}-{options.pop('k', steps)}"
    if name == "drtune":
        options.setdefault("k", _default(name, "k"))
    if name == "alignprop" and options.setdefault("truncation", _default(name, "truncation")) == "fixed":
        del options["truncation"]
        options.setdefault("k", str(max(1, steps // 2)))
    return ", ".join([known, *(_option(key, value) for key, value in options.items())])


def _default(name: str, option: str) -> str:
    return str(next(field.default for field in fields(METHODS[name]) if field.name == option))


def _option(key: str, value: str) -> str:
    """`K = 10`; a mode or a truncation by its value; any other option as name and value."""
    words = {"k": f"K = {value}", "mode": value.replace("-", " as "), "score": f"{value} score", "truncation": value}
    return words.get(key, f"{key} = {value}")
