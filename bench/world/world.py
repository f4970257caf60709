"""A world in one piece: a pre-trained backbone, its reward, an independent evaluator, and prompts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from bench import identity
from bench.cases import EMBEDDED, OVER_FRAMES
from bench.motion.clip import SPLITS, UNIT, DataError, check_split
from bench.motion.evaluator import Evaluator
from bench.motion.representation import joints_from_features
from bench.motion.skeleton import T2M
from bench.world.content import Captions, Content, Embedded
from bench.world.data import Statistics
from bench.world.model import BACKBONES, LATENT, WINDOW, RawBackbone, WorldBackbone, WorldConfig, WorldReward
from bench.world.user_data import UserData
from methods import checkpoint
from methods.checkpoint import CheckpointError
from methods.errors import InputError
from methods.interface import Batch
from methods.samplers import Sampler
from methods.transformer import timestep_features

WEIGHTS = Path(__file__).with_name("weights.safetensors")
"""The committed world."""
FULL_PRECISION = ("statistics.", "clips.", "backbone.vae.latent_", "backbone.vae.scale", "backbone.denoiser.variances")
"""Names that are not stored in half precision."""


@dataclass(frozen=True)
class Prompts:
    """What to generate: N captions, each with the length of its clip."""

    texts: tuple[str, ...]
    meanings: tuple[str, ...]
    """Equal for captions that say the same in other words."""
    lengths: Tensor
    """`[N]` frames."""

    def __len__(self) -> int:
        return len(self.texts)


@dataclass
class World:
    """Everything that a fine-tuning run and its measurement need. Motions are normalised features everywhere."""

    config: WorldConfig
    backbone: WorldBackbone | RawBackbone
    reward: WorldReward
    evaluator: Evaluator
    statistics: Statistics
    clips: dict[str, Tensor]
    """Of each split: the numbers of its clips, in order."""
    content: Content
    about: dict
    """How the weights came to be: command, seed, seconds, versions, metrics."""

    @property
    def captions(self) -> Captions:
        return self.content.captions

    def networks(self) -> dict[str, nn.Module]:
        return {"backbone": self.backbone, "reward": self.reward, "evaluator": self.evaluator}

    @property
    def device(self) -> torch.device:
        """Where motions, batches and embeddings are; numbers of clips and lengths of prompts stay on the CPU."""
        return self.statistics.mean.device

    def to(self, device: torch.device) -> "World":
        """The same world, moved there."""
        for network in self.networks().values():
            network.to(device)
        self.statistics = self.statistics.to(device)
        return self

    def batch(self, texts: Sequence[str], lengths: Tensor | Sequence[int]) -> Batch:
        """The inputs of one trajectory; F is the longest length.

        `batch.text` is the sentence vector, the length's features, and then one vector a word, zeros past the end; the
        null text is zeros.
        DataError for a text that is no caption of the world, InputError for a length that it does not have.
        """
        lengths = torch.as_tensor(lengths)
        shortest, longest = self.content.shortest, self.content.longest
        wrong = (lengths < shortest) | (lengths > longest) | (lengths % UNIT != 0)
        if wrong.any():
            raise InputError(
                f"motions of this world have {shortest} to {longest} frames in steps of {UNIT}, not "
                f"{int(lengths[wrong][0])}: round to one of these"
            )
        words, mask = self.captions.words(texts)
        text = torch.cat(
            [self.captions.sentences(texts)[:, None], timestep_features(lengths, words.shape[-1])[:, None], words],
            dim=1,
        )
        return Batch(
            text=text,
            null_text=torch.zeros_like(text[:1]),
            tokens=words,
            token_mask=mask,
            frame_mask=frame_mask(lengths, int(lengths.max())),
        ).to(self.device)

    def words(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """As Captions.words, on the world's device."""
        words, mask = self.captions.words(texts)
        return words.to(self.device), mask.to(self.device)

    def frame_mask(self, lengths: Tensor, frames: int) -> Tensor:
        """As the function, on the world's device."""
        return frame_mask(lengths, frames).to(self.device)

    def sampler(self, steps: int = 50) -> Sampler:
        """The backbone's own; InputError for a number of steps that it cannot take."""
        return self.backbone.sampler(steps)

    def embed_motions(self, motion: Tensor, lengths: Tensor) -> Tensor:
        """The evaluator's `[N, E]` of motions `[N, F, 263]` whose first `lengths` `[N]` frames are valid."""
        motion = motion * self.frame_mask(lengths, motion.shape[1])[..., None]
        # It sees past a motion's end: the same there for every batch.
        padding = self.content.longest + UNIT - motion.shape[1]
        return self.evaluator.embed_motions(F.pad(motion, (0, 0, 0, padding)), lengths)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """The evaluator's `[N, E]` of captions."""
        words, mask = self.words(texts)
        return self.evaluator.embed_texts(words, words.new_zeros(*mask.shape, 1), mask.sum(dim=1))

    def joints(self, motion: Tensor) -> NDArray[np.float32]:
        """Joints `[B, F, 22, 3]` in metres; past a motion's length they mean nothing."""
        return joints_from_features(self.statistics.restore(motion.detach()).cpu().numpy()).astype(np.float32)

    def prompts(self, split: str, count: int = 512) -> Prompts:
        """The first `count` clips of a split, each with its first caption (all of the split, if it has fewer)."""
        check_split(split)
        clips = [self.content.example(number) for number in self.clips[split][:count].tolist()]
        return Prompts(
            tuple(clip.captions[0].text for clip in clips),
            tuple(clip.captions[0].meaning for clip in clips),
            torch.tensor([clip.length for clip in clips]),
        )

    def real(self, split: str, count: int, seed: int) -> tuple[Tensor, Prompts]:
        """Motions `[N, F, 263]` of `count` random clips of a split, padded with zeros, and a caption of each."""
        check_split(split)
        rng = np.random.default_rng(seed)
        chosen = rng.permutation(len(self.clips[split]))[:count]
        clips = [self.content.example(number) for number in self.clips[split][torch.from_numpy(chosen)].tolist()]
        captions = [clip.captions[rng.integers(len(clip.captions))] for clip in clips]
        motions = [self.statistics.normalise(torch.from_numpy(clip.features()).to(self.device)) for clip in clips]
        return pad_sequence(motions, batch_first=True), Prompts(
            tuple(caption.text for caption in captions),
            tuple(caption.meaning for caption in captions),
            torch.tensor([len(motion) for motion in motions]),
        )

    @property
    def longest(self) -> int:
        return self.content.longest

    training_prompts = 1024
    """As AnyWorld."""

    def size(self, split: str) -> int:
        """How many clips a split has."""
        return len(self.clips[split])

    def real_features(self, split: str, index: int) -> NDArray[np.float32]:
        """`[F, 263]` of one of `prompts`, not normalised."""
        return self.content.example(int(self.clips[split][index])).features()

    def judged(self, texts: Sequence[str], motion: Tensor, lengths: Tensor) -> None:
        """There is one judge, the evaluator."""

    def save(self, path: Path | str = WEIGHTS) -> None:
        """Writes one safetensors file, atomically; weights in half precision."""
        tensors = {
            name: value if name.startswith(FULL_PRECISION) else value.half() for name, value in _state(self).items()
        }
        made = {"config": self.config.as_dict(), "about": self.about}
        held, content = self.content.stored()
        if content is not None:
            made["content"] = content
        checkpoint.save_tensors(tensors | held, path, "world", made)


