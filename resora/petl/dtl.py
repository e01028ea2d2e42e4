"""DTL (Fu et al., 2024): a low-rank side network that is added to the later half of the backbone alone.

The input x_i of every block goes through a low-rank map of its own, and the sum of these runs beside the
backbone: h_i = h_{i-1} + B_i A_i x_i. After each block of the later half, the activation of h_i is added to
the output: x_{i+1} = block_i(x_i) + h_i sigmoid(beta h_i). The backward pass ends there: of the earlier
blocks, only the inputs of the maps are saved.

Placement, formula and initial values are those of the repository heekhero/DTL
(``models/vision_transformer.py``, ``models/swin_transformer.py``). On ViT-B/16 at r = 2, the maps of 12
blocks have 36,864 parameters, and blocks 6-11 get the sum. On Swin-B at r = 4, there are maps in blocks
4-23, of 90,112 parameters, and blocks 14-23 get the sum, which starts anew in each stage. Other depths follow
the same rule: maps in the later half of the stages; the sum for the later half of the blocks that have a map;
and no map whose sum the backbone never gets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from resora.backbones import Backbone, Block, Tower
from resora.petl.base import Method
from resora.petl.layers.low_rank import check_low_rank
from resora.petl.layers.side import BlockwiseSideNetwork, LowRankMap

Pool = Literal["backbone", "patches"]


@dataclass(frozen=True)
class DTL(Method):
    """Low-rank maps of the blocks' inputs, whose sum is added to the later blocks.

    Attributes:
        rank: r of each map.
        beta: How sharp the activation h sigmoid(beta h) bends; at 100 it is almost a ReLU.
        given_back: Share of the blocks with a map, the last ones, after which the sum is added.
        pool: ``backbone``: the head has the same input as without DTL. ``patches``: its input is the mean of
            the patch tokens, normalised after that, instead of the class token of a vision transformer, as in
            the public code that the quoted numbers come from. This changes the outputs from the start.
    """

    rank: int = 2
    beta: float = 100.0
    given_back: float = 0.5
    pool: Pool = "backbone"

    fits = ("vit", "swin")
    needs = "the blocks of one vision transformer"

    def __post_init__(self) -> None:
        """Check the options."""
        check_low_rank("DTL", self.rank, ())
        if self.beta <= 0:
            raise ValueError(f"beta of DTL is positive; got {self.beta}")
        if not 0 < self.given_back <= 1:
            raise ValueError(
                f"given_back of DTL is a share above 0, up to 1; got {self.given_back}"
            )
        if self.pool not in get_args(Pool):
            raise ValueError(
                f"unknown pool {self.pool!r} of DTL (known: {', '.join(get_args(Pool))})"
            )

    def insert(self, model: nn.Module, backbone: Backbone) -> None:
        """Put the side network beside the blocks."""
        (tower,) = backbone.towers
        holder = model.get_submodule(tower.path)
        if self.pool == "patches":
            pool_patches(holder, backbone.kind)
        blocks = [model.get_submodule(block.path) for block in tower.blocks]
        like = next(blocks[0].parameters()).detach()
        first = first_given_back(tower, self.given_back)
        side = DTLSide(tower.blocks, like, self.rank, self.beta, first)
        for stage, convolution in self.convolutions(model, tower, like, first).items():
            side.convolutions[str(stage)] = convolution
        side.attach(blocks)
        holder.add_module("side", side)

    def convolutions(
        self, model: nn.Module, tower: Tower, like: Tensor, first: int
    ) -> dict[int, nn.Module]:
        """Return the convolutions over the patches of the sum, by stage; DTL has none.

        Args:
            model: The model.
            tower: The backbone.
            like: A tensor of the right type and device.
            first: Index of the first block behind which the sum is added.
        """
        del model, tower, like, first
        return {}


class DTLSide(BlockwiseSideNetwork):
    """The side network of DTL: ``carried`` is the sum h.

    Attributes:
        maps: The low-rank maps by the index of their block.
        convolutions: By stage, what is applied to the activation of the sum; of DTL+.
    """

    def __init__(
        self, blocks: Sequence[Block], like: Tensor, rank: int, beta: float, first: int
    ) -> None:
        """Make the maps of the blocks that need one.

        Args:
            blocks: All of the backbone's.
            like: A tensor of the right type and device.
            rank: r.
            beta: Of the activation.
            first: Index of the first block behind which the sum is added.
        """
        super().__init__()
        self.beta = beta
        self.first = first
        self.stages = tuple(block.stage for block in blocks)
        mapped = blocks_with_map(self.stages, first)
        self.maps = nn.ModuleDict({str(i): LowRankMap(like, rank, blocks[i].width) for i in mapped})
        self.convolutions = nn.ModuleDict()

    def before(self, index: int, x: Tensor) -> None:
        """Add the map of a block's input to the sum, which starts anew with the stage."""
        if index and self.stages[index] != self.stages[index - 1]:
            self.carried = None
        if (key := str(index)) in self.maps:
            update = self.maps[key](x)
            self.carried = update if self.carried is None else self.carried + update

    def after(self, index: int, x: Tensor) -> Tensor:
        """Add the activation of the sum to a later block's output."""
        if index < self.first:
            return x
        h: Tensor = self.carried
        h = h * torch.sigmoid(self.beta * h)
        if (key := str(self.stages[index])) in self.convolutions:
            h = self.convolutions[key](h)
        return x + h


def first_given_back(tower: Tower, share: float) -> int:
    """Return the index of the first block behind which the sum is added.

    Maps are meant for the later half of the stages, and the sum for the last ``share`` of their blocks.
    """
    stages = tower.stages()
    later = stages[min(ceil(len(stages) / 2), len(stages) - 1) :]
    number = sum(len(stage) for stage in later)
    return len(tower.blocks) - max(1, round(share * number))


def blocks_with_map(stages: Sequence[int], first: int) -> list[int]:
    """Return the indices of the blocks with a map: those of all stages that get the sum somewhere.

    Args:
        stages: The stage of each block.
        first: Index of the first block behind which the sum is added.
    """
    return [index for index, stage in enumerate(stages) if stage >= stages[first]]


def pool_patches(vit: Any, kind: str) -> None:
    """Let the head of timm's ViT read the mean of the patch tokens, normalised after that.

    Raises:
        ValueError: The backbone is another one, or pools by attention.
    """
    if kind != "vit" or getattr(vit, "attn_pool", "none") is not None:
        raise ValueError(
            f"pool='patches' is for timm's vision transformer with a class token; leave it out for "
            f"{type(vit).__name__}"
        )
    vit.global_pool, vit.pool_include_prefix = "avg", False
    if isinstance(vit.fc_norm, nn.Identity):
        vit.norm, vit.fc_norm = vit.fc_norm, vit.norm


METHOD = DTL
