"""LoRA layers of Hugging Face ``peft``, as low-rank layers; ``peft`` itself is never imported here.

The activations are the input of ``lora_B``. A hook there sees exactly what the layer computes, with dropout;
any scaling comes after it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils.hooks import RemovableHandle

from resora.petl.base import Factors


@dataclass(frozen=True)
class Untappable:
    """A LoRA layer of ``peft`` whose activations cannot be observed, and why."""

    kind: str
    reason: str


class PeftLoRA:
    """One adapter of one LoRA layer of ``peft`` (Linear or convolution; rsLoRA and DoRA included).

    The subspaces are those of the product scaling x B A. DoRA's magnitude multiplies them afterwards,
    together with the frozen weight, and is not part of them; nor is a bias of ``lora_B``.
    """

    def __init__(self, layer: Any, adapter: str, known: frozenset[str]) -> None:
        """Keep the layer, the name of its adapter, and all names of adapters in the model."""
        self._layer = layer
        self._adapter = adapter
        self._known = known
        self._up = layer.lora_B[adapter]

    def tap(self, record: Callable[[Tensor], None]) -> RemovableHandle:
        """Hand z, (1, B, ..., r), of each forward pass to ``record``."""
        up: nn.Module = self._up
        if isinstance(up, _ConvNd):
            return up.register_forward_pre_hook(_ConvHook(record))
        if self._adapter not in self._layer.lora_magnitude_vector:
            return up.register_forward_pre_hook(_Hook(record))
        hook = _LastCall(record)
        return _Both(
            up.register_forward_pre_hook(hook.keep), self._layer.register_forward_hook(hook.hand_on)
        )

    def factors(self) -> Factors | None:
        """Return b (1, r, d_out) and a (1, r, d_in); None while merged, inactive or switched off."""
        layer, adapter = self._layer, self._adapter
        active = layer.active_adapters
        if unknown := [name for name in active if name not in self._known]:
            raise RuntimeError(
                f"adapter {unknown[0]!r} was added after ReSoRA was made; close() it and make it anew"
            )
        if layer.disable_adapters or layer.merged or adapter not in active:
            return None
        if adapter not in layer.lora_A:
            return None
        if layer.lora_B[adapter] is not self._up:
            raise RuntimeError(
                f"adapter {adapter!r} was replaced after ReSoRA was made; close() it and make it anew"
            )
        up, down = self._up.weight, layer.lora_A[adapter].weight
        return Factors(up.flatten(1).T[None], down.flatten(1)[None], layer.scaling[adapter])


def is_lora(module: nn.Module) -> bool:
    """Whether ``module`` is a LoRA layer of ``peft``."""
    # A model can hold such layers only if peft has been imported.
    peft = sys.modules.get("peft.tuners.lora.layer")
    return peft is not None and isinstance(module, peft.LoraLayer)


def merges_itself(module: nn.Module) -> bool:
    """Whether ``module`` adds its update, and that of layers inside it, to the weights in each pass."""
    return is_lora(module) and type(module).__name__ == "MultiheadAttention"


def adapter_names(model: nn.Module) -> frozenset[str]:
    """Return the names of all adapters in ``model``, active or not, of whatever kind."""
    found: set[str] = set()
    for module in model.modules():
        if is_lora(module):
            layer: Any = module
            found.update(layer.lora_A, layer.lora_embedding_A, layer.active_adapters)
        if isinstance(config := vars(module).get("peft_config"), dict):
            found.update(config)
    return frozenset(found)


def adapters(module: nn.Module, known: frozenset[str]) -> list[tuple[str, PeftLoRA | Untappable]]:
    """Return the adapters of ``module`` by name; none if it is no LoRA layer of ``peft``.

    Args:
        module: Any module.
        known: The names of all adapters in the model.
    """
    if not is_lora(module):
        return []
    layer: Any = module
    names = dict.fromkeys([*layer.lora_A, *layer.lora_embedding_A])
    return [(name, _adapter(layer, name, known)) for name in names]


def _adapter(layer: Any, name: str, known: frozenset[str]) -> PeftLoRA | Untappable:
    kind = type(layer).__name__
    if name in layer.lora_embedding_A:
        return Untappable(kind, "an embedding looks rows up, it computes no activations of A")
    if merges_itself(layer) or kind == "ParamWrapper":
        return Untappable(kind, "it adds the update to the weights and never calls lora_A")
    variant = type(layer.lora_variant.get(name)).__name__
    if variant != "NoneType" and not variant.startswith("Dora"):
        return Untappable(kind, f"its update is no plain B A x ({variant})")
    up = layer.lora_B[name] if isinstance(layer.lora_B, nn.ModuleDict) else None
    if isinstance(up, _ConvNd):
        if up.groups != 1 or any(size != 1 for size in up.kernel_size):
            return Untappable(kind, "its up-projection is a grouped convolution")
    elif not isinstance(up, nn.Linear):
        return Untappable(kind, "its up-projection is no Linear and no convolution")
    return PeftLoRA(layer, name, known)


class _Hook:
    """Passes the input of an up-projection on."""

    def __init__(self, record: Callable[[Tensor], None]) -> None:
        self.record = record

    def __call__(self, up: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.record(inputs[0][None])


class _ConvHook(_Hook):
    def __call__(self, up: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.record(inputs[0].movedim(1, -1)[None])


class _LastCall:
    """Passes on the last input of an up-projection when the forward pass of its layer ends.

    DoRA first sends an identity matrix through both projections, to compute the norm of the product.
    """

    def __init__(self, record: Callable[[Tensor], None]) -> None:
        self.record = record
        self.z: Tensor | None = None

    def keep(self, up: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        # Checkpointing calls the layer anew inside the backward pass and may stop half-way; what is
        # kept then would hold the recomputed graph until the next step.
        if torch.compiler.is_compiling() or torch._C._current_graph_task_id() == -1:
            self.z = inputs[0]

    def hand_on(self, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        z, self.z = self.z, None
        if z is not None:
            self.record(z[None])


class _Both(RemovableHandle):
    def __init__(self, *handles: RemovableHandle) -> None:
        self._handles = handles

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()
