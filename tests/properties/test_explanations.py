"""Laws of hypotheses as text and in words, whatever tree they are given."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import InterpError
from interp.explanations import Hypothesis, label, read, sentence, summary, write
from interp.explanations.text import RunOptions

KEEP = settings(max_examples=60, deadline=None, derandomize=True, database=None)

SITES = ("embed", "a0.h0", "L0H1", "m0", "a1.h0+a1.h1", "a0.h0#part", "resid", "mask", "logits")
# Words that YAML takes for something else, or that need quotes.
WORDS = ("no", "on", "yes", "null", "~", "1", "0x10", "1e3", "1:30", "=", "<<", "a: b", "- a", "#")
words = st.sampled_from(WORDS) | st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8
)
positions = st.sampled_from(["all", "read"]) | st.lists(st.integers(-2, 50), max_size=3)
agreements = (
    st.sampled_from(["exact", "any"])
    | words
    | st.lists(words, max_size=3)
    | st.fixed_dictionaries({"near": words}, optional={"k": st.integers(1, 99)})
)
fields = {
    "id": st.just("") | words,
    "into": st.sampled_from([None, "q", "k", "v"]),
    "pos": positions,
    "via": st.sampled_from(["direct", "mlps", "any"]),
    "attn_term": st.sampled_from([None, "prev", "self"]),
    "agree": agreements,
    "other": st.sampled_from(["shared", "separate", "exact", "same_as:m0"]) | words,
    "pool": st.none() | st.integers(-1, 9) | words,
}
leaves = st.fixed_dictionaries({"site": st.sampled_from(SITES)}, optional=fields)
nodes = st.recursive(
    leaves,
    lambda below: st.fixed_dictionaries(
        {"site": st.sampled_from(SITES), "children": st.lists(below, max_size=4)}, optional=fields
    ),
    max_leaves=12,
)
numbers = st.floats(allow_nan=False)
splits = st.fixed_dictionaries({"phi": words}) | st.fixed_dictionaries(
    {"direction": st.lists(numbers, min_size=1, max_size=4)}
)
features = st.fixed_dictionaries(
    {"expr": st.text(st.characters(exclude_categories=["Cs"]), max_size=12)},
    optional={"dtype": st.sampled_from(["bool", "int", "float"]), "bins": st.integers(0, 1000)},
)
hypotheses = st.fixed_dictionaries(
    {"graph": nodes},
    optional={
        "name": words,
        "note": words,
        "model": words,
        "behavior": words,
        "before": words,
        "features": st.dictionaries(words, features, max_size=3),
        "rewrites": st.lists(
            st.fixed_dictionaries(
                {"site": st.sampled_from(SITES[:4]), "split": splits}, optional={"pos": positions}
            ),
            max_size=2,
        ),
        "swap_prob": st.floats(0, 1, exclude_min=True),
    },
)


@settings(KEEP, max_examples=120)
@given(fields=hypotheses)
def test_text_gives_back_what_was_written(fields: dict[str, Any]) -> None:
    one = Hypothesis.model_validate(fields)
    again, options = read(write(one))
    assert again == one
    assert again.hash == one.hash
    assert options == RunOptions()
    assert write(again) == write(one)
    assert read(json.dumps(json.loads(one.canonical)))[0] == one


@KEEP
@given(fields=hypotheses)
def test_every_tree_can_be_said(fields: dict[str, Any]) -> None:
    one = Hypothesis.model_validate(fields)
    assert summary(one).endswith(".")
    for node, above in one.nodes():
        assert sentence(node, above).strip().endswith(".")
        assert label(node, above)


@KEEP
@given(text=st.text(max_size=60) | st.binary(max_size=60).map(lambda b: b.decode("latin-1")))
def test_no_text_is_a_fault(text: str) -> None:
    for given_text in (text, f"graph: {text}", f"graph: {{site: logits}}\nfeatures: {text}"):
        with contextlib.suppress(InterpError):
            read(given_text)
