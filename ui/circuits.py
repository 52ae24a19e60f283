"""Circuits that answers found: offered for a test, below the answer and in the editor."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from interp import analyses
from interp.analyses._hypotheses import of_circuit
from interp.analyses._record import FollowUp
from interp.answers import Answer, get
from interp.errors import InterpError
from interp.explanations.circuits import Circuit, to_hypothesis
from interp.explanations.hypothesis import Hypothesis
from interp.models import catalogue
from interp.store import Record, State
from ui.resources import store

_MOST = 10
"""Circuits that the editor offers, and records of a kind that are looked through for them."""


def follow_up(line: Sequence[Answer]) -> FollowUp | None:
    """Offer to test the circuit that the answers of a line found, oldest first, if any."""
    found = _circuit(line)
    if found is None:
        return None
    edges = f"{len(found.edges)} edge{'s' if len(found.edges) > 1 else ''}"
    try:
        return FollowUp(
            f"Test this circuit as a hypothesis ({edges})", of_circuit(found, line[-1].record.model)
        )
    except InterpError:
        return None  # too many paths for a tree, or no inputs: nothing that could be tested


def stored(model: str) -> list[tuple[Record, Hypothesis]]:
    """List the circuits that were found in a model, as hypotheses, newest first, each once."""
    found: dict[str, tuple[Record, Hypothesis]] = {}
    for kind in analyses.kinds():
        if analyses.get(kind).circuit is None:
            continue
        for record in store().records.list(kind=kind, model=model, state=State.DONE, most=_MOST):
            claimed = _claimed(record.id)
            if claimed is not None and claimed.canonical not in found:
                found[claimed.canonical] = record, claimed
    return list(found.values())[:_MOST]


@lru_cache(maxsize=256)
def _claimed(name: str) -> Hypothesis | None:
    """Return the hypothesis of the circuit of a finished record and those that led to it."""
    try:
        line = [get(store(), name)]
        while (parent := line[0].record.parent) and parent not in [one.id for one in line]:
            above = get(store(), parent)
            if above.record.kind != line[0].record.kind:
                break
            line.insert(0, above)
        found = _circuit(line)
        model = catalogue.info(line[-1].record.model)
        return None if found is None else to_hypothesis(found, model)
    except InterpError:
        return None  # a step that was deleted, or a circuit of too many paths


def _circuit(line: Sequence[Answer]) -> Circuit | None:
    last = line[-1].analysis
    if last is None or last.circuit is None:
        return None
    steps = [(one.spec, one.result) for one in line]
    if any(spec is None or result is None for spec, result in steps):
        return None
    return last.circuit(steps)
