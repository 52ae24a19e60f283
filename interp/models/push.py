"""Take a model that lives in a notebook into the data folder, so that the app can ask it."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from interp.errors import BadInput, CannotLoad
from interp.models import catalogue, registry
from interp.models.add import add
from interp.models.checkpoint import shape_hash
from interp.models.info import Answers, ModelInfo
from interp.models.load import MADE_BY_THE_CLASS, LoadedModel
from interp.models.vocabulary import vocabulary

# What a configuration says beside the shape: where it runs, where it comes from, how it began.
_NOT_SHAPE = (
    "device", "dtype", "seed", "init_weights", "init_mode", "initializer_range", "n_devices",
    "model_name", "tokenizer_name", "original_architecture", "from_checkpoint", "n_params",
    "checkpoint_index", "checkpoint_label_type", "checkpoint_value", "trust_remote_code",
    "load_in_4bit", "tokenizer_prepends_bos", "default_prepend_bos",
)  # fmt: skip


def push(name: str, model: Any, tokenizer: Any = None) -> ModelInfo:
    """Make ``model`` available to the app under ``name``.

    Args:
        name: What specs shall call it, e.g. "local/after-step-300".
        model: A HookedTransformer, a model of transformers, what ``load_model`` gave, or a folder
            in the hub's format.
        tokenizer: Its tokenizer (one of transformers or of tokenizers), where it brings none.

    Returns:
        The model as the catalogue knows it.

    Raises:
        BadInput: The name cannot be one, a bundled model has it, or ``model`` is no model.
        CannotLoad: It has no tokenizer, or is of an architecture that is not read.

    Cost: writes the weights once (a folder stays where it is) and reads them once.
    """
    catalogue.check_new_name(name)
    if isinstance(model, LoadedModel):
        tokenizer = tokenizer or vocabulary(str(model.info.tokenizer)).tokenizer
        model = model.hooked
    if isinstance(model, str | Path):
        return add(str(Path(model).expanduser().resolve()), called=name)
    if _is_hooked(model):
        return _hooked(name, model, tokenizer or getattr(model, "tokenizer", None))
    if hasattr(model, "save_pretrained") and hasattr(model, "config"):
        folder = _written(name, lambda made: _of_transformers(made, model, tokenizer))
        try:
            return add(str(folder), called=name)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    if hasattr(model, "original_model"):
        raise BadInput(
            f"A {type(model).__name__} was pushed.",
            "Its weights may have been processed since it was made of a model of transformers.",
            "Push that one: interp.push(name, model.original_model, model.tokenizer).",
        )
    raise BadInput(
        f"A {type(model).__name__} was pushed.",
        "It is neither a HookedTransformer nor a model of transformers nor a folder.",
        "Save it with save_pretrained and push the folder.",
    )


def _is_hooked(model: Any) -> bool:
    """Whether this is a HookedTransformer and no other model of its library."""
    if not hasattr(model, "hook_dict"):
        return False
    from transformer_lens import HookedTransformer

    return isinstance(model, HookedTransformer)


def _of_transformers(folder: Path, model: Any, tokenizer: Any) -> None:
    _write_tokenizer(folder, tokenizer)
    start = getattr(tokenizer, "bos_token", None)
    if isinstance(start, str):
        (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": start}))
    model.save_pretrained(folder)


def _hooked(name: str, model: Any, tokenizer: Any) -> ModelInfo:
    told = model.cfg.to_dict() if hasattr(model.cfg, "to_dict") else vars(model.cfg)
    shape = {k: v for k, v in told.items() if k not in _NOT_SHAPE and _is_plain(v)}
    weights = {k: v for k, v in model.state_dict().items() if not k.endswith(MADE_BY_THE_CLASS)}

    def write(folder: Path) -> None:
        _write_tokenizer(folder, tokenizer)
        kept = {k: v.detach().cpu().contiguous().clone() for k, v in weights.items()}
        save_file(kept, folder / "weights.safetensors")
        text = json.dumps({"format": 1, "name": name, "transformer": shape}, indent=1)
        (folder / "config.json").write_text(text)

    folder = _written(name, write)
    file = folder / "weights.safetensors"
    digest = _sha256(file)
    info = catalogue.of_shape(
        name,
        shape,
        answers=Answers("tokens", (), -1),
        weights=shape_hash(shape, digest),
        folder=folder,
    )
    count = sum(v.numel() for v in weights.values())
    info = replace(info, source="notebook", n_parameters=count, bos=_bos(model, info))
    stat = file.stat()
    stamp = (file.name, stat.st_size, stat.st_mtime_ns)
    variant = (registry.PROCESSINGS[0], "float32")
    registry.keep(registry.Entry(info, (stamp,), (variant,)))
    return catalogue.info(name)


def _bos(model: Any, info: ModelInfo) -> int | None:
    """Return the id that the library would put before a prompt and the tokenizer does not."""
    if not getattr(model.cfg, "default_prepend_bos", True):
        return None
    given = getattr(getattr(model, "tokenizer", None), "bos_token_id", None)
    known = vocabulary(str(info.tokenizer))
    first = known.cut("a").ids[:1]
    if given is None or list(first) == [given] or not given < info.d_vocab:
        return None
    return int(given)


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _write_tokenizer(folder: Path, tokenizer: Any) -> None:
    """Write ``tokenizer.json`` of a tokenizer of either library."""
    inner = getattr(tokenizer, "backend_tokenizer", None) or tokenizer
    if not hasattr(inner, "to_str"):
        raise CannotLoad(
            "A model was pushed.",
            "It comes without a tokenizer that can be written as tokenizer.json.",
            "Give one: interp.push(name, model, tokenizer=AutoTokenizer.from_pretrained(base)).",
        )
    (folder / "tokenizer.json").write_text(inner.to_str(), encoding="utf-8")


def _written(name: str, write: Callable[[Path], None]) -> Path:
    """Write a new folder, whole or not at all: no record loses the model that it names."""
    base = registry.folder() / "pushed"
    base.mkdir(parents=True, exist_ok=True)
    mark = secrets.token_hex(4)
    temporary = base / f".{mark}"
    temporary.mkdir()
    try:
        write(temporary)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    final = base / f"{name.replace('/', '--').replace('@', '--')}-{mark}"
    os.replace(temporary, final)
    return final


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
