"""How everything that takes long is done: a case is a job, a job runs in a worker process, its result is kept.

job      what a job is, and what it has at hand while it runs
workers  processes that do what they are sent, as a concurrent.futures.Executor
cluster  the workers of a dask cluster, as the same
kept     results of finished jobs in a file, which an aborted run goes on from
lane     the three together: jobs in, futures out, progress meanwhile
"""

from bench.lane.job import Desk, Job
from bench.lane.kept import Kept
from bench.lane.lane import Lane
from bench.lane.workers import WorkerDiedError, Workers

__all__ = ["Desk", "Job", "Kept", "Lane", "WorkerDiedError", "Workers"]
