"""The text encoders that published models were trained with, in local folders, and the table of what one makes of all
captions of a data set, so that no text encoder is in memory while a model trains.

Sentence-t5-large is read by sentence-transformers; CLIP ViT-B/32 and distilbert-base-uncased by transformers. How wide
their vectors are stands in their configuration files: a folder of another model is refused before it is loaded.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from bench import identity, strict_json
from bench.motion.clip import DataError
from bench.motion.lines import read_bytes
from bench.motion.text import SentenceTransformer, TextEncoder, padded
from methods import checkpoint
from methods.checkpoint import CheckpointError

CHUNK = 64
"""Texts that are encoded at once."""
CLIP = ("clip", "clip_text_model")
CLIP_TOKENS = 22
"""Tokens of a caption that CLIP reads for MDM, the first and the last among them."""


class Widths(NamedTuple):
    """Of the vectors that an encoder gives for a text: one for the sentence, and one for each token; None: none."""

    sentence: int | None
    token: int | None

    def __str__(self) -> str:
        return " and ".join(f"{width} for a {what}" for what, width in self._asdict().items() if width)


def widths(folder: Path) -> Widths:
    """From the configuration files alone; DataError for a folder that is no text encoder's."""
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}: give that of the text encoder")
    try:
        if not (folder / "modules.json").is_file():
            config = _config(folder)
            if config["model_type"] in CLIP:
                return Widths(config["projection_dim"], config.get("text_config", config)["hidden_size"])
            return Widths(None, _hidden(config))
        modules = [folder / module["path"] for module in _json(folder / "modules.json")]
        token = _hidden(_config(modules[0]))
        configs = [_json(module / "config.json") for module in modules[1:] if (module / "config.json").is_file()]
        return Widths(next((c["out_features"] for c in reversed(configs) if "out_features" in c), token), token)
    except (AttributeError, KeyError, TypeError, IndexError, FileNotFoundError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
        raise DataError(
            f"{folder} is no text encoder's folder ({said}): give one of sentence-transformers (modules.json) or of "
            "transformers (config.json)"
        ) from None


def _config(folder: Path) -> dict:
    return _json(folder / "config.json")


def _json(path: Path):
    return strict_json.parse(read_bytes(path).decode())


def _hidden(config: dict) -> int:
    """The width of a model's tokens, under the names that T5, BERT and DistilBERT give it."""
    (name,) = {"d_model", "hidden_size", "dim"} & config.keys()
    return config[name]


class Transformer:
    """A text encoder of the transformers library: CLIP's, which gives sentence vectors too, or one of token vectors."""

    def __init__(self, path: Path | str) -> None:
        """DataError if the library is not installed, or the folder is not there."""
        try:
            from transformers import AutoModel, AutoTokenizer, CLIPTextModelWithProjection
        except ImportError:
            raise DataError("transformers is not installed: pip install 'motion-reward-bench[text]'") from None
        self.name, given = Path(path).name, widths(Path(path))
        self._clip = given.sentence is not None
        self.width = given.sentence or given.token or 0
        model = CLIPTextModelWithProjection if self._clip else AutoModel
        self._tokenizer = AutoTokenizer.from_pretrained(str(path), local_files_only=True)
        self._model = model.from_pretrained(str(path), local_files_only=True).eval()

    def encode(self, texts: Sequence[str]) -> Tensor:
        """As TextEncoder; DataError for an encoder that has vectors of tokens alone."""
        if not self._clip:
            raise DataError(f"{self.name} gives vectors of tokens, none of sentences: choose another text encoder")
        return self._run(texts)[0].text_embeds.float()

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """As TextEncoder; tokens are the model's own, its special ones among them."""
        output, mask = self._run(texts)
        return output.last_hidden_state.float() * mask[..., None], mask

    @torch.no_grad()
    def _run(self, texts: Sequence[str]):
        most = {"max_length": CLIP_TOKENS} if self._clip else {}
        given = self._tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt", **most)
        return self._model(**given), given["attention_mask"].bool()


def load(folder: Path | str) -> TextEncoder:
    """The text encoder in a folder, of whichever library; DataError as its class."""
    of_sentences = (Path(folder) / "modules.json").is_file()
    return SentenceTransformer(folder) if of_sentences else Transformer(folder)


class TextTable:
    """What one encoder made of texts, read back by exact text; see TextEncoder. Half precision, in memory.

    It keeps the tokens of each text by themselves, as published models read them, in their context and of another width
    than sentences; text.CachedTable, which lies inside the files of worlds, keeps each word once.
    """

    def __init__(self, path: Path | str) -> None:
        """DataError for a file that is missing, damaged, or no such table."""
        self.path = Path(path)
        try:
            tensors, metadata = checkpoint.read_tensors(path)
            about = json.loads(metadata["texts"])
            self.name, self.source, self.texts = str(about["encoder"]), str(about["source"]), list(about["texts"])
            self._lengths, self._tokens = tensors["lengths"].tolist(), tensors["tokens"]
            self._sentences = tensors.get("sentences")
            fits = len(self._lengths) == len(self.texts) and sum(self._lengths) == len(self._tokens)
            if not fits or (self._sentences is not None and len(self._sentences) != len(self.texts)):
                raise ValueError
        except (CheckpointError, KeyError, TypeError, ValueError, RecursionError):
            raise DataError(f"{path} is not a whole table of captions: remove it, so that it is made again") from None
        self._starts = torch.tensor([0, *self._lengths]).cumsum(0).tolist()
        self._rows = {text: row for row, text in enumerate(self.texts)}

    @property
    def width(self) -> int:
        """Of its sentences, or of its tokens where it has none of sentences."""
        return (self._tokens if self._sentences is None else self._sentences).shape[1]

    @property
    def token_width(self) -> int:
        return self._tokens.shape[1]

    def encode(self, texts: Sequence[str]) -> Tensor:
        """As TextEncoder; DataError for a text that it does not hold, or a table without sentences."""
        if self._sentences is None:
            raise DataError(f"{self.path} holds vectors of tokens alone: choose another text encoder")
        return self._sentences[[self._row(text) for text in texts]].float()

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """As TextEncoder; DataError for a text that it does not hold."""
        rows = [self._row(text) for text in texts]
        return padded([self._tokens[self._starts[row] : self._starts[row + 1]] for row in rows])

    def _row(self, text: str) -> int:
        if text not in self._rows:
            raise DataError(f"{self.path} holds no vector of {text!r}: remove it, so that it is made again")
        return self._rows[text]


def table_path(folder: Path, encoder: Path) -> Path:
    """Where `table` keeps what an encoder made."""
    return folder / f"captions-{encoder.name}.safetensors"


def table(folder: Path, encoder: Path, texts: Sequence[str], say: Callable[[str], None]) -> TextTable:
    """The table of the texts by the encoder in a folder, kept in `folder` and made once; where the encoder has gone,
    one that was made of these texts stands for it. DataError as `load` and TextTable."""
    path = table_path(folder, encoder)
    every = list(dict.fromkeys(texts))
    if path.is_file():
        known = TextTable(path)
        if known.texts == every and (not encoder.is_dir() or known.source == identity.folder(encoder)):
            return known
    wide = widths(encoder)
    say(f"captions: {len(every)} to encode by {encoder.name}")
    model = load(encoder)
    sentences, tokens, lengths = [], [], []
    for start in range(0, len(every), CHUNK):
        if start and start % (100 * CHUNK) == 0:
            say(f"captions: {start} of {len(every)}")
        chunk = every[start : start + CHUNK]
        vectors, mask = model.tokens(chunk)
        tokens.append(vectors[mask].half())
        lengths.append(mask.sum(dim=1))
        if wide.sentence:
            sentences.append(model.encode(chunk).half())
    tensors = {"tokens": torch.cat(tokens), "lengths": torch.cat(lengths)}
    if sentences:
        tensors["sentences"] = torch.cat(sentences)
    about = {"encoder": encoder.name, "source": identity.folder(encoder), "texts": every}
    checkpoint.save_tensors(tensors, path, "texts", about)
    return TextTable(path)
