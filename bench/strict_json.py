"""JSON that a person may have edited: decoded here, once, and refused where a reader would have to guess.

Python's own decoder takes a key that stands twice in an object, and the last value wins without a word; it takes NaN,
infinities, and halves of a letter, which are no JSON.
"""

import json

import msgspec

Pairs = list[tuple[str, object]]


class DoubledKeyError(ValueError):
    """An object has a key twice; the message, `has the field rows[3].peak twice`, says where."""


def parse(text: str) -> object:
    """A JSON document; ValueError, with the reason, for text that is cut off, broken or nested without end, and for
    what is no JSON: NaN, infinities, numbers too large for a float, halves of a letter. DoubledKeyError: see there."""
    try:
        document = msgspec.json.decode(text)
        try:
            json.loads(text, object_pairs_hook=_look_at)
        except DoubledKeyError:
            raise DoubledKeyError(f"has the field {_first_doubled(text)} twice") from None
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        no_figure = "NaN" in text or "Infinity" in text
        raise ValueError(f"{error}{'; NaN and Infinity are no figures' if no_figure else ''}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return document


def unique(pairs: Pairs) -> dict[str, object]:
    """An object of its pairs (json.loads' object_pairs_hook); DoubledKeyError where a key is there twice."""
    made = dict(pairs)
    if len(made) < len(pairs):
        raise DoubledKeyError(f"has the field {_doubled(pairs)} twice")
    return made


def _look_at(pairs: Pairs) -> None:
    """As `unique`, and keeps nothing, which is faster."""
    unique(pairs)


def _doubled(pairs: Pairs) -> str:
    names = [name for name, _ in pairs]
    return next(name for name in names if names.count(name) > 1)


def _first_doubled(text: str) -> str:
    """Where a doubled key stands: `rows[3].figures.peak`; without what leads there if another one hides it."""
    doubled: list[tuple[dict, str]] = []

    def made(pairs: Pairs) -> dict:
        read = dict(pairs)
        if len(read) < len(pairs):
            doubled.append((read, _doubled(pairs)))
        return read

    within: list[tuple[object, str]] = [(json.loads(text, object_pairs_hook=made), "")]
    holder, name = doubled[0]
    while within:
        value, path = within.pop()
        if value is holder:
            return f"{path}.{name}".lstrip(".")
        if isinstance(value, dict):
            within += [(inner, f"{path}.{key}") for key, inner in value.items()]
        elif isinstance(value, list):
            within += [(inner, f"{path}[{number}]") for number, inner in enumerate(value)]
    return name
