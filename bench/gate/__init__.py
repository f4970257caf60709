"""The memory gate: did a change cost memory, where, and whose is it?

baseline: the committed file; judge: a run's rows against it; growth: who holds the difference; session: the gate in one
run of `pytest bench/`.
"""
