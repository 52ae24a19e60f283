"""Typed reading of a config.json: what it says, else what its model type takes (torch-free)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, NoReturn, TypeGuard

from interp.errors import CannotLoad

Transformer = dict[str, Any]
"""Fields of the model class's configuration, plain JSON."""

MOST_LAYERS = 10_000
MOST = 2**31
# What the checkpoint's own library calls them -> what the model class calls them.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_new",
    "gelu_fast": "gelu_fast",
    "gelu_pytorch_tanh": "gelu_pytorch_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
_ORIGINAL = "original_max_position_embeddings"
_LLAMA3 = {
    "factor": "NTK_by_parts_factor",
    "low_freq_factor": "NTK_by_parts_low_freq_factor",
    "high_freq_factor": "NTK_by_parts_high_freq_factor",
    _ORIGINAL: "NTK_original_ctx_len",
}
ATTENTION = {"full_attention": "global", "attention": "global", "sliding_attention": "local"}


class Fields:
    """The fields of a configuration, of which only those with a default can be asked for."""

    def __init__(self, kind: str, said: dict[str, Any], defaults: dict[str, Any]) -> None:
        self.kind, self.said = kind, said
        self._values = {name: said.get(name, default) for name, default in defaults.items()}

    def refuse(self, found: str, works: str = "") -> NoReturn:
        """Raise the error that says what was found in this configuration."""
        raise CannotLoad(
            f"A checkpoint of type {self.kind} was to be read by its config.json.",
            found,
            works or "Choose another checkpoint, or save this one again with the field corrected.",
        )

    def wrong(self, name: str, wanted: str) -> NoReturn:
        """Raise the error for a field with a value that it cannot have."""
        self.refuse(f"{name} is {_shown(self.raw(name))}, which is not {wanted}.")

    def raw(self, name: str) -> Any:
        """Return a field as it is."""
        return self._values[name]

    def count(self, name: str, most: int = MOST) -> int:
        """Return a field that counts something: at least one, at most ``most``."""
        value = self.raw(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            self.wrong(name, f"a whole number from 1 to {most:,}")
        return value

    def whole(self, name: str) -> int:
        """Return a field that is a whole number from zero."""
        value = self.raw(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            self.wrong(name, "a whole number from 0")
        return value

    def positive(self, name: str) -> float:
        """Return a field that is a number above zero."""
        if not is_positive(self.raw(name)):
            self.wrong(name, "a number above zero")
        return float(self.raw(name))

    def flag(self, name: str) -> bool:
        """Return a field that is true or false."""
        if not isinstance(self.raw(name), bool):
            self.wrong(name, "true or false")
        return self.raw(name)

    def count_or_none(self, name: str) -> int | None:
        """Return a field that counts something, or None where it is null."""
        return None if self.raw(name) is None else self.count(name)

    def positive_or_none(self, name: str) -> float | None:
        """Return a field that is a number above zero, or None where it is null."""
        return None if self.raw(name) is None else self.positive(name)

    def activation(self, name: str, renamed: Mapping[str, str] | None = None) -> str:
        """Return the model class's name of an activation function, after ``renamed``."""
        value = self.raw(name)
        value = (renamed or {}).get(value, value) if isinstance(value, str) else value
        if not isinstance(value, str) or value not in ACTIVATIONS:
            self.refuse(
                f"{name} is {_shown(value)}, an activation that the model class does not have.",
                f"Those that can be read: {', '.join(ACTIVATIONS)}.",
            )
        return ACTIVATIONS[value]

    def part(self, whole: int, n: int, what: str) -> int:
        """Divide ``whole`` by ``n``, which must go evenly."""
        if whole % n:
            self.refuse(f"{what}: {whole} cannot be divided by {n}.")
        return whole // n


def is_positive(value: Any) -> TypeGuard[float]:
    """Whether this is a number above zero that a float can hold."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 < value <= sys.float_info.max


def _shown(value: Any) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def window(fields: Fields, kinds: list[str], size: int | None) -> Transformer:
    """Describe which layers see only the last ``size`` positions."""
    if "local" not in kinds:
        return {}
    if size is None:
        fields.refuse("Some layers have sliding attention, and sliding_window is null.")
    return {"use_local_attn": True, "window_size": size, "attn_types": kinds}


def layer_kinds(fields: Fields, usual: list[str]) -> list[str]:
    """Return "global" or "local" for each layer, from ``layer_types`` or else ``usual``."""
    given = fields.raw("layer_types")
    if given is None:
        return usual
    if not isinstance(given, list) or len(given) != len(usual):
        fields.wrong("layer_types", f"a list of {len(usual)} entries, one a layer")
    strange = [kind for kind in given if not isinstance(kind, str) or kind not in ATTENTION]
    if strange:
        fields.refuse(
            f"layer_types has {_shown(strange[0])}, attention that the model class does not have.",
            "Layers with full_attention and sliding_attention can be read.",
        )
    return [ATTENTION[kind] for kind in given]


def rotary(fields: Fields, d_head: int, *, partial: bool = False) -> Transformer:
    """Describe the rotary positions of a model with one kind of them."""
    rope = _one_dict(fields, "rope_scaling") or _one_dict(fields, "rope_parameters")
    base = rope.get("rope_theta", fields.raw("rotary_emb_base" if partial else "rope_theta"))
    usual = fields.raw("rotary_pct") if partial else fields.said.get("partial_rotary_factor", 1.0)
    share = rope.get("partial_rotary_factor", usual)
    if not is_positive(share) or share > 1 or not (partial or share == 1):
        fields.refuse(f"Heads are to be rotated in the part {_shown(share)} of their dimensions.")
    return {
        "positional_embedding_type": "rotary",
        "rotary_adjacent_pairs": False,
        "rotary_dim": _even(fields, int(d_head * share)),
        "rotary_base": _theta(fields, base),
        **scaling(fields, rope),
    }


def rotary_by_layer(fields: Fields, d_head: int) -> Transformer:
    """Describe rotary positions that differ between full and sliding attention (Gemma 3)."""
    kinds = ("full_attention", "sliding_attention")
    given = fields.raw("rope_parameters")
    rope = {kind: {"rope_type": "default"} for kind in kinds} if given is None else given
    if not isinstance(rope, dict) or not rope.keys() <= set(kinds):
        fields.wrong("rope_parameters", f"an object with {' and '.join(kinds)}")
    parts = [rope.get(kind) or {} for kind in kinds]
    if not all(isinstance(part, dict) for part in parts):
        fields.wrong("rope_parameters", "an object of objects")
    far, near = {**parts[0], **_one_dict(fields, "rope_scaling")}, parts[1]
    far_scaling = scaling(fields, far)
    if scaling(fields, near) or not far_scaling.keys() <= {"rotary_scaling_factor"}:
        fields.refuse(
            "Its rotary positions are scaled other than linearly, or in sliding attention.",
            "Linear scaling in full attention can be read.",
        )
    base, near_base = fields.raw("rope_theta"), fields.raw("rope_local_base_freq")
    return {
        "positional_embedding_type": "rotary",
        "rotary_adjacent_pairs": False,
        "rotary_dim": _even(fields, d_head),
        "rotary_base": _theta(fields, far.get("rope_theta", base)),
        "rotary_base_local": _theta(fields, near.get("rope_theta", near_base)),
        **far_scaling,
    }


def scaling(fields: Fields, rope: dict[str, Any]) -> Transformer:
    """Describe how rotary frequencies are stretched beyond the length first trained on."""
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == rope.get("type", kind):  # two names for one thing: they must not contradict
        # Beside max_position_embeddings it overrules the one with the other numbers of the scaling:
        # so it does in transformers, once the model is made.
        beside = {_ORIGINAL: fields.said[_ORIGINAL]} if _ORIGINAL in fields.said else {}
        said = {_ORIGINAL: fields.raw("max_position_embeddings"), **rope, **beside}
        ntk: dict[str, Any] = {ours: said.get(theirs) for theirs, ours in _LLAMA3.items()}
        if kind == "default":
            return {}
        if kind == "linear" and is_positive(said.get("factor")):
            return {"rotary_scaling_factor": float(said["factor"])}
        if kind == "llama3" and all(map(is_positive, ntk.values())):
            low, high = ntk["NTK_by_parts_low_freq_factor"], ntk["NTK_by_parts_high_freq_factor"]
            if low < high:
                return {"use_NTK_by_parts_rope": True, **{k: float(v) for k, v in ntk.items()}}
    return fields.refuse(
        f"The rotary positions are scaled by {_shown(rope)}.",
        "Scaling of type default, linear or llama3 can be read, with all of its numbers.",
    )


def _one_dict(fields: Fields, name: str) -> dict[str, Any]:
    """Return a field that is null or an object, and not one object for each kind of layer."""
    given = fields.raw(name)
    if given is None:
        return {}
    if not isinstance(given, dict) or any(isinstance(v, dict) for v in given.values()):
        fields.wrong(name, "an object of numbers and names")
    return {str(key): value for key, value in given.items()}


def _theta(fields: Fields, base: Any) -> float:
    if not is_positive(base):
        fields.refuse(f"The base of the rotary positions is {_shown(base)}.")
    return float(base)


def _even(fields: Fields, dim: int) -> int:
    if dim < 2 or dim % 2:
        fields.refuse(f"{dim} dimensions of each head are to be rotated, which is no even number.")
    return dim
