"""A record with its question and its answer read back: what pages, exports and notebooks use."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from interp import analyses
from interp.analyses._record import Analysis, Spec
from interp.behaviors import Behavior
from interp.errors import InterpError
from interp.store import Record, State, Store, unpack


@dataclass(frozen=True)
class Answer:
    """A record, its kind, its question, and its result or what there is of it.

    Attributes:
        record: The row.
        analysis: The kind, or None where this installation does not have it.
        spec: The question, or None likewise.
        result: The result; partial unless ``record.state`` is done; None if there is nothing.
        outdated: Whether a newer version of the kind would compute other numbers.
    """

    record: Record
    analysis: Analysis[Any, Any] | None
    spec: Spec | None
    result: Any
    outdated: bool

    @property
    def id(self) -> str:
        """The record's id."""
        return self.record.id

    @property
    def state(self) -> State:
        """The record's state."""
        return self.record.state

    @property
    def verdict(self) -> str:
        """The sentence that reads the result, or what the state means."""
        if self.analysis is None or self.result is None:
            return self.record.state.sentence
        return self.analysis.verdict(self.result)


def get(store: Store, record: str) -> Answer:
    """Read a record with its question and result.

    Raises:
        NotFound: There is no such record.
        Corrupt: Its stored bytes have changed.
    """
    row = store.records.get(record)
    if row.kind not in analyses.kinds():
        return Answer(row, None, None, None, outdated=False)
    analysis = analyses.get(row.kind)
    try:
        spec = analyses.parse(row.spec)
    except InterpError:
        spec = None  # an older version's fields; the stored result is still shown
    packed = store.records.result(row)
    result = None if packed is None else unpack(analysis.result, packed)
    return Answer(row, analysis, spec, result, outdated=row.kind_version != analysis.version)


def as_json(store: Store, answer: Answer) -> dict[str, Any]:
    """Return a record as plain JSON: question, exact inputs, state, provenance, result."""
    record = answer.record
    behavior = Behavior.from_json(store.records.inputs(record))
    return {
        "id": record.id,
        "key": record.key,
        "kind": record.kind,
        "kind_version": record.kind_version,
        "title": record.title,
        "state": record.state,
        "spec": json.loads(record.spec),
        "inputs": json.loads(behavior.canonical),
        "verdict": answer.verdict,
        "error": record.error and {k: v for k, v in record.error.items() if k != "traceback"},
        "provenance": record.provenance,
        "result_sha256": record.result,
        "result": _plain(answer.result),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "f":
            return [_plain(v) for v in value] if value.ndim else _plain(float(value))
        return value.tolist()
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float | np.floating):
        # JSON has no NaN: a cell that was not computed is null.
        return float(value) if np.isfinite(value) else None
    return value
