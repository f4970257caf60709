"""What worker processes fork off: a process that has imported all they need, torch among it, and does nothing else.

Imported by multiprocessing's fork server alone, which has no other parameters than the environment.
"""

import atexit
import gc
import importlib
import os
import threading

RUN = "BENCH_RUN"
"""The process whose workers these are, which may have gone before this one asks for its parent."""
LOOK_SECONDS = 0.1


def _end_with(run: str, imported: threading.Event) -> None:
    """Ends this process when the run has gone. Only while it imports: later multiprocessing does so, and a process that
    others fork off has one thread."""
    while str(os.getppid()) == run:
        if imported.wait(LOOK_SECONDS):
            return
    os._exit(1)


_imported = threading.Event()
_look = threading.Thread(target=_end_with, args=(os.environ[RUN], _imported), daemon=True)
_look.start()
# A worker beside others has one core, where BLAS threads of numpy's wait for one another: an FID of 512 motions took
# 0.7 s of processor time on a busy machine, and 2 ms without them. Its matrices are small, and the figures the same.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
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
