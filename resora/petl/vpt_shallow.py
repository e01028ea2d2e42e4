"""VPT-shallow (Jia et al., 2022; KMnP/vpt): prompts that pass through all blocks like tokens.

They join the sequence before the first block, without position embeddings, and leave it after the last, so
that any pooling works. They come before all tokens, and in VPT after the class token, whose output is the
same. On ViT-B/16 that is 768 parameters a token; the number of tokens is as in ``vpt-deep``.

Swin is left out: there VPT averages the prompts over windows after each block, and repeats them where patches
are merged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from resora.backbones import Backbone
from resora.petl.base import Method
from resora.petl.layers.prompts import (
    PromptedBlock,
    Prompts,
    check_more_tokens,
    check_prompts,
    init_prompts,
    like,
)


@dataclass(frozen=True)
class VPTShallow(Method):
    """Prompts before the first block of each tower.

    Attributes:
        tokens: Their number p.
        dropout: Of their values, for each input; VPT uses none.
    """

    tokens: int = 50
    dropout: float = 0.0

    fits = ("vit", "bert", "clip")
    needs = "one sequence of tokens that attend to each other"
    starts_unchanged: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the options."""
        check_prompts("vpt-shallow", self.tokens, self.dropout)

    def insert(self, model: nn.Module, backbone: Backbone) -> None:
        """Wrap the blocks: the first puts the prompts in, the last takes them out."""
        for tower in backbone.towers:
            check_more_tokens("vpt-shallow", model, tower)
            tokens = like(model, tower.blocks[0]).new_empty(self.tokens, tower.blocks[0].width)
            init_prompts(tokens, model, tower)
            for block in tower.blocks:
                prompts = Prompts(tokens, self.dropout) if block is tower.blocks[0] else None
                base = model.get_submodule(block.path)
                is_last = block is tower.blocks[-1]
                wrapped = PromptedBlock(base, self.tokens, prompts, is_last=is_last)
                model.set_submodule(block.path, wrapped)


METHOD = VPTShallow
