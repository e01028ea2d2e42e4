"""Trains several stages side by side: one forward and backward pass, each stage its own everything else.

Each has its model, order of the data, noise, loss, penalty, optimizer and checkpoint. The gradients of the
sum of the losses are those of each loss, since no model enters another one's. What a stage comes to is what
it comes to alone, to the rounding of sums that are taken in another order.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

import torch
from torch import Tensor, nn

from benchmarks.training.finite import Diverged
from benchmarks.training.shared_forward import NotShared, SharedForward
from benchmarks.training.trainer import Progress, Stage
from resora.petl.lora import LoRA


class SideBySide:
    """Stages that make their steps together."""

    def __init__(self, stages: Sequence[Stage], head: str) -> None:
        """Join stages.

        Args:
            stages: Stages of LoRA models; batch sizes, steps an epoch and precision are the same.
            head: Dotted name of the models' task head.

        Raises:
            NotShared: They cannot be trained together; the message says why.
        """
        self.stages = tuple(stages)
        first = self.stages[0]
        if any(type(stage.method) is not LoRA for stage in self.stages):
            raise NotShared("only plain LoRA is trained side by side")
        for what in ("batch size", "steps an epoch", "precision", "device"):
            if len({_facts(stage)[what] for stage in self.stages}) > 1:
                raise NotShared(f"the stages differ in {what}")
        self.shared = SharedForward([stage.model for stage in self.stages], head)
        self.batch_size, self.device = first.plan.batch_size, next(first.model.parameters()).device

    def train_epoch(self, epoch: int) -> list[tuple[float, float | None]]:
        """Train one epoch; return each stage's mean loss, and its mean penalty if it has one."""
        self.shared.train()
        noise = [
            torch.Generator(self.device).manual_seed(stage.noise_seed + epoch)
            for stage in self.stages
        ]
        for stage in self.stages:
            stage.problem.start_epoch(epoch, stage.plan)
        steps = self.stages[0].problem.steps
        losses: list[Tensor] = []
        penalties: list[list[Tensor | None]] = []
        sources = [stage.problem.batches(stage.order_seed + epoch) for stage in self.stages]
        for step, batches in enumerate(zip(*sources, strict=True)):
            for stage in self.stages:
                stage.set_learning_rate(epoch + step / steps, step_share=1 / steps)
            self.shared.draw(noise, self.batch_size)
            found, added = self.losses(batches)
            self.update(found, added)
            losses.append(torch.stack(found).detach())
            penalties.append([None if one is None else one.detach() for one in added])
        # Read once an epoch, as one stage alone does.
        means = torch.stack(losses).mean(0).tolist()
        return list(zip(means, map(_mean, zip(*penalties, strict=True)), strict=True))

    def losses(
        self, batches: Sequence[tuple[Tensor, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor | None]]:
        """Run the models forward on a batch each; return each one's loss, and its weighted penalty."""
        first = self.stages[0]
        with first.precision.forward(first.device):
            logits = self.shared(torch.cat([inputs for inputs, _ in batches]))
            found = [
                stage.problem.loss(_Answer(own), batch)
                for stage, own, batch in zip(self.stages, logits, batches, strict=True)
            ]
        return found, [None if s.penalty is None else s.penalty() for s in self.stages]

    def update(self, losses: Sequence[Tensor], penalties: Sequence[Tensor | None]) -> None:
        """Make each stage's step."""
        for stage in self.stages:
            stage.optimizer.zero_grad(set_to_none=True)
        terms = [*losses, *(one for one in penalties if one is not None)]
        torch.stack(terms).sum().backward()
        for stage in self.stages:
            stage.clip()
            stage.optimizer.step()


class _Answer(nn.Module):
    """Stands for a model whose logits are computed already."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, inputs: Tensor) -> Tensor:
        del inputs
        return self.logits


def run(stages: Sequence[Stage], head: str) -> list[Progress | Diverged]:
    """Train stages to their ends, from where a killed run stopped; one that diverges leaves the others.

    Stages whose last kept epochs differ train apart until they meet.

    Args:
        stages: As ``SideBySide`` takes them.
        head: Dotted name of the models' task head.

    Returns:
        What each stage came to. Its seconds of training are its share of those that it spent with others.

    Raises:
        NotShared: They cannot be trained together.
    """
    try:
        return _to_their_ends(stages, head)
    finally:
        for stage in stages:
            stage.writer.join()


def _to_their_ends(stages: Sequence[Stage], head: str) -> list[Progress | Diverged]:
    joined = SideBySide(stages, head)
    progresses = [stage.resume() for stage in stages]
    ended: dict[int, Diverged] = {}
    while going := [
        index
        for index, stage in enumerate(stages)
        if index not in ended and progresses[index].epoch < stage.plan.epochs
    ]:
        epoch = min(progresses[index].epoch for index in going)
        together = [index for index in going if progresses[index].epoch == epoch]
        if [stages[index] for index in together] != list(joined.stages):
            joined = SideBySide([stages[index] for index in together], head)
        started = perf_counter()
        means = joined.train_epoch(epoch)
        seconds = (perf_counter() - started) / len(together)
        for index, (loss, penalty) in zip(together, means, strict=True):
            progresses[index].train_seconds += seconds
            try:
                stages[index].close_epoch(progresses[index], loss, penalty)
            except Diverged as error:
                ended[index] = error
    return [ended.get(index, progress) for index, progress in enumerate(progresses)]


def _facts(stage: Stage) -> dict[str, object]:
    return {
        "batch size": stage.plan.batch_size,
        "steps an epoch": stage.problem.steps,
        "precision": stage.precision,
        "device": stage.device,
    }


def _mean(values: Sequence[Tensor | None]) -> float | None:
    found = [value for value in values if value is not None]
    return torch.stack(found).mean().item() if found else None
