"""What expressions refuse, and the words they refuse it with; completion; memory."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from interp.errors import BadInput, UnknownName
from interp.expressions import (
    FUNCTIONS,
    Inputs,
    complete,
    evaluate,
    evaluate_one,
    evaluation,
    lexer,
    parse,
)
from interp.expressions.completion import Completion

NAMES = {"START": 0, "OPEN": 3, "CLOSE": 4}
INPUTS = Inputs(
    np.array([[0, 3, 4, 3, 4], [0, 4, -1, -1, -1], [0, 3, 3, 4, -1]]),
    np.array([5, 2, 4]),
    NAMES,
    {
        "score": np.array([2, 0, -1]),
        "first word": np.array([7, 8, 9], np.int16),
        "part": np.array([0.5, np.nan, 1.5]),
        "huge": np.array([1, 2**63, 3], np.uint64),
        "kept": np.array([True, False, True]),
        "START": np.array([5, 6, 7]),
        "schön": np.array([1, 2, 3]),
    },
)

REFUSED = {
    "attribute": "score.sum",
    "attribute of a number": "1 .real",
    "dunder": "__import__",
    "dunder call": "__import__('os')",
    "dunder attribute": "().__class__",
    "class walk": "().__class__.__bases__[0].__subclasses__()",
    "subscript": "score[0]",
    "slice": "score[1:2]",
    "list": "[1, 2]",
    "tuple": "(1, 2)",
    "empty tuple": "()",
    "set": "{1}",
    "dictionary": "{1: 2}",
    "call of a call": "length()()",
    "call of parentheses": "(length)()",
    "call of a number": "1(2)",
    "lambda": "lambda: 0",
    "called lambda": "(lambda: 0)()",
    "comprehension": "[x for x in score]",
    "generator": "sum(x for x in score)",
    "conditional": "1 if score else 2",
    "walrus": "(x := 1)",
    "assignment": "x = 1",
    "starred": "count(*score)",
    "double star": "count(**score)",
    "keyword": "count(tok=3)",
    "f-string": "f'{score}'",
    "f-string column": "column(f'score')",
    "bytes": "column(b'score')",
    "string": "'score'",
    "string sum": "'a' + 'b'",
    "string in a function": "count('OPEN')",
    "column of a name": "column(score)",
    "column of a sum": 'column("a" + "b")',
    "column of two strings": 'column("a" "b")',
    "column of two names": 'column("a", "b")',
    "column of nothing": "column()",
    "column with a comma": 'column("score",)',
    "column unclosed": 'column("score',
    "triple quotes": 'column("""score""")',
    "escape": 'column("sc\\x6fre")',
    "newline in a name": 'column("sc\nore")',
    "power": "2 ** 3",
    "powers": "9**9**9",
    "shift": "1 << 2",
    "shift right": "1 >> 2",
    "exclusive or": "1 ^ 2",
    "matrix": "score @ score",
    "and": "kept and kept",
    "or": "kept or kept",
    "not": "not kept",
    "is": "score is score",
    "in": "1 in score",
    "plus sign": "+1",
    "None": "None",
    "ellipsis": "...",
    "complex": "1j",
    "underscored": "1_000",
    "hexadecimal": "0x10",
    "leading zero": "007",
    "half a number": "1.2.3",
    "exponent cut": "1e",
    "infinity": "1e999",
    "huge": "9" * 1_900,
    "two to the 31": "2147483648",
    "nested": "(" * 31 + "1" + ")" * 31,
    "deeply nested": "(" * 10_000 + "1" + ")" * 10_000,
    "nested to the cap": "(" * 999 + "1" + ")" * 999,
    "signs": "-" * 31 + "1",
    "many signs": "-" * 1_900 + "1",
    "too many signs": "-" * 10_000 + "1",
    "calls": "abs(" * 31 + "1" + ")" * 31,
    "unclosed": "(1",
    "unopened": "1)",
    "unclosed call": "count(3",
    "nodes": "+".join("1" * 101),
    "characters": "1" + " " * 2_000,
    "empty": "",
    "blank": "  \t ",
    "null": "1\0",
    "null within": "sc\0ore",
    "control": "1 + \x1b2",
    "newline": "1 +\n2",
    "two lines": "1\nimport os",
    "semicolon": "1; 2",
    "continuation": "1 + \\\n2",
    "comment": "1 # one",
    "backtick": "`1`",
    "dollar": "$score",
    "import": "import os",
    "yield": "(yield)",
    "await": "await score",
    "look-alike": "соunt(3)",
    "full width": "ｃｏｕｎｔ(3)",
    "other digits": "١ + 1",
    "superscript": "score²",
    "direction": "score\u202e",
    "zero width": "sco\u200bre",
    "no-break space": "1\u00a0+ 1",
    "surrogate": "\ud800",
    "byte order": "\ufeff1",
    "mixed": "score == 1 & kept",
    "mixed the other way": "kept | score == 1",
    "mixed truths": "kept == kept & kept",
    "builtin": "open(1)",
    "eval": "eval(1)",
    "unknown function": "cuont(3)",
    "unknown name": "scroe",
    "not a number": "nan",
    "unknown column": 'column("scroe")',
    "empty column": 'column("")',
    "function without call": "length",
    "called name": "score()",
    "called truth": "True()",
    "too few": "count()",
    "too many": "length(1)",
    "only a comma": "max(,)",
    "two values": "1 2",
    "no operand": "1 +",
    "doubled": "1 */ 2",
    "single equals": "score = 1",
    "unequal the old way": "score <> 1",
    "three equals": "score === 1",
    "bang": "!kept",
    "and of numbers": "score & 1",
    "inverted number": "~score",
    "token that is decimal": "count(1.0)",
    "token that is a truth": "count(True)",
    "token a position": "count(token())",
    "position a position": "at(pos())",
    "reduced twice": "max(max(token()))",
    "reduced constant": "sum(1)",
    "any of numbers": "any(token())",
    "where of a number": "where(score, 1, 2)",
    "bins a position": "bin(token(), 2)",
    "one bin": "bin(score, 1)",
    "bins of each input": "bin(score, length())",
    "bins of a decimal": "bin(score, 2.0)",
    "a value a position": "token()",
    "a truth a position": "where(kept, token(), 0) == 3",
    "ambiguous": "START",
    "division": "1 / score",
    "remainder": "1 % score",
    "floor": "1.5 // score",
    "overflow": "2147483647 * 2147483647",
    "wrapped": "2147483647 * 2147483647 * 2147483647 * score",
    "wrapped to zero": "67108864 * 67108864 * (67108864 * 67108864)",
    "overflowing sum": "sum(where(pos() >= 0, 2147483647 * 4194304, 0))",
    "decimal overflow": "1e308 * 10",
    "column not a number": "part",
    "column too large": "huge",
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_refused(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        evaluate_one(text, INPUTS)
    assert caught.value.asked
    assert caught.value.found
    assert caught.value.works
    assert len(str(caught.value)) < 700
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", list(REFUSED.values())[: list(REFUSED).index("unknown name")])
def test_what_is_no_expression_is_refused_without_data(text: str) -> None:
    with pytest.raises(BadInput):
        parse(text)


ALLOWED = {
    "START": None,
    "count(OPEN,) == 2": [True, False, True],
    "  score\n": [2, 0, -1],
    "1": [1, 1, 1],
    "True": [True, True, True],
    "kept": [True, False, True],
    "kept + kept": [2, 0, 2],
    "-kept": [-1, 0, -1],
    ".5 * score": [1.0, 0.0, -0.5],
    "2. + 1e0": [3.0, 3.0, 3.0],
    'column("first word")': [7, 8, 9],
    "column('schön') * 2": [2, 4, 6],
    'column("START")': [5, 6, 7],
    "score // 2": [1, 0, -1],
    "score % 2": [0, 0, 1],
    "-1 <= score < 2": [False, True, True],
    "(score == 0) | ~kept": [False, True, False],
    "where(score == 0, 0, 6 / score)": [3.0, 0.0, -6.0],
    "where(kept, part, 0)": [0.5, 0.0, 1.5],
    "where(kept, huge, 0)": [1, 0, 3],
    "sum(where(pos() > 0, 1 // pos(), 0))": [1, 1, 1],
    "mean(token() == 0)": [0.2, 0.5, 0.25],
    "max(token() == 4)": [1, 1, 1],
    "at(-1)": [4, 4, 4],
    "at(score)": [4, 0, 4],
    "at(99)": [-1, -1, -1],
    "count(at(1))": [2, 1, 2],
    "count(-1)": [0, 0, 0],
    "first(-1)": [-1, -1, -1],
    "tok_after_prev_occurrence(-1)": [3, -1, -1],
    "prev_occurrence(3)": [1, -1, -1],
    "prop_open_from(1)": [0.5, 0.0, 2 / 3],
    "proportion_from(4, 4, 2)": [1.0, -1.0, 1.0],
    "bin(score, 3)": [2, 1, 0],
    "sum(1 // (token() + 1))": [1, 1, 1],
    "where(kept, bin(1 / score, 3), -1)": [1, -1, 0],
    "(kept & kept) == (1 < 2)": [True, False, True],
    "bin(where(kept, 1 / (score + 0 * part), 0), 2)": [1, 0, 0],
    "2147483647 * 4194304": [2147483647 * 4194304] * 3,
}


@pytest.mark.parametrize(("text", "wanted"), ALLOWED.items(), ids=ALLOWED.keys())
def test_values(text: str, wanted: list[object] | None) -> None:
    if wanted is None:
        with pytest.raises(BadInput, match="could mean two things"):
            evaluate_one(text, INPUTS)
        return
    got = evaluate_one(text, INPUTS)
    assert got.tolist() == wanted
    assert list(map(type, got.tolist())) == list(map(type, wanted))


def test_at_the_caps() -> None:
    assert evaluate_one("(" * 30 + "1" + ")" * 30, INPUTS).tolist() == [1, 1, 1]
    assert evaluate_one("-" * 30 + "1", INPUTS).tolist() == [1, 1, 1]
    assert evaluate_one("+".join("1" * 100), INPUTS).tolist() == [100] * 3
    assert evaluate_one("1" + " " * 1_999, INPUTS).tolist() == [1, 1, 1]
    assert evaluate_one("2147483647", INPUTS).tolist() == [2**31 - 1] * 3


def test_long_text_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lexer, "_WORD", None)
    with pytest.raises(BadInput, match="100,000 characters"):
        parse("+" * 100_000)
    with pytest.raises(AttributeError):  # a short one is read
        parse("1")


def test_what_an_expression_says_of_itself() -> None:
    read = parse(' ((count( OPEN ))+1)*2 <column( "a b" ) ')
    assert read.text == '(count(OPEN) + 1) * 2 < column("a b")'
    assert read.names_used == {"OPEN", "a b"}
    assert read.functions_used == {"count", "column"}
    assert parse("prop_open_from(1)").text == "proportion_from(OPEN, CLOSE, 1)"
    assert parse("prop_open_from(1)").names_used == {"OPEN", "CLOSE"}
    assert parse("1+1") == parse(" 1 +  (1)")
    assert parse("column('say \"a\"')").text == "column('say \"a\"')"


def test_messages_name_what_is_near() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'count'"):
        parse("cuont(3)")
    with pytest.raises(UnknownName, match="Did you mean 'score'"):
        evaluate_one("scroe", INPUTS)
    with pytest.raises(UnknownName, match="Did you mean 'half'"):
        evaluate({"half": "1", "b": "hlaf"}, INPUTS)
    with pytest.raises(BadInput, match="use & | ~".replace("|", r"\|")):
        parse("kept and kept")
    with pytest.raises(BadInput, match=r"Write length\(\)"):
        evaluate_one("length", INPUTS)
    with pytest.raises(BadInput, match=r"Reduce it with max\(\)"):
        evaluate_one("token()", INPUTS)
    with pytest.raises(BadInput, match="'0x' begins as a number"):
        parse("0x10")
    with pytest.raises(BadInput, match="At character 6: '<<'"):
        parse("1 +  <<")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1 / score", "input 1, counted from 0: division by zero"),
        ("1 / (kept == 3)", "input 0 and 2 more, counted from 0: division by zero"),
        ("part", "input 1, counted from 0: a column has no finite number"),
        ("score * 2147483647 * 2147483647", "input 0 and 1 more, counted from 0: a number beyond"),
        ("max(1 // (token() - 3)) > 0", "input 0 and 1 more, counted from 0: division by zero"),
        ("(1 / score > 0) & False", "input 1, counted from 0: division by zero"),
    ],
)
def test_messages_name_the_input(text: str, found: str) -> None:
    with pytest.raises(BadInput, match=found):
        evaluate_one(text, INPUTS)


FAULTY = {
    "count": ["{}"],
    "first": ["{}"],
    "last_of": ["{}"],
    "at": ["{}"],
    "prev_occurrence": ["{}"],
    "tok_after_prev_occurrence": ["{}"],
    "prop_open_from": ["{}"],
    "proportion_from": ["{}, 1, 1", "1, {}, 1", "1, 1, {}"],
    "max(cumsum_left": ["{}, 3", "3, {}"],
    "max(cumsum_right": ["{}, 3", "3, {}"],
    "max": ["pos() + {}"],
    "min": ["pos() + {}"],
    "sum": ["pos() + {}"],
    "mean": ["pos() + {}"],
    "any": ["pos() != {}"],
    "all": ["pos() != {}"],
    "equal": ["{}, 1", "1, {}"],
    "where": ["{} == 1, 1, 1", "kept | True, {}, 1", "~(kept | True), 1, {}"],
    "bin": ["{}, 2"],
    "abs": ["{}"],
    "-": ["{}"],
    "~": ["{} == 1"],
}


@pytest.mark.parametrize(
    "text", [f"{name}({inside}" for name, every in FAULTY.items() for inside in every]
)
def test_every_function_passes_on_what_went_wrong(text: str) -> None:
    text = text.format("(1 // score)")
    closed = text + ")" * (text.count("(") - text.count(")"))
    with pytest.raises(BadInput, match="input 1, counted from 0: division by zero"):
        evaluate_one(closed, INPUTS)


def test_an_input_without_tokens() -> None:
    empty = Inputs(np.array([[-1], [3]]), np.array([0, 1]), {}, {})
    for text in ["max(token())", "min(token())", "mean(token())"]:
        with pytest.raises(BadInput, match="input 0, counted from 0: it has no tokens"):
            evaluate_one(text, empty)
    got = evaluate(
        {
            "any": "any(token() == 3)",
            "all": "all(token() == 3)",
            "sum": "sum(token())",
            "last": "last()",
            "guarded": "where(length() > 0, max(token()), -7)",
        },
        empty,
    )
    assert {name: value.tolist() for name, value in got.items()} == {
        "any": [False, True],
        "all": [True, True],
        "sum": [0, 3],
        "last": [-1, 3],
        "guarded": [-7, 3],
    }


def test_features_shadow_columns_but_not_tokens() -> None:
    got = evaluate({"score": 'column("score") * 2', "more": "score + 1"}, INPUTS)
    assert got["more"].tolist() == [5, 1, -1]
    with pytest.raises(BadInput, match="A token has that name"):
        evaluate({"CLOSE": "1"}, INPUTS)
    with pytest.raises(BadInput, match="The most is 100"):
        evaluate({f"f{i}": "1" for i in range(101)}, INPUTS)
    known = {"score": np.array([1.5, 2.5, 3.5])}
    assert evaluate_one("score", INPUTS, known).tolist() == [1.5, 2.5, 3.5]


@pytest.mark.parametrize(
    ("features", "circle"),
    [
        ({"a": "a"}, "a -> a"),
        ({"a": "b + 1", "b": "a"}, r"Found: a -> b -> a\."),
        ({"x": "1", "a": "b", "b": "c + x", "c": "a"}, "a -> b -> c -> a"),
        ({"score": "score"}, "score -> score"),
    ],
)
def test_circles_are_printed(features: dict[str, str], circle: str) -> None:
    with pytest.raises(BadInput, match=circle):
        evaluate(features, INPUTS)


def test_errors_name_the_feature() -> None:
    with pytest.raises(BadInput, match="Feature 'half': The expression '1 / score'"):
        evaluate({"whole": "1", "half": "1/score"}, INPUTS)
    with pytest.raises(UnknownName, match="Feature 'half': There is no function"):
        evaluate({"half": "hlaf()"}, INPUTS)


def test_results_are_their_own_arrays() -> None:
    column = np.array([1, 2, 3])
    inputs = Inputs(np.zeros((3, 1), int), np.ones(3, int), {}, {"x": column})
    got = evaluate({"x": 'column("x")', "y": "x"}, inputs)
    got["y"][0] = 9
    assert column.tolist() == got["x"].tolist() == [1, 2, 3]


def test_no_inputs_give_no_values() -> None:
    none = Inputs(np.zeros((0, 3), int), np.zeros(0, int), NAMES, {"x": np.zeros(0)})
    texts = [
        "1",
        "x",
        "count(3)",
        "max(token())",
        "bin(x, 3)",
        "1 / 0",
        "last()",
        "prop_open_from(1)",
    ]
    for text in texts:
        assert evaluate_one(text, none).shape == (0,)


@pytest.mark.parametrize(
    ("ids", "lengths", "found"),
    [
        ([[1, 2]], [3], "lies outside 0 to 2"),
        ([[1, 2]], [-1], "lies outside 0 to 2"),
        ([[1, 2]], [1], "disagree"),
        ([[1, -1]], [2], "disagree"),
        ([[]], [0], "shape"),
    ],
)
def test_inputs_that_do_not_fit(ids: list[list[int]], lengths: list[int], found: str) -> None:
    with pytest.raises(BadInput, match=found):
        Inputs(np.array(ids, int), np.array(lengths), {}, {})


def test_columns_that_do_not_fit() -> None:
    words = {"w": np.array(["a", "b", "c"]), "short": np.array([1, 2])}
    inputs = Inputs.__new__(Inputs)
    for name in ("ids", "lengths", "names"):
        object.__setattr__(inputs, name, getattr(INPUTS, name))
    object.__setattr__(inputs, "columns", words)
    with pytest.raises(BadInput, match="array of <U1"):
        evaluate_one("w", inputs)
    with pytest.raises(BadInput, match=r"shape \(2,\)"):
        evaluate_one("short", inputs)
    with pytest.raises(BadInput, match=r"shape \(2,\)"):
        evaluate_one("x", INPUTS, {"x": np.array([1, 2])})


MEMORY = [
    "x",
    "bin(x, 20)",
    "bin(where(x > 0.5, 1 / x, 0 / x), 20)",
    "(x + (x * (x - (x / (x + 1)))))",
    "count(3)",
    "max(cumsum_right(3, 4)) <= 0",
    "prev_occurrence(-1)",
    "proportion_from(3, 4, 1)",
    "mean(pos() * 2147483647 * 2147483647)",
    "sum(where(token() == 3, pos() * pos(), cumsum_left(3, 4) / 2))",
    "any((cumsum_left(3, 4) * cumsum_right(3, 4) > 2) & (pos() % 2 == 0) & ~(token() == 3))",
    "mean(1 / pos() + where(pos() > 0, 1 / pos(), 1 % pos()))",
    "min(0 < pos() <= token() < 5)",
    "sum(pos() + (pos() * (pos() - (pos() // (7 * token())))))",
]


@pytest.mark.parametrize("positions", [1, 2, 30])
@pytest.mark.parametrize("text", MEMORY)
def test_memory_is_at_most_what_was_reckoned(text: str, positions: int) -> None:
    inputs = 60_000 // positions
    ids = np.random.default_rng(0).integers(0, 6, (inputs, positions))
    given = Inputs(ids, np.full(inputs, positions), {}, {"x": np.linspace(0, 1, inputs)})
    read = parse(text)
    reckoned = evaluation.memory(read, given)
    tracemalloc.start()
    try:
        evaluation.evaluate_one(text, given)
    except BadInput as error:
        assert "no value for input" in error.found  # noqa: PT017
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert 0.02 * reckoned < peak <= reckoned


def test_too_much_memory_is_refused() -> None:
    inputs, positions = 440_000, 10
    one = np.broadcast_to(np.arange(positions, dtype=np.int8), (inputs, positions))
    given = Inputs(one, np.full(inputs, positions), {}, {})
    assert evaluate_one("length() + 1", given).shape == (inputs,)
    with pytest.raises(BadInput, match="440,000 inputs of 10 positions it needs about 230 MB"):
        evaluate_one("max(token())", given)


def test_completion() -> None:
    names = ["OPEN", "opened", "first word", "a\"'b", "None", "größe"]
    assert complete("op", 2, names) == (
        Completion("OPEN", "name"),
        Completion("opened", "name"),
    )
    assert [found.insert for found in complete("1 + cou", 7, names)] == ["count("]
    assert [found.insert for found in complete("1 + cou", 6, names)] == ["column(", "count("]
    assert [found.insert for found in complete("len", 3, names)] == ["length()"]
    assert [found.insert for found in complete("fir", 3, names)] == [
        'column("first word")',
        "first(",
    ]
    assert [found.insert for found in complete('column("fir', 11, names)] == ["first word"]
    assert complete('column("first word")', 20, ["x"])[0] == Completion("x", "name")
    assert [found.insert for found in complete("gr", 2, names)] == ['column("größe")']
    assert complete("12", 2, names) == ()
    assert complete("1e", 2, names) == ()
    assert complete("zzz", 3, names) == ()
    assert complete("o" * 3_000, 1, names) == ()
    every = complete("", 0, names)
    assert complete("(", 1, names) == complete("x", -5, names) == every
    assert len(every) == len(FUNCTIONS) + len(names) - 1


def test_what_is_completed_can_be_read() -> None:
    names = ["OPEN", "first word", 'say "a"', "it's", "lambda", "__x"]
    for found in complete("", 0, names):
        if found.about == "name":
            parse(found.insert)
        else:
            assert found.insert.rstrip("()") in FUNCTIONS


def test_every_function_has_its_words() -> None:
    for name, function in FUNCTIONS.items():
        assert function.name == name
        assert function.signature.startswith(f"{name}(")
        assert function.about.endswith(".")
        given = function.signature[len(name) + 1 : -1]
        assert len([part for part in given.split(",") if part]) == len(function.takes)
        if {"position", "length", "last"} & set(function.about.lower().split()):
            assert "at each position" in function.about.lower() or (
                "special" in function.about or "positions" in function.about
            )


def test_no_torch() -> None:
    code = (
        "import sys, interp.expressions; "
        "print([m for m in ('torch', 'pandas', 'streamlit') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
