"""From a spec to a queued record: every check that needs no model run happens here (no torch)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from interp import analyses
from interp.analyses._record import Analysis, Cost, Spec, estimate_s, key
from interp.behaviors import Behavior
from interp.errors import BadInput
from interp.models import catalogue
from interp.store import Store
from interp.store.records import New

# Below this a job counts as short and may run between two steps of a long one.
SHORT_S = 2.0


@dataclass(frozen=True)
class Prepared:
    """A checked question: what it asks, of what, under which key, and what it will take."""

    analysis: Analysis[Any, Any]
    spec: Spec
    inputs: Behavior
    key: str
    cost: Cost

    def seconds(self, flop_per_s: float | None = None) -> float:
        """Estimate the run time in seconds at a device's matrix rate."""
        return estimate_s(self.cost, catalogue.info(self.spec.model), flop_per_s or 1e10)


def prepare(spec: Spec | dict[str, Any] | str) -> Prepared:
    """Check a question.

    Raises:
        BadInput: It cannot be asked; the message says what would work.
    """
    spec = spec if isinstance(spec, Spec) else analyses.parse(spec)
    analysis = analyses.get(spec.kind)
    refusal = analysis.needs(catalogue.info(spec.model))
    if refusal:
        raise BadInput(f"{analysis.kind} was asked of {spec.model}.", refusal)
    inputs = analysis.inputs(spec)
    return Prepared(
        analysis, spec, inputs, key(analysis, spec, inputs), analysis.cost(spec, inputs)
    )


def submit(
    store: Store,
    spec: Spec | dict[str, Any] | str,
    *,
    parent: str | None = None,
    again: bool = False,
) -> str:
    """Queue a question and return its record's id (that of the same question, if it was asked).

    Args:
        store: Where to.
        spec: The question.
        parent: The record whose follow-up or rerun this is.
        again: Compute it anew, beside an earlier record.
    """
    ready = prepare(spec)
    new = New(
        key=ready.key,
        kind=ready.analysis.kind,
        kind_version=ready.analysis.version,
        title=ready.analysis.question(ready.spec),
        model=ready.spec.model,
        spec=ready.spec.canonical,
        lane=0 if ready.seconds() < SHORT_S else 1,
    )
    return store.records.submit(new, ready.inputs.canonical, parent=parent, again=again)
