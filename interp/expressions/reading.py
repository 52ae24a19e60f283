"""Functions of expressions that read the tokens.

Every one takes the inputs first. Tokens and positions are whole numbers, one of all or one an
input; a position from the end is negative. Padding is never counted.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int

from interp.expressions.values import Inputs, Per, Value, merged

Column = Int[np.ndarray, "input 1"]
Positions = Bool[np.ndarray, "input pos"]


def token(inputs: Inputs) -> Value:
    """Token id at each position."""
    return Value(inputs.ids.astype(np.int64), Per.POSITION)


def pos(inputs: Inputs) -> Value:
    """Each position, counted from 0."""
    every = np.arange(inputs.ids.shape[1], dtype=np.int64)
    return Value(np.broadcast_to(every, inputs.ids.shape), Per.POSITION)


def count(inputs: Inputs, tok: Value) -> Value:
    """How many positions hold the token."""
    return Value(_how_many(_holds(inputs, tok)), Per.INPUT, tok.faults)


def first(inputs: Inputs, tok: Value) -> Value:
    """Position of the token's first occurrence, -1 if none."""
    return Value(_first_true(_holds(inputs, tok)), Per.INPUT, tok.faults)


def last_of(inputs: Inputs, tok: Value) -> Value:
    """Position of the token's last occurrence, -1 if none."""
    return Value(_last_true(_holds(inputs, tok)), Per.INPUT, tok.faults)


def at(inputs: Inputs, pos: Value) -> Value:
    """Token id at a position, -1 outside the input."""
    return Value(_ids_at(inputs, _resolved(inputs, pos)), Per.INPUT, pos.faults)


def last(inputs: Inputs) -> Value:
    """Token id of the last token, -1 for an input without tokens."""
    return Value(_ids_at(inputs, _lengths(inputs) - 1), Per.INPUT)


def length(inputs: Inputs) -> Value:
    """Number of tokens."""
    return Value(_lengths(inputs), Per.INPUT)


def cumsum_left(inputs: Inputs, a: Value, b: Value) -> Value:
    """Tokens a minus tokens b at this position and before."""
    steps = _steps(inputs, a, b)
    summed = np.cumsum(steps, axis=1, dtype=np.int64)
    return Value(summed, Per.POSITION, merged(a.faults, b.faults))


def cumsum_right(inputs: Inputs, a: Value, b: Value) -> Value:
    """Tokens a minus tokens b at this position and after."""
    steps = _steps(inputs, a, b)
    summed = np.cumsum(steps[:, ::-1], axis=1, dtype=np.int64)[:, ::-1]
    return Value(summed, Per.POSITION, merged(a.faults, b.faults))


def proportion_from(inputs: Inputs, tok_a: Value, tok_b: Value, i: Value) -> Value:
    """Share of a among a and b from a position on; -1 where there is neither or no position."""
    start = _resolved(inputs, i)
    onward = (np.arange(inputs.ids.shape[1]) >= start) & (start >= 0)
    a, b = _holds(inputs, tok_a) & onward, _holds(inputs, tok_b) & onward
    either = _how_many(a | b)
    share = np.where(either > 0, _how_many(a) / np.maximum(either, 1), -1.0)
    return Value(share, Per.INPUT, merged(tok_a.faults, tok_b.faults, i.faults))


def prev_occurrence(inputs: Inputs, pos: Value) -> Value:
    """Position where the token at ``pos`` stood the last time before it, -1 if never."""
    return Value(_previous(inputs, pos), Per.INPUT, pos.faults)


def tok_after_prev_occurrence(inputs: Inputs, pos: Value) -> Value:
    """Token id that followed the last earlier occurrence of the token at ``pos``, -1 if none."""
    previous = _previous(inputs, pos)
    after = np.where(previous >= 0, previous + 1, -1)
    return Value(_ids_at(inputs, after), Per.INPUT, pos.faults)


def _holds(inputs: Inputs, tok: Value) -> Positions:
    """Which positions hold the token."""
    return (inputs.ids == tok.data) & inputs.exists


def _steps(inputs: Inputs, a: Value, b: Value) -> Int[np.ndarray, "input pos"]:
    """+1 at each token a, -1 at each token b, 0 where they are the same."""
    return _holds(inputs, a).astype(np.int8) - _holds(inputs, b).astype(np.int8)


def _lengths(inputs: Inputs) -> Column:
    return inputs.lengths.astype(np.int64)[:, None]


def _resolved(inputs: Inputs, pos: Value) -> Column:
    """A position counted from 0, -1 where it lies outside the input."""
    lengths = _lengths(inputs)
    absolute = np.where(pos.data < 0, pos.data + lengths, pos.data)
    return np.where((absolute >= 0) & (absolute < lengths), absolute, -1)


def _ids_at(inputs: Inputs, where: Column) -> Column:
    """Token ids at positions, -1 where the position is."""
    ids = np.take_along_axis(inputs.ids, np.maximum(where, 0), axis=1)
    return np.where(where >= 0, ids, -1).astype(np.int64)


def _previous(inputs: Inputs, pos: Value) -> Column:
    """Last position before ``pos`` with the same token, -1 if none."""
    here = _resolved(inputs, pos)
    same = (inputs.ids == _ids_at(inputs, here)) & inputs.exists
    return _last_true(same & (np.arange(inputs.ids.shape[1]) < here))


def _how_many(holds: Positions) -> Column:
    return holds.sum(axis=1, keepdims=True, dtype=np.int64)


def _first_true(holds: Positions) -> Column:
    """First position that holds, -1 if none."""
    return np.where(holds.any(axis=1), holds.argmax(axis=1), -1)[:, None]


def _last_true(holds: Positions) -> Column:
    """Last position that holds, -1 if none."""
    from_end = holds[:, ::-1].argmax(axis=1)
    return np.where(holds.any(axis=1), holds.shape[1] - 1 - from_end, -1)[:, None]
