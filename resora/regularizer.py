"""``ReSoRA``: collects the activations of low-rank layers in the forward pass, returns the penalty."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any, Literal, TypeGuard, get_args

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo  # as torch.compiler.disable, which imports the compiler
from torch.autograd import Variable
from torch.distributed import ProcessGroup
from torch.nn.parallel import DistributedDataParallel
from torch.utils.hooks import RemovableHandle

from resora import checks
from resora.custom import Penalty, penalty_function
from resora.discovery import low_rank_layers
from resora.matrices import Matrices, by_shape, joined, names_of, of_weights
from resora.penalties import squared_cosines
from resora.petl.base import Factors, LowRankLayer
from resora.recorder import Recorder, Switch
from resora.samples import Images, Mask, Sample, check_batch_size, mask_of, samples

DEFAULT_SAMPLE: dict[str, Sample] = {
    "linear": "token",
    "cosine": "token",
    "euclidean": "token",
    "nonlinear": "image",
}
"""What counts as one of the N samples: every token, or the mean over an image's tokens. The paper does
not say. Only images are compatible with the cost of R_n that its Table 6 prints."""


EVALUATION = (
    "the model is in evaluation mode; call model.train(), or measure inside "
    "`with regularizer.recording():`"
)
NO_GRADIENT = (
    "it only ran without gradients: under torch.no_grad, or in reentrant gradient checkpointing, which "
    "hides the activations; use checkpoint(..., use_reentrant=False)"
)
NOT_CALLED = (
    "it was not called since the last step. Run the model forward in training mode first; make ReSoRA "
    "before the first call of a compiled model; and leave layers out that the model does not use, with "
    "exclude=[...]"
)


class ReSoRA:
    """The penalty on the redundancy between subspaces, as a term of a training loss.

    Each low-rank layer computes ``z = A x`` in its forward pass; this z is recorded, so nothing is computed
    twice. All matrices of one shape are penalised together.

        regularizer = ReSoRA(model, penalty="linear", weight=0.1)
        loss = task_loss(model(x), y) + regularizer()

    It records while the model is in training mode and gradients are on. Evaluation, merged or switched-off
    adapters and the second forward pass of gradient checkpointing are not recorded. Several forward passes
    before one call are joined: their samples count as one batch. An adapter without trained parameters is
    left out.

    With gradient checkpointing inside a compiled model, set
    ``torch._dynamo.config.skip_fwd_side_effects_in_bwd_under_checkpoint = True``; otherwise the compiler does
    not compile the model. Reentrant checkpointing hides the activations and raises an error.

    Args:
        model: A model with LoRA layers of ``resora.petl`` or ``peft``, or modules of your own that
            implement ``LowRankLayer``. Compile it after this, not before.
        penalty: ``linear``, ``nonlinear``, ``euclidean`` or ``cosine``; or a function of (z, b) with the
            shapes (L, N, r) and (L, r, d), in float32 at least, that returns (L,). It may take ``mask``
            (L, N) and ``group``; if it does not, it gets the unmasked samples of its own process only.
        weight: The factor of the penalty in the loss, which the paper does not give. It can be changed.
        warmup_steps: Number of calls of ``step()`` over which the factor rises linearly.
        space: ``feature``: what the layers compute (the paper's Tables 1-3). ``weight``: the
            matrices W_i = b_i a_i^T themselves (Table 4), without data: the rows of A take the
            place of the activations and input dimensions that of the samples.
        sample: What counts as one of the N samples: ``token``, ``image`` (the mean over an image's
            tokens) or ``class`` (its first token). None takes the penalty's default.
        pairs: ``sum`` over pairs i < j, as in the equations, or their ``mean``.
        matrices: ``mean`` over adapted matrices, or their ``sum``, which grows with the depth.
        exclude: Globs of names of layers to skip.
        group: Processes that share a batch: activations are reduced over them, so that the value
            and, with the gradients averaged as DDP does, the gradients are those of the whole
            batch. ``auto``: all processes, if there are several; None: this process alone.
        **options: Options of the penalty function, such as ``beta`` or ``orientation``.

    Raises:
        ValueError: The model has no low-rank layer, or one that cannot be recorded, or there is no such
            penalty or choice.
        TypeError: The penalty has no such option.
    """

    def __init__(
        self,
        model: nn.Module,
        penalty: str | Penalty = "linear",
        *,
        weight: float,
        warmup_steps: int = 0,
        space: Literal["feature", "weight"] = "feature",
        sample: Sample | None = None,
        pairs: Literal["sum", "mean"] = "sum",
        matrices: Literal["mean", "sum"] = "mean",
        exclude: Iterable[str] = (),
        group: ProcessGroup | Literal["auto"] | None = "auto",
        **options: Any,
    ) -> None:
        checks.check_choice("space", space, ("feature", "weight"))
        checks.check_choice("pairs", pairs, ("sum", "mean"))
        checks.check_choice("matrices", matrices, ("mean", "sum"))
        checks.check_choice("sample", sample, (None, *get_args(Sample)))
        checks.check_weight(weight, warmup_steps)
        self.penalty = penalty
        self._function = penalty_function(penalty, options, signature(ReSoRA).parameters)
        self.model = _unwrapped(model)
        self.layers = low_rank_layers(self.model, exclude)
        self.warmup_steps = warmup_steps
        self.steps = 0
        self.space = space
        self.sample: Sample = sample or DEFAULT_SAMPLE.get(str(penalty), "token")
        self.pairs = pairs
        self.matrices = matrices
        self.group = group
        self.options = options
        self._weight = weight
        self._last: list[tuple[list[str], Tensor, Tensor | None]] = []
        self._warn_if_untrained()
        self._switch = Switch(self.model)
        self._recorders = {name: Recorder(name, self._switch) for name in self.layers}
        handles = [layer.tap(self._recorders[name]) for name, layer in self.layers.items()]
        # Stop recording when the last reference is gone, since nothing could use the activations any more.
        self._end: weakref.finalize[Any, ReSoRA] | None = weakref.finalize(self, _remove, handles)
        self._end.atexit = False
        self._listen()

    @property
    def weight(self) -> float:
        """The factor of the penalty in the loss, after the warm-up."""
        return self._weight

    @weight.setter
    def weight(self, weight: float) -> None:
        checks.check_weight(weight, self.warmup_steps)
        self._weight = weight
        self._listen()

    @property
    def current_weight(self) -> float:
        """The factor of the penalty at this step: step t of a warm-up over T has weight (t + 1) / T."""
        if not self.warmup_steps:
            return self.weight
        return self.weight * min(1.0, (self.steps + 1) / self.warmup_steps)

    @_disable_dynamo
    def __call__(self, *, mask: Mask = None, batch_size: Images = None) -> Tensor:
        """Return the weighted penalty of the forward passes since the last call.

        Args:
            mask: True where a position counts, in the shape of the layers' inputs without channels, such
                as a tokenizer's ``attention_mask`` (B, T); a list with one for each forward pass, or
                a single one for all. Where layers have different inputs, such as the two towers of CLIP:
                masks by glob of the layers' names; layers that match no glob have no mask.
            batch_size: The number of images, for models whose layers see windows of images; a list with one
                for each forward pass, or a single one for all.

        Returns:
            A scalar in float32 at least, with a gradient. Zero where no adapter takes part.

        Raises:
            RuntimeError: A layer that should take part has recorded nothing; the message says why.
            ValueError: A mask, or the number of images, does not fit.
        """
        weight = self.current_weight
        try:
            found = self._found(mask, batch_size) if weight else []
        finally:
            if not self._switch.is_measuring:
                self._forget()
        if not found:
            return torch.zeros((), device=next(self.model.parameters()).device)
        self._remember(found)
        group = self._processes()
        values = torch.cat(
            [self._penalty_of(one, group) for one in by_shape(found, is_shared=group is not None)]
        )
        value = weight * (values.mean() if self.matrices == "mean" else values.sum())
        if value.requires_grad and not self._switch.is_measuring:
            value.register_hook(self._before_backward)
        return value

    def step(self) -> None:
        """Count a step of the optimizer, for the warm-up of the weight."""
        self.steps += 1

    def redundancy(self, *, mask: Mask = None) -> dict[str, Tensor]:
        """Return the matrix of cos^2 between subspace activations, for each adapted matrix.

        It is computed on the forward passes of the last call, with its samples, or on those inside
        ``recording``, with every position as a sample; on this process alone. For independent subspaces, the
        expected cos^2 is one divided by the number of samples.

        Args:
            mask: Inside ``recording``: which positions count, as for a call.

        Returns:
            By name, such as ``blocks.0.attn.qkv.q``: (r, r) on the CPU, without gradient.
        """
        if self._switch.is_measuring:
            self._remember(self._measured(mask))
        if not self._last:
            raise RuntimeError(
                "nothing is recorded yet: call the regulariser after a forward pass that trains, or "
                "run the model inside `with regularizer.recording():`"
            )
        result: dict[str, Tensor] = {}
        for names, z, mask in self._last:
            values = squared_cosines(z if mask is None else z[:, mask]).cpu()
            result |= dict(zip(names, values, strict=True))
        return result

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record the forward passes inside the block in any mode, also without gradients, to measure.

        Both a call and ``redundancy`` can be used in the block; ``redundancy`` also after it.
        Frozen adapters are measured too.
        """
        if self._switch.is_measuring:
            raise RuntimeError("this regulariser is recording already")
        before = {name: recorder.last for name, recorder in self._recorders.items()}
        self._forget()
        self._last = []
        self._switch.is_measuring = True
        try:
            yield
            self._remember(self._measured())
        finally:
            self._switch.is_measuring = False
            self._return_to(before)

    def close(self) -> None:
        """Stop recording, and drop the activations."""
        if self._end is not None:
            self._end()
        self._last = []
        self._forget()

    def state_dict(self) -> dict[str, int]:
        """Return what a checkpoint needs: the number of steps."""
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from a checkpoint."""
        self.steps = state["steps"]

    def __getstate__(self) -> dict[str, Any]:
        # A copy, such as one inside a copied trainer, is closed: its model may not be complete yet.
        left_out = ("_end", "_switch", "_recorders", "_last")
        return {name: value for name, value in vars(self).items() if name not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._end = None
        self._last = []
        self._switch = Switch()
        self._recorders = {name: Recorder(name, self._switch) for name in self.layers}

    def _found(self, mask: Mask, batch_size: Images) -> list[Matrices]:
        """Return the matrices that enter the penalty."""
        factors = {name: _factors(name, layer) for name, layer in self.layers.items()}
        if self._switch.is_measuring:
            taking_part = {name: one for name, one in factors.items() if one is not None}
        else:
            taking_part = {name: one for name, one in factors.items() if _is_trained(one)}
        if self.space == "weight":
            return [of_weights(name, one) for name, one in taking_part.items()]
        z = {name: self._recorders[name].z for name in taking_part}
        if silent := [name for name, calls in z.items() if not calls]:
            raise RuntimeError(self._explain(silent))
        if self.sample != "token" and batch_size is None:
            check_batch_size(z)
        return [
            self._samples(name, one, self.sample, mask, batch_size)
            for name, one in taking_part.items()
        ]

    def _measured(self, mask: Mask = None) -> list[Matrices]:
        factors = {name: _factors(name, layer) for name, layer in self.layers.items()}
        return [
            self._samples(name, one, "token", mask, None)
            for name, one in factors.items()
            if one is not None and self._recorders[name].z
        ]

    def _samples(
        self, name: str, factors: Factors, sample: Sample, mask: Mask, batch_size: Images
    ) -> Matrices:
        calls = self._recorders[name].z
        for z in calls:
            checks.check_recorded(name, z, factors.b)
        own = mask_of(name, mask, self.layers)
        taken, kept = samples(name, calls, sample, own, batch_size)
        return Matrices(names_of(name, factors), taken, kept, factors.b, factors.scale)

    def _penalty_of(self, matrices: list[Matrices], group: ProcessGroup | None) -> Tensor:
        z, b, mask = joined(matrices)
        value = self._function(z, b, mask=mask, group=group, **self.options)
        rank = z.shape[-1]
        return value / max(1, rank * (rank - 1) // 2) if self.pairs == "mean" else value

    def _remember(self, found: list[Matrices]) -> None:
        """Keep what ``redundancy`` needs, detached from the graph."""
        self._last = [(one.names, one.z.detach(), one.mask) for one in found]

    def _before_backward(self, gradient: Tensor) -> None:
        # Checkpointing around compiled code calls it again inside the backward pass, which Python code cannot
        # detect. What was recorded there is dropped when the pass is over.
        before = {name: recorder.last for name, recorder in self._recorders.items()}
        Variable._execution_engine.queue_callback(lambda: self._return_to(before))

    def _processes(self) -> ProcessGroup | None:
        if self.space == "weight":
            return None  # the same on all processes
        if self.group != "auto":
            return self.group
        distributed = torch.distributed
        if distributed.is_available() and distributed.is_initialized():
            return distributed.group.WORLD if distributed.get_world_size() > 1 else None
        return None

    def _listen(self) -> None:
        """Let layers record only if the activations will be used."""
        self._switch.is_on = self.space == "feature" and self.current_weight != 0

    def _forget(self) -> None:
        for recorder in self._recorders.values():
            recorder.forget()

    def _return_to(self, before: dict[str, Any]) -> None:
        for name, last in before.items():
            self._recorders[name].last = last

    def _explain(self, silent: list[str]) -> str:
        had_no_gradient = self._recorders[silent[0]].had_no_gradient
        if self._end is None or not self._end.alive:
            reason = "the regulariser is closed, as copies of one are; make it anew"
        elif self._switch.is_measuring:
            reason = "inside `recording()`, nothing called it; run the model forward there first"
        elif not self.model.training:
            reason = EVALUATION
        else:
            reason = NO_GRADIENT if had_no_gradient else NOT_CALLED
        others = f" and {len(silent) - 1} more" if silent[1:] else ""
        return f"low-rank layer {silent[0]!r}{others} recorded nothing: {reason}"

    def _warn_if_untrained(self) -> None:
        factors = [_factors(name, layer) for name, layer in self.layers.items()]
        if not any(_is_trained(found) for found in factors):
            warnings.warn(
                f"none of the {len(self.layers)} low-rank layers is trained (frozen, merged or switched "
                "off), so the penalty is zero for now",
                stacklevel=3,
            )


def _unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside torch.compile and DDP: the compiler cannot follow a hook to the wrapper."""
    while True:
        if isinstance(model, DistributedDataParallel):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


def _factors(name: str, layer: LowRankLayer) -> Factors | None:
    # A view that was made without gradients does not show whether its parameter is trained.
    with torch.enable_grad():
        factors = layer.factors()
    checks.check_factors(name, factors)
    return factors


def _is_trained(factors: Factors | None) -> TypeGuard[Factors]:
    if factors is None:
        return False
    return factors.b.requires_grad or (factors.a is not None and factors.a.requires_grad)


def _remove(handles: list[RemovableHandle]) -> None:
    for handle in handles:
        handle.remove()
