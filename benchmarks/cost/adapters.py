"""The adapters whose steps are measured: the library's LoRA, and one of DTL's sizes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from resora.backbones import Backbone
from resora.petl import make_method as make_library_method
from resora.petl.base import Factors, Method, Taps

INITIAL_B = 0.02
"""Standard deviation of the directions at the start. At zero, where LoRA starts, the equations as
printed divide zero by zero."""


class BlockUpdate(nn.Module):
    """A low-rank update of a block's output: y -> y + scale * sum_i (a_i . y) b_i.

    Attributes:
        lora_a: (1, r, d), the rows a_i.
        lora_b: (1, r, d), the directions b_i.
    """

    def __init__(self, width: int, rank: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.lora_a = nn.Parameter(torch.empty(1, rank, width))
        self.lora_b = nn.Parameter(torch.zeros(1, rank, width))
        nn.init.kaiming_uniform_(self.lora_a[0], a=math.sqrt(5))
        self._taps = Taps()

    def forward(self, y: Tensor) -> Tensor:
        """Map (B, T, d) to (B, T, d)."""
        z = functional.linear(y, self.lora_a[0])
        self._taps(z[None])
        return torch.add(y, z @ self.lora_b[0], alpha=self.scale)

    def tap(self, record: Callable[[Tensor], None]) -> RemovableHandle:
        """Hand z, (1, B, T, r), of each forward pass to ``record``."""
        return self._taps.add(record)

    def factors(self) -> Factors:
        """Return b and a, each (1, r, d)."""
        return Factors(self.lora_b, self.lora_a, self.scale)


@dataclass(frozen=True)
class DTLSized(Method):
    """One low-rank d x d pair a block, added to the block's output: 12 of rank 2 on ViT-B/16.

    It has DTL's number of matrices and their sizes, so the penalties have the work that they have
    there. It is not the method DTL, whose side network spares the backward pass through the backbone:
    DTL's own step is shorter and smaller, so that a penalty weighs more in it.

    Attributes:
        rank: r.
        scale: The factor of the update.
    """

    rank: int
    scale: float = 1.0

    fits = ("vit",)
    needs = "blocks that map tokens to tokens"

    def insert(self, model: nn.Module, backbone: Backbone) -> None:
        """Put an update behind every block."""
        for block in backbone.blocks:
            update = BlockUpdate(block.width, self.rank, self.scale)
            model.set_submodule(block.path, nn.Sequential(model.get_submodule(block.path), update))


def make_method(name: str, **options: float) -> Method:
    """Build the method of a cell: ``dtl-r2``, or one of the library such as ``lora-r8`` or ``dtl``."""
    family, _, rank = name.partition("-r")
    if family == "dtl" and rank:
        return DTLSized(int(rank), **options)
    return make_library_method(name, **options)


def leave_start(model: nn.Module) -> None:
    """Give the directions b_i random values, as after some training."""
    for name, parameter in model.named_parameters():
        if name.rpartition(".")[2] == "lora_b":
            nn.init.normal_(parameter, std=INITIAL_B)
