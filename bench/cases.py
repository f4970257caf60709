"""What is measured: a case is one method under one setting, read by one meter; a matrix is a named list of cases."""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench import devices, labels
from bench.meters import METERS
from bench.profiles import LEVERS, profile
from methods.errors import InputError, one_sentence
from methods.interface import Method
from methods.parallel import SHARDINGS
from methods.registry import BACKBONES, look_up, pair, parse, spec
from methods.samplers import Sampler

if TYPE_CHECKING:
    from bench.records.types import MethodCase

EMBEDDED = "embedded"
"""The name of the embedded world; that of a world of the user's motion is its folder's."""
OVER_FRAMES = "-mdm"
"""How the name of a world ends whose backbone denoises the frames themselves (bench.world.model.RAW)."""
PUBLISHED = "published:"
"""How the name of a world of published models and data begins, and where such a world lies: `published:FOLDER`."""


def is_published(world: str) -> bool:
    """Whether a world, by its name, is of published models and data."""
    return world.startswith(PUBLISHED)


MOST_BATCH, MOST_SEED, MOST_RANKS = 2**31 - 1, 2**63 - 1, 2**16
"""What torch's sizes and seeds can be; more ranks than anybody has."""


@dataclass(frozen=True)
class Case:
    """One row of a benchmark. Specs are text, so that a case can be written on a command line and in a record."""

    method: str = "easytune"
    """Spec of the method, see methods.registry: `draft`, `draft:k=10`."""
    backbone: str = "mld"
    """Name of the backbone, see methods.registry."""
    steps: int = None  # type: ignore[assignment]  # by default what the backbone is published with
    """Denoising steps of the sampler (T)."""
    batch: int = 256
    """Prompts a trajectory (B), of each rank."""
    frames: int = 196
    """Frames a motion (F), all valid."""
    profile: str = "paper"
    """Spec of the profile, see bench.profiles."""
    meter: str = "simulated"
    """Name of the meter, see bench.meters."""
    seed: int = 0
    """Seed of everything random: the plan's draw, initial noise, weights, dropout."""
    reward: str = ""
    """Name of the reward, see methods.registry; empty for the backbone's default, which is not written out."""
    ranks: int = 1
    """Ranks that train together (methods.parallel); what is measured is one of them."""
    sharding: str = "none"
    """What of the denoiser a rank has, see methods.parallel; where there is but one, all."""

    def __post_init__(self) -> None:
        look_up(METERS, "meter", self.meter)
        most_frames = self.most_frames  # InputError where backbone and reward are unknown, or do not fit together
        if self.reward == BACKBONES[self.backbone].reward:
            object.__setattr__(self, "reward", "")
        if self.steps is None:
            object.__setattr__(self, "steps", BACKBONES[self.backbone].steps)
        self.sampler()  # InputError for a number of steps that it cannot take
        limits = {
            "frames": (1, most_frames),
            "batch": (1, MOST_BATCH),
            "seed": (0, MOST_SEED),
            "ranks": (1, MOST_RANKS),
        }
        for name, (least, most) in limits.items():
            value = getattr(self, name)
            if not least <= value <= most:
                allowed = f"at least {least}" if value < least and name in ("batch", "seed") else f"{least} to {most}"
                raise InputError(f"{name} must be {allowed}, not {value}")
        look_up(SHARDINGS, "sharding", self.sharding)
        if self.ranks == 1:
            object.__setattr__(self, "sharding", "none")
        profile(self.profile)
        object.__setattr__(self, "method", spec(self.resolve()))  # one spelling, so that ids are stable

    def resolve(self) -> Method:
        """The method itself; InputError for a spec that is not one."""
        return parse(self.method)

    def sampler(self) -> Sampler:
        """The backbone's, of so many steps; InputError where it cannot take them, or, anybody's, fails to."""
        return _sampler(self.backbone, BACKBONES[self.backbone].sampler, self.steps)

    @property
    def most_frames(self) -> int:
        """The longest motion that backbone and reward take."""
        return min(entry.most_frames for entry in pair(self.backbone, self.reward))

    @property
    def id(self) -> str:
        """Readable and stable: the same case has the same id in every run and on every machine."""
        return case_id(self)


@functools.cache
def _sampler(backbone: str, of_steps: Callable[[int], Sampler], steps: int) -> Sampler:
    try:
        made = of_steps(steps)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"backbone {backbone!r} cannot take {steps} steps: {one_sentence(error)}") from None
    if len(made) != steps:
        raise InputError(f"backbone {backbone!r} cannot take {steps} steps: its sampler makes {len(made)} of them")
    return made


