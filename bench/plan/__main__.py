"""`python -m bench.plan --budget 24GiB`: Says what each method fits into a card's memory, or what it can trade memory
for, from simulation, without the card."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import devices
from bench.cases import TABLE, Case
from bench.command import add_import_option, carry_out, import_modules
from bench.meters import allocator
from bench.plan import check, document, frontier, headroom, table
from bench.plan.headroom import Budget
from bench.plan.planner import Planner, requested
from bench.plan.simulator import SimulationError, Simulator
from bench.plan.size import FORMS
from methods.errors import InputError
from methods.files import check_writable, write_atomically
from methods.parallel import SHARDINGS
from methods.registry import BACKBONES, REWARDS


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code: 0; 1 where a simulation gave no figure, or the card refutes the plan; or as
    bench.command.carry_out."""
    options = _parser().parse_args(_joined(sys.argv[1:] if arguments is None else arguments))
    kept = f"the simulations in {options.json}.partial" if options.json else ""
    return carry_out("bench.plan", lambda: _run(options), kept)


def _run(options: argparse.Namespace) -> int:
    for path in filter(None, (options.json, options.figure)):
        if not path.parent.is_dir():
            raise InputError(
                f"cannot write {path}: there is no folder {path.parent}; make it, or choose another folder"
            )
        check_writable(path)
    import_modules(options.modules)  # before anything asks which modules a worker needs
    simulator = Simulator(options.json and options.json.with_name(options.json.name + ".partial"))
    done = False
    try:
        status = (_frontier if options.frontier else _plan)(options, simulator)
        done = True
        return status
    except SimulationError as error:
        print(f"bench.plan: {error}", file=sys.stderr)
        return 1
    finally:
        simulator.close(done)


def _plan(options: argparse.Namespace, simulator: Simulator) -> int:
    allocator.settings()  # refused here, in a sentence, rather than in every simulation
    budget = Budget(check.budget_size(options.budget), headroom.parse(options.headroom))
    if options.check:
        devices.require_gpu("--check")
    answers = Planner(_cases(options), budget, simulator, quick=options.quick).answers()
    how = {"quick": options.quick, "simulations": simulator.count}
    print(table.text(answers, budget, **how))
    checks = check.run(answers, budget) if options.check else []
    if checks:
        print(f"\n{check.text(checks, budget)}")
    if options.json:
        write_atomically(options.json, document.build(answers, budget, checks, **how))
    if options.figure:
        from bench.plan.figure import region  # matplotlib takes a second to import

        write_atomically(options.figure, region(answers, budget))
    return 1 if any(answer.reason for answer in answers) or not all(c.good for c in checks) else 0


def _frontier(options: argparse.Namespace, simulator: Simulator) -> int:
    if options.quick or options.check or options.headroom != "default":
        raise InputError("--quick, --check and --headroom go with --budget: leave them out, or --frontier")
    curves = frontier.curves(_cases(options), simulator)
    print(table.frontier(curves, simulator.count))
    if options.json:
        write_atomically(options.json, document.frontier(curves, simulator.count))
    if options.figure and any(curve.points for curve in curves):
        from bench.plan import figure

        write_atomically(options.figure, figure.frontier(curves))
    return 1 if any(curve.reason for curve in curves) else 0


def _cases(options: argparse.Namespace) -> list[Case]:
    names = ("backbone", "reward", "steps", "batch", "frames", "profile", "ranks", "sharding")
    return requested(options.methods or TABLE, Case(**{name: getattr(options, name) for name in names}))


def _joined(arguments: Sequence[str]) -> list[str]:
    """`--budget -3GiB` as one word: argparse would take a negative size for an option, and not say what is wrong."""
    joined: list[str] = []
    for word in arguments:
        if joined and joined[-1] in ("--budget", "--headroom"):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _parser() -> argparse.ArgumentParser:
    default = Case()
    parser = argparse.ArgumentParser("python -m bench.plan", description=__doc__.partition(": ")[2])
    add = parser.add_argument
    question = parser.add_mutually_exclusive_group(required=True)
    question.add_argument(
        "--budget", metavar="SIZE", help=f"memory of the card: {FORMS}; auto: all of this machine's GPU"
    )
    question.add_argument(
        "--frontier",
        action="store_true",
        help="instead: how little memory each method can need, and how many operations an optimiser step then takes, "
        "as fewer motions are scored at once and more denoiser calls are computed again",
    )
    add(
        "--method",
        action="append",
        dest="methods",
        metavar="SPEC",
        help=f"method, as name[:option=value,...]; may be repeated (default: {', '.join(TABLE)})",
    )
    add_import_option(add)
    add(
        "--backbone",
        default=default.backbone,
        metavar="NAME",
        help=f"model that is fine-tuned: {', '.join(BACKBONES)} (default: %(default)s)",
    )
    add(
        "--reward",
        default="",
        metavar="NAME",
        help=f"reward model: {', '.join(REWARDS)} (default: the one registered with the backbone)",
    )
    add("--steps", type=int, metavar="T", help="denoising steps (default: those that the backbone is published with)")
    add(
        "--batch",
        type=int,
        default=default.batch,
        metavar="B",
        help="prompts in a batch, for the largest K, the longest motion and the cheapest change that makes a method "
        "fit (default: %(default)s)",
    )
    add(
        "--frames",
        type=int,
        default=default.frames,
        metavar="F",
        help="frames of a motion, for all but the longest motion (default: %(default)s)",
    )
    add(
        "--profile",
        default=default.profile,
        metavar="SPEC",
        help="engineering settings, as name[+switch=value...], e.g. frozen+attention=fused (default: %(default)s)",
    )
    add(
        "--ranks",
        type=int,
        default=default.ranks,
        metavar="N",
        help="cards that train together, data parallel: batches are then of each, and the largest of all is given, too "
        "(default: %(default)s)",
    )
    add(
        "--sharding",
        default=default.sharding,
        metavar="NAME",
        help=f"what each of several cards has of the denoiser: {', '.join(SHARDINGS)} (default: %(default)s: all)",
    )
    add(
        "--headroom",
        default="default",
        metavar="SIZE",
        help="memory of the card to keep free, or 0 (default: what CUDA context and libraries take, which is printed)",
    )
    add("--quick", action="store_true", help="only predict, in seconds: no answer is confirmed by simulating it")
    add(
        "--check",
        action="store_true",
        help="then run each method's largest batch on this machine's GPU, and exit with 1 if one does not fit",
    )
    add("--json", type=Path, metavar="FILE", help="write the answers as JSON; if interrupted, go on from FILE.partial")
    add(
        "--figure",
        type=Path,
        metavar="FILE.png",
        help="draw the largest batch against the denoiser calls held (K), or the frontier",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
