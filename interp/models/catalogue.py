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
from typing import Any

import yaml

from interp.errors import UnknownName
from interp.models.info import Answers, ModelInfo

ZOO = Path(__file__).resolve().parents[2] / "zoo" / "models"


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
        n_key_value_heads=shape.get("n_key_value_heads") or shape["n_heads"],
        gated=bool(shape.get("gated_mlp")),
        parallel=bool(shape.get("parallel_attn_mlp")),
        transformer=dict(shape),
    )


def _weights_hash(folder: Path, shape: dict[str, Any]) -> str:
    digest = hashlib.sha256((folder / "weights.safetensors").read_bytes())
    digest.update(json.dumps(shape, sort_keys=True, separators=(",", ":")).encode())
    return digest.hexdigest()


def card(name: str) -> Card:
    """Read the card of the model ``name``."""
    text = (info(name).folder / "card.md").read_text()
    _, front, prose = text.split("---\n", 2)
    return Card(yaml.safe_load(front), prose.strip())