def sized(config: WorldConfig, content: Content) -> WorldConfig:
    """The sizes with those that content sets: windows for the longest motion, the width of the captions' vectors."""
    width = content.captions.width
    return replace(
        config,
        text_width=width,
        vae=replace(config.vae, tokens=-(-content.longest // WINDOW)),
        evaluator=replace(config.evaluator, words=width),
    )


def untrained(
    config: WorldConfig, statistics: Statistics, clips: dict[str, Tensor], content: Content | None = None
) -> World:
    """A world with random weights, drawn from torch's global generator; `content`: the embedded one if None."""
    return World(
        config,
        BACKBONES[config.backbone](config),
        WorldReward(config.text_width, config.reward),
        Evaluator(config.evaluator),
        statistics,
        clips,
        content or Embedded(),
        {},
    )


def load(path: Path | str = WEIGHTS) -> World:
    """The world of a file that World.save wrote: in eval mode, all but the denoiser frozen.

    CheckpointError for a file that is missing, cut off or damaged, or is no such world, which is found out before a
    network of its sizes is made; DataError where the world was made of a folder that has gone or has changed. Nothing
    pickled is ever read.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no world at {path}: make one with python -m bench.alignment.pretrain")
    state, metadata = checkpoint.read_tensors(path)
    try:
        read = json.loads(metadata["world"])
        config, about = WorldConfig.from_dict(read["config"]), dict(read["about"])
        if config.depth > len(state):
            raise ValueError(f"a network of {config.depth} layers, and {len(state)} tensors")
        content = UserData.restored(path, read["content"], state) if "content" in read else Embedded()
        parts = (
            config,
            Statistics(state["statistics.mean"], state["statistics.std"]),
            {split: state[f"clips.{split}"] for split in SPLITS},
            content,
        )
        _check(*parts)
        with torch.device("meta"):
            _check_shapes(_state(untrained(*parts)), state)
        made = untrained(*parts)
        for name, network in made.networks().items():
            weights = {
                key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")
            }
            network.load_state_dict({key: value.float() for key, value in weights.items()})
    except DataError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, OverflowError) as error:
        raise CheckpointError(
            f"{path} holds no embedded world ({' '.join(str(error).split())[:200]}): "
            "make one with python -m bench.alignment.pretrain"
        ) from None
    made.about = about
    for network in made.networks().values():
        network.eval().requires_grad_(False)
    made.backbone.denoiser.requires_grad_(True)
    return made


def _check(config: WorldConfig, statistics: Statistics, clips: dict[str, Tensor], content: Content) -> None:
    """ValueError where the parts of a file do not fit each other."""
    if config != sized(config, content) or (config.evaluator.features, config.evaluator.tags) != (T2M.width, 1):
        raise ValueError("its sizes are not those that its motion and captions ask for")
    for name, values in vars(statistics).items():
        if values.shape != (T2M.width,) or not values.isfinite().all():
            raise ValueError(f"{name} of the statistics is not {T2M.width} numbers")
    if not (statistics.std > 0).all():
        raise ValueError("deviations are not above 0")
    for split, numbers in clips.items():
        whole = numbers.ndim == 1 and len(numbers) > 0 and not (numbers.is_floating_point() or numbers.is_complex())
        if not whole or numbers.min() < 0 or numbers.max() >= len(content):
            raise ValueError(f"clips of the split {split} are no numbers of its {len(content)} clips")


def _check_shapes(expected: dict[str, Tensor], state: dict[str, Tensor]) -> None:
    """ValueError for the first tensor of the networks that is missing or of another shape."""
    for name, value in expected.items():
        if name not in state or state[name].shape != value.shape:
            raise ValueError(f"{name} is not there as {tuple(value.shape)}")


def name_of(path: Path | str) -> str:
    """What the world in a file is called by its motion: "embedded", or the folder that it came from; and whether its
    backbone denoises frames. For a file that is no world, which `load` refuses, "unknown"."""
    try:
        with safe_open(path, "pt") as file:
            made = json.loads(file.metadata()["world"])
        content, backbone = made.get("content"), made["config"].get("backbone", LATENT)
        name = Path(content["folder"]).name if content else EMBEDDED
        return name if backbone == LATENT else f"{name}{OVER_FRAMES}"
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError, AttributeError):
        return "unknown"


def inputs(path: Path | str) -> dict[str, str | None]:
    """Digests of all that the world in a file is made of: the file, and the folder of motion that it was trained on."""
    digests = {"world": identity.file(path)}
    try:
        with safe_open(path, "pt") as file:
            content = json.loads(file.metadata()["world"]).get("content")
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        content = None  # no world, which `load` refuses
    return digests | ({"motion": identity.folder(content["folder"])} if content else {})


def frame_mask(lengths: Tensor, frames: int) -> Tensor:
    """`[B, frames]`, true in each row's first `lengths` `[B]`, on their device."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


def _state(world: World) -> dict[str, Tensor]:
    state = {
        f"{name}.{key}": value
        for name, network in world.networks().items()
        for key, value in network.state_dict().items()
    }
    state |= {"statistics.mean": world.statistics.mean, "statistics.std": world.statistics.std}
    return state | {f"clips.{split}": numbers for split, numbers in world.clips.items()}
