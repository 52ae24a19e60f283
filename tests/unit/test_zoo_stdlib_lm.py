"""The rivals, measurements and prompt pairs of ``stdlib-lm``."""

from __future__ import annotations

import ast
import math
import re
from functools import lru_cache

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer

from interp.behaviors import from_pairs, source
from interp.behaviors.templates import MOST, Made
from interp.models import catalogue, tokens
from interp.models.info import ModelInfo
from zoo import _corpus, _ngrams
from zoo import _stdlib_measures as measures

# --- n-grams -----------------------------------------------------------------------------------


def chain(length: int, seed: int = 1) -> NDArray[np.int32]:
    """Tokens of which each depends on the two before."""
    rng = np.random.default_rng(seed)
    rows = rng.dirichlet(np.full(12, 0.2), size=(12, 12))
    found = [0, 1]
    for _ in range(length - 2):
        found.append(int(rng.choice(12, p=rows[found[-2], found[-1]])))
    return np.array(found, dtype=np.int32)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_probabilities_sum_to_one(order: int) -> None:
    fitted = _ngrams.fit(chain(3_000), order, 15)
    for context in ([], [3], [3, 14], [14, 3], [1, 2, 3], [0, 1, 2, 3, 4], [14, 14, 14]):
        found = fitted.probabilities(context[-(order - 1) :] if order > 1 else [])
        assert found.sum() == pytest.approx(1, abs=1e-12)
        assert found.min() > 0
    # Tokens that never came are possible all the same.
    assert fitted.probabilities([])[14] > 0


def test_a_text_costs_what_its_tokens_cost() -> None:
    fitted, text = _ngrams.fit(chain(2_000), 3, 12), chain(50, seed=2)
    one_by_one = sum(
        -math.log(fitted.probabilities(text[max(0, at - 2) : at].tolist())[token])
        for at, token in enumerate(text)
    )
    assert fitted.nats(text) == pytest.approx(one_by_one, rel=1e-12)
    assert fitted.nats(text[:1]) == pytest.approx(-math.log(fitted.probabilities([])[text[0]]))


def test_bigrams_by_hand() -> None:
    # Bigrams ab ab ac ba ba ca: too few counts, so that every discount is a half.
    fitted = _ngrams.fit(np.array([0, 1, 0, 1, 0, 2, 0]), 2, 4)
    # Contexts before a: b, c; before b: a; before c: a. Four in all, three kinds of token.
    lower = (np.array([2, 1, 1, 0]) - [0.5, 0.5, 0.5, 0]) / 4 + 1.5 / 4 / 4
    assert fitted.probabilities([]) == pytest.approx(lower)
    after_a = (np.array([0, 2, 1, 0]) - [0, 0.5, 0.5, 0]) / 3 + 1 / 3 * lower
    assert fitted.probabilities([0]) == pytest.approx(after_a)
    assert fitted.probabilities([3]) == pytest.approx(lower)


def test_longer_contexts_help_where_they_tell_something() -> None:
    long, fresh = chain(60_000), chain(5_000, seed=1)[2_500:]
    nats = {order: _ngrams.fit(long, order, 12).nats(fresh) for order in (1, 2, 3)}
    assert nats[3] < 0.9 * nats[2] < 0.9 * nats[1]
    # Negative control: of tokens in random order no context tells anything.
    mixed = np.random.default_rng(1).permutation(long)
    flat = {order: _ngrams.fit(mixed, order, 12).nats(mixed[::-1][:2_500]) for order in (1, 3)}
    assert flat[3] > 0.95 * flat[1]


# --- measurements ------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def small() -> tuple[Tokenizer, measures.Vocabulary]:
    """A tokenizer of the same kind, fitted on a few lines."""
    text = "def f(a):\n    if a[0]:\n        return {a: (a)}\n    return 'b' ) ] }\n"
    tokenizer = _corpus.fit_tokenizer((("x.py", text * 3),))
    return tokenizer, measures.Vocabulary.of(tokenizer)


def ids(text: str) -> NDArray[np.int32]:
    (found,) = _corpus.encode(small()[0], (("x.py", text),))
    return found


def test_vocabulary_knows_brackets_spaces_and_line_breaks() -> None:
    _, words = small()
    assert words.texts[words.newline] == "\n"
    assert [{words.texts[i].strip() for i in of} for of in words.closers] == [{")"}, {"]"}, {"}"}]
    assert {4, 8} <= set(words.widths.tolist())
    assert {words.texts[i].strip(" ") for i in np.flatnonzero(words.widths)} == {""}


def test_closing_brackets_and_those_of_another_kind_before() -> None:
    found = measures._closing(small()[1], ids("f(a[0], {b: (c)}, d)\n"))
    kinds = [(measures.KINDS[kind], hard) for _, kind, hard in found]
    assert kinds == [("]", False), (")", False), ("}", True), (")", True)]


def test_lines_with_the_line_before_and_the_rule() -> None:
    text = "def f(a):\n    if a:\n\n        return a\n    \n    return b\na\n"
    found = [case[1:] for case in measures._lines(small()[1], ids(text))]
    # Blank lines and a line of spaces alone are left out, and what is before stays before.
    assert found == [(4, 0, 4), (8, 4, 8), (4, 8, 8), (0, 4, 4)]


