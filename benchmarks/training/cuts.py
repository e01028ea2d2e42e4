"""Finds where the frozen part of a model ends, and runs the rest from its cached features.

For ``linear`` that part is all before the head, for ``partial`` all before the first trained block, for LST
and UniPT all blocks, whose hidden states they read, for DTL the blocks up to the first behind which it
gives its sum back. The rest is the model's own modules, hooks included, on the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from data_prep.torchvision_guard import ensure_torchvision

ensure_torchvision()

from timm.layers.drop import DropPath  # noqa: E402 - the guard has to come first
from timm.models.convnext import ConvNeXt  # noqa: E402
from timm.models.swin_transformer import SwinTransformer  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402

from resora.backbones import Block, describe  # noqa: E402
from resora.petl import Method  # noqa: E402
from resora.petl.dtl import DTL, DTLSide  # noqa: E402
from resora.petl.dtl_plus import DTLPlus  # noqa: E402
from resora.petl.layers.hidden_states import SideNetwork  # noqa: E402
from resora.petl.linear import Linear  # noqa: E402
from resora.petl.lst import LST  # noqa: E402
from resora.petl.partial import Partial  # noqa: E402
from resora.petl.unipt import UniPT  # noqa: E402

AFTER_BLOCKS = {VisionTransformer: "norm", SwinTransformer: "norm", ConvNeXt: "norm_pre"}
"""Models whose forward pass is known here, and what they call between the last block and the head."""


class Watched(NamedTuple):
    """A tensor of the forward pass.

    Attributes:
        module: Dotted name of a module with one input and one output.
        is_input: It is the module's input, else its output.
    """

    module: str
    is_input: bool = False


class Cut(NamedTuple):
    """Where a model is parted.

    Attributes:
        watched: What the rest reads, in the order of the forward pass; the frozen part ends with the last.
        tail: Maps these to the model's output; its modules are the model's own.
    """

    watched: tuple[Watched, ...]
    tail: nn.Module


def cut_of(model: nn.Module, method: Method, head: str) -> Cut | None:
    """Return where a model's frozen part ends; None where the method feeds it back, or trains all.

    Args:
        model: The adapted model.
        method: What adapted it.
        head: Dotted name of its head.
    """
    if type(method) is Linear or (type(method) is Partial and not method.blocks):
        return Cut((Watched(head, is_input=True),), _Head(model.get_submodule(head)))
    if type(model) not in AFTER_BLOCKS or type(method) not in CUTS:
        return None
    (tower,) = describe(model).towers
    return CUTS[type(method)](model, tower.blocks, method)


def is_noisy(model: nn.Module, cut: Cut) -> bool:
    """Whether training draws noise in the frozen part; modules are in the order of the forward pass."""
    last = cut.watched[-1]
    is_behind = False
    for name, module in model.named_modules():
        is_inside = name == last.module or name.startswith(f"{last.module}.")
        if (is_inside and last.is_input) or (is_behind and not is_inside):
            return False
        is_behind = is_inside
        if isinstance(module, DropPath) and module.drop_prob:
            return True
        if isinstance(module, nn.Dropout) and module.p:
            return True
    return False


class _Head(nn.Module):
    """What ``linear`` trains."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        # In a list: the module is the model's, and goes by its mode.
        self._head = [head]

    def forward(self, kept: Sequence[Tensor]) -> Tensor:
        (x,) = kept
        logits: Tensor = self._head[0](x)
        return logits


class _Rest(nn.Module):
    """What comes after a block."""

    def __init__(self, model: Any, blocks: Sequence[Block], after: int) -> None:
        super().__init__()
        self._model = [model]
        stage = blocks[after].stage
        same = [block.path for block in blocks[after + 1 :] if block.stage == stage]
        stages = getattr(model, "layers", getattr(model, "stages", ()))
        self._behind = [
            *(model.get_submodule(path) for path in same),
            *list(stages)[stage + 1 :],
            getattr(model, AFTER_BLOCKS[type(model)]),
        ]

    def forward(self, kept: Sequence[Tensor]) -> Tensor:
        (x,) = kept
        for module in self._behind:
            x = module(x)
        logits: Tensor = self._model[0].forward_head(x)
        return logits


class _SideAndRest(nn.Module):
    """A side network that reads hidden states, and what comes after its output."""

    def __init__(self, side: SideNetwork, rest: _Rest, *, is_last_block: bool) -> None:
        super().__init__()
        self._side, self._rest, self._is_last_block = [side], [rest], is_last_block

    def forward(self, kept: Sequence[Tensor]) -> Tensor:
        side, x = self._side[0], kept[-1]
        side.replay(kept)
        # Elsewhere the output is replaced during the pass through the rest.
        logits: Tensor = self._rest[0]([side.replace(x) if self._is_last_block else x])
        return logits


class _SumAndRest(nn.Module):
    """DTL's maps of the first blocks, the first output that they change, and what comes after."""

    def __init__(self, side: DTLSide, mapped: Sequence[int], rest: _Rest) -> None:
        super().__init__()
        self._side, self._mapped, self._rest = [side], mapped, [rest]

    def forward(self, kept: Sequence[Tensor]) -> Tensor:
        *inputs, x = kept
        side = self._side[0]
        x = side.resume(zip(self._mapped, inputs, strict=True), side.first, x)
        logits: Tensor = self._rest[0]([x])
        return logits


def _partial_cut(model: nn.Module, blocks: Sequence[Block], method: Any) -> Cut | None:
    last = len(blocks) - method.blocks - 1
    if last < 0:
        return None
    return Cut((Watched(blocks[last].path),), _Rest(model, blocks, last))


def _states_cut(model: nn.Module, blocks: Sequence[Block], method: Any) -> Cut:
    del method
    (side,) = (module for module in model.modules() if isinstance(module, SideNetwork))
    last = blocks[-1].path
    tail = _SideAndRest(
        side, _Rest(model, blocks, len(blocks) - 1), is_last_block=side.exit_path == last
    )
    states = (Watched(block.path) for block in blocks)
    return Cut((Watched(blocks[0].path, is_input=True), *states), tail)


def _dtl_cut(model: nn.Module, blocks: Sequence[Block], method: Any) -> Cut:
    del method
    (side,) = (module for module in model.modules() if isinstance(module, DTLSide))
    mapped = [index for index in map(int, side.maps) if index <= side.first]
    inputs = (Watched(blocks[index].path, is_input=True) for index in mapped)
    tail = _SumAndRest(side, mapped, _Rest(model, blocks, side.first))
    return Cut((*inputs, Watched(blocks[side.first].path)), tail)


CUTS = {
    Partial: _partial_cut,
    LST: _states_cut,
    UniPT: _states_cut,
    DTL: _dtl_cut,
    DTLPlus: _dtl_cut,
}
"""Of methods that leave blocks as they are: what parts a model that they have adapted."""
