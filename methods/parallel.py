"""Data-parallel fine-tuning: each rank scores its share of a batch, and gradients are averaged once an optimiser step.

The denoiser is not wrapped in DistributedDataParallel: a plan calls it many times before a backward pass, and not every
time alike, which such a wrapper takes for an error; a call that goes round it trains ranks apart without a word. Plans,
prompts and noise are drawn alike on all ranks, for the whole batch, of which each takes its rows: N ranks compute the
gradient of one, to rounding. What is drawn from torch's global generators (dropout, a reward's own samples) is a rank's
own. The denoiser itself may be spread over the ranks (methods.sharding).
"""

import contextlib
import importlib
import os
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed
from torch import Tensor

from methods.errors import InputError

SHARDINGS = {"none": "all of it", "fsdp2": "its part of it (methods.sharding)"}
"""What a rank has of the denoiser, its gradients and the optimiser's state."""

PATIENCE = timedelta(hours=1)
"""How long ranks wait for one that measures alone."""


class RankError(InputError):
    """Ranks cannot work together (any longer); the message is one sentence with the mend."""


@dataclass(frozen=True)
class Ranks:
    """Who takes part, and which of them this process is."""

    rank: int = 0
    size: int = 1
    sharding: str = "none"
    """One of SHARDINGS; there is nothing to spread where one is alone."""

    @property
    def sharded(self) -> bool:
        """Whether each has but its part of the denoiser."""
        return self.sharding != "none" and self.size > 1

    @property
    def first(self) -> bool:
        """The one that measures, writes and speaks."""
        return self.rank == 0

    def share(self, batch: int) -> "Share | None":
        """This rank's share of so many prompts; None where there is but one rank. RankError if some would have none."""
        if self.size == 1:
            return None
        if batch < self.size:
            raise RankError(f"{self.size} ranks cannot share a batch of {batch}: start fewer, or enlarge the batch")
        return Share(self, batch)

    def agree(self, given: Mapping[str, object]) -> None:
        """RankError, on every rank, unless all were given the same JSON values; it names the first that differs."""
        if self.size == 1:
            return
        told: list[Mapping[str, object]] = [{}] * self.size
        torch.distributed.all_gather_object(told, dict(given))
        for number, other in enumerate(told):
            for name in dict.fromkeys((*told[0], *other)):
                if told[0].get(name) != other.get(name):
                    raise RankError(
                        f"rank {number} was started with another {name} than rank 0 ({other.get(name)}, not "
                        f"{told[0].get(name)}): start all ranks by one command"
                    )

    def as_first(self, decision: bool) -> bool:
        """The first one's decision, on every rank."""
        if self.size == 1:
            return decision
        told = [decision]
        torch.distributed.broadcast_object_list(told)
        return told[0]

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Around all that ranks do: RankError where an exchange fails, because one of them is gone."""
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or not _of_exchange(error):
                raise
            raise RankError(
                f"rank {self.rank} lost another one ({str(error).splitlines()[0][:80]}): the same command goes on from "
                "the last checkpoint, on as many ranks as are left"
            ) from None


def _of_exchange(error: BaseException) -> bool:
    """Whether torch.distributed raised it, or FSDP2's hooks did, whose errors are of no kind of their own."""
    folder = os.path.dirname(torch.distributed.__file__)
    return any(frame.filename.startswith(folder) for frame in traceback.extract_tb(error.__traceback__))


ALONE = Ranks()


@dataclass(frozen=True)
class Share:
    """One rank's rows of a batch: as many as any other's, or one fewer."""

    ranks: Ranks
    batch: int

    @property
    def rows(self) -> slice:
        """Of the whole batch."""
        begin, end = (number * self.batch // self.ranks.size for number in (self.ranks.rank, self.ranks.rank + 1))
        return slice(begin, end)

    @property
    def scale(self) -> float:
        """Of a mean over its rows, so that the mean over the ranks is the mean over the batch; 1 for equal shares."""
        return (self.rows.stop - self.rows.start) * self.ranks.size / self.batch

    def randn(self, like: Tensor, generator: torch.Generator | None) -> Tensor:
        """Unit noise in the shape of `like`: this share of what is drawn for the whole batch."""
        whole = (self.batch, *like.shape[1:])
        return torch.randn(whole, generator=generator, dtype=like.dtype, device=like.device)[self.rows]

    def exchange(self, parameters: Sequence[Tensor], rewards: Sequence[Tensor]) -> Tensor:
        """Replaces the gradients of this share's objective, scaled by `scale`, by the batch's; returns the batch's mean
        reward, `[1]`. One exchange of all of them as one tensor; of a sharded denoiser the backward pass has averaged
        them."""
        mean = torch.cat([reward.detach() for reward in rewards]).mean().mul_(self.scale).reshape(1)
        if self.ranks.sharded:
            return self.average(mean)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = self.average(torch.cat([*(gradient.flatten() for gradient in gradients), mean]))
        *averaged, total = flat.split([*(gradient.numel() for gradient in gradients), 1])
        for gradient, value in zip(gradients, averaged, strict=True):
            gradient.copy_(value.view_as(gradient))
        return total.clone()  # a view would keep all gradients once more

    def average(self, scaled: Tensor) -> Tensor:
        """The mean over the ranks of what each has scaled by `scale`, which is overwritten."""
        torch.distributed.all_reduce(scaled)
        return scaled.div_(self.ranks.size)


def of_rank(device: torch.device) -> torch.device:
    """Where torchrun's rank of this process works, if `device` is what it was started with: of GPUs its own. RankError
    where it has none."""
    number = os.environ.get("LOCAL_RANK")
    if number is None or device.type != "cuda":
        return device
    if int(number) >= (count := torch.cuda.device_count()):
        raise RankError(
            f"rank {number} of this machine has no GPU, it has {count}: start as many ranks by --nproc-per-node"
        )
    return torch.device(device.type, int(number))


@contextlib.contextmanager
def joined(device: torch.device, sharding: str = "none") -> Iterator[Ranks]:
    """The ranks that torchrun started, over NCCL on GPUs and Gloo elsewhere; one alone where there was no torchrun."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    backend = "gloo"
    if device.type == "cuda":
        backend = "nccl"
        torch.cuda.set_device(device)
    # An optimiser imports it, and if there is a group by then it keeps that for ever, with the threads that exchange.
    importlib.import_module("torch._dynamo")
    torch.distributed.init_process_group(backend, timeout=PATIENCE)
    try:
        ranks = Ranks(torch.distributed.get_rank(), size, sharding)
        yield ranks
        # FSDP2 keeps it, too. A thread that lets go of its last tensor while the interpreter ends would abort it; a
        # barrier has none.
        with ranks.together():
            torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()
