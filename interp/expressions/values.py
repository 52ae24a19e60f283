"""What expressions compute with: numbers of each input or of each position, and what went wrong.

A number that cannot be had (a division by zero, one past 2^53) does not stop the evaluation: it is
marked, and the mark goes wherever the number goes. So ``where(n > 0, a / n, 0)`` is a value for
every input, and a mark that reaches the end says which input it is and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8

from interp.errors import BadInput

LARGEST: Final = 2**53
"""Every whole number up to here is exact both as int64 and as float64."""

PerInput = Int[np.ndarray, "input"] | Float[np.ndarray, "input"] | Bool[np.ndarray, "input"]
Marks = UInt8[np.ndarray, "_ _"]


class Fault(IntEnum):
    """Why there is no number; the larger one is told where there are several."""

    TOO_LARGE = 1
    NOT_IN_COLUMN = 2
    NO_TOKENS = 3
    DIVIDED_BY_ZERO = 4

    @property
    def words(self) -> str:
        """The reason as a message says it."""
        return {
            Fault.TOO_LARGE: "a number beyond 2^53, or not finite",
            Fault.NOT_IN_COLUMN: "a column has no finite number there",
            Fault.NO_TOKENS: "it has no tokens to reduce over",
            Fault.DIVIDED_BY_ZERO: "division by zero",
        }[self]


class Per(IntEnum):
    """What a value has one number of; where two meet, the finer one wins."""

    CONSTANT = 0
    INPUT = 1
    POSITION = 2

    @property
    def words(self) -> str:
        """How a message calls it."""
        return ("a constant", "one value an input", "one value a position")[self]


@dataclass(frozen=True, eq=False)
class Inputs:
    """What expressions read: N inputs.

    Attributes:
        ids: Token ids, padded at the end with -1. At least one position.
        lengths: Tokens of each input, special ones (BOS, START, END) included.
        names: Token names usable as constants, and the id of each.
        columns: Named values of each input; read by ``column("any name")`` and, where the name is
            an identifier, by name.

    Raises:
        BadInput: If the parts do not fit together.
    """

    ids: Int[np.ndarray, "input pos"]
    lengths: Int[np.ndarray, "input"]
    names: Mapping[str, int]
    columns: Mapping[str, PerInput]

    def __post_init__(self) -> None:
        asked = "These inputs cannot be read by expressions."
        if self.ids.ndim != 2 or self.ids.shape[1] == 0 or self.lengths.shape != self.ids.shape[:1]:
            raise BadInput(
                asked,
                f"Ids have the shape {self.ids.shape} and lengths {self.lengths.shape}.",
                "Give ids [input, pos] with at least one position, and lengths [input].",
            )
        if ((self.lengths < 0) | (self.lengths > self.ids.shape[1])).any():
            raise BadInput(
                asked,
                f"A length lies outside 0 to {self.ids.shape[1]}.",
                "Give the number of tokens of each input.",
            )
        if ((self.ids >= 0) != self.exists).any():
            raise BadInput(
                asked,
                "Some ids and lengths disagree on where an input ends.",
                "Pad ids with -1 after each input's length.",
            )

    def __len__(self) -> int:
        return self.ids.shape[0]

    @property
    def exists(self) -> Bool[np.ndarray, "input pos"]:
        """Which positions hold a token."""
        return np.arange(self.ids.shape[1]) < self.lengths[:, None]


@dataclass(frozen=True, eq=False)
class Value:
    """An intermediate result.

    Attributes:
        data: bool, int64 or float64, of shape [1, 1], [input, 1] or [input, pos]; 0 where marked.
        per: Which of the three shapes it is.
        faults: A ``Fault`` where there is no number, else 0; None where all is well. The shape
            broadcasts to that of ``data``.
    """

    data: Shaped[np.ndarray, "rows cols"]
    per: Per
    faults: Marks | None = None

    @property
    def dtype(self) -> str:
        """What its numbers are, in words."""
        return {"b": "true or false", "i": "whole numbers", "f": "decimal numbers"}[
            self.data.dtype.kind
        ]


def constant(number: float | int | bool) -> Value:
    """The same number everywhere."""
    return Value(np.array([[number]]), Per.CONSTANT)


def each_input(array: Shaped[np.ndarray, "input"]) -> Value:
    """One number of any numeric type an input, as bool, int64 or float64."""
    if array.dtype.kind == "b":
        return Value(array[:, None], Per.INPUT)
    with np.errstate(all="ignore"):
        if array.dtype.kind == "f":
            data = array.astype(np.float64)[:, None]
            bad = ~np.isfinite(data)
        else:
            bad = ((array > LARGEST) | (array < -LARGEST))[:, None]
            data = array.astype(np.int64)[:, None]
    return marked(data, Per.INPUT, None, bad, Fault.NOT_IN_COLUMN)


def marked(
    data: Shaped[np.ndarray, "rows cols"],
    per: Per,
    faults: Marks | None,
    bad: Bool[np.ndarray, "_ _"],
    why: Fault,
) -> Value:
    """A value with one more mark where it is ``bad``."""
    if bad.any():
        faults = merged(faults, np.where(bad, np.uint8(why), np.uint8(0)))
        data = np.where(bad, np.zeros((), data.dtype), data)
    return Value(data, per, faults)


def merged(*faults: Marks | None) -> Marks | None:
    """The marks of several operands at once."""
    result: Marks | None = None
    for marks in faults:
        if marks is not None:
            result = marks if result is None else np.maximum(result, marks)
    return result


def number(value: Value) -> Shaped[np.ndarray, "rows cols"]:
    """The data as numbers: true counts as 1 and false as 0."""
    return value.data.astype(np.int64) if value.data.dtype.kind == "b" else value.data


def bounded(data: Shaped[np.ndarray, "rows cols"], per: Per, faults: Marks | None) -> Value:
    """A value with a mark where it is not finite, or a whole number beyond 2^53."""
    if data.dtype.kind == "f":
        return marked(data, per, faults, ~np.isfinite(data), Fault.TOO_LARGE)
    if data.size == 0 or (data.max() <= LARGEST and data.min() >= -LARGEST):
        return Value(data, per, faults)
    return marked(data, per, faults, (data > LARGEST) | (data < -LARGEST), Fault.TOO_LARGE)
