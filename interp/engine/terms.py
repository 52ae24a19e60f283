"""What every writer of the stream wrote on many inputs, kept once where hypotheses need it.

A hypothesis is evaluated twice: first dry, on no rows, so that what it asks of this cache is noted
(``wanted``); then the model runs once over all inputs and everything asked for is kept (``fill``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.engine.traces import Trace, layers_of, trace
from interp.errors import BadInput
from interp.explanations.terms import Term
from interp.models.lean import Lean
from interp.models.load import LoadedModel

READ: Literal["read"] = "read"
Where = tuple[int, ...] | Literal["read"]
"""Positions counted from 0, or the one that each input is read at."""
_ROWS = 256

# What is kept: a term; the stream that a reader at a place in the order of writing reads
# (2L: heads of layer L, 2L + 1: its MLP, 2 x layers: the logits); a head's output read at the
# position before or at the same.
Key = tuple[Literal["term", "prev", "self"], Term] | tuple[Literal["stream"], int]


@dataclass(eq=False)
class Terms:
    """The cache.

    Attributes:
        model: The model.
        ids: Token ids, padded with -1 at the end.
        lengths: Tokens of each input.
        read: Position read, negative from the end.
        pad: Token that padding is filled with, or None where the model has none.
        wanted: What a dry evaluation asked for and is not kept yet.
    """

    model: LoadedModel
    ids: Int[Tensor, "row pos"]
    lengths: Int[Tensor, "row"]
    read: int
    pad: int | None
    lean: Lean = field(init=False)
    wanted: dict[Key, set[int | str]] = field(default_factory=dict)
    _kept: dict[Key, dict[str, Tensor]] = field(default_factory=dict)
    _at: dict[Key, dict[int, int]] = field(default_factory=dict)
    _padded: bool = False
    _beyond: int = 0

    def __post_init__(self) -> None:
        """Read the model's layers; refuse one whose writers do not add up."""
        lean, why = layers_of(self.model, None)
        if self.model.hooked.cfg.use_normalization_before_and_after:
            lean, why = None, "what its heads write is normed together, so it is no sum"
        if lean is None:
            raise BadInput(
                f"Causal scrubbing was asked of {self.model.info.name}.",
                f"It is not possible for this model: {why}.",
                "Choose another model, or use activation patching.",
            )
        self.lean = lean

    @property
    def last(self) -> int:
        """The place of the logits in the order of reading."""
        return 2 * len(self.lean.layers)

    @property
    def n(self) -> int:
        """Number of inputs."""
        return len(self.ids)

    @property
    def width(self) -> int:
        """Positions of the longest input."""
        return self.ids.shape[1]

    @property
    def bytes(self) -> int:
        """Size of what is kept."""
        return sum(t.nbytes for kept in self._kept.values() for t in kept.values())

    def normal(self, where: Where) -> Where:
        """Return positions counted from 0; ``READ`` stays only where inputs are read at several.

        Raises:
            BadInput: A position is beyond the longest input, or counted from several ends.
        """
        one = int(self.lengths.min()) == int(self.lengths.max())
        if isinstance(where, str):
            single = one or self.read >= 0
            return (self.read % self.width,) if single else READ
        off = [p for p in where if not -self.width * one <= p < self.width]
        if off:
            raise BadInput(
                f"The position {off[0]} was asked for.",
                f"The longest input has {self.width} tokens"
                + ("." if one else ", and inputs differ in length."),
                f"Name positions from 0 to {self.width - 1}.",
            )
        return tuple(p % self.width for p in where)

    def numbers(self, where: Where) -> tuple[int, ...]:
        """Return positions counted from 0, all the same in every input.

        Raises:
            BadInput: They are the ones that inputs of several lengths are read at.
        """
        found = self.normal((self.read,)) if isinstance(where, str) else where
        assert not isinstance(found, str), "numbers stay numbers"
        return found

    def seen(self, rows: Int[Tensor, "entry"]) -> Bool[Tensor, "entry pos"] | None:
        """Return which positions of some inputs are no padding; None where all are as long."""
        if int(self.lengths.min()) == self.width:
            return None
        seen = torch.arange(self.width) < self.lengths[rows, None]
        return seen.to(self.model.device)

    def get(
        self, key: Key, rows: Int[Tensor, "entry"], where: Where, *, hidden: bool = False
    ) -> Float[Tensor, "entry pos d_model"]:
        """Gather what was kept; without rows note what will be wanted.

        Args:
            key: What.
            rows: Of which inputs.
            where: At which positions.
            hidden: Whether positions beyond an input's end will be masked: there is nothing there
                then, and the inputs need not be padded.
        """
        if not len(rows):
            self.wanted.setdefault(key, set()).update([READ] if isinstance(where, str) else where)
            if not isinstance(where, str) and not hidden:
                self._beyond = max(self._beyond, *where, 0)
            n = 1 if isinstance(where, str) else len(where)
            d_model = self.model.info.d_model
            return torch.zeros(0, n, d_model, dtype=self.lean.dtype, device=self.model.device)
        kept = self._kept[key]
        if isinstance(where, str):
            return kept["read"][rows]
        at = [self._at[key][p] for p in where]
        if at == list(range(kept["at"].shape[1])):
            return kept["at"][rows]
        return kept["at"][rows[:, None], torch.tensor(at)]

    def bias_before(self, reader: int) -> Float[Tensor, "d_model"] | float:
        """Return the sum of the attention biases in the stream at a place of reading."""
        layers = self.lean.layers[: (reader + 1) // 2]
        biases = [layer.out.bias for layer in layers if layer.out.bias is not None]
        return torch.stack(biases).sum(0).to(self.lean.dtype) if biases else 0.0

    def fill(self) -> None:
        """Run the model over all inputs and keep what is wanted.

        Raises:
            BadInput: Inputs differ in length, and positions that not all have are asked for.

        Cost: one forward pass an input; memory of what is asked for.
        """
        missing = self._missing()
        if not missing:
            return
        if self._needs_padding() and not self._padded:
            self._padded = True
            missing = {key: places | self._places(key) for key, places in missing.items()}
            missing |= {key: self._places(key) for key in self._kept if key not in missing}
        for key, places in missing.items():
            self._make_room(key, places)
        keep = _components(missing)
        for rows, ids in self._batches():
            seen = self.seen(rows) if self._padded else None
            found = trace(self.model, ids, self.read, keep, seen=seen)
            for key in missing:
                self._save(key, rows, found)
        self.wanted.clear()

    def _missing(self) -> dict[Key, set[int | str]]:
        """Return what is wanted and not kept; what is kept of the same key is computed again."""
        missing: dict[Key, set[int | str]] = {}
        for key, places in self.wanted.items():
            have = self._places(key)
            if not places <= have:
                missing[key] = places | have
        self.wanted.clear()
        return missing

    def _places(self, key: Key) -> set[int | str]:
        """Return the positions at which something is kept."""
        return set[int | str](self._at.get(key, ())) | ({READ} & set(self._kept.get(key, ())))

    def _needs_padding(self) -> bool:
        shortest = int(self.lengths.min())
        if self._beyond < shortest:
            return False
        if self.lean.causal or self.pad is None:
            raise BadInput(
                "A node of the hypothesis reads positions that not all inputs have.",
                f"Inputs have {shortest} to {self.width} tokens, and the model "
                + ("reads them from left to right." if self.lean.causal else "has no padding."),
                "Name positions that all have, or choose inputs of one length.",
            )
        return True

    def _make_room(self, key: Key, places: set[int | str]) -> None:
        numbers = sorted(p for p in places if isinstance(p, int))
        shape = (self.n, len(numbers), self.model.info.d_model)
        dtype, device = self.lean.dtype, self.model.device
        self._kept[key] = {"at": torch.zeros(shape, dtype=dtype, device=device)}
        self._at[key] = {p: i for i, p in enumerate(numbers)}
        if READ in places:
            read = torch.empty(shape[0], 1, shape[2], dtype=dtype, device=device)
            self._kept[key]["read"] = read

    def _batches(self) -> Sequence[tuple[Tensor, Tensor]]:
        """Cut the inputs into batches of one length, or of all lengths where they are padded."""
        order = torch.argsort(self.lengths, stable=True)
        groups = [order] if self._padded else order.split(_run_lengths(self.lengths[order]))
        batches: list[tuple[Tensor, Tensor]] = []
        for group in groups:
            for rows in group.split(_ROWS):
                n = self.width if self._padded else int(self.lengths[rows[0]])
                ids = self.ids[rows, :n]
                batches.append((rows, ids.clamp(min=0) if self.pad is None else self._filled(ids)))
        return batches

    def _filled(self, ids: Int[Tensor, "row pos"]) -> Int[Tensor, "row pos"]:
        assert self.pad is not None
        return ids.masked_fill(ids < 0, self.pad)

    def _save(self, key: Key, rows: Int[Tensor, "entry"], found: Trace) -> None:
        values = self._values(key, found)
        kept, n = self._kept[key], values.shape[1]
        there = [(column, p) for p, column in self._at[key].items() if p < n]
        if there:
            columns, numbers = map(list, zip(*there, strict=True))
            kept["at"][rows[:, None], torch.tensor(columns)] = values[:, numbers]
        if "read" in kept:
            kept["read"][rows] = values[:, [found.read]].to(self.lean.dtype)

    def _values(self, key: Key, found: Trace) -> Float[Tensor, "row pos d_model"]:
        acts, (name, of) = found.acts, key
        if isinstance(of, int):
            if of == self.last:
                return acts["resid_post", of // 2 - 1]
            return acts["resid_pre" if of % 2 == 0 or self.lean.parallel else "resid_mid", of // 2]
        if of.kind in ("embed", "pos_embed"):
            return self._embedded(of, found)
        if of.kind == "mlp":
            return acts["mlp_out", of.layer]
        z = acts["z", of.layer]
        if name != "term":
            z = _read_at(acts, of.layer, shift=int(name == "prev"))
        weight = self.lean.layers[of.layer].out.weight.unflatten(1, (self.lean.n_heads, -1))
        return torch.nn.functional.linear(z[:, :, of.head].to(weight.dtype), weight[:, of.head])

    def _embedded(self, term: Term, found: Trace) -> Float[Tensor, "row pos d_model"]:
        """Return the embedding of tokens, or what positions add to it."""
        whole = found.acts["resid_pre", 0]
        if self.model.hooked.cfg.positional_embedding_type != "standard":
            return whole
        positions: Tensor = self.model.hooked.pos_embed.W_pos[: whole.shape[1]].to(whole.dtype)
        return positions.expand_as(whole) if term.kind == "pos_embed" else whole - positions


def terms_cache(
    model: LoadedModel, ids: np.ndarray, lengths: np.ndarray, read: int, pad: int | None
) -> Terms:
    """Make the cache of some inputs.

    Args:
        model: The model.
        ids: Token ids ``[row, pos]``, padded with -1 at the end.
        lengths: Tokens of each.
        read: Position read, negative from the end.
        pad: Token that padding is filled with, or None.
    """
    return Terms(model, torch.from_numpy(ids), torch.from_numpy(lengths), read, pad)


def _run_lengths(ordered: Tensor) -> list[int]:
    return ordered.unique_consecutive(return_counts=True)[1].tolist()


def _components(wanted: dict[Key, set[int | str]]) -> set[str]:
    keep: set[str] = set()
    for name, of in wanted:
        if isinstance(of, int):
            keep.add("resid_mid")
        elif of.kind == "mlp":
            keep.add("mlp_out")
        elif name != "term":
            keep |= {"pattern", "values"}
    return keep


def _read_at(acts: dict[tuple[str, int], Tensor], layer: int, shift: int) -> Tensor:
    """Return what heads read ``shift`` positions before each: ``[row, pos, head, d_head]``."""
    pattern, values = acts["pattern", layer], acts["values", layer]
    weight = pattern.new_zeros(pattern.shape[:3])
    weight[:, shift:] = pattern.diagonal(-shift, 1, 3).transpose(1, 2)
    read = values.repeat_interleave(pattern.shape[2] // values.shape[2], 2).roll(shift, 1)
    return weight[..., None] * read
