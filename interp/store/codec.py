"""Results to bytes and back: one safetensors file, everything that is no array as JSON inside it.

A result is a frozen dataclass of numpy arrays, strings, numbers, booleans, None, tuples of these
and further such dataclasses. Nothing else is accepted, so nothing is ever unpickled.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from interp.errors import Corrupt

T = TypeVar("T")
_META = "result"
# What made-up bytes can run into on the way: they may have any shape, or any depth.
_UNREADABLE = (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


def pack(result: Any) -> bytes:
    """Turn a result into bytes; equal results give equal bytes."""
    arrays: dict[str, np.ndarray] = {}
    tree = _plain(result, "", arrays)
    # A file needs a tensor, and safetensors writes it in a fixed order; one metadata key keeps
    # the header's order fixed too.
    arrays = arrays or {"": np.zeros(0, np.uint8)}
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return save(arrays, metadata={_META: text})


def unpack(cls: type[T], data: bytes) -> T:
    """Turn bytes back into a result of type ``cls``.

    Raises:
        Corrupt: The bytes are no result, or one of another type.
    """
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        tree = json.loads(header["__metadata__"][_META])
        built: T = _built(cls, tree, load(data))
        return built
    except _UNREADABLE as error:
        raise Corrupt(
            f"A stored {cls.__module__.rsplit('.', 1)[-1]} result was read.",
            "Its bytes are not in a form that this version reads.",
            "Run again.",
        ) from error


def pack_arrays(arrays: dict[str, np.ndarray]) -> bytes:
    """Turn named arrays into bytes."""
    return save({name: np.asarray(a, order="C") for name, a in arrays.items()})


def unpack_arrays(data: bytes) -> dict[str, np.ndarray]:
    """Turn bytes back into named arrays."""
    return load(data)


def _plain(value: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, np.ndarray):
        # Not ascontiguousarray: that gives an array without axes one.
        arrays[path] = np.asarray(value, order="C")
        return {"array": path}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        inner = {
            f.name: _plain(getattr(value, f.name), f"{path}.{f.name}".lstrip("."), arrays)
            for f in fields
        }
        return {"type": type(value).__name__, "fields": inner}
    if isinstance(value, tuple):
        return [_plain(v, f"{path}.{i}", arrays) for i, v in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{path or 'result'}: a result cannot hold a {type(value).__name__}")


def _built(hint: Any, tree: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(tree, dict) and "array" in tree:
        return arrays[tree["array"]]
    if isinstance(tree, dict):
        cls = _dataclass_named(hint, tree["type"])
        hints = typing.get_type_hints(cls)
        fields = {k: _built(hints[k], v, arrays) for k, v in tree["fields"].items()}
        return cls(**fields)
    if isinstance(tree, list):
        inner = next(
            (typing.get_args(h)[0] for h in _choices(hint) if typing.get_origin(h) is tuple), Any
        )
        return tuple(_built(inner, v, arrays) for v in tree)
    return tree


def _choices(hint: Any) -> tuple[Any, ...]:
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if union else (hint,)


def _dataclass_named(hint: Any, name: str) -> Any:
    for choice in _choices(hint):
        if dataclasses.is_dataclass(choice) and getattr(choice, "__name__", "") == name:
            return choice
    raise TypeError(f"no type {name} here")
