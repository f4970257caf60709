"""Command-line options of `pytest bench/`, the cases they choose, and what measures these."""

import itertools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from bench import devices, step_time
from bench.cases import MATRICES, TABLE, Case, at, matrix
from bench.gate import paired
from bench.lane import Kept, Lane
from bench.memory import MemoryRuns
from bench.meters import METERS
from bench.profiles import PROFILES
from bench.reward_cases import RewardCase, memory_matrix, time_matrix
from bench.setup import draw_plan
from methods import BACKBONES, METHODS, REWARDS
from methods.errors import InputError
from methods.parallel import SHARDINGS

if TYPE_CHECKING:
    from bench.alignment.benchmark import AlignmentCase
    from bench.alignment.studies import StudyCase
    from bench.gate.session import Gate

# What only some runs need is imported where it is used: the embedded world, and the gate, whose comparing comes with
# the judges of all claims.

CASE_OPTIONS = (
    *("method", "backbone", "reward", "steps", "batch", "frames", "profile", "meter", "seed"),
    *("ranks", "sharding"),
)
TIME_OPTIONS = ("steps", "batch", "frames")
ON_DEVICE = ("test_alignment.py", "test_studies.py", "test_trained_studies.py")
"""Test files whose cases run on --device."""
MARKERS = (
    "memory: a benchmark case that measures memory",
    "step_time: a benchmark case that measures time",
    "alignment: a benchmark case that fine-tunes the embedded world",
    "study: a study that trains rewards or fine-tunes under them; minutes each, run only where asked for",
)
"""Here, and not in pyproject.toml, so that they are known where the package is installed too."""


