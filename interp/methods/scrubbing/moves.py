"""Single changes of a hypothesis, and hypotheses at random (no torch).

A tree is kept tidy: children in one order, ids of the last component of each node. So equal claims
are equal trees, and a node keeps its random numbers when its features change or others join it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, zip_longest
from typing import Literal

import numpy as np

from interp.explanations.hypothesis import ANY, EXACT, Agree, Node
from interp.explanations.terms import MASK, ROOT, parse_terms
from interp.methods.scrubbing.space import Slot, Space

What = Literal["add", "remove", "agree", "merge", "split"]
MOST_AT_RANDOM = 4
"""Nodes of a hypothesis at random."""


@dataclass(frozen=True)
class Move:
    """One change.

    Attributes:
        what: "add" a child, "remove" a node with all below it, change what it has to "agree" on,
            "merge" two siblings into a node of both, or "split" a term off.
        node: Id of the node changed; of the one above where nodes are added or merged.
        site: Site that is added or split off.
        into: Slot of what is added.
        agree: What the node agrees on then.
        pair: Ids of the siblings that are merged.
    """

    what: What
    node: str
    site: str = ""
    into: Slot | None = None
    agree: Agree = ANY
    pair: tuple[str, str] = ("", "")

    def made(self, graph: Node) -> Node:
        """Return the changed tree."""
        return tidy(self._changed(graph))

    def _changed(self, node: Node) -> Node:
        if node.id == self.node:
            return self._here(node)
        children = [self._changed(child) for child in node.children if not self._goes(child)]
        if self.what == "split":
            children += [self._off(child) for child in node.children if child.id == self.node]
        return node.model_copy(update={"children": tuple(children)})

    def _goes(self, node: Node) -> bool:
        return self.what == "remove" and node.id == self.node

    def _here(self, node: Node) -> Node:
        if self.what == "agree":
            return node.model_copy(update={"agree": self.agree})
        if self.what == "split":
            rest = [str(term) for term in parse_terms(node.site) if str(term) != self.site]
            return node.model_copy(update={"site": "+".join(rest)})
        kept = [child for child in node.children if child.id not in self.pair]
        into, site = self.into, self.site
        if self.what == "merge":
            both = [child for child in node.children if child.id in self.pair]
            into, site = both[0].into, "+".join(child.site for child in both)
        new = Node(site=site, into=into, agree=self.agree)
        return node.model_copy(update={"children": (*kept, new)})

    def _off(self, node: Node) -> Node:
        return node.model_copy(update={"site": self.site})


def root(*children: Node) -> Node:
    """Return the tree of some direct inputs of the logits; the rest is one random input."""
    return tidy(Node(site=ROOT, agree=EXACT, children=children))


def tidy(node: Node) -> Node:
    """Return the tree with children in one order and ids of their last components."""
    return _ordered(node, "")


def _ordered(node: Node, above: str) -> Node:
    terms = sorted(parse_terms(node.site))
    site = "+".join(map(str, terms)) or node.site
    last = max(terms, key=lambda term: (term.layer, term.kind, term.head), default=node.site)
    name = "/".join(part for part in (above, str(last), node.into) if part)
    inside = "" if node.site == ROOT else name
    children = [_ordered(child, inside) for child in node.children]
    children.sort(key=lambda child: (child.into or "", parse_terms(child.site), child.site))
    return node.model_copy(update={"id": name, "site": site, "children": tuple(children)})


def start(space: Space, how: Literal["empty", "components exact"]) -> Node:
    """Return where a search begins: nothing matters, or every component in full."""
    if how == "empty":
        return root()
    return root(*(Node(site=str(term), agree=EXACT) for term in space.terms))


def at_random(space: Space, rng: np.random.Generator) -> Node:
    """Return up to ``MOST_AT_RANDOM`` random direct inputs of the logits with random features.

    Two features together may say what neither does: no single change finds that from nothing.
    """
    most = min(MOST_AT_RANDOM, len(space.terms))
    sites = rng.choice(len(space.terms), int(rng.integers(1, most + 1)), replace=False)
    return root(*(Node(site=str(space.terms[i]), agree=space.at_random(rng)) for i in sites))


def neighbours(graph: Node, space: Space, rng: np.random.Generator) -> list[Move]:
    """List all single changes in a random order in which kinds alternate.

    Else the few changes that simplify would be lost among the many that add.
    """
    kinds = [list(kind) for kind in _by_kind(graph, space).values()]
    shuffled = [[kind[i] for i in rng.permutation(len(kind))] for kind in kinds]
    return [move for turn in zip_longest(*shuffled) for move in turn if move is not None]


def _by_kind(graph: Node, space: Space) -> dict[What, Iterator[Move]]:
    return {
        "add": _adds(graph, space),
        "remove": (Move("remove", child.id) for _, child in _pairs(graph)),
        "agree": _agreements(graph, space),
        "merge": _merges(graph),
        "split": _splits(graph),
    }


def _pairs(node: Node) -> Iterator[tuple[Node, Node]]:
    """Yield every node but the root, with the one above it before it."""
    for child in node.children:
        yield node, child
        yield from _pairs(child)


def _adds(graph: Node, space: Space) -> Iterator[Move]:
    options = space.options(graph)
    for node in (graph, *(child for _, child in _pairs(graph))):
        for site, into in space.rooms(node):
            for agree in options:
                yield Move("add", node.id, site, into, agree)


def _agreements(graph: Node, space: Space) -> Iterator[Move]:
    for _, node in _pairs(graph):
        for agree in space.changes(node, graph):
            yield Move("agree", node.id, agree=agree)


def _merges(graph: Node) -> Iterator[Move]:
    for above in (graph, *(child for _, child in _pairs(graph))):
        leaves = [one for one in above.children if not one.children and one.site != MASK]
        for one, other in combinations(leaves, 2):
            if one.into == other.into:
                for agree in dict.fromkeys((one.agree, other.agree)):
                    yield Move("merge", above.id, agree=agree, pair=(one.id, other.id))


def _splits(graph: Node) -> Iterator[Move]:
    for _, node in _pairs(graph):
        terms = [] if node.children else parse_terms(node.site)
        for term in terms[: -1 if len(terms) == 2 else None]:
            if len(terms) > 1:
                yield Move("split", node.id, str(term))
