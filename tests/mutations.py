"""Files damaged in seeded ways, and what reading one must come to: a good result, or one sentence that names the file.

A mutator takes the bytes of a whole file and a generator, and gives those of a damaged one. There are some for any
file, for lines of text, for JSON and JSON lines, and for arrays; `mutants` draws among those that it is given, each
from a seed of its own, so that mutant n is the same whatever is drawn before it.
"""

import io
import json
import random
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from methods.errors import InputError

Mutator = Callable[[bytes, random.Random], bytes]
LONGEST = 1000
"""Characters that a sentence may have."""


def mutants(whole: bytes, mutators: Sequence[Mutator], count: int, seed: int = 0) -> Iterator[bytes]:
    """Each is damaged once, one in four twice."""
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        damaged = whole
        for _ in range(1 if rng.random() < 0.75 else 2):
            damaged = rng.choice(mutators)(damaged, rng)
        yield damaged


def outcome(read: Callable[[], object], name: str) -> str | None:
    """None if `read` gives a result, else the sentence of its InputError. Anything else that it raises goes through.

    AssertionError for a sentence of several lines, that does not name the file or folder `name`, or is too long.
    """
    try:
        read()
    except InputError as error:
        said = str(error)
        assert len(said.splitlines()) == 1, f"several lines: {said!r}"
        assert said.isprintable(), f"not printable: {said!r}"
        assert name in said, f"does not name {name}: {said!r}"
        assert len(said) <= LONGEST, f"{len(said)} characters: {said[:200]!r}"
        return said
    return None


# Any file.


def _range(size: int, rng: random.Random) -> tuple[int, int]:
    start = rng.randrange(size + 1)
    return start, min(size, start + rng.choice((1, 2, 8, 64, 1024)))