def add(parser: pytest.Parser) -> None:
    usual = Case()
    group = parser.getgroup("cases", "cases: what is measured (options may be repeated; every combination is a case)")
    option = group.addoption
    option(
        "--matrix",
        metavar="NAME",
        help=f"named list of cases: {', '.join(MATRICES)}; default has all that the report's verdicts need, published "
        "the published table, gate what the memory gate compares, quick every method at 10 steps (default: default)",
    )
    option(
        "--method",
        action="append",
        metavar="SPEC",
        help=f"method, as name[:option=value,...], options as in methods/README.md: {', '.join(METHODS)} (default: "
        "those of the matrix)",
    )
    option(
        "--backbone",
        action="append",
        metavar="NAME",
        help=f"model that is fine-tuned: {', '.join(BACKBONES)} (default: {usual.backbone})",
    )
    option(
        "--reward",
        action="append",
        metavar="NAME",
        help=f"reward model: {', '.join(REWARDS)} (default: the one registered with the backbone)",
    )
    option(
        "--steps",
        action="append",
        type=int,
        metavar="T",
        help="denoising steps (default: the matrix's, or those that the backbone is published with)",
    )
    option("--batch", action="append", type=int, metavar="B", help=f"prompts in a batch (default: {usual.batch})")
    option("--frames", action="append", type=int, metavar="F", help=f"frames of a motion (default: {usual.frames})")
    option(
        "--profile",
        action="append",
        metavar="SPEC",
        help=f"engineering settings that are the same for every method, as name[+switch=value...]: "
        f"{', '.join(PROFILES)} (default: the matrix's, or {usual.profile})",
    )
    option(
        "--meter",
        action="append",
        metavar="NAME",
        help=f"how memory is measured: {', '.join(METERS)}; host runs on this machine's CPU, cuda on its GPU, "
        f"simulated needs neither (default: {usual.meter})",
    )
    option("--seed", action="append", type=int, metavar="N", help=f"seed of all random draws (default: {usual.seed})")
    option(
        "--ranks",
        action="append",
        type=int,
        metavar="N",
        help="data-parallel ranks, of which one is measured; --batch is then of each (default: 1)",
    )
    option(
        "--sharding",
        action="append",
        metavar="NAME",
        help=f"what each of several ranks has of the denoiser: {', '.join(SHARDINGS)} (default: {usual.sharding}: all)",
    )
    option(
        "--shard",
        metavar="I/N",
        help="measure only the I-th of N shares of the cases chosen, as in 2/3, for job arrays and CI matrices; "
        "python -m bench.report merges the results, and names what lacks (default: all cases)",
    )
    option = parser.getgroup(
        "step time", "step time: updates that are run and timed, on the GPU if there is one"
    ).addoption
    option(
        "--time-steps",
        type=int,
        metavar="T",
        help="denoising steps (default: those that the backbone is published with; 10 with --matrix quick)",
    )
    option(
        "--time-batch",
        type=int,
        metavar="B",
        help="prompts in a batch (default: 256 on a GPU, 2 on a CPU; 64 and 1 with --matrix quick)",
    )
    option("--time-frames", type=int, metavar="F", help="frames of a motion (default: 196)")
    option(
        "--rounds",
        type=int,
        metavar="N",
        help=f"timed updates of each method (default: {step_time.ROUNDS}; {step_time.OF_LONG} where an update takes "
        f"{step_time.LONG:.0f} seconds)",
    )
    option(
        "--step-time-against",
        metavar="REVISION",
        help="time every update also with the code of this git revision, alternately, and fail if this tree is slower",
    )
    option(
        "--step-time-margin",
        type=float,
        metavar="X",
        default=paired.MARGIN,
        help="with --step-time-against: fail if an update takes more than X times as long (default: %(default)s)",
    )
    option = parser.getgroup(
        "alignment", "alignment: fine-tuning of a small motion model, the world, by each method"
    ).addoption
    option(
        "--align",
        metavar="SIZE",
        help="reference (ten seeds, 1,024 test prompts: hours), full (three seeds: 11 minutes on two cores), quick "
        "(2.5 minutes) or tiny (only whether it runs) "
        "(default: quick; nothing where cases are chosen by other options, unless -m alignment is given)",
    )
    option(
        "--align-seeds",
        type=int,
        metavar="N",
        help="training seeds of each method (default: 3; 10 at the size reference)",
    )
    option(
        "--align-world",
        type=Path,
        metavar="FILE",
        help="world to fine-tune, and for studies, as python -m bench.alignment.pretrain writes one (default: the "
        "embedded world, which comes with this package)",
    )
    devices.add_option(option, "alignment and studies")
    option = parser.getgroup(
        "studies", "studies: training of rewards, and fine-tuning under them, minutes each"
    ).addoption
    option(
        "--study",
        action="append",
        metavar="NAME",
        help="retrieval, spl, windows, feature_noise, strength, gaming or settings; may be repeated (default: none; "
        "with -m study: all)",
    )
    option(
        "--study-scale",
        metavar="SCALE",
        default="full",
        help="reference (ten seeds), full or tiny (only whether it runs) (default: %(default)s)",
    )
    option(
        "--study-work",
        type=Path,
        metavar="DIR",
        default=Path(".studies"),
        help="folder for trained rewards and finished runs, which a later run of the same code does not repeat "
        "(default: %(default)s)",
    )
    option = parser.getgroup("memory gate", "memory gate: does a change cost memory?").addoption
    option(
        "--memory-baseline",
        type=Path,
        metavar="FILE",
        help="compare every memory case with its row in this baseline, and fail where one differs beyond its margin",
    )
    option(
        "--memory-baseline-update",
        action="store_true",
        help="write this run's memory rows to the baseline FILE instead of comparing with it",
    )
    option = parser.getgroup("where cases are measured").addoption
    option(
        "--workers",
        metavar="ADDRESS",
        help="scheduler of a dask cluster, as tcp://host:8786, whose workers measure in place of this machine's cores; "
        "times and memory of real runs are measured here all the same",
    )
    option = parser.getgroup("resuming an interrupted run").addoption
    option(
        "--resume",
        action="store_true",
        help="go on from an interrupted run with the same --benchmark-json=FILE: keep the results in FILE.partial that "
        "the same code, packages and settings gave",
    )


def check_plugins(config: pytest.Config) -> None:
    """InputError for plugins and options of others that would leave no result, without a word."""
    if not config.pluginmanager.hasplugin("benchmark"):
        raise InputError("pytest bench/ needs pytest-benchmark: leave out -p no:benchmark")
    spread = getattr(config.option, "numprocesses", None) or getattr(config.option, "dist", "no") != "no"
    if spread or hasattr(config, "workerinput"):
        raise InputError("cases have worker processes of their own, and one run writes one result: leave out -n")
    # A test that pytest-xdist runs elsewhere may start this run: pytest-benchmark takes it for one of xdist's as well.
    os.environ.pop("PYTEST_XDIST_WORKER", None)
    for name in ("benchmark_disable", "benchmark_skip"):
        if result_file(config) is not None and config.getoption(name):
            option = "--" + name.replace("_", "-")
            raise InputError(f"{option} writes no result: leave it out, or leave out --benchmark-json")


