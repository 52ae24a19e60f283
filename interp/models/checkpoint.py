"""A folder in the hub's format, read without loading it: config.json, safetensors, a tokenizer.

Nothing in such a folder is executed and nothing is unpickled. What a file says of itself is
checked against the file before anything is allocated.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from interp.errors import CannotLoad
from interp.models.families import Architecture, architecture
from interp.models.paths import allowed, shown

Progress = Callable[[str, int, int], None]
"""Told what is done, and how many bytes of how many."""

_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2,
    "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip
INDEX = "model.safetensors.index.json"
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json")
_WEIGHTS = ".safetensors"
_PICKLES = re.compile(r".*\.(bin|pt|pth|ckpt|pkl)")
_COPY = "Copy or download the whole folder again."
_MOST_JSON = 64 * 2**20
_MOST_HEADER = 32 * 2**20
_MOST_TENSORS = 100_000
_MOST_AXES = 8
_CHUNK = 2**24


@dataclass(frozen=True)
class Stored:
    """A tensor of a file: where it is and what shape it says it has."""

    file: Path
    dtype: str
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        """Number of values."""
        return prod(self.shape)


@dataclass(frozen=True)
class Checkpoint:
    """What a folder holds. ``files`` are the safetensors files, sorted; ``tensors`` by name.

    Files are named as they are in the folder, though they may be links (in the hub's cache they
    are).
    """

    folder: Path
    config: dict[str, Any]
    architecture: Architecture
    files: tuple[Path, ...]
    tensors: dict[str, Stored]

    @property
    def bytes(self) -> int:
        """Size of the safetensors files."""
        return sum(path.stat().st_size for path in self.files)

    @property
    def stamps(self) -> tuple[tuple[str, int, int], ...]:
        """Name, size and time of change of each file that is read: by these a change is noticed."""
        others = (self.folder / name for name in ("config.json", *TOKENIZER_FILES))
        read = (*self.files, *(path for path in others if path.exists()))
        stats = ((path, path.stat()) for path in read)
        return tuple((path.name, stat.st_size, stat.st_mtime_ns) for path, stat in stats)


def open_checkpoint(folder: str | Path, roots: tuple[Path, ...] | None = None) -> Checkpoint:
    """Read what a folder in the hub's format says of itself, and check it.

    Args:
        folder: The folder; links are followed.
        roots: Folders that it and its files must lie under (default: the settings').

    Raises:
        CannotLoad: The folder may not be read, or a file is missing, broken or refused.

    Cost: reads headers only.
    """
    base = allowed(folder, roots)
    try:
        if not base.is_dir():
            raise CannotLoad(
                f"A model was to be read from {str(folder)[:200]!r}.",
                "That is a file." if base.exists() else "There is no such folder.",
                "Give the folder that holds config.json and the safetensors files.",
            )
        return _opened(base, roots)
    except OSError as error:
        raise CannotLoad(
            f"{shown(base)[:200]} was to be read.", f"It cannot be: {error.strerror}.", _COPY
        ) from error


def _opened(base: Path, roots: tuple[Path, ...] | None) -> Checkpoint:
    config = read_json(within(base, "config.json", roots))
    shape = architecture(config)
    listed = [path.name for path in base.iterdir()]
    index = read_json(within(base, INDEX, roots)) if INDEX in listed else None
    files = tuple(
        within(base, name, roots, link=True) for name in weight_names(shown(base), listed, index)
    )
    tensors: dict[str, Stored] = {}
    for path in files:
        for name, stored in _header(path).items():
            if name in tensors:
                raise CannotLoad(
                    f"{shown(base)} was to be read.",
                    f"The tensor {name[:200]!r} is in {tensors[name].file.name} and in "
                    f"{path.name}.",
                    "Save the model again.",
                )
            tensors[name] = stored
    return Checkpoint(base, config, shape, files, tensors)


def weights_hash(checkpoint: Checkpoint, progress: Progress | None = None) -> str:
    """Return the sha256 of the contents of all weight files and of the model's shape.

    Cost: reads every byte once.
    """
    total, done = checkpoint.bytes, 0
    digests: list[str] = []
    for path in checkpoint.files:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(_CHUNK):
                digest.update(block)
                done += len(block)
                if progress is not None:
                    progress("Reading the weights to know them again", done, total)
        digests.append(digest.hexdigest())
    return shape_hash(checkpoint.architecture.transformer, *digests)


def shape_hash(transformer: dict[str, Any], *digests: str) -> str:
    """Combine hashes of files with the shape they are read by."""
    said = json.dumps(transformer, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256("\n".join([*sorted(digests), said]).encode()).hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file of reasonable size.

    Raises:
        CannotLoad: It is missing, too large, or no JSON object.
    """
    asked, again = f"{path.name} was to be read.", "Copy or download the folder again."
    try:
        if path.exists() and not path.is_file():
            raise CannotLoad(asked, "It is not a file.", again)
        if path.stat().st_size > _MOST_JSON:
            raise CannotLoad(asked, f"It has more than {_MOST_JSON // 2**20} MB.", again)
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CannotLoad(
            asked,
            f"There is no such file in {shown(path.parent)}.",
            "Save the model with save_pretrained, which writes it.",
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise CannotLoad(asked, f"It is no JSON: {str(error)[:200]}.", again) from error
    if not isinstance(found, dict):
        raise CannotLoad(asked, "It is no JSON object.", again)
    return found


def within(
    base: Path, name: str, roots: tuple[Path, ...] | None = None, *, link: bool = False
) -> Path:
    """Return a file of a folder by its bare name, checked: no other folder, no other root.

    Args:
        base: The folder.
        name: Name of the file.
        roots: Folders that it must lie under (default: the settings').
        link: Return it by its own name though it is a link.

    Raises:
        CannotLoad: It lies elsewhere, or is no file.
    """
    if Path(name).name != name or name in ("", ".", ".."):
        raise CannotLoad(
            f"{shown(base)} was to be read.",
            f"Its index names the file {name[:200]!r}, which is not in the folder.",
            "Save the model again with save_pretrained.",
        )
    real = allowed(base / name, roots)
    # What is neither a file nor missing might never end, or never begin.
    if real.exists() and not real.is_file():
        raise CannotLoad(f"{shown(base)} was to be read.", f"{name} is not a file.", _COPY)
    return base / name if link else real


def weight_names(
    label: str, listed: Collection[str], index: dict[str, Any] | None
) -> tuple[str, ...]:
    """Say which files hold the weights: the whole file, else what the index names.

    Args:
        label: What is being read, for the message.
        listed: Names of the files that are there.
        index: Contents of the index, None where there is none.

    Raises:
        CannotLoad: None does, or it cannot be told which.
    """
    asked = f"{label} was to be read."
    # transformers takes the whole file where there are both.
    if "model.safetensors" in listed:
        return ("model.safetensors",)
    if index is not None:
        named = index.get("weight_map")
        values: list[Any] = list(named.values()) if isinstance(named, dict) else []
        if not values or not all(isinstance(n, str) and n.endswith(_WEIGHTS) for n in values):
            raise CannotLoad(
                asked, f"{INDEX} does not say which safetensors files there are.", _COPY
            )
        names = sorted(set(values))
        missing = [name for name in names if name not in listed and Path(name).name == name]
        if missing:
            raise CannotLoad(
                asked,
                f"{len(missing)} of its {len(names)} weight files are missing: "
                + ", ".join(repr(name[:100]) for name in missing[:3])
                + ".",
                _COPY,
            )
        return tuple(names)
    found = sorted(name for name in listed if name.endswith(_WEIGHTS))
    if len(found) == 1:
        return tuple(found)
    if found:
        raise CannotLoad(
            asked,
            f"It has {len(found)} safetensors files and no {INDEX}.",
            "Save the model with save_pretrained, which writes the index.",
        )
    pickled = sorted(name for name in listed if _PICKLES.fullmatch(name))
    raise CannotLoad(
        asked,
        f"Its weights are in {pickled[0]}, a pickle, "  # why: named to refuse it, never opened
        "which can run code when it is opened; it was not opened."
        if pickled
        else "It has no safetensors file.",
        "Save the model again where you trust it: model.save_pretrained(folder), which writes "
        "safetensors.",
    )


def _header(path: Path) -> dict[str, Stored]:
    """Read a safetensors header and check every claim in it against the file."""
    size = path.stat().st_size

    def broken(found: str) -> CannotLoad:
        return CannotLoad(
            f"The weights in {path.name} were to be read.", found, "Copy or download it again."
        )

    with path.open("rb") as file:
        n = int.from_bytes(file.read(8), "little")
        if size < 8 or n > min(_MOST_HEADER, size - 8):
            raise broken(
                f"The file has {size:,} bytes and says that its header alone has {n:,}: it is "
                "truncated or no safetensors file."
            )
        try:
            header = json.loads(file.read(n))
            if not isinstance(header, dict):
                raise ValueError("it is no JSON object")
            if len(header) > _MOST_TENSORS:
                raise ValueError(f"it lists {len(header):,} tensors")
            entries = {name: _entry(path, e) for name, e in header.items() if name[:2] != "__"}
        except (ValueError, RecursionError) as error:
            raise broken(f"Its header cannot be read: {str(error)[:200]}.") from error
    end = 0
    for name, (stored, start, stop) in sorted(entries.items(), key=lambda item: item[1][1:]):
        if stop - start != stored.numel * _BYTES[stored.dtype] or start != end:
            raise broken(f"The header's entry for {name[:200]!r} contradicts itself or another.")
        end = stop
    if end != size - 8 - n:
        raise broken(
            f"Its header declares {end:,} bytes of tensors; the file holds {size - 8 - n:,}."
        )
    return {name: stored for name, (stored, _, _) in entries.items()}


def _entry(path: Path, entry: Any) -> tuple[Stored, int, int]:
    try:
        (start, stop), shape, dtype = entry["data_offsets"], tuple(entry["shape"]), entry["dtype"]
        numbers = (start, stop, *shape)
        # Bounded before anything is multiplied: numbers of thousands of digits take minutes.
        small = all(isinstance(n, int) and 0 <= n < 2**53 for n in numbers)
        if dtype in _BYTES and small and len(shape) <= _MOST_AXES:
            return Stored(path, dtype, shape), start, stop
    except (ValueError, TypeError, KeyError):
        pass
    raise ValueError(f"an entry is {str(entry)[:100]}")
