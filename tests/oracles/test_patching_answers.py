"""What stands beside a map of patches, against independent computations.

The band for all cells at once: maps whose truth is known, many times over. The arithmetic: the
same map computed exactly. Layers and positions: the cells of a larger map. Places patched together:
sweeps of one place each, and a run in which everything is patched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import interp
from interp.behaviors import Behavior, built_in
from interp.engine import has_bfloat16
from interp.errors import BadInput, UnknownName
from interp.methods import effects, simultaneous
from interp.methods.grids import cells_that_cannot_matter, make_grid
from interp.methods.patching import sweep, together
from interp.methods.screening import screen
from interp.models.load import LoadedModel, load
from interp.models.sites import Site
from interp.scores import Absent
from tests.oracles import _models

KIND = "activation_patching"
Note = Callable[..., None]
Draw = Callable[[np.random.Generator, int, int], np.ndarray]

DRAWN: dict[str, Draw] = {
    "independent cells": lambda rng, n, m: rng.normal(size=(n, m)),
    "cells that go together": lambda rng, n, m: (
        0.9 * rng.normal(size=(n, 1)) + 0.4 * rng.normal(size=(n, m))
    ),
    "heavy tails": lambda rng, n, m: rng.standard_t(3, size=(n, m)),
}


def false_alarms(
    draw: Draw,
    n: int,
    *,
    cells: tuple[int, int] = (8, 10),
    trials: int = 120,
    narrower: float = 1.0,
    groups: int | tuple[int, ...] = 1,
) -> float:
    """Share of maps without any effect in which some cell's band leaves 0 out."""
    rng, wrong, made = np.random.default_rng(2), 0, 0
    sizes = (groups,) * n if isinstance(groups, int) else groups
    member = np.repeat(np.arange(len(sizes)), sizes)
    for trial in range(trials):
        noise = draw(rng, len(sizes), cells[0] * cells[1])[member]
        if max(sizes) > 1:
            noise = noise + draw(rng, len(member), cells[0] * cells[1])
        noise = noise.reshape(len(member), *cells)
        corrupted = rng.normal(size=len(member))
        clean = corrupted + 4 + rng.normal(size=len(member))
        found = simultaneous.band(
            corrupted[:, None, None] + noise,
            clean,
            corrupted,
            "denoising",
            np.random.default_rng(trial),
            tested=np.ones(cells, bool),
            rounding=0.0,
            clusters=member.tolist() if max(sizes) > 1 else [],
        )
        if found is None:
            continue  # no band, no false one
        made += 1
        middle = (found.low + found.high) / 2
        wrong += bool((np.abs(middle) > narrower * (found.high - found.low) / 2).any())
    assert made > trials / 2
    return wrong / made


@pytest.fixture(autouse=True)
def _fewer_flips(monkeypatch: pytest.MonkeyPatch) -> None:
    """A percentile of 400 flips is that of 2,000 to a few parts in a hundred."""
    monkeypatch.setattr(simultaneous, "FLIPS", 400)


@pytest.mark.parametrize("n", [6, 20])
@pytest.mark.parametrize("drawn", DRAWN)
def test_a_map_without_effects_has_none_in_95_of_100(drawn: str, n: int, ledger: Note) -> None:
    found = false_alarms(DRAWN[drawn], n)
    assert found <= 0.10, f"{found:.3f} of maps have a cell that does nothing outside its band"
    # Negative control: each cell by itself, as an interval is.
    rng, alone = np.random.default_rng(3), 0
    for trial in range(40):
        noise = DRAWN[drawn](rng, n, 80).reshape(n, 8, 10)
        data = (noise, np.full(n, 4.0), np.zeros(n), "denoising", np.random.default_rng(trial))
        bounds = effects.interval(*data)
        assert bounds is not None
        alone += bool(((bounds[0] > 0) | (bounds[1] < 0)).any())
    assert alone / 40 > 2 * max(found, 0.05)
    ledger(
        kind=KIND,
        oracle=f"band for all cells at once, {n} pairs, 80 cells without effect, {drawn}: "
        f"{found:.3f} of maps have a false one",
        control=f"each cell's interval by itself: {alone / 40:.3f}",
        deviation=abs(found - 0.05),
        tolerance=0.05,
        unit="share of maps",
    )