def shard(config: pytest.Config) -> tuple[int, int] | None:
    """--shard I/N as (I, N)."""
    given = config.getoption("shard")
    if given is None:
        return None
    written = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", given)
    number, count = map(int, written.groups()) if written else (0, 0)
    if not 1 <= number <= count:
        raise InputError(f"--shard must be I/N with I from 1 to N, such as 2/3, not {given!r}")
    if config.getoption("memory_baseline_update"):
        raise InputError("a baseline holds every case, and --shard leaves some out: update it without --shard")
    return number, count


def result_file(config: pytest.Config) -> Path | None:
    """--benchmark-json."""
    given = config.getoption("benchmark_json")
    return None if given is None else Path(given)


@dataclass(frozen=True)
class Cases:
    """The cases that the options choose, and what measures them, by test file."""

    config: pytest.Config
    memory: Sequence[Case | RewardCase]
    timed: Sequence[Case | RewardCase]
    aligned: Sequence["AlignmentCase"]
    studies: Sequence["StudyCase"]
    trained: Sequence["StudyCase"]

    def of_file(self, name: str) -> Sequence[Any] | None:
        """The cases of a test file; None for a file of another kind."""
        files = (
            "test_memory.py",
            "test_step_time.py",
            "test_alignment.py",
            "test_studies.py",
            "test_trained_studies.py",
        )
        chosen = (self.memory, self.timed, self.aligned, self.studies, self.trained)
        return dict(zip(files, chosen, strict=True)).get(name)

    def runs(self, name: str, lane: Lane, cases: Sequence[Any]) -> Any:
        """What has a `record` of each of the cases of a test file."""
        option = self.config.getoption
        if name == "test_memory.py":
            return MemoryRuns(lane, cases)
        if name == "test_step_time.py":
            revision, rounds = option("step_time_against"), option("rounds")
            paired_job = revision and paired.PairedJob(tuple(cases), rounds or step_time.ROUNDS, revision)
            return step_time.StepTimeRuns(lane, paired_job or step_time.StepTimeJob(tuple(cases), rounds))
        if name == "test_alignment.py":
            from bench.alignment.benchmark import AlignmentRuns

            return AlignmentRuns(lane, cases, _world(self.config), _device(self.config))
        from bench.alignment.studies import StudyRuns

        return StudyRuns(lane, cases, option("study_work"), _world(self.config), _device(self.config))

    def together(self, name: str) -> int | None:
        """How many jobs of a test file run at a time; None: as many as there are cores."""
        return None if name not in ON_DEVICE or _device(self.config) == devices.CPU else 1

    def kept(self, name: str) -> Kept | None:
        """Where results of a test file are kept, if not beside the run's own."""
        if name != "test_trained_studies.py":
            return None
        return Kept(self.config.getoption("study_work") / "results.jsonl")


def cases(config: pytest.Config) -> Cases:
    """InputError for what is unknown or does not fit together."""
    _device(config)  # refused though no case should run there
    of_rewards, timed_of_rewards = reward_cases(config)
    return Cases(
        config,
        [*memory_cases(config), *of_rewards],
        [*timed_cases(config), *timed_of_rewards],
        alignment_cases(config),
        studies(config),
        trained_studies(config),
    )


def _world(config: pytest.Config) -> Path:
    from bench import world

    return config.getoption("align_world") or world.WEIGHTS


def _device(config: pytest.Config) -> torch.device:
    return devices.parse(config.getoption("device"))


def memory_cases(config: pytest.Config) -> list[Case]:
    """The memory cases that the options choose; InputError for what is unknown or does not fit together."""
    chosen = {name: config.getoption(name) for name in CASE_OPTIONS if config.getoption(name)}
    name = config.getoption("matrix")
    # A setting chosen by hand replaces the matrix's; methods chosen by hand stand alone unless a matrix is named.
    of_matrix = [] if "method" in chosen and not name else matrix(name or "default")
    bases = [partial(replace, case) for case in of_matrix] or [partial(Case)]
    combinations = [dict(zip(chosen, values, strict=True)) for values in itertools.product(*chosen.values())]
    cases = list(dict.fromkeys(base(**combination) for base in bases for combination in combinations))
    for case in cases:
        draw_plan(case)
    return cases


