"""What a hypothesis lets through: how much of the input, and whether the answer itself (no torch).

Each node is a channel for the class of its reference, as wide as the entropy of its classes. A
hypothesis whose channels tell the label scores well whatever the model does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb, log2
from typing import Literal

import numpy as np
from jaxtyping import Int

from interp.errors import BadInput
from interp.explanations.hypothesis import EXACT, Hypothesis, Node
from interp.explanations.terms import ROOT, STREAM, parse_terms, terms_of
from interp.methods.scrubbing.channels import (
    Channels,
    chance_bits,
    determines,
    mutual_bits,
    together_of,
)
from interp.methods.scrubbing.classes import Classes
from interp.methods.scrubbing.inputs import Inputs, Values
from interp.models.info import ModelInfo

IDENTITY = 0.1
"""Classes, as a share of the inputs, above which they tell inputs apart rather than features."""
MOST_TOGETHER = 4
"""Nodes that are looked at together for whether they determine the label."""
MOST_PARTITIONS = 12
"""Different partitions among which such sets are looked for."""
ALONE = 0.1
"""Share of inputs alone in their class above which there is a warning."""

Codes = Int[np.ndarray, "input"]


@dataclass(frozen=True)
class NodeBudget:
    """What one node lets through.

    Attributes:
        node: Its id.
        features: What it agrees on; empty for "exact" and "any".
        classes: Number of its classes. Copies of an input are one class of an exact node; ``Near``
            counts as classes of ``k`` inputs next to each other by rank, which is about it.
        smallest: Members of the smallest.
        median: Members of the class of the median input.
        own_bits: Entropy of the class of a random input.
        label_bits: Mutual information of the class with the label, as it is on these inputs.
        label_bits_bias: What of it is expected by chance (``chance_bits``).
        reaching_bits: Mutual information of the label of the *reference* with the class of the
            input that the node takes: ``label_bits`` less what is lost on the way to it.
        singletons: Share of inputs alone in their class, which stand for themselves; 1 for an
            exact node.
        leaks: Whether what passes through it for certain determines the label of the reference.
    """

    node: str
    features: tuple[str, ...]
    classes: int
    smallest: int
    median: float
    own_bits: float
    label_bits: float
    label_bits_bias: float
    reaching_bits: float
    singletons: float
    leaks: bool


@dataclass(frozen=True)
class Leak:
    """A minimal set of claims that together determine the label: none of them is dispensable.

    Attributes:
        groups: One node of each group is in the set; those of a group pass on the same.
        kind: "identity" where there are more than ``IDENTITY`` x inputs of classes, so that they
            tell inputs apart; else "feature".
        classes: Number of classes of the set.
    """

    groups: tuple[tuple[str, ...], ...]
    kind: Literal["feature", "identity"]
    classes: int


@dataclass(frozen=True, eq=False)
class Budget:
    """What a hypothesis lets through.

    Attributes:
        label_bits: Entropy of the label.
        nodes: Its nodes, those above first; the root only where it agrees on features.
        joint_bits: Entropy of all that the nodes let through together, at most.
        joint_label_bits: Mutual information of that with the label.
        joint_label_bits_bias: What of it is expected by chance (``chance_bits``).
        joint_classes: Its number of classes.
        channel_bits: Sum of the nodes' ``own_bits``.
        structure_bits: Bits to name the nodes' terms among all that could stand in their place.
        leaks: The minimal sets of nodes directly below the root that determine the label.
        leaking_nodes: Nodes in any of them.
        unsearched: What was not looked at for leaks; empty if nothing.
        warnings: What to mind, one sentence each.
    """

    label_bits: float
    nodes: tuple[NodeBudget, ...]
    joint_bits: float
    joint_label_bits: float
    joint_label_bits_bias: float
    joint_classes: int
    channel_bits: float
    structure_bits: float
    leaks: tuple[Leak, ...]
    leaking_nodes: tuple[str, ...]
    unsearched: str
    warnings: tuple[str, ...]


def budget(hypothesis: Hypothesis, inputs: Inputs, model: ModelInfo, draws: int) -> Budget:
    """Work out what a hypothesis lets through.

    Args:
        hypothesis: A hypothesis that was checked for the model.
        inputs: The inputs that stand for each other.
        model: The model.
        draws: Draws that are made for each reference, for the warning about small classes.

    Raises:
        BadInput: See ``check_classes``.

    Cost: some sorts of the inputs for each node, and one for each set of nodes looked at: 0.05 s
        for 2,000 inputs and ten nodes.
    """
    check_classes(hypothesis, inputs)
    channels = Channels(hypothesis, inputs)
    labels, root = channels.labels, hypothesis.graph
    listed = [n for n, above in hypothesis.nodes() if above is not None or n.features]
    reaching = channels.reaching()
    nodes = tuple(_of_node(channels, node, reaching[node.id]) for node in listed)
    together = channels.at_most[root.id]
    leaks, unsearched = _leaks(channels, root)
    named = {name for leak in leaks for group in leak.groups for name in group}
    return Budget(
        label_bits=labels.entropy_bits,
        nodes=nodes,
        joint_bits=together.entropy_bits,
        joint_label_bits=mutual_bits(together, labels),
        joint_label_bits_bias=chance_bits(together, labels),
        joint_classes=len(together.counts),
        channel_bits=sum((node.own_bits for node in nodes), 0.0),
        structure_bits=_structure_bits(hypothesis, model),
        leaks=leaks,
        leaking_nodes=tuple(node.id for node in root.children if node.id in named),
        unsearched=unsearched,
        warnings=tuple(_warnings(hypothesis, nodes, draws)),
    )


def check_classes(hypothesis: Hypothesis, inputs: Inputs) -> None:
    """Refuse a hypothesis whose features tell nothing apart on these inputs.

    Raises:
        BadInput: All inputs have one label, or a node agrees on a feature that is constant or no
            finite number.
    """
    if len(np.unique(inputs.labels)) < 2:
        raise BadInput(
            f"A hypothesis was to be tested on {len(inputs)} inputs.",
            "All have the same right answer, so that any exchange gives the answer again.",
            "Choose inputs of at least two answers.",
        )
    values = inputs.values(hypothesis)
    for node, _ in hypothesis.nodes():
        for name in node.features:
            _check_varies(f"The node {node.id!r} agrees on {name!r}.", values[name])


def _check_varies(asked: str, values: Values) -> None:
    if not np.isfinite(values).all():
        at = int(np.flatnonzero(~np.isfinite(values))[0])
        raise BadInput(
            asked,
            f"Its value is no finite number on input {at}.",
            "Write it so that it has a value on every input.",
        )
    if (values == values[0]).all():
        raise BadInput(
            asked,
            f"On all {len(values)} inputs it is {values[0]}, or they share one bin: all would "
            "agree.",
            "Choose inputs on which it varies, another feature, or agree: any.",
        )


def _of_node(channels: Channels, node: Node, reaching_bits: float) -> NodeBudget:
    own, sizes = channels.own[node.id], channels.own[node.id].sizes
    return NodeBudget(
        node=node.id,
        features=node.features,
        classes=len(own.counts),
        smallest=int(own.counts.min()),
        median=float(np.median(sizes)),
        own_bits=own.entropy_bits,
        label_bits=mutual_bits(own, channels.labels),
        label_bits_bias=chance_bits(own, channels.labels),
        reaching_bits=reaching_bits,
        singletons=1.0 if node.agree == EXACT else float((sizes == 1).mean()),
        leaks=channels.leaks(node),
    )


def _leaks(channels: Channels, root: Node) -> tuple[tuple[Leak, ...], str]:
    """Find the minimal sets of the root's children that determine the label; and what was not."""
    n, labels = channels.n, channels.labels
    groups = _groups({node.id: channels.certain[node.id] for node in root.children}, labels)
    everything = together_of([part for part, _ in groups], n)
    passes = determines(channels.own[root.id], labels)
    if not groups or not passes or not determines(everything, labels):
        return (), ""
    searched = [part for part, _ in groups[:MOST_PARTITIONS]]
    leaks = tuple(
        Leak(
            groups=tuple(groups[i][1] for i in some),
            kind="identity" if classes > IDENTITY * n else "feature",
            classes=classes,
        )
        for some, classes in _minimal(searched, labels)
    )
    return leaks, _unsearched(len(groups), bool(leaks))


