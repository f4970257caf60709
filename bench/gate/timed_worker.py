"""One side of the step-time gate: a script that runs updates with whichever `bench` and `methods` are on its path.

It reads a request a line from stdin ({"build": case} or {"update": true}) and answers each with a line ({"seconds": s}
or {"error": sentence}). Only what older revisions have is used.
"""

import json
import os
import sys
import threading
import time

import torch

from bench.cases import Case
from bench.setup import Run, build


def main() -> None:
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    sys.stdout = sys.stderr  # what a library prints is no answer
    run: Run | None = None
    for line in sys.stdin:
        request = json.loads(line)
        start = time.perf_counter()
        try:
            if "build" in request:
                case = Case(**request["build"])
                run = None  # the last case's memory goes first
                run = build(case, "cuda" if case.meter == "cuda" else "cpu")
                run.warm_up()
            elif run is not None:
                run.update()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            answer: dict[str, float | str] = {"seconds": time.perf_counter() - start}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}".split("\n")[0]}
        print(json.dumps(answer), file=answers, flush=True)


def _end_with(parent: int) -> None:
    """A side that has lost its parent ends, in the middle of an update too."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    main()
