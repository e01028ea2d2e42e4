"""Side networks: they read the hidden states of a frozen tower and replace one of its outputs.

Everything happens in hooks, so that the tower keeps its modules and the names of its parameters. Nothing that
is trained comes before or inside of the tower's blocks: autograd neither records nor saves anything in them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from resora.backbones import Tower

Read = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], Tensor | None]
"""Takes a tower and the arguments of its call; returns what the side network has to know of the input."""


class _Pass:
    """The state of the current forward pass."""

    def __init__(self) -> None:
        self.states: list[Tensor] = []
        self.read: Tensor | None = None

    def start(self) -> None:
        self.states.clear()
        self.read = None

    # A copy of a model, also one in a file, is in no forward pass.
    def __reduce__(self) -> tuple[type[_Pass], tuple[()]]:
        return _Pass, ()


class SideNetwork(nn.Module, ABC):
    """A network beside a frozen tower.

    It sees the L + 1 hidden states of L blocks: the input of the first one and the output of each. In
    training mode the frozen blocks behave as in any training, as they do in the public code: their dropout
    and stochastic depth are in the hidden states. To switch both off, put the blocks in ``eval`` mode.

    Attributes:
        exit_path: Dotted name of the module whose output is replaced; empty before ``attach``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._pass = _Pass()
        self._read: Read | None = None
        self._expected = 0
        self.exit_path = ""

    @abstractmethod
    def forward(self, states: list[Tensor], output: Tensor, read: Tensor | None) -> Tensor:
        """Return the tensor that replaces the frozen output.

        Args:
            states: The hidden states, each (B, T, d).
            output: The frozen output.
            read: What was read from the tower's input, such as the mask of its valid tokens; None: nothing.
        """

    def attach(
        self, model: nn.Module, tower: Tower, name: str, exit_path: str, read: Read | None = None
    ) -> None:
        """Attach the side network to ``model``.

        Args:
            model: The model.
            tower: The tower whose hidden states are read.
            name: The name of the side network in the tower's module.
            exit_path: The module whose output is replaced; it comes after the last block, or is that block.
            read: Reads what the side network has to know of the tower's input, before each forward pass.
        """
        parameter = next(model.get_submodule(tower.blocks[0].path).parameters())
        self.to(device=parameter.device, dtype=parameter.dtype)
        self._read = read
        self.exit_path = exit_path
        self._expected = len(tower.blocks) + 1
        root = model.get_submodule(tower.path)
        root.register_forward_pre_hook(self._start, with_kwargs=True)
        blocks = [model.get_submodule(block.path) for block in tower.blocks]
        blocks[0].register_forward_pre_hook(self._take_input, with_kwargs=True)
        for block in blocks:
            block.register_forward_hook(self._take_output)
        model.get_submodule(exit_path).register_forward_hook(self._replace)
        root.add_module(name, self)

    def _start(self, root: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._pass.start()
        if self._read is not None:
            self._pass.read = self._read(root, args, kwargs)

    def _take_input(self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # A tower can be entered without a call of its module (timm's `forward_features`).
        self._pass.states.clear()
        self._pass.states.append(args[0] if args else kwargs["hidden_states"])

    def _take_output(self, block: nn.Module, args: Any, output: Any) -> None:
        self._pass.states.append(_tensor(output))

    def seen(self) -> tuple[list[Tensor], Tensor | None]:
        """Return the hidden states of the current pass, and what was read from the tower's input."""
        return list(self._pass.states), self._pass.read

    def replay(self, states: Sequence[Tensor]) -> None:
        """Use hidden states that were kept from an earlier pass as those of the current pass.

        Args:
            states: L + 1 of them, each (B, T, d); the tower's input is unknown.
        """
        self._pass.start()
        self._pass.states.extend(states)

    def _replace(self, module: nn.Module, args: Any, output: Any) -> Any:
        return self.replace(output)

    def replace(self, output: Any) -> Any:
        """Return the tensor that replaces the frozen output, from the hidden states of this pass.

        Raises:
            RuntimeError: There are more or fewer of them than there should be.
        """
        states, read = list(self._pass.states), self._pass.read
        self._pass.start()
        if len(states) != self._expected:
            raise RuntimeError(
                f"{type(self).__name__} has seen {len(states)} hidden states, not {self._expected}: every "
                "block has to run once before the output that is replaced, without gradient checkpointing"
            )
        frozen = _tensor(output)
        return _replaced(output, self(states, frozen, read).to(frozen.dtype))


def padding_mask(root: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """Read the valid tokens, (B, T) of bool, from the arguments of a BERT; None where all are valid.

    Raises:
        ValueError: The attention mask says more than which tokens are padding.
    """
    del root
    mask: Tensor | None = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
    if mask is None:
        return None
    if mask.ndim != 2:
        raise ValueError(
            f"a side network needs an attention mask of shape (B, T); got {tuple(mask.shape)}"
        )
    return mask != 0


def end_of_text(root: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Read the position of the end-of-text token, (B,), from the arguments of CLIP's text tower.

    Two rules, as in transformers: where a configuration names token 2, as those of the first checkpoints
    wrongly do, it is the token with the highest number.
    """
    ids: Tensor = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
    ids = ids.view(-1, ids.shape[-1])
    end = getattr(root, "eos_token_id", 2)
    return ids.argmax(-1) if end == 2 else (ids == end).int().argmax(-1)


def _tensor(output: Any) -> Tensor:
    """The hidden states in a module's output, of whatever form that is."""
    if isinstance(output, Tensor):
        return output
    found: Tensor = output[0] if isinstance(output, tuple) else output.last_hidden_state
    return found


def _replaced(output: Any, tensor: Tensor) -> Any:
    """``output`` with the hidden states replaced."""
    if isinstance(output, Tensor):
        return tensor
    if isinstance(output, tuple):
        return (tensor, *output[1:])
    output.last_hidden_state = tensor
    return output
