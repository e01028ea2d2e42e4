"""LoRA layers of Hugging Face ``peft``, as low-rank layers; ``peft`` itself is never imported here.

The activations are the input of ``lora_B``: a hook on it sees exactly what the layer computes, with
dropout, and with whatever scaling applied after it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils.hooks import RemovableHandle

from resora.petl.base import Factors


@dataclass(frozen=True)
class Untappable:
    """A LoRA layer of ``peft`` whose activations cannot be observed."""

    kind: str
    reason: str

    def explain(self, name: str) -> str:
        """Return a message for the layer called ``name``."""
        return (
            f"the peft layer {name!r} ({self.kind}) cannot be regularised: {self.reason}. Choose other "
            f"target_modules, or leave it alone: ReSoRA(..., exclude=[{name!r}])"
        )


class PeftLoRA:
    """One adapter of one LoRA layer of ``peft`` (Linear or convolution; rsLoRA and DoRA included).

    The subspaces are those of the product scaling x B A. DoRA's magnitude multiplies them afterwards,
    together with the frozen weight, and is not part of them.
    """

    def __init__(self, layer: Any, adapter: str) -> None:
        self._layer = layer
        self._adapter = adapter
        self._known = frozenset(layer.lora_A)

    def tap(self, record: Callable[[Tensor], None]) -> RemovableHandle:
        """Hand z, (1, B, ..., r), of each forward pass to ``record``."""
        up = self._layer.lora_B[self._adapter]
        if isinstance(up, _ConvNd):
            return up.register_forward_pre_hook(_ConvHook(record))
        hook = _Hook(record)
        handle = up.register_forward_pre_hook(hook)
        if self._adapter not in self._layer.lora_magnitude_vector:
            return handle
        hook.identity_width = self._layer.lora_A[self._adapter].in_features
        return _Both(handle, self._layer.register_forward_pre_hook(hook.begin))

    def factors(self) -> Factors | None:
        """Return b (1, r, d_out) and a (1, r, d_in); None while merged, inactive or switched off."""
        layer, adapter = self._layer, self._adapter
        if new := frozenset(layer.lora_A) - self._known:
            raise RuntimeError(
                f"adapter {min(new)!r} was added after ReSoRA was made; close() it and make it anew"
            )
        if layer.disable_adapters or layer.merged or adapter not in layer.active_adapters:
            return None
        if adapter not in layer.lora_A:
            return None
        up, down = layer.lora_B[adapter].weight, layer.lora_A[adapter].weight
        return Factors(up.flatten(1).T[None], down.flatten(1)[None], layer.scaling[adapter])


def adapters(module: nn.Module) -> list[tuple[str, PeftLoRA | Untappable]]:
    """Return the adapters of ``module`` by name; none if it is no LoRA layer of ``peft``."""
    # A model can only hold such layers if somebody has imported them.
    peft = sys.modules.get("peft.tuners.lora.layer")
    if peft is None or not isinstance(module, peft.LoraLayer):
        return []
    names = dict.fromkeys([*module.lora_A, *module.lora_embedding_A])
    return [(name, _adapter(module, name)) for name in names]


def _adapter(layer: Any, name: str) -> PeftLoRA | Untappable:
    kind = type(layer).__name__
    if name in layer.lora_embedding_A:
        return Untappable(kind, "an embedding looks rows up, it computes no activations of A")
    if kind in ("MultiheadAttention", "ParamWrapper"):
        return Untappable(kind, "it merges the update into the weights and never calls lora_A")
    up = layer.lora_B[name] if isinstance(layer.lora_B, nn.ModuleDict) else None
    if isinstance(up, _ConvNd):
        if up.groups != 1 or any(size != 1 for size in up.kernel_size):
            return Untappable(kind, "its up-projection is a grouped convolution")
    elif not isinstance(up, nn.Linear):
        return Untappable(kind, "its up-projection is no Linear and no convolution")
    variant = type(layer.lora_variant.get(name)).__name__
    if variant != "NoneType" and not variant.startswith("Dora"):
        return Untappable(kind, f"its update is no plain B A x ({variant})")
    return PeftLoRA(layer, name)


class _Hook:
    """Hands the input of an up-projection on."""

    def __init__(self, record: Callable[[Tensor], None]) -> None:
        self.record = record
        # DoRA sends an identity matrix through both projections first, to get at the product's norm.
        self.identity_width: int | None = None
        self.awaits_identity = False

    def begin(self, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Note that a forward pass of the whole layer begins."""
        self.awaits_identity = True

    def __call__(self, up: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        z = inputs[0]
        if self.awaits_identity and z.ndim == 2 and z.shape[0] == self.identity_width:
            self.awaits_identity = False
            return
        self.record(z[None])


class _ConvHook(_Hook):
    def __call__(self, up: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.record(inputs[0].movedim(1, -1)[None])


class _Both(RemovableHandle):
    def __init__(self, *handles: RemovableHandle) -> None:
        self._handles = handles

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()
