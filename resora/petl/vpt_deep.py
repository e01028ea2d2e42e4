"""VPT-deep (Jia et al., 2022; KMnP/vpt): fresh prompts before every block, which replace the previous ones.

The outputs of a block's prompts are discarded, so the prompts act only as keys and values. Here they enter
the attention alone, which gives the same outputs at less cost (``layers/prompts.py``).
On ViT-B/16 that is 12 x 768 = 9,216 parameters a token.

The number of tokens is VPT's main hyper-parameter, chosen for each data set from 1, 5, 10, 50, 100 and
200. The default is the one nearest to the 60.8 tokens of the 0.56 M parameters that papers print for
VTAB-1K. On CLIP the 0.2 M that are printed are 10 tokens in both towers, 153,600.

In Swin prompts join every window's attention, without a relative position, as in VPT's code; there the
prompts of the last block are part of the average over tokens, here they are not. VPT keeps the backbone in
evaluation mode in training, which is left to the training loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from resora.backbones import Backbone
from resora.petl.base import Method
from resora.petl.layers.prompts import (
    PromptKeys,
    Prompts,
    check_prompts,
    extend_attention,
    init_prompts,
    like,
    norm_before,
)


@dataclass(frozen=True)
class VPTDeep(Method):
    """Prompts of their own in each block of each tower.

    Attributes:
        tokens: Their number p in each block.
        dropout: Of their values; 0.1 in VPT's commands for VTAB-1K. It is drawn for each input, on Swin once
            for a batch.
    """

    tokens: int = 50
    dropout: float = 0.1

    fits = ("vit", "swin", "bert", "clip")
    needs = "tokens that attend to each other"
    starts_unchanged: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the options."""
        check_prompts("vpt-deep", self.tokens, self.dropout)

    def insert(self, model: nn.Module, backbone: Backbone) -> None:
        """Add the prompts' keys and values to every attention."""
        for tower in backbone.towers:
            for block in tower.blocks:
                tokens = like(model, block).new_empty(self.tokens, block.width)
                init_prompts(tokens, model, tower)
                prompts = Prompts(tokens, self.dropout, each_input=backbone.kind != "swin")
                extra = PromptKeys(prompts, norm_before(model, backbone, block))
                extend_attention(model, block, extra)


METHOD = VPTDeep
