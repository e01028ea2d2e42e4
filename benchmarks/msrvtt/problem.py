"""Video-text retrieval as the two-stage trainer sees it: batches of pairs, contrastive loss, recalls."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness.context import Context
from benchmarks.harness.errors import UsageError
from benchmarks.harness.spec import Config
from benchmarks.msrvtt import clip, data, processes
from benchmarks.msrvtt.features import AfterTowers, KeptSplit, is_cached, kept_split
from benchmarks.msrvtt.heads import make_head
from benchmarks.msrvtt.loss import LARGEST_SCALE, contrastive_loss
from benchmarks.msrvtt.model import Batch, CLIP4Clip, padded
from benchmarks.training.caching import Kept
from benchmarks.training.classification import weight_files
from benchmarks.training.data import manifest_of
from benchmarks.training.precision import Precision
from benchmarks.training.retrieval import RANKS, STRICT, both_ways, both_ways_of, check_ties
from benchmarks.training.trainer import Problem
from resora.petl import Method

DIRECTIONS = ("t2v", "v2t")
METRICS = (
    "rsum",
    *(f"{way}_r{k}" for way in DIRECTIONS for k in RANKS),
    *(f"{way}_medr" for way in DIRECTIONS),
)

PROBE_CAPTIONS = 64
"""Training captions, with their clips, on which redundancy is measured: the same for all methods."""

PREFETCHED = 2
"""Batches that are read ahead of the one that a GPU computes on."""

PRETRAINED, ADDED = "pretrained", "added"
"""The two groups of parameters: those of the checkpoint, and those that a method or a head adds."""

TEXT_LAYERS = "clip.text_model.*"


class Pairs(Problem):
    """What does not need any data: the model, the loss, the groups of parameters."""

    metric = METRICS[0]
    metrics = METRICS
    head = "head"

    def __init__(self, config: Config, context: Context) -> None:
        """Set up.

        Raises:
            UsageError: A learning rate is to be taken from what a method adds.
        """
        self.config, self.context = config, context
        self.device = context.device
        self.batch_size: int = config["stage1"]["batch_size"]
        self.chunk: int | None = config["training"]["chunk"]
        self.rule = check_ties(config["evaluation"]["ties"])
        self.chance_loss = math.log(self.batch_size)
        self._pretrained: set[int] = set()
        for stage in ("stage1", "stage2"):
            factors = config.get(stage, {}).get("rate_factors", {})
            if set(factors) - {PRETRAINED}:
                raise UsageError(
                    f"{stage}.rate_factors names {', '.join(factors)}: only {PRETRAINED!r} parameters have a "
                    "factor; what a method adds is trained at the stage's own rate"
                )

    @property
    def counted(self) -> dict[str, tuple[str, ...]]:
        """What is trained besides the method's own: the head, which ``meanP`` has no parameters in."""
        return {"head_params": ("head",)}

    def build(self) -> nn.Module:
        """Return the pre-trained CLIP with a fresh head, on the device."""
        towers = self.backbone()
        self._pretrained = {id(parameter) for parameter in towers.parameters()}
        model = CLIP4Clip(towers, make_head(self.config["model"]["head"], towers))
        return model.to(self.device)

    def backbone(self) -> nn.Module:
        """Return the pre-trained CLIP."""
        towers, self.weights = clip.build(self.config["backbone"], weight_files(self.context))
        return towers

    def group_of(self, name: str, parameter: nn.Parameter) -> str:
        """Return whether a parameter comes from the checkpoint; its path in the model does not tell."""
        del name
        return PRETRAINED if id(parameter) in self._pretrained else ADDED

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the contrastive loss of a batch; of several processes, that of their batches as one."""
        self.mask = self.valid_tokens(batch, self.chunk)
        assert isinstance(model, CLIP4Clip)
        return contrastive_loss(model.logits(processes.joined(model.encode(batch, self.chunk))))

    def valid_tokens(self, batch: Batch, chunk: int | None = None) -> dict[str, Any]:
        """Return which places of the captions hold a token, for the layers of the text tower.

        (B, T) of bool, start and end among them; in chunks, one for each forward pass. Frames have no mask:
        only those that exist are encoded.
        """
        valid = torch.arange(batch.tokens.shape[1]) < batch.lengths.unsqueeze(1)
        valid = valid.to(batch.tokens.device)
        return {TEXT_LAYERS: valid if chunk is None else list(valid.split(chunk))}

    def after_backward(self, trained: Sequence[nn.Parameter]) -> None:
        """Average the gradients of several processes."""
        processes.average_gradients(trained)

    @torch.no_grad()
    def after_step(self, model: nn.Module) -> None:
        """Keep the factor of the cosines at or below 100, also where it is not trained."""
        assert isinstance(model, CLIP4Clip)
        model.clip.logit_scale.clamp_(max=LARGEST_SCALE)

    def on_device(self, batch: Batch) -> Batch:
        """Move the inputs to the device; numbers of frames and tokens stay on the CPU."""
        return batch._replace(
            frames=batch.frames.to(self.device, non_blocking=True),
            tokens=batch.tokens.to(self.device, non_blocking=True),
        )


class VideoTextRetrieval(Pairs):
    """Captions and their clips; recalls in both directions on held-out clips and on 1k-A."""

    def __init__(self, config: Config, context: Context) -> None:
        """Open the lists that the configuration names.

        Raises:
            UsageError: Data are not there, of another vocabulary or size, or too long for the backbone.
        """
        super().__init__(config, context)
        names = config["data"]
        self.folder = data.require(context.data, names["variant"])
        check_fit(self.folder, config["backbone"]["name"])
        whole = data.load_list(self.folder, names["train"], limit=names["limit_train"])
        self.train, self.val = whole.parted(names["held_out"])
        self.test = data.load_list(self.folder, names["test"], limit=names["limit_test"])
        self.ties = dict.fromkeys(DIRECTIONS, 0)
        if len(self.train.owner) < self.batch_size:
            raise UsageError(
                f"{len(self.train.owner)} training captions do not fill one batch of {self.batch_size} "
                "(training.batch_size)"
            )

    @property
    def steps(self) -> int:
        """How many batches an epoch has."""
        return len(self.train.owner) // self.batch_size

    def order(self, seed: int) -> Sequence[Tensor]:
        """Return the captions of each step of an epoch, (B,)."""
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.train.owner), generator=generator)
        batches: Sequence[Tensor] = order.split(self.batch_size)
        return batches[: self.steps]

    def batches(self, seed: int) -> Iterator[Batch]:
        """Iterate shuffled batches; what does not fill a batch is dropped.

        Of several processes, each gets its share of every batch.
        """
        parts = [processes.share(part) for part in self.order(seed)]
        if not self.device.startswith("cuda"):
            for index in parts:
                yield data.pairs_of(self.train, index)
            return
        with ThreadPoolExecutor(1) as reader:
            ahead = [reader.submit(_pinned_pairs, self.train, part) for part in parts[:PREFETCHED]]
            for step in range(self.steps):
                batch = ahead.pop(0).result()
                if step + PREFETCHED < self.steps:
                    ahead.append(reader.submit(_pinned_pairs, self.train, parts[step + PREFETCHED]))
                yield self.on_device(batch)

    def evaluate(self, model: nn.Module) -> dict[str, float | None]:
        """Return recalls, their sum and median ranks of both directions, held out and on 1k-A."""
        return self.metrics_by(lambda name, split: (model, split))

    def metrics_by(
        self, choose: Callable[[str, data.Split], tuple[nn.Module, data.Split]]
    ) -> dict[str, float | None]:
        """Return a function from a model and its inputs to metrics, for the name and data of a split."""
        found: dict[str, float | None] = {}
        for name, split in (("val", self.val), ("test", self.test)):
            values = {} if split is None else self._recalls(*choose(name, split), name)
            found |= {f"{name}_{metric}": values.get(metric) for metric in (*self.metrics, STRICT)}
        self.ties = {way: int(values[f"{way}_ties"]) for way in DIRECTIONS}
        return found

    def keep_features(
        self, model: nn.Module, method: Method, precision: Precision
    ) -> CachedPairs | None:
        """Compute cached features of the frozen towers, once; in one process only."""
        assert isinstance(model, CLIP4Clip)
        if self.config["training"]["processes"] > 1 or not is_cached(model, method):
            return None
        started = perf_counter()
        rest, kept = AfterTowers(model), {}
        model.eval()
        for name in ("train", "val", "test"):
            split: data.Split | None = getattr(self, name)
            if split is None:
                continue
            with torch.no_grad(), precision.forward(self.device):
                found = kept_split(self.device, model, rest, split)
            if found is not None:
                kept[name] = found
        return CachedPairs(self, rest, kept, perf_counter() - started) if kept else None

    def probe(self, model: nn.Module) -> None:
        """Run the towers forward on the pairs on which redundancy is measured."""
        count = min(PROBE_CAPTIONS, len(self.train.owner))
        batch = self.on_device(data.pairs_of(self.train, torch.arange(count)))
        model.eval()
        with torch.inference_mode():
            self.mask = self.valid_tokens(batch)
            model.encode(batch)  # type: ignore[operator]

    def counts(self) -> dict[str, Any]:
        """Return how many examples are meant and seen, and how many test queries have a tied rank."""
        return {
            "n_train": len(self.train.owner),
            "n_train_clips": len(self.train.clips),
            "n_seen_per_epoch": self.steps * self.batch_size,
            "n_val": None if self.val is None else len(self.val.owner),
            "n_test": len(self.test.owner),
            "n_test_clips": len(self.test.clips),
            "n_evaluated": len(self.test.owner),
            **{f"ties_{way}": ties for way, ties in self.ties.items()},
            "limit_train": self.config["data"]["limit_train"],
            "limit_test": self.config["data"]["limit_test"],
        }

    def fingerprint(self) -> dict[str, Any]:
        """Return what identifies the data."""
        return data.fingerprint(self.folder)

    def _recalls(self, model: Any, split: data.Split, name: str) -> dict[str, float]:
        owner = split.owner.to(self.device)
        texts = torch.cat(
            [
                model.texts(some.to(self.device))
                for some in split.tokens.split(data.EVALUATED_CAPTIONS)
            ]
        )
        names = (DIRECTIONS[1], DIRECTIONS[0])  # clips come first here
        scores, vectors = [], []
        for clips in split.clips.split(data.EVALUATED_CLIPS):
            frames, counts = split.frames.take(clips)
            embedded = padded(model.frames(frames.to(self.device)), counts)
            if model.head.is_joint:
                scores.append(model.head.scores(embedded, counts, texts))
            else:
                vectors.append(model.head.videos(embedded, counts))
        if scores:
            return both_ways_of(torch.cat(scores), owner, names, rule=self.rule, place=name)
        texts = nn.functional.normalize(texts, dim=-1)
        with torch.autocast(texts.device.type, enabled=False):
            return both_ways(torch.cat(vectors), texts, owner, names, rule=self.rule, place=name)


def _pinned_pairs(split: data.Split, index: Tensor) -> Batch:
    """Return them where a GPU can copy them from without waiting."""
    batch = data.pairs_of(split, index)
    return batch._replace(frames=batch.frames.pin_memory(), tokens=batch.tokens.pin_memory())


def check_fit(folder: Path, backbone: str) -> None:
    """Raise a ``UsageError`` unless vocabulary, length of captions and size of frames are the backbone's."""
    manifest, towers = manifest_of(folder), clip.towers_named(backbone)
    said = manifest["tokenizer"]
    found = {
        "tokens in the vocabulary": (said["size"], towers.tokens),
        "pixels in height and width": (manifest["size"], towers.size),
    }
    for what, (here, expected) in found.items():
        if here != expected:
            raise UsageError(
                f"the data in {folder} have {here} {what}, {backbone} has {expected}: prepare them again: "
                "python -m data_prep prepare msrvtt --help"
            )
    if said["text_length"] > towers.longest:
        raise UsageError(
            f"captions in {folder} have up to {said['text_length']} tokens, {backbone} takes {towers.longest}"
        )


class CachedPairs(Kept):
    """Video-text retrieval that is given vectors in the place of frames and tokens, where they are kept."""

    problem: VideoTextRetrieval

    def __init__(
        self,
        problem: VideoTextRetrieval,
        rest: AfterTowers,
        features: Mapping[str, KeptSplit],
        seconds: float,
    ) -> None:
        """Put vectors in the place of frames and tokens; ``rest`` is what the model computes from them."""
        super().__init__(problem, features, seconds)
        self.rest = rest

    def batches(self, seed: int) -> Iterator[Batch]:
        """Iterate the problem's batches."""
        if "train" not in self.features:
            yield from self.problem.batches(seed)
            return
        for index in self.problem.order(seed):
            yield data.pairs_of(self.features["train"], index)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the contrastive loss of a batch."""
        if "train" not in self.features:
            return self.problem.loss(model, batch)
        return contrastive_loss(self.rest.logits(self.rest.encode(batch)))

    def evaluate(self, model: nn.Module) -> dict[str, float | None]:
        """Return the problem's metrics."""
        return self.problem.metrics_by(
            lambda name, split: (
                (self.rest, self.features[name]) if name in self.features else (model, split)
            )
        )
