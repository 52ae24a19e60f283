"""What can be said about a model without loading it (torch-free)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Source = Literal["bundled", "hub", "local", "notebook"]
DTYPES = ("float32", "bfloat16", "float16", "float64")
"""Precisions that a model can be run in; the first is the default."""
BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of one number in each precision."""


@dataclass(frozen=True)
class Answers:
    """What the model answers with, and where it is read.

    ``space`` is "tokens" (the vocabulary) or "classes" (named outputs); ``read`` is the position
    whose logits are the answer, negative from the end. ``note`` says what to mind about prompts
    and answers, for people; it may be empty.
    """

    space: Literal["tokens", "classes"]
    classes: tuple[str, ...]
    read: int
    note: str = ""


def weights_in(folder: Path, snapshot: str = "") -> Path:
    """Return the file of a bundled model's weights, or of one of its snapshots."""
    name = f"snapshots/{snapshot}.safetensors" if snapshot else "weights.safetensors"
    return folder / name


@dataclass(frozen=True)
class ModelInfo:
    """Shape and identity of a model.

    Attributes:
        name: What specs call it.
        weights: Sha256 of weights and shape together.
        processing: "raw" (as published) or "folded" (norms folded, writing weights centred).
        d_mlp: None for a model of attention only.
        n_ctx: Positions of a prompt here; a model may have been trained on more.
        d_vocab: Token ids that are read.
        d_out: Outputs.
        causal: Whether a position sees only those before it.
        folder: Where its files are.
        dtype: Precision that it runs in, one of ``DTYPES``.
        source: Where it comes from.
        family: Architecture as its configuration names it, e.g. "gpt2"; empty for bundled ones.
        revision: Commit of the hub's repository, or empty.
        n_parameters: Values that were trained, as published; tied ones once.
        n_key_value_heads: Fewer than ``n_heads`` where queries share keys and values.
        gated: Whether the MLP has a gate, a third matrix.
        parallel: Whether attention and MLP read the same stream (then there is no ``resid_mid``).
        softcap: Scale of the tanh on the logits, 0 for none.
        bos: Token id that is put before every prompt because its tokenizer does not, or None.
        tokenizer_file: Its tokenizer where that is not ``tokenizer.json`` in the folder.
        snapshot: Other weights of the same bundled model, a training step for instance; the name
            has it behind an @. Empty: the final ones.
        transformer: Fields of the model class's configuration, plain JSON.
    """

    name: str
    weights: str
    processing: str
    n_layers: int
    n_heads: int
    d_model: int
    d_head: int
    d_mlp: int | None
    n_ctx: int
    d_vocab: int
    d_out: int
    causal: bool
    answers: Answers
    folder: Path
    dtype: str = DTYPES[0]
    source: Source = "bundled"
    family: str = ""
    revision: str = ""
    n_parameters: int = 0
    n_key_value_heads: int = 0
    gated: bool = False
    parallel: bool = False
    softcap: float = 0.0
    bos: int | None = None
    tokenizer_file: Path | None = None
    snapshot: str = ""
    transformer: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def tokenizer(self) -> Path:
        """Its tokenizer's file."""
        return self.tokenizer_file or self.folder / "tokenizer.json"

    @property
    def weights_file(self) -> Path:
        """Where the weights of a bundled model, or of one that a notebook pushed, are."""
        return weights_in(self.folder, self.snapshot)

    @property
    def base(self) -> str:
        """Its name without weight processing, precision and, of a bundled model, snapshot."""
        plain = self.name.partition(":")[0]
        return plain.partition("@")[0] if self.source == "bundled" else plain

    @property
    def parameters(self) -> int:
        """Parameters that take part in a matrix product, about (for estimates, not for cards)."""
        keys = self.n_key_value_heads or self.n_heads
        attention = 2 * (self.n_heads + keys) * self.d_head * self.d_model
        mlp = (3 if self.gated else 2) * self.d_model * (self.d_mlp or 0)
        return self.n_layers * (attention + mlp) + self.d_model * self.d_out

    @property
    def has_mlp(self) -> bool:
        """Whether there are MLPs (a model of attention only has no ``mlp_out``)."""
        return self.d_mlp is not None

    @property
    def has_mid(self) -> bool:
        """Whether there is a stream between attention and MLP."""
        return self.has_mlp and not self.parallel