def _minimal(parts: Sequence[Classes], labels: Classes) -> Iterator[tuple[tuple[int, ...], int]]:
    """Yield the smallest sets of partitions that determine the label, and how many classes each."""
    found: list[set[int]] = []
    joint: dict[tuple[int, ...], Codes] = {(): np.zeros(len(labels.codes), dtype=np.int64)}
    for size in range(1, min(MOST_TOGETHER, len(parts)) + 1):
        for some in combinations(range(len(parts)), size):
            if any(one <= set(some) for one in found):
                continue
            last = parts[some[-1]]
            both = joint[some[:-1]] * len(last.counts) + last.codes
            known, codes = np.unique(both, return_inverse=True)
            joint[some] = codes
            if len(np.unique(codes * len(labels.counts) + labels.codes)) == len(known):
                found.append(set(some))
                yield some, len(known)


def _unsearched(n: int, found: bool) -> str:
    said: list[str] = []
    if n > MOST_PARTITIONS:
        said.append(
            f"Of {n} different partitions the {MOST_PARTITIONS} that tell most about the label "
            "were searched."
        )
    if n > MOST_TOGETHER:
        said.append(f"Sets of more than {MOST_TOGETHER} nodes were not searched.")
    if not found:
        said.append("All nodes together determine the label; no set that was searched does.")
    return " ".join(said)


