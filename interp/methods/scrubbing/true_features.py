"""Features that are true of the data, without anybody thinking of them (torch-free)."""

from __future__ import annotations

import numpy as np

from interp import expressions
from interp.errors import InterpError
from interp.methods.scrubbing.classes import Classes
from interp.methods.scrubbing.inputs import Inputs

_MOST_TOKENS = 8
_MOST_POSITIONS = 8
_FEWEST_MEMBERS = 4
"""Mean members of a class below which a feature is no feature of the data but a name of inputs."""


def true_features(inputs: Inputs) -> dict[str, str]:
    """List features of the data as expressions: its columns, and what its tokens say.

    Tokens at positions, counts, order of counts, first places, length and its remainders. Left out
    are those that are the same on all inputs, tell nearly every input apart, or alone determine
    the label; of features that make the same classes one stays.
    """
    names = {i: name for name, i in inputs.names.items()}
    often = np.bincount(inputs.ids[inputs.ids >= 0])
    tokens = [names[i] for i in np.argsort(-often, kind="stable") if i in names and often[i]]
    tokens = tokens[:_MOST_TOKENS]
    ends = int(inputs.lengths.min())
    places = [*range(min(ends, _MOST_POSITIONS)), *range(-min(ends, _MOST_POSITIONS // 2), 0)]
    exprs = [f'column("{name}")' for name in inputs.columns]
    exprs += [f"at({p})" for p in places]
    exprs += [f"count({t})" for t in tokens] + [f"count({t}) % 2" for t in tokens]
    exprs += [f"first({t})" for t in tokens]
    exprs += [f"count({a}) > count({b})" for a in tokens for b in tokens if a != b]
    exprs += ["length()", "length() % 3", "length() % 4", "at(1) == at(-2)", "at(1) == at(2)"]
    found: dict[str, str] = {}
    known: set[bytes] = set()
    for expr in exprs:
        try:
            values = expressions.evaluate_one(expr, inputs.read_by_expressions)
        except InterpError:
            continue
        classes = Classes.of([values])
        partition = np.unique(classes.codes, return_index=True)[1][classes.codes].tobytes()
        many = len(classes.counts) * _FEWEST_MEMBERS > len(inputs)
        if len(classes.counts) < 2 or many or partition in known:
            continue
        known.add(partition)
        if not _determines(classes, inputs.labels):
            found[f"random_{len(found)}"] = expr
    return found


def _determines(classes: Classes, labels: np.ndarray) -> bool:
    both = Classes.of([classes.codes, labels])
    return len(both.counts) == len(classes.counts)
