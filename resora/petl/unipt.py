"""UniPT (Diao et al., 2024): a parallel network that fuses the hidden states of a frozen tower.

BERT and CLIP follow the code of the paper (Paranioar/UniPT: VSE-infinity and CLIP4Clip). On BERT, 5,921,281
parameters with 1,024 outputs, which replace the text projection; on CLIP ViT-B/32, 5,644,289 for images and
3,940,353 for text, whose embeddings get a term added. One deviation: the valid tokens of a text are those up
to its end on CLIP, where the code masks the token 0, which is a character too.

The paper has no image classification. The form on a ViT is a choice made here: that of CLIP's image tower,
with the pooled and normalised feature, which the head reads, in the place of the embedding. Hidden states are
compared in a quarter of the backbone's width (2.2 M parameters on ViT-B/16, about as many as LST has).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from resora.backbones import Backbone, Tower
from resora.petl.base import Method
from resora.petl.layers.hidden_states import Read, SideNetwork, end_of_text, padding_mask
from resora.petl.layers.side_exits import (
    check_sizes,
    device_of,
    embedding_exit,
    feature_exit,
    token_exit,
)
from resora.petl.layers.state_fusion import TokenFusion, VectorFusion

REDUCTION = {"vit": 4, "bert": 2, "clip": 1}


@dataclass(frozen=True)
class UniPT(Method):
    """A parallel network that fuses the frozen hidden states by similarity with the last one.

    Attributes:
        reduction: Hidden states are compared in the width of the output over this. None: 2 on BERT and 1 on
            CLIP, as in the paper's code, and 4 on a ViT.
        out_features: Width of the output, on BERT only; None: the backbone's. With another one,
            BERT's pooler keeps the frozen hidden states.
    """

    reduction: int | None = None
    out_features: int | None = None

    fits = ("vit", "bert", "clip")
    needs = "transformer blocks of one width"
    starts_unchanged: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the options."""
        check_sizes("unipt", reduction=self.reduction, out_features=self.out_features)

    def insert(self, model: nn.Module, backbone: Backbone) -> None:
        """Put a side network beside each tower."""
        if backbone.kind != "bert" and self.out_features is not None:
            raise ValueError(f"unipt has out_features on BERT only, not on {backbone.kind}")
        with device_of(model, backbone):
            beside = [self._beside(model, tower, backbone.kind) for tower in backbone.towers]
        for tower, (network, exit_path, read) in zip(backbone.towers, beside, strict=True):
            network.attach(model, tower, "unipt", exit_path, read)

    def _beside(
        self, model: nn.Module, tower: Tower, kind: str
    ) -> tuple[SideNetwork, str, Read | None]:
        """Return the side network of a tower, the module whose output it replaces, and what it reads."""
        sizes = len(tower.blocks), tower.width
        if kind == "bert":
            out = self.out_features or tower.width
            tokens = TokenFusion(*sizes, self._mapped(out, kind), out)
            return tokens, token_exit(tower, self.out_features), padding_mask
        if kind == "clip":
            path, out = embedding_exit(model, tower, "unipt")
            vectors = VectorFusion(*sizes, self._mapped(out, kind), out)
            return vectors, path, end_of_text if tower.name == "text" else None
        summary = "token" if tower.prefix else "mean"
        mapped = self._mapped(tower.width, kind)
        feature = VectorFusion(*sizes, mapped, tower.width, summary=summary)
        return feature, feature_exit(model, tower, "unipt"), None

    def _mapped(self, out: int, kind: str) -> int:
        reduction = self.reduction or REDUCTION[kind]
        if reduction > out:
            raise ValueError(f"unipt: a width of {out} cannot be reduced by {reduction}")
        return out // reduction


METHOD = UniPT
