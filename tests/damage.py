"""Seeded damage to JSON files: by structure (a key dropped, renamed or doubled, a value of another type, a number that
is none or 0, a list of another length, another name), and to their bytes (cut, flipped). The same seed does the same
damage."""

import json
from collections.abc import Callable, Iterator
from random import Random

DEEP = 20_000
DIGITS = 5_000
VALUES = {
    "null": "null",
    "true": "true",
    "zero": "0",
    "a negative number": "-1",
    "a fraction": "0.5",
    "text": '"text"',
    "no text": '""',
    "a list": "[]",
    "an object": "{}",
    "a list of one": "[1]",
    "NaN": "NaN",
    "infinity": "Infinity",
    "endless": "-1e999",
    "a large float": "1e308",
    "beyond 64 bits": "18446744073709551616",
    "a huge integer": "9" * 400,
    "more digits than are read": "9" * DIGITS,
    "deep lists": "[" * DEEP + "]" * DEEP,
    "deep objects": '{"a":' * DEEP + "0" + "}" * DEEP,
    "a moderate depth": "[" * 400 + "]" * 400,
    "half a letter": '"\\ud800"',
    "a terminal's controls": '"\\u001b[2J\\u0000\\n|=1+1"',
}
"""What a value is replaced by, as JSON has it or not."""
_MARK = "\x07value\x07"
_TWICE = "\x07twice\x07"


def damaged(text: str, random: Random) -> bytes:
    """A JSON document with one to three faults in its structure, or one in its bytes."""
    if random.random() < 0.2:
        return random.choice((_cut, _flipped))(text.encode(), random)
    documents = [json.loads(text)]  # in a list, so that the whole can be replaced, doubled or dropped as well
    values = []
    for _ in range(random.randint(1, 3)):
        kind, change = random.choice(_STRUCTURE)
        if spot := _spot(documents, kind, random):
            values += change(*spot, random)
    written = " ".join(map(json.dumps, documents)).replace(json.dumps(_TWICE)[1:-1], "")
    for value in values:
        written = written.replace(json.dumps(_MARK), value, 1)
    return written.encode("utf-8", "surrogatepass")


def damaged_lines(text: str, random: Random) -> bytes:
    """A file of JSON lines of which one is damaged, or the whole cut or flipped."""
    if random.random() < 0.2:
        return random.choice((_cut, _flipped))(text.encode(), random)
    lines = text.encode().splitlines()
    at = random.randrange(len(lines))
    lines[at] = damaged(lines[at].decode(), random)
    return b"\n".join(lines) + b"\n"


def _spot(documents: list, kind: type | tuple | None, random: Random) -> tuple[list | dict, object] | None:
    """A container and a key in it, at a depth by chance; with a kind, one of all whose value is of that kind."""
    if kind is not None:
        return random.choice([spot for spot in _spots(documents) if _is(spot[0][spot[1]], kind)] or [None])
    holder: list | dict = documents
    while holder:
        key = random.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        inner = holder[key]
        if not isinstance(inner, list | dict) or not inner or random.random() < 0.2:
            return holder, key
        holder = inner
    return None


def _spots(holder: list | dict) -> Iterator[tuple[list | dict, object]]:
    for key, inner in holder.items() if isinstance(holder, dict) else enumerate(holder):
        yield holder, key
        if isinstance(inner, list | dict):
            yield from _spots(inner)


def _is(value: object, kind: type | tuple) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and value != _MARK


def _dropped(holder, key, random: Random) -> list[str]:
    del holder[key]
    return []


def _renamed(holder, key, random: Random) -> list[str]:
    """A key; an item of a list changes places instead."""
    if isinstance(holder, dict):
        holder[f"{key}x"] = holder.pop(key)
    else:
        holder.append(holder.pop(key))
    return []


def _doubled(holder, key, random: Random) -> list[str]:
    if isinstance(holder, dict):
        holder[f"{key}{_TWICE}"] = _MARK
        return [_value(random)]
    holder.append(holder[key])
    return []


def _replaced(holder, key, random: Random) -> list[str]:
    holder[key] = _MARK
    return [_value(random)]


def _moved(holder, key, random: Random) -> list[str]:
    """A value goes where another belongs."""
    holder[key] = holder[random.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))]
    return []


def _resized(holder, key, random: Random) -> list[str]:
    """A list is cut, emptied, or longer by its last item or its whole."""
    items = holder[key]
    holder[key] = random.choice((items[:-1], items[1:], items[: len(items) // 2], [], items + items[-1:], items * 2))
    return []


def _named_otherwise(holder, key, random: Random) -> list[str]:
    holder[key] = random.choice((f"{holder[key]}x", holder[key][:-1], holder[key].upper(), "", "embedded", "draft"))
    return []


def _zero(holder, key, random: Random) -> list[str]:
    holder[key] = 0
    return []


_STRUCTURE: tuple[tuple[type | tuple | None, Callable], ...] = (
    *((None, change) for change in (_dropped, _renamed, _doubled, _moved, _replaced, _replaced, _replaced)),
    *((list, change) for change in (_resized, _resized, _moved)),
    *((str, change) for change in (_named_otherwise, _named_otherwise, _moved)),
    *(((int, float), change) for change in (_zero, _zero, _moved)),
    *((dict, change) for change in (_doubled, _dropped)),
)
"""What is done, and to values of which kind; None: whatever is come upon, each level of a document as likely."""


def _value(random: Random) -> str:
    return VALUES[random.choice(list(VALUES))]


def _cut(content: bytes, random: Random) -> bytes:
    start, end = sorted(random.randrange(len(content) + 1) for _ in range(2))
    return random.choice((content[:end], content[start:], content[:start] + content[end:]))


def _flipped(content: bytes, random: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(random.randint(1, 8)):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)
