"""Command-line options of `pytest bench/`, the cases they choose, and what measures these."""

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bench import step_time
from bench.cases import MATRICES, TABLE, Case, matrix
from bench.gate import paired
from bench.lane import Kept, Lane
from bench.memory import MemoryRuns
from bench.meters import METERS
from bench.profiles import PROFILES
from bench.reward_cases import RewardCase, memory_matrix, time_matrix
from bench.setup import draw_plan
from methods import BACKBONES, METHODS, REWARDS
from methods.errors import InputError

if TYPE_CHECKING:
    from bench.alignment.benchmark import AlignmentCase
    from bench.alignment.studies import StudyCase
    from bench.gate.session import Gate

# What only some runs need is imported where it is used: the embedded world, and the gate, whose comparing comes with
# the judges of all claims.

CASE_OPTIONS = ("method", "backbone", "reward", "steps", "batch", "frames", "profile", "meter", "seed")
TIME_OPTIONS = ("steps", "batch", "frames")
MARKERS = (
    "memory: a benchmark case that measures memory",
    "step_time: a benchmark case that measures time",
    "alignment: a benchmark case that fine-tunes the embedded world",
    "study: a study that trains rewards or fine-tunes under them; minutes each, run only where asked for",
)
"""Here, and not in pyproject.toml, so that they are known where the package is installed too."""


def add(parser: pytest.Parser) -> None:
    group = parser.getgroup("cases", "what is measured (options may be repeated; every combination is a case)")
    option = group.addoption
    option("--matrix", metavar="NAME", help=f"a named list of cases (default: default): {', '.join(MATRICES)}")
    option("--method", action="append", metavar="SPEC", help=f"name[:option=value,...]: {', '.join(METHODS)}")
    option("--backbone", action="append", metavar="NAME", help=", ".join(BACKBONES))
    option("--reward", action="append", metavar="NAME", help=f"{', '.join(REWARDS)} (default: the backbone's)")
    option("--steps", action="append", type=int, metavar="T", help="denoising steps")
    option("--batch", action="append", type=int, metavar="B", help="prompts a trajectory")
    option("--frames", action="append", type=int, metavar="F", help="frames a motion")
    option("--profile", action="append", metavar="SPEC", help=f"name[+switch=value...]: {', '.join(PROFILES)}")
    option("--meter", action="append", metavar="NAME", help=", ".join(METERS))
    option("--seed", action="append", type=int, metavar="N", help="seed of everything random")
    option = parser.getgroup("step time", "the scale at which real updates are timed on this machine").addoption
    option("--time-steps", type=int, metavar="T", help="denoising steps")
    option("--time-batch", type=int, metavar="B", help="prompts a trajectory")
    option("--time-frames", type=int, metavar="F", help="frames a motion")
    option("--rounds", type=int, metavar="N", default=step_time.ROUNDS, help="updates timed of each method")
    option("--step-time-against", metavar="REVISION", help="pair each update with one of this git revision")
    option("--step-time-margin", type=float, metavar="X", default=paired.MARGIN, help="fail beyond X times as long")
    option = parser.getgroup("alignment", "fine-tuning of the embedded world by each method").addoption
    option("--align", metavar="SIZE", help="an unknown SIZE lists them (default, if no other cases are chosen: quick)")
    option("--align-seeds", type=int, metavar="N", help="runs of each method")
    option("--align-world", type=Path, metavar="FILE", help="another world's weights")
    option = parser.getgroup("studies", "measurements that train, minutes each (-m study: all of them)").addoption
    option("--study", action="append", metavar="NAME", help="one of them; an unknown NAME lists them")
    option(
        "--study-scale", metavar="SCALE", default="full", help="full, or tiny: whether it runs (default: %(default)s)"
    )
    option(
        "--study-work", type=Path, metavar="DIR", default=Path(".studies"), help="keeps results (default: %(default)s)"
    )
    option = parser.getgroup("memory gate").addoption
    option("--memory-baseline", type=Path, metavar="FILE", help="fail when a case's memory differs from FILE's")
    option("--memory-baseline-update", action="store_true", help="write FILE from this run instead")
    option = parser.getgroup("journal").addoption
    option("--resume", action="store_true", help="keep the rows an aborted run left beside --benchmark-json FILE")


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
            paired_job = revision and paired.PairedJob(tuple(cases), rounds, revision)
            return step_time.StepTimeRuns(lane, paired_job or step_time.StepTimeJob(tuple(cases), rounds))
        if name == "test_alignment.py":
            from bench.alignment.benchmark import AlignmentRuns

            return AlignmentRuns(lane, cases, _world(self.config))
        from bench.alignment.studies import StudyRuns

        return StudyRuns(lane, cases, option("study_work"), _world(self.config))

    def kept(self, name: str) -> Kept | None:
        """Where results of a test file are kept, if not beside the run's own."""
        if name != "test_trained_studies.py":
            return None
        return Kept(self.config.getoption("study_work") / "results.jsonl")


