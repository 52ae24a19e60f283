"""Sets of prompt pairs that people brought: kept by their contents, so that a spec can name them.

A hundred pairs do not fit into an address. A set is a file in the data folder, named by the hash of
its pairs: the same pairs have one name wherever they came from, and a name never changes meaning.
The exact token ids are in each record anyway, so a record does not need the set.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from interp.behaviors._record import PromptPair
from interp.config import settings
from interp.errors import Corrupt

_PREFIX = "pairs-"
_NAME = re.compile(_PREFIX + "[0-9a-f]{16}")


@dataclass(frozen=True)
class Kept:
    """A set of pairs and what the person called it, a file's name for instance."""

    label: str
    pairs: tuple[PromptPair, ...]


def is_name(name: str) -> bool:
    """Whether ``name`` has the form of a kept set's name."""
    return _NAME.fullmatch(name) is not None


def names() -> tuple[str, ...]:
    """List the kept sets, the newest first."""
    files = [path for path in _folder().glob(f"{_PREFIX}*.json") if is_name(path.stem)]
    return tuple(path.stem for path in sorted(files, key=lambda p: -p.stat().st_mtime_ns))


def keep(pairs: Sequence[PromptPair], label: str) -> str:
    """Keep a set of pairs and return its name; the label of the first time stays."""
    plain = [asdict(pair) for pair in pairs]
    said = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    name = _PREFIX + hashlib.sha256(said.encode()).hexdigest()[:16]
    path = _folder() / f"{name}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{secrets.token_hex(4)}.tmp")
        temporary.write_text(json.dumps({"label": label, "pairs": plain}), encoding="utf-8")
        os.replace(temporary, path)
    return name


def get(name: str) -> Kept | None:
    """Read a kept set, None if it is not there.

    Raises:
        Corrupt: Its file has changed.
    """
    path = _folder() / f"{name}.json"
    return _read(path, path.stat().st_mtime_ns) if is_name(name) and path.exists() else None


@lru_cache(maxsize=32)
def _read(path: Path, stamp: int) -> Kept:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return Kept(str(told["label"]), tuple(PromptPair(**pair) for pair in told["pairs"]))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise Corrupt(
            f"The pairs {path.stem} were read.", "Their file is damaged.", "Bring them again."
        ) from error


def _folder() -> Path:
    return settings().home / "pairs"
