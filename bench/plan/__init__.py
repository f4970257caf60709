"""The planner: what fits in a memory budget, from simulation alone.

`python -m bench.plan --budget 24GiB` predicts every method's peak from a handful of small simulations (forecast),
looks for the limits on the three axes (batch, K, frames; search), that of the batch by the allocations of one
simulation near it (estimate), confirms each by simulating it and its neighbour, and names the cheapest change that
would make a method fit which does not (levers). What fits is judged on what PyTorch's allocator reserves (memory) and
the headroom for what no simulation sees (headroom). `--frontier` says what memory each method can be run in, for how
many operations (frontier).
"""
