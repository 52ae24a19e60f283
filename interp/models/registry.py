"""Models that a person added: one JSON file each in the data folder (torch-free).

A model is added once, by its folder or its hub name; from then on specs name it. What it is, is
written down when it is added; if its files change afterwards, it must be added again, so that a
record never names weights that it was not computed with.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from interp.config import settings
from interp.errors import BadInput, CannotLoad
from interp.models.info import DTYPES, Answers, ModelInfo

PROCESSINGS = ("raw", "folded")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+/-]{0,149}(@[A-Za-z0-9._/-]{1,80})?")


@dataclass(frozen=True)
class Entry:
    """An added model.

    Attributes:
        info: The model as published, raw and in float32.
        stamps: Name, size and time of change of each weight file when it was added.
        variants: (processing, dtype) under which it was added.
    """

    info: ModelInfo
    stamps: tuple[tuple[str, int, int], ...]
    variants: tuple[tuple[str, str], ...]


def folder() -> Path:
    """Return the folder of the entries."""
    return settings().home / "models"


def split(name: str) -> tuple[str, str, str]:
    """Split a name into the model, its weight processing and its precision.

    ``org/model@revision:folded:bfloat16``; what is left out is raw and float32.
    """
    base, *marks = name.split(":")
    processing, dtype = PROCESSINGS[0], DTYPES[0]
    for mark in marks:
        if mark in PROCESSINGS:
            processing = mark
        elif mark in DTYPES:
            dtype = mark
        else:
            raise BadInput(
                f"The model {name!r} was asked for.",
                f"{mark!r} is neither a weight processing nor a precision.",
                f"After a colon: {', '.join((*PROCESSINGS, *DTYPES))}.",
            )
    return base, processing, dtype


def join(base: str, processing: str, dtype: str) -> str:
    """Name a variant of a model: the inverse of ``split``."""
    marks = (processing != PROCESSINGS[0], processing), (dtype != DTYPES[0], dtype)
    return ":".join([base, *(mark for said, mark in marks if said)])


def check_name(name: str) -> None:
    """Refuse what cannot be a model's name.

    Raises:
        BadInput: It has characters that names do not have.
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise BadInput(
            f"The name {name[:200]!r} was given.",
            "A model's name is letters, digits and . _ + - /, and may end in @ and a revision.",
            "Example: local/my-fine-tune.",
        )


def entries() -> dict[str, Entry]:
    """Read every entry, by name; one that cannot be read is left out."""
    files = sorted(folder().glob("*.json"))
    stamps = [(path, path.stat().st_mtime_ns) for path in files if path.exists()]
    found = (_entry(path, stamp) for path, stamp in stamps)
    return {entry.info.name: entry for entry in found if entry is not None}


@lru_cache(maxsize=256)
def _entry(path: Path, stamp: int) -> Entry | None:
    """Read one entry; ``stamp`` is its time of change, so that a new one is read anew."""
    try:
        return _read(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def keep(entry: Entry) -> None:
    """Write an entry, whole or not at all; variants of the same weights are kept."""
    check_name(entry.info.name)
    old = entries().get(entry.info.name)
    if old is not None and old.info.weights == entry.info.weights:
        both = dict.fromkeys((*old.variants, *entry.variants))
        entry = replace(entry, variants=tuple(both))
    told = asdict(entry)
    for name in ("folder", "tokenizer_file"):
        told["info"][name] = None if told["info"][name] is None else str(told["info"][name])
    path = _path(entry.info.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{secrets.token_hex(4)}.tmp")
    temporary.write_text(json.dumps(told, indent=1, sort_keys=True), encoding="utf-8")
    os.replace(temporary, path)


def forget(name: str) -> None:
    """Remove an entry; the model's own files stay."""
    _path(name).unlink(missing_ok=True)


def check_unchanged(entry: Entry) -> None:
    """Refuse a model whose files are not those that were added.

    Raises:
        CannotLoad: A file is gone or has changed.
    """
    for name, size, changed in entry.stamps:
        path = entry.info.folder / name
        stat = path.stat() if path.exists() else None
        if stat is None or (stat.st_size, stat.st_mtime_ns) != (size, changed):
            raise CannotLoad(
                f"{entry.info.name} was to be loaded from {entry.info.folder}.",
                f"{name} is gone." if stat is None else f"{name} has changed since it was added.",
                "Add the model again: records name the weights that they were computed with.",
            )


def _path(name: str) -> Path:
    return folder() / f"{quote(name, safe='')}.json"


def _read(text: str) -> Entry:
    told: dict[str, Any] = json.loads(text)
    info = {f.name: told["info"][f.name] for f in fields(ModelInfo)}
    answers = info["answers"]
    info["answers"] = Answers(answers["space"], tuple(answers["classes"]), answers["read"])
    info["folder"] = Path(info["folder"])
    if info["tokenizer_file"] is not None:
        info["tokenizer_file"] = Path(info["tokenizer_file"])
    return Entry(
        ModelInfo(**info),
        tuple((name, size, changed) for name, size, changed in told["stamps"]),
        tuple((processing, dtype) for processing, dtype in told["variants"]),
    )
