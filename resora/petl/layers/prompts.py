"""Trained tokens, or trained keys and values, that the tokens of an input attend to.

VPT-deep puts prompts before every block and discards their outputs after it. The prompts act only as keys and
values, those of p tokens that are the same for every input. So only the attention changes, as for a prefix,
whose keys and values are trained directly. The outputs are those of the concatenation, but no prompt passes
through a query, an output projection or an MLP, the hidden states keep their shape, and masks need more
columns only. In VPT-shallow the outputs of the prompts are the prompts of the next block, so they join the
sequence.
"""

from __future__ import annotations

import inspect
import math
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from resora.backbones import Backbone, Block, Tower

TEXT_STD = 0.02


def check_prompts(name: str, tokens: int, dropout: float = 0.0) -> None:
    """Raise a ``ValueError`` unless there is a token or more, and a dropout in [0, 1)."""
    if isinstance(tokens, bool) or tokens != int(tokens) or tokens < 1:
        raise ValueError(f"{name} has one token or more; got {tokens}")
    if not 0 <= dropout < 1:
        raise ValueError(f"the dropout of {name} lies in [0, 1); got {dropout}")


def check_more_tokens(name: str, model: nn.Module, tower: Tower) -> None:
    """Raise a ``ValueError`` unless the tower's blocks take any number of tokens."""
    if not tower.takes_more_tokens:
        raise ValueError(
            f"{name} adds tokens, and the blocks of {type(model.get_submodule(tower.path)).__name__} have "
            "positions of their own (relative or rotary) or need the grid of patches"
        )


def like(model: nn.Module, block: Block) -> Tensor:
    """Return a weight of the block's attention, for its device and type."""
    return cast(Tensor, model.get_submodule(block.attention[0].path).weight)


@torch.no_grad()
def init_prompts(prompts: Tensor, model: nn.Module, tower: Tower) -> None:
    """Draw prompts as VPT does, U(-v, v), and those of text as CoOp and MaPLe do, N(0, 0.02^2).

    v = sqrt(6 / (3 p^2 + d)) with the size p of a patch and the width d of its embedding, which Swin's
    later stages share: Xavier's bound for the convolution that embeds patches.
    """
    if tower.embedding is None:
        nn.init.normal_(prompts, std=TEXT_STD)
        return
    weight = cast(Tensor, model.get_submodule(tower.embedding).weight)
    bound = math.sqrt(6 / (weight[0].numel() + tower.blocks[0].width))
    nn.init.uniform_(prompts, -bound, bound)


class Prompts(nn.Module):
    """The prompts of one block, or of the whole of VPT-shallow.

    Attributes:
        tokens: (p, d).
    """

    def __init__(self, tokens: Tensor, dropout: float, *, each_input: bool = True) -> None:
        """Hold ``tokens`` (p, d).

        Args:
            tokens: The values at the start.
            dropout: Of the prompts' values, in training.
            each_input: Drop other values for each input; else the same for a whole batch.
        """
        super().__init__()
        self.tokens = nn.Parameter(tokens)
        self.dropout = nn.Dropout(dropout)
        self.each_input = each_input

    def forward(self, batch: int) -> Tensor:
        """Return (B, p, d), or (1, p, d) where all inputs have the same."""
        tokens = self.tokens.unsqueeze(0)
        if self.each_input and self.training and self.dropout.p > 0:
            tokens = tokens.expand(batch, -1, -1)
        dropped: Tensor = self.dropout(tokens)
        return dropped


