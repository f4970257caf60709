"""Captions as embeddings, from a text encoder behind one interface.

The models read a sentence vector, the reward also one vector for each token. Encoders are a sentence-transformers model
from a local path (nothing is ever downloaded; an extra), and a table of embeddings that such a model made once, which
needs nothing and knows only the texts it was made for.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bench.motion.clip import DataError
from methods import checkpoint
from methods.checkpoint import CheckpointError


class TextEncoder(Protocol):
    """What turns captions into embeddings. Vectors are as the model gives them, in float32 on the CPU."""

    name: str
    """Of the model."""
    width: int

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Sentence vectors [N, D]."""
        ...

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token vectors [N, L, D], padded with zeros to the longest text, and a mask [N, L], true where a token is."""
        ...


class SentenceTransformer:
    """A sentence-transformers model (sentence-t5, MiniLM, ...) in a local folder."""

    def __init__(self, path: Path | str) -> None:
        """DataError if the library is not installed, or the folder is not there."""
        try:
            from sentence_transformers import SentenceTransformer as Model
        except ImportError:
            raise DataError(
                "sentence_transformers is not installed: pip install 'motion-reward-bench[text]', or use the embedded "
                "world, whose captions are encoded already"
            ) from None
        if not Path(path).is_dir():
            raise DataError(f"there is no folder {path}: give the local path of a sentence-transformers model")
        self._model = Model(str(path), device="cpu", local_files_only=True)
        self.name = Path(path).name
        self.width = len(self.encode(["a person"])[0])

    def encode(self, texts: Sequence[str]) -> Tensor:
        return self._model.encode(list(texts), convert_to_tensor=True, show_progress_bar=False).float()

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """As TextEncoder; tokens are the model's own."""
        vectors = self._model.encode(list(texts), output_value="token_embeddings", show_progress_bar=False)
        return padded([of_text.float() for of_text in vectors])


class CachedTable:
    """Embeddings read back by exact text. Its tokens are words, each the vector that the model gave the word alone."""

    def __init__(self, path: Path | str) -> None:
        """DataError for a file that is missing or is no such table."""
        if not Path(path).is_file():
            raise DataError(f"there is no table of embeddings at {path}: check the path, or make it (build_table)")
        try:
            tensors, metadata = checkpoint.read_tensors(path)
            # The committed table is older than the entry.
            self._hold(path, tensors, json.loads(metadata["table"]) if "table" in metadata else metadata)
        except (CheckpointError, KeyError, TypeError, ValueError, RecursionError):
            raise DataError(f"{path} is not a whole table of embeddings: make it again (build_table)") from None

    @classmethod
    def held(cls, path: Path | str, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> "CachedTable":
        """The table that a larger file holds, from what `stored` gave.

        KeyError, TypeError or ValueError where a part of it is not there, or parts do not fit each other.
        """
        table = cls.__new__(cls)
        table._hold(path, tensors, about)
        return table

    def _hold(self, path: Path | str, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
        self._sentences, self._words = tensors["sentences"], tensors["words"]
        self.texts: list[str] = _strings(about["texts"])
        vocabulary = _strings(about["vocabulary"])
        self._about = {name: str(about[name]) for name in ("encoder", "texts", "vocabulary")}
        self.name, self.source = self._about["encoder"], str(about.get("source", ""))
        for vectors, rows in ((self._sentences, self.texts), (self._words, vocabulary)):
            if vectors.ndim != 2 or len(vectors) != len(rows) or not vectors.is_floating_point():
                raise ValueError("as many vectors as texts or words are needed")
        if not self.texts or not vocabulary or self._words.shape[1] != self._sentences.shape[1]:
            raise ValueError("vectors of texts and of words must be as wide")
        self.path, self.width = Path(path), self._sentences.shape[1]
        self._texts = {text: n for n, text in enumerate(self.texts)}
        self._vocabulary = {word: n for n, word in enumerate(vocabulary)}

    @property
    def digest(self) -> str:
        """Of its vectors, and of what they are of."""
        return checkpoint.digest(*self.stored())

    def stored(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Tensors and text to keep in another file: `sentences` and `words`, `[N, D]` each, and what rows they have."""
        return {"sentences": self._sentences, "words": self._words}, self._about

    def encode(self, texts: Sequence[str]) -> Tensor:
        """As TextEncoder; DataError for a text that the table does not hold."""
        return self._sentences[[self._row(text, self._texts) for text in texts]].float()

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """As TextEncoder; DataError for a word that the table does not hold."""
        return padded([self._words[[self._row(word, self._vocabulary) for word in words(text)]] for text in texts])

    def _row(self, text: str, rows: dict[str, int]) -> int:
        if text not in rows:
            raise DataError(
                f"{self.path} holds no embedding of {text!r}: encode it with a SentenceTransformer of {self.name}, or "
                "build a table of your own captions (build_table)"
            )
        return rows[text]


def words(text: str) -> list[str]:
    """The words of a text, in small letters and without punctuation."""
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower())


def _strings(text: str) -> list[str]:
    """Of JSON; ValueError if it is no list of strings."""
    texts = json.loads(text)
    if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
        raise ValueError("no list of strings")
    return texts


def build_table(encoder: TextEncoder, path: Path | str, texts: Sequence[str], source: str = "") -> None:
    """Writes the table of the given texts, each once, in half precision, atomically.

    The encoder's name goes into the file, with the texts and words in the order of their vectors, and `source`: what
    the table was made from, by which whoever keeps it knows it again.
    """
    every = list(dict.fromkeys(texts))
    vocabulary = sorted({word for text in every for word in words(text)})
    tensors = {"sentences": encoder.encode(every).half(), "words": encoder.encode(vocabulary).half()}
    about = {"encoder": encoder.name, "texts": json.dumps(every), "vocabulary": json.dumps(vocabulary)}
    checkpoint.save_tensors(tensors, path, "table", {**about, "source": source})


def padded(vectors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Of one text each, `[L, D]`, as TextEncoder.tokens gives them."""
    mask = pad_sequence([torch.ones(len(each), dtype=torch.bool) for each in vectors], batch_first=True)
    return pad_sequence(list(vectors), batch_first=True).float(), mask
