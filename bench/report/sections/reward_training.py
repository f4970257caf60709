"""What the reward's training costs."""

from bench import claims, tables
from bench.records import RewardMemoryRecord
from bench.report.sections.section import Records, Section
from bench.units import GIB


def reward_training(records: Records) -> Section:
    """Memory and time of one optimiser step, pre-training against SPL."""
    title, frame = "Training the reward", tables.reward_training(records)
    if frame.empty:
        return Section("reward_training", title, command=claims.command("", "memory"))
    peaks = {
        r.case.method: r.reading.peak
        for r in records
        if isinstance(r, RewardMemoryRecord) and r.reading and r.ok and r.case.meter == "simulated"
    }
    see = "One optimiser step of the reward's pre-training, and of its fine-tuning by SPL."
    if {"reward", "reward:spl"} <= set(peaks):
        more = (peaks["reward:spl"] - peaks["reward"]) / 2**20
        see += f" SPL over the batch changes a peak of {peaks['reward'] / GIB:.2f} GiB by {more:+.2f} MiB"
        wide = peaks.get("reward:spl,pool=256")
        see += f"; a pool of 256 motions makes it {wide / GIB:.2f} GiB." if wide else "."
    return Section("reward_training", title, see, table=frame)
