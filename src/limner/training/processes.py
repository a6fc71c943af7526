"""The processes that share a training, and what they exchange.

A launcher such as torchrun starts them and describes them in the environment: RANK, WORLD_SIZE,
LOCAL_RANK, MASTER_ADDR, MASTER_PORT.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from limner.device import Device, pick_device
from limner.errors import InputError
from limner.training.communication import explained

if dist.is_available():  # early: its default arguments keep the group that exists at import
    import torch.distributed.nn.functional


@dataclass(frozen=True)
class Processes:
    """This process and the number of all."""

    device: torch.device
    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace the tensors by their means over all processes, in one message."""
        if self.count > 1:
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            dist.all_reduce(flat)
            parts = (flat / self.count).split([tensor.numel() for tensor in tensors])
            for tensor, mean in zip(tensors, parts, strict=True):
                tensor.copy_(mean.view_as(tensor))

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes."""
        total = tensor.clone()
        if self.count > 1:
            dist.all_reduce(total)
        return total

    def largest(self, *values: float) -> list[float]:
        """The largest of each value over all processes."""
        if self.count == 1:
            return [float(value) for value in values]
        tensor = torch.tensor(values, device=self.device, dtype=torch.float64)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return tensor.tolist()

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            dist.barrier(device_ids=None if self.device.index is None else [self.device.index])

    @contextmanager
    def first_of_host_first(self) -> Iterator[None]:
        """A context that the first process of each host leaves before the others enter it."""
        first = _local_rank() == 0
        if not first:
            self.wait()
        yield
        if first:
            self.wait()


@contextmanager
def processes(name: Device, out: Path) -> Iterator[Processes]:
    """The processes that train the run in `out` on the device of that name.

    They are those of torch's default process group if the caller has set one up; it is not changed.
    Otherwise they are those of the launcher: a group is set up, and removed at the end. Without a
    launcher there is one process.

    Raises:
        InputError: the device is absent, or the processes cannot communicate.
        ProcessLost: another process ended; found when it does not answer.
    """
    ours = not (dist.is_available() and dist.is_initialized())
    if ours and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes(pick_device(name))
        return
    device, begun = _own_device(name), False
    try:
        if ours:
            cuda = device.type == "cuda"
            dist.init_process_group("nccl" if cuda else "gloo", device_id=device if cuda else None)
        begun = True
        yield Processes(device, dist.get_rank(), dist.get_world_size())
    except (RuntimeError, ValueError) as error:
        known = explained(error, out, begun)
        if known is None:
            raise
        raise known from None
    finally:
        if ours and dist.is_initialized():
            with suppress(RuntimeError):  # the training is over, or failed before
                dist.destroy_process_group()


def launched_rank() -> int:
    """The rank of this process among those of a launcher; 0 without one."""
    return int(os.environ.get("RANK", "0"))


def _local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


def _own_device(name: Device) -> torch.device:
    """The device of this process: of several GPUs each process of a host has its own."""
    device, rank = pick_device(name), _local_rank()
    if device.type == "cpu":
        return device
    if device.type != "cuda":
        raise InputError(
            f"Several processes train on CPUs or CUDA, not on {device}; pass --device cpu."
        )
    if torch.device(str(name).replace("auto", "cuda")).index is not None:
        if int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1:
            raise InputError(
                f"The processes of a host train on one GPU each and --device is {name}; pass "
                "--device cuda."
            )
        return device
    if rank >= torch.cuda.device_count():
        raise InputError(
            f"This host has {torch.cuda.device_count()} CUDA devices and more processes; start as "
            "many processes as devices, or pass --device cpu."
        )
    return torch.device("cuda", rank)
