"""What worker processes fork off: a process that has imported all they need, torch among it, and does nothing else.

Imported by multiprocessing's fork server alone.
"""

import atexit
import gc
import importlib
import os
import threading

LOOK_SECONDS = 0.2


def _end_with(parent: int, imported: threading.Event) -> None:
    """Ends this process when its parent has gone. Only while it imports: then multiprocessing does so, and a process
    that others fork off has one thread."""
    while not imported.wait(LOOK_SECONDS):
        if os.getppid() != parent:
            os._exit(1)


_imported = threading.Event()
_look = threading.Thread(target=_end_with, args=(os.getppid(), _imported), daemon=True)
_look.start()
try:
    import torch._dynamo  # noqa: F401  # which every optimiser imports, and takes a second over

    import bench.memory  # noqa: F401  # what workers need
    from bench.meters import METERS

    for meter in METERS.values():
        importlib.import_module(meter.module)
finally:
    _imported.set()
    _look.join()

gc.freeze()  # torch's many objects need not be scanned again and again
# When the run has gone there is nothing to tidy up, and torch takes seconds over it.
atexit.register(os._exit, 0)
