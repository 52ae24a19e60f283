"""What the questions about a hypothesis share: the model, its inputs and the hypothesis."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from interp.analyses._fields import MORE, Kind, ModelName, Seed, Whole
from interp.analyses._record import Spec
from interp.behaviors import Behavior
from interp.behaviors.populations import for_model, most, population, token_names
from interp.errors import BadInput
from interp.explanations.checks import check
from interp.explanations.circuits import Circuit, to_hypothesis
from interp.explanations.hypothesis import Hypothesis
from interp.explanations.presets import preset
from interp.explanations.text import read
from interp.methods.scrubbing.budget import check_classes
from interp.methods.scrubbing.inputs import Inputs
from interp.models import catalogue

PRESET = "preset:"
MOST_INPUTS, USUAL_INPUTS = 10_000, 2000


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


class OfPopulation(Spec):
    """A question about a model on a distribution of inputs."""

    model: ModelName = Field(default="paren-balancer", description="The model asked.")
    behavior: PopulationName = Field(
        default="paren-strings", description="The distribution of inputs."
    )


class OfHypothesis(OfPopulation):
    """A question about a hypothesis: of which model, on which inputs."""

    n_inputs: Whole = Field(
        default=USUAL_INPUTS,
        ge=20,
        le=MOST_INPUTS,
        title="Inputs",
        description="How many inputs are drawn: each is a reference, and may stand for others.",
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


def of_circuit(circuit: Circuit, model: str) -> dict[str, Any]:
    """Return the fields of a question that tests a circuit as a hypothesis.

    On the inputs that it was found on where hypotheses can be tested on them, else on the model's
    first ones.

    Raises:
        BadInput: It has too many paths, or the model has no inputs to test a hypothesis on.
    """
    claimed, about = to_hypothesis(circuit, catalogue.info(model)), for_model(model)
    if not about:
        raise BadInput(
            f"A circuit of {model} was to be tested as a hypothesis.",
            "No inputs are known for this model.",
            "Choose a model that has some: a bundled one, or GPT-2.",
        )
    behavior = circuit.behavior if circuit.behavior in about else about[0]
    return {
        "kind": "causal_scrubbing",
        "model": model,
        "behavior": behavior,
        "n_inputs": min(USUAL_INPUTS, most(behavior, model)),
        "hypothesis": claimed.canonical,
    }


def arrays(spec: OfHypothesis, behavior: Behavior) -> Inputs:
    """Return inputs as expressions and methods read them."""
    return Inputs.of(behavior, token_names(spec.behavior, spec.model))
