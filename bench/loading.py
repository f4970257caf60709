"""Ctrl-C and SIGTERM while a command is loading: its imports take seconds, and nothing has begun that has to end.

Imports the standard library alone.
"""

import contextlib
import os
import signal
from collections.abc import Callable
from types import FrameType

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


def end_in_order(name: str, leave: Callable[[int], object] = os._exit) -> contextlib.ExitStack:
    """From now on either signal ends the process at once, with one sentence and its exit code; bench.command takes over
    when the command runs. A signal that this process was started to ignore stays ignored.

    name: of the command. leave: what ends the process with an exit code. Closing what is returned makes the signals do
    what they did before.
    """

    def end(number: int, _frame: FrameType | None) -> None:
        os.write(2, f"\n{name}: {WORDS[signal.Signals(number)]}\n".encode(errors="backslashreplace"))
        leave(CODES[signal.Signals(number)])

    before = contextlib.ExitStack()
    for number in CODES:
        handler = signal.getsignal(number)
        if handler is not signal.SIG_IGN:
            before.callback(signal.signal, number, handler)
            signal.signal(number, end)
    return before