def test_groups_of_words_count_once() -> None:
    """Three copies of each pair are no more pairs; the control takes them for more."""
    assert false_alarms(DRAWN["independent cells"], 8, groups=3, trials=80) <= 0.12
    assert false_alarms(DRAWN["independent cells"], 7, groups=(1, 2, 2, 3, 3, 4, 5)) <= 0.10
    rng = np.random.default_rng(5)
    noise = rng.normal(size=(8, 5, 8)).repeat(3, 0)
    data = (noise, np.full(24, 4.0), np.zeros(24), "denoising")
    tested = np.ones((5, 8), bool)
    wide, narrow = (
        simultaneous.band(
            *data, np.random.default_rng(0), tested=tested, rounding=0.0, clusters=groups
        )
        for groups in (np.arange(8).repeat(3).tolist(), [])
    )
    assert wide is not None
    assert narrow is not None
    assert (wide.high - wide.low).mean() > 1.3 * (narrow.high - narrow.low).mean()


def test_the_band_finds_an_effect_and_mirrors_when_noising() -> None:
    rng = np.random.default_rng(7)
    clean, corrupted = rng.normal(4, 0.3, 20), rng.normal(0, 0.3, 20)
    values = corrupted[:, None, None] + rng.normal(0, 0.5, (20, 4, 5))
    values[:, 1, 2] += 3
    tested = np.ones((4, 5), bool)
    tested[0, 0] = False
    found = simultaneous.band(
        values, clean, corrupted, "denoising", rng, tested=tested, rounding=1e-6
    )
    assert found is not None
    assert np.argwhere(found.different).tolist() == [[1, 2]]
    assert np.isnan(found.low[0, 0])
    # The same data as noising: corrupted activations into the clean run.
    mirrored = simultaneous.band(
        clean[:, None, None] - (values - corrupted[:, None, None]),
        clean,
        corrupted,
        "noising",
        np.random.default_rng(7),
        tested=tested,
        rounding=1e-6,
    )
    again = simultaneous.band(
        values,
        clean,
        corrupted,
        "denoising",
        np.random.default_rng(7),
        tested=tested,
        rounding=1e-6,
    )
    assert mirrored is not None
    assert again is not None
    np.testing.assert_allclose(mirrored.low, again.low, atol=1e-12)


def test_five_pairs_have_no_band_and_rounding_is_no_effect() -> None:
    rng, tested = np.random.default_rng(0), np.ones((2, 3), bool)
    values = np.full((8, 2, 3), 1e-9)
    data = (np.full(8, 4.0), np.zeros(8), "denoising", rng)
    found = simultaneous.band(values, *data, tested=tested, rounding=1e-6)
    assert found is not None
    assert not found.different.any()
    sure = simultaneous.band(values, *data, tested=tested, rounding=0.0)
    assert sure is not None
    assert sure.different.all()  # the control: without a floor, rounding would be found
    unsteady = np.where(np.arange(8) < 5, 4.0, -4.0)
    assert (
        simultaneous.band(
            values, unsteady, np.zeros(8), "denoising", rng, tested=tested, rounding=0.0
        )
        is None
    )
    assert (
        simultaneous.band(
            values[:5], np.full(5, 4.0), np.zeros(5), "denoising", rng, tested=tested, rounding=0.0
        )
        is None
    )


# --- arithmetic --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def random_model() -> tuple[LoadedModel, Behavior]:
    """A random GPT-2 and pairs."""
    name = next(iter(_models.behaviors()))
    return _models.random_model(torch.float32), _models.behaviors()[name]