class PromptKeys(nn.Module):
    """The keys and values of prompts: what VPT-deep adds to an attention."""

    def __init__(self, prompts: Prompts, norm: nn.Module | None) -> None:
        """Hold prompts.

        Args:
            prompts: The prompts of one block.
            norm: The block's LayerNorm before the attention; None where it comes after (BERT).
        """
        super().__init__()
        self.prompts = prompts
        # In a tuple, because the norm belongs to the block and must not be registered here again.
        self._norm = () if norm is None else (norm,)

    def forward(self, attention: ExtendedAttention, batch: int) -> tuple[Tensor, Tensor]:
        """Return the keys and values in heads, (B or 1, H, p, d / H) each."""
        tokens = self.prompts(batch)
        for norm in self._norm:
            tokens = norm(tokens)
        _, keys, values = attention.project(tokens)
        return keys, values


class ExtendedAttention(nn.Module):
    """An attention with additional keys and values, placed before those of the tokens.

    Masks, dropout and what comes after are the original's; the product itself is torch's.

    Attributes:
        base: The original module.
        extra: Returns the additional keys and values.
    """

    knows: ClassVar[tuple[str, ...]] = ()

    def __init__(self, base: nn.Module, extra: nn.Module, heads: int) -> None:
        """Wrap ``base``.

        Args:
            base: The attention.
            extra: Called with this module and the size of the batch, it returns keys and values in heads.
            heads: Number of heads.

        Raises:
            ValueError: The attention takes an argument that is not known here, such as rotary embeddings.
        """
        super().__init__()
        taken = inspect.signature(base.forward).parameters
        if self.knows and (unknown := [name for name in taken if name not in self.knows]):
            raise ValueError(
                f"prompts and prefixes do not know {type(base).__name__}, whose forward takes "
                f"{', '.join(unknown)}"
            )
        self.base: Any = base
        self.extra = extra
        self.heads = heads

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the queries, keys and values of (B, T, d) in heads, (B, H, T, d / H) each."""
        raise NotImplementedError

    def in_heads(self, x: Tensor) -> Tensor:
        """Split (B, T, d) into (B, H, T, d / H)."""
        parted: Tensor = x.unflatten(-1, (self.heads, -1)).transpose(-2, -3)
        return parted

    def attend(
        self, x: Tensor, mask: Tensor | None, dropout: float, *, is_causal: bool = False
    ) -> Tensor:
        """Return the result of the attention, (B, T, d), before the output projection.

        Args:
            x: The attention's input.
            mask: (..., T, T), boolean (true: visible) or added to the scores; None: all is visible.
            dropout: Of the attention's weights, in training.
            is_causal: Without a mask: a token sees those before it and itself.
        """
        q, k, v = self.project(x)
        keys, values = self.extra(self, len(q))
        k = torch.cat((keys.to(k.dtype).expand(len(k), -1, -1, -1), k), dim=-2)
        v = torch.cat((values.to(v.dtype).expand(len(v), -1, -1, -1), v), dim=-2)
        wide = self.widened(mask, q, keys.shape[-2], is_causal)
        rate = dropout if self.training else 0.0
        out: Tensor = functional.scaled_dot_product_attention(q, k, v, wide, dropout_p=rate)
        return out.transpose(-2, -3).flatten(-2)

    def widened(self, mask: Tensor | None, q: Tensor, extra: int, is_causal: bool) -> Tensor | None:
        """Extend the mask by ``extra`` keys at the start that every query sees."""
        if mask is not None:
            if mask.dtype == torch.bool:
                return functional.pad(mask, (extra, 0), value=True)
            return functional.pad(mask.to(q.dtype), (extra, 0))
        if not is_causal:
            return None
        tokens = q.shape[-2]
        return torch.ones(tokens, extra + tokens, dtype=torch.bool, device=q.device).tril(extra)


class FusedAttention(ExtendedAttention):
    """timm's attention of vision transformers, with a fused ``qkv``."""

    knows: ClassVar[tuple[str, ...]] = ("x", "attn_mask", "is_causal")

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the queries, keys and values in heads, normalised where the model does that."""
        q, k, v = self.base.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        # The queries are copied, since a view would keep the whole fused output until the backward pass. Keys
        # and values are copied in any case, when they are joined with the additional ones.
        return self._maybe("q_norm", q).contiguous(), self._maybe("k_norm", k), v

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Attend: (B, T, d) to (B, T, d)."""
        out = self.attend(x, attn_mask, self.base.attn_drop.p, is_causal=is_causal)
        out = self._maybe("norm", out)
        if getattr(self.base, "gate", None) is not None:
            out = out * self.base.gate(x).sigmoid()
        projected: Tensor = self.base.proj_drop(self.base.proj(out))
        return projected

    def _maybe(self, name: str, x: Tensor) -> Tensor:
        """Apply a part that some models and some versions of timm have."""
        part = getattr(self.base, name, None)
        return x if part is None else part(x)


