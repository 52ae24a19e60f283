"""Circuits: nodes and edges without features, and the hypothesis that one makes."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from interp.errors import BadInput, UnknownName
from interp.explanations.checks import check
from interp.explanations.hypothesis import EXACT, MOST_NODES, Hypothesis, Node
from interp.explanations.terms import ROOT, check_term, parse_term
from interp.models.info import ModelInfo

Slot: TypeAlias = Literal["q", "k", "v"] | None
Edge: TypeAlias = tuple[str, str, Slot]
"""Source, target and, where the target is a head, which of its inputs; None: all three."""


def _tuples(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(tuple(one) if isinstance(one, list) else one for one in value)
    return value


class Circuit(BaseModel):
    """Parts of a model that are said to matter, and what each reads from which.

    Attributes:
        model: Name of the model, behind a # the beginning of its weights' hash if that is told.
        behavior: Inputs that it is about, or empty.
        nodes: Terms by name, in order.
        edges: Source, target and slot; the target may be the logits. In order.
        name: What people call it.
        note: Where it comes from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    behavior: str = ""
    nodes: Annotated[tuple[str, ...], BeforeValidator(_tuples)]
    edges: Annotated[tuple[Edge, ...], BeforeValidator(_tuples)] = ()
    name: str = ""
    note: str = ""

    @model_validator(mode="after")
    def _in_order(self) -> Circuit:
        nodes = sorted({parse_term(node) for node in self.nodes})
        object.__setattr__(self, "nodes", tuple(map(str, nodes)))
        edges: set[Edge] = {(str(parse_term(s)), _target(t), slot) for s, t, slot in self.edges}
        for source, target, _ in sorted(edges, key=str):
            for end in (source, target):
                if end != ROOT and end not in self.nodes:
                    raise UnknownName.of("node in the circuit", end, self.nodes)
        object.__setattr__(self, "edges", tuple(sorted(edges, key=_order)))
        return self

    @property
    def canonical(self) -> str:
        """Canonical JSON: sorted keys, no spaces, nothing that is empty."""
        told = self.model_dump(mode="json", exclude_defaults=True)
        return json.dumps(told, sort_keys=True, separators=(",", ":"))

    @property
    def hash(self) -> str:
        """Sha256 of the canonical JSON: its name in a store."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()


def to_hypothesis(circuit: Circuit, model: ModelInfo) -> Hypothesis:
    """Say of a circuit that its edges are all that matters: the rest is drawn at random.

    Every path to the logits becomes a branch of a tree, each node exact: its inputs by edges of the
    circuit are those of the reference, all others those of one random input. A node without
    incoming edges is taken whole. Nodes from which no path leads to the logits claim nothing.

    Raises:
        BadInput: No edge reaches the logits, an edge leads back, a slot is given where there is no
            head, an edge is there twice, or there are more paths than a hypothesis may have nodes.
        UnknownName: The model lacks a node.
    """
    for node in circuit.nodes:
        check_term(model, parse_term(node))
    for edge in circuit.edges:
        _check_edge(edge, circuit, model)
    into = {node: [e for e in circuit.edges if e[1] == node] for node in (*circuit.nodes, ROOT)}
    if not into[ROOT]:
        raise BadInput(
            "The circuit was to be made a hypothesis.",
            "None of its edges reaches the logits.",
            "Add the edges by which it writes the answer.",
        )

    @cache
    def branches(node: str) -> int:
        return 1 + sum(branches(source) for source, _, _ in into[node])

    if branches(ROOT) > MOST_NODES:
        raise BadInput(
            f"A circuit of {len(circuit.edges)} edges was to be made a hypothesis.",
            f"As a tree, one branch for each path, it has {branches(ROOT):,} nodes; {MOST_NODES} "
            "fit.",
            "Leave out the edges that matter least, those between middle layers first.",
        )

    def children(node: str) -> tuple[Node, ...]:
        return tuple(
            Node(site=source, into=slot, agree=EXACT, children=children(source))
            for source, _, slot in into[node]
        )

    made = Hypothesis(
        name=circuit.name,
        note=circuit.note,
        model=circuit.model,
        behavior=circuit.behavior,
        graph=Node(site=ROOT, agree=EXACT, children=children(ROOT)),
    )
    check(made, model)
    return made


def _target(name: str) -> str:
    return ROOT if name.strip() == ROOT else str(parse_term(name))


def _order(edge: Edge) -> tuple[bool, str, str, str]:
    source, target, slot = edge
    return target != ROOT, target, source, slot or ""


def _check_edge(edge: Edge, circuit: Circuit, model: ModelInfo) -> None:
    source, target, slot = edge
    said = f"The edge {source} → {target}" + (f" ({slot})" if slot else "")
    if target != ROOT:
        reads, written = parse_term(target), parse_term(source).written(model)
        if written >= reads.written(model):
            raise BadInput(
                f"{said} is in the circuit.",
                f"{source} is written after {target} has read its input, or at once with it.",
                "Leave it out, or turn it round.",
            )
    if slot and (target == ROOT or parse_term(target).kind != "head"):
        raise BadInput(
            f"{said} is in the circuit.",
            f"{target} has no queries, keys and values.",
            "Leave the slot out.",
        )
    if slot and (source, target, None) in circuit.edges:
        raise BadInput(
            f"{said} is in the circuit.",
            f"So is {source} → {target}, which is into queries, keys and values.",
            "Keep one of them.",
        )
