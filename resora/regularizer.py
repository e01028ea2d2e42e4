"""``ReSoRA``: collects the activations of low-rank layers in the forward pass, returns the penalty."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from resora.discovery import low_rank_layers
from resora.penalties import PENALTIES, squared_cosines
from resora.petl.base import Factors
from resora.recorder import Mask, Recorder, Sample, Switch, samples

Penalty = Callable[..., Tensor]

DEFAULT_SAMPLE: dict[str, Sample] = {
    "linear": "token",
    "cosine": "token",
    "euclidean": "token",
    "nonlinear": "image",
}
"""What counts as one of the N samples: every token, or the mean over an image's tokens. The paper does
not say. Only images are compatible with the cost of R_n that its Table 6 prints."""


class _Matrices(NamedTuple):
    """The adapted matrices of one layer in one step: samples z (M, N, r), mask (N,), b (M, r, d)."""

    names: list[str]
    z: Tensor
    mask: Tensor | None
    b: Tensor
    scale: float


class ReSoRA:
    """The penalty on the redundancy between subspaces, as a term of a training loss.

    Each low-rank layer computes ``z = A x`` in its forward pass; it is kept and used, nothing is
    computed twice. All matrices of one shape are penalised together.

        regularizer = ReSoRA(model, penalty="linear", weight=0.1)
        loss = task_loss(model(x), y) + regularizer()

    It records while the model is in training mode and gradients are on; evaluation, merged or
    switched-off adapters and the second forward pass of gradient checkpointing leave nothing. Several
    forward passes before one call are joined: their samples count as one batch. An adapter of which
    nothing is trained is left out.
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
        """Find the low-rank layers of ``model`` and listen to their forward passes.

        Args:
            model: A model with LoRA layers of ``resora.petl`` or ``peft``, or modules of your own that
                implement ``LowRankLayer``. Compile it after this, not before.
            penalty: ``linear``, ``nonlinear``, ``euclidean`` or ``cosine``; or a function of (z, b)
                with the shapes (L, N, r) and (L, r, d) that returns (L,).
            weight: The factor of the penalty in the loss. The paper does not give one.
            warmup_steps: Let the factor rise linearly over that many calls of ``step()``.
            space: ``feature``: what the layers compute (the paper's Tables 1-3). ``weight``: the
                matrices W_i = b_i a_i^T themselves (Table 4), without data: the rows of A take the
                place of the activations and input dimensions that of the samples.
            sample: What counts as one of the N samples: ``token``, ``image`` (the mean over an image's
                tokens) or ``class`` (its first token). None takes the penalty's default.
            pairs: ``sum`` over pairs i < j, as in the equations, or their ``mean``.
            matrices: ``mean`` over adapted matrices, or their ``sum``, which grows with the depth.
            exclude: Globs of names of layers to leave alone.
            group: Processes that share a batch: activations are reduced over them, so that the value
                and, with the gradients averaged as DDP does, the gradients are those of the whole
                batch. ``auto`` takes all processes, where there are several; None none.
            **options: Options of the penalty function, such as ``beta`` or ``orientation``.

        Raises:
            ValueError: The model has no low-rank layer, or one that cannot be listened to, or there
                is no such penalty or choice.
        """
        _check_choice("space", space, ("feature", "weight"))
        _check_choice("pairs", pairs, ("sum", "mean"))
        _check_choice("matrices", matrices, ("mean", "sum"))
        _check_choice("sample", sample, (None, *get_args(Sample)))
        if isinstance(penalty, str):
            _check_choice("penalty", penalty, tuple(PENALTIES))
        self.model = model
        self.layers = low_rank_layers(model, exclude)
        self.penalty = penalty
        self.weight = weight
        self.warmup_steps = warmup_steps
        self.steps = 0
        self.space = space
        self.sample: Sample = sample or DEFAULT_SAMPLE.get(str(penalty), "token")
        self.pairs = pairs
        self.matrices = matrices
        self.group = group
        self.options = options
        self._last: list[tuple[list[str], Tensor, Tensor | None]] = []
        self._switch = Switch(model)
        self._recorders = {name: Recorder(name, self._switch) for name in self.layers}
        self._handles = [layer.tap(self._recorders[name]) for name, layer in self.layers.items()]
        self._warn_if_untrained()
        self._listen()

    @property
    def current_weight(self) -> float:
        """The factor of the penalty at this step: step t of a warm-up over T has weight (t + 1) / T."""
        if not self.warmup_steps:
            return self.weight
        return self.weight * min(1.0, (self.steps + 1) / self.warmup_steps)

    def __call__(self, *, mask: Mask = None, batch_size: int | None = None) -> Tensor:
        """Return the weighted penalty of the forward passes since the last call.

        Args:
            mask: True where a position counts, in the shape of the layers' inputs without channels, such
                as a tokenizer's ``attention_mask`` (B, T); one for each forward pass, or a single
                one for all.
            batch_size: The number of images, for models whose layers see windows of them.

        Returns:
            A scalar in float32 at least, with a gradient. Zero where no adapter takes part.

        Raises:
            RuntimeError: A layer that should take part has recorded nothing; the message says why.
        """
        value = self._value(mask, batch_size)
        self._listen()
        return value

    def step(self) -> None:
        """Count a step of the optimizer, for the warm-up of the weight."""
        self.steps += 1

    def redundancy(self) -> dict[str, Tensor]:
        """Return the matrix of cos^2 between subspace activations, for each adapted matrix.

        Of the forward passes that entered the last call, with its samples, or that were recorded by
        ``recording``, with every position as a sample. Independent subspaces have an expected cos^2 of one over
        the number of samples.

        Returns:
            By name, such as ``blocks.0.attn.qkv.q``: (r, r) on the CPU, without gradient.
        """
        if self._switch.is_measuring:
            self._remember(self._collect("token", None, None, trained_only=False))
        if not self._last:
            raise RuntimeError("nothing is recorded yet: run the model forward first")
        result: dict[str, Tensor] = {}
        for names, z, mask in self._last:
            values = squared_cosines(z if mask is None else z[:, mask]).cpu()
            result |= dict(zip(names, values, strict=True))
        return result

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record forward passes inside the block in any mode, without gradients too, to measure.

        Both a call and ``redundancy`` can be used in the block; ``redundancy`` also after it.
        """
        self._forget()
        self._last = []
        self._switch.is_measuring = True
        try:
            yield
            self._remember(self._collect("token", None, None, trained_only=False))
        finally:
            self._switch.is_measuring = False
            self._forget()

    def close(self) -> None:
        """Stop listening, and let the activations go."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._last = []
        self._forget()

    def state_dict(self) -> dict[str, int]:
        """Return what a checkpoint needs: the number of steps."""
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from a checkpoint."""
        self.steps = state["steps"]

    @torch.compiler.disable
    def _value(self, mask: Mask, batch_size: int | None) -> Tensor:
        weight = self.current_weight
        if weight == 0:
            self._forget()
            return torch.zeros((), device=next(self.model.parameters()).device)
        found = (
            list(self._weights()) if self.space == "weight" else self._features(mask, batch_size)
        )
        self._remember(found)
        values = [self._penalty_of(group) for group in _by_shape(found)]
        if not values:
            return torch.zeros((), device=next(self.model.parameters()).device)
        joined = torch.cat(values)
        return weight * (joined.mean() if self.matrices == "mean" else joined.sum())

    def _penalty_of(self, group: list[_Matrices]) -> Tensor:
        z = _join([matrices.z for matrices in group])
        b = _join([matrices.b for matrices in group])
        if group[0].scale != 1:
            b = group[0].scale * b
        options = dict(self.options)
        # A function of the user's own need not know of masks and processes.
        if group[0].mask is not None:
            options["mask"] = torch.cat(
                [matrices.mask.expand(len(matrices.z), -1) for matrices in group]  # type: ignore[union-attr]
            )
        if (processes := self._processes()) is not None:
            options["group"] = processes
        function = PENALTIES[self.penalty] if isinstance(self.penalty, str) else self.penalty
        value = function(z, b, **options)
        rank = z.shape[-1]
        return value / max(1, rank * (rank - 1) // 2) if self.pairs == "mean" else value

    def _features(self, mask: Mask, batch_size: int | None) -> list[_Matrices]:
        if self.sample == "image" and batch_size is None:
            self._require_one_batch_size()
        trained_only = not self._switch.is_measuring
        found = self._collect(self.sample, mask, batch_size, trained_only=trained_only)
        if not self._switch.is_measuring:
            self._forget()
        return found

    def _remember(self, found: list[_Matrices]) -> None:
        """Keep what ``redundancy`` needs, and no graph."""
        self._last = [(one.names, one.z.detach(), one.mask) for one in found]

    def _collect(
        self, sample: Sample, mask: Mask, batch_size: int | None, *, trained_only: bool
    ) -> list[_Matrices]:
        found = []
        for name, layer in self.layers.items():
            factors = layer.factors()
            if factors is None or (trained_only and not _is_trained(factors)):
                continue
            z = self._recorders[name].z
            if not z:
                self._explain_silence(name)
            masks = list(mask) if isinstance(mask, (list, tuple)) else [mask] * len(z)
            taken, kept = samples(name, z, sample, masks, batch_size)
            found.append(_Matrices(_names(name, factors), taken, kept, factors.b, factors.scale))
        return found

    def _weights(self) -> Iterator[_Matrices]:
        for name, layer in self.layers.items():
            factors = layer.factors()
            if factors is None or not _is_trained(factors):
                continue
            if factors.a is None:
                raise ValueError(
                    f"space='weight' needs the rows of the down-projection, and {name!r} has none "
                    "(its activations are no linear map of its input); exclude it"
                )
            z = factors.a.mT
            yield _Matrices(_names(name, factors), z, None, factors.b, factors.scale)

    def _require_one_batch_size(self) -> None:
        sizes = {
            sum(z.shape[1] for z in recorder.z): name
            for name, recorder in self._recorders.items()
            if recorder.z
        }
        if len(sizes) > 1:
            (first, one), (second, other), *_ = sizes.items()
            raise ValueError(
                f"layers disagree about the number of images ({one!r}: {first}, {other!r}: {second}), as "
                "with attention in windows; pass batch_size= to the regulariser, or sample='token'"
            )

    def _processes(self) -> ProcessGroup | None:
        if self.space == "weight":
            return None
        if self.group != "auto":
            return self.group
        distributed = torch.distributed
        if distributed.is_available() and distributed.is_initialized():
            return distributed.group.WORLD if distributed.get_world_size() > 1 else None
        return None

    def _listen(self) -> None:
        """Decide anew, between steps, whether layers record: not in vain."""
        self._switch.is_on = self.space == "feature" and self.current_weight != 0

    def _forget(self) -> None:
        for recorder in self._recorders.values():
            recorder.take()

    def _explain_silence(self, name: str) -> None:
        silent = [other for other, recorder in self._recorders.items() if not recorder.z]
        which = f"low-rank layer {name!r}" + (f" and {len(silent) - 1} more" if silent[1:] else "")
        if not self._handles:
            reason = "the regulariser is closed"
        elif not self.model.training:
            reason = (
                "the model is in evaluation mode; call model.train(), or measure inside "
                "`with regularizer.recording():`"
            )
        elif self._recorders[name].had_no_gradient:
            reason = (
                "it only ran without gradients: under torch.no_grad, or in reentrant gradient "
                "checkpointing, which hides the activations; use checkpoint(..., use_reentrant=False)"
            )
        else:
            reason = (
                "it was not called in a forward pass since the last step. Run the model forward in "
                "training mode first; make ReSoRA before torch.compile; and exclude=[...] the layers "
                "that the model does not use"
            )
        raise RuntimeError(f"{which} recorded nothing: {reason}")

    def _warn_if_untrained(self) -> None:
        factors = [layer.factors() for layer in self.layers.values()]
        if not any(found is not None and _is_trained(found) for found in factors):
            warnings.warn(
                f"none of the {len(self.layers)} low-rank layers is trained (frozen, merged or switched "
                "off), so the penalty is zero for now",
                stacklevel=3,
            )


def _is_trained(factors: Factors) -> bool:
    return factors.b.requires_grad or (factors.a is not None and factors.a.requires_grad)


def _names(layer: str, factors: Factors) -> list[str]:
    return [f"{layer}.{matrix}" for matrix in factors.names] or [layer]


def _by_shape(found: list[_Matrices]) -> list[list[_Matrices]]:
    groups: defaultdict[tuple[object, ...], list[_Matrices]] = defaultdict(list)
    for matrices in found:
        z, b = matrices.z, matrices.b
        key = (
            z.shape[1:],
            b.shape[1:],
            z.dtype,
            b.dtype,
            z.device,
            matrices.mask is None,
            matrices.scale,
        )
        groups[key].append(matrices)
    return list(groups.values())


def _join(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _check_choice(name: str, value: object, known: tuple[object, ...]) -> None:
    if value not in known:
        listed = ", ".join(map(str, known))
        raise ValueError(f"unknown {name} {value!r} (known: {listed})")
