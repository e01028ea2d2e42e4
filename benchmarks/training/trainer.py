"""One stage of training: AdamW with a schedule, the loss plus a penalty, an epoch at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from benchmarks.training import checkpoint
from benchmarks.training.finite import Diverged, require_finite_values, require_usable
from benchmarks.training.precision import FP32, Precision
from resora.adapted import adapter_state, load_adapter_state
from resora.petl import Method
from resora.samples import Mask

DECAY = 0.1
"""What a step of the schedule leaves of the learning rate."""
FUSED = ("cpu", "cuda", "mps", "xpu")
"""Kinds of device on which torch has AdamW as one kernel; on others torch chooses."""


class Problem(Protocol):
    """What a benchmark gives to the trainer; the methods with a body are what most benchmarks do."""

    chance_loss: float
    """Loss of an answer that knows nothing."""

    mask: Mask = None
    """Which positions of the batch just computed count in a penalty, (B, T) of bool; None: all do. For
    layers that see different things, masks by glob of the layers' names."""

    @property
    def steps(self) -> int:
        """How many batches an epoch has."""

    def batches(self, seed: int) -> Iterator[Any]:
        """Iterate the batches of one epoch, in an order that ``seed`` decides."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the mean loss of a batch."""

    def evaluate(self, model: nn.Module) -> dict[str, float | None]:
        """Return metrics by series name, such as ``test_top1_accuracy``; None for what is not had."""

    def start_epoch(self, epoch: int, plan: Plan) -> None:
        """Prepare for an epoch of a stage, counted from 0; a loss may change with it."""
        del epoch, plan

    def group_of(self, name: str, parameter: nn.Parameter) -> str:
        """Return the name under which a plan's ``rate_factors`` know a trained parameter."""
        del parameter
        return name.partition(".")[0]

    def after_backward(self, trained: Sequence[nn.Parameter]) -> None:
        """Change the gradients of a step, before they are cut and used."""
        del trained

    def after_step(self, model: nn.Module) -> None:
        """Change the model after a step of the optimizer."""
        del model

    def keep_features(
        self, model: nn.Module, method: Method, precision: Precision
    ) -> Cached | None:
        """Compute cached features of the frozen parts of a model; None if nothing can be cached.

        Args:
            model: The adapted model.
            method: What adapted it.
            precision: What its forward pass computes in.
        """
        del model, method, precision
        return None

    def why_diverged(self, losses: Sequence[float], *, is_last: bool) -> str | None:
        """Return the reason why the model is not usable; None: none is known.

        Args:
            losses: The mean training loss of each epoch so far.
            is_last: Whether the stage is at its end.
        """
        # A spike may pass, so being far above chance counts only at the end.
        if not is_last or losses[-1] <= 10 * self.chance_loss:
            return None
        return (
            f"the training loss ended at {losses[-1]:.3g}, over ten times that of knowing nothing "
            f"({self.chance_loss:.3g})"
        )


class Cached(Problem, Protocol):
    """A problem that gives cached features in the place of examples."""

    features: Mapping[str, Any]
    """By split, those that are cached."""

    seconds: float
    """What computing them took."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The numbers of one stage: the section ``stage1`` or ``stage2`` of a configuration.

    Attributes:
        epochs: How many.
        batch_size: Examples of a step.
        learning_rate: At its highest.
        weight_decay: Decoupled (AdamW).
        warmup_epochs: Epochs in which the learning rate rises linearly; half an epoch is one too.
        evaluate_every: Epochs from one evaluation to the next; the last epoch always has one.
        decay_epoch: The epoch, from 0, from which on the learning rate is a tenth. None: it falls along a
            cosine, to zero at the end.
        clip_norm: The norm that the gradient of all parameters together is cut to; None: it is not.
        decays_vectors: Whether vectors (biases, norms, scales) decay as matrices do.
        rate_factors: Factors of the learning rate, by the group that the problem puts a parameter in: the
            first part of its name, unless it says otherwise.
        warm_epochs: For a problem whose loss is a gentler one in the first epochs: how many.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    warmup_epochs: float
    evaluate_every: int
    decay_epoch: int | None = None
    clip_norm: float | None = None
    decays_vectors: bool = False
    rate_factors: Mapping[str, float] = field(default_factory=dict)
    warm_epochs: int = 0

    @classmethod
    def of(cls, section: Mapping[str, Any]) -> Plan:
        """Read a plan from a configuration's section, which may hold more."""
        needed = [one.name for one in fields(cls) if one.default is one.default_factory is MISSING]
        given = [one.name for one in fields(cls) if one.name in section]
        return cls(**{name: section[name] for name in dict.fromkeys([*needed, *given])})


