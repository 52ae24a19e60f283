"""Which models there are, and what can be said about one without loading it (torch-free).

Three sources: bundled models, models of the hub, and folders of this machine in the hub's format.
A bundled model is a folder ``zoo/models/<name>/`` with ``config.json`` (shape and answer space),
``weights.safetensors``, ``tokenizer.json`` and ``card.md`` (front matter and prose); it may have
``snapshots/``, other weights of the same shape, named ``induction-2l@1200``. The others are there
once somebody has added them (``interp.models.add``).

A name may end in a weight processing and a precision, ``gpt2:folded:bfloat16``.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from interp.errors import BadInput, CannotLoad, InterpError, UnknownName
from interp.models import registry, tokens
from interp.models.families import why_not_foldable
from interp.models.info import Answers, ModelInfo, weights_in

ZOO = Path(__file__).resolve().parents[2] / "zoo" / "models"


@dataclass(frozen=True)
class Card:
    """A model's card: structured facts (front matter) and prose (Markdown)."""

    facts: dict[str, Any]
    prose: str


def bundled() -> tuple[str, ...]:
    """List the models that come with the app."""
    return tuple(sorted(path.parent.name for path in ZOO.glob("*/config.json")))


def names() -> tuple[str, ...]:
    """List the models that can be asked, bundled ones first; variants by the names they have."""
    added = [
        registry.join(name, *variant)
        for name, entry in registry.entries().items()
        for variant in entry.variants
    ]
    return (*bundled(), *added)


def snapshots(name: str) -> tuple[str, ...]:
    """List the other weights that the bundled model ``name`` has, in order; others have none."""
    base = registry.split(name)[0].partition("@")[0]
    return _snapshots(base) if base in bundled() else ()


def is_known(name: str) -> bool:
    """Whether a model can be asked by this name: ``names``, and variants of bundled ones."""
    if name in names():
        return True
    try:
        return info(name).source == "bundled"
    except InterpError:
        return False


def _snapshots(base: str) -> tuple[str, ...]:
    config = json.loads((ZOO / base / "config.json").read_text())
    return tuple(config.get("snapshots", ()))


def check_new_name(name: str) -> None:
    """Refuse a name that an added model cannot have.

    Raises:
        BadInput: It has characters that names do not have, or a bundled model has it.
    """
    registry.check_name(name)
    if name.partition("@")[0] in bundled():
        raise BadInput(
            f"The name {name!r} was given.", "A bundled model has it.", "Choose another."
        )


def info(name: str) -> ModelInfo:
    """Describe the model ``name`` without loading it.

    Raises:
        UnknownName: There is no such model.
        CannotLoad: Folding its weights would change what it computes.
    """
    base, processing, dtype = registry.split(name)
    own, at, snapshot = base.partition("@")
    if own in bundled():
        _check_snapshot(name, own, snapshot if at else None)
        found = _bundled(own, snapshot, _stamp(ZOO / own, snapshot))
    else:
        entry = registry.entries().get(base)
        if entry is None:
            raise UnknownName.of("model", name, names())
        found = entry.info
    return variant(found, processing, dtype)


def variant(model: ModelInfo, processing: str, dtype: str) -> ModelInfo:
    """Describe a raw float32 model under another weight processing and precision.

    Raises:
        CannotLoad: Folding its weights would change what it computes.
    """
    if processing == "folded":
        reason = why_not_foldable(model.transformer)
        if reason is not None:
            raise CannotLoad(
                f"{model.name} was asked for with folded weights.", reason, "Use it raw."
            )
    name = registry.join(model.name, processing, dtype)
    return replace(model, name=name, processing=processing, dtype=dtype)


def _check_snapshot(name: str, own: str, snapshot: str | None) -> None:
    if snapshot is not None and snapshot not in _snapshots(own):
        known = (f"{own}@{one}" for one in _snapshots(own))
        raise UnknownName.of("model", name, (own, *known))


def _stamp(folder: Path, snapshot: str) -> tuple[int, ...]:
    """Tell the state of a model's files, so that one that was rebuilt is described anew."""
    files = [folder / "config.json", folder / "card.md", weights_in(folder, snapshot)]
    return tuple(number for s in (f.stat() for f in files) for number in (s.st_mtime_ns, s.st_size))


