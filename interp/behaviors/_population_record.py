"""A population: a distribution of single inputs, each with its right answer and named features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Drawn:
    """An input as text, its right answer, and the one wrong answer to compare with, or empty."""

    text: str
    answer: str
    foil: str = ""


@dataclass(frozen=True)
class Population:
    """A distribution of inputs without counterfactuals.

    Attributes:
        name: What people call it.
        summary: What the inputs are, how they are drawn, and what the answer is.
        models: Bundled models that it is made for; their snapshots too.
        most: How many inputs it makes at most.
        draw: Makes the first n inputs: those of a smaller n are the first of a larger one.
        features: Named properties of a text, each a whole number. Letters and numbers are those of
            the model's tokens, and places count the tokens from 0, special ones too.
        names: Constants for expressions, with the token that each stands for.
        meanings: What the features' values are, in a few words.
    """

    name: str
    summary: str
    models: tuple[str, ...]
    most: int
    draw: Callable[[int], Sequence[Drawn]]
    features: Mapping[str, Callable[[str], int]]
    names: Mapping[str, str] = field(default_factory=dict)
    meanings: Mapping[str, str] = field(default_factory=dict)
