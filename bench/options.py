"""Command-line options of `pytest bench/`, and the cases they choose."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench import step_time
from bench.cases import MATRICES, METERS, TABLE, Case, matrix
from bench.gate import paired
from bench.profiles import PROFILES
from bench.record import RecordError
from bench.reward_cases import RewardCase, memory_matrix, time_matrix
from bench.setup import draw_plan
from methods import BACKBONES, METHODS, REWARDS
from methods.errors import InputError

if TYPE_CHECKING:
    from bench.alignment.benchmark import AlignmentCase
    from bench.gate.session import Gate

# What only some runs need is imported where it is used: the embedded world, and the gate, whose comparing comes with
# the judges of all claims.

CASE_OPTIONS = ("method", "backbone", "reward", "steps", "batch", "frames", "profile", "meter", "seed")
TIME_OPTIONS = ("steps", "batch", "frames")


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
    others = config.getoption("matrix") or any(config.getoption(name) for name in CASE_OPTIONS)
    if config.getoption("align") is None and others and "alignment" not in config.getoption("markexpr"):
        return []
    from bench import world
    from bench.alignment import benchmark

    size, seeds = config.getoption("align") or "quick", config.getoption("align_seeds")
    seeds = benchmark.SEEDS if seeds is None else seeds
    names = config.getoption("method") or benchmark.METHODS
    motion = world.name_of(config.getoption("align_world") or world.WEIGHTS)
    return list(dict.fromkeys(benchmark.AlignmentCase(name, size, seeds, motion) for name in names))


def studies(config: pytest.Config) -> list[str]:
    """The names of the studies that train: --study, or all where they are asked for by their marker."""
    chosen = config.getoption("study")
    if not chosen and "study" not in config.getoption("markexpr"):
        return []
    from bench.alignment.studies import TRAINED
    from bench.alignment.studies.trained import SCALES

    for what, names, known in (
        ("study", chosen or (), [*TRAINED]),
        ("scale", [config.getoption("study_scale")], [*SCALES]),
    ):
        if unknown := [name for name in names if name not in known]:
            raise InputError(f"unknown {what} {unknown[0]!r}: choose one of {', '.join(known)}")
    return list(dict.fromkeys(chosen or TRAINED))


def memory_gate(config: pytest.Config) -> "Gate | None":
    """The gate that the options ask for; RecordError for a baseline that cannot be used."""
    path, update = config.getoption("memory_baseline"), config.getoption("memory_baseline_update")
    if path is None and update:
        raise RecordError("--memory-baseline-update needs --memory-baseline FILE: say which file to write")
    if path is None:
        return None
    from bench.gate.session import Gate

    return Gate(path, update)
