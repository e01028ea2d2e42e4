"""How the counts of Table 1 are made: BERT-base in VSE∞ on Flickr30K, CLIP ViT-B/32 in CLIP4Clip on MSR-VTT.

The paper gives no setting of any of these methods. Most are those of Paranioar/UniPT, from whose line of work
the rows come (adapter-transformers 3.1.0); which of them count the head follows from the numbers alone.
The image encoder of VSE∞, 3.69 M, is trained in every row of the first half and counted in none.
"""

from __future__ import annotations

from reports.audit.counting import Counting, Setting

_LAYER = "12 x 768^2 + 13 x 768"

# Ladder side tuning beside both towers of CLIP: rungs, blocks of a quarter of the width, the way back.
_LADDERS = (
    "{0} x (768 x 192 + 192 + 512 x 128 + 128) + 12 x (12 x 192^2 + 13 x 192 + 12 x 128^2 + 13 x 128) "
    "+ 192 x 768 + 768 + 128 x 512 + 512"
)

BERT = {
    "full": Counting(
        method="full",
        formula=f"(30,522 + 512 + 2) x 768 + 2 x 768 + 12 x ({_LAYER}) + 768^2 + 768",
    ),
    "partial": Counting(
        method="partial", options={"blocks": 0}, formula="0", setting="BERT frozen"
    ),
    "adapter": Counting(
        method="adapter",
        options={"reduction": 16},
        formula="24 x (768 x 48 + 48 + 48 x 768 + 768)",
        setting="after attention and MLP, reduction 16",
    ),
    "bitfit": Counting(
        method="bitfit",
        formula="768 + 12 x 11 x 768 + 768",
        setting="those of LayerNorms and of the pooler too",
    ),
    "prefix": Counting(
        method="prefix",
        formula="30 x 768 + 768 x 512 + 512 + 512 x 24 x 768 + 24 x 768",
        setting="30 positions, through an MLP of width 512",
    ),
    "ssf": Counting(method="ssf", formula="12 x 2 x (4 x 768 + 4 x 768 + 768 + 2 x 768) + 2 x 768"),
    "fact-tk": Counting(
        method="fact-tk",
        options={"rank": 32},
        formula="2 x 768 x 32 + 32^3 + 144 x 32",
        setting="r = 32",
        because="no setting that a paper or a repository names comes near",
        others=(
            Setting("FacT-TK, r = 80", "2 x 768 x 80 + 80^3 + 144 x 80"),
            Setting("FacT-TT, r = 60", "2 x 768 x 60 + 144 x 60^2"),
            Setting("FacT-TT on q and v, r = 128", "2 x 768 x 128 + 24 x 128^2"),
            Setting("FacT-TT, r = 16", "2 x 768 x 16 + 144 x 16^2"),
        ),
    ),
    "lst": Counting(
        method="lst",
        head="pooling",
        options={"out_features": 1024},
        formula=(
            "13 x (768 x 192 + 192) + 12 x (12 x 192^2 + 13 x 192) + 13 "
            "+ 192 x 1,024 + 1,024 + 2 x 1,024"
        ),
        setting="side network of 768 / 4 = 192 channels",
    ),
    "unipt": Counting(
        method="unipt",
        head="pooling",
        options={"out_features": 1024},
        formula=(
            "13 x (768 x 512 + 512 + 2 x 512) + 512 + 1 + 512^2 + 512 + 2 x 512 + 512 x 1,024 + 1,024"
        ),
    ),
    "adalora-r8": Counting(
        method="adalora-r8",
        formula="12 x 3 x (2 x 768 x 12 + 12)",
        setting="q, k and v at the first rank, 12",
        others=(
            Setting(
                "it is q and v at r = 6, head counted",
                "24 x (2 x 768 x 6 + 6) + 800,160",
            ),
            Setting(
                "it is all six matrices at r = 6 without their E, head not counted",
                "12 x 6 x (4 x 2 x 768 + 2 x 5 x 768)",
            ),
        ),
    ),
    "lora-r8": Counting(
        method="lora-r8",
        options={"targets": ("q", "v"), "scale": 2.0},
        formula="12 x 2 x 2 x 768 x 8",
        setting="q and v",
        others=(),
    ),
}

