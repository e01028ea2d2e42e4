"""LoRA (Hu et al., 2022): a separate pair of factors for each adapted matrix.

The placement on vision transformers follows the paper's counts: 12 blocks x q, k, v x 2 x 768 x 8 = 442,368
parameters at r = 8 on ViT-B/16. timm fuses the three projections in one ``qkv`` layer; here each third of it
has its own A (r x d) and B (d x r). One pair on the fused layer, of 294,912, is the option ``fused``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from torch import nn

from resora.backbones import Backbone
from resora.petl.base import Method
from resora.petl.layers.low_rank import LowRankLinear, check_low_rank, chosen


@dataclass(frozen=True)
class LoRA(Method):
    """A low-rank update of linear layers, B A x times ``scale``.

    Attributes:
        rank: r.
        scale: The factor of the update, alpha / r.
        targets: The matrices that are adapted, of ``q k v proj fc1 fc2``; empty: q, k and v, and fc1 where
            there is no attention (ConvNeXt), which like these reads a block's normalised input.
        fused: One pair for a fused ``qkv`` layer as a whole.
    """

    rank: int
    scale: float = 1.0
    targets: tuple[str, ...] = ()
    fused: bool = False

    fits = ("vit", "swin", "convnext", "bert", "clip", "attention")
    needs = "linear layers in known places"
    is_mergeable = True

    def __post_init__(self) -> None:
        """Check the options."""
        checked = check_low_rank(type(self).__name__, self.rank, self.targets)
        object.__setattr__(self, "targets", checked)

    def insert(self, model: nn.Module, backbone: Backbone) -> None:
        """Wrap the chosen layers."""
        for path, parts, adapted in self.matrices(backbone):
            base = cast(nn.Linear, model.get_submodule(path))
            if not base.weight.is_floating_point():
                raise ValueError(
                    f"{path} ({type(base).__name__}) holds its weight in {base.weight.dtype}: adapt a "
                    "quantised model with peft, whose layers ReSoRA finds too"
                )
            model.set_submodule(path, self.wrapped(base, parts, adapted))

    def matrices(
        self, backbone: Backbone
    ) -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...]]]:
        """Yield the layers to wrap: dotted name, names of its parts, and those that are adapted."""
        for place, adapted in chosen(backbone, self.targets):
            if self.fused and len(place.parts) > 1:
                yield place.path, ("qkv",), ("qkv",)
            else:
                yield place.path, place.parts, adapted

    def wrapped(
        self, base: nn.Linear, parts: tuple[str, ...], adapted: tuple[str, ...]
    ) -> LowRankLinear:
        """Return ``base`` with the update; methods that build on LoRA override it."""
        return LowRankLinear(base, self.rank, self.scale, parts, adapted)


METHOD = LoRA
