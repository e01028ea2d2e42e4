"""Which methods VTAB-1K runs on which backbone, and the rows of its tables.

A file that is added to ``resora/petl`` is a method of the vision transformers here, and a row of Table 2,
without being named below.
"""

from __future__ import annotations

from benchmarks.harness.methods import family_of, petl_names

STAGE2 = ("euclidean", "cosine", "nonlinear", "linear", "control")
VIT, SWIN, CONVNEXT = "vit", "swin", "convnext"

KINDS = {
    "vit_micro": VIT,
    "vit_b16": VIT,
    "swin_micro": SWIN,
    "swin_b": SWIN,
    "convnext_micro": CONVNEXT,
    "convnext_b": CONVNEXT,
}
"""What kind of network each backbone is."""


def _with(base: str, *suffixes: str) -> tuple[str, ...]:
    return (base, *(f"{base}+{suffix}" for suffix in suffixes))


LORA = tuple(name for rank in (2, 4, 8) for name in _with(f"lora-r{rank}", *STAGE2))

TABLE2 = (
    *"full linear bitfit vpt-deep lst adalora-r8 adaptformer noah ssf".split(),
    *_with("fact-tk", "linear", "control"),
    *_with("lora-r8", "linear", "control"),
    *_with("moslora-r8", "linear", "control"),
    *_with("dtl-plus", "linear", "control"),
)
"""The paper's rows in its order, each row with the penalty followed by its control."""

TABLE4 = ("lora-r8+linear", "lora-r8+linear@weight")
"""The penalty on what the layers compute, and on the matrices themselves."""

TABLE6_DTL = _with("dtl", *STAGE2)
"""DTL with each penalty: the accuracies for its costs in Table 6."""

NOT_IN_PAPER = (
    *"partial vpt-shallow prefix adapter unipt".split(),
    *_with("adalora-r8", "linear", "control")[1:],
    *_with("srlora-r8", "linear", "control"),
    *_with("fact-tt", "linear", "control"),
    *_with("dtl", "linear", "control"),
)
"""Methods that the paper's other tables and figures have, or none of them."""


def _added() -> tuple[str, ...]:
    named = {family_of(name.partition("+")[0]) for name in (*TABLE2, *NOT_IN_PAPER)}
    return tuple(name for name in petl_names() if name not in named)


TABLE3_SWIN = (
    *"full linear bitfit vpt-deep".split(),
    *_with("fact-tk", "linear", "control"),
    *_with("dtl-plus", "linear", "control"),
)
TABLE3_CONVNEXT = _with("lora-r8", "linear", "control")
"""The rows of Table 3. Its column of methods has LoRA alone for ConvNeXt."""

ON_CONVNEXT = ("full", "linear", *TABLE3_CONVNEXT)

TABLE2_ALL = (*TABLE2, *NOT_IN_PAPER, *_added())

METHODS = {
    VIT: tuple(dict.fromkeys((*TABLE2, *LORA, *TABLE4, *NOT_IN_PAPER, *TABLE6_DTL, *_added()))),
    SWIN: (*TABLE3_SWIN, *_with("lora-r8", "linear", "control")),
    CONVNEXT: ON_CONVNEXT,
}
"""All methods that run, by kind of network."""


def why_not(backbone: str, method: str) -> str | None:
    """Say why a method is not declared on a backbone; None for a name that nobody knows."""
    from resora.petl import METHODS as LIBRARY  # it brings torch, which only an error needs

    base, plus, _ = method.partition("+")
    family = family_of(base)
    if family not in LIBRARY:
        return None
    if (reason := LIBRARY[family].refusal(KINDS[backbone])) is not None:
        return f"{family} does not run on {backbone}: {reason}"
    declared = METHODS[KINDS[backbone]]
    if plus and base in declared and not any(name.startswith(f"{base}+") for name in declared):
        low_rank = dict.fromkeys(name.partition("+")[0] for name in declared if "+" in name)
        return (
            f"{base} has no second stage with a penalty: it has no rank-1 subspaces (these have: "
            f"{', '.join(low_rank)})"
        )
    return None
