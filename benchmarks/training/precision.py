"""The numbers that a training computes in: declared as ``training.precision``, float32 the reference.

Parameters, their gradients, the optimizer and the penalties are in float32 at every precision; what differs
is how the forward pass multiplies matrices, and with it the backward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.harness.errors import unknown
from benchmarks.harness.spec import Config
from resora.petl import Method

Name = Literal["fp32", "tf32", "bf16"]

SETTING = "training.precision"


@dataclass(frozen=True)
class Precision:
    """How matrices are multiplied.

    Attributes:
        name: ``fp32``: in float32, on a GPU without TF32, which cuDNN's convolutions would have by default.
            ``tf32``: operands rounded to TF32 on a GPU that has it; elsewhere the same as ``fp32``.
            ``bf16``: autocast to bfloat16, which rounds operands to 8 bits and sums in float32.
    """

    name: Name = "fp32"

    @classmethod
    def of(cls, config: Config) -> Precision:
        """Return the precision of a configuration; one that does not say computes in float32.

        Raises:
            UsageError: There is no such precision.
        """
        name = config.get("training", {}).get("precision", "fp32")
        if name not in get_args(Name):
            known = ", ".join(get_args(Name))
            raise unknown(
                "precision", str(name), get_args(Name), f"{SETTING} is {known}; show CELL"
            )
        return cls(name)

    @property
    def is_half(self) -> bool:
        """Whether the forward pass has to be inside ``forward``."""
        return self.name == "bf16"

    def forward(self, device: str) -> AbstractContextManager[Any]:
        """Return what a forward pass and its loss are computed inside; for float32 it does nothing.

        Args:
            device: ``cpu`` or ``cuda``, with or without a number.
        """
        if not self.is_half:
            return nullcontext()
        return torch.autocast(device.partition(":")[0], dtype=torch.bfloat16)

    @contextmanager
    def session(self, device: str) -> Iterator[None]:
        """Choose kernels for all that is computed inside the block, backward passes too.

        A GPU may use TF32, or not. A CPU computes attention in bfloat16 in its plain form: torch's fused
        kernel takes six times as long there at 17 tokens, and as long at 197 (``bf16-flash`` of ``speed``).

        Args:
            device: ``cpu`` or ``cuda``, with or without a number.
        """
        if not device.startswith("cuda"):
            with sdpa_kernel(SDPBackend.MATH) if self.is_half else nullcontext():
                yield
            return
        before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
        has_tf32 = self.name == "tf32"
        torch.set_float32_matmul_precision("high" if has_tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = has_tf32
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before[0])
            torch.backends.cudnn.allow_tf32 = before[1]


FP32 = Precision("fp32")


def hold_in_half(model: nn.Module, method: Method | None) -> int:
    """Keep frozen matrices in bfloat16 instead of rounding them in every forward pass; return their number.

    Under autocast the results are the same to the bit: it rounds the very tensors that are rounded here,
    those of linear layers and convolutions. All others stay in float32, as does everything in a model whose
    method changes what it froze. After this the model is computed under autocast alone.

    Args:
        model: The adapted model, on its device.
        method: The method that adapted it.
    """
    if method is not None and type(method).after_step is not Method.after_step:
        return 0
    held = 0
    for module in model.modules():
        if type(module) not in (nn.Linear, nn.Conv2d):
            continue
        for parameter in module.parameters(recurse=False):
            if not parameter.requires_grad and parameter.dtype == torch.float32:
                parameter.data = parameter.data.bfloat16()
                held += 1
    return held
