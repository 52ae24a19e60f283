"""Letters by Zipf's law: the rule, the law, the pairs, and the file of exact chances."""

from __future__ import annotations

import json
from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch

from interp.behaviors import built_in, enumerable
from tests.oracles.zoo import enumerable_lm as oracle
from zoo import enumerable_lm


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("abcd", "last d"),
        ("dcba", "last a"),
        ("kakb", "two k"),
        ("abba", "two b"),
        ("baab", "two b"),
        ("xxxa", "three x"),
        ("iiii", "three i"),
        ("hhhx", "two h"),
        ("aaaa", "two a"),
    ],
)
def test_rule(text: str, right: str) -> None:
    assert enumerable.output(text) == right == oracle.expected(text)


def test_rule_and_law_are_those_written_anew() -> None:
    np.testing.assert_allclose(enumerable.law(), oracle.zipf(), rtol=1e-14)
    assert enumerable.law().sum() == pytest.approx(1, abs=1e-12)
    for four in product(oracle.ALPHABET[5:13], repeat=4):
        assert enumerable.output("".join(four)) == oracle.expected("".join(four))


def test_file_of_chances_adds_up_and_holds_the_rule() -> None:
    rows = json.loads((oracle.MODELS / oracle.NAME / "outputs.json").read_text())
    assert [row["class"] for row in rows] == list(enumerable.CLASSES)
    for column in ("argmax_probability", "rule_probability", "mean_probability"):
        assert sum(row[column] for row in rows) == pytest.approx(1, abs=1e-9)
    chances = Counter[str]()
    letters = dict(zip(oracle.ALPHABET, oracle.zipf().tolist(), strict=True))
    for a, b, c, d in product(oracle.ALPHABET, repeat=4):
        chances[oracle.expected(a + b + c + d)] += letters[a] * letters[b] * letters[c] * letters[d]
    for row in rows:
        assert row["rule_probability"] == pytest.approx(chances[row["class"]], rel=1e-9)
    x = letters["x"]
    assert chances["three x"] == pytest.approx(4 * x**3 * (1 - x) + x**4, rel=1e-9)


def test_inputs_are_in_the_order_of_the_alphabet() -> None:
    inputs = enumerable_lm.every_input()
    rows, law = oracle.inputs()
    assert torch.equal(inputs.tokens, rows)
    np.testing.assert_allclose(inputs.law.numpy(), law, rtol=1e-12)


def test_batches_hold_the_three_sources() -> None:
    rows = enumerable_lm.batch(torch.from_numpy(enumerable.law()), torch.Generator().manual_seed(3))
    assert rows.shape == (3 * enumerable_lm.PART, 4)
    likely, uniform, planted = rows.split(enumerable_lm.PART)
    assert (likely == 0).double().mean() > 0.4 > 0.1 > (uniform == 0).double().mean()
    assert all(len(set(row)) < 4 for row in planted.tolist())


@pytest.mark.parametrize("name", enumerable.BEHAVIORS)
def test_pairs_differ_in_one_letter_and_swap_answer_and_foil(name: str) -> None:
    make = {
        "enumerable-repeats": enumerable.broken_pair,
        "enumerable-threes": enumerable.broken_triple,
    }
    pairs = make[name](1_000)
    assert make[name](50) == pairs[:50]
    assert len({pair.clean for pair in pairs}) == 1_000
    for pair in pairs:
        assert sum(a != b for a, b in zip(pair.clean, pair.corrupted, strict=True)) == 1
        assert oracle.expected(pair.clean) == pair.answer
        assert oracle.expected(pair.corrupted) == pair.foil


@pytest.mark.parametrize("name", enumerable.BEHAVIORS)
def test_halves_share_no_letters_in_any_order_and_all_features_vary(name: str) -> None:
    behavior, source = built_in(name, 1_000, enumerable_lm.NAME), enumerable.BEHAVIORS[name]
    pairs = source.pairs(1_000)
    sides = [
        [pair for pair, held in zip(pairs, behavior.held_out, strict=True) if held == half]
        for half in (0, 1)
    ]
    assert [len(side) for side in sides] == [500, 500]
    letters = [
        {"".join(sorted(text)) for pair in side for text in (pair.clean, pair.corrupted)}
        for side in sides
    ]
    assert not letters[0] & letters[1]
    repeated: dict[int, set[str]] = {}
    for pair, number in zip(pairs, behavior.clusters, strict=True):
        repeated.setdefault(number, set()).add(pair.answer)
    assert all(len(answers) == 1 for answers in repeated.values())
    for said, of in source.features.items():
        searched, held_out = ({of(pair) for pair in side} for side in sides)
        assert len(searched & held_out) > 1
        # Letters at the end are other ones in the other half, but for the repeated letter.
        assert searched == held_out or said == "last letter's rank"


def test_features_are_of_the_repeated_letter() -> None:
    behavior = enumerable.BEHAVIORS["enumerable-repeats"]
    pair = enumerable.PromptPair("kakb", "kacb", "two k", "last b")
    assert [of(pair) for of in behavior.features.values()] == [11, 0, 2, 2, 0]
    ends = enumerable.PromptPair("abcb", "axcb", "two b", "last b")
    assert [of(ends) for of in behavior.features.values()] == [2, 1, 2, 2, 1]
