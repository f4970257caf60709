"""Ctrl-C and SIGTERM while a command is loading: its imports take seconds, and nothing has begun that has to end.

Imports the standard library alone.
"""

import os
import signal
import sys
from types import FrameType

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


def end_in_order() -> None:
    """From now on either signal ends the process at once, with one sentence and its exit code; bench.command takes over
    when the command runs. A signal that this process was started to ignore stays ignored."""
    name = sys.orig_argv[sys.orig_argv.index("-m") + 1]

    def end(number: int, _frame: FrameType | None) -> None:
        os.write(2, f"\n{name}: {WORDS[signal.Signals(number)]}\n".encode(errors="backslashreplace"))
        os._exit(CODES[signal.Signals(number)])

    for number in CODES:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)
