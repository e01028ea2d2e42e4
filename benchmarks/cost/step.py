"""The training step that is measured, and the penalties that are added to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import backbones
from benchmarks.cost.adapters import leave_start, make_method
from benchmarks.cost.spec import Variant
from benchmarks.harness.cell import Cell
from benchmarks.harness.seeding import seed_for
from benchmarks.harness.spec import Config
from resora import ReSoRA, literal
from resora.discovery import low_rank_layers
from resora.petl.base import Factors, LowRankLayer, Taps

Penalty = Callable[[], Tensor]


class TrainingStep:
    """One model, one batch and one optimizer, shared by all variants of a cell.

    A step is: gradients away, forward pass, loss, penalty, backward pass, optimizer.
    """

    def __init__(self, cell: Cell, config: Config, device: str) -> None:
        """Build the adapted model, on random images and labels."""
        self.config, self.device = config, torch.device(device)
        torch.manual_seed(seed_for("head", cell))
        classes = config["task"]["num_classes"]
        self.model, self.weights = backbones.build(config["backbone"], classes)
        method = make_method(**config["method"])
        self.head = backbones.head_of(config["backbone"]["name"])
        method.adapt(self.model, self.head)
        leave_start(self.model)
        self.model.to(self.device).train()
        torch.manual_seed(seed_for("noise", cell))
        batch = config["step"]["batch_size"]
        self.images = torch.randn(batch, 3, *self._image_size()).to(self.device)
        self.labels = torch.randint(classes, (batch,)).to(self.device)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        rate = config["optimizer"]["learning_rate"]
        self.optimizer = torch.optim.AdamW(self.trained, lr=rate, fused=True)

    def __call__(self, penalty: Penalty | None) -> None:
        """Make one step."""
        self.forget_gradients()
        self.loss(penalty).backward()
        self.optimizer.step()

    def forget_gradients(self) -> None:
        """Free the gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def loss(self, penalty: Penalty | None) -> Tensor:
        """Run the model forward; return the loss with the penalty."""
        is_half = self.config["step"]["precision"] == "bf16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=is_half):
            loss = functional.cross_entropy(self.model(self.images), self.labels)
        return loss if penalty is None else loss + penalty()

    def _image_size(self) -> tuple[int, int]:
        patches: Any = self.model.patch_embed
        height, width = patches.img_size
        return height, width

    @contextmanager
    def penalised(self, variant: Variant) -> Iterator[Penalty | None]:
        """Let the model's layers hand over what a variant needs, while inside the block."""
        if variant.form == "none":
            yield None
            return
        penalty: ReSoRA | LiteralPenalty
        if variant.form == "closed":
            penalty = closed_penalty(self.model, variant, self.config["penalty"])
        else:
            penalty = LiteralPenalty(self.model, variant, self.config["penalty"])
        try:
            yield penalty
        finally:
            penalty.close()

    @property
    def tokens(self) -> int:
        """How many tokens an image becomes, a class token among them."""
        vit: Any = self.model
        return int(vit.patch_embed.num_patches + vit.num_prefix_tokens)

    def activations(self) -> list[tuple[LowRankLayer, Tensor]]:
        """Return the low-rank layers with their activations in a forward pass, (M, B, T, r)."""
        layers = low_rank_layers(self.model)
        found: dict[str, Tensor] = {}
        handles = [layer.tap(partial(found.__setitem__, name)) for name, layer in layers.items()]
        with torch.no_grad():
            self.loss(None)
        for handle in handles:
            handle.remove()
        return [(layer, found[name]) for name, layer in layers.items()]


def closed_penalty(model: nn.Module, variant: Variant, config: dict[str, Any]) -> ReSoRA:
    """Return the library's penalty, as a user would make it."""
    options = {"fraction": config["fraction"]} if variant.penalty == "nonlinear" else {}
    return ReSoRA(model, variant.penalty, weight=config["weight"], sample=variant.sample, **options)


