"""The word vectors and tags that the published evaluator reads, from the files that come with it.

our_vab_data.npy      vectors [V, 300]
our_vab_words.pkl     the V words, a list
our_vab_idx.pkl       the row of each word, a dict

The last two are pickles of plain lists and dicts. A pickle can run any code when it is read; these are read by a loader
that can look up nothing by its name, and so can build nothing but plain values.
"""

import io
import pickle
import pickletools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bench.motion import npy
from bench.motion.clip import DataError, shown
from bench.motion.lines import opened

LARGEST = 16 << 20
"""Bytes of a pickle that is read: many times the published ones."""
MOST_WORDS = 20
"""Words of a caption that are read; one more stands before them, and one after."""
FIRST, LAST, UNKNOWN = "sos", "eos", "unk"
TAGS = ("VERB", "NOUN", "DET", "ADP", "NUM", "AUX", "PRON", "ADJ", "ADV", "loc", "body", "obj", "act", "desc", "OTHER")
"""Parts of speech in the evaluator's order, and the kinds of words that have a tag of their own (KINDS)."""
KINDS = {
    "loc": "left right clockwise counterclockwise anticlockwise forward back backward up down straight curve",
    "body": "arm chin foot feet face hand mouth leg waist eye knee shoulder thigh",
    "obj": "stair dumbbell chair window floor car ball handrail baseball basketball",
    "act": "walk run swing pick bring kick put squat throw hop dance jump turn stumble stop sit lift lower raise wash "
    "stand kneel stroll rub bend balance flap jog shuffle lean rotate spin spread climb",
    "desc": "slowly carefully fast careful slow quickly happy angry sad happily angrily sadly",
}
_KIND_OF = {word: kind for kind, words in KINDS.items() for word in words.split()}
_TAG = {name: number for number, name in enumerate(TAGS)}


class Vocabulary:
    """Captions of `word/POS` as the evaluator reads them."""

    def __init__(self, folder: Path | str) -> None:
        """DataError for a file that is missing, holds anything but plain lists, dicts, words and numbers, or does not
        fit the others."""
        folder = Path(folder)
        try:
            vectors = npy.as_float32(npy.read(folder / "our_vab_data.npy"), str(folder / "our_vab_data.npy"))
            words, rows = (read_pickle(folder / f"our_vab_{name}.pkl") for name in ("words", "idx"))
        except FileNotFoundError as error:
            raise DataError(
                f"there is no {error.filename}: unpack glove.zip of the evaluator (text-to-motion) into {folder}"
            ) from None
        if vectors.ndim != 2 or not np.isfinite(vectors).all():
            raise DataError(
                f"{folder}: our_vab_data.npy holds {list(vectors.shape)}, no vectors of words: fetch it again"
            )
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise DataError(f"{folder}: our_vab_words.pkl is not a list of words: fetch it again")
        if not isinstance(rows, dict) or not all(type(row) is int and 0 <= row < len(vectors) for row in rows.values()):
            raise DataError(f"{folder}: our_vab_idx.pkl does not give rows of our_vab_data.npy: fetch it again")
        lacking = [word for word in (FIRST, LAST, UNKNOWN, *words) if word not in rows]
        if lacking:
            raise DataError(f"{folder}: our_vab_idx.pkl lacks the word {shown(lacking[0])}: fetch it again")
        self.width = vectors.shape[1]
        self._vectors = torch.from_numpy(vectors)
        self._rows: dict[str, int] = {word: rows[word] for word in (FIRST, LAST, UNKNOWN, *words)}

    def read(self, captions: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor, Tensor]:
        """Word vectors `[N, L, 300]` and one-hot tags `[N, L, 15]`, zeros past a caption's end, and lengths `[N]`.

        A caption is its `word/POS`, the first MOST_WORDS of them between a first and a last word, as published.
        """
        every = [[f"{FIRST}/OTHER", *caption[:MOST_WORDS], f"{LAST}/OTHER"] for caption in captions]
        lengths = torch.tensor([len(caption) for caption in every])
        longest = int(lengths.max())
        vectors = torch.zeros(len(every), longest, self.width)
        tags = torch.zeros(len(every), longest, len(TAGS))
        for number, caption in enumerate(every):
            rows, kinds = zip(*map(self._word, caption), strict=True)
            vectors[number, : len(rows)] = self._vectors[list(rows)]
            tags[number, : len(rows)] = F.one_hot(torch.tensor(kinds), len(TAGS)).float()
        return vectors, tags, lengths

    def _word(self, item: str) -> tuple[int, int]:
        """Row of a `word/POS` and number of its tag."""
        word, _, part = item.rpartition("/")
        if word not in self._rows:
            return self._rows[UNKNOWN], _TAG["OTHER"]
        part = _KIND_OF.get(word, part)
        return self._rows[word], _TAG.get(part, _TAG["OTHER"])


class _Plain(pickle.Unpickler):
    """Looks up nothing: whatever a pickle builds beside plain values it must ask for here."""

    def find_class(self, module: str, name: str) -> object:
        raise pickle.UnpicklingError(f"it asks for {shown(f'{module}.{name}')}")

    def persistent_load(self, identity: object) -> object:
        raise pickle.UnpicklingError("it asks for something outside the file")


def read_pickle(path: Path) -> object:
    """The lists, dicts, strings and numbers of a pickle; nothing in it is ever run.

    FileNotFoundError; DataError for a file of more than LARGEST bytes, one that is cut off, and one that asks for
    anything else to be built or for more memory than it has bytes for.
    """
    with opened(path, LARGEST) as file:
        content = file.read()
    try:
        _check_sizes(content)
        value = _Plain(io.BytesIO(content)).load()
        _check_plain(value)
    except Exception as error:  # a pickle is a program for a small machine, which fails in many ways
        said = " ".join(str(error).split())[:120] or type(error).__name__
        raise DataError(
            f"{path} is not a whole pickle of plain lists, dicts, words and numbers ({said}): nothing in it was run; "
            "fetch it again"
        ) from None
    return value


def _check_sizes(content: bytes) -> None:
    """ValueError where it would make the loader take memory that the file has no bytes for."""
    for operation, argument, _ in pickletools.genops(content):
        if "PUT" in operation.name and int(str(argument)) > len(content):
            raise ValueError("it numbers more values than it can hold")


def _check_plain(value: object) -> None:
    """ValueError for anything but a flat list or dict of words and numbers."""
    if not isinstance(value, list | dict):
        raise ValueError(f"it holds a {type(value).__name__}")
    inner = value if isinstance(value, list) else [*value, *value.values()]
    odd = next((each for each in inner if type(each) not in (str, int, float)), None)
    if odd is not None:
        raise ValueError(f"it holds a {type(odd).__name__}")
