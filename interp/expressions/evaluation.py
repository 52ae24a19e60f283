"""From expressions and inputs to one value an input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Final

import numpy as np
from jaxtyping import Shaped

from interp.errors import BadInput, UnknownName
from interp.expressions import operators
from interp.expressions.lexer import shortened
from interp.expressions.library import FUNCTIONS, Gives
from interp.expressions.parser import parse
from interp.expressions.tree import (
    Binary,
    Call,
    Column,
    Compare,
    Expression,
    Name,
    Node,
    Number,
    Unary,
    bare_names,
    children,
)
from interp.expressions.values import Fault, Inputs, Per, Value, constant, each_input

MAX_BYTES: Final = 200_000_000
MAX_FEATURES: Final = 100

_EACH: Final = 9
"""Bytes of a number at a position, with its mark."""
_WORKING: Final = 4
"""Arrays over inputs and positions that one operation holds beside its operands."""
_NARROW: Final = 8
"""Arrays over inputs alone that it holds; ranking holds the most."""

Feature = Shaped[np.ndarray, "input"]


def evaluate(features: Mapping[str, str], inputs: Inputs) -> dict[str, np.ndarray]:
    """Evaluate features, which may use each other by name.

    Args:
        features: Name to expression; the result has the same order.
        inputs: What the expressions read.

    Returns:
        One value an input for each feature: bool, int64 or float64.

    Raises:
        BadInput: If an expression cannot be read, features need each other in a circle, a
            feature has the name of a token, or ``evaluate_one`` would refuse one.
    """
    if len(features) > MAX_FEATURES:
        raise BadInput(
            f"{len(features)} features are too many.", f"The most is {MAX_FEATURES}.", "Drop some."
        )
    for name in features:
        if name in inputs.names:
            raise BadInput(
                f"A feature is called {name!r}.", "A token has that name.", "Rename the feature."
            )
    parsed: dict[str, Expression] = {}
    for name, text in features.items():
        with _Named(name):
            parsed[name] = parse(text)
    values: dict[str, np.ndarray] = {}
    for name in _order(parsed):
        with _Named(name):
            values[name] = _Evaluation(inputs, values, frozenset(features)).feature(parsed[name])
    return {name: values[name] for name in features}


def evaluate_one(
    text: str, inputs: Inputs, known: Mapping[str, np.ndarray] | None = None
) -> Feature:
    """Evaluate one expression.

    Args:
        text: The expression.
        inputs: What it reads.
        known: Further names and their values, one an input.

    Returns:
        One value an input: bool, int64 or float64.

    Raises:
        BadInput: If it cannot be read, gives one value a position, needs more than 200 MB, or
            has no value for some input.
        UnknownName: If it uses a name or function that does not exist.

    Cost: a few passes over ids for each node; at most 200 MB beside the inputs.
    """
    known = known or {}
    return _Evaluation(inputs, known, frozenset(known)).feature(parse(text))


@dataclass(frozen=True)
class _Named:
    """Says which feature an error is about."""

    name: str

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, BadInput):
            asked = f"Feature {self.name!r}: {error.asked}"
            raise type(error)(asked, error.found, error.works) from None


def _order(parsed: Mapping[str, Expression]) -> list[str]:
    """Features in an order in which each comes after those that it uses."""
    uses = {
        name: sorted(bare_names(expression.tree) & parsed.keys())
        for name, expression in parsed.items()
    }
    try:
        return list(TopologicalSorter(uses).static_order())
    except CycleError as error:
        # The sorter lists what is used before what uses it, and its first one again at the end.
        circle: list[str] = error.args[1][:0:-1]
        start = min(map(list(parsed).index, circle))
        turn = circle.index(list(parsed)[start])
        printed = " -> ".join([*circle[turn:], *circle[:turn], circle[turn]])
        raise BadInput(
            "Features cannot need each other in a circle.",
            f"Found: {printed}.",
            'Write one of them without the others. column("name") reads a column of that name.',
        ) from None


@dataclass(frozen=True, eq=False)
class _Evaluation:
    """One expression on one set of inputs.

    Attributes:
        inputs: What it reads.
        known: Values of features.
        features: Names of all features, for messages.
    """

    inputs: Inputs
    known: Mapping[str, np.ndarray]
    features: frozenset[str]

    def feature(self, expression: Expression) -> Feature:
        """The value of each input.

        Raises:
            BadInput: If there is none for some input, or one a position.
        """
        asked = f"The expression {shortened(expression.text)!r} is no feature of these inputs."
        self._fits(expression)
        value = self.value(expression.tree)
        if value.per is Per.POSITION:
            raise BadInput(
                asked,
                "It has one value a position.",
                "Reduce it with max(), min(), any(), all(), sum() or mean(), or read one position "
                "with at().",
            )
        if value.faults is not None:
            marks = np.broadcast_to(value.faults, (len(self.inputs), 1))[:, 0]
            without = np.flatnonzero(marks)
            if without.size:
                more = f" and {without.size - 1:,} more" if without.size > 1 else ""
                raise BadInput(
                    asked,
                    f"It has no value for input {without[0]}{more}, counted from 0: "
                    f"{Fault(int(marks[without[0]])).words}.",
                    "Choose another value there: where(condition, a, b).",
                )
        return np.broadcast_to(value.data, (len(self.inputs), 1))[:, 0].copy()

    def value(self, node: Node) -> Value:
        """Evaluate a node and what is below it."""
        match node:
            case Number():
                return constant(node.value)
            case Name():
                return self.named(node.name)
            case Column():
                return self.column(node.name)
            case Unary():
                return operators.unary(node.op, self.value(node.operand))
            case Binary():
                return operators.binary(node.op, self.value(node.left), self.value(node.right))
            case Compare():
                return operators.compare(node.ops, tuple(map(self.value, node.operands)))
            case Call():
                function = FUNCTIONS[node.function]
                arguments = tuple(map(self.value, node.arguments))
                function.check(arguments)
                assert function.apply is not None
                return function.apply(self.inputs, *arguments)

    def named(self, name: str) -> Value:
        """A feature, a token or a column."""
        if name in self.known:
            return self._each(name, self.known[name])
        names, columns = self.inputs.names, self.inputs.columns
        if name in names and name in columns:
            raise BadInput(
                f"The name {name!r} could mean two things.",
                "A token and a column have it.",
                f'Write column("{name}") for the column.',
            )
        if name in names:
            return constant(int(names[name]))
        if name in columns:
            return self.column(name)
        if name in FUNCTIONS:
            raise BadInput(
                f"{name!r} is a function.",
                "It stands here without parentheses.",
                f"Write {FUNCTIONS[name].signature}.",
            )
        plain = {column for column in columns if column.isidentifier()}
        raise UnknownName.of("name", name, self.features | names.keys() | plain)

    def column(self, name: str) -> Value:
        """A column by any name."""
        if name not in self.inputs.columns:
            raise UnknownName.of("column", name, self.inputs.columns)
        return self._each(name, self.inputs.columns[name])

    def _each(self, name: str, array: np.ndarray) -> Value:
        if array.shape != (len(self.inputs),) or array.dtype.kind not in "biuf":
            raise BadInput(
                f"The values of {name!r} cannot be read.",
                f"Found an array of {array.dtype} with the shape {array.shape}.",
                f"Give one number an input: the shape ({len(self.inputs)},).",
            )
        return each_input(array)

    def _fits(self, expression: Expression) -> None:
        """Refuse what would take too much memory."""
        needed, (inputs, positions) = memory(expression, self.inputs), self.inputs.ids.shape
        if needed > MAX_BYTES:
            raise BadInput(
                f"The expression {shortened(expression.text)!r} takes too much memory.",
                f"On {inputs:,} inputs of {positions:,} positions it needs about "
                f"{needed / 1e6:,.0f} MB; at most {MAX_BYTES / 1e6:,.0f} are used.",
                "Give fewer inputs, or split the expression into features.",
            )


def memory(expression: Expression, inputs: Inputs) -> int:
    """Bytes that evaluating an expression holds at most, beside the inputs: an upper bound."""
    return _held(expression.tree, inputs.ids.shape[1])[1] * len(inputs) * _EACH


def _held(node: Node, positions: int) -> tuple[int, int]:
    """How many numbers an input a node gives, and how many are held at most on the way to it."""
    given, most = 0, 0
    wide = False
    for child in children(node):
        own, on_the_way = _held(child, positions)
        most = max(most, given + on_the_way)
        given += own
        wide = wide or own >= positions
    gives = FUNCTIONS[node.function].gives if isinstance(node, Call) else Gives.WIDEST
    reads = isinstance(node, Call) and gives is not Gives.WIDEST
    working = _WORKING * positions if reads or wide else 0
    result = positions if gives is Gives.POSITION or (gives is Gives.WIDEST and wide) else 1
    return result, max(most, given + working + _NARROW)
