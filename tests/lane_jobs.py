"""Small jobs for the tests of the lane; in a module of their own, since worker processes import it."""

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from bench.lane import Desk


@dataclass(frozen=True)
class Small:
    """A job that does what `what` says, and notes in a file that it ran."""

    name: str
    what: str = "square"
    value: int = 3
    log: str = ""
    alone: bool = False
    card: bool = False
    inputs: Mapping[str, str | None] = field(default_factory=dict, hash=False)

    kind: ClassVar[str] = "small"
    result: ClassVar[Any] = dict[str, int]

    @property
    def id(self) -> str:
        return self.name

    def run(self, desk: Desk) -> dict[str, int]:
        if self.log:
            with open(self.log, "a") as file:
                file.write(f"{self.name}\n")
        desk.enter("working")
        if self.what == "raise":
            raise ValueError(f"{self.name} cannot be done")
        if self.what == "leave":
            raise SystemExit(7)
        if self.what == "die":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.what == "die once":
            mark = Path(self.log + ".died")
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        if self.what == "wait":
            time.sleep(60)
        if self.what == "look":
            seen, started = os.environ["CUDA_VISIBLE_DEVICES"], time.monotonic_ns()
            time.sleep(0.2)
            return {"card": int(seen), "pid": os.getpid(), "started": started, "ended": time.monotonic_ns()}
        if self.what == "count on":
            done = desk.folder / "steps"
            steps = int(done.read_text()) if done.exists() else 0
            for step in range(steps, self.value):
                if step == 2 and steps == 0:
                    os.kill(os.getpid(), signal.SIGSEGV)
                done.write_text(str(step + 1))
                with open(self.log, "a") as file:
                    file.write(f"step {step}\n")
        return {"value": self.value**2, "pid": os.getpid(), "started": time.monotonic_ns()}
