"""LST, ladder side tuning (Sung et al., 2022): a narrow transformer beside a frozen one.

On vision transformers, the form of the paper with ViT's own blocks: 13 down-projections of the hidden states
and one up-projection, all with biases, whose result takes the place of the last block's output before the
final norm and the head. At reduction 8 on ViT-B/16 these are 2,376,288 parameters and 12 gates (the
comparison tables print 2.38 M). The public code (ylsung/Ladder-Side-Tuning) has no configuration for image
classification, and starts from pruned weights as an option; here the side network starts from torch's
initialisation.

On BERT, the form of the comparisons in retrieval (Paranioar/UniPT, VSE-infinity): reduction 4, post-norm
layers, a 13th gate, a LayerNorm at the end; 7,457,485 parameters with 1,024 outputs, which replace the text
projection. What the 13th gate mixes is not known: here it gates the first rung, with zeros. On CLIP, the
ladder of the same repository on vectors of the class and end-of-text tokens, 9,058,332 parameters; no known
setting gives the 11.2 M that the table prints. Swin is refused: its stages differ in width, and
no published number needs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

from torch import nn

from resora.backbones import Backbone, Tower
from resora.petl.base import Method
from resora.petl.layers.hidden_states import Read, SideNetwork, end_of_text, padding_mask
from resora.petl.layers.ladder import LadderShape, TokenLadder, VectorLadder
from resora.petl.layers.side_exits import check_sizes, device_of, embedding_exit, token_exit

REDUCTION = {"vit": 8, "bert": 4}


@dataclass(frozen=True)
class LST(Method):
    """A side transformer on gated down-projections of the frozen hidden states.

    Attributes:
        reduction: The side network's width is the backbone's over this. None: 8 on a ViT, 4 on BERT. CLIP has
            none: its side network has the width of the embedding.
        temperature: T of the gates, sigmoid(alpha / T).
        out_features: Width of the output, on BERT only; None: the backbone's. With another one,
            BERT's pooler keeps the frozen hidden states.
        dropout: Of the side blocks. None: BERT's own on BERT, else none.
    """

    reduction: int | None = None
    temperature: float = 0.1
    out_features: int | None = None
    dropout: float | None = None

    fits = ("vit", "bert", "clip")
    needs = "transformer blocks of one width"
    starts_unchanged: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the options."""
        check_sizes("lst", reduction=self.reduction, out_features=self.out_features)
        if not self.temperature > 0:
            raise ValueError(f"the temperature of lst is positive; got {self.temperature}")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ValueError(f"the dropout of lst is in [0, 1); got {self.dropout}")

    def insert(self, model: nn.Module, backbone: Backbone) -> None:
        """Put a side network beside each tower."""
        if backbone.kind != "bert" and self.out_features is not None:
            raise ValueError(f"lst has out_features on BERT only, not on {backbone.kind}")
        if backbone.kind == "clip" and self.reduction is not None:
            raise ValueError("lst has no reduction on CLIP: its width is that of the embedding")
        with device_of(model, backbone):
            beside = [self._beside(model, tower, backbone.kind) for tower in backbone.towers]
        for tower, (network, exit_path, read) in zip(backbone.towers, beside, strict=True):
            network.attach(model, tower, "lst", exit_path, read)

    def _beside(
        self, model: nn.Module, tower: Tower, kind: str
    ) -> tuple[SideNetwork, str, Read | None]:
        """Return the side network of a tower, the module whose output it replaces, and what it reads."""
        depth = len(tower.blocks)
        if kind == "clip":
            path, out = embedding_exit(model, tower, "lst")
            vectors = VectorLadder(depth, tower.width, out, temperature=self.temperature)
            return vectors, path, end_of_text if tower.name == "text" else None
        network = TokenLadder(
            self._shape(model, tower, kind),
            form=kind,
            temperature=self.temperature,
            dropout=self._dropout(model, tower, kind),
        )
        if kind == "bert":
            return network, token_exit(tower, self.out_features), padding_mask
        return network, tower.blocks[-1].path, None

    def _shape(self, model: nn.Module, tower: Tower, kind: str) -> LadderShape:
        reduction = self.reduction or REDUCTION[kind]
        block = tower.blocks[0]
        side = tower.width // reduction
        if side < 1:
            raise ValueError(f"lst: a width of {tower.width} cannot be reduced by {reduction}")
        hidden = 4 * side
        if block.mlp_in is not None:
            mlp_in = cast(nn.Linear, model.get_submodule(block.mlp_in.path))
            hidden = max(1, mlp_in.out_features // reduction)
        return LadderShape(
            depth=len(tower.blocks),
            width=tower.width,
            side=side,
            hidden=hidden,
            heads=heads_for(side, block.heads),
            out=self.out_features or tower.width,
        )

    def _dropout(self, model: nn.Module, tower: Tower, kind: str) -> float:
        if self.dropout is not None:
            return self.dropout
        if kind != "bert":
            return 0.0
        block: Any = model.get_submodule(tower.blocks[0].path)
        return float(block.output.dropout.p)


def heads_for(width: int, heads: int) -> int:
    """Return the largest divisor of ``width`` that is no more than the backbone's number of heads."""
    return next(count for count in range(max(1, heads), 0, -1) if width % count == 0)


METHOD = LST
