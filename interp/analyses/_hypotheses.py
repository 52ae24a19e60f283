"""What the questions about a hypothesis share: the model, its inputs and the hypothesis."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from interp.analyses._fields import MORE, Kind, ModelName, Seed, Whole
from interp.analyses._record import Spec
from interp.behaviors import Behavior
from interp.behaviors.populations import population, token_names
from interp.explanations.checks import check
from interp.explanations.hypothesis import Hypothesis
from interp.explanations.presets import preset
from interp.explanations.text import read
from interp.methods.scrubbing.budget import check_classes
from interp.methods.scrubbing.inputs import Inputs
from interp.models import catalogue

PRESET = "preset:"
MOST_INPUTS = 10_000


def _canonical(value: Any) -> Any:
    """Turn a hypothesis, its fields, YAML, JSON or ``preset:<name>`` into canonical JSON."""
    if isinstance(value, dict):
        value = json.dumps(value)
    if isinstance(value, Hypothesis):
        return value.canonical
    if not isinstance(value, str):
        return value
    if value.startswith(PRESET):
        return preset(value.removeprefix(PRESET)).hypothesis.canonical
    return read(value)[0].canonical


PopulationName = Annotated[str, Kind("population")]
HypothesisText = Annotated[
    str, Kind("hypothesis"), BeforeValidator(_canonical), Field(max_length=100_000)
]
"""Canonical JSON of a hypothesis."""


class OfHypothesis(Spec):
    """A question about a hypothesis: of which model, on which inputs."""

    model: ModelName = Field(default="paren-balancer", description="The model asked.")
    behavior: PopulationName = Field(
        default="paren-strings", description="The distribution of inputs."
    )
    n_inputs: Whole = Field(
        default=2000,
        ge=20,
        le=MOST_INPUTS,
        title="Inputs",
        description="How many inputs are drawn: all are references, and stand for each other.",
    )
    hypothesis: HypothesisText = Field(
        default="preset:paren-1b", validate_default=True, description="What is claimed."
    )
    seed: Seed = Field(default=0, description="Decides every draw.", json_schema_extra=MORE)

    @property
    def claimed(self) -> Hypothesis:
        """The hypothesis."""
        return _read(self.hypothesis)


@lru_cache(maxsize=64)
def _read(text: str) -> Hypothesis:
    return Hypothesis.model_validate_json(text)


def inputs(spec: OfHypothesis) -> Behavior:
    """Draw the inputs and check the hypothesis against the model and them.

    Raises:
        BadInput: The hypothesis cannot be tested so; the message says what would work.
    """
    behavior = population(spec.behavior, spec.n_inputs, spec.model)
    of = arrays(spec, behavior)
    known = {*of.columns, *of.names}
    check(spec.claimed, catalogue.info(spec.model), known, n_positions=of.ids.shape[1])
    check_classes(spec.claimed, of)
    return behavior


def arrays(spec: OfHypothesis, behavior: Behavior) -> Inputs:
    """Return inputs as expressions and methods read them."""
    return Inputs.of(behavior, token_names(spec.behavior, spec.model))
