"""The training of a world's reward, in two stages that go on after a kill and are kept for the runs that share them."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from bench import devices, identity
from bench.alignment.rewards.config import STATES, RewardConfig
from bench.alignment.rewards.measure import as_motion, latents, retrieval
from bench.alignment.rewards.reward import TrainedReward
from bench.world import Prompts, World
from bench.world.data import WorldData, cached
from bench.world.model import RAW
from bench.world.stages import Texts
from bench.world.training import Stage
from bench.world.training import train as run
from bench.world.world import frame_mask
from methods.errors import InputError
from methods.rewards.noise import NoiseConfig, Noised, noise
from methods.rewards.preference import SplConfig
from methods.rewards.spm import sample
from methods.rewards.training import RewardBatch, RewardObjective
from methods.transformer import set_attention_kernel

VALIDATION = 256
"""Clips of the validation split behind a progress line's figure."""


def train(
    config: RewardConfig,
    world: World,
    folder: Path,
    say: Callable[[str], None] = print,
    data: WorldData | None = None,
) -> TrainedReward:
    """A reward of the world's sizes, trained on its training clips by the published recipe, on the world's device; in
    eval mode and frozen.

    Losses are RewardObjective's with the released weights. Both stages keep checkpoints in `folder`, in subfolders
    named by what they depend on: the same call goes on after a kill, to the same weights, and recipes that differ in
    stage two alone share stage one. `data`: the world's clips where they are at hand; otherwise made, and kept in
    `folder`.

    `metrics` of the reward: "val", as `measure.retrieval` of the first VALIDATION clips of that split, and "mined", the
    share of stage two's texts that gave a pair (None without SPL). torch's global generators are drawn from.
    InputError for a world without a VAE, where the training clips are too few for SPL's pool, and as world.data.cached
    and world.training.train.
    """
    if world.config.backbone == RAW:
        raise InputError("rewards are trained for MLD's noise levels, and this world has MDM's: give one with a VAE")
    folder.mkdir(parents=True, exist_ok=True)
    data = data or cached(folder / "data.safetensors", world.content)
    digest = data.digest
    clips = _Clips(world, data.to(world.device), config)
    torch.manual_seed(config.seed)
    reward = TrainedReward(world, config)
    set_attention_kernel(reward, "fused")
    val = clips.validation()

    def figures() -> dict:
        return retrieval(world, reward, "val", real=val)

    def check() -> str:
        recall = figures()["all"]
        return f"val R@1 {recall['text_to_motion']['R@1']:.1f} by text, {recall['motion_to_text']['R@1']:.1f} by motion"

    first = folder / identity.key(config.stage_one(), reward.world, digest, *devices.decides(world.device.type))
    first.mkdir(exist_ok=True)
    pretraining = RewardObjective()
    steps = config.steps
    run(
        Stage(
            "reward",
            reward,
            reward.parameters(),
            lambda: pretraining(reward, clips.batch())[0],
            check,
            steps,
            config.lr,
            config.seed,
            _warm_up(steps),
        ),
        first,
        say,
    )
    mined = None
    if config.refine:
        second = first / identity.key(config.stage_two())
        second.mkdir(exist_ok=True)
        refinement = _Refinement(reward, config.spl_config()).to(world.device)
        name = "spl" if config.spl else "control"
        steps = config.refine
        run(
            Stage(
                name,
                refinement,
                reward.parameters(),
                lambda: refinement.loss(clips.batch(refinement.spl)),
                check,
                steps,
                config.refine_lr,
                config.seed + 1,  # other batches than stage one's
                _warm_up(steps),
            ),
            second,
            say,
        )
        mined = refinement.mined
        if mined == 0:
            say(f"spl: all {int(refinement.texts)} texts found their motion, so not one pair was mined")
    reward.metrics = {"val": figures(), "mined": mined}
    return reward.eval().requires_grad_(False)


