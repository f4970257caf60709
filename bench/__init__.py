"""The harness: what is measured (cases), how (meters), what was claimed (claims), and what came out (report)."""

import sys

from bench import loading

if sys.argv[:1] == ["-m"]:  # so Python writes it while it looks for the module of python -m bench...
    loading.end_in_order(sys.orig_argv[sys.orig_argv.index("-m") + 1])
