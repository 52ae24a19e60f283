"""The types that fields of specs may have.

A field's type chooses its widget and its place in the address of a page; a spec never names a
widget.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from interp.behaviors import PromptPair
from interp.methods.grids import SiteChoice


class Pair(BaseModel):
    """A clean and a corrupted prompt, the clean one's answer, and its foil."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clean: str
    corrupted: str
    answer: str
    foil: str = ""

    def prompt_pair(self) -> PromptPair:
        """Return the pair as behaviors take it."""
        return PromptPair(self.clean, self.corrupted, self.answer, self.foil)


class Kind:
    """Marks a field with the name of its type, by which the form finds the widget."""

    def __init__(self, name: str) -> None:
        self.name = name


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


ModelName = Annotated[str, Kind("model")]
Prompt = Annotated[str, Kind("prompt")]
Answer = Annotated[str, Kind("answer")]
Pairs = Annotated[tuple[Pair, ...], Kind("pairs"), BeforeValidator(_tuple)]
BehaviorName = Annotated[str, Kind("behavior")]
Count = Annotated[int, Kind("count"), Field(ge=1, le=1000)]
Seed = Annotated[int, Kind("seed"), Field(ge=0, le=2**31 - 1)]
Layer = Annotated[int, Kind("layer"), Field(ge=0)]
Head = Annotated[int, Kind("head"), Field(ge=0)]
Sites = Annotated[SiteChoice, Kind("site")]
Places = Annotated[str, Kind("places"), Field(max_length=2000)]
"""Text that names places: sites between commas (``L5H3.z, L2.mlp_out@4``), layers, a position.

A spec gives the label by ``title`` and what stands for empty text by ``examples``.
"""
Whole = Annotated[int, Kind("whole")]
"""A whole number; a spec gives its limits by ``Field(ge=, le=)`` and its label by ``title``."""
Number = Annotated[float, Kind("number")]
"""A number, likewise."""
Direction = Annotated[Literal["denoising", "noising"], Kind("choice")]
Precision = Annotated[Literal["model", "screened", "bfloat16", "tf32"], Kind("choice")]
Metric = Annotated[Literal["logit_diff", "prob", "loss", "kl"], Kind("choice")]

KINDS = (
    "model",
    "prompt",
    "answer",
    "pairs",
    "behavior",
    "population",
    "hypothesis",
    "count",
    "seed",
    "site",
    "choice",
    "layer",
    "head",
    "places",
    "whole",
    "number",
)


def kind_of(spec: type[BaseModel], name: str) -> str:
    """Return the type name of a field, one of ``KINDS``, or "kind" for the literal."""
    for mark in spec.model_fields[name].metadata:
        if isinstance(mark, Kind):
            return mark.name
    return "kind"


def is_more(spec: type[BaseModel], name: str) -> bool:
    """Whether a form shows a field only to those who look for more: seeds, and what says so."""
    marked = spec.model_fields[name].json_schema_extra
    return kind_of(spec, name) == "seed" or marked == MORE


MORE: Any = {"form": "more"}
"""What a field's ``json_schema_extra`` is where a form shows it only to those who look for more."""


def limits(spec: type[BaseModel], name: str) -> tuple[Any, Any]:
    """Return the least and the largest value of a ``Whole`` or a ``Number``."""
    marks = spec.model_fields[name].metadata
    low, high = ([getattr(m, end) for m in marks if hasattr(m, end)] for end in ("ge", "le"))
    return low[0], high[0]
