"""Many hypotheses about one behavior, made by rules from a few: right, partly so, wrong, random.

What is right is given from outside. From it come hypotheses that let other parts through as well
(*right and more*), that name less, or through coarser features (*partly right*), through features
of other nodes or at other sites (*wrong*), and *random* ones of the same size. No torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np

from interp.errors import InterpError
from interp.explanations.checks import check
from interp.explanations.hypothesis import ANY, EXACT, Feature, Hypothesis, Near, Node
from interp.explanations.terms import ROOT, parse_terms, terms_of
from interp.expressions import parse
from interp.expressions.tree import Binary, Name
from interp.methods.scrubbing import nulls
from interp.methods.scrubbing.budget import check_classes
from interp.methods.scrubbing.classes import Classes
from interp.methods.scrubbing.inputs import Inputs
from interp.methods.scrubbing.true_features import true_features
from interp.models.info import ModelInfo

RIGHT, MORE, PARTLY, WRONG, RANDOM = KINDS = (
    "right",
    "right and more",
    "partly right",
    "wrong",
    "random",
)
_TRIES: Final = 60
"""Random changes in a row that give nothing new before a rule is given up."""
_MOST_AT_RANDOM: Final = 4
"""Nodes of a hypothesis that is random as a whole."""
_MOST_SUBSETS: Final = 5
"""Nodes up to which all smaller sets of them are made."""


@dataclass(frozen=True)
class Candidate:
    """A hypothesis, which of ``KINDS`` it is, and how it was made."""

    kind: str
    how: str
    hypothesis: Hypothesis


@dataclass(frozen=True)
class Made:
    """Hypotheses that all differ in effect, and how many were made to get them."""

    candidates: tuple[Candidate, ...]
    tried: int


def generate(
    given: Sequence[Candidate],
    inputs: Inputs,
    model: ModelInfo,
    n: int,
    rng: np.random.Generator,
) -> Made:
    """Make up to ``n`` hypotheses that differ in effect: those given first, then kinds in turn.

    Args:
        given: Those known; from those that are right the others are made.
        inputs: What they are tested on.
        model: The model.
        n: How many are wanted.
        rng: Source of all randomness.

    Cost: some sorts of the inputs for each.
    """
    kept: dict[str, Candidate] = {}
    tried = 0

    def taken(one: Candidate) -> bool:
        nonlocal tried
        tried += 1
        key = _key_if_valid(one.hypothesis, inputs, model)
        if not key or key in kept:
            return False
        kept[key] = one
        return True

    for one in given[:n]:
        taken(one)
    right = [one for one in given if one.kind == RIGHT]
    rules = _Rules(right, inputs, model, rng)
    streams = [rules.partly(), rules.wrong(), rules.more(), rules.random()]
    while streams and len(kept) < n:
        for stream in list(streams):
            if len(kept) == n:
                break
            for _, one in zip(range(_TRIES), stream, strict=False):
                if taken(one):
                    break
            else:
                streams.remove(stream)
    return Made(tuple(kept.values()), tried)


def _key_if_valid(hypothesis: Hypothesis, inputs: Inputs, model: ModelInfo) -> str:
    """Return what tells effects apart, or nothing where the hypothesis cannot be tested."""
    try:
        check(hypothesis, model, {*inputs.columns, *inputs.names})
        check_classes(hypothesis, inputs)
    except InterpError:
        return ""
    return effect(hypothesis, inputs)


def effect(hypothesis: Hypothesis, inputs: Inputs) -> str:
    """Return a hash that hypotheses share which exchange the same, whatever things are called."""
    values = inputs.values(hypothesis)

    def told(node: Node) -> list[object]:
        agree: object = node.agree if isinstance(node.agree, str) else ""
        if node.features:
            parts = Classes.of([values[name] for name in node.features])
            _, first, codes = np.unique(parts.codes, return_index=True, return_inverse=True)
            agree = hashlib.sha256(first[codes.reshape(-1)].tobytes()).hexdigest()
            agree = [agree, node.agree.k] if isinstance(node.agree, Near) else agree
        place = node.model_dump(mode="json", include={"site", "into", "pos", "via", "attn_term"})
        below = sorted((told(child) for child in node.children), key=json.dumps)
        return [place, agree, node.other, node.pool, below]

    more = [one.model_dump(mode="json") for one in hypothesis.rewrites]
    whole = [told(hypothesis.graph), more, hypothesis.swap_prob]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def pruned(hypothesis: Hypothesis) -> Hypothesis:
    """Return the hypothesis without features that nothing uses."""
    used, waiting = set[str](), [n for node, _ in hypothesis.nodes() for n in node.features]
    while waiting:
        name = waiting.pop()
        if name in hypothesis.features and name not in used:
            used.add(name)
            waiting += parse(hypothesis.features[name].expr).names_used
    kept = {name: one for name, one in hypothesis.features.items() if name in used}
    return hypothesis.model_copy(update={"features": kept})


class _Rules:
    """The rules by which hypotheses are made from right ones."""

    def __init__(
        self,
        right: Sequence[Candidate],
        inputs: Inputs,
        model: ModelInfo,
        rng: np.random.Generator,
    ) -> None:
        self.right, self.model, self.rng = right, model, rng
        self.known = true_features(inputs)
        nodes = (node for one in right for node in one.hypothesis.graph.children)
        self.by_site = any(node.agree == EXACT for node in nodes)

    def _one(self) -> Hypothesis:
        return self.right[int(self.rng.integers(len(self.right)))].hypothesis

    def partly(self) -> Iterator[Candidate]:
        """Yield right hypotheses without some nodes, and with coarser features."""
        if not self.right:
            return
        every = [
            *(made for one in self.right for made in _coarser(one.hypothesis)),
            *(made for one in self.right for made in self._smaller(one.hypothesis)),
            *(made for one in self.right for made in _apart(one.hypothesis)),
        ]
        order = self.rng.permutation(len(every)).tolist()
        yield from (_candidate(PARTLY, *every[i]) for i in order)

    def _smaller(self, hypothesis: Hypothesis) -> Iterator[tuple[str, Hypothesis]]:
        names = [node.id for node in hypothesis.graph.children]
        if len(names) <= _MOST_SUBSETS:
            sets = [s for k in range(1, len(names)) for s in combinations(names, k)]
        else:
            sizes = self.rng.integers(1, len(names), size=1 << _MOST_SUBSETS)
            drawn = (self.rng.choice(names, int(k), replace=False) for k in sizes)
            sets = [tuple(sorted(map(str, one))) for one in drawn]
        for gone in dict.fromkeys(sets):
            yield f"without {', '.join(gone)}", _without(hypothesis, gone)

    def more(self) -> Iterator[Candidate]:
        """Yield right hypotheses that let one or two further components through whole."""
        while self.right:
            own = self._one()
            taken = {term for node in own.graph.children for term in parse_terms(node.site)}
            room = [str(term) for term in terms_of(self.model) if term not in taken]
            many = min(int(self.rng.integers(1, 3)), len(room))
            extra = [str(site) for site in self.rng.choice(room, many, replace=False)]
            nodes = (*own.graph.children, *(Node(site=site, agree=EXACT) for site in extra))
            yield _candidate(MORE, f"and all of {', '.join(extra)}", _with(own, nodes))

    def wrong(self) -> Iterator[Candidate]:
        """Yield right hypotheses with features exchanged, put in by chance, or nodes moved."""
        while self.right:
            for made in (self._swapped, self._other_feature, self._moved):
                found = made(self._one())
                # A rule that does not fit counts as a try: the caller gives up in the end.
                yield _candidate(WRONG, *(found or ("as it was", self.right[0].hypothesis)))

    def _swapped(self, hypothesis: Hypothesis) -> tuple[str, Hypothesis] | None:
        nodes = hypothesis.graph.children
        if len({str(node.agree) for node in nodes}) < 2:
            return None
        order = self.rng.permutation(len(nodes))
        agrees = [nodes[i].agree for i in order]
        if all(node.agree == agree for node, agree in zip(nodes, agrees, strict=True)):
            return None
        changed = [
            node.model_copy(update={"agree": a}) for node, a in zip(nodes, agrees, strict=True)
        ]
        return "features exchanged between nodes", _with(hypothesis, changed)

    def _other_feature(self, hypothesis: Hypothesis) -> tuple[str, Hypothesis] | None:
        nodes = list(hypothesis.graph.children)
        at = int(self.rng.integers(len(nodes)))
        if not self.known or not nodes[at].features:
            return None
        name = str(self.rng.choice(sorted(self.known)))
        was = nodes[at].id
        nodes[at] = nodes[at].model_copy(update={"agree": name, "children": ()})
        more = {name: Feature(expr=self.known[name], dtype="float", bins=0)}
        return f"{was} through a random feature", _with(hypothesis, nodes, more)

    def _moved(self, hypothesis: Hypothesis) -> tuple[str, Hypothesis] | None:
        nodes = list(hypothesis.graph.children)
        taken = {term for node in nodes for term in parse_terms(node.site)}
        room = [str(term) for term in terms_of(self.model) if term not in taken]
        leaves = [i for i, node in enumerate(nodes) if not node.children]
        if not room or not leaves:
            return None
        at, to = int(self.rng.choice(leaves)), str(self.rng.choice(room))
        was = nodes[at].id
        nodes[at] = nodes[at].model_copy(update={"site": to, "id": ""})
        return f"{was} moved to {to}", _with(hypothesis, nodes)

    def random(self) -> Iterator[Candidate]:
        """Yield right hypotheses at random sites, with random features, and ones all at random."""
        while True:
            if self.right:
                moved = nulls.at_random_sites(self._one(), self.model, self.rng)
                yield _candidate(RANDOM, "features of a right one on random sites", moved)
                own = self._one()
                if self.known and any(node.features for node, _ in own.nodes()):
                    other = nulls.with_random_features(own, self.known, self.rng)
                    yield _candidate(RANDOM, "random features on the sites of a right one", other)
            yield _candidate(RANDOM, "all at random", self._at_random())

    def _at_random(self) -> Hypothesis:
        """Return up to ``_MOST_AT_RANDOM`` direct inputs of the logits with random features."""
        terms, names = terms_of(self.model), sorted(self.known)
        many = int(self.rng.integers(1, 1 + min(_MOST_AT_RANDOM, len(terms))))
        sites = self.rng.choice(len(terms), many, replace=False).tolist()
        agrees = [str(self.rng.choice(names)) if names else ANY for _ in sites]
        # Where right ones name sites alone, random ones do so half of the time.
        if self.by_site and self.rng.random() < 0.5:
            agrees = [EXACT] * many
        nodes = [Node(site=str(terms[i]), agree=a) for i, a in zip(sites, agrees, strict=True)]
        features = {n: Feature(expr=e, dtype="float", bins=0) for n, e in self.known.items()}
        return Hypothesis(
            features=features, graph=Node(site=ROOT, agree=EXACT, children=tuple(nodes))
        )


def _candidate(kind: str, how: str, hypothesis: Hypothesis) -> Candidate:
    return Candidate(kind, how, pruned(hypothesis.model_copy(update={"name": "", "note": ""})))


def _with(
    hypothesis: Hypothesis, nodes: Sequence[Node], more: Mapping[str, Feature] | None = None
) -> Hypothesis:
    """Return the hypothesis with these direct inputs of the logits."""
    graph = hypothesis.graph.model_copy(update={"children": tuple(nodes)})
    features = {**hypothesis.features, **(more or {})}
    changed = hypothesis.model_copy(update={"graph": graph, "features": features})
    return Hypothesis.model_validate(changed.model_dump())


def _without(hypothesis: Hypothesis, gone: Sequence[str]) -> Hypothesis:
    return _with(hypothesis, [one for one in hypothesis.graph.children if one.id not in gone])


def _apart(hypothesis: Hypothesis) -> Iterator[tuple[str, Hypothesis]]:
    """Yield the hypothesis with one of a node's several terms alone."""
    nodes = hypothesis.graph.children
    for at, node in enumerate(nodes):
        terms = [str(term) for term in parse_terms(node.site)]
        for term in terms if len(terms) > 1 and not node.children else ():
            changed = list(nodes)
            changed[at] = node.model_copy(update={"site": term, "id": ""})
            yield f"{term} in place of {node.site}", _with(hypothesis, changed)


def _coarser(hypothesis: Hypothesis) -> Iterator[tuple[str, Hypothesis]]:
    """Yield the hypothesis with one node agreeing on a part of what it agrees on."""
    nodes = hypothesis.graph.children
    for at, node in enumerate(nodes):
        if isinstance(node.agree, Near):
            continue
        parts = node.features if len(node.features) > 1 else _conjuncts(node, hypothesis)
        for part in parts:
            changed = list(nodes)
            changed[at] = node.model_copy(update={"agree": part})
            yield f"{node.id} only through {part}", _with(hypothesis, changed)


def _conjuncts(node: Node, hypothesis: Hypothesis) -> tuple[str, ...]:
    """Return the names that a node's one feature joins by "&"."""
    own = [hypothesis.features[n] for n in node.features if n in hypothesis.features]
    tree = parse(own[0].expr).tree if own else None
    if not isinstance(tree, Binary) or tree.op != "&":
        return ()
    sides = (tree.left, tree.right)
    return tuple(s.name for s in sides if isinstance(s, Name) and s.name in hypothesis.features)
