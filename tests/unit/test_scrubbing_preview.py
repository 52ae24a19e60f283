"""Previews of features: classes, answers and examples as counted one string at a time."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from interp.errors import BadInput, UnknownName
from interp.explanations.hypothesis import Feature, Hypothesis, Near, Node
from interp.explanations.presets import preset
from interp.methods.scrubbing.preview import Agreement, agreements, classes, drawn

N = 600


@pytest.fixture(scope="module")
def strings() -> list[tuple[str, int]]:
    """The strings that are drawn, and the right answer to each."""
    of = drawn("paren-strings", N, "paren-balancer")
    opened, closed = of.names["OPEN"], of.names["CLOSE"]
    texts = ["".join({opened: "(", closed: ")"}.get(i, "") for i in row) for row in of.ids.tolist()]
    return list(zip(texts, of.labels.tolist(), strict=True))


def horizon(text: str) -> bool:
    """Whether no suffix has more ( than ), read from the end."""
    depth = 0
    for sign in reversed(text):
        depth += 1 if sign == "(" else -1
        if depth > 0:
            return False
    return True


def bits(counts: Counter[object]) -> float:
    """Entropy of a draw from counts."""
    total = sum(counts.values())
    return -sum(c / total * math.log2(c / total) for c in counts.values())


def test_classes_are_those_counted_by_hand(strings: list[tuple[str, int]]) -> None:
    of = drawn("paren-strings", N, "paren-balancer")
    feature = Feature(expr="max(cumsum_right(OPEN, CLOSE)) <= 0", dtype="bool")
    found = classes(feature, of)
    values = [horizon(text) for text, _ in strings]
    counts = Counter(values)
    assert {one.value: one.count for one in found.groups} == {
        "true": counts[True],
        "false": counts[False],
    }
    for one in found.groups:
        for answer, count in zip(found.answers, one.answers, strict=True):
            both = sum(
                v == (one.value == "true") and label == answer
                for v, (_, label) in zip(values, strings, strict=True)
            )
            assert count == both
        for row in one.examples:
            assert horizon(strings[row][0]) == (one.value == "true")
        assert len({strings[row][0] for row in one.examples}) == len(one.examples) == 3
    labels = Counter(label for _, label in strings)
    joint = Counter(zip(values, (label for _, label in strings), strict=True))
    own = found.agreement
    assert (own.n_classes, own.smallest) == (2, min(counts.values()))
    assert own.bits == pytest.approx(bits(Counter(values)), abs=1e-12)
    assert own.of_bits == pytest.approx(bits(labels), abs=1e-12)
    told = bits(Counter(values)) + bits(labels) - bits(Counter(joint))
    assert own.answer_bits == pytest.approx(told, abs=1e-12)
    # Negative control: reading from the other end gives other classes.
    mirrored = classes(Feature(expr="max(cumsum_left(OPEN, CLOSE)) <= 0", dtype="bool"), of)
    assert {one.value: one.count for one in mirrored.groups} != {
        one.value: one.count for one in found.groups
    }


def test_the_label_is_determined_together_and_not_alone() -> None:
    of = drawn("paren-strings", N, "paren-balancer")
    found = agreements(preset("paren-1a").hypothesis, of)
    assert set(found) == {"a1.h0", "a2.h0", "a2.h1", ""}
    assert not any(found[name].determines for name in ("a1.h0", "a2.h0", "a2.h1"))
    assert found[""].determines
    assert found[""].answer_bits == pytest.approx(found[""].of_bits, abs=1e-9)


def test_nodes_that_agree_on_no_values_have_no_classes() -> None:
    of = drawn("paren-strings", N, "paren-balancer")
    children = (Node(site="a1.h0", agree="any"), Node(site="a2.h0", agree=Near(near="n", k=5)))
    graph = Node(site="logits", agree="exact", children=children)
    assert agreements(Hypothesis(features={"n": Feature(expr="length()")}, graph=graph), of) == {}
    several = Node(site="a2.h1", agree=("n", "odd"))
    made = Hypothesis(
        features={"n": Feature(expr="length()"), "odd": Feature(expr="count(OPEN) % 2")},
        graph=Node(site="logits", agree="exact", children=(several,)),
    )
    pairs = {(int(n), int((row == of.names["OPEN"]).sum() % 2)) for n, row in zip(
        of.lengths, of.ids, strict=True
    )}  # fmt: skip
    assert agreements(made, of)["a2.h1"].n_classes == len(pairs)


def test_a_constant_and_bins() -> None:
    of = drawn("paren-strings", N, "paren-balancer")
    same = classes(Feature(expr="length() >= 0", dtype="bool"), of)
    assert same.constant
    assert same.agreement == Agreement(1, N, 0.0, 0.0, same.agreement.of_bits, False)
    binned = classes(Feature(expr="count(OPEN) / length()", dtype="float", bins=4), of)
    assert binned.dtype == "float"
    assert binned.agreement.n_classes == 4
    assert all(" to " in one.value for one in binned.groups)
    assert sum(one.count for one in binned.groups) == N
    plain = classes(Feature(expr="count(OPEN) / length()", dtype="float"), of)
    assert plain.agreement.n_classes > 20
    assert len(plain.groups) == 8
    counts = [one.count for one in plain.groups]
    assert counts == sorted(counts, reverse=True)


@pytest.mark.parametrize(
    ("expr", "said"),
    [
        ("count(OPEN", "cannot be read"),
        ("token()", "is no feature"),
        ("count(OPEN) / 0", "is no feature"),
        ("9" * 100_000, "100,000 characters"),
        ("other + 1", "circle"),
    ],
)
def test_what_cannot_be_evaluated_is_advice(expr: str, said: str) -> None:
    of = drawn("paren-strings", N, "paren-balancer")
    with pytest.raises(BadInput, match=said) as raised:
        classes(Feature(expr=expr), of, {"other": Feature(expr="mine")}, "mine")
    assert "this feature" not in str(raised.value)


def test_unknown_names_and_wrong_types_are_advice() -> None:
    of = drawn("paren-strings", N, "paren-balancer")
    with pytest.raises(UnknownName, match="OPNE"):
        classes(Feature(expr="count(OPNE)"), of)
    with pytest.raises(BadInput, match="true or false"):
        classes(Feature(expr="length()", dtype="bool"), of)
    used = classes(Feature(expr="other > 4"), of, {"other": Feature(expr="length()")})
    assert used.dtype == "bool"
    assert {one.value for one in used.groups} == {"true", "false"}


def test_examples_are_inputs_that_differ() -> None:
    of = drawn("paren-strings", N, "paren-balancer")
    short = classes(Feature(expr="length() == 4", dtype="bool"), of)
    group = next(one for one in short.groups if one.value == "true")
    rows = {tuple(of.ids[row].tolist()) for row in group.examples}
    assert len(rows) == len(group.examples)
    every = {tuple(row) for row in of.ids[of.lengths == 4].tolist()}
    assert len(rows) == min(3, len(every))
    assert np.count_nonzero(of.lengths == 4) > 3


def test_no_torch() -> None:
    code = "import sys, interp.methods.scrubbing.preview; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