@pytest.mark.skipif(not has_bfloat16(torch.device("cpu")), reason="needs bfloat16 instructions")
@pytest.mark.parametrize("largest", [True, False])
def test_coarser_arithmetic_says_how_far_it_is_off(
    random_model: tuple[LoadedModel, Behavior], largest: bool, ledger: Note
) -> None:
    model, behavior = random_model
    grid = make_grid(model.info, behavior, "z_pos")
    args = (model, behavior, grid, "denoising", "logit_diff")
    *_, exact = sweep(*args)
    *_, rough = screen(*args, rounded="bfloat16", largest=largest, rng=np.random.default_rng(0))
    true, found = (
        effects.effect(s.values, s.clean, s.corrupted, "denoising") for s in (exact, rough.sweep)
    )
    np.testing.assert_allclose(rough.sweep.clean, exact.clean)
    off = np.abs(true - found)
    assert rough.off is not None
    assert rough.rank is not None
    # What is said of the sample is true of the sample, and of the order of what all cells are off.
    assert off[~exact.inert].max() <= 5 * rough.off
    assert 0 < rough.off < 0.2
    assert rough.rank > 0.9
    # What is marked as exact is exact, in either mode.
    assert off[rough.exact].max() < 1e-9
    assert rough.sampled == min(24, int((~exact.inert).sum()))
    if largest:
        top = np.argsort(-np.abs(true), axis=None)[:5]
        assert rough.exact.ravel()[top].all()
    # A cell that does nothing has an effect of 0; not so with the bare run's rounding left in.
    bare = effects.effect(rough.rounded, exact.clean, exact.corrupted, "denoising")
    assert off[exact.inert].max() < 1e-12
    assert np.abs(bare - true)[exact.inert].min() > 1e-3
    ledger(
        kind=KIND,
        oracle="matrix products in bfloat16 against the model's precision, every cell",
        control="rounding of the bare run left in: cells that do nothing are off by over 1e-3",
        deviation=float(off.max()),
        tolerance=5 * rough.off,
        unit="effect",
    )


def test_an_arithmetic_that_is_not_there_is_refused(
    random_model: tuple[LoadedModel, Behavior],
) -> None:
    model, behavior = random_model
    grid = make_grid(model.info, behavior, "attn_out")
    args = (model, behavior, grid, "denoising", "logit_diff")
    with pytest.raises(BadInput, match="CUDA"):
        next(screen(*args, rounded="tf32", largest=False, rng=np.random.default_rng(0)))


# --- parts of maps, and places together ---------------------------------------------------------


def test_chosen_layers_are_the_rows_of_the_whole_map(
    random_model: tuple[LoadedModel, Behavior],
) -> None:
    model, behavior = random_model
    for site in ("attn_out", "z_pos", "k"):
        whole, some = (make_grid(model.info, behavior, site, layers) for layers in ("", "1-2"))
        *_, a = sweep(model, behavior, whole, "noising", "logit_diff")
        *_, b = sweep(model, behavior, some, "noising", "logit_diff")
        names = [whole.row_names().index(name) for name in some.row_names()]
        np.testing.assert_allclose(a.values[:, names], b.values, atol=1e-5)
        assert np.abs(a.values[:, [n - 1 for n in names]] - b.values).max() > 1e-2
        assert (a.inert[names] == b.inert).all()


def test_heads_at_one_position_are_the_column_of_the_map_by_position(
    random_model: tuple[LoadedModel, Behavior],
) -> None:
    model, behavior = random_model
    n_heads = model.info.n_heads
    by_pos = make_grid(model.info, behavior, "z_pos")
    *_, a = sweep(model, behavior, by_pos, "denoising", "logit_diff")
    at = make_grid(model.info, behavior, "z", "", "-1")
    *_, b = sweep(model, behavior, at, "denoising", "logit_diff")
    last = a.values[:, :, -1].reshape(len(behavior), -1, n_heads)
    np.testing.assert_allclose(last, b.values, atol=1e-5)
    before = a.values[:, :, -2].reshape(len(behavior), -1, n_heads)
    assert np.abs(before - b.values).max() > 1e-2


