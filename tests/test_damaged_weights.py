"""Files of weights that were cut, flipped, or made up: each loads as it was, or is refused in a sentence that names it.

Mutations are seeded: a few of the many that the slow tests try; MUTATIONS=10000 tries as many in their place.
"""

import copy
import json
import os
import random
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from test_evaluator import TINY as TINY_EVALUATOR
from test_evaluator import published_file
from test_finetune import start
from test_user_data import Letters
from test_world import TINY

from bench.alignment import rewards
from bench.motion import evaluator
from bench.motion.text import CachedTable, build_table
from bench.world import World, data, training, untrained, world
from bench.world.content import Embedded
from methods import checkpoint
from methods.backbones import mld
from methods.errors import InputError
from methods.finetune import CHECKPOINT, FinetuneConfig
from methods.rewards import spm

MANY = int(os.environ.get("MUTATIONS", 300))
mutated = pytest.mark.parametrize("mutations", [60, pytest.param(MANY, marks=pytest.mark.slow)])
HUGE = 10**30
ODD = (None, True, -1, 0, 1.5, float("nan"), HUGE, 30_011, "", "x", [], {}, [[]], {"a": 1})


@dataclass(frozen=True)
class Kind:
    """A kind of file: a whole one as bytes, under its name, and what reads it."""

    name: str
    whole: bytes
    load: Callable[[Path], object]


def _bytes(write: Callable[[Path], object], path: Path) -> bytes:
    write(path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def base() -> World:
    clips = data.generate(Embedded(64))
    torch.manual_seed(0)
    splits = {"train": torch.arange(40), "val": torch.arange(40, 50), "test": torch.arange(50, 64)}
    made = untrained(TINY, clips.statistics, splits)
    for network in made.networks().values():
        network.eval().requires_grad_(False)
    return made


@pytest.fixture(scope="module")
def kinds(base, tmp_path_factory) -> dict[str, list[Kind]]:
    folder = tmp_path_factory.mktemp("whole")
    torch.manual_seed(0)
    reward = rewards.TrainedReward(base, rewards.RewardConfig())
    backbone, scorer = mld.Mld(mld.TINY), spm.Spm(spm.TINY)

    def weights(module: torch.nn.Module, load: Callable) -> Callable[[Path], object]:
        def loaded(path: Path) -> object:
            healthy = copy.deepcopy(module)
            load(healthy, path)
            return healthy.state_dict()

        return loaded

    def stage(path: Path) -> torch.nn.Module:
        network = torch.nn.Linear(2, 2)
        losses = training.Stage("s", network, network.parameters(), lambda: network.weight.sum(), lambda: "", 3)
        path = path.replace(path.with_name("s.checkpoint"))
        training.train(losses, path.parent, lambda _: None)
        return network.state_dict()

    def tune(path: Path) -> object:
        config = FinetuneConfig("easytune", lr=0.01, batch=2, trajectories=2, ema=0.5)
        return start(config, path.parent, given={"world": "w@1"}).result().state_dict()

    def staged(path: Path) -> None:
        network = torch.nn.Linear(2, 2)
        optimizer = torch.optim.AdamW(network.parameters())
        stage = training.Stage("s", network, network.parameters(), lambda: network.weight.sum(), lambda: "", 3)
        network(torch.ones(2)).sum().backward()
        optimizer.step()
        training.write(path, stage, optimizer, 3, 1.0)

    def tuned(path: Path) -> None:
        start(
            FinetuneConfig("easytune", lr=0.01, batch=2, trajectories=2, ema=0.5), path.parent, given={"world": "w@1"}
        )

    def clips(path: Path) -> object:
        """Not world.data.cached, which makes again what is of other clips."""
        return checkpoint.read_tensors(path)[0]

    made = data.generate(Embedded(64)).stored()

    def kind(name: str, write: Callable[[Path], object], load: Callable[[Path], object]) -> Kind:
        return Kind(name, _bytes(write, folder / name), load)

    return {
        "safetensors": [
            kind("world.safetensors", base.save, lambda path: world.load(path).reward.state_dict()),
            kind(
                "reward.safetensors",
                lambda path: rewards.save(reward, path),
                lambda path: rewards.load(path, base).state_dict(),
            ),
            kind(
                "table.safetensors",
                lambda path: build_table(Letters(), path, ["he waves", "a dog"]),
                lambda path: CachedTable(path).encode(["he waves"]),
            ),
            kind(
                "mld.safetensors",
                lambda path: checkpoint.save(backbone, path),
                weights(backbone, checkpoint.load_backbone),
            ),
            kind("data.safetensors", lambda path: checkpoint.save_tensors(made[0], path, "clips", made[1]), clips),
        ],
        "torch": [
            kind(
                "mld.ckpt",
                lambda path: torch.save({"state_dict": backbone.state_dict()}, path),
                weights(backbone, checkpoint.load_backbone),
            ),
            kind(
                "spm.pt",
                lambda path: torch.save(scorer.state_dict(), path),
                weights(scorer, checkpoint.load_spm),
            ),
            kind(
                "finest.tar",
                lambda path: torch.save(published_file(), path),
                lambda path: evaluator.load(path, TINY_EVALUATOR).state_dict(),
            ),
            kind("s.checkpoint", staged, stage),
            kind(CHECKPOINT, tuned, tune),
        ],
    }


def damaged(content: bytes, rng: random.Random) -> bytes:
    """One bit flipped, or a piece cut off, cut out, doubled, or overwritten."""
    at = rng.randrange(len(content))
    if rng.random() < 0.3:
        at = rng.randrange(min(len(content), 4000))  # where headers are
    length = rng.choice((1, 8, 100, 5000))
    match rng.randrange(6):
        case 0:
            return content[:at]
        case 1:
            return content[:at] + content[at + length :]
        case 2:
            return content[: at + length] + content[at:]
        case 3:
            return content[:at] + rng.randbytes(length) + content[at + length :]
        case _:
            return content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]


