"""AdaptFormer (Chen et al., 2022): a bottleneck beside the MLP of each block.

*AdaptFormer: Adapting Vision Transformers for Scalable Visual Recognition*, arXiv 2205.13535. The MLP
sub-layer becomes x + MLP(LN(x)) + s W_up ReLU(W_down LN(x)), as in the paper's equations 3 and 4: the
bottleneck reads the normalised input. The authors' code (``ShoufaChen/AdaptFormer``) gives it the input
before the norm. There the bottleneck has 64 dimensions; in tables of VTAB-1K it has 8: 12 x (2 x 768 x 8 +
8 + 768) = 156,768 parameters on ViT-B/16, or 147,456 without biases.

In a backbone whose blocks drop paths or scale their branches (ConvNeXt), the bottleneck is part of the
branch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import nn

from resora.backbones import Backbone
from resora.petl.base import Method
from resora.petl.layers.bottleneck import Bottleneck, ParallelAdapter, check_bottleneck


@dataclass(frozen=True)
class AdaptFormer(Method):
    """A ReLU bottleneck in parallel with each MLP.

    Attributes:
        dim: Dimensions of the bottleneck.
        scale: The factor s of its output.
        dropout: In the bottleneck, in training; 0.1 in the authors' code.
        bias: Whether its two layers have biases.
    """

    dim: int = 8
    scale: float = 0.1
    dropout: float = 0.0
    bias: bool = True

    fits = ("vit", "swin", "convnext", "clip")
    needs = "an MLP that is one module"

    def __post_init__(self) -> None:
        """Check the options."""
        check_bottleneck("AdaptFormer", self.dim, self.dropout)

    def insert(self, model: nn.Module, backbone: Backbone) -> None:
        """Put a bottleneck beside each MLP."""
        for block in backbone.blocks:
            if block.mlp is None or block.mlp_in is None:
                raise ValueError(f"AdaptFormer needs {self.needs}; {block.path!r} has none")
            base = model.get_submodule(block.mlp)
            like = cast(nn.Linear, model.get_submodule(block.mlp_in.path)).weight
            bottleneck = Bottleneck(like, block.width, self.dim, "relu", self.dropout, self.bias)
            model.set_submodule(block.mlp, ParallelAdapter(base, bottleneck, self.scale))


METHOD = AdaptFormer
