"""BitFit (Ben Zaken et al., 2022): only the biases are trained.

*BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked Language-models*, arXiv
2106.10199. 102,912 parameters on ViT-B/16 and on BERT-base (its pooler's among them). The paper's Table 1
for CLIP prints 0.1 M, which are the 138,240 without the biases of LayerNorms (171,008 with), and for Swin-B
0.20 M, which are 137,216 biases and 63,544 entries of relative position biases: public code looks for
"bias" anywhere in a name.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from resora.backbones import Backbone
from resora.petl.base import Method


@dataclass(frozen=True)
class BitFit(Method):
    """Train every bias, and nothing else but the head.

    Attributes:
        norms: Train the biases of norms too.
        position_bias: Train the tables of relative position biases too (``relative_position_bias_table`` of
            Swin), which are no biases of a layer but have the word in their name.
    """

    norms: bool = True
    position_bias: bool = False

    is_mergeable = True

    def insert(self, model: nn.Module, backbone: Backbone) -> None:
        """Let the biases require a gradient.

        Raises:
            ValueError: The model has none.
        """
        del backbone
        biases = [
            parameter
            for module in model.modules()
            for name, parameter in module.named_parameters(recurse=False)
            if self._is_trained(module, name)
        ]
        if not biases:
            raise ValueError(f"bitfit: {type(model).__name__} has no bias to train")
        for bias in biases:
            bias.requires_grad_(True)

    def _is_trained(self, module: nn.Module, name: str) -> bool:
        # torch's MultiheadAttention calls its one ``in_proj_bias``, BEiT's are ``q_bias`` and ``v_bias``.
        if name == "bias" or name.endswith("_bias"):
            return self.norms or not is_norm(module)
        return self.position_bias and "position_bias" in name


def is_norm(module: nn.Module) -> bool:
    """Say whether ``module`` normalises: torch's norms, and those of others by the name of the class."""
    return "norm" in type(module).__name__.lower()


METHOD = BitFit
