"""Image-text retrieval as the two-stage trainer sees it: batches of pairs, hinge loss, recalls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.flickr30k import bert, data
from benchmarks.flickr30k.augment import Ragged, changed_words, dropped_regions, padded
from benchmarks.flickr30k.loss import collapsed_loss, hinge_loss
from benchmarks.flickr30k.model import VSE, Batch, Head
from benchmarks.flickr30k.pooling import valid_elements
from benchmarks.harness.context import Context
from benchmarks.harness.errors import UsageError
from benchmarks.harness.spec import Config
from benchmarks.training.classification import weight_files
from benchmarks.training.data import manifest_of
from benchmarks.training.retrieval import RANKS, STRICT, both_ways
from benchmarks.training.trainer import Plan, Problem

DIRECTIONS = ("i2t", "t2i")
METRICS = (
    "rsum",
    *(f"{way}_r{k}" for way in DIRECTIONS for k in RANKS),
    *(f"{way}_medr" for way in DIRECTIONS),
)

EVALUATED_IMAGES, EVALUATED_CAPTIONS = 256, 512
"""So many are encoded at a time."""

PROBE_CAPTIONS = 256
"""Training captions on which redundancy is measured: the same for all methods."""

PREFETCHED = 2
"""Batches that are read and augmented ahead of the one that a GPU computes on."""

AT_THE_END, IN_A_ROW = 0.01, 0.005
PATIENCE = 3
ALIKE = 1 / 40
"""A run has collapsed if its loss under the hardest negatives is that of embeddings that are all alike,
within 1 % at the end or within 0.5 % in three epochs in a row, and the similarities in a batch have a
standard deviation below so many margins. The loss alone does not tell: a good run comes by it on its way
down, since the hardest of many negatives starts above the positive."""


class Pairs(Problem):
    """What does not need any data: the model, the loss, the signs of a collapse."""

    metric = METRICS[0]
    metrics = METRICS
    head = "head"

    def __init__(self, config: Config, context: Context, region_width: int) -> None:
        """Set up; ``region_width``: dimensions of a region's features."""
        self.config, self.context = config, context
        self.device = context.device
        self.region_width = region_width
        self.batch_size: int = config["stage1"]["batch_size"]
        self.margin: float = config["loss"]["margin"]
        self.chance_loss = collapsed_loss(self.batch_size, self.margin)
        self.is_hardest = True
        self.warm_epochs = 0
        self.spreads: list[Tensor] = []

    @property
    def counted(self) -> dict[str, tuple[str, ...]]:
        """What is trained besides the method's own; published counts leave the image encoder out."""
        projects = "out_features" not in self.config["method"]
        text = ("head.pool", "head.projection") if projects else ("head.pool",)
        return {"head_params": text, "image_encoder_params": ("head.image",)}

    def build(self) -> nn.Module:
        """Return the pre-trained BERT with a fresh head and image encoder, on the device."""
        text = self.backbone()
        name, model = self.config["backbone"]["name"], self.config["model"]
        head = Head(
            regions=self.region_width,
            hidden=model["hidden"],
            text=bert.text_named(name).width,
            width=model["width"],
            projects="out_features" not in self.config["method"],
        )
        return VSE(text, head).to(self.device)

    def backbone(self) -> nn.Module:
        """Return the pre-trained BERT."""
        text, self.weights = bert.build(self.config["backbone"], weight_files(self.context))
        return text

    def start_epoch(self, epoch: int, plan: Plan) -> None:
        """Count all negatives in the first epochs, and from then on the hardest."""
        self.warm_epochs = plan.warm_epochs
        self.is_hardest = epoch >= plan.warm_epochs
        self.spreads.clear()

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the hinge loss, summed over the batch."""
        self.mask = self.valid_pieces(batch)
        images, texts = model(batch)
        # In float32 also under autocast: a margin of 0.2 is few of bfloat16's steps.
        with torch.autocast(images.device.type, enabled=False):
            scores = images.float() @ texts.float().T
        self.spreads.append(scores.detach().std())
        return hinge_loss(scores, margin=self.margin, hardest=self.is_hardest)

    def valid_pieces(self, batch: Batch) -> Tensor:
        """Return which places of the captions hold a word piece, (B, T) of bool."""
        return valid_elements(batch.piece_lengths, batch.pieces.shape[1]).to(batch.pieces.device)

    def why_diverged(self, losses: Sequence[float], *, is_last: bool) -> str | None:
        """Say that embeddings have become all alike, from the loss under the hardest negatives."""
        spread = torch.stack(self.spreads).mean().item() if self.spreads else 0.0
        if spread > ALIKE * self.margin:
            return None
        off = [abs(loss / self.chance_loss - 1) for loss in losses[self.warm_epochs :]]
        if is_last and off and off[-1] <= AT_THE_END:
            when = f"ended at {losses[-1]:.4g}"
        elif len(off) >= PATIENCE and max(off[-PATIENCE:]) <= IN_A_ROW:
            when = f"stayed at {losses[-1]:.4g} for {PATIENCE} epochs"
        else:
            return None
        return (
            f"collapsed: the loss under the hardest negatives {when}; embeddings that are all alike have "
            f"{self.chance_loss:.4g} (2 x batch x margin = 2 x {self.batch_size} x {self.margin:g}), and "
            f"similarities in a batch have a standard deviation of {spread:.1g}"
        )

    def on_device(self, batch: Batch) -> Batch:
        """Move the inputs to the device; lengths stay on the CPU."""
        is_gpu = self.device.startswith("cuda")
        regions = batch.regions.pin_memory() if is_gpu else batch.regions
        pieces = batch.pieces.pin_memory() if is_gpu else batch.pieces
        return batch._replace(
            regions=regions.to(self.device, non_blocking=True),
            pieces=pieces.to(self.device, non_blocking=True),
        )


class ImageTextRetrieval(Pairs):
    """Captions and their images, augmented in training; recalls in both directions on dev and test."""

    def __init__(self, config: Config, context: Context) -> None:
        """Open the splits that the configuration names.

        Raises:
            UsageError: Data are not there, of another vocabulary, or too long for the backbone.
        """
        names = config["data"]
        self.folder = data.require(context.data, names["variant"])
        self.special = data.special_of(self.folder)
        self.pieces = _check_vocabulary(self.folder, config["backbone"]["name"])
        self.train = data.load_split(self.folder, names["train"], limit=names["limit_train"])
        self.val = data.load_split(self.folder, names["val"], limit=names["limit_test"])
        self.test = data.load_split(self.folder, names["test"], limit=names["limit_test"])
        for split in (self.train, self.val, self.test):
            _check_lengths(split.captions, config["backbone"]["name"])
        width = manifest_of(self.folder)["splits"][names["train"]]["dim"]
        super().__init__(config, context, width)
        self.ties = dict.fromkeys(DIRECTIONS, 0)
        if len(self.train.captions) < self.batch_size:
            raise UsageError(
                f"{len(self.train.captions)} training captions do not fill one batch of "
                f"{self.batch_size} (training.batch_size)"
            )

    @property
    def steps(self) -> int:
        """How many batches an epoch has."""
        return len(self.train.captions) // self.batch_size

    def batches(self, seed: int) -> Iterator[Batch]:
        """Iterate shuffled, augmented batches; what does not fill a batch is dropped."""
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.train.captions), generator=generator)
        parts = order.split(self.batch_size)[: self.steps]
        jobs = [(index, seed * self.steps + step) for step, index in enumerate(parts)]
        if not self.device.startswith("cuda"):
            for index, noise in jobs:
                yield self.training_batch(index, noise)
            return
        with ThreadPoolExecutor(1) as reader:
            ahead = [reader.submit(self.training_batch, *job) for job in jobs[:PREFETCHED]]
            for step in range(self.steps):
                batch = ahead.pop(0).result()
                if step + PREFETCHED < self.steps:
                    ahead.append(reader.submit(self.training_batch, *jobs[step + PREFETCHED]))
                yield self.on_device(batch)

    def training_batch(self, index: Tensor, seed: int) -> Batch:
        """Return the pairs of chosen captions, augmented by what ``seed`` draws; on the CPU."""
        rates = self.config["augment"]
        generator = torch.Generator().manual_seed(seed % 2**63)
        rows = self.train.captions.image[index]
        regions, numbers = dropped_regions(
            self.train.features.take(rows), generator, rate=rates["region_rate"]
        )
        captions = changed_words(
            self.train.captions.take(index),
            generator,
            rate=rates["word_rate"],
            special=self.special,
            size=self.pieces,
        )
        return Batch(regions, numbers, *padded(captions, self.special))

    def evaluate(self, model: nn.Module) -> dict[str, float | None]:
        """Return recalls, their sum and median ranks of both directions, on dev and test."""
        found: dict[str, float | None] = {}
        for name, split in (("val", self.val), ("test", self.test)):
            values = self._recalls(model, split, name)
            found |= {f"{name}_{metric}": values[metric] for metric in (*self.metrics, STRICT)}
        self.ties = {way: int(values[f"{way}_ties"]) for way in DIRECTIONS}
        return found

    def probe(self, model: nn.Module) -> None:
        """Run BERT forward on the captions on which redundancy is measured."""
        count = min(PROBE_CAPTIONS, len(self.train.captions))
        batch = self._captions(self.train.captions.take(torch.arange(count)))
        model.eval()
        with torch.inference_mode():
            self.mask = self.valid_pieces(batch)
            model.texts(batch.pieces, batch.piece_lengths)  # type: ignore[operator]

    def counts(self) -> dict[str, Any]:
        """Return how many examples are meant and seen, and how many test queries have a tied rank."""
        return {
            "n_train": len(self.train.captions),
            "n_train_images": len(self.train.images),
            "n_seen_per_epoch": self.steps * self.batch_size,
            "n_val": len(self.val.captions),
            "n_val_images": len(self.val.images),
            "n_test": len(self.test.captions),
            "n_test_images": len(self.test.images),
            "n_evaluated": len(self.test.captions),
            **{f"ties_{way}": ties for way, ties in self.ties.items()},
            "limit_train": self.config["data"]["limit_train"],
            "limit_test": self.config["data"]["limit_test"],
        }

    def fingerprint(self) -> dict[str, Any]:
        """Return what identifies the data."""
        return data.fingerprint(self.folder)

    def _recalls(self, model: nn.Module, split: data.Split, name: str) -> dict[str, float]:
        images = torch.cat(list(self._image_vectors(model, split)))
        texts = self._text_vectors(model, split.captions)
        with torch.autocast(images.device.type, enabled=False):
            owner = split.owner.to(self.device)
            return both_ways(images.float(), texts.float(), owner, DIRECTIONS, place=name)

    def _image_vectors(self, model: Any, split: data.Split) -> Iterator[Tensor]:
        for rows in split.images.split(EVALUATED_IMAGES):
            regions = split.features.take(rows).to(self.device)
            yield model.images(regions, torch.full((len(rows),), regions.shape[1]))

    def _text_vectors(self, model: Any, captions: data.Captions) -> Tensor:
        # In the order of their lengths: blocks have hardly any padding.
        order = captions.lengths().argsort()
        found = []
        for index in order.split(EVALUATED_CAPTIONS):
            batch = self._captions(captions.take(index))
            found.append(model.texts(batch.pieces, batch.piece_lengths))
        return torch.cat(found)[order.argsort().to(self.device)]

    def _captions(self, captions: Ragged) -> Batch:
        pieces, lengths = padded(captions, self.special)
        nothing = torch.empty(0)
        return Batch(nothing, nothing, pieces.to(self.device), lengths)


def _check_vocabulary(folder: Any, backbone: str) -> int:
    """Return the size of the vocabulary, if it is the backbone's."""
    said = manifest_of(folder)["tokenizer"]
    expected = bert.text_named(backbone).pieces
    if said["size"] != expected:
        raise UsageError(
            f"the captions in {folder} are pieces of {said['name']} ({said['size']} of them), {backbone} has "
            f"{expected}: prepare them again (python -m data_prep prepare flickr30k --help)"
        )
    return expected


def _check_lengths(captions: data.Captions, backbone: str) -> None:
    longest, most = int(captions.lengths().max()) + 2, bert.text_named(backbone).longest
    if longest > most:
        raise UsageError(
            f"a caption has {longest} pieces, {backbone} takes {most}: python -m data_prep verify"
        )