def changed(value: object, rng: random.Random) -> object:
    """A JSON value or nested state with one part dropped, renamed, doubled, or of another type or size."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        if rng.random() < 0.6:
            return {**value, key: changed(value[key], rng)}
        rest = {name: healthy for name, healthy in value.items() if name != key}
        return rng.choice((rest, {**rest, "other": value[key]}, {**value, key: rng.choice(ODD)}))
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        return rng.choice((value[:at], value + value[at:], [*value[:at], changed(value[at], rng), *value[at + 1 :]]))
    if isinstance(value, torch.Tensor):
        return rng.choice((
            value.reshape(-1)[:1].clone(), value.double(), value.flatten(), value.new_zeros(()), value[..., None],
            value.bool(), value.new_zeros(0), value.reshape(-1)[0].expand(10**6, 10**4), value.to_sparse(),
        ))  # fmt: skip
    return rng.choice(ODD)


def remade_safetensors(content: bytes, rng: random.Random) -> bytes:
    """With another header, around the same bytes: metadata as if written without a digest."""
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    metadata = header.pop("__metadata__")
    if rng.random() < 0.3:
        header = changed(header, rng)
    else:
        ((kind, text),) = metadata.items()
        about = json.loads(text)
        about.pop("digest")
        text = json.dumps(changed(about, rng))
        if rng.random() < 0.1:
            text = rng.choice(("[" * 10**5, "9" * 5000, text[:-1], ""))
        metadata = {kind: text}
    made = json.dumps({"__metadata__": metadata, **header}).encode() if isinstance(header, dict) else b"[]"
    return struct.pack("<Q", len(made)) + made + content[8 + size :]


def remade_torch(content: bytes, rng: random.Random, path: Path) -> bytes:
    """With another state, whose checksums are right."""
    path.write_bytes(content)
    return _bytes(lambda target: torch.save(changed(torch.load(path, weights_only=True), rng), target), path)


def equal(one: object, other: object) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(healthy, other[name]) for name, healthy in one.items())
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def loaded_or_refused(kind: Kind, path: Path) -> object | None:
    """What a file holds; None where it was refused, in one line that names it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of casts
        try:
            return kind.load(path)
        except InputError as error:
            message = str(error)
    assert str(path.parent) in message
    assert "\n" not in message
    return None


