"""The published text-motion evaluator (Guo et al. 2022): texts and motions in one space, for the metrics.

State-dict names are the published ones. Motions are features at the data set's frame rate, normalised with the
evaluator's own mean and standard deviation; words are GloVe vectors and one-hot part-of-speech tags.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from methods import checkpoint
from methods.checkpoint import CheckpointError
from methods.errors import InputError

UNIT = 4
"""Frames that the movement encoder makes one step of."""


@dataclass(frozen=True)
class EvaluatorConfig:
    """Sizes of the evaluator; the defaults are the published HumanML3D model (KIT-ML: `features` 251)."""

    features: int = 263
    words: int = 300
    """Width of a word vector."""
    tags: int = 15
    """Number of part-of-speech tags."""
    text_width: int = 512
    movement_width: int = 512
    motion_width: int = 1024
    embedding: int = 512


class MovementConvEncoder(nn.Module):
    """Features without the foot contacts, `[B, F, features]`, to movements `[B, F // 4, width]`."""

    def __init__(self, features: int, width: int):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv1d(features, width, kernel_size=4, stride=2, padding=1),
            nn.Dropout(0.2),
            nn.LeakyReLU(0.2),
            nn.Conv1d(width, width, kernel_size=4, stride=2, padding=1),
            nn.Dropout(0.2),
            nn.LeakyReLU(0.2),
        )
        self.out_net = nn.Linear(width, width)

    def forward(self, motions: Tensor) -> Tensor:
        return self.out_net(self.main(motions.transpose(1, 2)).transpose(1, 2))


class BiGruCo(nn.Module):
    """What both encoders end with: a bidirectional GRU from a learned state, its two last states to an embedding."""

    def __init__(self, inputs: int, width: int, embedding: int):
        super().__init__()
        self.hidden = nn.Parameter(torch.randn(2, 1, width))
        self.input_emb = nn.Linear(inputs, width)
        self.gru = nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.output_net = nn.Sequential(
            nn.Linear(2 * width, width), nn.LayerNorm(width), nn.LeakyReLU(0.2), nn.Linear(width, embedding)
        )

    def embed(self, sequence: Tensor, lengths: Tensor) -> Tensor:
        """`[B, N, inputs]` of which the first `lengths` `[B]` are valid, to `[B, embedding]`, in the order given."""
        packed = pack_padded_sequence(self.input_emb(sequence), lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, last = self.gru(packed, self.hidden.expand(-1, len(sequence), -1).contiguous())
        return self.output_net(torch.cat([last[0], last[1]], dim=-1))


class MotionEncoderBiGRUCo(BiGruCo):
    """Movements `[B, M, movement_width]` and their numbers `[B]` to `[B, embedding]`."""

    def forward(self, movements: Tensor, lengths: Tensor) -> Tensor:
        return self.embed(movements, lengths)


class TextEncoderBiGRUCo(BiGruCo):
    """Word vectors `[B, N, words]`, one-hot tags `[B, N, tags]` and their numbers `[B]` to `[B, embedding]`."""

    def __init__(self, words: int, tags: int, width: int, embedding: int):
        super().__init__(words, width, embedding)
        self.pos_emb = nn.Linear(tags, words)

    def forward(self, words: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        return self.embed(words + self.pos_emb(tags), lengths)


class Evaluator(nn.Module):
    """The three networks. Embeddings come in the order of the inputs.

    The published wrapper wants texts by falling length and gives both embeddings by falling motion length; whoever
    pairs its output with anything else in the original order pairs wrongly. Here nothing is reordered.
    """

    def __init__(self, config: EvaluatorConfig | None = None):
        super().__init__()
        self.config = config = config or EvaluatorConfig()
        self.text_encoder = TextEncoderBiGRUCo(config.words, config.tags, config.text_width, config.embedding)
        self.movement_encoder = MovementConvEncoder(config.features - 4, config.movement_width)
        self.motion_encoder = MotionEncoderBiGRUCo(config.movement_width, config.motion_width, config.embedding)

    def embed_motions(self, motions: Tensor, lengths: Tensor) -> Tensor:
        """`[B, embedding]` of normalised features `[B, F, features]`, of which the first `lengths` `[B]` are valid.

        Lengths are rounded down to multiples of 4. The last movement sees three frames past the end, so pad with 0, and
        all motions that are compared to one F (published: 196).
        InputError for another width, or for a length below 4 or above F.
        """
        if motions.shape[-1] != self.config.features:
            raise InputError(
                f"motions have {motions.shape[-1]} features a frame, the evaluator takes {self.config.features}: "
                "load the evaluator of the same data set"
            )
        _check_lengths(lengths, UNIT, motions.shape[1], "motions", "frames")
        return self.motion_encoder(self.movement_encoder(motions[..., :-4]), lengths // UNIT)

    def embed_texts(self, words: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        """`[B, embedding]` of word vectors `[B, N, words]` and one-hot tags `[B, N, tags]`, `lengths` `[B]` valid.

        InputError for other widths, or for a length below 1 or above N.
        """
        widths, wanted = (words.shape[-1], tags.shape[-1]), (self.config.words, self.config.tags)
        if widths != wanted:
            raise InputError(
                f"words and tags are {widths[0]} and {widths[1]} wide, the evaluator takes {wanted[0]} and "
                f"{wanted[1]}: use the vectors and tags that it was trained with"
            )
        _check_lengths(lengths, 1, words.shape[1], "texts", "words")
        return self.text_encoder(words, tags, lengths)


def load(path: Path | str, config: EvaluatorConfig | None = None) -> Evaluator:
    """The evaluator with the weights of a published file (`finest.tar`) or of what checkpoint.save wrote; frozen, in
    eval mode.

    CheckpointError for a file that is missing, cut off or damaged, holds pickled objects, which are never run, or does
    not fit: it names the weights that are missing, unexpected or of another shape.
    """
    evaluator = Evaluator(config)
    state = _read(path)
    try:
        evaluator.load_state_dict(state)
    except RuntimeError as error:  # torch lists them by name, over several lines
        raise CheckpointError(f"{path} is no evaluator of this size: {' '.join(str(error).split())}") from None
    return evaluator.eval().requires_grad_(False)


def _read(path: Path | str) -> dict[str, Tensor]:
    """The weights of the three networks by their names in Evaluator.

    The published file is a dict of state dicts, one a network, among the optimisers' and counters.
    """
    if Path(path).suffix == ".safetensors":
        return checkpoint.read(path)
    content = checkpoint.read_torch(path)
    if isinstance(content, dict):
        parts = {
            name: content[name] for name in ("text_encoder", "movement_encoder", "motion_encoder") if name in content
        }
        if parts and all(isinstance(part, dict) for part in parts.values()):
            content = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.items()}
    return checkpoint.state_dict(content, path)


def _check_lengths(lengths: Tensor, least: int, most: int, what: str, unit: str) -> None:
    wrong = (lengths < least) | (lengths > most)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise InputError(
            f"{what} must have {least} to {most} {unit}, but row {row} has {int(lengths[row])}: leave it out"
        )
