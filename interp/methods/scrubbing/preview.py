"""What a feature does to real inputs, before anything is computed with a model (torch-free).

Which inputs agree, how many there are of each kind, and what that says of the right answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Int

from interp import expressions
from interp.behaviors.populations import population, token_names
from interp.errors import BadInput
from interp.explanations.hypothesis import ANY, EXACT, Feature, Hypothesis, Near, Node
from interp.explanations.terms import ROOT
from interp.methods.scrubbing.classes import Classes
from interp.methods.scrubbing.inputs import Inputs, Values

MOST_SHOWN = 8
"""Classes that a preview lists; the others are counted."""
EXAMPLES = 3
NAMELESS = "this feature"
"""What a feature without a name is called: no expression can use it."""


@dataclass(frozen=True)
class Agreement:
    """How inputs fall into classes that may stand for each other.

    Attributes:
        n_classes: How many there are.
        smallest: Inputs of the smallest.
        bits: Entropy of the class of a uniformly drawn input.
        answer_bits: Mutual information of class and right answer on these inputs; never below that
            of a feature that tells fewer inputs apart.
        of_bits: Entropy of the right answer.
        determines: Whether the right answer is the same within every class.
    """

    n_classes: int
    smallest: int
    bits: float
    answer_bits: float
    of_bits: float
    determines: bool


@dataclass(frozen=True)
class Group:
    """Inputs that agree.

    Attributes:
        value: What they agree on, as people read it.
        count: How many they are.
        answers: How many have each of ``Preview.answers``.
        examples: Rows of the first of them that are different inputs.
    """

    value: str
    count: int
    answers: tuple[int, ...]
    examples: tuple[int, ...]


@dataclass(frozen=True)
class Preview:
    """What a feature's values are on the inputs.

    Attributes:
        agreement: Its classes in numbers.
        answers: Right outputs, the most frequent first; at most ``MOST_SHOWN``.
        groups: Its classes, the largest first; at most ``MOST_SHOWN``.
        dtype: Type of its values: "bool", "int" or "float".
    """

    agreement: Agreement
    answers: tuple[int, ...]
    groups: tuple[Group, ...]
    dtype: str

    @property
    def constant(self) -> bool:
        """Whether it tells no inputs apart."""
        return self.agreement.n_classes == 1


@lru_cache(maxsize=8)
def drawn(name: str, n: int, model: str) -> Inputs:
    """Draw inputs of a population, as hypotheses are tested on them.

    Raises:
        BadInput: They cannot be drawn.

    Cost: 0.3 s for 2,000 strings of parentheses, once.
    """
    return Inputs.of(population(name, n, model), token_names(name, model))


def classes(
    feature: Feature,
    inputs: Inputs,
    others: Mapping[str, Feature] | None = None,
    name: str = NAMELESS,
) -> Preview:
    """Evaluate a feature and list its classes.

    Args:
        feature: The feature.
        inputs: The inputs.
        others: Further features that its expression may use, by name.
        name: What others call it.

    Raises:
        BadInput: The expression cannot be evaluated, or its values are not of the type it says.
    """
    every = {**(others or {}), name: feature}
    made = Hypothesis(features=every, graph=Node(site=ROOT, agree=name))
    try:
        values = inputs.values(made)[name]
    except BadInput as error:
        asked = error.asked.replace(f"Feature {name!r}: ", "").replace(
            f"feature {name!r}", "feature"
        )
        raise type(error)(asked, error.found, error.works) from None
    given = {called: one.expr for called, one in every.items()}
    plain: Values = expressions.evaluate(given, inputs.read_by_expressions)[name]
    return Preview(
        agreement=agreement([values], inputs),
        answers=_answers(inputs),
        groups=_groups(values, plain, inputs),
        dtype={"b": "bool", "f": "float"}.get(plain.dtype.kind, "int"),
    )


def agreement(values: Sequence[Values], inputs: Inputs) -> Agreement:
    """Count the classes of inputs that agree in all of ``values``; of none all are one class."""
    same = np.zeros(len(inputs), dtype=np.int64)
    found = Classes.of([same, *values])
    answers = Classes.of([inputs.labels])
    both = Classes.of([found.codes, inputs.labels])
    return Agreement(
        n_classes=len(found.counts),
        smallest=int(found.counts.min()),
        bits=found.entropy_bits,
        answer_bits=max(0.0, found.entropy_bits + answers.entropy_bits - both.entropy_bits),
        of_bits=answers.entropy_bits,
        determines=len(both.counts) == len(found.counts),
    )


def agreements(hypothesis: Hypothesis, inputs: Inputs) -> dict[str, Agreement]:
    """Count the classes of every node that agrees on features, and under "" of all together.

    Nodes that agree on everything (exact), on nothing (any) or on what is near are left out.

    Raises:
        BadInput: A feature cannot be evaluated.
    """
    values = inputs.values(hypothesis)
    found: dict[str, Agreement] = {}
    every: dict[str, Values] = {}
    for node, _ in hypothesis.nodes():
        if isinstance(node.agree, Near) or node.agree in (EXACT, ANY):
            continue
        own = {name: values[name] for name in node.features}
        found[node.id] = agreement(list(own.values()), inputs)
        every |= own
    if every:
        found[""] = agreement(list(every.values()), inputs)
    return found


def _answers(inputs: Inputs) -> tuple[int, ...]:
    outputs, counts = np.unique(inputs.labels, return_counts=True)
    most = np.argsort(-counts, kind="stable")[:MOST_SHOWN]
    return tuple(int(output) for output in outputs[most])


def _groups(values: Values, plain: Values, inputs: Inputs) -> tuple[Group, ...]:
    of, answers = Classes.of([values]), _answers(inputs)
    largest = np.argsort(-of.counts, kind="stable")[:MOST_SHOWN]
    groups: list[Group] = []
    for code in largest.tolist():
        rows = of.order[of.start[code] : of.start[code] + of.counts[code]]
        groups.append(
            Group(
                value=_said(plain[rows]),
                count=len(rows),
                answers=tuple(int((inputs.labels[rows] == answer).sum()) for answer in answers),
                examples=_different(rows, inputs),
            )
        )
    return tuple(groups)


def _said(values: Values) -> str:
    """Say a class's value, or the range of its values where it is a bin."""
    if values.dtype.kind == "b":
        return "true" if values[0] else "false"
    low, high = (f"{end:g}" if end % 1 else f"{int(end)}" for end in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def _different(rows: Int[np.ndarray, "_"], inputs: Inputs) -> tuple[int, ...]:
    """Choose the first rows that are different inputs."""
    found: dict[tuple[int, ...], int] = {}
    for row in rows.tolist():
        found.setdefault(tuple(inputs.ids[row].tolist()), row)
        if len(found) == EXAMPLES:
            break
    return tuple(found.values())
