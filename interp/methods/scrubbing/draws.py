"""Which inputs every node of a hypothesis takes: all randomness of scrubbing (torch-free)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Shaped

from interp.errors import BadInput
from interp.explanations.hypothesis import ANY, EXACT, SAME_AS, SEPARATE, Hypothesis, Near, Node
from interp.explanations.terms import ROOT, STREAM, Term, parse_terms
from interp.methods.scrubbing.classes import Classes, Rows, nearest, uniform
from interp.models.info import ModelInfo

Slot = str
"""One of a head's inputs, "q", "k" or "v"; empty where they are not told apart."""
Separate = dict[tuple[str, Slot], Rows]
"""An own input for each term, and for the mask."""
MASKED = "mask"


@dataclass(frozen=True, eq=False)
class Draws:
    """One draw of everything for some reference inputs.

    Attributes:
        refs: The references.
        row: The input that each node takes, by its id.
        other: The input that the unimportant rest of each node's input is of; one for each term
            and slot where they are drawn separately.
    """

    refs: Rows
    row: dict[str, Rows] = field(default_factory=dict)
    other: dict[str, Rows | Separate] = field(default_factory=dict)

    def rows(self, node: str) -> Rows:
        """Return the inputs that a node takes."""
        return self.row[node]

    def part(self, of: slice) -> Draws:
        """Return the draws of some references."""
        other = {
            name: {key: rows[of] for key, rows in drawn.items()}
            if isinstance(drawn, dict)
            else drawn[of]
            for name, drawn in self.other.items()
        }
        return Draws(self.refs[of], {name: rows[of] for name, rows in self.row.items()}, other)


@dataclass(frozen=True, eq=False)
class Sampler:
    """Draws inputs by a hypothesis.

    Attributes:
        hypothesis: The hypothesis.
        values: Value of each of its features on every input.
        n: Number of inputs.
        model: The model, whose terms are told apart where they are drawn separately.
    """

    hypothesis: Hypothesis
    values: Mapping[str, Shaped[np.ndarray, "input"]]
    n: int
    model: ModelInfo

    @cached_property
    def classes(self) -> dict[str, Classes]:
        """The classes of each node that agrees on features."""
        found: dict[str, Classes] = {}
        for node, _ in self.hypothesis.nodes():
            if node.features and not isinstance(node.agree, Near):
                found[node.id] = Classes.of([self.values[name] for name in node.features])
        return found

    def draw(self, refs: Rows, seed: int, replicate: int) -> Draws:
        """Draw for every reference, independently.

        A child agrees with the input that its parent took, not with the reference; every call of a
        node draws anew, so that paths never share inputs.

        Args:
            refs: Reference inputs.
            seed: Together with the replicate, the node's id and the place of a reference among
                ``refs`` it decides every number: hypotheses are compared on the same ones.
            replicate: Number of the draw.
        """
        drawn = Draws(refs)
        self._node(self.hypothesis.graph, refs, drawn, (seed, replicate))
        return drawn

    def _node(self, node: Node, above: Rows, drawn: Draws, at: tuple[int, int]) -> None:
        swap = self._swap(node.id, len(above), at)
        drawn.row[node.id] = np.where(swap, self._agreeing(node, above, at), above)
        rows = drawn.row[node.id]
        if node.children or node.site == ROOT:
            drawn.other[node.id] = self._others(node, rows, drawn, at)
        for child in node.children:
            self._node(child, rows, drawn, at)

    def _swap(self, name: str, n: int, at: tuple[int, int]) -> Shaped[np.ndarray, "entry"]:
        if self.hypothesis.swap_prob == 1:
            return np.ones(n, dtype=bool)
        return uniform(*at, f"{name} swap", n) < self.hypothesis.swap_prob

    def _agreeing(self, node: Node, above: Rows, at: tuple[int, int]) -> Rows:
        if node.agree == EXACT:
            return above
        tag = node.pool if isinstance(node.pool, str) else ""
        u = uniform(*at, f"pool {tag}" if tag else node.id, len(above))
        most = node.pool if isinstance(node.pool, int) else None
        if isinstance(node.agree, Near):
            values = self.values[node.agree.near]
            return nearest(values, values[above], u, node.agree.k)
        if node.agree == ANY:
            return (u * min(self.n, most or self.n)).astype(np.int64)
        return self.classes[node.id].draw(above, u, most)

    def _others(self, node: Node, rows: Rows, drawn: Draws, at: tuple[int, int]) -> Rows | Separate:
        """Draw what is not named among a node's inputs."""
        swap = self._swap(f"{node.id} other", len(rows), at)
        if node.other == EXACT:
            return rows
        if node.other.startswith(SAME_AS):
            of = node.other.removeprefix(SAME_AS)
            if of not in drawn.other:  # a version of the hypothesis in which that has no inputs
                return self._anyone(f"{of} other", len(rows), at)
            found = drawn.other[of]
            if isinstance(found, dict):
                raise BadInput(f"The node {node.id} is drawn {node.other}.", "That has several.")
            return found
        if node.other == SEPARATE:
            slots = slots_of(node)
            keys = [(str(t), slot) for t in self._read_by(node) for slot in slots]
            parts = [*keys, (MASKED, "")]
            return {
                key: np.where(swap, self._anyone(f"{node.id} {' '.join(key)}", len(rows), at), rows)
                for key in parts
            }
        return np.where(swap, self._anyone(f"{node.id} other", len(rows), at), rows)

    def _anyone(self, name: str, n: int, at: tuple[int, int]) -> Rows:
        """Draw any inputs, uniformly."""
        return (uniform(*at, name, n) * self.n).astype(np.int64)

    def _read_by(self, node: Node) -> Sequence[Term]:
        """Return the terms that a node with children may read."""
        from interp.explanations.terms import terms_of

        limits = [term.written(self.model) for term in parse_terms(node.site)]
        before = max(limits, default=2 * self.model.n_layers)
        return [term for term in terms_of(self.model) if term.written(self.model) < before]


def slots_of(node: Node) -> tuple[Slot, ...]:
    """Return the inputs of a node that are told apart."""
    return ("q", "k", "v") if any(child.into for child in node.children) else ("",)


def refuse_unclear(node: Node) -> None:
    """Refuse what has no one meaning where an input goes through other layers.

    Raises:
        BadInput: The node draws separately there, has children of two ways, or puts a sum of
            several layers into them.
    """
    through = [child for child in node.children if child.via != "direct"]
    if len({child.via for child in through}) > 1:
        raise BadInput(
            f"Inputs of the node {node.id} go through MLPs, and others through any layers.",
            "What lies between is run again in one way.",
            "Choose one of the two for all of them.",
        )
    for child in through:
        if len({(term.layer, term.kind) for term in parse_terms(child.site)}) > 1:
            raise BadInput(
                f"The node {child.id} goes through other layers.",
                "Its terms are of several layers, so that they enter at several places.",
                "Make a node of each.",
            )
    if node.other == SEPARATE and (node.site == STREAM or through):
        raise BadInput(
            f"The node {node.id} draws its unimportant inputs separately.",
            "Its input goes through other layers, which read one stream.",
            "Use other: shared there.",
        )
