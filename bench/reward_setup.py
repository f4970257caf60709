"""A step of the reward's training, ready to run on a device: what bench.setup is for the methods' updates."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.cases import Case
from bench.profiles import profile
from bench.reward_cases import RewardCase
from bench.setup import SIZES, TEXT_TOKENS, Run, autocast_of, build
from methods import Updater
from methods.rewards.preference import SplConfig
from methods.rewards.spm import Spm
from methods.rewards.training import RewardBatch, RewardObjective
from methods.rollout import Phases, unobserved
from methods.transformer import set_attention_kernel

PRETRAINING_LR, SPL_LR = 1e-4, 1e-5
"""As published."""


@dataclass
class RewardRun:
    """A case on a device, with the same face as setup.Run. Its random draws are those of torch's global generator."""

    case: RewardCase
    reward: Spm
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
    mld_config, spm_config = SIZES[case.backbone]
    with device:
        reward = Spm(spm_config)
    reward.train(switches.train_mode)
    set_attention_kernel(reward, switches.attention)
    lr = SPL_LR if case.spl else PRETRAINING_LR
    optimizer = torch.optim.AdamW(reward.parameters(), lr=lr, weight_decay=0.0, foreach=True)
    with device:
        batch = RewardBatch(
            motion=torch.randn(case.motions, case.frames, spm_config.features),
            frame_mask=torch.ones(case.motions, case.frames, dtype=torch.bool),
            tokens=torch.randn(case.batch, TEXT_TOKENS, spm_config.token_width),
            token_mask=torch.ones(case.batch, TEXT_TOKENS, dtype=torch.bool),
            sentences=torch.randn(case.motions, mld_config.text_width),
        )
    objective = RewardObjective(spl=SplConfig(pool=case.pool) if case.spl else None)
    updater = Updater(optimizer, check_finite=with_data)
    return RewardRun(case, reward, objective, batch, updater, autocast_of(switches, device))
