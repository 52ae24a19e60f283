"""What hypotheses are made of when they are searched for: components, features, bits (no torch).

Features are true of the data, so that nobody has to think of them. None of them alone determines
the label, nor do two of them at one node: such a claim scores well and says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from math import comb, log2
from typing import Literal

import numpy as np
from jaxtyping import Bool

from interp import expressions
from interp.explanations.hypothesis import ANY, EXACT, Agree, Feature, Hypothesis, Node
from interp.explanations.terms import MASK, ROOT, Term, parse_terms, terms_of
from interp.methods.scrubbing.channels import determines
from interp.methods.scrubbing.classes import Classes
from interp.methods.scrubbing.inputs import Inputs
from interp.methods.scrubbing.true_features import true_features
from interp.models.info import ModelInfo

Slot = Literal["q", "k", "v"]
SLOTS: tuple[Slot, ...] = ("q", "k", "v")
_FEWEST_MEMBERS = 4
"""Mean members of a class below which two features together only name inputs."""
_LONGEST_NAME = 36
_COLUMN = re.compile(r'column\("(.*)"\)')
_WORDS = {"-": "m", "%": " mod ", ">": " above ", "==": " is "}


def half(inputs: Inputs, rows: Bool[np.ndarray, "input"]) -> Inputs:
    """Return some inputs as if there were no others."""
    lengths = inputs.lengths[rows]
    return replace(
        inputs,
        ids=inputs.ids[rows, : int(lengths.max())],
        lengths=lengths,
        labels=inputs.labels[rows],
        foils=inputs.foils[rows],
        columns={name: of[rows] for name, of in inputs.columns.items()},
        held_out=None,
    )


@dataclass(frozen=True, eq=False)
class Space:
    """The hypotheses that a search may reach.

    Attributes:
        model: The model.
        inputs: The inputs searched, with the value of every feature as a column.
        features: Features by name.
        told: Columns that are left out, as they alone determine the label.
        depth: 1: direct inputs of the logits; 2: inputs of those too.
        exact: Whether a node may agree on everything, which determines the label as well.
    """

    model: ModelInfo
    inputs: Inputs
    features: Mapping[str, Feature]
    told: tuple[str, ...]
    depth: int
    exact: bool
    _classes: dict[Agree, Classes] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        model: ModelInfo,
        inputs: Inputs,
        library: Mapping[str, str] | None = None,
        *,
        depth: int = 1,
        exact: bool = False,
    ) -> Space:
        """Make the space of some inputs; see ``true_features`` for what is a feature of them.

        Args:
            model: The model.
            inputs: The inputs searched.
            library: Expressions by name, in place of all true features.
            depth: 1 or 2.
            exact: Whether a node may agree on everything.
        """
        if library is None:
            library = _named(true_features(inputs).values(), inputs)
        values = {
            name: expressions.evaluate_one(expr, inputs.read_by_expressions)
            for name, expr in library.items()
        }
        labels = Classes.of([inputs.labels])
        told = [n for n, of in inputs.columns.items() if determines(Classes.of([of]), labels)]
        features = {name: Feature(expr=expr) for name, expr in library.items()}
        known = replace(inputs, columns={**inputs.columns, **values})
        return cls(model, known, features, tuple(told), depth, exact)

    # --- components -------------------------------------------------------------------------------

    @cached_property
    def terms(self) -> tuple[Term, ...]:
        """The components."""
        return terms_of(self.model)

    def read_by(self, node: Node) -> tuple[Term, ...]:
        """Return the components that a node reads."""
        limits = [term.written(self.model) for term in parse_terms(node.site)]
        before = min(limits, default=2 * self.model.n_layers)
        return tuple(term for term in self.terms if term.written(self.model) < before)

    def rooms(self, node: Node) -> Iterator[tuple[str, Slot | None]]:
        """Yield the sites and slots at which a node may get a further child."""
        terms = parse_terms(node.site)
        slots: tuple[Slot | None, ...] = (None,)
        if node.site != ROOT:
            if self.depth == 1 or len(terms) != 1 or terms[0].kind not in ("head", "mlp"):
                return
            if terms[0].kind == "head":
                slots = SLOTS
                if self._has_mask and all(child.site != MASK for child in node.children):
                    yield MASK, None
        taken = {(t, child.into) for child in node.children for t in parse_terms(child.site)}
        for slot in slots:
            for term in self.read_by(node):
                if (term, slot) not in taken:
                    yield str(term), slot

    @property
    def _has_mask(self) -> bool:
        lengths = self.inputs.lengths
        return not self.model.causal and int(lengths.min()) < int(lengths.max())

    # --- features ---------------------------------------------------------------------------------

    def options(self, graph: Node) -> tuple[Agree, ...]:
        """List what a new node may agree on: nothing, a feature, or what another node does."""
        whole = (EXACT, ANY) if self.exact else (ANY,)
        return tuple(dict.fromkeys((*whole, *self.features, *_agreed(graph))))

    def changes(self, node: Node, graph: Node) -> tuple[Agree, ...]:
        """List what a node may agree on instead.

        Beside what a new one may: two features together that are in the hypothesis, or of which
        one is its own already.
        """
        pairs = [*combinations(sorted(used(graph)), 2)]
        pairs += [tuple(sorted((a, b))) for a in node.features for b in self.features if a != b]
        every = dict.fromkeys((*self.options(graph), *filter(self._is_feature, pairs)))
        return tuple(agree for agree in every if agree != node.agree)

    def at_random(self, rng: np.random.Generator) -> Agree:
        """Return a random feature, or as often two of them together."""
        if not self.features:
            return ANY
        names = sorted(self.features)
        chosen = rng.choice(names, min(len(names), int(rng.integers(1, 3))), replace=False)
        pair = tuple(sorted(map(str, chosen)))
        return pair if len(pair) == 2 and self._is_feature(pair) else pair[0]

    def _is_feature(self, agree: Agree) -> bool:
        """Whether inputs that agree are many, and not all of one label."""
        part = self._partition(agree)
        many = len(part.counts) * _FEWEST_MEMBERS > len(self.inputs)
        return not many and not determines(part, Classes.of([self.inputs.labels]))

    def _partition(self, agree: Agree) -> Classes:
        """Return the inputs that agree, by class; copies of an input agree on everything."""
        if agree not in self._classes:
            if agree == EXACT:
                same = np.unique(self.inputs.ids, axis=0, return_inverse=True)[1].ravel()
                values = [same]
            elif agree == ANY:
                values = [np.zeros(len(self.inputs), dtype=np.int64)]
            else:
                names = Node(site=ROOT, agree=agree).features
                values = [self.inputs.columns[name] for name in names]
            self._classes[agree] = Classes.of(values)
        return self._classes[agree]

    # --- hypotheses -------------------------------------------------------------------------------

    def bits(self, graph: Node) -> float:
        """Return the price of a hypothesis: channels and structure; see ``budget``."""
        total = 0.0
        for child in graph.children:
            names = len(parse_terms(child.site))
            total += self._partition(child.agree).entropy_bits
            total += log2(comb(len(self.read_by(graph)), names))
            total += self.bits(child)
        return total

    def bare(self, graph: Node) -> Hypothesis:
        """Return a tree as a hypothesis whose features are columns of the inputs searched."""
        return Hypothesis(graph=graph)

    def hypothesis(self, graph: Node, behavior: str = "") -> Hypothesis:
        """Return a tree as a hypothesis that stands by itself, its nodes named by their places."""
        features = {name: self.features[name] for name in sorted(used(graph))}
        unnamed = _unnamed(graph)
        return Hypothesis(
            model=self.model.name, behavior=behavior, features=features, graph=unnamed
        )


def _unnamed(node: Node) -> Node:
    children = tuple(_unnamed(child) for child in node.children)
    return node.model_copy(update={"id": "", "children": children})


def _agreed(graph: Node) -> Iterator[Agree]:
    """Yield what the nodes of a tree agree on through features."""
    for child in graph.children:
        if child.features:
            yield child.agree
        yield from _agreed(child)


def used(graph: Node) -> set[str]:
    """List the features of a tree."""
    return set(graph.features).union(*(used(child) for child in graph.children))


def _named(exprs: Iterable[str], inputs: Inputs) -> dict[str, str]:
    """Call expressions by names that say what they are."""
    found: dict[str, str] = {}
    for expr in exprs:
        column = _COLUMN.fullmatch(expr)
        text = column[1] if column else expr
        for sign, word in {} if column else _WORDS.items():
            text = text.replace(sign, word)
        name = "_".join(re.findall(r"[A-Za-z0-9]+", text))[:_LONGEST_NAME]
        taken = {*found, *inputs.names, EXACT, ANY, *(() if column else inputs.columns)}
        if name in taken or not name.isidentifier():
            name = f"{name}_feature" if name.isidentifier() else f"feature_{name}"
        n = 2
        while name in taken:
            name, n = f"{name.rstrip('0123456789')}{n}", n + 1
        found[name] = expr
    return found
