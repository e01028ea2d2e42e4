"""SSF (Lian et al., 2022): a scale and a shift of each channel after every layer.

*Scaling & Shifting Your Features: A New Baseline for Efficient Model Tuning*, arXiv 2210.08823, code
``dongzelian/SSF``. The pairs follow the embedding of patches, every LayerNorm and every linear layer of the
blocks, and the last LayerNorm: 2 x (12 x 8,448 + 2 x 768) = 205,824 parameters on ViT-B/16. As in that
code, a Swin has them after the norm of each patch merging but not after its reduction, and a ConvNeXt also
after the depthwise convolutions and those between stages. On a BERT the norm of the embeddings has a pair,
the embeddings themselves do not (204,288); on a CLIP both towers have them, the projections do not (343,552).

What is different here: in a ConvNeXt the last pair follows the last norm, as elsewhere; the code has it
before the pooling, where it cannot be folded into anything. Weight decay is left out for the pairs in the
code (parameters of one dimension); that is a setting of the training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from resora.backbones import Backbone, Tower
from resora.backbones.parts import named_if_there
from resora.petl.base import Method


class ScaleShift(nn.Module):
    """A frozen layer with a scale and a shift of each of its output channels: gamma y + beta.

    Attributes:
        base: A linear layer, a convolution or a norm.
        gamma: (d,), normal around 1 at the start.
        beta: (d,), normal around 0.
    """

    def __init__(self, base: nn.Module, init_std: float) -> None:
        """Wrap ``base``; ``init_std`` is the standard deviation of both at the start."""
        super().__init__()
        self.base = base
        # Channels come first in a convolution, and in the norms that timm calls LayerNorm2d.
        self.is_image = "2d" in type(base).__name__
        weight: Any = base.weight
        self.gamma = nn.Parameter(weight.new_empty(weight.shape[0]))
        self.beta = nn.Parameter(weight.new_empty(weight.shape[0]))
        nn.init.normal_(self.gamma, mean=1.0, std=init_std)
        nn.init.normal_(self.beta, std=init_std)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled and shifted output, (..., d), or (B, d, H, W) from a convolution."""
        y: Tensor = self.base(x)
        shape = (-1, 1, 1) if self.is_image else (-1,)
        gamma, beta = self.gamma.view(shape), self.beta.view(shape)
        # With autocast the product is in the precision of the parameters: bfloat16 has no number between 1
        # and 1.0078. The next layer gets the precision of the layer.
        return (y * gamma + beta).to(y.dtype)

    @property
    def weight(self) -> Any:
        """The layer's weight: transformers' CLIP looks up its data type."""
        return self.base.weight

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """Return the layer with gamma and beta folded into its weight and bias; one without gets a bias.

        Raises:
            ValueError: It is a norm that cannot have a bias.
        """
        layer: Any = self.base
        if not hasattr(layer, "bias"):
            raise ValueError(f"a {type(layer).__name__} has no bias into which the shift could go")
        layer.weight *= self.gamma.view(-1, *[1] * (layer.weight.dim() - 1))
        if layer.bias is None:
            layer.bias = nn.Parameter(self.beta.detach().clone(), layer.weight.requires_grad)
        else:
            layer.bias.copy_(layer.bias * self.gamma + self.beta)
        kept: nn.Module = layer
        return kept


@dataclass(frozen=True)
class SSF(Method):
    """A trained scale and shift after the frozen layers, which can be folded into them.

    Attributes:
        init_std: Standard deviation of the scales around 1 and of the shifts around 0 at the start; with 0
            the start is unchanged.
    """

    init_std: float = 0.02

    fits = ("vit", "swin", "convnext", "bert", "clip")
    needs = "norms and linear layers in known places"
    is_mergeable = True
    starts_unchanged = False

    def __post_init__(self) -> None:
        """Check the options."""
        if self.init_std < 0:
            raise ValueError(f"init_std is a standard deviation; got {self.init_std}")

    def insert(self, model: nn.Module, backbone: Backbone) -> None:
        """Wrap the layers."""
        for tower in backbone.towers:
            for path in _layers(model, tower):
                base = model.get_submodule(path)
                model.set_submodule(path, ScaleShift(base, self.init_std))


def _layers(model: nn.Module, tower: Tower) -> Iterator[str]:
    """The paths of the layers that get a scale and a shift."""
    if tower.embedding is not None:
        yield tower.embedding
    yield from tower.norms
    if tower.layout == "image":
        yield from tower.merging
    for block in tower.blocks:
        yield from block.norms
        yield from (place.path for place in block.linears)
        module = model.get_submodule(block.path)
        yield from named_if_there(module, block.path, ("conv_dw",))


METHOD = SSF