CLIP = {
    "full": Counting(
        method="full",
        formula=(
            f"(49,408 + 77) x 512 + 12 x (12 x 512^2 + 13 x 512) + 2 x 512 "
            f"+ 768 + 32 x 32 x 3 x 768 + 50 x 768 + 4 x 768 + 12 x ({_LAYER}) + 1"
        ),
    ),
    "partial": Counting(
        method="partial", options={"blocks": 0}, formula="0", setting="both encoders frozen"
    ),
    "adapter": Counting(
        method="adapter",
        options={"reduction": 8},
        formula="24 x (2 x 768 x 96 + 96 + 768) + 24 x (2 x 512 x 64 + 64 + 512)",
        setting="after attention and MLP, reduction 8",
        others=(
            Setting(
                "each has a LayerNorm of its own",
                "24 x (2 x 768 x 96 + 96 + 3 x 768) + 24 x (2 x 512 x 64 + 64 + 3 x 512)",
            ),
            Setting(
                "there is one a block, with a LayerNorm of its own, reduction 4",
                "12 x (2 x 768 x 192 + 192 + 3 x 768) + 12 x (2 x 512 x 128 + 128 + 3 x 512)",
            ),
        ),
    ),
    "bitfit": Counting(
        method="bitfit",
        formula="12 x 11 x (768 + 512) + 2 x 768 + 512",
        setting="those of LayerNorms too",
        others=(Setting("the biases of LayerNorms are not counted", "12 x 9 x (768 + 512)"),),
    ),
    "vpt-deep": Counting(
        method="vpt-deep",
        options={"tokens": 10},
        formula="12 x (768 + 512) x 10",
        setting="10 tokens in each block of both towers",
        assumes="there are 10 to 16 tokens (nothing says how many)",
    ),
    "ssf": Counting(
        method="ssf",
        formula="12 x 2 x 11 x (768 + 512) + 2 x (3 x 768 + 512)",
        because="every linear layer and LayerNorm of both towers has its scale and shift already",
    ),
    "fact-tk": Counting(
        method="fact-tk",
        options={"rank": 32},
        formula="2 x (768 + 512) x 32 + 2 x (32^3 + 144 x 32)",
        setting="r = 32 in each tower",
    ),
    "lst": Counting(
        method="lst",
        formula="13 x (768 x 512 + 512) + 13 x (512^2 + 512) + 2 x (512^2 + 512 + 14)",
        setting="gated maps to 512 beside each tower, as in UniPT's code",
        because=(
            "neither that code nor the transformers of the original method, at a quarter of the width with "
            "the projections, print 11.2"
        ),
        others=(
            Setting(
                "original method, 13 rungs, projections counted", f"{_LADDERS.format(13)} + 655,360"
            ),
            Setting(
                "original method, 12 rungs, projections counted", f"{_LADDERS.format(12)} + 655,360"
            ),
        ),
    ),
    "unipt": Counting(
        method="unipt",
        formula="13 x (768 x 512 + 512) + 13 x (512^2 + 512) + 2 x (2 x (512^2 + 512) + 512 + 1)",
        setting="a side network for each tower",
    ),
    "adalora-r8": Counting(
        method="adalora-r8",
        formula="12 x 3 x (2 x 768 x 12 + 12) + 12 x 3 x (2 x 512 x 12 + 12)",
        setting="q, k and v at the first rank, 12",
        others=(
            Setting("it is fc1 and fc2 at r = 8 without their E", "24 x 8 x 5 x (768 + 512)"),
            Setting(
                "it is q, k, v and proj at r = 10 without their E", "12 x 4 x 2 x 10 x (768 + 512)"
            ),
            Setting(
                "it is q, k and v at r = 6 without their E, projections counted",
                "12 x 3 x 2 x 6 x (768 + 512) + 655,360",
            ),
        ),
    ),
    "lora-r8": Counting(
        method="lora-r8",
        options={"targets": ("q", "v"), "scale": 2.0},
        formula="12 x 2 x 2 x 8 x (768 + 512)",
        setting="q and v, as for BERT",
        because="several settings would print it, and nothing says which",
        others=(
            Setting(
                "q and v at r = 10, projections counted", "12 x 2 x 2 x 10 x (768 + 512) + 655,360"
            ),
            Setting(
                "fc1 and fc2 at r = 4, projections counted", "24 x 4 x 5 x (768 + 512) + 655,360"
            ),
            Setting("q, v, fc1 and fc2 at r = 6", "24 x 6 x (2 + 5) x (768 + 512)"),
            Setting("q, k and v at r = 8", "12 x 3 x 2 x 8 x (768 + 512)"),
        ),
    ),
}
