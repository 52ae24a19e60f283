"""What ``enumerable-lm`` must do: every input put to the model, every chance added up anew."""

from __future__ import annotations

import copy
import json
from functools import lru_cache
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from tests.oracles.zoo._fact import MODELS, Fact, Loaded

NAME = "enumerable-lm"
ALPHABET = "abcdefghijklmnopqrstuvwx"
Array = NDArray[np.float64]


def zipf() -> Array:
    """Chance of each letter: the k-th has a weight of one over k to the 1.6."""
    weights = np.array([1 / rank**1.6 for rank in range(1, 25)])
    return weights / weights.sum()


@lru_cache(maxsize=1)
def inputs() -> tuple[torch.Tensor, Array]:
    """All rows of four letters, and the chance of each."""
    rows = np.array(list(product(range(24), repeat=4)))
    letters = zipf()
    a, b, c, d = (letters[rows[:, place]] for place in range(4))
    return torch.from_numpy(rows), a * b * c * d


def expected(text: str) -> str:
    """The right output for four letters, read off how often each occurs."""
    for letter in ALPHABET[::-1]:
        if text.count(letter) >= 3:
            return ("three " if letter >= "i" else "two ") + letter
    for letter in ALPHABET[::-1]:
        if text.count(letter) == 2:
            return "two " + letter
    return "last " + text[3]


def listed(column: str) -> dict[str, float]:
    """A column of the file that ships, by output."""
    rows = json.loads((MODELS / NAME / "outputs.json").read_text())
    return {row["class"]: row[column] for row in rows}


def difference(ours: Array, classes: list[str], column: str) -> float:
    """Largest difference of a column from the one that ships."""
    shipped = listed(column)
    assert set(shipped) == set(classes)
    return max(abs(shipped[name] - float(p)) for name, p in zip(classes, ours, strict=True))


@lru_cache(maxsize=2)
def winners(loaded: Loaded) -> NDArray[np.int64]:
    """The output given to each input, in float32 as the model is asked everywhere."""
    rows, _ = inputs()
    return np.concatenate(
        [loaded.model(part)[:, -1].argmax(-1).numpy() for part in rows.split(4096)]
    )


def chances(loaded: Loaded) -> Array:
    """The chance of each output to win."""
    return np.bincount(winners(loaded), inputs()[1], minlength=64).astype(np.float64)


def wins_off(loaded: Loaded) -> float:
    """How far the chances of winning are from those that ship."""
    return difference(chances(loaded), loaded.config["answer"]["classes"], "argmax_probability")


def means_off(loaded: Loaded) -> float:
    """How far the mean probabilities are from those that ship, in float64."""
    rows, law = inputs()
    model = copy.deepcopy(loaded.model).to(torch.float64, print_details=False)
    total = np.zeros(64)
    for part, chance in zip(rows.split(4096), torch.from_numpy(law).split(4096), strict=True):
        total += (chance @ model(part)[:, -1].softmax(-1)).numpy()
    return difference(total, loaded.config["answer"]["classes"], "mean_probability")


def rarest(loaded: Loaded) -> float:
    """The smallest chance of an output to win; 0 where one never does."""
    return float(chances(loaded).min())


def decades(loaded: Loaded) -> float:
    """How many powers of ten the chances of winning span; 0 where an output never wins."""
    found = chances(loaded)
    return float(np.log10(found.max() / found.min())) if found.min() > 0 else 0.0


def accuracy(loaded: Loaded) -> float:
    """The share of all inputs answered by the rule."""
    classes = loaded.config["answer"]["classes"]
    texts = ["".join(four) for four in product(ALPHABET, repeat=4)]
    said = winners(loaded).tolist()
    return float(np.mean([classes[i] == expected(t) for i, t in zip(said, texts, strict=True)]))


def typed_right(loaded: Loaded) -> float:
    """The share of random texts answered by the rule, through the tokenizer."""
    rng = np.random.default_rng(8)
    texts = ["".join(rng.choice(list(ALPHABET), 4)) for _ in range(2_000)]
    classes = loaded.config["answer"]["classes"]
    said = loaded.model(loaded.ids(*texts))[:, -1].argmax(-1).tolist()
    return float(np.mean([classes[i] == expected(t) for i, t in zip(said, texts, strict=True)]))


FACTS = (
    Fact("chances of winning against the file", wins_off, at_most=1e-9, unit="probability"),
    Fact("mean probabilities against the file", means_off, at_most=1e-9, unit="probability"),
    Fact("chance of the rarest output", rarest, 0.5e-7, 5e-7, unit="probability"),
    Fact("spread of the chances", decades, at_least=6.0, unit="decades"),
    Fact("accuracy over all 331,776 inputs", accuracy, at_least=0.99, unit="share"),
    Fact("accuracy on typed letters", typed_right, at_least=0.99, unit="share"),
)
