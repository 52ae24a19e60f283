"""Hypotheses of causal scrubbing: which parts of a model matter, and through what.

A hypothesis is a tree. Its root is the logits; the children of a node are closer to the input: the
parts of its input that matter. Each says by which features its inputs may be exchanged (``agree``);
whatever is not named does not matter and is drawn at random (``other``). It is data, no code:
features are expressions (``interp.expressions``).

Source: Chan et al., "Causal scrubbing" (2022). A tree over terms of the residual stream, as here,
is their interpretation graph made a tree, with direct paths as the rule.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from interp.errors import BadInput, UnknownName
from interp.explanations.terms import MASK, ROOT, STREAM, parse_terms

EXACT = "exact"
ANY = "any"
SHARED = "shared"
SEPARATE = "separate"
SAME_AS = "same_as:"
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,40}")
"""Names of features."""
MOST_NODES = 64


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _agreed(value: Any) -> Any:
    """Put features in order, and one of them by itself: equal claims have equal hashes."""
    value = _listed(value)
    if not isinstance(value, tuple):
        return value
    names: list[Any] = sorted(set(value), key=str)
    return names[0] if len(names) == 1 else tuple(names)


def _canonical(site: Any) -> Any:
    """Write a site in one way."""
    if not isinstance(site, str) or site.strip() in (ROOT, STREAM, MASK):
        return site.strip() if isinstance(site, str) else site
    return "+".join(str(term) for term in sorted(parse_terms(site.strip())))


class Feature(_Data):
    """A function of the input.

    Attributes:
        expr: Expression in the language of ``interp.expressions``.
        dtype: What its values are; a float is binned unless ``bins`` is 0.
        bins: Quantile bins of a float: inputs agree that share a bin; 0: equal values only.
    """

    expr: str
    dtype: Literal["bool", "int", "float"] = "int"
    bins: Annotated[int, Field(ge=0, le=1000)] = 0


class Near(_Data):
    """Agreement of inputs whose values are near each other's.

    Attributes:
        near: A feature.
        k: How many inputs, those nearest by rank, are drawn from.
    """

    near: str
    k: Annotated[int, Field(ge=1)] = 50


Agree = Annotated[str | tuple[str, ...] | Near, BeforeValidator(_agreed)]
Site = Annotated[str, BeforeValidator(_canonical)]
Positions = Annotated[Literal["all", "read"] | tuple[int, ...], BeforeValidator(_listed)]


class Node(_Data):
    """A claim: this part of the input of the node above matters only through these features.

    Attributes:
        id: Its name in the hypothesis; made of its place where none is given. The same name has
            the same random numbers in every hypothesis.
        site: ``logits`` for the root; terms (``a1.h0``, ``m2``, ``embed``, ``x+y``); ``resid`` for
            the whole input of the node above at ``pos``, which has children in its stead; ``mask``.
        into: Which of the head's inputs above, "q", "k" or "v"; None: all three.
        pos: Positions at which it counts; elsewhere the input is unimportant.
        via: "direct", or through the "mlps" between it and the node above, or through "any" layer.
        attn_term: Of a head's output, only what it reads at the position before ("prev") or at the
            same ("self"); None: all.
        agree: "exact" (the reference itself), "any" (no agreement), a feature, several that must
            all agree, or ``Near``.
        other: How what is not named among its inputs is drawn: "shared" (one input for all),
            "separate" (one for each), "exact" (the node's own), "same_as:<id>" (those of a node
            before it).
        pool: Nodes of one tag take the same random numbers, so that equal classes give equal
            inputs; a number: only so many members of each class are ever drawn.
        children: The parts of its input that matter.
    """

    id: str = ""
    site: Site
    into: Literal["q", "k", "v"] | None = None
    pos: Positions = "all"
    via: Literal["direct", "mlps", "any"] = "direct"
    attn_term: Literal["prev", "self"] | None = None
    agree: Agree = ANY
    other: str = SHARED
    pool: int | str | None = None
    children: Annotated[tuple[Node, ...], BeforeValidator(_listed)] = ()

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features that must agree; none for "exact" and "any"."""
        if isinstance(self.agree, Near):
            return (self.agree.near,)
        named = (self.agree,) if isinstance(self.agree, str) else self.agree
        return tuple(name for name in named if name not in (EXACT, ANY))