class LiteralPenalty:
    """A penalty as printed, of each adapted matrix in turn, on materialised features, in float32."""

    def __init__(self, model: nn.Module, variant: Variant, config: dict[str, Any]) -> None:
        """Listen to the activations and the inputs of the low-rank layers of a model."""
        self.variant, self.config = variant, config
        self.layers = low_rank_layers(model)
        self._z: dict[str, Tensor] = {}
        self._x: dict[str, Tensor] = {}
        self._handles = []
        for name, layer in self.layers.items():
            self._handles.append(layer.tap(partial(self._z.__setitem__, name)))
            if variant.form == "maps":
                keep = partial(self._keep_input, name)
                self._handles.append(model.get_submodule(name).register_forward_pre_hook(keep))

    def __call__(self) -> Tensor:
        """Return the weighted mean over matrices, of the forward pass just made."""
        values = []
        for name, layer in self.layers.items():
            z, x, factors = self._z.pop(name), self._x.pop(name, None), layer.factors()
            assert factors is not None
            with torch.autocast(z.device.type, enabled=False):
                values += [
                    self._value(dh)
                    for dh in _features(z, x, factors, by_image=self.variant.sample == "image")
                ]
        weight: float = self.config["weight"]
        return weight * torch.stack(values).mean()

    def close(self) -> None:
        """Stop listening."""
        for handle in self._handles:
            handle.remove()

    def _keep_input(self, name: str, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._x[name] = inputs[0]

    def _value(self, dh: Tensor) -> Tensor:
        match self.variant.penalty:
            case "euclidean":
                return literal.euclidean(dh, self.config["literal_beta"])
            case "cosine":
                return literal.cosine(dh)
            case "linear":
                return literal.linear(dh)
        return literal.nonlinear(dh, self.config["fraction"])


def _features(z: Tensor, x: Tensor | None, factors: Factors, *, by_image: bool) -> Iterator[Tensor]:
    """Yield the features (r, d, N) of each adapted matrix.

    Args:
        z: Activations, (M, B, T, r).
        x: The layer's input, (B, T, d_in), to apply materialised maps to; None takes ``z``.
        factors: The layer's factors.
        by_image: Whether a sample is the mean over an image's tokens.
    """
    directions = factors.scale * factors.b
    for index, b in enumerate(directions):
        if x is None:
            samples = z[index].float().mean(1) if by_image else z[index].float().flatten(0, 1)
            yield literal.features(samples, b)
            continue
        assert factors.a is not None
        dh = literal.features_from_maps(x.float().flatten(0, 1), factors.a[index], b)
        yield dh.unflatten(-1, x.shape[:2]).mean(-1) if by_image else dh


class Replay(nn.Module):
    """Stands for a low-rank layer: hands over activations that were captured before.

    With it, a penalty is measured alone, on a real step's activations and directions.
    """

    def __init__(self, layer: LowRankLayer, z: Tensor) -> None:
        super().__init__()
        self.z = z.detach().clone().requires_grad_()
        self._factors = layer.factors
        self._taps = Taps()

    def forward(self) -> None:
        """Hand over the activations."""
        self._taps(self.z)

    def tap(self, record: Callable[[Tensor], None]) -> Any:
        """Hand z to ``record`` in each forward pass."""
        return self._taps.add(record)

    def factors(self) -> Factors | None:
        """Return the factors of the layer."""
        return self._factors()


class OwnCost:
    """A closed penalty's own forward and backward pass, down to z and b.

    Its gradients are added to those that are there, as they are in a step.
    """

    def __init__(self, step: TrainingStep, variant: Variant) -> None:
        """Capture activations from one forward pass."""
        self._layers = nn.ModuleList(Replay(*found) for found in step.activations())
        self._penalty = closed_penalty(self._layers, variant, step.config["penalty"])

    def __call__(self) -> None:
        """Compute the penalty and its gradients."""
        for layer in self._layers:
            layer()
        self._penalty().backward()
