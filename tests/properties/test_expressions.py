"""Expressions against plain loops over inputs, and against Python's own reading of the text."""

from __future__ import annotations

import ast
import functools
import itertools
import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp import expressions
from interp.behaviors import parens
from interp.errors import BadInput
from interp.expressions import FUNCTIONS, Inputs, evaluate, evaluate_one, parse, reading
from interp.expressions import tree as nodes
from interp.expressions.library import ALIASES

KEEP = settings(max_examples=60, deadline=None, derandomize=True, database=None)
MANY = settings(max_examples=300, deadline=None, derandomize=True, database=None)
NAMES = {"START": 0, "OPEN": 3, "CLOSE": 4}


class Fault:
    """A number that cannot be had."""


FAULT = Fault()


# --- one input at a time, in plain Python ------------------------------------------------------


def lifted(call: Callable[..., Any], *values: Any) -> Any:
    """Apply to single values, or position by position where any of them is a list."""
    wide = [value for value in values if isinstance(value, list)]
    if wide:
        rows = (
            [value[i] if isinstance(value, list) else value for value in values]
            for i in range(len(wide[0]))
        )
        return [call(*row) for row in rows]
    return call(*values)


def strict(call: Callable[..., Any]) -> Callable[..., Any]:
    """A fault among the arguments is the result; so is a division by zero, or too large a one."""

    def told(*values: Any) -> Any:
        if any(value is FAULT for value in values):
            return FAULT
        try:
            result = call(*values)
        except ZeroDivisionError:
            return FAULT
        if isinstance(result, int) and abs(result) > 2**53:
            return FAULT
        return result

    return told


def place(ids: list[int], at: int) -> int | None:
    """The position that a number names, None outside the input."""
    at = at + len(ids) if at < 0 else at
    return at if 0 <= at < len(ids) else None


def earlier(ids: list[int], at: int) -> int:
    here = place(ids, at)
    if here is None:
        return -1
    return max((i for i in range(here) if ids[i] == ids[here]), default=-1)


def following(ids: list[int], at: int) -> int:
    return ids[earlier(ids, at) + 1] if earlier(ids, at) >= 0 else -1


def token_at(ids: list[int], at: int) -> int:
    here = place(ids, at)
    return -1 if here is None else ids[here]


def share(ids: list[int], a: int, b: int, at: int) -> float:
    start = place(ids, at)
    onward = [] if start is None else [i for i in ids[start:] if i in (a, b)]
    return onward.count(a) / len(onward) if onward else -1.0


def balance(ids: list[int], a: int, b: int) -> int:
    return sum((i == a) - (i == b) for i in ids)


READ: dict[str, Callable[..., Any]] = {
    "count": lambda ids, tok: sum(i == tok for i in ids),
    "first": lambda ids, tok: next((at for at, i in enumerate(ids) if i == tok), -1),
    "last_of": lambda ids, tok: max((at for at, i in enumerate(ids) if i == tok), default=-1),
    "at": token_at,
    "last": lambda ids: ids[-1] if ids else -1,
    "length": len,
    "token": list,
    "pos": lambda ids: list(range(len(ids))),
    "cumsum_left": lambda ids, a, b: [balance(ids[: i + 1], a, b) for i in range(len(ids))],
    "cumsum_right": lambda ids, a, b: [balance(ids[i:], a, b) for i in range(len(ids))],
    "proportion_from": share,
    "prop_open_from": lambda ids, at: share(ids, NAMES["OPEN"], NAMES["CLOSE"], at),
    "prev_occurrence": earlier,
    "tok_after_prev_occurrence": following,
}
REDUCE: dict[str, Callable[[list[Any]], Any]] = {
    "max": lambda x: max(map(plus, x)) if x else FAULT,
    "min": lambda x: min(map(plus, x)) if x else FAULT,
    "sum": lambda x: sum(map(plus, x)),
    "mean": lambda x: sum(map(plus, x)) / len(x) if x else FAULT,
    "any": any,
    "all": all,
}
OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Mod: lambda a, b: a % b,
    ast.BitAnd: lambda a, b: a and b,
    ast.BitOr: lambda a, b: a or b,
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
    ast.USub: lambda a: -a,
    ast.Invert: lambda a: not a,
}


