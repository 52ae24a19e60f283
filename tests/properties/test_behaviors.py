"""Laws of tables, alignment, templates and slices, whatever they are given."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from interp.behaviors import BUILT_IN, PromptPair, alignment, all_pairs, slices, table
from interp.behaviors.alignment import align
from interp.errors import InterpError
from interp.models import catalogue
from interp.models.tokens import Tokens
from tests.unit import _bpe

KEEP = settings(max_examples=60, deadline=None, derandomize=True, database=None)
BPE = "bpe"


def attempt(call: Callable[[], Any]) -> Any:
    """What a call returns, or the advice that it raises."""
    try:
        return call()
    except InterpError as error:
        return error


# --- tables ---------------------------------------------------------------------------------------

# Surrogates are no text and NUL is refused; the rest may hold separators, quotes and line breaks.
cells = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0")
    | st.sampled_from(",;\t\"'\n\r |\ufeff"),
    min_size=1,
    max_size=12,
)
pairs = st.builds(PromptPair, cells, cells, cells, cells | st.just(""))
lists = st.lists(pairs, min_size=1, max_size=6, unique=True)


@KEEP
@given(given=lists)
def test_tables_come_back_as_they_were_written(given: list[PromptPair]) -> None:
    text = table.write(given)
    assert table.read(text) == tuple(given)
    assert table.read(b"\xef\xbb\xbf" + text.encode()) == tuple(given)


@KEEP
@given(
    given=lists,
    separator=st.sampled_from([",", ";", "\t"]),
    order=st.permutations(table.COLUMNS),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_order_separator_and_line_ends_do_not_matter(
    given: list[PromptPair], separator: str, order: list[str], end: str
) -> None:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerow(name.upper() for name in order)
    writer.writerows([getattr(pair, name) for name in order] for pair in given)
    assert table.read(out.getvalue()) == tuple(given)


@settings(KEEP, max_examples=200)
@given(data=st.binary(max_size=60) | st.text(max_size=60) | st.text(',;\t"\nab', max_size=40))
def test_anything_is_read_or_refused_with_advice(data: bytes | str) -> None:
    found = attempt(lambda: table.read(data))
    if isinstance(found, InterpError):
        assert "\n" not in str(found)
        assert found.asked
        assert found.works
    else:
        assert found
        assert all(p.clean and p.corrupted and p.answer for p in found)


# --- alignment ------------------------------------------------------------------------------------

TEXTS = ("a", " b", "c", " d", "[BOS]", " ef", ",")
sides = st.lists(st.integers(0, len(TEXTS) - 1), max_size=9)


def as_tokens(ids: list[int]) -> Tokens:
    return Tokens(tuple(ids), tuple(TEXTS[i] for i in ids))


@settings(KEEP, max_examples=200)
@given(left=sides, right=sides)
def test_alignment_is_symmetric_and_loses_nothing(left: list[int], right: list[int]) -> None:
    a, b = as_tokens(left), as_tokens(right)
    found = align(a, b)
    assert [(c.corrupted, c.clean, c.mark) for c in found] == [
        (c.clean, c.corrupted, c.mark) for c in align(b, a)
    ]
    assert tuple(c.clean for c in found if c.clean is not None) == a.texts
    assert tuple(c.corrupted for c in found if c.corrupted is not None) == b.texts
    for column in found:
        one_side = column.clean is None or column.corrupted is None
        same = column.clean == column.corrupted
        assert column.mark == ("missing" if one_side else "same" if same else "differs")
    assert any(c.mark == "missing" for c in found) == (len(a) != len(b))
    assert all(c.mark == "same" for c in found) == (a == b)


@KEEP
@given(given=st.lists(st.tuples(sides, sides), max_size=6))
def test_a_report_counts_exactly_the_pairs_of_unequal_length(
    given: list[tuple[list[int], list[int]]],
) -> None:
    found = alignment.of_tokens([(as_tokens(a), as_tokens(b)) for a, b in given])
    assert found.n == len(given)
    unequal = [i for i, (a, b) in enumerate(given) if len(a) != len(b)]
    assert [one.index for one in found.off] == unequal
    for one in found.off:
        a, b = given[one.index]
        assert a[: one.first] == b[: one.first]
        assert a[one.first : one.first + 1] != b[one.first : one.first + 1]
        assert one.lengths == (len(a), len(b))
    turned = alignment.of_tokens([(as_tokens(b), as_tokens(a)) for a, b in given])
    assert [one.first for one in turned.off] == [one.first for one in found.off]


# --- templates ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokenizers")


@settings(KEEP, max_examples=12)
@given(data=st.data(), name=st.sampled_from([n for n, b in BUILT_IN.items() if not b.model]))
def test_templates_are_deterministic_and_prefix_stable(
    vocabulary: Path, data: Any, name: str
) -> None:
    """For any tokenizer that leaves some of the words whole."""
    every = sorted(set(_bpe.vocabulary()))
    lost = set(data.draw(st.lists(st.sampled_from(every), max_size=40)))
    folder = _bpe.save(
        vocabulary / str(abs(hash(frozenset(lost)))), [w for w in every if w not in lost]
    )
    info = _bpe.described(BPE, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "info", lambda _: info)
        made = attempt(lambda: all_pairs(name, BPE))
        if isinstance(made, InterpError):
            assert "this tokenizer splits" in str(made)
            return
        again = BUILT_IN[name].make(info)
        assert again == made
        assert again.pairs is not made.pairs
        assert len(set(made.pairs)) == len(made.pairs)
        few = data.draw(st.integers(1, 40))
        assert BUILT_IN[name].pairs(few, BPE) == made.pairs[:few]
        assert made.clusters == again.clusters
        assert [number % 2 for number in made.clusters] == [i % 2 for i in range(len(made.pairs))]
        assert not alignment.report(BPE, made.pairs[:50]).off


@pytest.mark.parametrize("name", [name for name, source in BUILT_IN.items() if source.model])
def test_behaviors_of_bundled_models_are_prefix_stable(name: str) -> None:
    model = BUILT_IN[name].model
    info = catalogue.info(model)
    made = BUILT_IN[name].make(info)
    assert made == all_pairs(name, model)
    assert 400 <= len(set(made.pairs)) == len(made.pairs) <= 1000
    assert BUILT_IN[name].pairs(7) == made.pairs[:7]


# --- slices ---------------------------------------------------------------------------------------

scores = hnp.arrays(
    float,
    st.integers(0, 30),
    elements=st.floats(-100, 100, width=16) | st.sampled_from([np.nan, np.inf, 1.0]),
)


@settings(KEEP, max_examples=200)
@given(scores=scores, parts=st.integers(1, 6), at=st.floats(-100, 100))
def test_slices_partition_the_inputs(scores: np.ndarray, parts: int, at: float) -> None:
    for found in (
        slices.by_quantile("s", scores, parts),
        slices.by_threshold("s", scores, at),
    ):
        members = [i for part in found for i in part.members]
        assert sorted(members) == list(range(len(scores)))
        assert all(part.members for part in found)
        known = [part for part in found if np.isfinite(part.low)]
        assert all(a.high < b.low for a, b in itertools.pairwise(known))
        for part in known:
            inside = scores[list(part.members)]
            assert (inside.min(), inside.max()) == (part.low, part.high)
    assert len([s for s in slices.by_quantile("s", scores, parts) if np.isfinite(s.low)]) <= parts


@KEEP
@given(n=st.integers(1, 40), parts=st.integers(1, 6), seed=st.integers(0, 99))
def test_slices_of_different_scores_are_as_equal_as_they_can_be(
    n: int, parts: int, seed: int
) -> None:
    found = slices.by_quantile("s", np.random.default_rng(seed).permutation(n), parts)
    sizes = [len(part) for part in found]
    assert len(sizes) == min(n, parts)
    assert max(sizes) - min(sizes) <= 1
