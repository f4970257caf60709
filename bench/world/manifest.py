"""A world of published models and data: a folder, and in it `world.json`, which says what lies where.

    {"data": "HumanML3D",
     "backbone": {"name": "mld", "file": "mld_humanml_v1.ckpt", "text": "sentence-t5-large"},
     "reward": {"name": "spm", "file": "spm.pth", "text": "sentence-t5-large"},
     "evaluator": {"file": "t2m/text_mot_match/model/finest.tar", "glove": "glove",
                   "mean": "t2m/Comp_v6_KLD01/meta/mean.npy", "std": "t2m/Comp_v6_KLD01/meta/std.npy"},
     "judge": {"name": "tmr", "file": "tmr/last_weights", "text": "distilbert-base-uncased",
               "mean": "tmr/stats/mean.pt", "std": "tmr/stats/std.pt"}}

Names are those of the registry; paths are relative to the folder, or absolute. `judge` may be left out, and so may
`mean` and `std` where a network reads motions as the data set's Mean.npy and Std.npy normalise them. Nothing pickled is
ever run.
"""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec
import torch
from torch import Tensor, nn

from bench import strict_json
from bench.motion import encoders, evaluator, humanml3d, npy
from bench.motion.clip import SPLITS, Caption, Clips, DataError
from bench.motion.encoders import TextTable, Widths
from bench.motion.evaluator import Evaluator, EvaluatorConfig
from bench.motion.glove import Vocabulary
from bench.motion.lines import read_bytes
from bench.world.data import Statistics
from bench.world.user_data import shuffled_position
from methods import checkpoint
from methods.entries import BackboneEntry, RewardEntry
from methods.interface import Backbone, Reward
from methods.registry import BACKBONES, REWARDS, look_up
from methods.rewards.tmr import Tmr

MANIFEST = "world.json"
AnyEntry = TypeVar("AnyEntry", BackboneEntry, RewardEntry)
EVALUATOR = "github.com/EricGuo5513/text-to-motion"
SOURCES = {
    "mld-original": "github.com/ChenFengYe/motion-latent-diffusion",
    "mldpp": "github.com/Dai-Wenxun/MotionLCM",
    "mld": "github.com/Dai-Wenxun/MotionLCM, or fine-tuned, github.com/wengwanjiang/EasyTune",
    "motionlcm": "github.com/Dai-Wenxun/MotionLCM",
    "mdm": "github.com/GuyTevet/motion-diffusion-model",
    "spm": "github.com/wengwanjiang/EasyTune",
    "tmr": "github.com/Mathux/TMR",
}
"""Where models are published, by how their names begin."""


def _source(name: str) -> str:
    return next((source for begin, source in SOURCES.items() if name.startswith(begin)), "whoever registered it")