def cases(config: pytest.Config) -> Cases:
    """InputError for what is unknown or does not fit together."""
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


def memory_cases(config: pytest.Config) -> list[Case]:
    """The memory cases that the options choose; InputError for what is unknown or does not fit together."""
    chosen = {name: config.getoption(name) for name in CASE_OPTIONS if config.getoption(name)}
    name = config.getoption("matrix")
    # A setting chosen by hand replaces the matrix's own; methods chosen by hand stand alone unless a matrix is named.
    base = [Case()] if "method" in chosen and not name else matrix(name or "default")
    combinations = [dict(zip(chosen, values, strict=True)) for values in itertools.product(*chosen.values())]
    cases = list(dict.fromkeys(replace(case, **combination) for case in base for combination in combinations))
    for case in cases:
        draw_plan(case)
    return cases


def timed_cases(config: pytest.Config) -> list[Case]:
    """The step-time cases: the table's methods, or --method, at the scale of --time-*."""
    if config.getoption("rounds") < 1:
        raise InputError(f"--rounds must be at least 1, not {config.getoption('rounds')}")
    if revision := config.getoption("step_time_against"):
        paired.check(revision)
    if not config.getoption("step_time_margin") >= 1:
        raise InputError(f"--step-time-margin must be at least 1, not {config.getoption('step_time_margin')}")
    scale = {name: config.getoption(f"time_{name}") for name in TIME_OPTIONS}
    for name in ("backbone", "reward", "profile", "seed"):
        scale[name] = (config.getoption(name) or [None])[0]
    base = replace(
        step_time.default_scale(quick=config.getoption("matrix") == "quick"),
        **{name: value for name, value in scale.items() if value is not None},
    )
    cases = [replace(base, method=method) for method in config.getoption("method") or TABLE]
    for case in cases:
        draw_plan(case)
    return cases


def reward_cases(config: pytest.Config) -> tuple[list[RewardCase], list[RewardCase]]:
    """The memory and the step-time cases of the reward's own training: with the default matrix, and no case chosen."""
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
    seeds = benchmark.SEEDS if seeds is None else seeds
    names = config.getoption("method") or benchmark.METHODS
    motion = world.name_of(_world(config))
    return list(dict.fromkeys(benchmark.AlignmentCase(name, size, seeds, motion) for name in names))


def _aligns(config: pytest.Config) -> bool:
    others = config.getoption("matrix") or any(config.getoption(name) for name in CASE_OPTIONS)
    asked = config.getoption("align") is not None or "alignment" in config.getoption("markexpr")
    return bool(asked or not others)


def studies(config: pytest.Config) -> list["StudyCase"]:
    """The studies of the base model, where alignment is measured."""
    if not _aligns(config):
        return []
    from bench.alignment.studies import OF_BASE, cases_of

    return cases_of(_world(config), [*OF_BASE])


def trained_studies(config: pytest.Config) -> list["StudyCase"]:
    """The studies that train: --study, or all where they are asked for by their marker."""
    chosen = config.getoption("study")
    if not chosen and "study" not in config.getoption("markexpr"):
        return []
    from bench.alignment.studies import TRAINED, cases_of

    return cases_of(_world(config), chosen or [*TRAINED], config.getoption("study_scale"))


def memory_gate(config: pytest.Config) -> "Gate | None":
    """The gate that the options ask for; InputError for a baseline that cannot be used."""
    path, update = config.getoption("memory_baseline"), config.getoption("memory_baseline_update")
    if path is None and update:
        raise InputError("--memory-baseline-update needs --memory-baseline FILE: say which file to write")
    if path is None:
        return None
    from bench.gate.session import Gate

    return Gate(path, update)
