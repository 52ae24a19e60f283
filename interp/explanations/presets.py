"""Hypotheses that come with the app: published ones, and ones about weights that are known."""

from __future__ import annotations

from typing import Final

from interp.errors import UnknownName
from interp.explanations import (
    _presets_induction,
    _presets_ioi,
    _presets_mechanisms,
    _presets_parens,
)
from interp.explanations._presets_record import Preset, Published
from interp.explanations.hypothesis import Hypothesis

__all__ = ["PRESETS", "Preset", "Published", "preset", "presets", "same_as"]

PRESETS: Final[dict[str, Preset]] = {
    one.name: one
    for module in (_presets_parens, _presets_induction, _presets_ioi, _presets_mechanisms)
    for one in module.PRESETS
}


def presets(model: str) -> tuple[Preset, ...]:
    """List the presets about a model, whatever its weight processing, precision and snapshot."""
    base = model.partition(":")[0].partition("@")[0]
    return tuple(one for one in PRESETS.values() if base in one.models)


def same_as(hypothesis: Hypothesis) -> Preset | None:
    """Return the preset that a hypothesis is, unchanged; None if it is none."""
    one = PRESETS.get(hypothesis.name)
    return one if one is not None and one.hypothesis == hypothesis else None


def preset(name: str) -> Preset:
    """Return the preset of this name.

    Raises:
        UnknownName: There is none.
    """
    if name not in PRESETS:
        raise UnknownName.of("preset", name, PRESETS)
    return PRESETS[name]
