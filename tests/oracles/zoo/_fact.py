"""A fact of a bundled model, and the model loaded by TransformerLens alone, whole or spoilt."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformer_lens import HookedTransformer, HookedTransformerConfig

MODELS = Path(__file__).resolve().parents[3] / "zoo" / "models"
MADE_BY_THE_CLASS = (".mask", ".IGNORE", ".rotary_sin", ".rotary_cos")


@dataclass(frozen=True, eq=False)
class Loaded:
    """A shipped model: its weights by their names, the model and the tokenizer."""

    config: dict[str, Any]
    weights: dict[str, torch.Tensor]
    model: HookedTransformer
    tokenizer: Tokenizer

    def ids(self, *texts: str) -> torch.Tensor:
        """Token rows of texts that have equally many tokens."""
        return torch.tensor([self.tokenizer.encode(text).ids for text in texts])


@dataclass(frozen=True)
class Fact:
    """Something a model must do.

    Attributes:
        name: What is measured, in a few words.
        measure: Measures it.
        at_least: Lowest value allowed, or None.
        at_most: Highest value allowed, or None.
        unit: Unit of the value.
        snapshot: Which weights; empty for the final ones.
        control: Another spoiling than shuffling each tensor: from weights to spoilt weights.
    """

    name: str
    measure: Callable[[Loaded], float]
    at_least: float | None = None
    at_most: float | None = None
    unit: str = ""
    snapshot: str = ""
    control: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]] | None = None

    @property
    def promised(self) -> str:
        """The bounds in words."""
        bounds = {"at least": self.at_least, "at most": self.at_most}
        return " and ".join(f"{word} {b:g}" for word, b in bounds.items() if b is not None)

    def holds(self, value: float) -> bool:
        """Whether a value is what was promised; one that is no number is not."""
        low = self.at_least is None or value >= self.at_least
        return value == value and low and (self.at_most is None or value <= self.at_most)


def stored(name: str, snapshot: str = "") -> dict[str, torch.Tensor]:
    """The weights of a file in float32."""
    file = f"snapshots/{snapshot}.safetensors" if snapshot else "weights.safetensors"
    return {key: tensor.float() for key, tensor in load_file(MODELS / name / file).items()}


@lru_cache(maxsize=4)
def loaded(name: str, snapshot: str = "") -> Loaded:
    """Load a shipped model."""
    return with_weights(name, stored(name, snapshot))


def with_weights(name: str, weights: dict[str, torch.Tensor]) -> Loaded:
    """Make a model of the shape of a shipped one with other weights."""
    folder = MODELS / name
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        model = HookedTransformer(HookedTransformerConfig(**config["transformer"], device="cpu"))
    full = dict(weights)
    full.setdefault("unembed.W_U", full["embed.W_E"].T)
    report = model.load_state_dict(full, strict=False)
    assert not report.unexpected_keys
    assert all(key.endswith(MADE_BY_THE_CLASS) for key in report.missing_keys)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model.eval().requires_grad_(False)
    return Loaded(config, full, model, tokenizer)


def shuffled(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same numbers in each tensor, in another order."""
    rng = torch.Generator().manual_seed(0)
    return {
        name: tensor.flatten()[torch.randperm(tensor.numel(), generator=rng)].view_as(tensor)
        for name, tensor in weights.items()
    }
