"""Linear layers whose updates share their outer factors, U and V, across a backbone (FacT).

The weights of a backbone's blocks are read as d x d matrices: query, key, value and output projection, the
four output blocks of an MLP's first layer and the four input blocks of its second, 12 in each block of a
transformer. Matrix m gets the update s U S_m V, in the convention of row vectors: x becomes s x U S_m V.

The outer factors are stored once, as a submodule of the first layer that uses them; the others refer to that
module without registering it, so that parameters, states and optimizers have each of them once. Copies and
pickles of the model keep the sharing, and merging removes the factors.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from resora.backbones import Place, Tower
from resora.petl.base import Factors, Taps


class Matrices(NamedTuple):
    """A linear layer, read as d x d matrices.

    Attributes:
        place: Where it is.
        base: The layer, ins * d -> outs * d.
        stage: Index of its stage.
        width: d.
        outs: Number of blocks of d outputs.
        ins: Number of blocks of d inputs.
    """

    place: Place
    base: nn.Linear
    stage: int
    width: int
    outs: int
    ins: int

    @property
    def number(self) -> int:
        """The number of matrices."""
        return self.outs * self.ins


def square_matrices(model: nn.Module, tower: Tower) -> Iterator[Matrices]:
    """Yield the linear layers of a tower's blocks, in the order of the forward pass.

    Raises:
        ValueError: The inputs or outputs of one are no multiple of its block's width.
    """
    for block in tower.blocks:
        for place in block.linears:
            base = cast(nn.Linear, model.get_submodule(place.path))
            outs, more_outputs = divmod(base.out_features, block.width)
            ins, more_inputs = divmod(base.in_features, block.width)
            if more_outputs or more_inputs:
                raise ValueError(
                    f"{place.path!r} ({base.in_features} -> {base.out_features}) does not consist of "
                    f"{block.width} x {block.width} matrices"
                )
            yield Matrices(place, base, block.stage, block.width, outs, ins)


class OuterFactors(nn.Module):
    """The factors that matrices of one width share.

    Attributes:
        u: (r, d), the columns of U. As ``nn.Linear`` at the start.
        v: (r, d), the rows of V: the directions b_i. Zero at the start, so that nothing changes.
    """

    def __init__(self, like: Tensor, rank: int, width: int) -> None:
        """Make them in the type and on the device of ``like``."""
        super().__init__()
        self.u = nn.Parameter(like.new_empty(rank, width))
        self.v = nn.Parameter(like.new_zeros(rank, width))
        nn.init.kaiming_uniform_(self.u, a=math.sqrt(5))


class TuckerCore(nn.Module):
    """The inner matrices of all layers as slices of a core tensor, S_m = sum_k C[:, :, k] P[k, m].

    Attributes:
        core: C (r, r, r). Xavier-uniform at the start, as P.
        mixing: P (r, M) for the M matrices of a tower.
    """

    def __init__(self, like: Tensor, rank: int, matrices: int) -> None:
        """Make them in the type and on the device of ``like``."""
        super().__init__()
        self.core = nn.Parameter(like.new_empty(rank, rank, rank))
        self.mixing = nn.Parameter(like.new_empty(rank, matrices))
        nn.init.xavier_uniform_(self.core)
        nn.init.xavier_uniform_(self.mixing)

    def forward(self, first: int, count: int) -> Tensor:
        """Return S_m of ``count`` matrices from the one with the index ``first`` on, (count, r, r)."""
        return torch.einsum("ijk,km->mij", self.core, self.mixing[:, first : first + count])


class FacTLinear(nn.Module):
    """A frozen linear layer plus s x U S_m V for each of its d x d matrices m.

    Its activations z are the inputs of V, after the dropout. Where a layer has several blocks of
    inputs (an MLP's second layer), these are summed in z: it counts as one matrix.

    Attributes:
        base: The frozen layer.
        outer: U and V.
    """

    outer: OuterFactors

    def __init__(
        self,
        matrices: Matrices,
        outer: OuterFactors,
        owns_outer: bool,
        scale: float,
        dropout: float,
    ) -> None:
        """Wrap a layer.

        Args:
            matrices: The layer.
            outer: U and V.
            owns_outer: Whether they are stored in this layer.
            scale: s.
            dropout: The share of z that is set to zero in training.
        """
        super().__init__()
        self.base = matrices.base
        self.outs, self.ins = matrices.outs, matrices.ins
        self.names = matrices.place.parts if len(matrices.place.parts) > 1 else ()
        self.rank = outer.u.shape[0]
        self.scale = scale
        self.dropout = nn.Dropout(dropout)
        self.share("outer", outer, is_owner=owns_outer)
        self._taps = Taps()
        self.train(matrices.base.training)

    @abstractmethod
    def inner(self) -> Tensor:
        """Return S_m, (ins * outs, r, r); of ``ins`` and ``outs``, one is 1."""

    def share(self, name: str, module: nn.Module, *, is_owner: bool) -> None:
        """Refer to a module that several layers share; only its owner registers it."""
        if is_owner:
            self.add_module(name, module)
        else:
            vars(self)[name] = module

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, ..., ins * d) to (B, ..., outs * d)."""
        z = self.dropout(self.activations(x))
        self._taps(z.movedim(-2, 0))
        update = functional.linear(z, self.outer.v.mT).flatten(-2)
        return torch.add(self.base(x), update, alpha=self.scale)

    def activations(self, x: Tensor) -> Tensor:
        """Return z before the dropout, (B, ..., outs, r)."""
        u = functional.linear(x.unflatten(-1, (self.ins, -1)), self.outer.u).flatten(-2)
        z: Tensor = functional.linear(u, self._inner_rows()).unflatten(-1, (self.outs, self.rank))
        return z

    def rows(self) -> Tensor:
        """Return the rows of the map from x to z, (outs, r, ins * d)."""
        s = self._inner_rows().unflatten(0, (self.outs, self.rank))
        s = s.unflatten(-1, (self.ins, self.rank))
        rows: Tensor = torch.einsum("oscr,rd->oscd", s, self.outer.u)
        return rows.flatten(-2)

    def tap(self, record: Callable[[Tensor], None]) -> RemovableHandle:
        """Hand z, (outs, B, ..., r), of each forward pass to ``record``."""
        return self._taps.add(record)

    def factors(self) -> Factors:
        """Return b (outs, r, d), V for each block of outputs, and a (outs, r, ins * d)."""
        b = self.outer.v.expand(self.outs, -1, -1)
        return Factors(b, self.rows(), self.scale, self.names)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Return the layer with the update folded into its weight."""
        update = torch.einsum("osi,sd->odi", self.rows(), self.outer.v)
        self.base.weight += self.scale * update.flatten(0, 1)
        return self.base

    def _inner_rows(self) -> Tensor:
        """Return the map from all x U to all z as the weight of a linear layer, (outs * r, ins * r)."""
        s: Tensor = self.inner().unflatten(0, (self.outs, self.ins))
        return s.permute(0, 3, 1, 2).flatten(2).flatten(0, 1)


class TuckerLinear(FacTLinear):
    """A layer with inner matrices from a core tensor that the layers of a tower share (FacT-TK)."""

    core: TuckerCore

    def __init__(
        self,
        matrices: Matrices,
        outer: OuterFactors,
        core: TuckerCore,
        first: int,
        *,
        owns_outer: bool,
        scale: float,
        dropout: float,
    ) -> None:
        """Wrap a layer whose matrices have the indices from ``first`` on; the first owns the core."""
        super().__init__(matrices, outer, owns_outer, scale, dropout)
        self.first = first
        self.share("core", core, is_owner=first == 0)

    def inner(self) -> Tensor:
        """Return S_m, (ins * outs, r, r)."""
        found: Tensor = self.core(self.first, self.ins * self.outs)
        return found


class TensorTrainLinear(FacTLinear):
    """A layer with its own inner matrices (FacT-TT).

    Attributes:
        sigma: S_m (ins * outs, r, r). As ``nn.Linear`` at the start.
    """

    def __init__(
        self,
        matrices: Matrices,
        outer: OuterFactors,
        *,
        owns_outer: bool,
        scale: float,
        dropout: float,
    ) -> None:
        """Wrap a layer."""
        super().__init__(matrices, outer, owns_outer, scale, dropout)
        sigma = outer.u.new_empty(matrices.number, self.rank, self.rank)
        self.sigma = nn.Parameter(sigma)
        bound = 1 / math.sqrt(matrices.ins * self.rank)
        nn.init.uniform_(self.sigma, -bound, bound)

    def inner(self) -> Tensor:
        """Return S_m, (ins * outs, r, r)."""
        return self.sigma


class SharedByStage:
    """Makes U and V when a stage first asks for them: stages differ in their widths."""

    def __init__(self, rank: int) -> None:
        """Make them with ``rank``."""
        self._rank = rank
        self._made: dict[tuple[int, int], OuterFactors] = {}

    def __call__(self, matrices: Matrices) -> tuple[OuterFactors, bool]:
        """Return U and V of a layer's stage, and whether this is the first layer to ask for them."""
        key = (matrices.stage, matrices.width)
        if key in self._made:
            return self._made[key], False
        made = OuterFactors(matrices.base.weight.detach(), self._rank, matrices.width)
        self._made[key] = made
        return made, True


def check_fact(name: str, dropout: float) -> None:
    """Raise a ``ValueError`` if the dropout makes no sense."""
    if not 0 <= dropout < 1:
        raise ValueError(f"the dropout of {name} is at least 0 and below 1; got {dropout}")
