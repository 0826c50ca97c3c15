"""Processes that train one model together (torch.distributed): who they are, and what they agree on."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from lib.training.state import Progress

Made = TypeVar("Made")

_PATIENCE = timedelta(hours=6)
"""For the first process, which reads all labels alone. Where a process ends, torchrun ends the others at once."""


class FirstProcessError(RuntimeError):
    """The first process could not do its part; its words."""


@contextmanager
def joined_processes(device: str) -> Iterator[torch.device]:
    """The device of this process; under torchrun it joins the others, each on a GPU of its own where there are GPUs.

    Leaving takes this process out of the group: one that ends inside it may be aborted by the group's own threads. No
    process waits for another here, for the first may still have hours of measuring before it.

    Args:
        device: cpu, cuda or cuda:N; under torchrun every kind of CUDA stands for the process's own GPU.
    """
    if "WORLD_SIZE" not in os.environ:
        yield torch.device(device)
        return
    if device.startswith("cuda"):
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo", timeout=_PATIENCE)
    try:
        yield torch.device(device)
    finally:
        dist.destroy_process_group()


def rank() -> int:
    """Of this process among those that train together; 0 where it trains alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def average_gradients(parameters: Sequence[Tensor]) -> None:
    """The mean of each gradient over the processes; does nothing where one trains alone.

    Not DistributedDataParallel: an interaction runs the decoder several times for one backward pass, and which parts a
    batch needs depends on its clicks.
    """
    if not dist.is_initialized():
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    offset = 0
    for parameter in parameters:
        assert parameter.grad is not None
        parameter.grad.copy_(flat[offset : offset + parameter.numel()].view_as(parameter))
        offset += parameter.numel()


def start_alike(parameters: Sequence[Tensor]) -> None:
    """Give all processes the first one's values: averaged gradients fit no other."""
    if dist.is_initialized():
        for parameter in parameters:
            dist.broadcast(parameter.detach(), 0)


def agreed(value: float) -> float:
    """The first process's value, so that all stop at the same step."""
    if not dist.is_initialized():
        return value
    tensor = torch.tensor([value], dtype=torch.float64)
    dist.broadcast(tensor, 0)
    return float(tensor)


def share_curve(progress: Progress) -> None:
    """Give all processes the first one's curve, by which they decide to stop."""
    if dist.is_initialized():
        shared = [progress.curve]
        dist.broadcast_object_list(shared, 0)
        progress.curve = shared[0]


def from_first(make: Callable[[], Made]) -> Made:
    """What the first process makes, given to all; where that fails, all fail.

    Args:
        make: Called by the first process alone; what it gives can be pickled.

    Raises:
        Exception: On the first process, what ``make`` raises.
        FirstProcessError: On the others, with its words.
    """
    if not dist.is_initialized():
        return make()
    shared: list[Any] = [None, None]
    if not rank():
        try:
            shared[0] = make()
        except Exception as error:
            dist.broadcast_object_list([None, str(error) or type(error).__name__], 0)
            raise
    dist.broadcast_object_list(shared, 0)
    made, problem = shared
    if problem is not None:
        raise FirstProcessError(problem)
    return cast(Made, made)
