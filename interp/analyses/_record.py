"""What a kind of analysis is made of.

A kind's module defines a ``Spec`` (the question), a result (a frozen dataclass of numpy arrays),
a generator ``run`` and the functions that read the result, and exports them as one ``Analysis``.
From that record come its page and form, the background job, live drawing, cancel, the permalink,
the command line and the contract tests.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from interp.behaviors import Behavior
from interp.explanations.circuits import Circuit
from interp.figures.named import NamedFigure
from interp.models import catalogue
from interp.models.info import ModelInfo
from interp.scores import Score

if TYPE_CHECKING:
    from interp.models.load import LoadedModel


class Spec(BaseModel):
    """A question and its seed; never a device, a path, a user or a display option."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    kind: str
    model: str
    seed: int = 0

    @property
    def canonical(self) -> str:
        """Canonical JSON: every field, sorted, no spaces."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))


S = TypeVar("S", bound=Spec)
R = TypeVar("R")


def _no_follow_ups(spec: Any, result: Any, cell: dict[str, Any]) -> Sequence[FollowUp]:
    return ()


def _no_lineage(steps: Sequence[tuple[Any, Any]]) -> NamedFigure | None:
    return None


@dataclass(frozen=True)
class Step(Generic[R]):
    """How much is done (0 to 1) and the complete result so far; NaN where not computed yet."""

    fraction: float
    result: R


@dataclass(frozen=True)
class Cost:
    """What a run will take: tokens through the model, passes, and bytes beside the weights."""

    tokens: int
    passes: int
    bytes: int


@dataclass(frozen=True)
class FollowUp:
    """A next question that this answer suggests: a label and the fields of another spec."""

    label: str
    fields: dict[str, Any]


@dataclass(frozen=True)
class Cite:
    """A source: short form for people, BibTeX for papers."""

    text: str
    bibtex: str


@dataclass(eq=False)
class Context:
    """All that a run may touch.

    Attributes:
        inputs: The behavior asked about, by exact token ids.
        rng: The only randomness, from the spec's seed.
        checkpoint: State saved by an earlier attempt at this record, or None.
        load: Loads a model by name; the device is the process's business.
        should_stop: Whether to stop early; a run that yields often need not ask.
        saved: Set by ``save_checkpoint``; whoever drains the run stores it.
    """

    inputs: Behavior
    rng: np.random.Generator
    load: Callable[[str], LoadedModel]
    checkpoint: dict[str, np.ndarray] | None = None
    should_stop: Callable[[], bool] = field(default=lambda: False)
    saved: dict[str, np.ndarray] | None = None

    def save_checkpoint(self, state: dict[str, np.ndarray]) -> None:
        """Offer a state from which another attempt can go on."""
        self.saved = state


@dataclass(frozen=True, eq=False, kw_only=True)
class Analysis(Generic[S, R]):
    """One kind of analysis.

    Attributes:
        kind: The module's name.
        page: Group and title of its page in the navigation.
        about: The question that its page answers, one sentence.
        spec: The type of its questions.
        result: The type of its answers: a frozen dataclass.
        question: The question in plain words, as it will be asked.
        inputs: Checks a spec against the model and gives the exact inputs (no torch).
        cost: What running it will take.
        run: Generator of complete results; no hook stays installed across a yield.
        figures: Draws any result, also one that is not complete.
        verdict: The one sentence that reads the answer for a person.
        scores: Scores with their scale.
        inspect: Says more about a clicked cell, or None: sentence and figures.
        follow_ups: What to ask next.
        cell_follow_ups: What to ask next about a clicked cell; shown with what ``inspect`` says.
        lineage: Draws the answers that led to one another, oldest first, or None where there is
            nothing to draw. The page gives it the records that this one is a follow-up of.
        circuit: The circuit that such answers found, or None where they found none; None for a
            kind that finds no circuits.
        example: A question that a bundled model answers within 2 s.
        cites: Sources of the method.
        rank: Place of its page within its group; lower ones come first.
        version: Raised when the numbers change.
        needs: Says why a model cannot be asked, or None.
    """

    kind: str
    page: tuple[str, str]
    about: str
    spec: type[S]
    result: type[R]
    question: Callable[[S], str]
    inputs: Callable[[S], Behavior]
    cost: Callable[[S, Behavior], Cost]
    run: Callable[[S, Context], Generator[Step[R], None, None]]
    figures: Callable[[R], Sequence[NamedFigure]]
    verdict: Callable[[R], str]
    scores: Callable[[R], Sequence[Score]]
    inspect: Callable[[R, dict[str, Any]], tuple[str, Sequence[NamedFigure]] | None]
    follow_ups: Callable[[S, R], Sequence[FollowUp]]
    example: S
    cites: Sequence[Cite]
    rank: int = 9
    version: int = 1
    cell_follow_ups: Callable[[S, R, dict[str, Any]], Sequence[FollowUp]] = _no_follow_ups
    lineage: Callable[[Sequence[tuple[S, R]]], NamedFigure | None] = _no_lineage
    circuit: Callable[[Sequence[tuple[S, R]]], Circuit | None] | None = None
    needs: Callable[[ModelInfo], str | None] = lambda _: None


def key(analysis: Analysis[Any, Any], spec: Spec, inputs: Behavior) -> str:
    """Return the identity of a question: equal keys ask the same thing of the same weights."""
    model = catalogue.info(spec.model)
    parts = [
        analysis.kind,
        str(analysis.version),
        spec.canonical,
        model.weights,
        model.processing,
        model.dtype,
        inputs.hash,
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def estimate_s(cost: Cost, model: ModelInfo, flop_per_s: float = 1e10) -> float:
    """Estimate the run time in seconds.

    Args:
        cost: What the run takes.
        model: The model asked.
        flop_per_s: Matrix rate of the device, as a worker measured it.
    """
    # Measured on one core with the bundled models: Python and hooks around a layer of one pass,
    # and what a token costs in a layer beside its matrix products (norms, softmax, copies).
    pass_s, token_s = 1e-3, 3e-6
    layers_s = model.n_layers * (pass_s * cost.passes + token_s * cost.tokens)
    return layers_s + 2.0 * model.parameters * cost.tokens / flop_per_s
