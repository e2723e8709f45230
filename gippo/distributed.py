"""Several processes that train one policy, each on its share of the environments.

torchrun starts them. All hold the same networks and optimisers and take the same decisions: what an
update needs of all environments - gradients, losses, moments, extremes - is reduced over the
processes first, and every process gets the same numbers from that. So nothing has to be sent round
afterwards, and process 0 alone can keep the run's files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from gippo.errors import TrainingFailedError, UserError

PATIENCE = timedelta(minutes=10)
"""How long a process waits for the others, who may be compiling."""


class Ranks:
    """The processes of a run, one of which is this; a run of one needs no torchrun."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size
        self.alone = size == 1
        """Whether there is nobody to send anything to."""

    def share(self, whole: torch.Tensor, dim: int = 0) -> torch.Tensor:
        """This process's part of a dimension that is split evenly."""
        return whole if self.alone else whole.chunk(self.size, dim)[self.rank]

    def joined(self, part: torch.Tensor, dim: int = 0) -> torch.Tensor:
        """The parts of all processes, one behind the other; the reverse of `share`."""
        if self.alone:
            return part
        sent = part.contiguous()
        sent = sent.to(torch.uint8) if part.dtype == torch.bool else sent
        parts = [torch.empty_like(sent) for _ in range(self.size)]
        distributed.all_gather(parts, sent)
        return torch.cat(parts, dim).to(part.dtype)

    def means(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Each tensor's mean over the processes, by one message; all of one dtype."""
        if self.alone:
            return tensors
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
        distributed.all_reduce(flat)
        parts = flat.div_(self.size).split([tensor.numel() for tensor in tensors])
        return tuple(part.view(x.shape) for part, x in zip(parts, tensors, strict=True))

    def mean(self, tensor: torch.Tensor) -> torch.Tensor:
        """The mean over the processes."""
        return self.means(tensor)[0]

    def most(self, tensor: torch.Tensor) -> torch.Tensor:
        """The maximum over the processes, of each element; NaN if any is."""
        return tensor if self.alone else self.joined(tensor.unsqueeze(0)).amax(0)

    def moments(self, variance: torch.Tensor, mean: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Variance and mean of a batch of which every process has an equal part."""
        if self.alone:
            return variance, mean
        whole = self.mean(mean)
        return self.mean(variance + (mean - whole).square()), whole

    def told(self, value: Any) -> Any:
        """What process 0 gives, to every process; tensors in it arrive on the CPU."""
        if self.alone:
            return value
        values = [_on_cpu(value)]
        distributed.broadcast_object_list(values, 0)
        return values[0]

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process."""
        if self.alone:
            return flag
        flags = [False] * self.size
        distributed.all_gather_object(flags, flag)
        return True in flags


def _on_cpu(value: Any) -> Any:
    """A tree of dictionaries with its tensors on the CPU.

    A GPU's would come up on process 0's in every process, and take memory there.
    """
    if isinstance(value, dict):
        return {key: _on_cpu(part) for key, part in value.items()}
    return value.cpu() if isinstance(value, torch.Tensor) else value


SINGLE = Ranks()


def local_processes() -> int:
    """How many of the run's processes are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


@contextmanager
def joined_ranks(device: str) -> Iterator[tuple[Ranks, str]]:
    """Meet the other processes that torchrun has started, if it has.

    Args:
        device: of the run; "cuda" becomes the process's own.

    Yields:
        The processes, and this one's device.

    Raises:
        UserError: no such device for each of them, or they cannot talk to each other.
        TrainingFailedError: one of them has ended, or has not answered for `PATIENCE`.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield SINGLE, device
        return
    on_gpu = device == "cuda"
    if on_gpu:
        device = _own_gpu()
    elif device != "cpu":
        raise UserError(f"device: {device!r} given, 'cpu' or 'cuda' accepted with torchrun")
    try:
        distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"torchrun: the processes cannot be joined ({error})") from error
    try:
        yield Ranks(distributed.get_rank(), distributed.get_world_size()), device
    except RuntimeError as error:
        words = ("gloo", "Connection", "Timed out")
        if not isinstance(error, distributed.DistError) and not any(w in str(error) for w in words):
            raise
        raise TrainingFailedError(_lost()) from error
    finally:
        distributed.destroy_process_group()


def _own_gpu() -> str:
    """This process's GPU, made torch's current one.

    Raises:
        UserError: there are fewer of them than processes on this machine.
    """
    gpus, processes = torch.cuda.device_count(), local_processes()
    if gpus < processes:
        raise UserError(
            f"device: 'cuda' given for {processes} processes on this machine, but torch sees "
            f"{gpus} GPUs; fewer processes, or 'cpu', accepted"
        )
    device = f"cuda:{os.environ['LOCAL_RANK']}"
    torch.cuda.set_device(device)
    return device


def _lost() -> str:
    return (
        f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']} has lost the others: one of "
        "them has ended (it has told why, unless it was killed) or does not answer; resume=true "
        "goes on from the last checkpoint"
    )