class WindowedAttention(FusedAttention):
    """timm's attention in the windows of Swin; additional keys have no relative position (bias zero)."""

    knows = ("x", "mask")

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Attend in windows: (B * windows, T, d) to the same; mask (windows, T, T) of shifted ones."""
        bias: Tensor = self.base._get_rel_pos_bias()
        if mask is not None:
            bias = bias + mask.unsqueeze(1)
        out = self.attend(x, bias, self.base.attn_drop.p)
        projected: Tensor = self.base.proj_drop(self.base.proj(out))
        return projected

    def widened(self, mask: Tensor | None, q: Tensor, extra: int, is_causal: bool) -> Tensor | None:
        """Widen the mask of each window, (1 or windows, H, T, T), and repeat it for each image."""
        wide = super().widened(mask, q, extra, is_causal)
        if wide is None or len(wide) == 1:
            return wide
        return wide.repeat(len(q) // len(wide), 1, 1, 1)


class SeparateAttention(ExtendedAttention):
    """The attention of CLIP and BERT in transformers, with three projections; it returns no weights."""

    projections: ClassVar[tuple[str, str, str]]

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the queries, keys and values in heads."""
        q, k, v = (self.in_heads(getattr(self.base, name)(x)) for name in self.projections)
        return q, k, v

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> tuple[Tensor, None]:
        """Attend: (B, T, d) to (B, T, d), and None for the weights.

        Raises:
            ValueError: The mask is not one of attention implementations ``sdpa`` and ``eager``, or
                there is a cache of keys and values.
        """
        for name in ("past_key_values", "causal_attention_mask"):
            if kwargs.get(name) is not None:
                raise ValueError(f"prompts and prefixes do not know `{name}`")
        if attention_mask is not None and getattr(attention_mask, "ndim", 0) != 4:
            raise ValueError(
                "prompts and prefixes need a mask with a row for each token: load the model with "
                'attn_implementation="sdpa" or "eager"'
            )
        is_causal = kwargs.get("is_causal")
        if is_causal is None:
            is_causal = getattr(self.base, "is_causal", False)
        dropout = self.base.dropout
        rate = dropout.p if isinstance(dropout, nn.Module) else dropout
        out = self.attend(hidden_states, attention_mask, cast(float, rate), is_causal=is_causal)
        return self.finish(out), None

    def finish(self, out: Tensor) -> Tensor:
        """Apply the output projection, where it belongs to this module."""
        return out


class CLIPAttention(SeparateAttention):
    """CLIP's attention, which has its output projection."""

    projections = ("q_proj", "k_proj", "v_proj")

    def finish(self, out: Tensor) -> Tensor:
        """Apply the output projection."""
        projected: Tensor = self.base.out_proj(out)
        return projected


class BertAttention(SeparateAttention):
    """BERT's attention; the output projection comes after it."""

    projections = ("query", "key", "value")