def _warm_up(steps: int) -> int:
    """A tenth of the steps; the published runs have none."""
    return max(steps // 10, 1)


class _Refinement(nn.Module):
    """Stage two. A module, so that its checkpoints keep the counts too."""

    found: Tensor
    texts: Tensor

    def __init__(self, reward: TrainedReward, spl: SplConfig | None):
        super().__init__()
        self.reward, self.spl = reward, spl
        self.objective = RewardObjective(spl=spl)
        self.register_buffer("found", torch.tensor(0))
        self.register_buffer("texts", torch.tensor(0))

    def loss(self, batch: RewardBatch) -> Tensor:
        total, parts = self.objective(self.reward, batch)
        if self.spl:
            self.found += parts["mined"]
            self.texts += parts["mined"] + parts["skipped"]
        return total

    @property
    def mined(self) -> float | None:
        """The share of texts that gave a pair."""
        return float(self.found / self.texts) if self.spl else None


class _Clips:
    """A world's clips, as batches of the reward's training."""

    def __init__(self, world: World, data: WorldData, config: RewardConfig):
        self.world, self.data = world, data
        self.texts = Texts.of(data, world.captions).to(world.device)
        distinct = list(dict.fromkeys(text for texts in data.texts for text in texts))
        # As the encoder gives them: the threshold of equal captions is of such vectors.
        self.sentences = world.captions.table.encode(distinct).to(world.device)
        every = world.clips["train"].long()
        order = torch.randperm(len(every), generator=torch.Generator().manual_seed(config.seed))
        self.chosen = every[order[: max(round(config.share * len(every)), 1)]].to(world.device)
        self.size = min(config.batch, len(self.chosen))
        if config.spl:
            config.check_pool(min(config.pool or self.size, len(self.chosen)))
            if config.pool and config.pool > len(self.chosen):
                raise InputError(
                    f"spl: there are {len(self.chosen)} training clips for a pool of {config.pool}: enlarge share, or "
                    "lower pool"
                )
        self.noise: NoiseConfig | None = config.noise_config()
        self.noised = config.noised
        if self.noise and self.noised == STATES:
            parts = [latents(world, *self.motions(clips)) for clips in self.chosen.split(VALIDATION)]
            self.mean, self.std = (torch.cat(values) for values in zip(*parts, strict=True))

    def motions(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Features `[B, F, 263]`, padded to the longest, and lengths `[B]`."""
        motion, lengths = self.data.motions(clips)
        # A world may have been made of fewer clips than it names, and normalise by theirs.
        return self.world.statistics.normalise(self.data.statistics.restore(motion)), lengths

    def batch(self, spl: SplConfig | None = None) -> RewardBatch:
        """Random clips, as many as SPL's pool holds; the first of them with a random caption each."""
        rows = torch.randperm(len(self.chosen), device=self.chosen.device)[
            : spl.pool or self.size if spl else self.size
        ]
        clips = self.chosen[rows]
        motion, lengths = self.motions(clips)
        mask = frame_mask(lengths, motion.shape[1])
        captions = self.texts.draw(clips)
        tokens, token_mask = self.texts.tokens(captions[: self.size])
        return RewardBatch(
            motion,
            mask,
            tokens,
            token_mask,
            self.sentences[captions],
            self.texts.meaning[clips],
            self._noisy(rows, motion, mask),
        )

    def _noisy(self, rows: Tensor, motion: Tensor, mask: Tensor) -> Noised | None:
        """Noisy motions, or None for a batch that stays clean."""
        if not self.noise:
            return None
        clean = sample(self.mean[rows], self.std[rows]) if self.noised == STATES else motion
        given = noise(clean, self.noise)
        if given.values is clean:
            return None
        return given._replace(values=as_motion(self.world, given.values, mask, self.noised))

    def validation(self) -> tuple[Tensor, Prompts]:
        """Motions and first captions of the first clips of the validation split."""
        clips = self.world.clips["val"][:VALIDATION].long()
        motion, lengths = self.motions(clips)
        texts = tuple(self.data.texts[clip][0] for clip in clips.tolist())
        return motion, Prompts(texts, tuple(self.data.meanings[clip] for clip in clips.tolist()), lengths.cpu())
