"""A named source of prompt pairs: what a file of one task exports under the pairs' names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from interp.behaviors import templates
from interp.behaviors._record import PromptPair
from interp.behaviors.templates import Made
from interp.models import catalogue
from interp.models.info import ModelInfo


@dataclass(frozen=True)
class BuiltIn:
    """A named source of prompt pairs.

    Attributes:
        summary: What the pairs are: clean, corrupted, answer and foil.
        make: Makes all its pairs for a model.
        model: The one bundled model that it is made for; empty: any that reads English words.
        paper: Where the task comes from, or empty.
        metric: How it is scored unless somebody asks otherwise.
        features: Named properties of a pair's clean prompt, each a whole number.
    """

    summary: str
    make: Callable[[ModelInfo], Made]
    model: str = ""
    paper: str = ""
    metric: str = "logit_diff"
    features: Mapping[str, Callable[[PromptPair], int]] = field(default_factory=dict)

    def pairs(self, n: int, model: str = "") -> tuple[PromptPair, ...]:
        """Make the first ``n`` pairs for ``model``, by default the one that it is made for."""
        return make(self.make, catalogue.info(model or self.model)).pairs[:n]

    def suits(self, model: ModelInfo) -> bool:
        """Whether it can be asked of ``model``, as far as can be told without its tokenizer."""
        return self.model == model.base if self.model else templates.reads_words(model)


@lru_cache(maxsize=64)
def make(of: Callable[[ModelInfo], Made], model: ModelInfo) -> Made:
    """Make all pairs for a model, once."""
    return of(model)
