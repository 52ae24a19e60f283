"""Which features the search for roles asks for, on which inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Int, Shaped

from interp import expressions
from interp.behaviors import Behavior
from interp.behaviors.populations import token_names
from interp.explanations.matching import EXPRESSIONS, PAREN_FEATURES
from interp.models import catalogue

SEVERAL = " × "
"""Between the names of two features that are joined."""
_MEMBERS = 5
"""Mean number of inputs in a class of a feature below which it only tells inputs apart."""
_LONGEST = 41
"""Letters of a feature's name."""
Asked = dict[str, tuple[str, Int[np.ndarray, "input"]]]
"""Expression and values of each feature."""


def two_classes(behavior: Behavior) -> bool:
    """Whether there are only two answers."""
    return behavior.space == "classes" and catalogue.info(behavior.model).d_out == 2


def searched(behavior: Behavior) -> Behavior:
    """Return the inputs that are not held out, without features."""
    of = np.flatnonzero(~np.array(behavior.held_out or (False,) * len(behavior)))
    return replace(
        behavior,
        clean=tuple(behavior.clean[i] for i in of),
        answers=tuple(behavior.answers[i] for i in of if behavior.answers),
        foils=tuple(behavior.foils[i] for i in of if behavior.foils),
        held_out=(),
        clusters=(),
        features=(),
    )


def features(behavior: Behavior) -> tuple[Asked, tuple[str, ...]]:
    """Return the features that are asked for on the inputs searched, and names of those left out.

    They are expressions where there are some that make the same classes, else columns.
    """
    lengths = np.array(behavior.lengths, dtype=np.int64)
    ids = np.full((len(behavior), int(lengths.max())), -1, dtype=np.int64)
    for row, of in zip(ids, behavior.clean, strict=True):
        row[: len(of)] = of
    columns = {name: np.array(of) for name, of in behavior.features if name.isidentifier()}
    names = token_names(behavior.name, behavior.model)
    read = expressions.Inputs(ids, lengths, names, columns)
    given = _given(columns, names, read)
    kept_in = ~np.array(behavior.held_out or (False,) * len(behavior))
    kept: Asked = {}
    left_out: list[str] = []
    for name, values in expressions.evaluate(given, read).items():
        own = np.asarray(values)[kept_in].astype(np.int64)
        many = len(np.unique(own))
        if many < 2 or many * _MEMBERS > len(own):
            left_out.append(name)
        else:
            kept[name] = given[name], own
    return kept, tuple(left_out)


def _given(
    columns: Mapping[str, Shaped[np.ndarray, "input"]],
    names: Mapping[str, int],
    read: expressions.Inputs,
) -> dict[str, str]:
    """Return the expression of each feature of the inputs by its name."""
    if {"OPEN", "CLOSE"} <= set(names):
        mine = dict(PAREN_FEATURES)
        same = {"count", "start", "horizon", *mine}
    else:
        mine, same = {}, set[str]()
    for name, values in columns.items():
        if name in same:
            continue
        expr = EXPRESSIONS.get(name, "")
        if not expr or not _alike(expressions.evaluate_one(expr, read), values):
            expr = f'column("{name}")'
        mine[name[:_LONGEST]] = expr
    return mine


def _alike(one: Shaped[np.ndarray, "input"], other: Shaped[np.ndarray, "input"]) -> bool:
    """Whether two features make the same classes, whatever they call them."""
    return _classes(one) == _classes(other) == _classes(one, other)


def _classes(*values: Shaped[np.ndarray, "input"]) -> int:
    """Count the classes of inputs that agree in all values."""
    return len(np.unique(np.stack(values), axis=1).T)


def tells(
    candidates: tuple[str, ...], kept: Asked, answers: tuple[int, ...]
) -> Bool[np.ndarray, "candidate"]:
    """Return whether each candidate determines the right answer."""
    right = np.array(answers)
    told: list[bool] = []
    for candidate in candidates:
        own = [kept[name][1] for name in candidate.split(SEVERAL)]
        told.append(_classes(*own) == _classes(*own, right))
    return np.array(told)