@pytest.mark.parametrize(
    ("opened", "text", "end"),
    [
        ("(", "a)", "closed"),
        ("(", "a[0], {b: (c)})]", "closed"),
        ("(", "a]", "wrong"),
        ("[", "(a]", "wrong"),
        ("{", "a, [b", "open"),
        ("{", "", "open"),
    ],
)
def test_how_a_bracket_ends(opened: str, text: str, end: str) -> None:
    (first,) = ids(opened)
    assert measures.fate(small()[1], int(first), ids(text).tolist()) == end


def test_rates_have_intervals_over_files() -> None:
    even = measures.Rate.of([5, 10, 20], [10, 20, 40])
    assert even.value == even.low == even.high == 0.5
    assert even.n == 70
    uneven = measures.Rate.of([0, 20], [20, 20])
    assert uneven.value == 0.5
    assert (uneven.low, uneven.high) == (0, 1)


# --- prompt pairs ------------------------------------------------------------------------------


def model() -> ModelInfo:
    return catalogue.info("stdlib-lm")


@lru_cache(maxsize=16)
def made(name: str) -> Made:
    return source.BEHAVIORS[name].make(model())


@pytest.mark.parametrize("name", source.BEHAVIORS)
def test_pairs_line_up_and_names_are_on_one_side(name: str) -> None:
    found = made(name)
    assert 400 <= len(found.pairs) <= MOST
    assert len(set(found.pairs)) == len(found.pairs)
    behavior = from_pairs(model().name, found.pairs, name=name, clusters=found.clusters)
    held_out = np.array(behavior.held_out)
    assert abs(held_out.mean() - 0.5) < 0.01
    words = [set(re.findall(r"\w+", pair.clean)) & set(source.NAMES) for pair in found.pairs]
    sides = [set[str]().union(*(words[i] for i in np.flatnonzero(held_out == k))) for k in (0, 1)]
    assert not sides[0] & sides[1]
    assert min(map(len, sides)) > 50


@pytest.mark.parametrize("name", source.BEHAVIORS)
def test_pairs_are_the_same_every_time(name: str) -> None:
    assert source.BEHAVIORS[name].make(model()) == made(name)


@pytest.mark.parametrize("name", source.BEHAVIORS)
def test_names_are_whole_and_features_vary(name: str) -> None:
    for pair in made(name).pairs[:50]:
        pieces = [piece.strip() for piece in tokens.pieces(model(), pair.clean)]
        assert set(re.findall(r"\w+", pair.clean)) & set(source.NAMES) <= set(pieces)
    for of in source.BEHAVIORS[name].features.values():
        assert len({of(pair) for pair in made(name).pairs}) > 1


def sides(name: str) -> list[tuple[str, str]]:
    """Every prompt of a behavior, clean and corrupted, with what is right there."""
    return [
        side
        for pair in made(name).pairs
        for side in ((pair.clean, pair.answer), (pair.corrupted, pair.foil))
    ]


def parses_with(text: str, ending: str) -> None:
    """Check that a method's beginning is Python with this ending of its last line."""
    block = ": pass" if re.search(r"\n +if", text) else ""
    ast.parse(f"if 1:\n{text}{ending}{block}\n")


def test_answers_close_the_innermost_bracket() -> None:
    for text, answer in sides("code-closing-bracket"):
        rest = "".join({"(": ")", "[": "]"}[text[at]] for at in reversed(opens(text)))
        assert rest[0] == answer
        parses_with(text, rest)


def test_answers_close_the_string() -> None:
    for text, answer in sides("code-closing-quote"):
        assert text.count(answer) == 1
        rest = "".join({"(": ")", "[": "]"}[text[at]] for at in reversed(opens(text)))
        parses_with(text, answer + rest)


def opens(text: str) -> list[int]:
    """Brackets that are open, by taking away pairs from the inside."""
    shown = text
    while True:
        less = re.sub(r"\([^()\[\]]*\)|\[[^()\[\]]*\]", lambda m: "." * len(m[0]), shown)
        if less == shown:
            return [at for at, sign in enumerate(shown) if sign in "(["]
        shown = less


def test_features_of_brackets_by_hand() -> None:
    of = source.BEHAVIORS["code-closing-bracket"].features
    names = ("open bracket is square", "brackets open", "words and signs since it opened")
    for text, wanted in {
        "    def f(self, e):\n        a = b(c": (0, 1, 1),
        "    def f(self, e):\n        a = b[c(d)] + e(x[y.z": (1, 2, 3),
        "    def f(self, e):\n        a = b[c(d)": (1, 1, 4),
    }.items():
        pair = source.PromptPair(text, "", "", "")
        assert tuple(of[name](pair) for name in names) == wanted
    assert of["brackets closed since"](source.PromptPair("a[b(c)(d)", "", "")) == 2


def test_answers_are_the_indentation_that_python_takes() -> None:
    for text, right in sides("code-indentation"):
        ast.parse(f"{text}{right}pass\n")
        other = right[4:] if text.endswith(":\n") else f"{right}    "
        with pytest.raises(SyntaxError):
            ast.parse(f"{text}{other}pass\n")


def test_nothing_follows_what_leaves() -> None:
    for text, right in sides("code-dedent"):
        leaves = re.search(r"\n +(return|raise)", text) is not None
        assert len(right) == (4 if leaves else 8)
        ast.parse(f"{text}{right}pass\n")