class Network(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A backbone, or what scores its motions."""

    name: str
    """In the registry."""
    file: str
    text: str
    """Folder of the text encoder that it was trained with."""
    mean: str | None = None
    std: str | None = None
    """What its motions are normalised by, if not by the data set's."""


class EvaluatorFiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The published evaluator."""

    file: str
    glove: str
    """Folder of its vocabulary."""
    mean: str | None = None
    std: str | None = None
    """As of Network."""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """world.json."""

    data: str
    """Folder of HumanML3D or KIT-ML."""
    backbone: Network
    reward: Network
    evaluator: EvaluatorFiles
    judge: Network | None = None


class Part(NamedTuple):
    """One part of a world: the files that it takes, where their authors publish them, and what reads and checks it."""

    name: str
    paths: tuple[Path, ...]
    source: str
    read: Callable[[], object]

    @property
    def missing(self) -> list[Path]:
        return [path for path in self.paths if not path.exists()]


class Folder:
    """The files of a world, each read when it is asked for, and once."""

    def __init__(self, path: Path | str) -> None:
        """DataError for a folder without a manifest, or with one of no use."""
        self.path = Path(path).resolve()
        self._tables: dict[Path, TextTable] = {}
        self.manifest = _manifest(self.path)

    def _at(self, name: str) -> Path:
        return self.path / name

    def parts(self) -> list[Part]:
        """All that the manifest names."""
        given, at = self.manifest, self._at
        parts = [
            Part(
                "data",
                tuple(at(given.data) / name for name in ("new_joint_vecs", "texts", "Mean.npy", "Std.npy"))
                + tuple(at(given.data) / f"{split}.txt" for split in SPLITS),
                "github.com/EricGuo5513/HumanML3D, which has KIT-ML too",
                lambda: self.splits,
            ),
            Part(
                "backbone",
                self._of(given.backbone),
                _source(given.backbone.name),
                lambda: (self.backbone, self.statistics),
            ),
            Part("reward", self._of(given.reward), _source(given.reward.name), lambda: self.reward),
            Part(
                "evaluator",
                self._of(given.evaluator),
                EVALUATOR,
                lambda: (self.evaluator, self.evaluator_statistics),
            ),
            Part("vocabulary", (at(given.evaluator.glove),), f"{EVALUATOR} (glove.zip)", lambda: self.vocabulary),
        ]
        if given.judge:
            parts.append(Part("judge", self._of(given.judge), _source(given.judge.name), lambda: self.judge))
        return parts + [self._encoder(name, network) for name, network in self._networks().items()]

    def _encoder(self, name: str, network: Network) -> Part:
        """The text encoder of a network, or, where it has gone, the table that it made."""
        encoder, table = self._at(network.text), encoders.table_path(self.path, self._at(network.text))
        source = f"huggingface.co, {encoder.name}"
        if encoder.is_dir() or not table.is_file():
            return Part(f"text encoder of the {name}", (encoder,), source, lambda: self.check_widths(name))
        return Part(f"captions of the {name}", (table,), source, lambda: self.text(name, lambda line: None))

    def _of(self, network: Network | EvaluatorFiles) -> tuple[Path, ...]:
        return tuple(self._at(name) for name in (network.file, network.mean, network.std) if name is not None)

    def _networks(self) -> dict[str, Network]:
        given = self.manifest
        every = {"backbone": given.backbone, "reward": given.reward, "judge": given.judge}
        return {name: network for name, network in every.items() if network}

    @cached_property
    def _data_statistics(self) -> Statistics:
        return Statistics(*map(torch.from_numpy, humanml3d.statistics(self._at(self.manifest.data))))

    @property
    def features(self) -> int:
        """Of a frame: 263 or 251."""
        return len(self._data_statistics.mean)

    @cached_property
    def statistics(self) -> Statistics:
        """What the backbone's motions are normalised by."""
        return self._own_statistics(self.manifest.backbone) or self._data_statistics

    @cached_property
    def splits(self) -> dict[str, Clips]:
        """The clips of each split that the published loaders take, in an order that has nothing to do with their names.
        DataError for a split without any."""
        made = {}
        for split in SPLITS:
            with warnings.catch_warnings():  # said by `notes`
                warnings.simplefilter("ignore")
                clips = humanml3d.load(self._at(self.manifest.data), split).parts()
            if not clips:
                raise DataError(f"{self._at(self.manifest.data)} has no clip of a usable length in its split {split}")
            made[split] = replace(clips, entries=tuple(sorted(clips.entries, key=shuffled_position)))
        return made

    def notes(self) -> list[str]:
        """How many clips each split has, and how many were left out and why, a line each."""
        notes = [f"{split}: {len(clips)} clips" for split, clips in self.splits.items()]
        return notes + [
            f"{split}: left out, {why}: {count}"
            for split, clips in self.splits.items()
            for why, count in clips.left_out.items()
        ]

    @cached_property
    def entry(self) -> BackboneEntry:
        return self._fitting(look_up(BACKBONES, "backbone", self.manifest.backbone.name), self.manifest.backbone)

    @cached_property
    def backbone(self) -> Backbone:
        backbone = self.entry.build()
        checkpoint.load_backbone(backbone, self._at(self.manifest.backbone.file))
        return backbone

    @cached_property
    def reward(self) -> Reward:
        return self._scorer(self.manifest.reward)

    @cached_property
    def judge(self) -> Tmr | None:
        if self.manifest.judge is None:
            return None
        judge = self._scorer(self.manifest.judge)
        if not isinstance(judge, Tmr):
            raise DataError(f"{self.manifest.judge.name} cannot judge: name tmr in {MANIFEST}, or no judge")
        return judge

    def _scorer(self, given: Network) -> Reward:
        entry = self._fitting(look_up(REWARDS, "reward", given.name), given)
        reward = entry.build()
        if isinstance(reward, Tmr):
            checkpoint.load_tmr(reward, self._at(given.file))
            own = self._own_statistics(given) or self._data_statistics
            reward.read_normalised_by(self.statistics.mean, self.statistics.std, own.mean, own.std)
            return reward
        if given.mean is not None or given.std is not None:
            raise DataError(f"{given.name} reads motions as the backbone knows them: leave out its mean and std")
        checkpoint.load_spm(_module(reward), self._at(given.file))
        return reward

    def _fitting(self, entry: AnyEntry, given: Network) -> AnyEntry:
        """The entry; DataError where it is for motion of another width than the data's."""
        if entry.features != self.features:
            raise DataError(
                f"{given.name} is for {entry.features} features a frame, and {self.manifest.data} has {self.features}: "
                "choose models of the same data set"
            )
        return entry

    @cached_property
    def evaluator(self) -> Evaluator:
        path = self._at(self.manifest.evaluator.file)
        return evaluator.load(path, EvaluatorConfig(features=self.features))

    @cached_property
    def evaluator_statistics(self) -> Statistics:
        return self._own_statistics(self.manifest.evaluator) or self._data_statistics

    def _own_statistics(self, given: Network | EvaluatorFiles) -> Statistics | None:
        if given.mean is None and given.std is None:
            return None
        if given.mean is None or given.std is None:
            raise DataError(f"{MANIFEST} gives a mean without a std, or the other way round: give both, or none")
        made = Statistics(*(_numbers(self._at(name), self.features) for name in (given.mean, given.std)))
        if not (made.std > 0).all():
            raise DataError(f"{self._at(given.std)} has deviations that are not above 0: fetch it again")
        return made

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """DataError for vectors of another width than the evaluator's."""
        made = Vocabulary(self._at(self.manifest.evaluator.glove))
        wanted = EvaluatorConfig().words
        if made.width != wanted:
            raise DataError(
                f"{self._at(self.manifest.evaluator.glove)} has vectors {made.width} wide, and the evaluator reads "
                f"{wanted}: fetch the vocabulary that came with it"
            )
        return made

    def check_widths(self, name: str) -> None:
        """DataError for a network whose text encoder gives vectors of other widths than it reads."""
        network = self._networks()[name]
        given, wanted = encoders.widths(self._at(network.text)), self._wanted(name, network)
        if any(want is not None and want != have for want, have in zip(wanted, given, strict=True)):
            raise DataError(
                f"{self._at(network.text)} gives vectors of width {given}, and {network.name} reads {wanted}: give the "
                "text encoder that it was trained with"
            )

    @staticmethod
    def _wanted(name: str, network: Network) -> Widths:
        if name == "backbone":
            return Widths(look_up(BACKBONES, "backbone", network.name).text[1], None)
        return Widths(None, look_up(REWARDS, "reward", network.name).tokens[1])

    def text(self, name: str, say: Callable[[str], None]) -> TextTable:
        """The table of the captions, and of the empty one, by the text encoder of a network; made if need be."""
        network = self._networks()[name]
        encoder = self._at(network.text)
        if encoder.is_dir():
            self.check_widths(name)
        if encoder not in self._tables:
            texts = sorted({caption.text for clips in self.splits.values() for caption in captions(clips)})
            self._tables[encoder] = encoders.table(self.path, encoder, ["", *texts], say)
        made = self._tables[encoder]
        wanted = self._wanted(name, network)
        given = Widths(made.width if wanted.sentence else None, made.token_width if wanted.token else None)
        if given != wanted:
            raise DataError(f"{made.path} has vectors of width {given}, and {network.name} reads {wanted}: remove it")
        return made


def _manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    try:
        return msgspec.convert(strict_json.parse(read_bytes(path).decode()), Manifest)
    except FileNotFoundError:
        raise DataError(
            f"there is no {path}: write one that says what lies where, as bench/alignment/README.md shows"
        ) from None
    except DataError:
        raise
    except (ValueError, msgspec.ValidationError) as error:
        said = " ".join(str(error).split())[:200]
        raise DataError(f"{path} cannot be used ({said}): write it as bench/alignment/README.md shows") from None


def _numbers(path: Path, width: int) -> Tensor:
    """`[width]` of an .npy file, or of a tensor's torch file. DataError for anything else."""
    try:
        read = torch.from_numpy(npy.as_float32(npy.read(path), str(path))) if path.suffix == ".npy" else None
    except FileNotFoundError:
        raise DataError(f"there is no {path}, which {MANIFEST} names: fetch it") from None
    values = checkpoint.read_torch(path) if read is None else read
    if not isinstance(values, Tensor) or values.shape != (width,) or not values.float().isfinite().all():
        raise DataError(f"{path} does not hold {width} numbers: fetch it again, of the same data set")
    return values.float()


def captions(clips: Clips) -> Iterable[Caption]:
    return (caption for entry in clips.entries for caption in entry.captions)


def _module(network: object) -> nn.Module:
    assert isinstance(network, nn.Module), "a published network is one module, with one state dict"
    return network
