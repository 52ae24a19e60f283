"""The tensors of a checkpoint, asked for one by one; none may be missing or left over."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from interp.errors import CannotLoad

Read = Callable[[str], Tensor]

# Causal masks and tables of rotary positions, which older versions saved beside the weights.
_DERIVED = re.compile(
    r"(.*\.)?(attn|attention)\.(bias|masked_bias)|(.*\.)?rotary_emb\.(inv_freq|cos_cached|sin_cached)"
)
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


class Tensors:
    """The tensors of a checkpoint, by names without what stands before the decoder's.

    Without ``read`` it is a plan: it only notes what is asked for, and gives tensors without data.
    """

    def __init__(
        self, family: str, transformer: dict[str, Any], given: frozenset[str], read: Read | None
    ) -> None:
        self.family, self.transformer, self.given, self.read = family, transformer, given, read
        self.asked: set[str] = set()
        self._kinds = {_without_layer(name) for name in given}
        self.embedding = _EMBEDDING.get(family, "embed_tokens.weight")
        self.prefix = self._prefix()
        # One that is stored is used even where the configuration ties it to the embedding, as
        # transformers does; where both are equal it makes no difference.
        self.head = next((name for name in _HEADS if name in given), "")
        if not self.head and not transformer.get("tie_word_embeddings"):
            self.head = "embed_out.weight" if family == "gpt_neox" else "lm_head.weight"

    def size(self, *names: str) -> tuple[int, ...]:
        """Return sizes by their names in the model class's configuration."""
        return tuple(self.transformer[name] for name in names)

    def in_some_layer(self, name: str) -> bool:
        """Whether a tensor of that name is there in any layer."""
        return _without_layer(self.prefix + name) in self._kinds

    def take(self, name: str, *shape: int) -> Tensor:
        """Return the tensor of that name, which must have that shape."""
        full = name if name == self.head else self.prefix + name
        self.asked.add(full)
        if self.read is None:
            return torch.empty(shape, device="meta")
        found = self.read(full)
        if tuple(found.shape) != shape:
            raise self.wrong(
                f"The tensor {full!r} has the shape {tuple(found.shape)}; by config.json it is "
                f"{shape}."
            )
        return found

    def positions(self, n: int, d_model: int) -> Tensor:
        """Return the first ``n`` of GPT-2's position embeddings, of which there may be more."""
        name = f"{self.prefix}wpe.weight"
        self.asked.add(name)
        found = torch.empty(n, d_model, device="meta") if self.read is None else self.read(name)
        if found.dim() != 2 or found.shape[1] != d_model or len(found) < n:
            raise self.wrong(
                f"The tensor {name!r} has the shape {tuple(found.shape)}; by config.json it has at "
                f"least {n} rows of {d_model}."
            )
        return found[:n]

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
        missing = sorted(self.asked - self.given)
        extra = sorted(name for name in self.given - self.asked if not self._is_known(name))
        if missing or extra:
            parts = [_listed(missing, "missing"), _listed(extra, "unexpected")]
            raise self.wrong(" ".join(part for part in parts if part))

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


def _without_layer(name: str) -> str:
    return re.sub(r"\blayers\.\d+\.", "layers.", name)


def _listed(names: list[str], what: str) -> str:
    if not names:
        return ""
    more = " and others" if len(names) > _MOST_NAMED else ""
    shown = ", ".join(map(repr, names[:_MOST_NAMED]))
    count = "A tensor is" if len(names) == 1 else f"{len(names)} tensors are"
    return f"{count} {what}: {shown}{more}."