@lru_cache(maxsize=64)
def _bundled(name: str, snapshot: str, stamp: tuple[int, ...]) -> ModelInfo:
    """Describe a bundled model whose files are in the state ``stamp``."""
    folder = ZOO / name
    config = json.loads((folder / "config.json").read_text())
    shape, answer = config["transformer"], config["answer"]
    classes = tuple(answer.get("classes", ()))
    answers = Answers(answer["space"], classes, answer["read"], answer.get("note", ""))
    count = int(card(name).facts["parameters"])
    called = f"{name}@{snapshot}" if snapshot else name
    made = of_shape(called, shape, answers=answers, weights="", folder=folder)
    made = replace(made, n_parameters=count, snapshot=snapshot)
    return replace(made, weights=_weights_hash(made.weights_file, shape))


def of_shape(
    name: str, shape: dict[str, Any], *, answers: Answers, weights: str, folder: Path
) -> ModelInfo:
    """Describe a model by the fields of the model class's configuration."""
    return ModelInfo(
        name=name,
        weights=weights,
        processing="raw",
        n_layers=shape["n_layers"],
        n_heads=shape["n_heads"],
        d_model=shape["d_model"],
        d_head=shape["d_head"],
        d_mlp=None if shape.get("attn_only") else shape["d_mlp"],
        n_ctx=shape["n_ctx"],
        d_vocab=shape["d_vocab"],
        d_out=shape.get("d_vocab_out") or shape["d_vocab"],
        causal=shape.get("attention_dir", "causal") == "causal",
        answers=answers,
        folder=folder,
        n_key_value_heads=shape.get("n_key_value_heads") or shape["n_heads"],
        gated=bool(shape.get("gated_mlp")),
        parallel=bool(shape.get("parallel_attn_mlp")),
        softcap=max(0.0, float(shape.get("output_logits_soft_cap") or 0)),
        transformer=dict(shape),
    )


def _weights_hash(file: Path, shape: dict[str, Any]) -> str:
    digest = hashlib.sha256(file.read_bytes())
    digest.update(json.dumps(shape, sort_keys=True, separators=(",", ":")).encode())
    return digest.hexdigest()


def card(name: str) -> Card:
    """Read the card of the model ``name``; that of an added model says what its files say."""
    base = registry.split(name)[0]
    own, at, snapshot = base.partition("@")
    if own not in bundled():
        return _card_of_added(info(name))
    _check_snapshot(name, own, snapshot if at else None)
    text = (ZOO / own / "card.md").read_text()
    _, front, prose = text.split("---\n", 2)
    return Card(yaml.safe_load(front), prose.strip())


_IOI = {
    "clean": "When Mary and John went to the store, John gave a drink to",
    "corrupted": "When Mary and John went to the store, Mary gave a drink to",
    "answer": " Mary",
    "foil": " John",
}
_STARTS = {
    "logit_lens": "After which layer does it know who gets the drink?",
    "direct_logit_attribution": "Which components write ' Mary' rather than ' John'?",
    "activation_patching": "Which activations carry whose turn it is?",
}


def _card_of_added(model: ModelInfo) -> Card:
    """Say what the files of an added model say, and three questions that any text model takes."""
    where = f"revision {model.revision} of the hub" if model.revision else str(model.folder)
    start = (
        ""
        if model.bos is None
        else (
            f" {tokens.text_of(model, (model.bos,))[0]} is put before every prompt, as "
            "TransformerLens does; the tokenizer itself does not."
        )
    )
    examples = [{"kind": kind, "label": label, **_IOI} for kind, label in _STARTS.items()]
    facts = {
        "title": model.name,
        "summary": in_words(model),
        "parameters": model.n_parameters,
        "licence": "its publisher's",
        "facts": [],
        "examples": examples,
    }
    prose = (
        f"Read from {where}. Prompts may have up to {model.n_ctx:,} tokens here.{start} "
        "Nothing is known of it here but what its files say: how it was trained, and on what, its "
        "publisher says."
    )
    return Card(facts, prose)


def in_words(model: ModelInfo) -> str:
    """Say family and shape of a model in one line."""
    shared = model.n_key_value_heads not in (0, model.n_heads)
    keys = f" sharing {model.n_key_value_heads} key-value heads" if shared else ""
    return (
        f"{model.family or 'own architecture'}: {model.n_layers} layers, {model.n_heads} heads"
        f"{keys}, width {model.d_model}, {model.d_vocab:,} tokens, {model.n_parameters:,} "
        f"parameters, {model.processing} weights in {model.dtype}"
    )
