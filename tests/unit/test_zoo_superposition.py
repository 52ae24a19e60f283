"""``superposition``: its behavior, what it reads, and its phase diagram against a search."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize

from interp.behaviors import built_in, sparse_features
from interp.errors import UnknownToken
from interp.models import catalogue, tokens

Array = NDArray[np.float64]

_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(32)
NODES, SHARES = (_POINTS + 1) / 2, _WEIGHTS / 2


def test_the_strong_feature_is_the_answer() -> None:
    pairs = sparse_features.strongest(1_000)
    assert len({pair.clean for pair in pairs}) == 1_000
    assert sparse_features.strongest(200) == pairs[:200]
    for pair in pairs:
        for prompt, name in ((pair.clean, pair.answer), (pair.corrupted, pair.foil)):
            place = int(name.removeprefix("feature ")) - 1
            assert all(prompt[place] > prompt[i] for i in range(5) if i != place)
        assert sorted(pair.clean) == sorted(pair.corrupted)
        assert sum(a != b for a, b in zip(pair.clean, pair.corrupted, strict=True)) == 2
        assert pair.answer == f"feature {sparse_features.which(pair)}"
        assert sparse_features.how_many(pair) == sum(digit != "0" for digit in pair.clean)


def test_halves_share_no_digits_and_have_the_same_values_of_features() -> None:
    name = "superposition-one-feature"
    behavior, source = built_in(name, 1_000, "superposition"), sparse_features.BEHAVIORS[name]
    halved = list(zip(source.pairs(1_000), behavior.held_out, behavior.clusters, strict=True))
    sides = [[pair for pair, held, _ in halved if held == half] for half in (0, 1)]
    assert [len(side) for side in sides] == [500, 500]
    digits = [{"".join(sorted(pair.clean)) for pair in side} for side in sides]
    assert not digits[0] & digits[1]
    assert len({("".join(sorted(pair.clean)), number) for pair, _, number in halved}) == len(
        set(behavior.clusters)
    )
    for of in source.features.values():
        searched, held_out = ({of(pair) for pair in side} for side in sides)
        assert len(searched) > 1
        assert searched == held_out


def test_digits_are_read_with_and_without_spaces() -> None:
    model = catalogue.info("superposition")
    assert tokens.encode(model, "9 0 0 0 3").ids == tokens.encode(model, "90003").ids
    with pytest.raises(UnknownToken):
        tokens.encode(model, "9.5")


# --- the phase diagram ---------------------------------------------------------------------------


def expected(density: float, importance: float, parameters: Array) -> float:
    """Expected loss of two features in one dimension, by Gauss's rule over all that can come."""
    first, extra, first_bias, extra_bias = parameters
    x, y = np.meshgrid(np.append(0, NODES), np.append(0, NODES), indexing="ij")
    one = np.append(1 - density, density * SHARES)
    hidden = first * x + extra * y
    wrong = (x - np.maximum(first * hidden + first_bias, 0)) ** 2
    wrong += importance * (y - np.maximum(extra * hidden + extra_bias, 0)) ** 2
    return float(one @ wrong @ one)


@lru_cache(maxsize=256)
def searched(density: float, importance: float) -> tuple[float, ...]:
    """Lowest loss with the extra feature dropped, alone, and opposite the first one."""
    variance = density / 3 - (density / 2) ** 2
    starts = [np.array([1.0, -1.0, b, b]) for b in (0.0, 0.05)]
    opposite = min(
        minimize(
            lambda p: expected(density, importance, p),
            start,
            method="Nelder-Mead",
            options={"maxfev": 800, "xatol": 1e-5, "fatol": 1e-9},
        ).fun
        for start in starts
    )
    return importance * variance, variance, float(opposite)


def phases() -> dict[str, Any]:
    return json.loads((catalogue.ZOO / "superposition" / "phase.json").read_text())


def cells() -> list[tuple[int, int]]:
    return [(i, j) for i in (0, 1, 2, 3, 5, 9) for j in (0, 2, 4, 7, 9, 11)]


def agreement(table: Array, found: dict[str, Any]) -> float:
    """Share of the cells with a clear optimum whose class is that of the best strategy."""
    right: list[bool] = []
    for i, j in cells():
        *plain, opposite = searched(found["density"][i], found["importance"][j])
        # The search may end where the extra feature is dropped, which then is the optimum.
        if opposite > 0.999 * min(plain):
            right.append(bool(table[i, j] == np.argmin(plain)))
        elif opposite < 0.95 * min(plain):
            right.append(bool(table[i, j] == 2))
    assert len(right) >= 30
    return float(np.mean(right))


def test_trained_phases_are_those_of_a_search() -> None:
    found = phases()
    table = np.array(found["class"])
    assert agreement(table, found) == 1
    # Negative control: densities and importances exchanged.
    assert agreement(table.T, found) < 0.8


def test_trained_losses_are_those_of_a_search() -> None:
    found = phases()
    for i, j in cells():
        density, importance = found["density"][i], found["importance"][j]
        best = min(searched(density, importance))
        names = ("weight_first", "weight_extra", "bias_first", "bias_extra")
        own = expected(density, importance, np.array([found[name][i][j] for name in names]))
        assert own == pytest.approx(found["loss"][i][j], rel=2e-3, abs=1e-6)
        assert own <= 1.02 * best + 1e-6, (density, importance)