def _groups(parts: Mapping[str, Classes], labels: Classes) -> list[tuple[Classes, tuple[str, ...]]]:
    """Put nodes together that pass on the same; those first that tell most about the label."""
    same: dict[bytes, tuple[Classes, tuple[str, ...]]] = {}
    for name, part in parts.items():
        if len(part.counts) < 2:
            continue
        # Classes by the order in which they first occur: a feature and its negation are one.
        _, first, codes = np.unique(part.codes, return_index=True, return_inverse=True)
        key = np.argsort(np.argsort(first))[codes].tobytes()
        same[key] = part, (*same.get(key, (part, ()))[1], name)
    return sorted(same.values(), key=lambda one: -mutual_bits(one[0], labels))


def _structure_bits(hypothesis: Hypothesis, model: ModelInfo) -> float:
    """Return the bits it takes to name a hypothesis' terms among all that could stand there."""
    bits = 0.0
    above: dict[str, Node] = {}
    for node, parent in hypothesis.nodes():
        if parent is None:
            continue
        above[node.id] = parent
        named = {term.whole for term in parse_terms(node.site)}
        reader = parent
        while reader.site == STREAM:
            reader = above[reader.id]
        places = [term.written(model) for term in parse_terms(reader.site)]
        before = min(places, default=2 * model.n_layers)
        n = sum(term.written(model) < before for term in terms_of(model))
        bits += log2(comb(n, len(named)) or 1)
    return bits


def _warnings(hypothesis: Hypothesis, nodes: Sequence[NodeBudget], draws: int) -> Iterator[str]:
    every = [node for node, _ in hypothesis.nodes()]
    leaves = [n.id for n in every if n.agree == EXACT and not n.children and n.site != ROOT]
    if leaves:
        yield f"Nothing is exchanged at {', '.join(leaves)}: they agree on everything (exact)."
    whole = [n.id for n in every if n.other == EXACT and (n.children or n.site == ROOT)]
    if whole:
        yield (
            f"What {', '.join(whole)} does not name is not exchanged either (other: exact); the "
            "bits here count only what is named below the root."
        )
    agreed = [node for node in nodes if node.features]
    few = [f"{one.node} ({one.smallest})" for one in agreed if one.smallest < draws]
    if few:
        yield (
            f"The smallest class has fewer inputs than the {draws} draws of each reference: "
            f"{', '.join(few)}. Draws repeat there."
        )
    alone = [f"{one.node} ({one.singletons:.0%})" for one in agreed if one.singletons > ALONE]
    if alone:
        yield f"Inputs alone in their class stand for themselves: {', '.join(alone)}."
    if hypothesis.swap_prob < 1:
        yield (
            f"Allowed exchanges are made with probability {hypothesis.swap_prob:g}; else a node "
            "takes its reference, which lets through more than is counted here."
        )