def flip_bit(whole: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(whole)
    if damaged:
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def cut(whole: bytes, rng: random.Random) -> bytes:
    return whole[: rng.randrange(len(whole) + 1)]


def remove(whole: bytes, rng: random.Random) -> bytes:
    start, stop = _range(len(whole), rng)
    return whole[:start] + whole[stop:]


def repeat(whole: bytes, rng: random.Random) -> bytes:
    start, stop = _range(len(whole), rng)
    return whole[:stop] + whole[start:]


def insert(whole: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(whole) + 1)
    return whole[:start] + rng.choice((b"\0", b"\xff", b"\r", b"\n", rng.randbytes(16))) + whole[start:]


def overwrite(whole: bytes, rng: random.Random) -> bytes:
    start, stop = _range(len(whole), rng)
    return whole[:start] + rng.choice((b"\0" * (stop - start), rng.randbytes(stop - start))) + whole[stop:]


BYTES: tuple[Mutator, ...] = (flip_bit, cut, remove, repeat, insert, overwrite)

# Lines of text.

NUMBERS = ("0", "-1", "nan", "inf", "-inf", "1e308", "1e-308", "1e999", "9" * 30, "9" * 5000, "", "x", "0x10", "1,5")
SEPARATORS = ("\u2028", "\x85", "\r", "\x0b", "\x0c", "\x1c", "\ufeff", "\t", "\x00", "\x1b[2J", "\n\n\n", "#")


def change_number(whole: bytes, rng: random.Random) -> bytes:
    text = whole.decode(errors="replace")
    numbers = list(re.finditer(r"-?\d+(\.\d+)?", text))
    if not numbers:
        return whole
    place = rng.choice(numbers)
    return (text[: place.start()] + rng.choice(NUMBERS) + text[place.end() :]).encode()


def change_word(whole: bytes, rng: random.Random) -> bytes:
    text = whole.decode(errors="replace")
    words = list(re.finditer(r"\w+", text))
    if not words:
        return whole
    place, other = rng.choice(words), rng.choice(words)
    new = rng.choice((other[0], "", place[0].lower(), place[0] * 500, "é" + place[0]))
    return (text[: place.start()] + new + text[place.end() :]).encode()


def change_lines(whole: bytes, rng: random.Random) -> bytes:
    """A line left out, said twice, emptied, cut, or moved."""
    lines = whole.split(b"\n")
    place, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    line = lines[place]
    lines[place : place + 1] = rng.choice(([], [line, line], [b""], [line[: len(line) // 2]], [lines[other]]))
    return b"\n".join(lines)


def insert_separator(whole: bytes, rng: random.Random) -> bytes:
    text = whole.decode(errors="replace")
    start = rng.randrange(len(text) + 1)
    return (text[:start] + rng.choice(SEPARATORS) + text[start:]).encode()


def encode(whole: bytes, rng: random.Random) -> bytes:
    """In another encoding, or with other line ends."""
    text = whole.decode(errors="replace")
    changed = rng.choice((text, text.replace("\n", "\r\n"), text.replace("\n", "\r"), text.replace("a", "ä", 2)))
    return changed.encode(rng.choice(("utf-8-sig", "utf-16", "utf-16-be", "utf-32", "cp1252", "utf-8")), "replace")


TEXT: tuple[Mutator, ...] = (*BYTES, change_number, change_word, change_lines, insert_separator, encode)

# JSON.

VALUES = (
    *("null", "true", "false", "0", "-1", "0.5", "1e400", "NaN", "Infinity", "-Infinity", "9" * 30, "-" + "9" * 400),
    *("9" * 5000, '""', '"x"', '"0"', r'"\ud800"', r'"\u0000"', r'"a\u2028b\nc"', '"' + "x" * 5000 + '"'),
    *("[]", "{}", "[[]]", "[null]", '{"x": 1}', "[" * 100_000 + "]" * 100_000, '{"a":' * 5000 + "1" + "}" * 5000),
)
"""In place of any value."""


def change_json(whole: bytes, rng: random.Random) -> bytes:
    """A value replaced; a key left out, renamed or said twice; an element left out or said twice; a list of another
    length, a number that is 0, another name."""
    try:
        tree = json.loads(whole)
    except (ValueError, RecursionError):
        return whole
    places = list(_places(tree))
    if not places:
        return rng.choice(VALUES).encode()
    holder, key = rng.choice(places)
    change = rng.randrange(6)
    mark, raw = "\x01value\x01", rng.choice(VALUES)
    if change == 0:
        del holder[key]
    elif change == 1 and isinstance(holder, dict):
        holder[rng.choice((key + "x", key.upper(), ""))] = holder.pop(key)
    elif change == 1:
        holder.insert(key, holder[key])
    elif change == 2 and isinstance(holder, dict):
        raw = f"{raw}, {json.dumps(key)}: {json.dumps(holder[key])}"  # the same key twice
        holder[key] = mark
    elif change == 4 and isinstance(holder[key], list | str):
        value = holder[key]
        holder[key] = rng.choice((value[:-1], value[1:], value[:0], value + value[-1:], value * 2))
    elif change == 4 and not isinstance(holder[key], dict):
        holder[key] = 0
    else:
        holder[key] = mark
    return json.dumps(tree).replace(json.dumps(mark), raw).encode()


def _places(tree) -> Iterator[tuple[dict | list, object]]:
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield tree, key
        yield from _places(value)


def change_json_line(whole: bytes, rng: random.Random) -> bytes:
    lines = whole.split(b"\n")
    place = rng.randrange(len(lines))
    lines[place] = change_json(lines[place], rng)
    return b"\n".join(lines)


JSON: tuple[Mutator, ...] = (*TEXT, *(change_json,) * len(TEXT))
JSON_LINES: tuple[Mutator, ...] = (*TEXT, *(change_json_line,) * len(TEXT))

# Arrays.


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def npz(members: dict[str, bytes], compressed: bool = True) -> bytes:
    """An .npz of these .npy files."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as packed:
        for name, content in members.items():
            packed.writestr(f"{name}.npy", content)
    return file.getvalue()


ARRAYS = (
    *(np.array(1.5), np.array(7), np.array("x"), np.array([]), np.zeros((0, 22, 3)), np.zeros((2, 3, 4, 5))),
    *(np.array([{}, None]), np.array(["a", "a"]), np.array([b"a", b"\xff"]), np.array([1 + 2j]), np.array([True])),
    *(np.array([np.nan, np.inf]), np.array([-1, 2**62]), np.zeros(3, [("x", int)]), np.zeros(2, "datetime64[s]")),
)
HEADERS = (
    *((b"(", b"(1000000000000, "), (b"(", b"(-1, "), (b"(", b"(" * 200), (b"(", b"(1.5, "), (b")", b""), (b"<", b">")),
    *((b"f4", b"f8"), (b"f4", b"O"), (b"f4", b"V0"), (b"i8", b"U9999"), (b"False", b"True"), (b"False", b"None")),
    *((b"descr", b"d"), (b"'", b'"'), (b"}", b"}}"), (b"\x93NUMPY\x01", b"\x93NUMPY\x03"), (b"f4", b"f4','f4")),
)


def change_header(whole: bytes, rng: random.Random) -> bytes:
    """A word of an .npy file's header, which then has another length or content."""
    old, new = rng.choice(HEADERS)
    head, _, values = whole.partition(b"\n")
    changed = head.replace(old, new, 1)
    if rng.random() < 0.7:  # the header's length is made right, so that the change itself is read
        changed = changed[:8] + max(len(changed) + 1 - 10, 0).to_bytes(2, "little") + changed[10:]
    return changed + b"\n" + values


def change_array(whole: bytes, rng: random.Random) -> bytes:
    """Another type, shape, byte order or value; or another array in its place."""
    try:
        array = np.load(io.BytesIO(whole), allow_pickle=False)
    except Exception:  # it is damaged already
        return whole
    change = rng.randrange(6)
    if change == 0 or not array.size or array.dtype.kind not in "iufSU":
        return npy(rng.choice(ARRAYS))
    if change == 1:
        return npy(array.reshape(rng.choice(((-1,), (1, *array.shape), (*array.shape, 1)))))
    if change == 2:
        return npy(array[..., :-1] if array.ndim else array)
    if change == 3:
        return npy(np.asfortranarray(array).astype(array.dtype.newbyteorder(">")))
    if array.dtype.kind not in "iuf":
        return npy(np.repeat(array.ravel()[-1:], array.size))
    with np.errstate(all="ignore"):
        changed = array.astype(rng.choice(("f8", "f4", "f2", "i8", "i4", "u1")))
    value = rng.choice((0, 1, 100) if changed.dtype.kind in "iu" else (np.nan, np.inf, -1e4, 6e4, 0.0))
    changed.flat[rng.randrange(changed.size)] = value
    return npy(changed)


def change_member(whole: bytes, rng: random.Random) -> bytes:
    """An array of an .npz changed, damaged, renamed, left out or said twice; the file around it is right."""
    try:
        with zipfile.ZipFile(io.BytesIO(whole)) as packed:
            members = {name.removesuffix(".npy"): packed.read(name) for name in packed.namelist()}
    except Exception:  # it is damaged already
        return whole
    if not members:
        return whole
    name = rng.choice(sorted(members))
    change = rng.randrange(8)
    if change == 0:
        del members[name]
    elif change == 1:
        members[name + "x"] = members.pop(name)
    else:
        mutator = rng.choice((change_array, change_array, change_header, *BYTES))
        members[name] = mutator(members[name], rng)
    return npz(members, compressed=rng.random() < 0.5)


NPY: tuple[Mutator, ...] = (*BYTES, *(change_header, change_array) * 3)
NPZ: tuple[Mutator, ...] = (*BYTES, *(change_member,) * 8)
