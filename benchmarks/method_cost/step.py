"""One method's training step; all methods share the storage of the weights that they freeze."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import backbones
from benchmarks.harness.cell import Cell
from benchmarks.harness.seeding import seed_for
from benchmarks.harness.spec import Config
from resora.backbones import describe
from resora.petl import Method, make_method

MEDIAN_SIZE = 5
"""Of NOAH's choices 1, 5 and 10: the measured model is a subnet as it is retrained, not the supernet."""


class Bench:
    """The plain backbone and the batch that all methods are given."""

    def __init__(self, cell: Cell, config: Config, device: str) -> None:
        """Build the backbone, random images and labels."""
        self.config, self.device = config, torch.device(device)
        self.head = backbones.head_of(config["backbone"]["name"])
        torch.manual_seed(seed_for("head", cell))
        classes = config["task"]["num_classes"]
        self.model, self.weights = backbones.build(config["backbone"], classes)
        self.model.to(self.device)
        patches: Any = self.model.patch_embed
        torch.manual_seed(seed_for("noise", cell))
        batch = config["step"]["batch_size"]
        self.images = torch.randn(batch, 3, *patches.img_size).to(self.device)
        self.labels = torch.randint(classes, (batch,)).to(self.device)

    def plain(self, *, is_shared: bool = True) -> nn.Module:
        """Return a model whose parameters are its own, and share their storage with all others."""
        if not is_shared:
            return copy.deepcopy(self.model)
        memo: dict[int, Any] = {id(p): nn.Parameter(p.data) for p in self.model.parameters()}
        return copy.deepcopy(self.model, memo)


class MethodStep:
    """A step: gradients away, forward pass, loss, the method's own term, backward pass, AdamW."""

    def __init__(self, bench: Bench, name: str) -> None:
        """Adapt a model by the method called ``name``."""
        self.bench, self.device = bench, bench.device
        self.images, self.labels = bench.images, bench.labels
        # SRLoRA changes the weights that it freezes.
        self.model = bench.plain(is_shared=not name.startswith("srlora"))
        options: dict[str, Any] = {}
        if name == "noah":
            sizes = [MEDIAN_SIZE] * len(describe(self.model).blocks)
            options["subnet"] = [sizes] * 3
        self.method: Method = make_method(name, **options)
        self.method.adapt(self.model, bench.head)
        self.model.to(self.device).train()
        for parameter in self.model.parameters():
            if parameter.requires_grad:  # trained parameters are not shared
                parameter.data = parameter.data.clone()
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        rate = bench.config["optimizer"]["learning_rate"]
        self.optimizer = torch.optim.AdamW(self.trained, lr=rate, fused=True)
        self.steps = 0

    def __call__(self, penalty: object = None) -> None:
        """Make one step."""
        del penalty
        self.forget_gradients()
        self.loss().backward()
        # In the middle of the method's training; the last steps are its own, which have no schedule left.
        at = self.steps, 10 * (self.steps + 1)
        self.method.before_step(self.model, *at)
        self.optimizer.step()
        self.method.after_step(self.model, *at, self.optimizer)
        self.steps += 1

    def loss(self) -> Tensor:
        """Run the model forward; return the loss."""
        self.method.before_forward(self.model, self.steps, 10 * (self.steps + 1))
        is_half = self.bench.config["step"]["precision"] == "bf16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=is_half):
            loss = functional.cross_entropy(self.model(self.images), self.labels)
        extra = self.method.extra_loss(self.model)
        return loss if extra is None else loss + extra

    def forget_gradients(self) -> None:
        """Free the gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def flops(self) -> tuple[int, int]:
        """Return the FLOPs of a forward pass, and of forward and backward pass."""
        counter = FlopCounterMode(display=False)
        with counter:
            self.forget_gradients()
            loss = self.loss()
            forward = counter.get_total_flops()
            loss.backward()
        self.forget_gradients()
        return forward, counter.get_total_flops()

    def trainable(self) -> tuple[int, int]:
        """Return the number of trained parameters without the head, and of the head."""
        head = {id(p) for p in self.model.get_submodule(self.bench.head).parameters()}
        of_head = sum(p.numel() for p in self.trained if id(p) in head)
        return sum(p.numel() for p in self.trained) - of_head, of_head