class Split(_Data):
    """How a term is written as a sum of two.

    Attributes:
        phi: An expression with one number an input: the part is the line through the term's values
            that this number explains best, ``mean + (phi - mean of phi) * slope``.
        direction: A vector: the part is the term's projection on it. Exactly one of the two is
            given.
    """

    phi: str = ""
    direction: Annotated[tuple[float, ...], BeforeValidator(_listed)] = ()

    @model_validator(mode="after")
    def _one(self) -> Split:
        if bool(self.phi) == bool(self.direction):
            raise ValueError("give either phi or direction")
        return self


class Rewrite(_Data):
    """A term written as ``term#part + term#rest`` at some positions, which must change nothing."""

    site: Site
    pos: Positions = "all"
    split: Split


class Hypothesis(_Data):
    """A tree of claims with the features it names.

    Attributes:
        version: Of this format.
        name: What people call it.
        note: Where it comes from, or what is published about it.
        model: Model it is about; behind a # the beginning of its weights' hash. Empty: any.
        behavior: Inputs it is about, or empty.
        features: Expressions by name.
        rewrites: Terms written as sums.
        swap_prob: Probability that an allowed exchange is made, for each input and node.
        before: Hash of the version that this one refines, or empty.
        graph: The root.
    """

    version: Literal[1] = 1
    name: str = ""
    note: str = ""
    model: str = ""
    behavior: str = ""
    features: dict[str, Feature] = Field(default_factory=dict)
    rewrites: Annotated[tuple[Rewrite, ...], BeforeValidator(_listed)] = ()
    swap_prob: Annotated[float, Field(gt=0, le=1)] = 1.0
    before: str = ""
    graph: Node

    @model_validator(mode="after")
    def _named(self) -> Hypothesis:
        object.__setattr__(self, "graph", with_ids(self.graph, "", set()))
        return self

    @property
    def canonical(self) -> str:
        """Canonical JSON: sorted keys, no spaces, nothing that is as usual."""
        told = self.model_dump(mode="json", exclude_defaults=True) | {"version": 1}
        return json.dumps(told, sort_keys=True, separators=(",", ":"))

    @property
    def hash(self) -> str:
        """Sha256 of the canonical JSON: its name in a store."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()

    def nodes(self) -> Iterator[tuple[Node, Node | None]]:
        """Yield every node with the one above it, parents first, in order."""
        yield from _nodes(self.graph, None)

    def node(self, name: str) -> Node:
        """Return a node by its id; KeyError if there is none."""
        return {node.id: node for node, _ in self.nodes()}[name]

    def replaced(self, name: str, by: Node | None) -> Hypothesis:
        """Return the hypothesis with a node and all below it replaced, or without it.

        Raises:
            BadInput: There is no such node, or it is the root, which cannot be left out.
        """
        if name not in {node.id for node, _ in self.nodes()}:
            raise UnknownName.of("node", name, [node.id for node, _ in self.nodes()])
        graph = _replaced(self.graph, name, by)
        if graph is None:
            raise BadInput("The logits were to be left out.", "They are what is explained.")
        return self.model_copy(update={"graph": with_ids(graph, "", set())})


def _nodes(node: Node, above: Node | None) -> Iterator[tuple[Node, Node | None]]:
    yield node, above
    for child in node.children:
        yield from _nodes(child, node)


def _replaced(node: Node, name: str, by: Node | None) -> Node | None:
    if node.id == name:
        return by
    kept = tuple(_replaced(child, name, by) for child in node.children)
    return node.model_copy(update={"children": tuple(one for one in kept if one is not None)})


def with_ids(node: Node, above: str, taken: set[str]) -> Node:
    """Name nodes that have no name by their place, and a copy's nodes anew."""
    name = node.id or _name(node, above)
    n = 2
    while name in taken:
        name = f"{name.rpartition('~')[0] or name}~{n}"
        n += 1
    taken.add(name)
    inside = "" if node.site == ROOT else name
    children = tuple(with_ids(child, inside, taken) for child in node.children)
    return node.model_copy(update={"id": name, "children": children})


def _name(node: Node, above: str) -> str:
    pos = "" if isinstance(node.pos, str) else "@" + ",".join(map(str, node.pos))
    own = node.site + (f".{node.into}" if node.into else "") + pos
    return f"{above}/{own}" if above else own