def timed_cases(config: pytest.Config) -> list[Case]:
    """The step-time cases: the table's methods, or --method, at the scale of --time-*."""
    rounds = config.getoption("rounds")
    if rounds is not None and rounds < 1:
        raise InputError(f"--rounds must be at least 1, not {rounds}")
    if revision := config.getoption("step_time_against"):
        paired.check(revision)
    if not config.getoption("step_time_margin") >= 1:
        raise InputError(f"--step-time-margin must be at least 1, not {config.getoption('step_time_margin')}")
    scale = {name: config.getoption(f"time_{name}") for name in TIME_OPTIONS}
    for name in ("reward", "profile", "seed"):
        scale[name] = (config.getoption(name) or [None])[0]
    [backbone] = (config.getoption("backbone") or [Case().backbone])[:1]
    base = replace(
        step_time.default_scale(quick=config.getoption("matrix") == "quick", backbone=backbone),
        **{name: value for name, value in scale.items() if value is not None},
    )
    methods = config.getoption("method") or [at(method, base.steps) for method in TABLE]
    cases = [replace(base, method=method) for method in methods]
    for case in cases:
        draw_plan(case)
    return cases


def reward_cases(config: pytest.Config) -> tuple[list[RewardCase], list[RewardCase]]:
    """The memory and the step-time cases of the reward's training: with the default matrix, and no case chosen."""
    chosen = any(config.getoption(name) for name in CASE_OPTIONS)
    scaled = any(config.getoption(f"time_{name}") for name in TIME_OPTIONS)
    if chosen or config.getoption("matrix") not in (None, "default"):
        return [], []
    # A pair of trees is timed by the methods' updates alone.
    timed = not scaled and config.getoption("step_time_against") is None
    return memory_matrix(), time_matrix(step_time.default_scale().meter) if timed else []


def alignment_cases(config: pytest.Config) -> list["AlignmentCase"]:
    """The alignment cases: the table's methods and DRaFT-10, or --method. None where other cases were chosen and these
    were not asked for: their settings have no meaning here, and a look at memory should not take minutes more."""
    if not _aligns(config):
        return []
    from bench import world
    from bench.alignment import benchmark

    size, seeds = config.getoption("align") or "quick", config.getoption("align_seeds")
    seeds = benchmark.seeds_of(size) if seeds is None else seeds
    names = config.getoption("method") or benchmark.METHODS
    motion, device = world.name_of(_world(config)), _device(config).type
    return list(dict.fromkeys(benchmark.AlignmentCase(name, size, seeds, motion, device) for name in names))


def _aligns(config: pytest.Config) -> bool:
    others = config.getoption("matrix") or any(config.getoption(name) for name in CASE_OPTIONS)
    asked = config.getoption("align") is not None or "alignment" in config.getoption("markexpr")
    return bool(asked or not others)


def studies(config: pytest.Config) -> list["StudyCase"]:
    """The studies of the base model, where alignment is measured on a world that pretrain made."""
    from bench.world.any_world import folder_of

    if not _aligns(config) or folder_of(_world(config)):
        return []
    from bench.alignment.studies import OF_BASE, cases_of

    return cases_of(_world(config), [*OF_BASE], device=_device(config))


def trained_studies(config: pytest.Config) -> list["StudyCase"]:
    """The studies that train: --study, or all where they are asked for by their marker."""
    chosen = config.getoption("study")
    if not chosen and "study" not in config.getoption("markexpr"):
        return []
    from bench.alignment.studies import TRAINED, cases_of

    return cases_of(_world(config), chosen or [*TRAINED], config.getoption("study_scale"), _device(config))


def memory_gate(config: pytest.Config) -> "Gate | None":
    """The gate that the options ask for; InputError for a baseline that cannot be used."""
    path, update = config.getoption("memory_baseline"), config.getoption("memory_baseline_update")
    if path is None and update:
        raise InputError("--memory-baseline-update needs --memory-baseline FILE: say which file to write")
    if path is None:
        return None
    from bench.gate.session import Gate

    return Gate(path, update)
