"""Atoms: the single truths and numbers that the features of a hypothesis are made of (torch-free).

"equal counts & starts open" is made of two truths, either of which can be broken alone. So features
are cut at ``& | ~``. An atom that is a comparison has a *margin*, how far its two sides are apart:
it is what makes one violation smaller than another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int, Shaped

from interp import expressions
from interp.errors import InterpError
from interp.explanations.hypothesis import Hypothesis
from interp.expressions import parse
from interp.expressions.tree import Binary, Compare, Name, Node, Unary, written
from interp.methods.scrubbing.adversarial.ground import Ground, bin_edges
from interp.methods.scrubbing.adversarial.moves import Bodies
from interp.methods.scrubbing.inputs import Inputs
from interp.methods.scrubbing.true_features import true_features

_MARGIN = "margin_of_"
_ATOM = "atom_"


@dataclass(frozen=True, eq=False)
class Atom:
    """A truth or a number about an input.

    Attributes:
        name: What people read.
        expr: Its expression.
        is_truth: Whether it is true or false.
        margin: Expression of the difference of its two sides, or empty.
        edges: Where its bins begin, if it is a number put into bins.
    """

    name: str
    expr: str
    is_truth: bool
    margin: str = ""
    edges: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class Atoms:
    """The atoms of one hypothesis, with what their expressions use.

    Attributes:
        of: The atoms.
        features: Features that they may use, by name.
    """

    of: tuple[Atom, ...]
    features: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.of)

    def values(
        self, ground: Ground, bodies: Bodies
    ) -> tuple[Int[np.ndarray, "text atom"], Float[np.ndarray, "text atom"]]:
        """Return the class and the margin of each atom; margins are 0 where there is none."""
        return self._read(ground.values(self._asked, bodies), len(bodies))

    def on(self, pool: Inputs) -> Int[np.ndarray, "input atom"]:
        """Return the class of each atom on the pool."""
        found = expressions.evaluate(self._asked, pool.read_by_expressions)
        return self._read(found, len(pool))[0]

    @property
    def _asked(self) -> dict[str, str]:
        atoms = {f"{_ATOM}{i}": one.expr for i, one in enumerate(self.of)}
        margins = {f"{_MARGIN}{i}": one.margin for i, one in enumerate(self.of) if one.margin}
        return {**self.features, **atoms, **margins}

    def _read(
        self, found: Mapping[str, Shaped[np.ndarray, "text"]], n: int
    ) -> tuple[Int[np.ndarray, "text atom"], Float[np.ndarray, "text atom"]]:
        classes, margins = np.zeros((n, len(self)), np.int64), np.zeros((n, len(self)))
        for i, one in enumerate(self.of):
            value = found[f"{_ATOM}{i}"]
            if one.edges:
                classes[:, i] = np.searchsorted(one.edges, value, side="left")
            elif value.dtype.kind == "f":
                # Equal numbers are one class: their bits tell them apart (0.0 and -0.0 are one).
                classes[:, i] = (value + 0.0).view(np.int64)
            else:
                classes[:, i] = value
            if one.margin:
                margins[:, i] = np.abs(found[f"{_MARGIN}{i}"])
        return classes, margins


def atoms_of(hypothesis: Hypothesis, pool: Inputs) -> Atoms:
    """Cut the features that nodes agree on into atoms, each once.

    Raises:
        BadInput: A feature is wrong.
    """
    given = {name: one.expr for name, one in hypothesis.features.items()}
    named = [name for node, _ in hypothesis.nodes() for name in node.features]
    trees: dict[str, tuple[str, Node]] = {}
    for name in dict.fromkeys(named):
        for said, tree in _cut(Name(name), name, given):
            trees.setdefault(written(tree), (said, tree))
    found: list[Atom] = []
    for said, tree in trees.values():
        feature = hypothesis.features.get(said)
        found.append(_atom(said, tree, given, pool, feature.bins if feature else 0))
    used = {text for one in found for text in parse(one.expr).names_used} & set(given)
    return Atoms(tuple(one for one in found if _varies(one, given, pool)), _closure(used, given))


def _closure(used: set[str], given: Mapping[str, str]) -> dict[str, str]:
    """Return some features and all that these use."""
    waiting, found = list(used), dict[str, str]()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = given[name]
            waiting += parse(given[name]).names_used & set(given)
    return found


def _cut(tree: Node, said: str, given: Mapping[str, str]) -> list[tuple[str, Node]]:
    """Cut an expression at its logic; each part with the name that people know it by."""
    if isinstance(tree, Name) and tree.name in given:
        below = parse(given[tree.name]).tree
        return _cut(below, tree.name, given)
    if isinstance(tree, Unary) and tree.op == "~":
        return _cut(tree.operand, written(tree.operand), given)
    if isinstance(tree, Binary) and tree.op in "&|":
        return [p for side in (tree.left, tree.right) for p in _cut(side, written(side), given)]
    return [(said, tree)]


def _atom(said: str, tree: Node, given: Mapping[str, str], pool: Inputs, bins: int) -> Atom:
    text = written(tree)
    values = _on(text, given, pool)
    assert values is not None
    is_truth = values.dtype.kind == "b" or bool(np.isin(values, (0, 1)).all())
    edges: tuple[float, ...] = ()
    if bins and values.dtype.kind == "f":
        edges = tuple(bin_edges(values, bins).tolist())
    margin = ""
    if isinstance(tree, Compare) and len(tree.operands) == 2:
        left, right = (f"({written(side)})" for side in tree.operands)
        margin = f"{left} - {right}"
        # Tokens have numbers that mean nothing: how far apart they are says nothing.
        if _compares_tokens(tree) or _on(margin, given, pool, refuse=False) is None:
            margin = ""
    return Atom(said, text, is_truth, margin, edges)


def _compares_tokens(tree: Compare) -> bool:
    functions = {"at", "last", "token", "tok_after_prev_occurrence"}
    return bool(functions & parse(written(tree)).functions_used) and set(tree.ops) <= {"==", "!="}


def _on(
    text: str, given: Mapping[str, str], pool: Inputs, *, refuse: bool = True
) -> Shaped[np.ndarray, "input"] | None:
    try:
        used = parse(text).names_used & set(given)
        asked = {**_closure(set(used), given), _ATOM: text}
        return expressions.evaluate(asked, pool.read_by_expressions)[_ATOM]
    except InterpError:
        if refuse:
            raise
        return None


def _varies(one: Atom, given: Mapping[str, str], pool: Inputs) -> bool:
    values = _on(one.expr, given, pool)
    return values is not None and len(np.unique(values)) > 1


# --- random features ------------------------------------------------------------------------------


def random_atoms(real: Atoms, ground: Ground, rng: np.random.Generator) -> Atoms:
    """Draw as many true features of the data that are none of a hypothesis' own.

    Each parts the inputs otherwise than any atom of the hypothesis. They are those that random
    hypotheses have everywhere (``interp.methods.scrubbing.nulls``), where new inputs have them.

    Args:
        real: The atoms of the hypothesis.
        ground: The inputs.
        rng: Source of all randomness.
    """
    own = {_partition(column) for column in real.on(ground.pool).T}
    known = [
        expr
        for expr in true_features(ground.pool).values()
        if not set(parse(expr).names_used) & set(ground.pool.columns) - set(ground.columns)
        and _partition(expressions.evaluate_one(expr, ground.pool.read_by_expressions)) not in own
    ]
    chosen = rng.choice(len(known), min(len(real), len(known)), replace=False)
    exprs = [known[i] for i in sorted(chosen)]
    return Atoms(tuple(_atom(e, parse(e).tree, {}, ground.pool, 0) for e in exprs))


def _partition(values: Shaped[np.ndarray, "input"]) -> bytes:
    """Return how values part the inputs, whatever the values are."""
    _, first, codes = np.unique(values, return_index=True, return_inverse=True)
    return first[codes.reshape(-1)].tobytes()
