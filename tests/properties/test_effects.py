"""Laws that patching, effects, packed results and sites obey whatever they are given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from interp.methods import effects
from interp.methods.grids import SiteChoice, make_grid
from interp.methods.patching import sweep
from interp.models.sites import COMPONENTS, Site, has_heads
from interp.scores import Absent, Anchor, Interval, Null, Score
from interp.store.codec import pack, unpack
from tests.contract._checks import assert_same_tree
from tests.oracles._models import INFO, behaviors, random_model

KEEP = settings(max_examples=25, deadline=None, derandomize=True, database=None)
FLOAT32 = 1e-5  # of the logits' standard deviation


# --- sweeps --------------------------------------------------------------------------------------


@KEEP
@given(name=st.sampled_from(list(behaviors())), site=st.sampled_from(get_args(SiteChoice)))
def test_a_sweep_of_equal_prompts_is_flat(name: str, site: str) -> None:
    behavior = behaviors()[name]
    same = replace(behavior, corrupted=behavior.clean)
    *_, last = sweep(random_model(), same, make_grid(INFO, same, site), "denoising", "loss")
    np.testing.assert_allclose(last.values, last.clean[:, None, None] + 0 * last.values, atol=1e-5)


@KEEP
@given(
    name=st.sampled_from(list(behaviors())),
    order=st.permutations(range(4)),
    site=st.sampled_from(get_args(SiteChoice)),
    direction=st.sampled_from(["denoising", "noising"]),
)
def test_permuting_pairs_permutes_values(
    name: str, order: list[int], site: str, direction: str
) -> None:
    model, behavior = random_model(), behaviors()[name]
    moved = replace(
        behavior,
        clean=tuple(behavior.clean[i] for i in order),
        corrupted=tuple(behavior.corrupted[i] for i in order),
        answers=tuple(behavior.answers[i] for i in order),
        foils=tuple(behavior.foils[i] for i in order),
    )
    grid = make_grid(INFO, behavior, site)
    *_, one = sweep(model, behavior, grid, direction, "logit_diff")
    *_, two = sweep(model, moved, grid, direction, "logit_diff")
    assert (one.inert == two.inert).all()
    for a, b in ((one.values, two.values), (one.clean, two.clean), (one.corrupted, two.corrupted)):
        np.testing.assert_allclose(a[list(order)], b, atol=FLOAT32)


# --- effects -------------------------------------------------------------------------------------

finite = st.floats(-50, 50, width=32)


@st.composite
def pairs_of_runs(draw: Callable[..., Any]) -> tuple[np.ndarray, np.ndarray]:
    """Clean and corrupted numbers of a few pairs whose means differ."""
    n = draw(st.integers(1, 6))
    corrupted = draw(hnp.arrays(float, n, elements=finite))
    gap = draw(hnp.arrays(float, n, elements=st.floats(0.1, 20)))
    return corrupted + draw(st.sampled_from([-1, 1])) * gap, corrupted


@KEEP
@given(runs=pairs_of_runs(), share=finite)
def test_effect_is_nothing_at_the_base_and_one_at_the_source(runs: Any, share: float) -> None:
    clean, corrupted = runs

    def effect(values: np.ndarray, direction: str) -> float:
        return float(effects.effect(values[:, None, None], clean, corrupted, direction)[0, 0])

    for direction, base, source in (
        ("denoising", corrupted, clean),
        ("noising", clean, corrupted),
    ):
        assert effect(base, direction) == pytest.approx(0, abs=1e-9)
        assert effect(source, direction) == pytest.approx(1, abs=1e-9)
        # In between it is the share of the way, on either side of both ends: unclipped.
        assert effect(base + share * (source - base), direction) == pytest.approx(share, abs=1e-6)
    moved = corrupted + share * (clean - corrupted)
    assert effect(moved, "denoising") + effect(moved, "noising") == pytest.approx(1, abs=1e-6)


@KEEP
@given(runs=pairs_of_runs(), scale=st.floats(0.1, 10), shift=finite, data=st.data())
def test_effects_know_no_unit(runs: Any, scale: float, shift: float, data: Any) -> None:
    """Another unit or origin of the metric, or the sign of it, changes no effect."""
    clean, corrupted = runs
    values = data.draw(hnp.arrays(float, (len(clean), 2, 3), elements=finite))
    for factor in (scale, -scale):
        numbers = [factor * a + shift for a in (values, clean, corrupted)]
        for direction in ("denoising", "noising"):
            np.testing.assert_allclose(
                effects.effect(*numbers, direction),
                effects.effect(values, clean, corrupted, direction),
                rtol=1e-6,
                atol=1e-6,
            )


@KEEP
@given(runs=pairs_of_runs(), data=st.data(), direction=st.sampled_from(["denoising", "noising"]))
def test_intervals_are_ordered_and_repeat_with_their_seed(
    runs: Any, data: Any, direction: str
) -> None:
    clean, corrupted = runs
    values = data.draw(hnp.arrays(float, (len(clean), 2, 2), elements=finite))
    found = [
        effects.interval(values, clean, corrupted, direction, np.random.default_rng(3))
        for _ in range(2)
    ]
    if found[0] is None or found[1] is None:
        assert len(clean) < 20  # none, for few pairs
        return
    low, high = found[0]
    assert (low <= high).all()
    np.testing.assert_array_equal(np.stack(found[0]), np.stack(found[1]))
    flat = np.broadcast_to(
        (clean if direction == "noising" else corrupted)[:, None, None], values.shape
    )
    none = effects.interval(flat, clean, corrupted, direction, np.random.default_rng(3))
    assert none is not None
    np.testing.assert_allclose(np.stack(none), 0, atol=1e-9)


@KEEP
@given(runs=pairs_of_runs(), data=st.data())
def test_groups_of_one_pair_are_pairs_and_a_copied_pair_counts_once(runs: Any, data: Any) -> None:
    clean, corrupted = runs
    values = data.draw(hnp.arrays(float, (len(clean), 2, 2), elements=finite))
    n = len(clean)
    plain, alone, copied = (
        effects.interval(
            *(np.repeat(a, times, 0) for a in (values, clean, corrupted)),
            "denoising",
            np.random.default_rng(3),
            clusters=np.repeat(np.arange(n), times).tolist() if grouped else (),
        )
        for times, grouped in ((1, False), (1, True), (4, True))
    )
    assert (plain is None) == (alone is None) == (copied is None)
    if plain is not None and alone is not None and copied is not None:
        np.testing.assert_array_equal(np.stack(plain), np.stack(alone))
        np.testing.assert_allclose(np.stack(plain), np.stack(copied), rtol=1e-6, atol=1e-6)


# --- packed results and sites --------------------------------------------------------------------


@dataclass(frozen=True)
class Leaf:
    """A part of a result."""

    name: str
    values: np.ndarray
    of: float | None


@dataclass(frozen=True)
class Tree:
    """A result with one of everything that results may hold."""

    title: str
    count: int
    exact: bool
    share: float
    nothing: None
    words: tuple[tuple[str, ...], ...]
    numbers: tuple[float, ...]
    grid: np.ndarray
    mask: np.ndarray
    score: Score | None
    leaf: Leaf | None
    leaves: tuple[Leaf, ...]


text = st.text(max_size=8)
number = st.floats(allow_nan=False, allow_infinity=False)
shapes = hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)
floats = hnp.arrays(st.sampled_from([np.float32, np.float64]), shapes)  # NaN and infinities too
masks = hnp.arrays(bool, shapes)
anchors = st.builds(Anchor, text, number)
absent = st.builds(Absent, text)
scores = st.builds(
    Score,
    name=text,
    value=number,
    unit=text,
    n=st.integers(0, 2**40),
    floor=anchors,
    ceiling=anchors,
    constant=anchors | absent,
    null=st.builds(Null, text, number, number, number, st.integers(0, 99)) | absent,
    interval=st.builds(Interval, number, number, number, text) | absent,
    held_out=anchors | absent,
)
leaves = st.builds(Leaf, text, floats, number | st.none())
trees = st.builds(
    Tree,
    title=text,
    count=st.integers(-(2**53), 2**53),
    exact=st.booleans(),
    share=number,
    nothing=st.none(),
    words=st.lists(st.lists(text, max_size=3).map(tuple), max_size=3).map(tuple),
    numbers=st.lists(number, max_size=3).map(tuple),
    grid=floats,
    mask=masks,
    score=scores | st.none(),
    leaf=leaves | st.none(),
    leaves=st.lists(leaves, max_size=3).map(tuple),
)


@settings(KEEP, max_examples=60)
@given(tree=trees)
def test_results_come_back_from_bytes_as_they_were(tree: Tree) -> None:
    packed = pack(tree)
    again = unpack(Tree, packed)
    assert_same_tree(again, tree)
    assert pack(again) == packed
    order = replace(tree, grid=np.asfortranarray(tree.grid))
    assert pack(order) == packed  # how it lies in memory is no part of it


def test_an_array_without_axes_comes_back_without_axes() -> None:
    leaf = Leaf("one number", np.array(3.5), None)
    assert_same_tree(unpack(Leaf, pack(leaf)), leaf)


@pytest.mark.parametrize("wrong", [[1.0], {"a": 1}, b"bytes", torch.zeros(1), 1j, {1}])
def test_nothing_else_is_packed(wrong: Any) -> None:
    with pytest.raises(TypeError, match="cannot hold"):
        pack(Leaf("wrong", np.zeros(1), wrong))


sites = st.builds(
    lambda component, layer, head, pos: Site(
        component, layer, head if has_heads(component) else None, pos
    ),
    st.sampled_from(COMPONENTS),
    st.integers(0, 200),
    st.none() | st.integers(0, 200),
    st.none() | st.integers(-50, 5000),
)


@settings(KEEP, max_examples=100)
@given(site=sites)
def test_sites_parse_as_they_print(site: Site) -> None:
    assert Site.parse(str(site)) == site
