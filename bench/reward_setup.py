"""A step of the reward's training, ready to run on a device: what bench.setup is for the methods' updates."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from bench.cases import Case
from bench.profiles import profile
from bench.reward_cases import RewardCase
from bench.setup import Run, autocast_of, build
from methods import Updater
from methods.registry import REWARDS
from methods.rewards.preference import SplConfig
from methods.rewards.training import RewardBatch, RewardObjective, Trainable
from methods.rollout import Phases, unobserved
from methods.transformer import set_attention_kernel

PRETRAINING_LR, SPL_LR = 1e-4, 1e-5
"""As published."""


@dataclass
class RewardRun:
    """A case on a device, with the same face as setup.Run. Its random draws are those of torch's global generator."""

    case: RewardCase
    reward: Trainable
    objective: RewardObjective
    batch: RewardBatch
    updater: Updater
    autocast: Callable[[], AbstractContextManager]

    def update(self, phases: Phases = unobserved) -> None:
        """One optimiser step."""
        with self.autocast():
            loss = self.objective(self.reward, self.batch, phases)[0]
        with phases("backward"):
            loss.backward()
        with phases("optimiser"):
            self.updater.apply([loss])

    def warm_up(self) -> None:
        """Creates what persists: the optimiser's state."""
        self.update()

    def sample(self) -> Tensor:
        """The loss without gradients."""
        with torch.no_grad(), self.autocast():
            return self.objective(self.reward, self.batch)[0]

    def networks(self) -> dict[str, nn.Module]:
        return self.reward.networks()


def prepare(case: Case | RewardCase, device: torch.device | str, with_data: bool = True) -> Run | RewardRun:
    """A case of either kind on `device`; arguments as of setup.build."""
    return build(case, device, with_data) if isinstance(case, Case) else build_reward(case, device, with_data)


def build_reward(case: RewardCase, device: torch.device | str, with_data: bool = True) -> RewardRun:
    """Reward, batch and optimiser of a case on `device`, in train mode as the profile says; arguments as of
    setup.build."""
    device = torch.device(device)
    switches = profile(case.profile)
    torch.manual_seed(case.seed)
    entry = REWARDS[case.reward]
    assert entry.sentences is not None  # RewardCase has seen to it
    with device:
        reward = cast(Trainable, entry.build())
    networks = nn.ModuleList(reward.networks().values()).train(switches.train_mode)
    set_attention_kernel(networks, switches.kernel(scoring=True))
    lr = SPL_LR if case.spl else PRETRAINING_LR
    optimizer = torch.optim.AdamW(networks.parameters(), lr=lr, weight_decay=0.0, foreach=True)
    with device:
        batch = RewardBatch(
            motion=torch.randn(case.motions, case.frames, entry.features),
            frame_mask=torch.ones(case.motions, case.frames, dtype=torch.bool),
            tokens=torch.randn(case.batch, *entry.tokens),
            token_mask=torch.ones(case.batch, entry.tokens[0], dtype=torch.bool),
            sentences=torch.randn(case.motions, entry.sentences),
        )
    objective = RewardObjective(spl=SplConfig(pool=case.pool) if case.spl else None)
    updater = Updater(optimizer, check_finite=with_data)
    return RewardRun(case, reward, objective, batch, updater, autocast_of(switches, device))