def plus(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


def picked(condition: Any, yes: Any, no: Any) -> Any:
    if condition is FAULT:
        return FAULT
    return yes if condition else no


def by_hand(node: ast.expr, ids: list[int], columns: dict[str, Any]) -> Any:
    """The value of Python's tree of an expression for one input; a list where one a position."""

    def of(inner: ast.expr) -> Any:
        return by_hand(inner, ids, columns)

    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return columns[name]
        case ast.UnaryOp(op=op, operand=operand):
            return lifted(strict(OPERATORS[type(op)]), of(operand))
        case ast.BinOp(left=left, op=op, right=right):
            return lifted(strict(OPERATORS[type(op)]), of(left), of(right))
        case ast.Compare(left=left, ops=ops, comparators=rest):
            values = [of(left), *map(of, rest)]
            held = [
                lifted(strict(OPERATORS[type(op)]), a, b)
                for op, a, b in zip(ops, values, values[1:], strict=False)
            ]
            return lifted(strict(lambda *each: all(each)), *held)
        case ast.Call(func=ast.Name(id=name), args=args):
            values = [of(arg) for arg in args]
            if name == "where":
                return lifted(picked, *values)
            if name == "equal":
                return lifted(strict(OPERATORS[ast.Eq]), *values)
            if name == "abs":
                return lifted(strict(abs), *values)
            if name in REDUCE:
                wrong = any(value is FAULT for value in values[0])
                return FAULT if wrong else REDUCE[name](values[0])
            value = strict(lambda *known: READ[name](ids, *known))(*values)
            return [FAULT] * len(ids) if name in WIDE and value is FAULT else value
    raise AssertionError(ast.dump(node))


# --- random inputs and random expressions ------------------------------------------------------


@st.composite
def some_inputs(draw: st.DrawFn, least: int = 0) -> Inputs:
    rows = draw(st.lists(st.lists(st.integers(0, 5), min_size=least, max_size=7), max_size=5))
    longest = max(1, *map(len, rows), draw(st.integers(1, 8))) if rows else draw(st.integers(1, 8))
    ids = np.full((len(rows), longest), -1, draw(st.sampled_from([np.int32, np.int64])))
    for row, tokens in zip(ids, rows, strict=True):
        row[: len(tokens)] = tokens
    values = draw(st.lists(st.integers(-4, 4), min_size=len(rows), max_size=len(rows)))
    return Inputs(
        ids,
        np.array([len(row) for row in rows], np.int64),
        NAMES,
        {"score": np.array(values, np.int16), "odd name": np.array(values, np.float32) / 2},
    )


def rows_of(inputs: Inputs) -> list[list[int]]:
    pairs = zip(inputs.ids.tolist(), inputs.lengths.tolist(), strict=True)
    return [row[:length] for row, length in pairs]


COMPARED = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
ARITHMETIC = st.sampled_from(["+", "-", "*", "//", "%"])
LEAVES = ["2147483647", "OPEN", "CLOSE", "START", "score", "length()", "last()"]
OF_ONE = ["count", "first", "last_of", "at", "prev_occurrence", "tok_after_prev_occurrence"]

Texts = st.SearchStrategy[str]


def written(form: str, *parts: Texts) -> Texts:
    return st.builds(form.format, *parts)


def named(names: list[str], *parts: Texts) -> Texts:
    return written("{}(" + ", ".join("{}" for _ in parts) + ")", st.sampled_from(names), *parts)


@functools.cache
def whole(depth: int = 3) -> Texts:
    """Expressions of one whole number an input."""
    leaf = st.integers(-9, 9).map(str) | st.sampled_from(LEAVES)
    if depth == 0:
        return leaf
    inner = whole(depth - 1)
    return st.one_of(
        leaf,
        named(OF_ONE, inner),
        named(["max", "min", "sum"], wholes(depth - 1) | truths(depth - 1)),
        written("({} {} {})", inner, ARITHMETIC, inner),
        written("where({}, {}, {})", truth(depth - 1), inner, inner),
        written("abs(-{})", inner),
    )


@functools.cache
def decimal(depth: int = 3) -> Texts:
    """Expressions of one decimal number an input."""
    leaf = st.floats(0, 9, allow_nan=False).map(repr)
    if depth == 0:
        return leaf
    inner = whole(depth - 1)
    return st.one_of(
        leaf,
        written("({} / {})", inner, inner),
        named(["mean"], wholes(depth - 1) | truths(depth - 1)),
        named(["proportion_from"], inner, inner, inner),
        named(["prop_open_from"], inner),
        written("({} {} {})", inner, st.sampled_from("+-*"), decimal(depth - 1)),
        written("where({}, {}, {})", truth(depth - 1), decimal(depth - 1), inner),
    )


@functools.cache
def truth(depth: int = 3) -> Texts:
    """Expressions that are true or false of an input."""
    if depth == 0:
        return st.sampled_from(["True", "False"])
    inner, either = whole(depth - 1), whole(depth - 1) | decimal(depth - 1)
    return st.one_of(
        written("({} {} {})", either, COMPARED, either),
        written("({} {} {} {} {})", inner, COMPARED, inner, COMPARED, either),
        written("({} {} {})", truth(depth - 1), st.sampled_from("&|"), truth(depth - 1)),
        named(["any", "all", "~any"], truths(depth - 1)),
        named(["equal"], inner, inner),
    )


@functools.cache
def wholes(depth: int = 3) -> Texts:
    """Expressions of one whole number a position."""
    leaf = st.sampled_from(["token()", "pos()"])
    if depth == 0:
        return leaf
    inner, either = wholes(depth - 1), whole(depth - 1) | wholes(depth - 1)
    return st.one_of(
        leaf,
        named(["cumsum_left", "cumsum_right"], whole(depth - 1), whole(depth - 1)),
        written("({} {} {})", inner, ARITHMETIC, either),
        written("where({}, {}, {})", truths(depth - 1) | truth(depth - 1), inner, either),
    )


@functools.cache
def truths(depth: int = 3) -> Texts:
    """Expressions that are true or false of a position."""
    compared = written("({} {} {})", wholes(max(0, depth - 1)), COMPARED, whole(max(0, depth - 1)))
    if depth == 0:
        return compared
    either = truth(depth - 1) | truths(depth - 1)
    return compared | written("(~{} {} {})", truths(depth - 1), st.sampled_from("&|"), either)


def expected(text: str, inputs: Inputs) -> list[Any]:
    columns = [dict(NAMES) | {"score": int(value)} for value in inputs.columns["score"]]
    read = ast.parse(text, mode="eval").body
    return [by_hand(read, ids, of) for ids, of in zip(rows_of(inputs), columns, strict=True)]


def same(got: np.ndarray, wanted: list[Any]) -> bool:
    """Whether values agree: whole numbers and truths exactly, decimals to their last bits."""
    if got.dtype.kind == "f":
        return all(map(lambda a, b: math.isclose(a, b, rel_tol=1e-12), got.tolist(), wanted))
    return got.tolist() == wanted


# --- agreement -----------------------------------------------------------------------------------


@MANY
@given(inputs=some_inputs(), text=whole() | decimal() | truth())
def test_values_are_those_of_a_loop_over_inputs(inputs: Inputs, text: str) -> None:
    check(text, inputs)


def check(text: str, inputs: Inputs) -> None:
    """Compare values with those of the loop, and what has no value with what has none there."""
    wanted = expected(text, inputs)
    wrong = [index for index, value in enumerate(wanted) if value is FAULT]
    if wrong:
        with pytest.raises(BadInput, match=rf"no value for input {wrong[0]}\b"):
            evaluate_one(text, inputs)
        return
    got = evaluate_one(text, inputs)
    assert got.shape == (len(inputs),)
    assert got.dtype in (np.bool_, np.int64, np.float64)
    assert same(got, wanted), (text, got, wanted)


CALLS: dict[str, tuple[Texts, ...]] = {
    **{name: (whole(2),) for name in [*OF_ONE, "abs", "prop_open_from"]},
    **{name: (wholes(2),) for name in ["max", "min", "sum", "mean"]},
    **{name: (truths(2),) for name in ["any", "all"]},
    "last": (),
    "length": (),
    "proportion_from": (whole(1), whole(1), whole(1)),
    "equal": (whole(2), whole(2)),
    "where": (truth(2), whole(2), whole(2)),
}
WIDE = {"token": 0, "pos": 0, "cumsum_left": 2, "cumsum_right": 2}


def test_every_function_is_compared() -> None:
    assert set(CALLS) | set(WIDE) | {"bin", "column"} == set(FUNCTIONS)


@pytest.mark.parametrize("name", CALLS)
@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_each_function_is_that_of_a_loop(name: str, data: st.DataObject) -> None:
    inputs = data.draw(some_inputs())
    arguments = ", ".join(data.draw(kind) for kind in CALLS[name])
    text = f"{name}({arguments})"
    check(text, inputs)


def positions_agree(name: str, inputs: Inputs, a: int, b: int) -> bool:
    """Whether a function of each position agrees with the loop, read position by position."""
    given = f"({a}, {b})" if WIDE[name] else "()"
    wanted = expected(f"{name}{given}", inputs)
    for at in range(inputs.ids.shape[1]):
        got = evaluate_one(f"sum(where(pos() == {at}, {name}{given}, 0))", inputs)
        if got.tolist() != [row[at] if at < len(row) else 0 for row in wanted]:
            return False
    return True


@pytest.mark.parametrize("name", WIDE)
@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(inputs=some_inputs(), a=st.integers(0, 5), b=st.integers(0, 5))
def test_each_function_of_positions_is_that_of_a_loop(
    name: str, inputs: Inputs, a: int, b: int
) -> None:
    assert positions_agree(name, inputs, a, b)


def test_the_comparison_finds_a_sum_that_begins_one_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a twin that leaves out its own position is told apart."""
    inputs = Inputs(np.array([[3, 4, 3, -1]]), np.array([3]), NAMES, {"score": np.array([0])})
    right = FUNCTIONS["cumsum_right"]

    def late(of: Inputs, a: expressions.values.Value, b: expressions.values.Value) -> Any:
        value = reading.cumsum_right(of, a, b)
        shifted = np.concatenate([value.data[:, 1:], np.zeros_like(value.data[:, :1])], axis=1)
        return expressions.values.Value(shifted, value.per)

    assert positions_agree("cumsum_right", inputs, 3, 4)
    twin = expressions.Function(
        right.name, right.signature, right.about, right.takes, right.gives, late
    )
    monkeypatch.setattr(expressions.evaluation, "FUNCTIONS", {**FUNCTIONS, "cumsum_right": twin})
    assert not positions_agree("cumsum_right", inputs, 3, 4)


# --- parentheses ---------------------------------------------------------------------------------


@KEEP
@given(strings=st.lists(st.text("()", max_size=12), min_size=1, max_size=8))
def test_features_of_parentheses(strings: list[str]) -> None:
    rows = [[0, *(3 if letter == "(" else 4 for letter in text), 2] for text in strings]
    ids = np.full((len(rows), max(map(len, rows))), -1)
    for row, tokens in zip(ids, rows, strict=True):
        row[: len(tokens)] = tokens
    names = {"OPEN": 3, "CLOSE": 4, "START": 0, "END": 2}
    inputs = Inputs(ids, np.array([len(row) for row in rows]), names, {})
    features = {
        "balanced": "counts & horizon",
        "counts": "count(OPEN) == count(CLOSE)",
        "horizon": "max(cumsum_right(OPEN, CLOSE)) <= 0",
        "starts": "at(1) == OPEN",
        "depth": "max(where(token() == START, 0, cumsum_left(OPEN, CLOSE)))",
        "share": "prop_open_from(1)",
    }
    got = evaluate(features, inputs)
    assert list(got) == list(features)
    assert got["counts"].tolist() == [parens.equal_counts(text) for text in strings]
    assert got["horizon"].tolist() == [parens.horizon(text) for text in strings]
    assert got["balanced"].tolist() == [parens.is_balanced(text) for text in strings]
    assert got["starts"].tolist() == [parens.starts_open(text) for text in strings]
    assert got["depth"].tolist() == [parens.depth(text) for text in strings]
    shares = [text.count("(") / len(text) if text else -1 for text in strings]
    assert got["share"].tolist() == shares


# --- bins ----------------------------------------------------------------------------------------

values = st.lists(st.integers(-3, 3) | st.floats(-2, 2, allow_nan=False), max_size=30)


@KEEP
@given(values=values, k=st.integers(2, 9), seed=st.integers(0, 99))
def test_bins(values: list[float], k: int, seed: int) -> None:
    got = binned(values, k)
    for value, bin_of in zip(values, got, strict=True):
        smaller = sum(other < value for other in values)
        equal = sum(other == value for other in values)
        assert bin_of == math.floor(k * (2 * smaller + equal - 1) / (2 * len(values)))
    assert all(0 <= bin_of < k for bin_of in got)
    order = list(range(len(values)))
    random.Random(seed).shuffle(order)
    assert binned([values[i] for i in order], k) == [got[i] for i in order]


@pytest.mark.parametrize("k", [2, 3, 4, 7])
def test_bins_of_different_values_are_equally_full(k: int) -> None:
    got = binned([float(value) for value in range(k * 5)], k)
    assert got == [value // 5 for value in range(k * 5)]


def binned(values: list[float], k: int) -> list[int]:
    inputs = Inputs(
        np.zeros((len(values), 1), int),
        np.ones(len(values), int),
        {},
        {"x": np.array(values, float)},
    )
    return evaluate_one(f"bin(x, {k})", inputs).tolist()


# --- the grammar against Python's ----------------------------------------------------------------

VALID = [
    "count(OPEN) == count(CLOSE)",
    "max(cumsum_right(OPEN, CLOSE)) <= 0",
    "where(at(1) == OPEN, count(OPEN) / (count(OPEN) + count(CLOSE)), -1)",
    "(count(3) > 1) & ~(score < 2) | (length() % 2 == 0)",
    "1 < -score // 2 <= --3 * (2 - (1 - 4)) - 1.5e-3",
    'bin(column("odd name"), 3) + any((token() == 3) & (pos() > 1))',
    "~~True | False & (1 == 2 != 3)",
    "((a < b) == (c < d)) != (a == b)",
    "a - (b - c) - d / (e * f) * (g % h)",
]
PIECES = [
    *"()[]{}.,:;=!&|~^@#+-*/%<>\\'\"`$? \t\n\r\0\x1b0123456789e_jxX\u2028\u0435\u0663\u00b2\ufeff",
    *("**", "//", "==", "<<", ":=", "->", "...", "and", " or ", "not ", "is", "in", "if", "else"),
    *("lambda:", "None", "True", "__class__", "for x in", "f'", 'b"', "OPEN", "score", "max("),
    *("count(", "pos()", "1e400", "0x1", "1_0", "3j", "9" * 30, 'column("', "await ", "yield"),
]


def converted(node: ast.AST) -> object:
    """Python's tree in our nodes."""
    symbols = {
        ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%",
        ast.BitAnd: "&", ast.BitOr: "|", ast.USub: "-", ast.Invert: "~", ast.Eq: "==",
        ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
    }  # fmt: skip
    match node:
        case ast.Constant(value=bool() | int() | float() as value):
            return nodes.Number(value)
        case ast.Name(id=name):
            return nodes.Name(name)
        case ast.UnaryOp(op=op, operand=operand):
            return nodes.Unary(symbols[type(op)], converted(operand))  # type: ignore[arg-type]
        case ast.BinOp(left=left, op=op, right=right):
            sides = converted(left), converted(right)
            return nodes.Binary(symbols[type(op)], *sides)  # type: ignore[arg-type]
        case ast.Compare(left=left, ops=ops, comparators=rest):
            operands = tuple(map(converted, (left, *rest)))
            return nodes.Compare(operands, tuple(symbols[type(op)] for op in ops))  # type: ignore[arg-type]
        case ast.Call(func=ast.Name("column"), args=[ast.Constant(value=str() as name)]):
            return nodes.Column(name)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
            name, before = ALIASES.get(name, (name, ()))
            arguments = (*map(nodes.Name, before), *map(converted, args))
            return nodes.Call(name, arguments)  # type: ignore[arg-type]
    raise AssertionError(f"accepted, and is in Python: {ast.dump(node)}")


def check_reading(text: str) -> bool:
    """Whether a text is accepted; if so it means what Python means, and its own source does too."""
    try:
        read = parse(text)
    except BadInput:
        return False
    theirs = converted(ast.parse(text.strip(" \t\r\n"), mode="eval").body)
    assert repr(read.tree) == repr(theirs), text
    again = parse(read.text)
    assert again == read
    assert repr(again.tree) == repr(read.tree)
    return True


@pytest.mark.parametrize("text", VALID)
def test_valid_expressions_are_read_as_python_reads_them(text: str) -> None:
    assert check_reading(text)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    text = draw(st.sampled_from(VALID) | whole() | truth() | decimal())
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        stop = draw(st.integers(start, min(len(text), start + 3)))
        text = text[:start] + draw(st.sampled_from(["", *PIECES])) + text[stop:]
    return text


INPUTS = Inputs(
    np.array([[0, 3, 4, -1], [0, 4, -1, -1], [3, 3, 3, 5]]),
    np.array([3, 2, 4]),
    NAMES,
    {"score": np.array([1, 2, -3]), "odd name": np.array([0.5, 0.25, 8.0])}
    | {name: np.array([1, 0, 2]) for name in "abcdefgh"},
)


@MANY
@given(text=mutated() | st.text(max_size=40) | st.lists(st.sampled_from(PIECES)).map("".join))
def test_any_text_is_a_value_of_each_input_or_refused(text: str) -> None:
    accepted = check_reading(text)
    try:
        got = evaluate_one(text, INPUTS)
    except BadInput:
        return
    assert accepted
    assert got.shape == (3,)
    assert got.dtype in (np.bool_, np.int64, np.float64)
    assert np.isfinite(got).all()
    assert got.dtype != np.int64 or (np.abs(got) <= 2**53).all()


# --- features of features ------------------------------------------------------------------------


@KEEP
@given(inputs=some_inputs(least=1), seed=st.integers(0, 99))
def test_the_order_of_features_does_not_matter(inputs: Inputs, seed: int) -> None:
    features = {
        "opens": "count(OPEN)",
        "more": "opens > closes",
        "closes": "count(CLOSE) + 0 * opens",
        "half": "where(more, opens, closes) / 2",
    }
    order = list(features)
    random.Random(seed).shuffle(order)
    got = evaluate({name: features[name] for name in order}, inputs)
    assert list(got) == order
    rows = rows_of(inputs)
    assert got["half"].tolist() == [max(row.count(3), row.count(4)) / 2 for row in rows]


@KEEP
@given(uses=st.lists(st.lists(st.integers(0, 5), max_size=2), min_size=6, max_size=6))
def test_circles_are_found(uses: list[list[int]]) -> None:
    features = {f"f{i}": " + ".join(["1", *(f"f{j}" for j in of)]) for i, of in enumerate(uses)}
    reach = {i: set(of) for i, of in enumerate(uses)}
    for _ in uses:
        reach = {i: of.union(*(reach[j] for j in of)) for i, of in reach.items()}
    if not any(i in of for i, of in reach.items()):
        assert len(evaluate(features, INPUTS)) == 6
        return
    with pytest.raises(BadInput) as caught:
        evaluate(features, INPUTS)
    circle = caught.value.found.removeprefix("Found: ").rstrip(".").split(" -> ")
    assert circle[0] == circle[-1]
    for user, used in itertools.pairwise(circle):
        assert int(used[1:]) in uses[int(user[1:])]