def case_id(case: "Case | MethodCase") -> str:
    """The id of a case, or of one in a record, whose method and models may not be registered here."""
    models = [case.backbone, f"reward-{case.reward}"] if case.reward else [case.backbone]
    words = [case.method, *models, f"T{case.steps}", f"B{case.batch}", f"F{case.frames}", case.profile]
    if case.seed:
        words.append(f"seed{case.seed}")
    if case.ranks > 1:
        words.append(f"{case.ranks}ranks")
    if case.sharding != "none":
        words.append(case.sharding)
    return written_id([*words, case.meter])


SEEDS = 3
"""Of the alignment benchmark, where no other number is asked for."""


def alignment_id(method: str, world: str, steps: int, batch: int, size: str, seeds: int, device: str = "cpu") -> str:
    words = [method, world, f"T{steps}", f"B{batch}", size]
    return written_id([*words, *([f"{seeds}seeds"] if seeds != SEEDS else []), *devices.decides(device)])


def study_id(name: str, world: str, scale: str | None, device: str = "cpu") -> str:
    words = [name, world if world != EMBEDDED else "", scale if scale not in (None, "full") else ""]
    return "-".join([*(word for word in words if word), *devices.decides(device)])


def written_id(words: Iterable[str]) -> str:
    """Words of a case, specs among them, as one id that a file name and a shell can hold."""
    return "-".join(words).replace(":", "-").replace(",", "-").replace("=", "")


TABLE = ("draft", "alignprop:truncation=fixed", "drtune", "refl", "easytune")
"""The methods of the published table, and ReFL, each with a fixed draw so that the row is one number: AlignProp keeps
half of the steps (the mean of its uniform draw), DRTune trains ten and never stops early."""

VARIANTS = (
    "draft:k=1",
    "draft-lv",
    "easytune:mode=chain",
    "easytune:mode=chain-released",
    "easytune:score=noisy",
    "alignprop",
    "drtune:m=20",
)
"""What the table leaves out: EasyTune's chain ablation (24.21 GB in the paper), and methods whose plan is random."""

SWEEP_STEPS = (10, 20, 30, 40, 50)
TRAINED_STEPS = (1, 5, 20, 40)


def published() -> list[Case]:
    """The published memory table: MLD, batch 256, 196 frames, 50 steps, as released."""
    return [Case(method) for method in TABLE]


def at(method: str, total: int) -> str:
    """A method of the published table at so many steps: DRTune trains a fifth of them, as 10 of 50; ReFL one of the
    last ten, or of all where there are fewer."""
    fitted = {"drtune": f"drtune:k={max(1, total // 5)}", "refl": f"refl:m={min(10, total)}"}
    return spec(parse(fitted.get(method, method)))


def backbones() -> list[Case]:
    """Claim C10: the published table on every published backbone, at the steps that each is published with."""
    return [
        Case(at(method, BACKBONES[name].steps), backbone=name)
        for name in labels.published_backbones()
        for method in TABLE
    ]


def frozen() -> list[Case]:
    """The same with the reward frozen."""
    return [replace(case, profile="frozen") for case in published()]


def steps() -> list[Case]:
    """Claim C5: memory against denoising steps."""
    return [Case(at(method, total), steps=total) for method in TABLE if method != "refl" for total in SWEEP_STEPS]


def trained() -> list[Case]:
    """Claim C12: DRTune's memory against the steps it trains, at 50 steps."""
    return [Case(f"drtune:k={k}") for k in TRAINED_STEPS]


def variants() -> list[Case]:
    return [Case(method) for method in VARIANTS]


def quick() -> list[Case]:
    """Every method once, at 10 steps: a look in under a minute and a half."""
    return [Case(at(method, 10), steps=10) for method in TABLE]


def gate() -> list[Case]:
    """The published table and the sweep over steps: what CI compares with the committed baseline."""
    return list(dict.fromkeys([*published(), *steps()]))


def levers() -> list[Case]:
    """The published table, and what each lever of memory gives every method alike."""
    return [replace(case, profile=spec) for spec in LEVERS.values() for case in published()]


def default() -> list[Case]:
    """Everything that the report's verdicts need."""
    matrices = (published, frozen, steps, trained, variants, backbones)
    return list(dict.fromkeys(case for matrix in matrices for case in matrix()))


MATRICES = {
    matrix.__name__: matrix
    for matrix in (default, quick, published, frozen, steps, trained, variants, levers, backbones, gate)
}


def matrix(name: str) -> list[Case]:
    """The cases of a named matrix; InputError for an unknown name."""
    if name not in MATRICES:
        raise InputError(f"unknown matrix {name!r}: choose one of {', '.join(MATRICES)}")
    return MATRICES[name]()