def extend_attention(model: nn.Module, block: Block, extra: nn.Module) -> None:
    """Let the attention of ``block`` see the keys and values of ``extra``.

    Raises:
        ValueError: The attention is of a kind that is not known here.
    """
    path = cast(str, block.attention_core)
    core = model.get_submodule(path)
    kinds: tuple[tuple[str, type[ExtendedAttention]], ...] = (
        ("relative_position_bias_table", WindowedAttention),
        ("qkv", FusedAttention),
        ("q_proj", CLIPAttention),
        ("query", BertAttention),
    )
    kind = next(kind for name, kind in kinds if hasattr(core, name))
    if kind is BertAttention and (own := _unknown_children(core)):
        raise ValueError(f"prompts and prefixes do not know the {own[0]} of {type(core).__name__}")
    model.set_submodule(path, kind(core, extra, block.heads))


def _unknown_children(core: nn.Module) -> list[str]:
    """What BERT's attention has besides projections and dropout: convolutions, positions of its own."""
    known = (*BertAttention.projections, "dropout")
    return [name for name, _ in core.named_children() if name not in known]


def norm_before(model: nn.Module, backbone: Backbone, block: Block) -> nn.Module | None:
    """Return the LayerNorm before the block's attention; None where it comes after it (BERT)."""
    is_after = block.norms[0].endswith("attention.output.LayerNorm")
    return None if is_after else model.get_submodule(block.norms[0])


class PromptedBlock(nn.Module):
    """A block of a tower through which prompts pass, before the tokens.

    Their position does not matter for the class token, since attention without a mask has no order. In a
    causal tower all tokens come after them, and see them.

    Attributes:
        base: The block.
        prompts: The prompts, in the first block; None in the others.
    """

    def __init__(
        self, base: nn.Module, count: int, prompts: Prompts | None, *, is_last: bool
    ) -> None:
        """Wrap ``base``.

        Args:
            base: The block.
            count: Number p of prompts.
            prompts: The prompts, for the first block.
            is_last: Take the prompts away after it.
        """
        super().__init__()
        self.base = base
        self.count = count
        self.prompts = prompts
        self.is_last = is_last

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Map (B, T, d), or (B, p + T, d) after the first block, to (B, p + T, d), at last (B, T, d)."""
        if self.prompts is not None:
            x = torch.cat((self.prompts(len(x)).to(x.dtype).expand(len(x), -1, -1), x), dim=1)
        is_causal = bool(kwargs.get("is_causal"))
        for name in ("attention_mask", "attn_mask"):
            if isinstance(mask := kwargs.get(name), Tensor):
                kwargs[name] = _enlarged(mask, self.count, is_causal)
        # transformers passes the mask by position.
        if args and isinstance(args[0], Tensor):
            args = (_enlarged(args[0], self.count, is_causal), *args[1:])
        out: Tensor = self.base(x, *args, **kwargs)
        return out[:, self.count :] if self.is_last else out


def _enlarged(mask: Tensor, extra: int, is_causal: bool) -> Tensor:
    """Extend a mask (..., T, T) by ``extra`` tokens at the start, which all tokens see.

    In a causal tower a prompt sees the prompts before it; otherwise it sees all tokens but padding.
    """
    if mask.ndim < 3:
        raise ValueError(
            "prompts need a mask with a row for each token: load the model with "
            'attn_implementation="sdpa" or "eager"'
        )
    is_boolean = mask.dtype == torch.bool
    visible, hidden = (True, False) if is_boolean else (0.0, torch.finfo(mask.dtype).min)
    wide = functional.pad(mask, (extra, 0), value=visible)
    if mask.shape[-2] == 1:
        return wide
    if is_causal:
        order = torch.ones(extra, wide.shape[-1], dtype=torch.bool, device=mask.device).tril()
        rows = order if is_boolean else mask.new_zeros(order.shape).masked_fill(~order, hidden)
        rows = rows.expand(*wide.shape[:-2], -1, -1)
    else:
        seen = wide.any(-2, keepdim=True) if is_boolean else wide.amax(-2, keepdim=True)
        rows = seen.expand(*wide.shape[:-2], extra, -1)
    return torch.cat((rows, wide), dim=-2)
