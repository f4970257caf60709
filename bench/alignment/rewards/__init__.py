"""Rewards trained on a world's data: by the published recipe, with SPL or without, on clean motions or noisy ones too.

`train` makes one, `save` and `load` keep it in a file, `retrieval` measures it, and `noise_aware` says whether a motion
in the middle of denoising may be scored with it. `python -m bench.alignment.rewards` does all of it.
"""

from bench.alignment.rewards.config import RewardConfig
from bench.alignment.rewards.measure import retrieval
from bench.alignment.rewards.reward import TrainedReward, load, noise_aware, save
from bench.alignment.rewards.training import train

__all__ = ["RewardConfig", "TrainedReward", "load", "noise_aware", "retrieval", "save", "train"]
