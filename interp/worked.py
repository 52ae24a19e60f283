"""Worked records that ship with the repository, so that a new installation has something to open.

Each is a folder ``zoo/records/<name>/`` with ``record.json`` (question, provenance, and on which
page it is shown) and ``result.safetensors``. ``python -m zoo.records`` makes them; a test computes
each anew and compares.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp import analyses
from interp.jobs.submit import prepare
from interp.store import State, Store

FOLDER = Path(__file__).resolve().parents[1] / "zoo" / "records"


@dataclass(frozen=True)
class Worked:
    """One worked record. ``headline`` is set for those that Home shows, in the order of names."""

    name: str
    id: str
    headline: str
    lead: str
    spec: dict[str, Any]
    created: float
    provenance: dict[str, Any]

    @property
    def packed(self) -> bytes:
        """The packed result."""
        return (FOLDER / self.name / "result.safetensors").read_bytes()


def worked() -> list[Worked]:
    """List the worked records whose kind is installed."""
    found = [
        Worked(name=path.parent.name, **json.loads(path.read_text()))
        for path in sorted(FOLDER.glob("*/record.json"))
    ]
    return [w for w in found if w.spec["kind"] in analyses.kinds()]


def add_worked(store: Store) -> None:
    """Put the worked records into a store that does not have them."""
    for one in worked():
        ready = prepare(one.spec)
        row = {
            "id": one.id,
            "key": ready.key,
            "kind": ready.analysis.kind,
            "kind_version": one.provenance["kind_version"],
            "title": ready.analysis.question(ready.spec),
            "model": ready.spec.model,
            "spec": ready.spec.canonical,
            "parent": None,
            "state": State.DONE,
            "fraction": 1.0,
            "provenance": json.dumps(one.provenance, sort_keys=True),
            "created": one.created,
            "started": one.created,
            "finished": one.created,
        }
        store.records.add_finished(row, ready.inputs.canonical, one.packed)
