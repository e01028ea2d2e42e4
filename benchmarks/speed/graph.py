"""A whole training step as one CUDA graph: one launch instead of thousands."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.training.data import Images
from benchmarks.training.side_by_side import SideBySide

WARM_UP = 3
"""Steps before capturing, in which libraries choose algorithms and the optimizer makes its state."""


class GraphedSteps:
    """The steps of stages that train side by side, captured once and replayed.

    A replayed step launches the kernels of the captured one: gather, normalise, forward, losses, penalties,
    backward, optimizers. What differs between steps is read from where it lies: the images' indices and
    the learning rate.
    """

    def __init__(self, joined: SideBySide) -> None:
        """Make a few steps, then capture one.

        Raises:
            RuntimeError: A step does what cannot be captured, such as waiting for the device.
        """
        self.joined = joined
        first = joined.stages[0]
        self.train: Images = first.problem.train  # type: ignore[attr-defined]
        self.index = torch.zeros(
            len(joined.stages), joined.batch_size, dtype=torch.long, device=joined.device
        )
        for stage in joined.stages:
            for group in stage.optimizer.param_groups:
                group["lr"] = torch.tensor(float(group["lr"]), device=joined.device)
                group["capturable"] = True
        joined.shared.train()
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM_UP):
                self._step()
        torch.cuda.current_stream().wait_stream(beside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.losses = self._step()

    def train_epoch(self, epoch: int) -> list[float]:
        """Train an epoch as ``SideBySide`` does; return each stage's mean loss."""
        stages, steps = self.joined.stages, self.joined.stages[0].problem.steps
        orders = torch.stack([self._order(stage.order_seed + epoch) for stage in stages])
        found = []
        for step, index in enumerate(orders.split(self.joined.batch_size, dim=1)[:steps]):
            for stage in stages:
                stage.set_learning_rate(epoch + step / steps, step_share=1 / steps)
            self.index.copy_(index)
            self.graph.replay()
            found.append(self.losses.clone())
        means: list[float] = torch.stack(found).mean(0).tolist()
        return means

    def _order(self, seed: int) -> Tensor:
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(seed))
        return order.to(self.joined.device)

    def _step(self) -> Tensor:
        batches = [(self.train.inputs(own), self.train.labels[own]) for own in self.index]
        losses, penalties = self.joined.losses(batches)
        self.joined.update(losses, penalties)
        return torch.stack(losses).detach()
