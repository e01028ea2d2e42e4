"""Several processes, a GPU each, that train on one batch: features are gathered, gradients averaged.

Every process computes the loss of the whole batch, of embeddings that all of them made, so that each has
all negatives. The gradient of its own embeddings is the sum of those that the processes found, each of the
same loss; the average over processes of the parameters' gradients is then that of one process with the whole
batch.
(The public code keeps the local part alone, so that its gradients are smaller by the number of processes.)
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import spawn

from benchmarks.msrvtt.model import Encoded

Helper = Callable[[str], object]
"""What a further process does, given its device. A function of a module: it is sent there."""


@contextmanager
def together(number: int, device: str, helper: Helper) -> Iterator[str]:
    """Let ``number`` processes train together inside the block: this one, and others that run ``helper``.

    Args:
        number: How many; one needs no helper.
        device: ``cpu``, or ``cuda``, of which each process gets one by its number.
        helper: What the others do.

    Yields:
        The device of this process.

    Raises:
        ValueError: There are fewer GPUs.
    """
    if number == 1:
        yield device
        return
    if device.startswith("cuda") and torch.cuda.device_count() < number:
        raise ValueError(
            f"training.processes is {number}, and there are {torch.cuda.device_count()} GPUs"
        )
    with tempfile.TemporaryDirectory() as folder:
        where = f"file://{folder}/rendezvous"
        arguments = (where, number, device, helper)
        others = spawn(_help, arguments, nprocs=number - 1, join=False)
        try:
            yield _join(where, number, device, 0)
            while not others.join():
                pass
        finally:
            for process in others.processes:
                process.terminate()
            if distributed.is_initialized():
                distributed.destroy_process_group()


def _help(index: int, where: str, number: int, device: str, helper: Helper) -> None:
    torch.set_num_threads(1)
    helper(_join(where, number, device, index + 1))
    distributed.destroy_process_group()


def _join(where: str, number: int, device: str, rank: int) -> str:
    """Become one of the processes; return its device."""
    is_gpu = device.startswith("cuda")
    if is_gpu:
        torch.cuda.set_device(rank)
    backend = "nccl" if is_gpu else "gloo"
    distributed.init_process_group(backend, init_method=where, rank=rank, world_size=number)
    return f"cuda:{rank}" if is_gpu else device


def world() -> int:
    """Return how many processes train together."""
    is_on = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if is_on else 1


def share(index: Tensor) -> Tensor:
    """Return this process's part of a batch's indices.

    Raises:
        ValueError: The batch cannot be shared equally.
    """
    number = world()
    if number == 1:
        return index
    if len(index) % number:
        raise ValueError(f"{number} processes cannot share a batch of {len(index)} equally")
    return index.chunk(number)[distributed.get_rank()]


def joined(encoded: Encoded) -> Encoded:
    """Return the embeddings of all processes, in the order of their parts; of one, as they are."""
    if world() == 1:
        return encoded
    counts = torch.cat(_all(encoded.counts.to(encoded.texts.device))).cpu()
    own = [int(part.sum()) for part in counts.chunk(world())]
    frames = encoded.frames.new_zeros(max(own), encoded.frames.shape[1])
    frames = frames.index_copy(
        0, torch.arange(len(encoded.frames), device=frames.device), encoded.frames
    )
    gathered = _Gather.apply(frames)
    return Encoded(
        torch.cat([part[:number] for part, number in zip(gathered, own, strict=True)]),
        counts,
        torch.cat(list(_Gather.apply(encoded.texts))),
    )


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace each gradient by its average over the processes; one alone changes nothing."""
    number = world()
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if number == 1 or not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= number
    sizes = [gradient.numel() for gradient in gradients]
    for gradient, averaged in zip(gradients, flat.split(sizes), strict=True):
        gradient.copy_(averaged.view_as(gradient))


class _Gather(torch.autograd.Function):
    """Gathers tensors of one shape; the gradient of the own one is the sum of what all processes found."""

    @staticmethod
    def forward(context: Any, own: Tensor) -> tuple[Tensor, ...]:
        del context
        return tuple(_all(own.contiguous()))

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        del context
        total = torch.stack(gradients)
        distributed.all_reduce(total)
        return total[distributed.get_rank()]


def _all(own: Tensor) -> list[Tensor]:
    found = [torch.empty_like(own) for _ in range(world())]
    distributed.all_gather(found, own)
    return found