@dataclass(kw_only=True)
class Progress:
    """The results and the cost of a stage so far; saved after each epoch."""

    epoch: int = 0
    curves: dict[str, list[float | None]] = field(default_factory=dict)
    train_seconds: float = 0.0
    evaluate_seconds: float = 0.0

    def add(self, **values: float | None) -> None:
        """Append one value to each series."""
        for name, value in values.items():
            self.curves.setdefault(name, []).append(value)


class Stage:
    """Trains what requires a gradient in a model, resumes after a kill, and keeps the curves."""

    def __init__(
        self,
        model: nn.Module,
        problem: Problem,
        plan: Plan,
        *,
        order_seed: int,
        noise_seed: int,
        folder: Path,
        identity: str,
        method: Method | None = None,
        is_first: bool = True,
        penalty: Callable[[], Tensor] | None = None,
        precision: Precision = FP32,
        waits: bool = False,
        fuses: bool = True,
        on_epoch: Callable[[int, int], None] = lambda epoch, epochs: None,
    ) -> None:
        """Prepare a stage.

        Args:
            model: The adapted model.
            problem: Batches, loss and metrics.
            plan: The numbers of this stage.
            order_seed: Decides the order of the data; each epoch derives its own from it.
            noise_seed: Decides dropout and the like, likewise.
            folder: Where the last epoch is kept.
            identity: Names the configuration and stage; an epoch of another one is not resumed.
            method: The method that adapted the model, which may act in each step.
            is_first: Whether the method's own schedule runs in this stage; in a later one it has run out.
            penalty: Returns the weighted penalty of the forward pass just made.
            precision: What forward passes compute in, evaluation included.
            waits: Begin no epoch before the one before it is on disk.
            fuses: Step by AdamW as one kernel where the device has it, else a tensor at a time.
            on_epoch: Called after each epoch with its number and the number of epochs.
        """
        self.model, self.problem, self.plan = model, problem, plan
        self.order_seed, self.noise_seed = order_seed, noise_seed
        self.folder, self.identity = folder, identity
        self.writer = checkpoint.EpochWriter(folder, waits=waits)
        self.method, self.is_first = method, is_first
        self.penalty, self.precision, self.on_epoch = penalty, precision, on_epoch
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.device = next(model.parameters()).device.type
        self.optimizer = torch.optim.AdamW(
            _parameter_groups(model, plan, problem),
            lr=plan.learning_rate,
            fused=fuses and (True if self.device in FUSED else None),
            foreach=None if fuses else False,
        )

    def run(self) -> Progress:
        """Train to the end of the stage, from where a killed run stopped.

        Raises:
            Diverged: The loss is not finite after an epoch, or the problem sees no usable model.
        """
        progress = self.resume()
        try:
            while progress.epoch < self.plan.epochs:
                torch.manual_seed(self.noise_seed + progress.epoch)
                started = perf_counter()
                loss, penalty = self.train_epoch(progress.epoch)
                progress.train_seconds += perf_counter() - started
                self.close_epoch(progress, loss, penalty)
        finally:
            self.writer.join()
        return progress

    def close_epoch(self, progress: Progress, loss: float, penalty: float | None) -> None:
        """Finish an epoch: count it, evaluate if it is due, and store the results.

        Raises:
            Diverged: The loss, the penalty, a parameter after the last step or what is evaluated is not
                finite, or the problem sees no usable model.
        """
        progress.epoch += 1
        if not math.isfinite(loss + (penalty or 0.0)):
            raise Diverged(
                f"the loss was not finite in epoch {progress.epoch} of {self.plan.epochs}"
            )
        progress.add(epoch=progress.epoch, train_loss=loss, penalty=penalty)
        is_last = progress.epoch == self.plan.epochs
        losses = [value for value in progress.curves["train_loss"] if value is not None]
        if (reason := self.problem.why_diverged(losses, is_last=is_last)) is not None:
            raise Diverged(reason)
        try:
            # The losses are from before the last step of the epoch.
            require_usable(self._trained_by_name())
            self._evaluate(progress)
        except Diverged as problem:
            raise Diverged(f"epoch {progress.epoch} of {self.plan.epochs}: {problem}") from None
        self._save(progress)
        self.on_epoch(progress.epoch, self.plan.epochs)

    def train_epoch(self, epoch: int) -> tuple[float, float | None]:
        """Train one epoch; return the mean loss, and the mean penalty if there is one."""
        self.model.train()
        self.problem.start_epoch(epoch, self.plan)
        losses, penalties = [], []
        steps = self.problem.steps
        for step, batch in enumerate(self.problem.batches(self.order_seed + epoch)):
            self.set_learning_rate(epoch + step / steps, step_share=1 / steps)
            at = self._schedule(epoch * steps + step, steps)
            if self.method is not None:
                self.method.before_forward(self.model, *at)
            with self.precision.forward(self.device):
                loss = self.problem.loss(self.model, batch)
            losses.append(loss.detach())
            if self.penalty is not None:
                penalty = self.penalty()
                penalties.append(penalty.detach())
                loss = loss + penalty
            self._update(loss, at)
        # Read once an epoch: reading each loss would make a GPU wait in every step.
        mean_penalty = torch.stack(penalties).mean().item() if penalties else None
        return torch.stack(losses).mean().item(), mean_penalty

    def _update(self, loss: Tensor, at: tuple[int, int]) -> None:
        method = self.method
        if method is not None and (extra := method.extra_loss(self.model)) is not None:
            loss = loss + extra
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.problem.after_backward(self.trained)
        self.clip()
        if method is not None:
            method.before_step(self.model, *at)
        self.optimizer.step()
        if method is not None:
            method.after_step(self.model, *at, self.optimizer)
        self.problem.after_step(self.model)

    def clip(self) -> None:
        """Cut the gradient of all trained parameters together to the norm that the plan names, if any."""
        if self.plan.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.trained, self.plan.clip_norm)

    def _schedule(self, step: int, per_epoch: int) -> tuple[int, int]:
        """Return how many steps of the method's own training are made, and how many it has."""
        steps = self.plan.epochs * per_epoch
        return (step if self.is_first else steps), steps

    def set_learning_rate(self, epoch: float, *, step_share: float) -> None:
        """Follow the schedule, after a linear warm-up.

        Args:
            epoch: How many epochs are trained, with the share of the one that is under way.
            step_share: What share of an epoch a step is.
        """
        rate = self.plan.learning_rate * self._share_of_rate(epoch)
        if epoch < self.plan.warmup_epochs:
            rate *= (epoch + step_share) / self.plan.warmup_epochs
        for group in self.optimizer.param_groups:
            own = rate * group.get("factor", 1.0)
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(own)  # a captured step reads it from where it is
            else:
                group["lr"] = own

    def _share_of_rate(self, epoch: float) -> float:
        if self.plan.decay_epoch is not None:
            return 1.0 if epoch < self.plan.decay_epoch else DECAY
        return 0.5 * (1 + math.cos(math.pi * epoch / self.plan.epochs))

    def _evaluate(self, progress: Progress) -> None:
        is_last = progress.epoch == self.plan.epochs
        if progress.epoch % self.plan.evaluate_every and not is_last:
            names = [name for name in progress.curves if name.startswith(("val_", "test_"))]
            progress.add(**dict.fromkeys(names))
            return
        started = perf_counter()
        self.model.eval()
        with torch.inference_mode(), self.precision.forward(self.device):
            values = self.problem.evaluate(self.model)
        require_finite_values(values)
        for name, value in values.items():
            series = progress.curves.setdefault(name, [])
            series.extend([None] * (progress.epoch - 1 - len(series)))
            series.append(value)
        progress.evaluate_seconds += perf_counter() - started

    def _trained_by_name(self) -> dict[str, Tensor]:
        return {name: one for name, one in self.model.named_parameters() if one.requires_grad}

    def _save(self, progress: Progress) -> None:
        if progress.epoch == self.plan.epochs:
            self.writer.wait()
            return
        self.writer.write(
            {
                "identity": self.identity,
                "model": adapter_state(self.model),
                "optimizer": self.optimizer.state_dict(),
                "progress": vars(progress),
            }
        )

    def resume(self) -> Progress:
        """Return what a killed run of this stage left, its model and optimizer loaded, or a start."""
        state = checkpoint.load_epoch(self.folder, self.identity, self.device)
        if state is None:
            return Progress()
        load_adapter_state(self.model, state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        return Progress(**state["progress"])


def _parameter_groups(model: nn.Module, plan: Plan, problem: Problem) -> list[dict[str, Any]]:
    """Group the trained parameters by learning-rate factor, and vectors without weight decay."""
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            factor = plan.rate_factors.get(problem.group_of(name, parameter), 1.0)
            groups.setdefault(factor, []).append(parameter)
    found: list[dict[str, Any]] = []
    for factor, trained in groups.items():
        # Optimizer states on disk have no factor where there is none.
        more = {} if factor == 1.0 else {"factor": factor}
        decayed = [p for p in trained if plan.decays_vectors or p.ndim > 1]
        others = [p for p in trained if not plan.decays_vectors and p.ndim <= 1]
        found.append({"params": decayed, "weight_decay": plan.weight_decay, **more})
        found.append({"params": others, "weight_decay": 0.0, **more})
    return found
