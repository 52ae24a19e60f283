"""The inputs that a hypothesis is tested on, with the values of its features (torch-free)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from interp import expressions
from interp.behaviors import Behavior
from interp.errors import BadInput
from interp.explanations.hypothesis import Feature, Hypothesis

Values = Shaped[np.ndarray, "input"]


@dataclass(frozen=True, eq=False)
class Inputs:
    """Inputs as arrays.

    Attributes:
        ids: Token ids, padded at the end with -1.
        lengths: Tokens of each.
        read: Position whose logits are the answer, negative from the end.
        labels: Right output of each.
        foils: Output it is compared with, -1 for none.
        columns: Named values of each input.
        names: Token ids by the names that expressions use.
        held_out: Which are kept from searches.
        pad: Token that padding is filled with, or None.
        clusters: Group of words that each is made of; empty: all are independent.
    """

    ids: Int[np.ndarray, "input pos"]
    lengths: Int[np.ndarray, "input"]
    read: int
    labels: Int[np.ndarray, "input"]
    foils: Int[np.ndarray, "input"]
    columns: Mapping[str, Values] = field(default_factory=dict)
    names: Mapping[str, int] = field(default_factory=dict)
    held_out: Bool[np.ndarray, "input"] | None = None
    pad: int | None = None
    clusters: Int[np.ndarray, "some"] = field(default_factory=lambda: np.empty(0, np.int64))
    _known: dict[str, dict[str, Values]] = field(default_factory=dict, repr=False, init=False)

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(cls, behavior: Behavior, names: Mapping[str, int]) -> Inputs:
        """Take the clean inputs of a behavior.

        Raises:
            BadInput: It has no answers, or only one kind of them.
        """
        if not behavior.answers:
            raise BadInput(
                f"Causal scrubbing was asked on {behavior.name}.",
                "Its inputs have no right answers, which the loss is of.",
                "Choose inputs with answers.",
            )
        if len(set(behavior.answers)) < 2:
            raise BadInput(
                f"Causal scrubbing was asked on {len(behavior)} inputs of {behavior.name}.",
                "All have the same right answer, so that nothing distinguishes them.",
                "Take more inputs, or others.",
            )
        lengths = np.array(behavior.lengths, dtype=np.int64)
        ids = np.full((len(behavior), int(lengths.max())), -1, dtype=np.int64)
        for row, of in zip(ids, behavior.clean, strict=True):
            row[: len(of)] = of
        n = len(behavior)
        return cls(
            ids=ids,
            lengths=lengths,
            read=behavior.read,
            labels=np.array(behavior.answers, dtype=np.int64),
            foils=np.array(behavior.foils or (-1,) * n, dtype=np.int64),
            columns={name: np.array(of) for name, of in behavior.features},
            names=names,
            held_out=np.array(behavior.held_out or (False,) * n, dtype=bool),
            pad=names.get("PAD"),
            clusters=np.array(behavior.clusters, dtype=np.int64),
        )

    @cached_property
    def read_by_expressions(self) -> expressions.Inputs:
        """What expressions read."""
        return expressions.Inputs(self.ids, self.lengths, self.names, self.columns)

    def first(self, n: int) -> Inputs:
        """Return the first ``n`` inputs."""
        if n >= len(self):
            return self
        return replace(
            self,
            ids=self.ids[:n, : int(self.lengths[:n].max())],
            lengths=self.lengths[:n],
            labels=self.labels[:n],
            foils=self.foils[:n],
            columns={name: of[:n] for name, of in self.columns.items()},
            held_out=None if self.held_out is None else self.held_out[:n],
            clusters=self.clusters[:n],
        )

    def values(self, hypothesis: Hypothesis) -> dict[str, Values]:
        """Return the value of every feature that a hypothesis defines; floats in their bins.

        Columns may be named like features; a hypothesis' own come first.

        Raises:
            BadInput: An expression is wrong, or some value is no finite number.
        """
        wanted = {name for node, _ in hypothesis.nodes() for name in node.features}
        given = {name: f.expr for name, f in hypothesis.features.items()}
        asked = json.dumps(given, sort_keys=True)
        # Many versions of one hypothesis have the same features.
        if asked not in self._known:
            self._known[asked] = expressions.evaluate(given, self.read_by_expressions)
        found = self._known[asked]
        taken = {name: self.columns[name] for name in wanted - set(found) if name in self.columns}
        return taken | {n: _typed(v, hypothesis.features[n], n) for n, v in found.items()}


def _typed(values: Values, feature: Feature, name: str) -> Values:
    """Check a value's type and put floats into bins."""
    if not np.isfinite(values).all():
        at = int(np.flatnonzero(~np.isfinite(values))[0])
        raise BadInput(f"The feature {name!r} is no number on input {at}.", "", "Change it.")
    if feature.dtype == "bool" and not np.isin(values, (0, 1)).all():
        raise BadInput(
            f"The feature {name!r} is said to be true or false.",
            f"It has {len(np.unique(values))} values, {values.min():g} to {values.max():g}.",
            "Call it an int or a float.",
        )
    if feature.bins and feature.dtype == "float":
        return quantile_bins(values, feature.bins)
    return values


def quantile_bins(values: Float[np.ndarray, "input"], bins: int) -> Int[np.ndarray, "input"]:
    """Return the number of the quantile bin of each value; equal values share one."""
    edges = np.unique(np.quantile(values, np.arange(1, bins) / bins, method="inverted_cdf"))
    return np.searchsorted(edges, values, side="left")
