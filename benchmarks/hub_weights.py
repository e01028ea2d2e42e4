"""Weights of networks of transformers: files of the embedded world, published ones, and given ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks.backbones import EMBEDDED, Files
from benchmarks.harness.errors import UsageError
from benchmarks.weight_values import check_embedded, check_values
from benchmarks.weights import RANDOM, is_given
from benchmarks.weights import find as find_given
from data_prep.saved_tensors import read

SAFE = "model.safetensors"

State = dict[str, Any]


@dataclass(frozen=True)
class Family:
    """Where the weights of a kind of network are.

    Attributes:
        owner: Of the repositories on the Hugging Face hub; the name of weights is the repository's.
        published: Names of their file there, the first one that exists.
        embedded: The network of the embedded world, whose folder in ``data_prep/embedded/backbones`` has it.
        program: What makes that folder.
        original: Further names under which a file in the folder of weights is taken, such as the authors'.
    """

    owner: str
    embedded: str
    program: str
    published: tuple[str, ...] = (SAFE,)
    original: tuple[str, ...] = ()

    def find(self, config: dict[str, Any], files: Files, *, fetch: bool) -> Path | None:
        """Return the file of the weights; None if it is on the hub and is not to be fetched.

        Args:
            config: The section ``backbone`` of a configuration: its name and weights, which are the name of
                published ones, or the name and hash of a file that a person gave.
            files: Where weights are looked for.
            fetch: Whether to ask the hub.

        Raises:
            UsageError: It cannot be had; the message says which file to put where.
        """
        name = config["weights"]
        if is_given(name):
            return find_given(name, files.folder, files.given)
        if config["name"] == self.embedded:
            path: Path = EMBEDDED / name / SAFE
            if not path.exists():
                raise UsageError(
                    f"{name}/{SAFE} is missing in data_prep/embedded/backbones; make it with "
                    f"`{self.program}`"
                )
            check_embedded(path, path.with_name("record.json"))
            return path
        if files.folder is not None:
            inside = [files.folder / name / one for one in self.published]
            for candidate in (
                *inside,
                files.folder / f"{name}.safetensors",
                *(files.folder / one for one in self.original),
            ):
                if candidate.is_file():
                    found: Path = candidate
                    return found
        return self._from_hub(name, files.folder, fetch=fetch)

    def require(self, config: dict[str, Any], files: Files, *, fetch: bool) -> None:
        """Raise a ``UsageError`` that says which file to put where, unless the weights can be had."""
        name = config["weights"]
        if name != RANDOM and self.find(config, files, fetch=fetch) is None:
            raise UsageError(
                f"the weights {name!r} are not on this machine; a run fetches them from the Hugging "
                f"Face hub, or {self._missing(name, files.folder)}"
            )

    def _from_hub(self, name: str, folder: Path | None, *, fetch: bool) -> Path | None:
        from huggingface_hub import hf_hub_download, try_to_load_from_cache
        from huggingface_hub.errors import EntryNotFoundError

        repository = f"{self.owner}/{name}"
        for file in self.published:
            cached = try_to_load_from_cache(repository, file)
            if isinstance(cached, str):
                return Path(cached)
        if not fetch:
            return None
        reason: Exception | None = None
        for file in self.published:
            try:
                return Path(hf_hub_download(repository, file))
            except EntryNotFoundError as error:
                reason = error
            except (OSError, ValueError) as error:
                reason = error
                break
        raise UsageError(
            f"the weights {name!r} are not on this machine, and the Hugging Face hub does not answer: "
            f"{self._missing(name, folder)}"
        ) from reason

    def _missing(self, name: str, folder: Path | None) -> str:
        where = folder or Path("data") / "weights"
        file = self.published[0]
        return (
            f"fetch {file} of {self.owner}/{name} and put it as {where / name / file}, or name a file by "
            "--weights"
        )


def load(model: nn.Module, path: Path, named: Callable[[State], dict[str, Tensor]]) -> None:
    """Load weights into a network.

    Args:
        model: The network.
        path: The file, of safetensors, of ``torch.save``, or of TorchScript, as OpenAI's are.
        named: Gives the tensors the names that they have in the network; leaves out what it has not.

    Raises:
        UsageError: The file is damaged or of another network, or has values that no training gives.
    """
    try:
        raw = load_file(path) if path.suffix == ".safetensors" else read(path)
        state = {key: value.detach() for key, value in named(raw).items()}
    except Exception as error:  # a damaged file can raise any error
        raise UsageError(
            f"{path.name} cannot be read as weights: {type(error).__name__}: {error}"
        ) from error
    own: dict[str, Tensor] = dict(model.named_parameters())
    wrong = sorted(k for k in own.keys() | state.keys() if _shape(own, k) != _shape(state, k))
    if wrong:
        key = wrong[0]
        raise UsageError(
            f"{path.name} does not fit: {len(wrong)} tensors differ, such as {key} "
            f"({_shape(state, key)} in the file, {_shape(own, key)} in the network)"
        )
    check_values(model, path, state)
    model.load_state_dict(state, strict=False)


def _shape(state: dict[str, Tensor], key: str) -> tuple[int, ...] | None:
    return tuple(state[key].shape) if key in state else None
