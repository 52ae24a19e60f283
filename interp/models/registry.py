"""Models that a person added: one JSON file each in the data folder (torch-free).

A model is added once, by its folder or its hub name; from then on specs name it. What it is, is
written down when it is added; if its files change afterwards, it must be added again, so that a
record never names weights that it was not computed with.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from interp.config import settings
from interp.errors import BadInput, CannotLoad
from interp.models.info import DTYPES, Answers, ModelInfo

PROCESSINGS = ("raw", "folded")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+/-]{0,149}(@[A-Za-z0-9._+/-]{1,80})?")
_MOST_FILE_NAME = 200


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
                f"The model {name[:200]!r} was asked for.",
                f"{mark[:80]!r} is neither a weight processing nor a precision.",
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
        BadInput: It has characters that names do not have, or is too long.
    """
    asked, example = f"The name {name[:200]!r} was given.", "Example: local/my-fine-tune."
    if len(name) > _MOST_FILE_NAME:
        raise BadInput(asked, f"It has {len(name):,} characters, which is too many.", example)
    if not _NAME.fullmatch(name) or ".." in name:
        raise BadInput(
            asked,
            "A model's name is letters, digits and . _ + - /, and may end in @ and a revision.",
            example,
        )
    if len(quote(name, safe="")) > _MOST_FILE_NAME:
        raise BadInput(asked, "It is too long for a file's name, where / takes three.", example)


def entries() -> dict[str, Entry]:
    """Read every entry, by name; one that cannot be read is left out."""
    found = (_entry(path) for path in sorted(folder().glob("*.json"), key=lambda p: p.stem))
    return {entry.info.name: entry for entry in found if entry is not None}


def _entry(path: Path) -> Entry | None:
    try:
        # By its contents: the time of change of a file that is replaced at once may be the same.
        found = _read(path.read_text(encoding="utf-8"))
        return found if _path(found.info.name).name == path.name else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def free_name(label: str, model: Path) -> str:
    """Return ``label``, or with a number behind it if a model of another folder has it."""
    taken = entries()
    name, n = label, 1
    while name in taken and taken[name].info.folder != model:
        n += 1
        name = f"{label}-{n}"
    return name


def keep(entry: Entry, *, rename: bool = False) -> Entry:
    """Write an entry, whole or not at all; variants of the same weights are kept.

    Args:
        entry: What to write.
        rename: Give it another name rather than take that of a model of another folder.

    Returns:
        What was written.
    """
    check_name(entry.info.name)
    with _changing():
        if rename:
            name = free_name(entry.info.name, entry.info.folder)
            entry = replace(entry, info=replace(entry.info, name=name))
        old = entries().get(entry.info.name)
        if old is not None and old.info.weights == entry.info.weights:
            both = dict.fromkeys((*old.variants, *entry.variants))
            entry = replace(entry, variants=tuple(both))
        _write(entry)
    return entry


@contextmanager
def _changing() -> Generator[None]:
    """Hold off others, threads and processes, while an entry is read and written anew."""
    folder().mkdir(parents=True, exist_ok=True)
    with (folder() / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write(entry: Entry) -> None:
    told = asdict(entry)
    for name in ("folder", "tokenizer_file"):
        told["info"][name] = None if told["info"][name] is None else str(told["info"][name])
    path = _path(entry.info.name)
    temporary = path.with_suffix(f".{secrets.token_hex(4)}.tmp")
    temporary.write_text(json.dumps(told, indent=1, sort_keys=True), encoding="utf-8")
    os.replace(temporary, path)


def forget(name: str) -> None:
    """Remove one variant of a model, and its entry with the last; its own files stay."""
    base, *variant = split(name)
    with _changing():
        entry = entries().get(base)
        if entry is None:
            return
        left = tuple(v for v in entry.variants if v != tuple(variant))
        if left:
            _write(replace(entry, variants=left))
        else:
            _path(base).unlink(missing_ok=True)


def check_unchanged(entry: Entry) -> None:
    """Refuse a model whose files are not those that were added.

    Raises:
        CannotLoad: A file is gone or has changed.
    """
    for name, size, changed in entry.stamps:
        try:
            stat = (entry.info.folder / name).stat()
        except OSError:
            stat = None
        if stat is None or (stat.st_size, stat.st_mtime_ns) != (size, changed):
            raise CannotLoad(
                f"{entry.info.name} was to be loaded from {entry.info.folder}.",
                f"{name} is gone." if stat is None else f"{name} has changed since it was added.",
                "Add the model again: records name the weights that they were computed with.",
            )


def _path(name: str) -> Path:
    return folder() / f"{quote(name, safe='')}.json"


@lru_cache(maxsize=256)
def _read(text: str) -> Entry:
    told: dict[str, Any] = json.loads(text)
    # Fields that were not there when it was written have their defaults.
    info = {f.name: told["info"][f.name] for f in fields(ModelInfo) if f.name in told["info"]}
    answers = info["answers"]
    info["answers"] = Answers(answers["space"], tuple(answers["classes"]), answers["read"])
    info["folder"] = Path(info["folder"])
    if info.get("tokenizer_file") is not None:
        info["tokenizer_file"] = Path(info["tokenizer_file"])
    return Entry(
        ModelInfo(**info),
        tuple((name, size, changed) for name, size, changed in told["stamps"]),
        tuple((processing, dtype) for processing, dtype in told["variants"]),
    )
