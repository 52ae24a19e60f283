"""Which models there are, and what can be said about one without loading it (torch-free).

A bundled model is a folder ``zoo/models/<name>/`` with ``config.json`` (shape and answer space),
``weights.safetensors``, ``tokenizer.json`` and ``card.md`` (front matter and prose).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml

from interp.errors import UnknownName

DTYPE = "float32"
"""The precision that models are loaded in; a part of every record's key."""

ZOO = Path(__file__).resolve().parents[2] / "zoo" / "models"


@dataclass(frozen=True)
class Answers:
    """What the model answers with, and where it is read.

    ``space`` is "tokens" (the vocabulary) or "classes" (named outputs); ``read`` is the position
    whose logits are the answer, negative from the end.
    """

    space: Literal["tokens", "classes"]
    classes: tuple[str, ...]
    read: int


@dataclass(frozen=True)
class ModelInfo:
    """Shape and identity of a model. ``weights`` is the sha256 of weights and shape together."""

    name: str
    weights: str
    processing: str
    n_layers: int
    n_heads: int
    d_model: int
    d_head: int
    d_mlp: int | None
    n_ctx: int
    d_vocab: int
    d_out: int
    causal: bool
    answers: Answers
    folder: Path

    @property
    def parameters(self) -> int:
        """Parameters that take part in a matrix product, about (for estimates, not for cards)."""
        per_layer = 4 * self.n_heads * self.d_head * self.d_model + 2 * self.d_model * (
            self.d_mlp or 0
        )
        return self.n_layers * per_layer + self.d_model * self.d_out

    @property
    def has_mlp(self) -> bool:
        """Whether there are MLPs (an attention-only model has no ``resid_mid`` and ``mlp_out``)."""
        return self.d_mlp is not None


@dataclass(frozen=True)
class Card:
    """A model's card: structured facts (front matter) and prose (Markdown)."""

    facts: dict[str, Any]
    prose: str


def names() -> tuple[str, ...]:
    """List the models that can be asked, bundled ones first."""
    return tuple(sorted(path.parent.name for path in ZOO.glob("*/config.json")))


def info(name: str) -> ModelInfo:
    """Describe the model ``name`` without loading it.

    Raises:
        UnknownName: There is no such model.
    """
    if name not in names():
        raise UnknownName.of("model", name, names())
    return _info(name)


@lru_cache(maxsize=64)
def _info(name: str) -> ModelInfo:
    folder = ZOO / name
    config = json.loads((folder / "config.json").read_text())
    shape, answer = config["transformer"], config["answer"]
    return ModelInfo(
        name=name,
        weights=_weights_hash(folder, shape),
        processing=config["processing"],
        n_layers=shape["n_layers"],
        n_heads=shape["n_heads"],
        d_model=shape["d_model"],
        d_head=shape["d_head"],
        d_mlp=None if shape.get("attn_only") else shape["d_mlp"],
        n_ctx=shape["n_ctx"],
        d_vocab=shape["d_vocab"],
        d_out=shape.get("d_vocab_out") or shape["d_vocab"],
        causal=shape.get("attention_dir", "causal") == "causal",
        answers=Answers(answer["space"], tuple(answer.get("classes", ())), answer["read"]),
        folder=folder,
    )


def _weights_hash(folder: Path, shape: dict[str, Any]) -> str:
    digest = hashlib.sha256((folder / "weights.safetensors").read_bytes())
    digest.update(json.dumps(shape, sort_keys=True, separators=(",", ":")).encode())
    return digest.hexdigest()


def transformer_config(model: ModelInfo) -> dict[str, Any]:
    """Return the model's shape as the plain fields that the model class takes."""
    return dict(json.loads((model.folder / "config.json").read_text())["transformer"])


def card(name: str) -> Card:
    """Read the card of the model ``name``."""
    text = (info(name).folder / "card.md").read_text()
    _, front, prose = text.split("---\n", 2)
    return Card(yaml.safe_load(front), prose.strip())
