"""The operators of expressions, element by element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from interp.errors import BadInput
from interp.expressions.values import (
    LARGEST,
    Fault,
    Value,
    bounded,
    marked,
    merged,
    number,
)

_COMPARE: Final[dict[str, Callable[..., Any]]] = {
    "==": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}
_DIVIDE: Final[dict[str, Callable[..., Any]]] = {
    "/": np.true_divide,
    "//": np.floor_divide,
    "%": np.remainder,
}


def unary(op: str, operand: Value) -> Value:
    """``-`` of numbers or ``~`` of truth values."""
    if op == "-":
        return Value(-number(operand), operand.per, operand.faults)
    require_truth("~", operand)
    return Value(~operand.data, operand.per, operand.faults)


def binary(op: str, left: Value, right: Value) -> Value:
    """One of ``+ - * / // % & |``; true counts as 1 in sums and products."""
    per = max(left.per, right.per)
    faults = merged(left.faults, right.faults)
    if op in "&|":
        require_truth(op, left)
        require_truth(op, right)
        joined = np.logical_and if op == "&" else np.logical_or
        return Value(joined(left.data, right.data), per, faults)
    a, b = number(left), number(right)
    with np.errstate(all="ignore"):
        if op in _DIVIDE:
            zero = np.broadcast_to(b == 0, np.broadcast_shapes(a.shape, b.shape))
            data = _DIVIDE[op](a, np.where(b == 0, np.ones((), b.dtype), b))
            divided = marked(data, per, faults, zero, Fault.DIVIDED_BY_ZERO)
            return bounded(divided.data, per, divided.faults)
        if op == "*":
            return _product(left, right)
        return bounded(a + b if op == "+" else a - b, per, faults)


def _product(left: Value, right: Value) -> Value:
    """Multiply; whole numbers that would pass 2^63 must not wrap round unseen."""
    a, b = number(left), number(right)
    per, faults = max(left.per, right.per), merged(left.faults, right.faults)
    data = a * b
    if data.dtype.kind == "i" and data.size and _furthest(a) * _furthest(b) > LARGEST:
        beyond = np.abs(a.astype(np.float64) * b) > LARGEST
        return marked(data, per, faults, beyond | (np.abs(data) > LARGEST), Fault.TOO_LARGE)
    return bounded(data, per, faults)


def _furthest(data: np.ndarray) -> int:
    """Largest distance from 0."""
    return max(int(data.max()), -int(data.min()))


def compare(ops: tuple[str, ...], operands: tuple[Value, ...]) -> Value:
    """Comparisons of neighbours, all of which must hold."""
    faults = merged(*(operand.faults for operand in operands))
    per = max(operand.per for operand in operands)
    data = np.ones((1, 1), bool)
    for op, left, right in zip(ops, operands, operands[1:], strict=False):
        data = data & _COMPARE[op](left.data, right.data)
    return Value(data, per, faults)


def chosen(condition: Value, yes: Value, no: Value) -> Value:
    """``yes`` where the condition holds, else ``no``; what is not chosen may be faulty."""
    both_truth = yes.data.dtype.kind == no.data.dtype.kind == "b"
    a, b = (yes.data, no.data) if both_truth else (number(yes), number(no))
    faults = condition.faults
    if yes.faults is not None or no.faults is not None:
        none = np.zeros((1, 1), np.uint8)
        picked = np.where(
            condition.data,
            none if yes.faults is None else yes.faults,
            none if no.faults is None else no.faults,
        )
        faults = merged(faults, picked)
    per = max(condition.per, yes.per, no.per)
    return Value(np.where(condition.data, a, b), per, faults)


def require_truth(op: str, operand: Value) -> None:
    """Refuse ``& | ~`` of numbers."""
    if operand.data.dtype.kind != "b":
        raise BadInput(
            f"{op} joins truth values.",
            f"An operand holds {operand.dtype}.",
            "Compare it first, and put the comparison in parentheses: (a == b) & (c < d).",
        )
