"""What can be counted in a step, the same in every run: FLOPs, operations, peak memory.

FLOPs are by `torch.utils.flop_counter`, which counts matrix products and nothing else: a penalty of
element-wise operations has none. For this the attention is computed in its plain form, since the
counter does not know the fused one of every device.

Operations are calls into ATen, in forward, backward and optimizer. On a GPU each is about one kernel
launch, which is what a small penalty costs there.

Peak memory: on a GPU, the allocator's own peak of live bytes. On a CPU, the same quantity: the bytes
of model, optimizer and batch plus the peak of what the step allocates beyond them, summed over the
profiler's allocation events. The process's resident memory was the other choice; it holds what the
allocator and the libraries keep for themselves, and differs between runs by more than the closed forms
need.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.cost.spec import Variant
from benchmarks.cost.step import Penalty, TrainingStep

# The profiler announces itself on stderr at each start, which would break the progress bar.
QUIET = ("KINETO_LOG_LEVEL", "99")


class Step(Protocol):
    """What is looked at: a training step with its model and optimizer."""

    model: nn.Module
    optimizer: torch.optim.AdamW
    images: Tensor
    labels: Tensor
    device: torch.device

    def __call__(self, penalty: Penalty | None) -> None:
        """Make one step."""

    def forget_gradients(self) -> None:
        """Free the gradients."""


@dataclass(frozen=True)
class Counts:
    """Counts of one step.

    Attributes:
        forward_flops: Of the forward pass, the penalty included.
        step_flops: Of forward and backward pass.
        aten_ops: Calls into ATen.
        peak_memory_bytes: Most memory that live tensors took.
    """

    forward_flops: int
    step_flops: int
    aten_ops: int
    peak_memory_bytes: int

    def as_dict(self) -> dict[str, int]:
        """Return the counts by name."""
        return asdict(self)


def count(step: TrainingStep, variant: Variant) -> Counts:
    """Make two steps of a variant, the optimizer having made some before, and count."""
    flops, operations = FlopCounterMode(display=False), _Operations()
    with (
        step.penalised(variant) as penalty,
        sdpa_kernel(SDPBackend.MATH),
        flops,
        operations,
    ):
        step.forget_gradients()
        loss = step.loss(penalty)
        forward = flops.get_total_flops()
        loss.backward()
        step.optimizer.step()
    del loss
    # Another penalty: the memory that the first one keeps would be freed by the step that is looked at.
    with step.penalised(variant) as penalty:
        peak = peak_memory(step, penalty)
    return Counts(forward, flops.get_total_flops(), operations.calls, peak)


def peak_memory(step: Step, penalty: Penalty | None) -> int:
    """Make a step; return the most memory that live tensors took, in bytes."""
    step.forget_gradients()
    if step.device.type == "cuda":
        torch.cuda.synchronize(step.device)
        torch.cuda.reset_peak_memory_stats(step.device)
        step(penalty)
        torch.cuda.synchronize(step.device)
        return torch.cuda.max_memory_allocated(step.device)
    os.environ.setdefault(*QUIET)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step(penalty)
    assert profiler.profiler is not None
    events = profiler.profiler.kineto_results.events()
    changes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    allocated = peak = 0
    for _, change in sorted(changes, key=lambda change: change[0]):
        allocated += change
        peak = max(peak, allocated)
    return resident_bytes(step) + peak


def resident_bytes(step: Step) -> int:
    """Return the bytes of model, optimizer and batch."""
    return _bytes_of(_resident(step))


def _resident(step: Step) -> Iterable[Tensor]:
    yield from step.model.parameters()
    yield from step.model.buffers()
    for state in step.optimizer.state.values():
        yield from (value for value in state.values() if isinstance(value, Tensor))
    yield from (step.images, step.labels)


def _bytes_of(tensors: Iterable[Tensor]) -> int:
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in tensors}
    return sum(storage.nbytes() for storage in storages.values())


class _Operations(TorchDispatchMode):
    """Counts the calls into ATen."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        self.calls += 1
        return func(*args, **(kwargs or {}))