def test_together_is_each_alone_and_everything_is_the_other_run(
    random_model: tuple[LoadedModel, Behavior],
) -> None:
    model, behavior = random_model
    length = behavior.lengths[0]
    sites = [Site("z", 0, head=1, pos=2), Site("mlp_out", 1), Site("k", 2, head=0)]
    found = together(model, behavior, sites, "denoising", "logit_diff")
    grid = make_grid(model.info, behavior, "z_pos")
    *_, a = sweep(model, behavior, grid, "denoising", "logit_diff")
    np.testing.assert_allclose(found[:, 1], a.values[:, 1, 2], atol=1e-5)
    keys = make_grid(model.info, behavior, "k")
    *_, b = sweep(model, behavior, keys, "denoising", "logit_diff")
    np.testing.assert_allclose(found[:, 3], b.values[:, 2, 0], atol=1e-5)
    assert np.abs(found[:, 0] - found[:, 1:].sum(1) + 2 * a.corrupted).max() > 1e-2
    everything = [Site("resid_pre", 0, pos=pos) for pos in range(length)]
    whole = together(model, behavior, everything, "denoising", "logit_diff")
    np.testing.assert_allclose(whole[:, 0], a.clean, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"together": "L0H0.z"}, BadInput, "one place only"),
        ({"together": "L0H0.z, L0H0.z"}, BadInput, "inside another"),
        ({"together": "L0H0.z, L0H0.result"}, BadInput, "inside another"),
        ({"together": "L0H0.z, L0H0.z@4"}, BadInput, "inside another"),
        ({"together": "L0H0.z, L9H0.z"}, UnknownName, "layers 0 to 1"),
        ({"together": "L0H0.z, L0H7.z"}, UnknownName, "heads 0 to 1"),
        ({"together": "L0H0.z, L1.mlp_out"}, UnknownName, "mlp_out"),
        ({"together": "L0H0.z, L1H0.q_in"}, BadInput, "end of a path"),
        ({"together": "L0H0.z@3, L1H0.z@99"}, BadInput, "8 tokens"),
        ({"together": "nonsense"}, UnknownName, "nonsense"),
        ({"layers": "0-7"}, UnknownName, "layers 0 to 1"),
        ({"layers": "one"}, BadInput, "range of layers"),
        ({"position": "3"}, BadInput, "every position as a column"),
        ({"site": "z", "position": "8"}, BadInput, "8 tokens"),
        ({"site": "z", "position": "end"}, BadInput, "whole number"),
    ],
)
def test_places_that_are_not_there_are_refused_before_anything_runs(
    fields: dict[str, Any], error: type[Exception], said: str
) -> None:
    pair = {"clean": "kmabcda", "corrupted": "kmebcda", "answer": "b", "foil": "d"}
    spec = {"kind": KIND, "pairs": [pair], **fields}
    with pytest.raises(error, match=said):
        interp.submit(spec)


def test_the_answer_says_what_was_patched_together() -> None:
    load("induction-handmade", "cpu")
    built_in("induction-first-cue", 8, "induction-handmade")
    answer = interp.run(
        {
            "kind": KIND,
            "behavior": "induction-first-cue",
            "n_pairs": 8,
            "site": "z",
            "together": "L0H0.z, L1H0.z",
        }
    )
    joint = answer.result.joint
    assert joint is not None
    # Either head alone brings the answer back: together they cannot bring back more.
    assert joint.score.value == pytest.approx(1.0, abs=1e-3)
    assert "less than the sum (-1.00" in answer.verdict
    assert [score.name for score in answer.analysis.scores(answer.result)][1] == joint.score.name


def test_halves_whose_gaps_have_unlike_signs_are_searched_together() -> None:
    rng, held = np.random.default_rng(0), (False, True) * 4
    corrupted = rng.normal(0, 0.1, 8)
    gap = np.where(held, -0.6, 1.2)
    values = corrupted[:, None, None] + gap[:, None, None] * 0.9
    values = np.concatenate([values, corrupted[:, None, None]], 2)
    _, score = effects.best_cell(
        values,
        corrupted + gap,
        corrupted,
        "denoising",
        inert=np.zeros((1, 2), bool),
        name=lambda row, col: f"{row},{col}",
        held_out=held,
        least=0.04,
        rng=rng,
    )
    assert score.n == 8
    assert isinstance(score.held_out, Absent)
    assert "other sign" in score.held_out.reason


def test_heads_at_a_position_that_cannot_matter_are_not_run(
    random_model: tuple[LoadedModel, Behavior],
) -> None:
    model, _ = random_model
    behavior = _models.behaviors()["a shared prefix"]
    first = int((np.array(behavior.clean) != np.array(behavior.corrupted)).any(0).argmax())
    assert first > 0
    for position, layers, idle in (("0", "", True), (str(first), "", False)):
        grid = make_grid(model.info, behavior, "z", layers, position)
        *_, found = sweep(model, behavior, grid, "denoising", "logit_diff")
        assert found.inert[:-1].all() == idle
        assert found.inert[-1].all()  # behind the last attention only the position read counts
    last = make_grid(model.info, behavior, "z", "", "-1")
    assert not cells_that_cannot_matter(model.info, behavior, last).any()


def test_a_band_is_no_wider_than_the_metrics_rounding() -> None:
    """A probability moves by at most a quarter of what its logits move by."""
    for metric, share in (("logit_diff", 1.0), ("prob", 0.25), ("loss", 0.5)):
        assert effects.rounding(metric, 20.0, "bfloat16") == pytest.approx(share * 8 * 2**-7 * 20)
