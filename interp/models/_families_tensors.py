"""The tensors of a checkpoint, asked for one by one; none missing or left over (torch-free)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from interp.errors import CannotLoad
from interp.models.families import Architecture

Tensor = Any
"""One of torch, or a ``Blank``."""
Read = Callable[[str], Tensor]
Shapes = Mapping[str, tuple[int, ...]]
"""The shape of each tensor of a checkpoint, as the headers of its files have it."""

# Causal masks and tables of rotary positions, which older versions saved beside the weights.
_DERIVED = re.compile(
    r"(.*\.)?(attn|attention)\.(bias|masked_bias)|(.*\.)?rotary_emb\.(inv_freq|cos_cached|sin_cached)"
)
# What is there by attention_bias.
_BIASES = re.compile(r".*\.(self_attn\.[qkvo]_proj|attention\.(query_key_value|dense))\.bias")
# What reads images in a checkpoint that also has a language model.
_IMAGES = re.compile(r"(model\.)?(vision_tower|multi_modal_projector)\..*")
_EMBEDDING = {"gpt2": "wte.weight", "gpt_neox": "embed_in.weight"}
_PREFIXES = {
    "gpt2": ("", "transformer."),
    "gpt_neox": ("", "gpt_neox."),
    "gemma3": ("", "model.", "language_model.model.", "model.language_model."),
}
_HEADS = ("lm_head.weight", "embed_out.weight", "language_model.lm_head.weight")
_MOST_NAMED = 5


class Blank:
    """Stands in a plan for any tensor, and for all that is made of it; allocates nothing."""

    @property
    def T(self) -> Blank:  # noqa: N802
        """Return it as it is."""
        return self

    def same(self, *_: Any) -> Blank:
        """Return it as it is."""
        return self

    def __iter__(self) -> Iterator[Blank]:
        return iter((self, self, self))  # query, key and value

    mT = T  # noqa: N815
    reshape = permute = transpose = new_zeros = __add__ = __mul__ = same


class Tensors:
    """The tensors of a checkpoint, by names without what stands before the decoder's.

    Without ``read`` it is a plan: it compares shapes, notes what is asked for, and gives blanks.
    """

    def __init__(self, made: Architecture, given: Shapes, read: Read | None = None) -> None:
        self.family, self.transformer = made.family, made.transformer
        self.attention_bias, self.given, self.read = made.attention_bias, given, read
        self.asked: set[str] = set()
        self.embedding = _EMBEDDING.get(self.family, "embed_tokens.weight")
        self.prefix = self._prefix()
        # One that is stored is used even where the configuration ties it to the embedding, as
        # transformers does; where both are equal it makes no difference.
        self.head = next((name for name in _HEADS if name in given), "")
        if not self.head and not self.transformer.get("tie_word_embeddings"):
            self.head = "embed_out.weight" if self.family == "gpt_neox" else "lm_head.weight"

    def size(self, *names: str) -> tuple[int, ...]:
        """Return sizes by their names in the model class's configuration."""
        return tuple(self.transformer[name] for name in names)

    def has_bias(self, name: str) -> bool:
        """Whether a linear map of attention has a bias; the names of the tensors do not say it."""
        if self.attention_bias is None:
            return self.family == "qwen2" and not name.endswith("o_proj")
        return self.attention_bias

    def take(self, name: str, *shape: int) -> Tensor:
        """Return the tensor of that name, which must have that shape."""
        full = name if name == self.head else self.prefix + name
        self.asked.add(full)
        found = self.given.get(full)
        if found is not None and found != shape:
            raise self.wrong(
                f"The tensor {full!r} has the shape {found}; by config.json it is {shape}."
            )
        return Blank() if self.read is None else self.read(full)

    def positions(self, n: int, d_model: int) -> Tensor:
        """Return the first ``n`` of GPT-2's position embeddings, of which there may be more."""
        name = f"{self.prefix}wpe.weight"
        self.asked.add(name)
        found = self.given.get(name, (n, d_model))
        if found[1:] != (d_model,) or found[0] < n:
            raise self.wrong(
                f"The tensor {name!r} has the shape {found}; by config.json it has at least {n} "
                f"rows of {d_model}."
            )
        return Blank() if self.read is None else self.read(name)[:n]

    def wrong(self, found: str) -> CannotLoad:
        """Make the error that says what was found in this checkpoint."""
        return CannotLoad(
            f"The weights of a {self.family} checkpoint were to be read.",
            found,
            "The files do not belong together, or are of another kind than config.json says. Copy "
            "or download the whole folder again.",
        )

    def check_names(self) -> None:
        """Refuse what was asked for and is not there, and the other way round."""
        given = self.given.keys()
        missing = sorted(self.asked - given)
        extra = sorted(name for name in given - self.asked if not self._is_known(name))
        if missing or extra:
            parts = [
                self._about_biases([*missing, *extra]),
                _listed(missing, "missing"),
                _listed(extra, "unexpected"),
            ]
            raise self.wrong(" ".join(part for part in parts if part))

    def _about_biases(self, wrong: list[str]) -> str:
        """Name the field where it and the names of the tensors disagree."""
        name = next((name for name in wrong if _BIASES.fullmatch(name)), "")
        if not name or self.attention_bias is None:
            return ""
        says = "true, and there is no" if self.attention_bias else "false, and there is a"
        return f"By config.json attention_bias is {says} tensor {name!r}."

    def _is_known(self, name: str) -> bool:
        images = self.family == "gemma3" and _IMAGES.fullmatch(name)
        return bool(images or _DERIVED.fullmatch(name))

    def _prefix(self) -> str:
        prefixes = _PREFIXES.get(self.family, ("", "model."))
        found = [prefix for prefix in prefixes if prefix + self.embedding in self.given]
        if len(found) == 1:
            return found[0]
        expected = " or ".join(repr(prefix + self.embedding) for prefix in prefixes)
        raise self.wrong(
            f"There is more than one embedding: {expected}."
            if found
            else f"The embedding is missing: there is no tensor {expected}."
        )


def _listed(names: list[str], what: str) -> str:
    if not names:
        return ""
    more = " and others" if len(names) > _MOST_NAMED else ""
    shown = ", ".join(map(repr, names[:_MOST_NAMED]))
    count = "A tensor is" if len(names) == 1 else f"{len(names)} tensors are"
    return f"{count} {what}: {shown}{more}."
