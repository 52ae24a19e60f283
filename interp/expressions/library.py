"""The functions that expressions may call: what each takes, what it gives, and its words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final

from interp.errors import BadInput
from interp.expressions import reading, reducing
from interp.expressions.operators import chosen, compare
from interp.expressions.values import Per, Value

_FROM_0 = "Positions count from 0 and include special tokens"


class Takes(Enum):
    """What an argument must be; the value is how a message says it."""

    WHOLE = "a whole number or token, one an input at most"
    NAME = "a quoted name"
    ANY = "any value"
    TRUTH = "true or false"
    EACH = "one value a position"
    EACH_TRUTH = "true or false, one a position"
    ONE = "one value an input"
    CONSTANT = "a whole number from 2 to 1000, not an expression of the input"

    def accepts(self, value: Value) -> bool:
        """Whether a value is of this kind."""
        kind, per = value.data.dtype.kind, value.per
        match self:
            case Takes.WHOLE:
                return kind == "i" and per <= Per.INPUT
            case Takes.TRUTH:
                return kind == "b"
            case Takes.EACH:
                return per is Per.POSITION
            case Takes.EACH_TRUTH:
                return kind == "b" and per is Per.POSITION
            case Takes.ONE:
                return per <= Per.INPUT
            case Takes.CONSTANT:
                whole = kind == "i" and per is Per.CONSTANT and value.faults is None
                return whole and 2 <= int(value.data[0, 0]) <= 1000
            case Takes.ANY | Takes.NAME:
                return True


class Gives(Enum):
    """What a function has one value of."""

    INPUT = "one value an input"
    POSITION = "one value a position"
    WIDEST = "as many as its widest argument"


@dataclass(frozen=True, eq=False)
class Function:
    """A function of the library.

    Attributes:
        name: What it is called by.
        signature: How a call is written.
        about: What it gives, one or two sentences.
        takes: What each argument must be.
        gives: What it has one value of.
        apply: From the inputs and the arguments to the value; None for those that the reader of
            expressions resolves itself.
    """

    name: str
    signature: str
    about: str
    takes: tuple[Takes, ...] = field(repr=False)
    gives: Gives = field(repr=False)
    apply: Callable[..., Value] | None = field(repr=False)

    def check(self, arguments: tuple[Value, ...]) -> None:
        """Refuse arguments that it does not take."""
        for place, (takes, value) in enumerate(zip(self.takes, arguments, strict=True)):
            if not takes.accepts(value):
                raise BadInput(
                    f"{self.signature} cannot take this as argument {place + 1}.",
                    f"It holds {value.dtype}, {value.per.words}.",
                    f"Give {takes.value}.",
                )


_WHOLE: Final = (Takes.WHOLE,)
_EACH: Final = (Takes.EACH,)
_ROWS: Final[tuple[tuple[str, str, tuple[Takes, ...], Gives, Callable[..., Value] | None], ...]] = (
    ("token()", "Token id at each position.", (), Gives.POSITION, reading.token),
    ("pos()", f"Each position. {_FROM_0}.", (), Gives.POSITION, reading.pos),
    ("count(tok)", "How many positions hold the token.", _WHOLE, Gives.INPUT, reading.count),
    (
        "first(tok)",
        f"Position of the token's first occurrence, -1 if there is none. {_FROM_0}.",
        _WHOLE,
        Gives.INPUT,
        reading.first,
    ),
    (
        "last_of(tok)",
        f"Position of the token's last occurrence, -1 if there is none. {_FROM_0}.",
        _WHOLE,
        Gives.INPUT,
        reading.last_of,
    ),
    (
        "at(pos)",
        f"Token id at a position, -1 outside the input. {_FROM_0}; negative ones count from "
        "the input's own end.",
        _WHOLE,
        Gives.INPUT,
        reading.at,
    ),
    ("last()", "Token id of the last token, special ones included.", (), Gives.INPUT, reading.last),
    ("length()", "Number of tokens, special ones included.", (), Gives.INPUT, reading.length),
    (
        "cumsum_left(a, b)",
        "At each position i, how many tokens a minus how many tokens b stand at positions "
        f"≤ i. {_FROM_0}.",
        2 * _WHOLE,
        Gives.POSITION,
        reading.cumsum_left,
    ),
    (
        "cumsum_right(a, b)",
        "At each position i, how many tokens a minus how many tokens b stand at positions "
        f"≥ i. {_FROM_0}.",
        2 * _WHOLE,
        Gives.POSITION,
        reading.cumsum_right,
    ),
    (
        "proportion_from(tok_a, tok_b, i)",
        "Share of token a among tokens a and b at positions ≥ i, -1 where there is neither or "
        f"i lies outside the input. {_FROM_0}; a negative i counts from the end.",
        3 * _WHOLE,
        Gives.INPUT,
        reading.proportion_from,
    ),
    (
        "prop_open_from(i)",
        "proportion_from(OPEN, CLOSE, i), for models whose tokens OPEN and CLOSE have names.",
        _WHOLE,
        Gives.INPUT,
        None,
    ),
    (
        "prev_occurrence(pos)",
        "Where the token at a position stood the last time before it, -1 if never. "
        f"{_FROM_0}; a negative one counts from the end.",
        _WHOLE,
        Gives.INPUT,
        reading.prev_occurrence,
    ),
    (
        "tok_after_prev_occurrence(pos)",
        "Token id that followed the last earlier occurrence of the token at a position, -1 if "
        f"there is none. {_FROM_0}; a negative one counts from the end.",
        _WHOLE,
        Gives.INPUT,
        reading.tok_after_prev_occurrence,
    ),
    ("max(x)", "Largest value over the positions.", _EACH, Gives.INPUT, reducing.largest),
    ("min(x)", "Smallest value over the positions.", _EACH, Gives.INPUT, reducing.smallest),
    ("sum(x)", "Sum over the positions; true counts 1.", _EACH, Gives.INPUT, reducing.total),
    ("mean(x)", "Mean over the positions; true counts 1.", _EACH, Gives.INPUT, reducing.mean),
    (
        "any(x)",
        "Whether x holds at any position.",
        (Takes.EACH_TRUTH,),
        Gives.INPUT,
        reducing.any_of,
    ),
    (
        "all(x)",
        "Whether x holds at all positions.",
        (Takes.EACH_TRUTH,),
        Gives.INPUT,
        reducing.all_of,
    ),
    (
        "equal(a, b)",
        "Whether a and b are the same number; the same as a == b.",
        (Takes.ANY, Takes.ANY),
        Gives.WIDEST,
        lambda _, a, b: compare(("==",), (a, b)),
    ),
    (
        "where(c, a, b)",
        "a where c holds, else b. What is not chosen may be a division by zero.",
        (Takes.TRUTH, Takes.ANY, Takes.ANY),
        Gives.WIDEST,
        lambda _, c, a, b: chosen(c, a, b),
    ),
    (
        "bin(x, k)",
        "Which of k quantiles of x an input lies in, 0 to k - 1, among the inputs that are "
        "evaluated together. Equal values share a bin.",
        (Takes.ONE, Takes.CONSTANT),
        Gives.INPUT,
        reducing.binned,
    ),
    ("abs(x)", "Distance from 0.", (Takes.ANY,), Gives.WIDEST, reducing.absolute),
    (
        'column("name")',
        "The column of that name; for names that are not plain words.",
        (Takes.NAME,),
        Gives.INPUT,
        None,
    ),
)


def _functions() -> dict[str, Function]:
    """The library by name, which a signature begins with."""
    return {row[0].split("(")[0]: Function(row[0].split("(")[0], *row) for row in _ROWS}


FUNCTIONS: Final[Mapping[str, Function]] = MappingProxyType(_functions())
"""Every function that an expression may call, by name."""

ALIASES: Final = MappingProxyType({"prop_open_from": ("proportion_from", ("OPEN", "CLOSE"))})
"""Functions that stand for another with its first arguments given."""