@mutated
@pytest.mark.parametrize("form", ["safetensors", "torch"])
def test_every_damaged_file_is_refused_by_name_or_is_as_it_was(kinds, form, mutations, tmp_path):
    rng = random.Random(form)
    refused = 0
    whole = {}
    for kind in kinds[form]:
        (tmp_path / kind.name).write_bytes(kind.whole)
        whole[kind.name] = kind.load(tmp_path / kind.name)
    for _ in range(mutations):
        kind = rng.choice(kinds[form])
        path = tmp_path / kind.name
        path.write_bytes(damaged(kind.whole, rng))
        loaded = loaded_or_refused(kind, path)
        refused += loaded is None
        assert loaded is None or equal(loaded, whole[kind.name]), kind.name
    assert refused > 0.5 * mutations


@mutated
@pytest.mark.parametrize("form", ["safetensors", "torch"])
def test_every_file_of_another_structure_is_refused_by_name_or_loads(kinds, form, mutations, tmp_path):
    rng = random.Random(f"structure of {form}")
    refused = 0
    for _ in range(mutations):
        kind = rng.choice(kinds[form])
        path = tmp_path / kind.name
        if form == "safetensors":
            path.write_bytes(remade_safetensors(kind.whole, rng))
        else:
            path.write_bytes(remade_torch(kind.whole, rng, tmp_path / "remade"))
        refused += loaded_or_refused(kind, path) is None
    assert refused > 0.3 * mutations


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :]


@pytest.mark.parametrize(
    "name",
    [
        *(f"{name}.safetensors" for name in ("world", "reward", "mld")),
        *("mld.ckpt", "spm.pt", "finest.tar", "s.checkpoint", CHECKPOINT),
    ],
)
def test_one_flipped_bit_in_a_weight_is_noticed(kinds, name, tmp_path):
    (kind,) = (kind for every in kinds.values() for kind in every if kind.name == name)
    path = tmp_path / name
    # In the middle of safetensors there are weights; of a zip, those of the largest part.
    at = len(kind.whole) * 3 // 4
    if not name.endswith("safetensors"):
        at = kind.whole.rindex(b"\0\0\0\0PK") // 2
        while kind.whole[at] == 0 or b"FB" in kind.whole[at - 80 : at + 80] or b"PK" in kind.whole[at - 80 : at + 80]:
            at += 1
    path.write_bytes(flipped(kind.whole, at))
    with pytest.raises(InputError, match=path.name):
        kind.load(path)


def test_sizes_that_a_file_cannot_have_are_refused_before_a_network_is_made(base, tmp_path, monkeypatch):
    """30,011 layers took 9.6 GB."""
    path = tmp_path / "world.safetensors"
    base.save(path)
    tensors, metadata = checkpoint.read_tensors(path)
    about = json.loads(metadata["world"])
    about.pop("digest")
    monkeypatch.setattr(world, "untrained", None)  # is not asked

    for name, size in (("denoiser", "layers"), ("reward", "layers"), ("vae", "blocks")):
        bomb = copy.deepcopy(about)
        bomb["config"][name][size] = 30_011
        save_file(tensors, path, {"world": json.dumps(bomb)})
        with pytest.raises(InputError, match="30011 layers"):
            world.load(path)


@pytest.mark.parametrize("size", [10**5, 10**9, 10**18])
def test_wide_networks_are_compared_with_the_file_before_they_are_made(base, size, tmp_path):
    path = tmp_path / "world.safetensors"
    base.save(path)
    tensors, metadata = checkpoint.read_tensors(path)
    about = json.loads(metadata["world"])
    about.pop("digest")
    about["config"]["denoiser"]["feedforward"] = size
    save_file(tensors, path, {"world": json.dumps(about)})
    with pytest.raises(InputError, match=r"world\.safetensors holds no embedded world"):
        world.load(path)


@pytest.mark.parametrize(
    ("name", "value"), [("sentences", torch.tensor(1.0)), ("words", torch.zeros(2)), ("words", torch.zeros(1, 9))]
)
def test_a_table_whose_arrays_do_not_fit_each_other(name, value, tmp_path):
    tensors = {"sentences": torch.zeros(1, 6), "words": torch.zeros(2, 6), name: value}
    texts = {"encoder": "letters", "texts": '["he waves"]', "vocabulary": '["he", "waves"]'}
    save_file(tensors, tmp_path / "table", texts)
    with pytest.raises(InputError, match="table is not a whole table of embeddings"):
        CachedTable(tmp_path / "table")
