"""Whether pre-training the small BERT pays: ``python -m data_prep.embedded.pretrain_bert_probe``.

Recall on the embedded Flickr30K of a plain two-tower network (linear maps, maximum over words and over
regions, cross-entropy over the batch) with BERT frozen, with LoRA, or trained whole; pre-trained or with
random weights. It is no method of the benchmark and its numbers stand in no table.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from data_prep.embedded import flickr30k
from data_prep.embedded.pretrain_bert import FOLDER, NAME, SETTINGS, TEMPERATURE
from data_prep.flickr30k.tokens import WordPieces
from data_prep.progress import Bar
from data_prep.torchvision_guard import ensure_torchvision

ensure_torchvision()

from transformers import BertConfig, BertModel  # noqa: E402

MODES, STARTS = ("frozen", "lora", "full"), ("pre-trained", "random")
WIDTH, RANK, BATCH = 256, 8, 128
LR_HEAD, LR_LORA, LR_BERT = 3e-3, 2e-3, 5e-4
_MASKED = 0.1


class LowRank(nn.Module):
    """A linear layer with LoRA's two factors, scaled by 2."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.down = nn.Linear(layer.in_features, RANK, bias=False)
        self.up = nn.Linear(RANK, layer.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output with LoRA's part."""
        out: Tensor = self.layer(x) + 2 * self.up(self.down(x))
        return out


class Towers(nn.Module):
    """BERT and a small network over regions, each with a map to a common space."""

    def __init__(self, bert: BertModel, mode: str) -> None:
        super().__init__()
        self.bert = bert.requires_grad_(mode == "full")
        if mode == "lora":
            layers: Any = bert.encoder.layer
            for layer in layers:
                attention = layer.attention.self
                attention.query, attention.value = (
                    LowRank(attention.query),
                    LowRank(attention.value),
                )
        self.text = nn.Linear(bert.config.hidden_size, WIDTH)
        self.image = nn.Sequential(
            nn.Linear(flickr30k.WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH)
        )

    def captions(self, pieces: Tensor) -> Tensor:
        """(B, L) pieces -> (B, WIDTH) unit vectors."""
        there = pieces != 0
        with torch.set_grad_enabled(
            torch.is_grad_enabled() and any(p.requires_grad for p in self.bert.parameters())
        ):
            states = self.bert(pieces, attention_mask=there.long()).last_hidden_state
        mapped = self.text(states).masked_fill(~there[..., None], -torch.inf)
        return functional.normalize(mapped.amax(1), dim=-1)

    def images(self, regions: Tensor) -> Tensor:
        """(B, R, D) features -> (B, WIDTH) unit vectors."""
        return functional.normalize(self.image(regions).amax(1), dim=-1)


def load(split: str) -> tuple[Tensor, Tensor]:
    """Return features (N, R, D) and pieces (5 N, L) of a split of seed 0."""
    made = flickr30k.generate(split)
    words = WordPieces(NAME, FOLDER / "vocab.txt")
    special = words.about()["special"]
    texts = [
        [special["cls"], *(p for word in words.words(caption) for p in word), special["sep"]]
        for caption in made.captions
    ]
    pieces = np.zeros((len(texts), max(map(len, texts))), dtype=np.int64)
    for row, text in enumerate(texts):
        pieces[row, : len(text)] = text
    return torch.from_numpy(made.features), torch.from_numpy(pieces)


def trimmed(pieces: Tensor) -> Tensor:
    """Cut a batch to its longest caption."""
    return pieces[:, : int((pieces != 0).sum(1).max())]


def train(towers: Towers, mode: str, epochs: int, seed: int) -> None:
    """Train on the training split, one caption and its image in each row of a batch."""
    features, pieces = load("train")
    bert = [p for p in towers.bert.parameters() if p.requires_grad]
    heads = [*towers.text.parameters(), *towers.image.parameters()]
    groups: list[dict[str, Any]] = [{"params": heads, "lr": LR_HEAD}]
    if bert:
        groups.append({"params": bert, "lr": LR_BERT if mode == "full" else LR_LORA})
    optimiser = torch.optim.AdamW(groups, weight_decay=1e-4)
    rng = np.random.default_rng(seed)
    steps = len(pieces) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, [group["lr"] for group in groups], total_steps=epochs * steps
    )
    towers.train(mode == "full")
    for _ in range(epochs):
        for rows in np.array_split(rng.permutation(len(pieces)), steps):
            text = trimmed(pieces[rows])
            gaps = (torch.rand(text.shape) < _MASKED) & (text > 4)
            scores = (
                towers.images(features[rows // 5])
                @ towers.captions(torch.where(gaps, 4, text)).T
                / TEMPERATURE
            )
            # Captions of one image are no negatives of each other.
            same = torch.from_numpy(rows[:, None] // 5 == rows[None] // 5)
            scores = scores.masked_fill(same & ~torch.eye(len(rows), dtype=torch.bool), -1e4)
            target = torch.arange(len(rows))
            loss = functional.cross_entropy(scores, target) + functional.cross_entropy(
                scores.T, target
            )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()


@torch.no_grad()
def recalls(towers: Towers) -> list[float]:
    """Return recall at 1, 5 and 10 on the test split, images to captions and back, in per cent."""
    features, pieces = load("test")
    towers.eval()
    captions = torch.cat([towers.captions(trimmed(part)) for part in pieces.split(250)])
    scores = towers.images(features) @ captions.T
    own = torch.arange(len(captions)) // 5
    right = scores[own, torch.arange(len(captions))]
    to_image = (scores > right).sum(0)
    to_caption = (scores > right.view(-1, 5).amax(1, keepdim=True)).sum(1)
    return [
        100 * (ranks < k).float().mean().item()
        for ranks in (to_caption, to_image)
        for k in (1, 5, 10)
    ]


def network(start: str) -> BertModel:
    """Return BERT, pre-trained or with random weights."""
    if start == "pre-trained":
        return BertModel.from_pretrained(FOLDER)
    size = len(WordPieces(NAME, FOLDER / "vocab.txt").vocabulary)
    return BertModel(BertConfig(vocab_size=size, **SETTINGS))


def main(command: Sequence[str] | None = None) -> None:
    """Train and print a line for each configuration."""
    p = argparse.ArgumentParser(
        prog="python -m data_prep.embedded.pretrain_bert_probe", description=__doc__.splitlines()[0]
    )
    p.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    p.add_argument("--starts", nargs="+", choices=STARTS, default=STARTS)
    p.add_argument("--epochs", type=int, default=6)
    p.add_argument("--seed", type=int, default=0)
    args = p.parse_args(command)
    torch.set_num_threads(1)
    print(f"{'BERT':20}  {'recall of captions, of images, at 1, 5 and 10':40}    sum  seconds")
    ways = [(start, mode) for start in args.starts for mode in args.modes]
    for start, mode in Bar(ways, leave=False):
        torch.manual_seed(args.seed)
        towers, tick = Towers(network(start), mode), time.monotonic()
        train(towers, mode, args.epochs, args.seed)
        found = recalls(towers)
        shown = "  ".join(f"{value:5.1f}" for value in found)
        Bar.write(
            f"{mode + ', ' + start:20}  {shown}  {sum(found):7.1f}  {time.monotonic() - tick:.0f}"
        )


if __name__ == "__main__":
    main()
