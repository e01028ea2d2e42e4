"""The penalty in ``transformers.Trainer`` and in trainers built on it, such as TRL's ``SFTTrainer``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from resora.regularizer import ReSoRA

_Trainer: Any = object  # the trainer that the mixin is put in front of


class ReSoRAMixin(_Trainer):  # type: ignore[misc]
    """Adds the penalty to the training loss of a ``transformers.Trainer``.

        class PenalisedTrainer(ReSoRAMixin, SFTTrainer):
            pass

        trainer = PenalisedTrainer(model=model, args=arguments, resora={"weight": 0.1}, ...)

    Put it first among the base classes. The penalty is that of each micro-batch, averaged over gradient
    accumulation. Padded tokens do not count: the mask is the batch's ``attention_mask``. Evaluation has no
    penalty. The warm-up of the weight follows ``trainer.state.global_step``, which checkpoints of the
    trainer hold, so that a resumed run goes on with it. The training logs gain two values: ``penalty``, as it
    enters the loss (mean over the micro-batches since the last log), and ``redundancy``, the mean cos^2
    between the subspaces of an adapted matrix in the last micro-batch.

    Args:
        resora: Arguments of ``ReSoRA`` by name, such as ``{"penalty": "linear", "weight": 0.1}``.
        *args: Arguments of the trainer.
        **kwargs: Arguments of the trainer.

    Attributes:
        regularizer: The ``ReSoRA`` object.

    Raises:
        ValueError: As of ``ReSoRA``; or several GPUs in one process, which ``Trainer`` serves by
            ``DataParallel``: start one process a GPU, with ``torchrun`` or ``accelerate launch``.
    """

    def __init__(self, *args: Any, resora: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.args.n_gpu > 1:
            raise ValueError(
                f"one process for {self.args.n_gpu} GPUs (nn.DataParallel) mixes up what the replicas "
                "compute: start one process a GPU, with torchrun or accelerate launch, or show one GPU "
                "alone (CUDA_VISIBLE_DEVICES=0)"
            )
        # After the trainer's own set-up: it may have wrapped the model in peft.
        self.regularizer = ReSoRA(self.model, **resora)
        self._penalties: list[Tensor] = []

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Return the trainer's loss, in training with the penalty added; signature as in ``Trainer``."""
        mask = inputs.get(
            "attention_mask"
        )  # looked at first, since the trainer may change the batch
        result = super().compute_loss(
            model,
            inputs,
            return_outputs=return_outputs,
            num_items_in_batch=num_items_in_batch,
            **kwargs,
        )
        if not model.training:
            return result
        loss, *outputs = result if return_outputs else (result,)
        self.regularizer.steps = self.state.global_step
        penalty = self.regularizer(mask=mask if _is_of_tokens(mask) else None)
        self._penalties.append(penalty.detach())
        if self._is_scaled_for_accumulation(num_items_in_batch):
            # The trainer divides other losses by the number of micro-batches, and this one not.
            penalty = penalty / self._micro_batches()
        loss = loss + penalty.to(loss.device)
        return (loss, *outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log, with the penalty and the redundancy beside the training loss."""
        if "loss" in logs and self._penalties:
            logs["penalty"] = torch.stack(self._penalties).mean().item()
            self._penalties.clear()
            if self.regularizer.current_weight:
                logs["redundancy"] = mean_redundancy(self.regularizer)
        super().log(logs, *args, **kwargs)

    def _is_scaled_for_accumulation(self, num_items_in_batch: Tensor | int | None) -> bool:
        """Whether the trainer expects a loss that is already divided, by the rule of ``training_step``."""
        declared: bool | None = getattr(self, "loss_is_scaled_for_ga", None)
        if declared is not None:
            return declared
        has_own_loss: bool = getattr(self, "compute_loss_func", None) is not None
        return has_own_loss or (self.model_accepts_loss_kwargs and num_items_in_batch is not None)

    def _micro_batches(self) -> int:
        # The last step of an epoch may have fewer than the arguments say.
        asked: int = self.args.gradient_accumulation_steps
        return getattr(self, "current_gradient_accumulation_steps", None) or asked


def mean_redundancy(regularizer: ReSoRA) -> float:
    """Return the mean cos^2 between two subspaces of one matrix, over pairs and adapted matrices.

    Args:
        regularizer: After a call on a forward pass that trained; of this process alone.

    Returns:
        From 0 (independent) to 1 (the same); 0 where all ranks are 1.
    """
    matrices = regularizer.redundancy().values()
    pairs = [m[~torch.eye(len(m), dtype=torch.bool)] for m in matrices]
    values = torch.cat(pairs)
    return values.mean().item() if len(values) else 0.0


def _is_of_tokens(mask: object) -> bool:
    """Whether a mask has one entry a token, (B, T), and is no additive or four-dimensional one."""
    return isinstance(mask, Tensor) and mask.ndim == 2 and not mask.is_floating_point()
