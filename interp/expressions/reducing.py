"""Functions of expressions that reduce over positions, or over inputs to bins.

A mark at a position that exists passes to the whole input; what is computed at padding is dropped.
"""

from __future__ import annotations

import numpy as np

from interp.expressions.values import (
    LARGEST,
    Fault,
    Inputs,
    Marks,
    Per,
    Value,
    bounded,
    marked,
    merged,
    number,
)


def largest(inputs: Inputs, x: Value) -> Value:
    """Largest value over the positions."""
    data = number(x)
    lowest = -LARGEST if data.dtype.kind == "i" else -np.inf
    return _filled(inputs, x, data.max(1, initial=lowest, where=inputs.exists, keepdims=True))


def smallest(inputs: Inputs, x: Value) -> Value:
    """Smallest value over the positions."""
    data = number(x)
    highest = LARGEST if data.dtype.kind == "i" else np.inf
    return _filled(inputs, x, data.min(1, initial=highest, where=inputs.exists, keepdims=True))


def total(inputs: Inputs, x: Value) -> Value:
    """Sum over the positions; whole numbers whose sizes add up to more than 2^53 are marked."""
    data, exists, faults = number(x), inputs.exists, _passed(inputs, x)
    with np.errstate(all="ignore"):
        summed = data.sum(1, where=exists, keepdims=True)
        if data.dtype.kind == "f":
            return bounded(summed, Per.INPUT, faults)
        sizes = np.abs(data).sum(1, where=exists, keepdims=True, dtype=np.float64)
    return marked(summed, Per.INPUT, faults, sizes > LARGEST, Fault.TOO_LARGE)


def mean(inputs: Inputs, x: Value) -> Value:
    """Mean over the positions."""
    lengths = inputs.lengths[:, None]
    with np.errstate(all="ignore"):
        summed = number(x).sum(1, where=inputs.exists, keepdims=True, dtype=np.float64)
    return _filled(inputs, x, summed / np.maximum(lengths, 1))


def any_of(inputs: Inputs, x: Value) -> Value:
    """Whether x holds at any position; not so for an input without tokens."""
    held = np.any(x.data & inputs.exists, axis=1)
    return Value(held[:, None], Per.INPUT, _passed(inputs, x))


def all_of(inputs: Inputs, x: Value) -> Value:
    """Whether x holds at all positions; so for an input without tokens."""
    held = np.all(x.data | ~inputs.exists, axis=1)
    return Value(held[:, None], Per.INPUT, _passed(inputs, x))


def absolute(_: Inputs, x: Value) -> Value:
    """Distance from 0."""
    return Value(np.abs(number(x)), x.per, x.faults)


def binned(inputs: Inputs, x: Value, k: Value) -> Value:
    """Quantile bin of each input, 0 to k - 1, by the middle rank of its value.

    With n values, l of them smaller and e equal, the bin is floor(k (l + (e - 1) / 2) / n). So
    equal values share a bin and the order of inputs does not matter. Values that are marked are
    not ranked.
    """
    shape = (len(inputs), 1)
    values = np.broadcast_to(number(x), shape)
    faults = None if x.faults is None else np.broadcast_to(x.faults, shape)
    ranked = np.ones(shape, bool) if faults is None else faults == 0
    _, which, equal = np.unique(values[ranked], return_inverse=True, return_counts=True)
    smaller = np.cumsum(equal) - equal
    bins = int(k.data[0, 0]) * (2 * smaller + equal - 1) // (2 * max(int(ranked.sum()), 1))
    data = np.zeros(shape, np.int64)
    data[ranked] = bins[which]
    return Value(data, Per.INPUT, faults)


def _passed(inputs: Inputs, x: Value) -> Marks | None:
    """The marks of each input: any at a position that exists."""
    if x.faults is None:
        return None
    marks = np.broadcast_to(x.faults, inputs.ids.shape)
    return marks.max(axis=1, initial=0, where=inputs.exists, keepdims=True)


def _filled(inputs: Inputs, x: Value, data: np.ndarray) -> Value:
    """A reduction that has no value for an input without tokens."""
    empty = inputs.lengths[:, None] == 0
    value = marked(data, Per.INPUT, _passed(inputs, x), empty, Fault.NO_TOKENS)
    return bounded(value.data, value.per, merged(value.faults))
