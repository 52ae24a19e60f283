"""What passes through the nodes of a hypothesis, as partitions of the inputs (no torch).

A node that agrees on a feature tells the scrubbed model the class of its reference and nothing
else. What is below a node agrees with the input that the node took, not with the reference. So a
chain of nodes passes on less than each of its links. Two bounds are kept:

- *at most* the narrower of a node's own classes and of all that is below it together;
- *for certain* what its own classes and those below it have in common: the finest classes of
  inputs that both respect. If that determines the label, the label of the reference is let through.
  For a chain, however long, the converse holds as well. Of several branches each of which loses
  something on its way this may miss that they make up for each other's losses.

Source: Chan et al., "Causal scrubbing" (2022), for classes; Gács & Körner, "Common information is
far less than mutual information" (1973); Miller, "Note on the bias of information estimates"
(1955).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil, log

import numpy as np
from jaxtyping import Float
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from interp.explanations.hypothesis import EXACT, SAME_AS, Hypothesis, Near, Node
from interp.explanations.terms import ROOT
from interp.methods.scrubbing.classes import Classes
from interp.methods.scrubbing.inputs import Inputs, Values

_BLOCK = 64


def mutual_bits(one: Classes, other: Classes) -> float:
    """Return the mutual information of two partitions of the same inputs, as counted on them."""
    both = Classes.of([one.codes, other.codes])
    return max(0.0, one.entropy_bits + other.entropy_bits - both.entropy_bits)


def chance_bits(one: Classes, other: Classes) -> float:
    """Return by how much ``mutual_bits`` is expected to exceed the truth, to first order in 1/N.

    ``(cells - classes - labels + 1) / (2 N ln 2)`` with the cells that occur; where all do, that is
    ``(classes - 1) (labels - 1) / (2 N ln 2)``. It is for display: with few inputs a class it is
    itself far off.

    Source: Miller (1955), for each of the three entropies.
    """
    both = Classes.of([one.codes, other.codes])
    cells = len(both.counts) - len(one.counts) - len(other.counts) + 1
    return cells / (2 * len(one.codes) * log(2))


def determines(one: Classes, labels: Classes) -> bool:
    """Whether all inputs of each class have one label."""
    return len(Classes.of([one.codes, labels.codes]).counts) == len(one.counts)


def in_common(one: Classes, other: Classes) -> Classes:
    """Return the finest partition that neither of two tells more than: what both know for sure."""
    k = len(one.counts)
    shape = (k + len(other.counts),) * 2
    links = coo_array((np.ones(len(one.codes)), (one.codes, k + other.codes)), shape=shape)
    _, component = connected_components(links, directed=False)
    return Classes.of([component[one.codes]])


def together_of(parts: Sequence[Classes], n: int) -> Classes:
    """Return the partition of ``n`` inputs by several: inputs agree in all of them."""
    return Classes.of([part.codes for part in parts] or [np.zeros(n, dtype=np.int64)])


class Channels:
    """The partitions of a hypothesis' nodes on some inputs.

    Attributes:
        labels: Inputs by their label.
        identity: Inputs by themselves; copies of one are together.
        own: By node, the inputs that it would exchange for each other.
        at_most: By node, an upper bound of what passes through it and what is below it.
        certain: By node, what passes for certain.
    """

    def __init__(self, hypothesis: Hypothesis, inputs: Inputs) -> None:
        self.hypothesis, self.n = hypothesis, len(inputs)
        self.labels = Classes.of([inputs.labels])
        self.identity = Classes.of([np.unique(inputs.ids, axis=0, return_inverse=True)[1].ravel()])
        values = inputs.values(hypothesis)
        self.own = {node.id: self._own(node, values) for node, _ in hypothesis.nodes()}
        self.at_most: dict[str, Classes] = {}
        self.certain: dict[str, Classes] = {}
        self._fill(hypothesis.graph)

    def _own(self, node: Node, values: Mapping[str, Values]) -> Classes:
        if node.agree == EXACT:
            return self.identity
        if isinstance(node.agree, Near):
            near = values[node.agree.near]
            first = np.searchsorted(np.sort(near), near, side="left")
            return Classes.of([first // node.agree.k])
        return together_of([Classes.of([values[name]]) for name in node.features], self.n)

    def _fill(self, node: Node) -> None:
        """Work out what passes through a node, those below it first."""
        for child in node.children:
            self._fill(child)
        own, name = self.own[node.id], node.id
        if not node.children and node.site != ROOT:
            self.at_most[name] = self.certain[name] = own
            return
        # The rest of the root's input is not what its hypothesis is about, whatever it is.
        rest = [self.identity] * (node.site != ROOT and self.rest_is_exact(node))
        below = [self.at_most[child.id] for child in node.children]
        together = together_of([*below, *rest], self.n)
        self.at_most[name] = min(together, own, key=lambda part: part.entropy_bits)
        below = [self.certain[child.id] for child in node.children]
        self.certain[name] = in_common(together_of([*below, *rest], self.n), own)

    def rest_is_exact(self, node: Node) -> bool:
        """Whether what a node does not name among its inputs is that of a node's own input."""
        while node.other.startswith(SAME_AS):
            node = self.hypothesis.node(node.other.removeprefix(SAME_AS))
        return node.other == EXACT and (bool(node.children) or node.site == ROOT)

    def leaks(self, node: Node) -> bool:
        """Whether the label passes for certain through a node and all that is above it."""
        above = {child.id: node for node, _ in self.hypothesis.nodes() for child in node.children}
        found = determines(self.certain[node.id], self.labels)
        while found and node.id in above:
            node = above[node.id]
            found = determines(self.own[node.id], self.labels)
        return found

    def reaching(self) -> dict[str, float]:
        """Return the mutual information of the reference's label with what each node's input is.

        The input that a node takes is uniform in a class of the one above: the chance of each
        input, and so of each class below, follows from that of the inputs above.
        """
        found = {name: 0.0 for name in self.own}
        of = self.labels.counts / self.n
        for labels in np.array_split(np.arange(len(of)), ceil(len(of) / _BLOCK)):
            refs = (self.labels.codes[:, None] == labels) / self.n
            for name, part, inside in self._walk(self.hypothesis.graph, refs):
                expected = part.counts[:, None] / self.n * of[labels]
                ratio = np.divide(inside, expected, out=np.ones_like(inside), where=inside > 0)
                found[name] += float((inside * np.log2(ratio)).sum())
        return {name: max(0.0, bits) for name, bits in found.items()}

    def _walk(
        self, node: Node, above: Float[np.ndarray, "input label"]
    ) -> Iterator[tuple[str, Classes, Float[np.ndarray, "class label"]]]:
        """Yield the chance of each class and label, node by node."""
        own = self.own[node.id]
        inside = np.add.reduceat(above[own.order], own.start, axis=0)
        yield node.id, own, inside
        exact = node.agree == EXACT
        rows = above if exact else (inside / own.counts[:, None])[own.codes]
        for child in node.children:
            yield from self._walk(child, rows)
