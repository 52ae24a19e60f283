"""What comes with the inputs of a hypothesis: what it is, on how many, and on which input."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from interp.behaviors.populations import meaning
from interp.methods.scrubbing.inputs import Inputs
from interp.models import tokens
from interp.models.info import ModelInfo
from ui import parts
from ui.hypothesis_state import Editor

_LONGEST, _SHORT = 48, 8
"""Signs of an example that are shown, and tokens from which on one is taken where it can be."""


def said(editor: Editor, column: str) -> str:
    """Say what a column is, as far as its name and its values tell: a line of Markdown."""
    if editor.inputs is None:
        return f"**{parts.escape(column)}**"
    words = meaning(editor.population, column) or _in_words(editor.inputs, column)
    named = f"**{parts.escape(column)}**{parts.escape(f' ({words})' if words else '')}"
    return f"{named}: {parts.escape(values(editor.info, editor.inputs, column))}"


def values(info: ModelInfo, inputs: Inputs, column: str) -> str:
    """Say which values a column has, each end with an input."""
    found = inputs.columns[column]
    if set(np.unique(found)) <= {0, 1}:
        count = int((found == 1).sum())
        ends = {1: f"true on {count:,} of {len(found):,} inputs", 0: "false on others"}
    else:
        low, high = found.min(), found.max()
        ends = {low: f"at least {low:g}", high: f"at most {high:g}"}
    return "; ".join(
        f"{name}, as on {_example(info, inputs, found == end)}"
        for end, name in ends.items()
        if end in found
    )


def _in_words(inputs: Inputs, column: str) -> str:
    """Return the name in words that an identifier was made of, or empty."""
    for one in inputs.columns:
        made = re.sub(r"\W+", "_", one).strip("_")
        if not one.isidentifier() and column in (made, f"the_{made}"):
            return one if one.replace(" ", "_") != column else ""
    return ""


def _example(info: ModelInfo, inputs: Inputs, rows: NDArray[np.bool_]) -> str:
    """Return a short one of the inputs, but none so short that most values hold on it."""
    found = np.flatnonzero(rows)
    lengths = inputs.lengths[found]
    row = int(
        found[np.argmin(np.where(lengths < _SHORT, lengths.max() + _SHORT - lengths, lengths))]
    )
    special = tokens.special_ids(info)
    ids = inputs.ids[row, : int(inputs.lengths[row])].tolist()
    texts = tokens.text_of(info, tuple(one for one in ids if one not in special))
    # Numbers would run together where no token is a space.
    numbers = any(one.isdigit() for one in texts) and not any(" " in one for one in texts)
    between = " " if numbers else ""
    return parts.short(between.join(texts), _LONGEST)
