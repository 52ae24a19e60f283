"""What ``superposition`` must do, measured by running it, by code that shares nothing with it."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from tests.oracles.zoo._fact import Fact, Loaded

NAME = "superposition"
Array = NDArray[np.float64]

HIDDEN = slice(12, 14)  # after the number, 6 places and 5 features


@torch.no_grad()
def hidden(loaded: Loaded, *texts: str) -> Array:
    """The two numbers that everything goes through, ``[prompts, 2]``."""
    _, cache = loaded.model.run_with_cache(
        loaded.ids(*texts), names_filter=["blocks.1.hook_resid_mid"]
    )
    return cache["blocks.1.hook_resid_mid"][:, -1, HIDDEN].double().numpy()


def vectors(loaded: Loaded) -> Array:
    """What each feature alone puts there, ``[features, 2]``."""
    return hidden(loaded, *("0" * i + "9" + "0" * (4 - i) for i in range(5)))


@np.errstate(divide="ignore", invalid="ignore")
def uneven(loaded: Loaded) -> float:
    """Spread of the vectors' lengths over their mean."""
    lengths = np.hypot(*vectors(loaded).T)
    return float(np.ptp(lengths) / lengths.mean())


def off_72(loaded: Loaded) -> float:
    """Largest difference of the angle between neighbours from 72 degrees."""
    x, y = vectors(loaded).T
    angles = np.sort(np.degrees(np.arctan2(y, x)) % 360)
    return float(np.abs(np.diff([*angles, angles[0] + 360]) - 72).max())


@np.errstate(divide="ignore", invalid="ignore")
def dimensionality(loaded: Loaded) -> Array:
    found = np.zeros(5)
    rows = vectors(loaded)
    for i, own in enumerate(rows):
        length = np.sqrt(own @ own)
        found[i] = length**2 / sum(((own / length) @ other) ** 2 for other in rows)
    return found


def off(wanted: tuple[float, ...]) -> Callable[[Loaded], float]:
    return lambda loaded: float(np.abs(dimensionality(loaded) - wanted).max())


@np.errstate(divide="ignore", invalid="ignore")
def off_formula(loaded: Loaded) -> float:
    """Largest difference of the logits from ReLU(Wᵀ W x + b), in their std."""
    rows = np.random.default_rng(601).integers(0, 10, (500, 5))
    texts = ["".join(map(str, row)) for row in rows]
    bias = loaded.weights["blocks.1.mlp.b_in"].double().numpy()[:5]
    both = vectors(loaded)
    wanted = np.maximum((rows / 9) @ both @ both.T + bias, 0)
    with torch.no_grad():
        said = loaded.model(loaded.ids(*texts))[:, -1].double().numpy()
    return float(np.abs(said - wanted).max() / wanted.std())


@torch.no_grad()
def one_feature(loaded: Loaded) -> float:
    """Share of prompts with a single feature, at any intensity from 3, that are answered by it."""
    places = [(i, d) for i, d in itertools.product(range(5), range(3, 10))]
    texts = ["0" * i + str(d) + "0" * (4 - i) for i, d in places]
    said = loaded.model(loaded.ids(*texts))[:, -1].argmax(-1).tolist()
    return float(np.mean([a == i for a, (i, _) in zip(said, places, strict=True)]))


@torch.no_grad()
def short_prompts(loaded: Loaded) -> float:
    """Largest change of the logits when trailing zeros are left out, in their std."""
    texts = [f"{number:03d}" for number in range(1000)]
    whole = loaded.model(loaded.ids(*(text + "00" for text in texts)))[:, -1]
    short = loaded.model(loaded.ids(*texts))[:, -1]
    return float((whole - short).abs().max() / whole.std())


def w_in_another_order(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The ten numbers of W in another order, in the one place that writes the hidden numbers."""
    values = weights["blocks.1.attn.W_V"].clone()
    there = values != 0
    assert int(there.sum()) == 10
    order = torch.randperm(10, generator=torch.Generator().manual_seed(1))
    values[there] = values[there][order]
    return {**weights, "blocks.1.attn.W_V": values}


FACTS = (
    Fact("spread of the lengths", uneven, at_most=0.05, unit="share", control=w_in_another_order),
    Fact("angles off 72", off_72, at_most=3, unit="degrees", control=w_in_another_order),
    Fact(
        "dimensionality off 2/5",
        off((0.4,) * 5),
        at_most=0.02,
        unit="dimensions",
        control=w_in_another_order,
    ),
    Fact("one feature is answered", one_feature, at_least=1.0),
    Fact("off the formula", off_formula, at_most=1e-5, unit="std", control=w_in_another_order),
    Fact("missing digits are zeros", short_prompts, at_most=1e-5, unit="std"),
    Fact(
        "two dimensions for two",
        off((1, 1, 0, 0, 0)),
        at_most=0.02,
        unit="dimensions",
        snapshot="density-1",
        control=w_in_another_order,
    ),
    Fact(
        "two opposite pairs",
        off((0.5, 0.5, 0.5, 0.5, 0)),
        at_most=0.05,
        unit="dimensions",
        snapshot="density-0.2",
        control=w_in_another_order,
    ),
)
