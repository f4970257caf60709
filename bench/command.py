"""What every command of the suite shares: one sentence for a bad input, an orderly end, exit codes, a terminal of any
encoding."""

import contextlib
import gc
import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

from methods.errors import InputError, one_sentence

BAD_INPUT, INTERRUPTED, NOT_READ, TERMINATED = 2, 130, 141, 143
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised where Ctrl-C would be: everything that ends in order for one does for the other."""


def carry_out(name: str, run: Callable[[], int], kept: str = "") -> int:
    """Runs a command and returns its exit code.

    2 with one sentence on stderr for a bad input, 130 after Ctrl-C, 143 after SIGTERM; 141 without a word where whoever
    reads the output has stopped, as head does. `kept`: what the same command goes on from, if anything.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter still gets the line
    mend = f": the same command goes on from {kept}" if kept else ""
    came: list[int] = []
    try:
        with terminated_in_order(came):
            code = run()
            sys.stdout.flush()
            return code
    except (KeyboardInterrupt, Exception) as error:
        # A library that was interrupted may raise another error in its place: torch says that a file is not whole.
        if came or isinstance(error, KeyboardInterrupt):
            terminated = signal.SIGTERM in came or isinstance(error, Terminated)
            said, code = ("terminated", TERMINATED) if terminated else ("interrupted", INTERRUPTED)
            print(f"\n{name}: {said}{mend}", file=sys.stderr)
            gc.freeze()  # else Python looks through all of torch once more before it ends, for a second or two
            return code
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still to be written goes nowhere
            return NOT_READ
        if not isinstance(error, InputError | OSError):
            raise
        print(f"{name}: {error}", file=sys.stderr)
        return BAD_INPUT


def add_import_option(add: Callable[..., Any]) -> None:
    """The option `--import`, by a parser's add_argument; `modules` holds what import_modules takes."""
    add(
        "--import",
        action="append",
        dest="modules",
        default=[],
        metavar="MODULE",
        help="Python module to import first, which registers methods, backbones or rewards of yours; may be repeated",
    )


def import_modules(names: Sequence[str]) -> None:
    """Of the user's, which register what is theirs; InputError, as of `--import`, for one that cannot be imported."""
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever a module of anybody's does
            raise InputError(f"--import {name}: {one_sentence(error)}") from None


@contextlib.contextmanager
def terminated_in_order(came: list[int] | None = None) -> Iterator[None]:
    """While open, SIGTERM raises Terminated in the main thread, and Ctrl-C KeyboardInterrupt, whatever they did before;
    but one that is ignored stays so. The signal is added to `came`."""

    def end(number: int, _frame: FrameType | None) -> None:
        ignore_signals()  # once is enough: ending is not interrupted
        if came is not None:
            came.append(number)
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, end)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_signals() -> None:
    """Ctrl-C and SIGTERM are ignored from now on, until what handled them before is restored."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
