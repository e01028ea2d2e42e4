"""The backbones that methods are tried on, as small as they can be, each with a head and a toy task."""

from __future__ import annotations

import torch
from torch import nn

from data_prep.torchvision_guard import ensure_torchvision

ensure_torchvision()

from timm.models.convnext import ConvNeXt  # noqa: E402
from timm.models.swin_transformer import SwinTransformer  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402

CLASSES = 5
BATCH = 20


def vit():
    return VisionTransformer(
        img_size=16, patch_size=8, embed_dim=24, depth=3, num_heads=2, num_classes=CLASSES
    )


def swin():
    return SwinTransformer(
        img_size=32,
        patch_size=4,
        window_size=4,
        embed_dim=16,
        depths=(2, 2),
        num_heads=(2, 4),
        num_classes=CLASSES,
    )


def convnext():
    return ConvNeXt(
        depths=(1, 1, 2, 1),
        dims=(8, 16, 24, 32),
        patch_size=2,
        num_classes=CLASSES,
        ls_init_value=0.1,
    )


class BertClassifier(nn.Module):
    """A BERT with a head on the mean of its tokens."""

    def __init__(self):
        super().__init__()
        from transformers import BertConfig, BertModel

        config = BertConfig(
            vocab_size=50,
            hidden_size=24,
            num_hidden_layers=3,
            num_attention_heads=2,
            intermediate_size=48,
            max_position_embeddings=16,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        self.bert = BertModel(config, add_pooling_layer=False)
        self.head = nn.Linear(24, CLASSES)

    def forward(self, ids):
        tokens = self.bert(input_ids=ids, attention_mask=(ids > 0).long()).last_hidden_state
        return self.head(tokens.mean(1))


class ClipClassifier(nn.Module):
    """A CLIP with a head on both of its embeddings."""

    def __init__(self):
        super().__init__()
        from transformers import CLIPConfig, CLIPModel

        shared = {"num_hidden_layers": 3, "num_attention_heads": 2, "projection_dim": 16}
        text = {
            "hidden_size": 16,
            "intermediate_size": 32,
            "vocab_size": 50,
            "max_position_embeddings": 16,
            "eos_token_id": 49,
        }
        vision = {"hidden_size": 24, "intermediate_size": 48, "image_size": 16, "patch_size": 8}
        config = CLIPConfig(
            text_config=shared | text, vision_config=shared | vision, projection_dim=16
        )
        self.clip = CLIPModel(config)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, inputs):
        images, ids = inputs
        found = self.clip(input_ids=ids, attention_mask=(ids > 0).long(), pixel_values=images)
        return self.head(torch.cat([found.image_embeds, found.text_embeds], dim=1))


HEADS = {"vit": "head", "swin": "head.fc", "convnext": "head.fc", "bert": "head", "clip": "head"}
MAKERS = {
    "vit": vit,
    "swin": swin,
    "convnext": convnext,
    "bert": BertClassifier,
    "clip": ClipClassifier,
}


def make(kind, seed=0):
    """A backbone of one kind with random weights, in evaluation mode."""
    torch.manual_seed(seed)
    return MAKERS[kind]().eval()


def images(kind):
    size = {"vit": 16, "swin": 32, "convnext": 32, "clip": 16}[kind]
    return torch.randn(BATCH, 3, size, size, generator=torch.Generator().manual_seed(1))


def texts():
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(1, 49, (BATCH, 9), generator=generator)
    ids[:, -3:] = 0  # padded
    ids[:, 5] = 49  # the end of a text
    return ids


def inputs(kind):
    """A batch for a backbone of one kind."""
    if kind == "bert":
        return texts()
    return (images(kind), texts()) if kind == "clip" else images(kind)


def labels():
    return torch.arange(BATCH) % CLASSES
