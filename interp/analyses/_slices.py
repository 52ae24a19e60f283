"""A number read slice by slice over the inputs, as a figure: for any kind with one an input."""

from __future__ import annotations

import numpy as np

from interp.behaviors.slices import Measure, by_quantile, measured
from interp.figures.named import NamedFigure
from interp.figures.slices import slices
from interp.methods.effects import FEWEST
from interp.scores import Interval

SLICES = 3


def split(
    by: tuple[str, str, np.ndarray], of: str, level: tuple[str, float], measure: Measure
) -> tuple[str, list[NamedFigure]]:
    """Measure three slices of the inputs, lowest scores first, and draw them.

    Args:
        by: What the inputs are split by: name, unit (or empty), and one number an input.
        of: What is measured, with its unit: the title of the axis.
        level: Name and value of the measurement over all inputs.
        measure: Measures some inputs, given their indices.

    Returns:
        A sentence that says why they are not split, and no figure; or nothing, and the figure.
    """
    name, unit, scores = by
    n, least = len(scores), SLICES * FEWEST
    if n < least:
        there = f"there {'are' if n != 1 else 'is'} {n}"
        return f"Not split by {name}: {SLICES} slices of {FEWEST} take {least}, and {there}.", []
    parts = by_quantile(name, scores, SLICES)
    if len(parts) == 1:
        return f"Not split by {name}: it is the same in all {n}.", []
    bounds: list[tuple[float, float] | None] = []
    caption = [f"Inputs split by {name}{f' ({unit})' if unit else ''}."]
    found = measured(parts, measure)
    for m in found:
        if isinstance(m.interval, Interval):
            bounds.append((m.interval.low, m.interval.high))
        else:
            bounds.append(None)
            caption.append(f"No interval for {m.slice.label}: {m.interval.reason}.")
    given = [m.interval for m in found if isinstance(m.interval, Interval)]
    if given:
        caption.insert(1, f"Bars: {100 * given[0].level:.0f} % interval of each slice by itself.")
    names = [f"{i + 1}. {m.slice.label} (n = {len(m.slice)})" for i, m in enumerate(found)]
    drawn = slices(names, [m.value for m in found], bounds, titles=(of, name), level=level)
    return "", [NamedFigure("slices", f"By {name}", " ".join(caption), drawn)]
