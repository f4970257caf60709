"""What worker processes fork off: a process that has imported all they need, torch among it, and does nothing else.

Imported by multiprocessing's fork server alone.
"""

import atexit
import gc
import importlib
import os

import torch._dynamo  # noqa: F401  # which every optimiser imports, and takes a second over

import bench.memory  # noqa: F401  # what workers need
from bench.meters import METERS

for meter in METERS.values():
    importlib.import_module(meter.module)

gc.freeze()  # torch's many objects need not be scanned again and again
# When the run has gone there is nothing to tidy up, and torch takes seconds over it.
atexit.register(os._exit, 0)
